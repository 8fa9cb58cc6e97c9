/*
 * RFC 6455, the server's side: each frame is given back as it comes, without its mask; a ping as
 * a pong; a close as a close, and then the connection ends.  No frame is kept, so messages may be
 * of any size.
 */
#include "bench/origin/conn.h"

#include <string.h>
#include <openssl/evp.h>

#define OPCODE_CLOSE 8
#define OPCODE_PING  9
#define OPCODE_PONG  10
#define UNREAD_MAX   ((size_t)262144) /* bytes of echo nobody takes, then nothing is read */

void
websocket_accept(const char key[25], char accept[29])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char digest[EVP_MAX_MD_SIZE];
	char text[24 + sizeof guid];
	unsigned n;

	memcpy(text, key, 24);
	memcpy(text + 24, guid, sizeof guid - 1);
	if (!EVP_Digest(text, 24 + sizeof guid - 1, digest, &n, EVP_sha1(), NULL))
		n = 0;
	EVP_EncodeBlock((unsigned char *)accept, digest, (int)n);
}

void
websocket_begin(struct conn *c)
{
	memset(&c->ws, 0, sizeof c->ws);
}

/* How long a head is, known from its second byte on (section 5.2): a client's has a mask. */
static size_t
head_length(const struct websocket *ws)
{
	unsigned n = ws->head[1] & 127;

	return 2 + (n == 126 ? 2u : n == 127 ? 8u : 0u) + 4;
}

static void
protocol_error(struct conn *c)
{
	static const unsigned char close_1002[] = {0x80 | OPCODE_CLOSE, 2, 1002 >> 8, 1002 & 255};

	conn_put(c, close_1002, sizeof close_1002);
	c->last = true;
}

/* A head is whole: says its answer's. */
static void
begin_frame(struct conn *c)
{
	struct websocket *ws = &c->ws;
	size_t n = ws->n_head - 4;
	unsigned char head[10];

	ws->opcode = ws->head[0] & 15;
	if ((ws->head[0] & 0x70) || !(ws->head[1] & 0x80)) { /* sections 5.2, 5.1 */
		protocol_error(c);
		return;
	}
	ws->left = ws->head[1] & 127;
	if (ws->left >= 126) {
		ws->left = 0;
		for (size_t i = 2; i < n; i++)
			ws->left = ws->left << 8 | ws->head[i];
	}
	if (ws->opcode >= OPCODE_CLOSE && ws->left > 125) { /* section 5.5 */
		protocol_error(c);
		return;
	}
	memcpy(ws->mask, ws->head + n, 4);
	ws->mask_at = 0;
	memcpy(head, ws->head, n);
	if (ws->opcode == OPCODE_PING)
		head[0] = (unsigned char)((head[0] & 0xF0) | OPCODE_PONG);
	head[1] &= 127;
	if (ws->opcode != OPCODE_PONG) /* nobody asked for one */
		conn_put(c, head, n);
}

/* In place: the worker's input buffer is ours until the next read. */
static void
unmask(struct websocket *ws, unsigned char *p, size_t n)
{
	size_t i = 0;
	unsigned char turned[8];
	uint64_t mask, some;

	for (unsigned k = 0; k < 8; k++)
		turned[k] = ws->mask[(ws->mask_at + k) & 3];
	memcpy(&mask, turned, 8);
	for (; i + 8 <= n; i += 8) {
		memcpy(&some, p + i, 8);
		some ^= mask;
		memcpy(p + i, &some, 8);
	}
	for (; i < n; i++)
		p[i] ^= turned[i & 7];
	ws->mask_at = (unsigned)((ws->mask_at + n) & 3);
}

static size_t
payload(struct conn *c, unsigned char *p, size_t n)
{
	struct websocket *ws = &c->ws;

	n = n < ws->left ? n : (size_t)ws->left;
	unmask(ws, p, n);
	if (ws->opcode != OPCODE_PONG)
		conn_put(c, p, n);
	ws->left -= n;
	return n;
}

static void
end_frame(struct conn *c)
{
	struct websocket *ws = &c->ws;

	ws->open = false;
	ws->n_head = 0;
	if (ws->opcode == OPCODE_CLOSE)
		c->last = true;
}

void
websocket_input(struct conn *c, unsigned char *p, size_t n)
{
	struct websocket *ws = &c->ws;

	while (n && !c->dead && !c->last) {
		size_t used = 1;

		if (ws->open) {
			used = payload(c, p, n);
		} else {
			ws->head[ws->n_head++] = *p;
			if (ws->n_head >= 2 && ws->n_head == head_length(ws)) {
				ws->open = true;
				begin_frame(c);
			}
		}
		p += used;
		n -= used;
		if (ws->open && ws->left == 0 && !c->last)
			end_frame(c);
	}
	if (c->n_left > UNREAD_MAX)
		c->deaf = true;
}
