/*
 * What is said on one connection, from the handshake to the whole answer.  One thread; the request
 * and the message are the same for all connections and are made once.
 *
 *   CONNECTING -> TLS -> ASK -> ANSWER -> (full, resume: closed) | IDLE | MESSAGE <-> ECHO
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>

#include "bench/client/client.h"

enum frame_type { FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_SETTINGS = 4 };
enum frame_flag { FLAG_END_STREAM = 1, FLAG_ACK = 1 };

static char request[512];
static size_t n_request;
static unsigned char message[TALK_SIZE]; /* a masked frame, RFC 6455 section 5.2 */
static size_t n_message, message_head;
static unsigned char payload[ECHO_MAX];

static void
request_h2(const struct client *c)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	size_t n_host = strlen(c->host), at = sizeof(preface) - 1;
	/* :method GET, :scheme https, :path /, :authority (RFC 7541 appendix A) */
	size_t n_block = 3 + 2 + n_host;

	memcpy(request, preface, at);
	memcpy(request + at, "\0\0\0\1\5\0\0\0\1\x82\x87\x84\x01", 13);
	request[at + 2] = (char)n_block;
	request[at + 13] = (char)n_host;
	memcpy(request + at + 14, c->host, n_host);
	n_request = at + 14 + n_host;
}

static void
request_h1(const struct client *c)
{
	const char *more = "";

	if (c->kind == KIND_ECHO)
		more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
	else if (c->kind != KIND_IDLE)
		more = "Connection: close\r\n";
	n_request = (size_t)snprintf(
	    request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", c->host, more);
}

static void
message_make(size_t n)
{
	static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};

	message[0] = 0x82; /* FIN, binary */
	if (n < 126) {
		message[1] = (unsigned char)(0x80 | n);
		message_head = 2;
	} else {
		message[1] = 0x80 | 126;
		message[2] = (unsigned char)(n >> 8);
		message[3] = (unsigned char)n;
		message_head = 4;
	}
	memcpy(message + message_head, mask, 4);
	for (size_t i = 0; i < n; i++) {
		payload[i] = (unsigned char)(i * 7 + 1);
		message[message_head + 4 + i] = payload[i] ^ mask[i % 4];
	}
	n_message = message_head + 4 + n;
}

void
talk_init(const struct client *c)
{
	if (c->h2)
		request_h2(c);
	else
		request_h1(c);
	message_make(c->body);
}

/* --- answers ---------------------------------------------------------------------------------- */
/* Of an HTTP/1.1 answer in in[0..n_in): the status, and how long all of it is; 0: not known yet. */
static size_t
answer_length(const struct conn *conn, int *status)
{
	char head[sizeof(conn->in) + 1];
	size_t n = conn->n_in < sizeof(conn->in) ? conn->n_in : sizeof(conn->in);
	char *end, *length;

	memcpy(head, conn->in, n);
	head[n] = '\0';
	end = strstr(head, "\r\n\r\n");
	if (!end || sscanf(head, "HTTP/1.1 %3d ", status) != 1)
		return 0;
	end[2] = '\0';
	length = strcasestr(head, "\r\ncontent-length:");
	return (size_t)(end + 4 - head) + (length ? strtoul(length + 17, NULL, 10) : 0);
}

static enum drive
answer_h1(struct client *c, struct conn *conn)
{
	int status = 0;
	size_t whole = answer_length(conn, &status);

	if (whole == 0)
		return conn->n_in < sizeof(conn->in) ? DRIVE_WAIT : DRIVE_FAILED;
	if (status != (c->kind == KIND_ECHO ? 101 : 200) || conn->n_in > whole)
		return DRIVE_FAILED;
	return conn->n_in == whole ? DRIVE_DONE : DRIVE_WAIT;
}

/* The block begins with :status 200, after changes of the table's size. */
static bool
status_200(const unsigned char *block, size_t n)
{
	size_t i = 0;

	while (i < n && (block[i] & 0xe0) == 0x20) {
		if ((block[i++] & 0x1f) == 0x1f)
			while (i < n && (block[i++] & 0x80))
				continue;
	}
	return i < n && block[i] == 0x88;
}

/* Looks at all whole frames; SETTINGS are acknowledged.  The answer fits in[]. */
static enum drive
answer_h2(struct conn *conn)
{
	static const char ack[] = "\0\0\0\4\1\0\0\0\0";
	const unsigned char *p = (const unsigned char *)conn->in, *end = p + conn->n_in;
	enum drive result = DRIVE_WAIT;

	while (end - p >= 9) {
		size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
		bool first = p[8] == 1;

		if ((size_t)(end - p) < 9 + n)
			break;
		if (p[3] == FRAME_SETTINGS && !(p[4] & FLAG_ACK) &&
		    SSL_write(conn->ssl, ack, sizeof(ack) - 1) != sizeof(ack) - 1)
			return DRIVE_FAILED;
		if (first && p[3] == FRAME_HEADERS && !status_200(p + 9, n))
			return DRIVE_FAILED;
		if (first && p[3] > FRAME_HEADERS && p[3] != 8)
			return DRIVE_FAILED; /* a reset */
		if (first && p[3] <= FRAME_HEADERS && (p[4] & FLAG_END_STREAM))
			result = DRIVE_DONE;
		p += 9 + n;
	}
	conn->n_in = (size_t)(end - p);
	memmove(conn->in, p, conn->n_in);
	return conn->n_in < sizeof(conn->in) ? result : DRIVE_FAILED;
}

