/*
 * Response heads to clients: how the body is framed, whether the connection is kept, and the text (RFC 9112
 * 4, 6.3, 9).  Content-Length, Transfer-Encoding, Connection and Date are written here and nowhere else.
 *
 * Owner: struct front_h1.  One thread.
 */
#include <string.h>

#include "proxy/codec/front_h1.h"
#include "proxy/message/websocket.h"

static void
write_status(struct h1_writer *w, unsigned status)
{
	const char *reason = status_reason(status);

	H1_WRITE(w, "HTTP/1.1 ");
	h1_write_number(w, status, 10);
	H1_WRITE(w, " ");
	h1_write(w, reason, strlen(reason));
	H1_WRITE(w, "\r\n");
}

static void
send_interim(struct front_h1 *f, const struct head *head)
{
	struct h1_writer w;

	if (f->head.minor == 0)
		return; /* RFC 9110 15.2 */
	h1_write_begin(&w, &f->h.conn->out, head->fields.bytes + 64);
	write_status(&w, head->status);
	h1_write_fields(&w, &head->fields);
	H1_WRITE(&w, "\r\n");
	f->h.out_framing += h1_write_end(&w);
}

static void
send_switch(struct front_h1 *f, const struct head *head)
{
	struct h1_writer w;
	char accept[WEBSOCKET_ACCEPT + 1];

	websocket_accept(f->head.websocket_key.p, f->head.websocket_key.n, accept);
	h1_write_begin(&w, &f->h.conn->out, head->fields.bytes + 192);
	write_status(&w, 101);
	H1_WRITE(&w, "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ");
	h1_write(&w, accept, WEBSOCKET_ACCEPT);
	H1_WRITE(&w, "\r\n");
	h1_write_fields(&w, &head->fields);
	H1_WRITE(&w, "\r\n");
	f->h.out_framing += h1_write_end(&w);
	f->answered = true;
	f->keep = false;
	f->phase = TUNNEL;
	f->h.in = f->h.out = H1_TUNNEL;
	conn_resume(f->h.conn, PAUSE_CODEC); /* what the client sent early may go now */
}

/* RFC 9112 6.3: what frames this response's body.  true: Content-Length is written, *length. */
static bool
choose_framing(struct front_h1 *f, const struct head *head, bool end, int64_t *length)
{
	struct h1 *h = &f->h;

	*length = head->content_length;
	if (head->status == 204)
		return false;
	if (head->status == 304 || f->head.method == METHOD_HEAD)
		return *length >= 0;
	if (end) {
		*length = 0;
		return true;
	}
	if (*length >= 0) {
		h->out = H1_LENGTH;
		h->out_left = *length;
		return true;
	}
	h->out = f->head.minor > 0 ? H1_CHUNKED : H1_UNTIL_CLOSE;
	return false;
}

/* Does the connection stay open after this response?  Decided, and announced, with its head. */
static void
choose_keep(struct front_h1 *f)
{
	const struct conn *c = f->h.conn;

	if (f->phase == HELD) {
		/* refused upgrade: bytes sent ahead may have been meant for the tunnel (attack 34) */
		f->phase = DONE;
		f->h.in_ended = true;
		f->keep = f->keep && c->in_at == c->in_end;
	}
	if (!f->h.in_ended || f->h.out == H1_UNTIL_CLOSE || f->fc->draining)
		f->keep = false;
}

static void
send_final(struct front_h1 *f, const struct head *head, bool end)
{
	struct h1 *h = &f->h;
	struct h1_writer w;
	int64_t length;
	bool has_length = choose_framing(f, head, end, &length);

	choose_keep(f);
	h->out_ended = end;
	f->answered = true;
	h1_write_begin(&w, &h->conn->out, head->fields.bytes + 192);
	write_status(&w, head->status);
	h1_write_fields(&w, &head->fields);
	if (fields_find(&head->fields, F_DATE) == NULL)
		h1_write_field(&w, "date", 4, h1_date(h->conn->turn->wall_ms), 29);
	if (has_length) {
		H1_WRITE(&w, "content-length: ");
		h1_write_number(&w, (uint64_t)length, 10);
		H1_WRITE(&w, "\r\n");
	}
	if (h->out == H1_CHUNKED)
		H1_WRITE(&w, "transfer-encoding: chunked\r\n");
	if (!f->keep)
		H1_WRITE(&w, "connection: close\r\n");
	else if (f->head.minor == 0)
		H1_WRITE(&w, "connection: keep-alive\r\n");
	H1_WRITE(&w, "\r\n");
	h->out_framing += h1_write_end(&w);
}

void
front_h1_send_head(struct front_h1 *f, const struct head *head, bool end)
{
	bool switches = head->status == 101;

	if (!h1_fields_valid(&head->fields) || (switches && f->phase != HELD))
		f->failed = OUTCOME_INTERNAL;
	else if (switches)
		send_switch(f, head);
	else if (head->status < 200)
		send_interim(f, head);
	else
		send_final(f, head, end);
}