static enum drive
echo_check(const struct client *c, const struct conn *conn)
{
	const unsigned char *data = (const unsigned char *)conn->in;
	size_t whole = message_head + c->body;

	if (conn->n_in < whole)
		return DRIVE_WAIT;
	if (conn->n_in > whole || data[0] != 0x82 || data[1] != (message[1] & 0x7f) ||
	    memcmp(data + message_head, payload, c->body) != 0)
		return DRIVE_FAILED;
	return DRIVE_DONE;
}

/* --- driving ---------------------------------------------------------------------------------- */
static enum drive
tls_result(SSL *ssl, int result)
{
	int error = SSL_get_error(ssl, result);

	ERR_clear_error();
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? DRIVE_WAIT
									     : DRIVE_FAILED;
}

static enum drive
connected(struct conn *conn)
{
	int error = 0;
	socklen_t n = sizeof(error);
	struct sockaddr_in peer;
	socklen_t n_peer = sizeof(peer);

	getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &n);
	if (error)
		return DRIVE_FAILED;
	if (getpeername(conn->fd, (struct sockaddr *)&peer, &n_peer))
		return errno == ENOTCONN ? DRIVE_WAIT : DRIVE_FAILED;
	return DRIVE_DONE;
}

static enum drive
handshaken(struct client *c, struct conn *conn)
{
	bool resume = c->kind == KIND_RESUME && conn->session;
	int r = SSL_connect(conn->ssl);

	if (r != 1)
		return tls_result(conn->ssl, r);
	conn->resumed = SSL_session_reused(conn->ssl);
	return conn->resumed == resume ? DRIVE_DONE : DRIVE_FAILED;
}

/* Reads what there is; of a long answer only the beginning is kept. */
static enum drive
hear(struct client *c, struct conn *conn)
{
	static char rest[TALK_SIZE];
	enum drive d = DRIVE_WAIT;

	while (d == DRIVE_WAIT) {
		bool room = conn->n_in < sizeof(conn->in);
		int n = room ? SSL_read(conn->ssl, conn->in + conn->n_in,
				   (int)(sizeof(conn->in) - conn->n_in))
			     : SSL_read(conn->ssl, rest, sizeof(rest));

		if (n <= 0)
			return tls_result(conn->ssl, n);
		conn->n_in += (size_t)n;
		if (conn->state == CONN_ECHO)
			d = echo_check(c, conn);
		else
			d = c->h2 ? answer_h2(conn) : answer_h1(c, conn);
	}
	return d;
}

static enum drive
tell(struct conn *conn, const void *data, size_t n)
{
	int r = SSL_write(conn->ssl, data, (int)n);

	return r == (int)n ? DRIVE_DONE : tls_result(conn->ssl, r);
}

/* An idle connection is only listened to for its end. */
static enum drive
idle(struct conn *conn)
{
	char data[4096];
	int r;

	while ((r = SSL_read(conn->ssl, data, sizeof(data))) > 0)
		continue;
	return tls_result(conn->ssl, r);
}

enum drive
conn_drive(struct client *c, struct conn *conn)
{
	enum drive d = DRIVE_FAILED;

	for (;;) {
		switch (conn->state) {
		case CONN_CLOSED:
			return DRIVE_WAIT; /* an event that was on its way */
		case CONN_CONNECTING:
			if ((d = connected(conn)) != DRIVE_DONE)
				return d;
			conn->state = CONN_TLS;
			break;
		case CONN_TLS:
			if ((d = handshaken(c, conn)) != DRIVE_DONE)
				return d;
			conn->state = CONN_ASK;
			break;
		case CONN_ASK:
			if ((d = tell(conn, request, n_request)) != DRIVE_DONE)
				return d;
			conn->state = CONN_ANSWER;
			break;
		case CONN_ANSWER:
			if ((d = hear(c, conn)) != DRIVE_DONE)
				return d;
			if (c->kind < KIND_ECHO)
				return DRIVE_DONE;
			conn->n_in = 0;
			conn->state = c->kind == KIND_IDLE ? CONN_IDLE : CONN_MESSAGE;
			if (c->kind == KIND_IDLE)
				return DRIVE_IDLE;
			break;
		case CONN_MESSAGE:
			if ((d = tell(conn, message, n_message)) != DRIVE_DONE)
				return d;
			conn->state = CONN_ECHO;
			break;
		case CONN_ECHO:
			if ((d = hear(c, conn)) != DRIVE_DONE)
				return d;
			conn->n_in = 0;
			conn->state = CONN_MESSAGE;
			client_done(c, conn);
			break;
		case CONN_IDLE:
			return idle(conn);
		}
	}
}
