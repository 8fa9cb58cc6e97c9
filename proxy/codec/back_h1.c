/*
 * The backend's side of HTTP/1.1 (RFC 9112): one exchange at a time on a kept connection.
 *
 *   IDLE --open, send_head--> AWAITING --head--> BODY --end--> ENDED --request out, too--> IDLE   (pooled)
 *     |                          |   \--101--> TUNNEL                  \-- anything odd --> closed
 *     +-- any byte, EOF: closed  +-- 1xx: stays
 *
 * The request is written anew from checked parts.  Pooling is the exception that has to be earned: both
 * messages complete, nothing unread behind the response, keep-alive agreed, nothing odd seen.  A byte that comes
 * before a byte of the request has left is nobody's answer (response queue poisoning).
 *
 * Owner: the back_conn, through conn->codec_state.  Thread: its worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/back_h1.h"

#define BACK_H1_MAGIC   0xbac17411u
#define STATUS_LINE_MAX 2048
#define HEAD_SLACK      1024 /* blanks and line ends of a head that is within its limits as decoded */

static struct back_h1 *
of_stream(struct stream *s)
{
	struct back_h1 *b = (struct back_h1 *)(void *)s;

	CHECK_MAGIC(b, BACK_H1_MAGIC);
	return b;
}

static struct back_h1 *
of_conn(struct conn *c)
{
	return of_stream(c->codec_state);
}

/* --- ends ------------------------------------------------------------------------ */

static void
retire(struct back_h1 *b)
{
	if (b->bc->retired)
		return;
	b->bc->retired = true;
	b->bc->owner->retired(b->bc);
}

/* Out of the pool, then gone, then the stream is told: it may want another connection at once. */
static void
fail(struct back_h1 *b, enum outcome why)
{
	bool open = b->h.open;

	retire(b);
	if (open)
		b->bc->n_streams--;
	b->phase = IDLE;
	conn_close(b->h.conn, open);
	h1_closed(&b->h, why);
}

/* Both messages are complete and with whom they belong to. */
static bool
complete(const struct back_h1 *b)
{
	return b->phase == ENDED && b->h.out_ended && buf_bytes(&b->h.conn->out) == 0;
}

/* After the exchange: back to the pool, or closed.  `unread`: bytes behind the response. */
static void
release(struct back_h1 *b, size_t unread)
{
	struct conn *c = b->h.conn;
	bool pooled = b->keep && !b->bc->retired && !c->eof && unread == 0 && conn_usable(c);

	h1_reopen(&b->h);
	b->phase = IDLE;
	b->released = false;
	if (pooled) {
		b->bc->owner->available(b->bc);
		return;
	}
	retire(b);
	conn_close(c, false);
}

static void
settle(struct back_h1 *b, size_t unread)
{
	struct h1 *h = &b->h;

	if (!h->open)
		return;
	if (b->failed == OUTCOME_OK && (h->out_short || h->out_excess))
		b->failed =
		    OUTCOME_INTERNAL; /* never a request whose length is a lie (RFC 9112 6.2) */
	if (b->failed != OUTCOME_OK) {
		fail(b, b->failed);
		return;
	}
	if (h->out_body > 0 && buf_bytes(&h->conn->out) == 0)
		h1_drained(h, 0);
	if (!h->open)
		return;
	if (b->phase == TUNNEL && h->in_ended && h->out_ended && buf_bytes(&h->conn->out) == 0) {
		b->keep = false;
		b->phase = ENDED;
	}
	if (!complete(b))
		return;
	b->bc->n_streams--;
	h1_closed(h, OUTCOME_OK);
	release(b, unread);
}

/* What a connection that breaks means for the stream under way. */
static enum outcome
broken(const struct back_h1 *b, enum outcome why)
{
	if (!b->h.conn->established)
		return why;
	switch (b->phase) {
	case IDLE:
	case AWAITING:
		return b->reused && !b->answered ? OUTCOME_BACK_STALE : OUTCOME_BACK_RESET;
	case BODY:
	case TUNNEL:
		return OUTCOME_BACK_TRUNCATED;
	case ENDED: /* it would not have the rest of the request, but has answered it */
		return OUTCOME_OK;
	}
	return why;
}

/* --- response heads ---------------------------------------------------------------- */

static enum outcome
blame(enum outcome why)
{
	return why == OUTCOME_HEADER_TOO_LARGE ? OUTCOME_BACK_TOO_LARGE : OUTCOME_BACK_MALFORMED;
}

static size_t
head_whole(struct back_h1 *b, struct slice in)
{
	struct h1 *h = &b->h;
	size_t used = h->scan.at;
	struct h1_head parsed;
	enum outcome why = h1_parse_response(&parsed, &h->stream.arena, in.p, &h->scan, &b->limits);

	if (why != OUTCOME_OK) {
		fail(b, blame(why));
		return in.n;
	}
	h->scan = (struct h1_scan){0};
	b->line_checked = false;
	why = back_h1_head(b, &parsed);
	if (why != OUTCOME_OK) {
		fail(b, why);
		return in.n;
	}
	arena_fini(&h->stream.arena); /* a back head lives for the call */
	return used;
}

/* An SSH banner is told at its first line, a flood at its first bytes: nothing is waited for. */
static enum outcome
check_line(struct back_h1 *b, struct slice in)
{
	static const char begin[] = "HTTP/1.";
	size_t n = in.n < sizeof(begin) - 1 ? in.n : sizeof(begin) - 1;
	struct h1_head line = {0};

	if (memcmp(in.p, begin, n) != 0)
		return OUTCOME_BAD_REQUEST;
	if (b->line_checked || b->h.scan.lines == 0)
		return OUTCOME_OK;
	b->line_checked = true;
	return h1_status_line((const char *)in.p, b->h.scan.first_line, &line);
}

static size_t
head_input(struct back_h1 *b, struct slice in)
{
	enum outcome why = OUTCOME_OK;

	if (b->sent == 0) {
		fail(b, b->reused ? OUTCOME_BACK_STALE : OUTCOME_BACK_MALFORMED);
		return in.n;
	}
	b->answered = true;
	switch (h1_scan(&b->h.scan, in.p, in.n, STATUS_LINE_MAX,
	    STATUS_LINE_MAX + b->limits.bytes + HEAD_SLACK)) {
	case H1_MORE:
		why = check_line(b, in);
		break;
	case H1_WHOLE:
		return head_whole(b, in);
	case H1_BAD:
	case H1_LINE_TOO_LONG:
		why = OUTCOME_BAD_REQUEST;
		break;
	case H1_TOO_LARGE:
		why = OUTCOME_HEADER_TOO_LARGE;
		break;
	}
	if (why != OUTCOME_OK) {
		fail(b, blame(why));
		return in.n;
	}
	return 0;
}

/* --- response bodies ---------------------------------------------------------------- */

static size_t
body_input(struct back_h1 *b, struct slice in)
{
	struct h1 *h = &b->h;
	enum outcome why = OUTCOME_OK;
	unsigned tiny = 0;
	size_t used;

	used = h1_receive(h, in, &b->limits, false, &why, &tiny);
	if (why != OUTCOME_OK) {
		fail(b, blame(why));
		return in.n;
	}
	if (h->in_ended && b->phase == BODY) {
		b->phase = ENDED;
		if (!h->out_ended)
			b->keep = false;
	}
	return used;
}

/* --- codec callbacks ---------------------------------------------------------------- */

static size_t
step(struct back_h1 *b, struct slice in)
{
	switch (b->phase) {
	case IDLE: /* nobody asked for anything */
		fail(b, OUTCOME_OK);
		return in.n;
	case AWAITING:
		return head_input(b, in);
	case BODY:
	case TUNNEL:
		return body_input(b, in);
	case ENDED: /* bytes behind the response: a second answer (attack 50) */
		b->keep = false;
		return in.n;
	}
	return in.n;
}

/* What the events leave undone, as a connection that is handed back must have nothing unread. */
static size_t
input(struct conn *c, struct slice in)
{
	struct back_h1 *b = of_conn(c);
	size_t used = 0, n;

	b->reading = true;
	do {
		n = step(b, (struct slice){in.chunk, in.p + used, in.n - used});
		used += n;
	} while (n > 0 && used < in.n && (c->pauses & ~(unsigned)PAUSE_EOF) == 0 && !c->dead);
	b->reading = false;
	if (c->dead)
		return used;
	if (b->released)
		release(b, in.n - used);
	else
		settle(b, in.n - used);
	return used;
}

static size_t
unread(const struct conn *c)
{
	return c->in_end - c->in_at;
}

static void
eof(struct conn *c)
{
	struct back_h1 *b = of_conn(c);

	switch (b->phase) {
	case IDLE:
		fail(b, OUTCOME_OK);
		break;
	case AWAITING:
		fail(b, broken(b, OUTCOME_BACK_RESET));
		break;
	case BODY:
		if (b->h.in != H1_UNTIL_CLOSE) {
			fail(b, OUTCOME_BACK_TRUNCATED); /* RFC 9112 8 */
			break;
		}
		b->phase = ENDED;
		h1_receive_end(&b->h);
		settle(b, 0);
		break;
	case ENDED:
		b->keep = false;
		break;
	case TUNNEL:
		h1_receive_end(&b->h);
		settle(b, 0);
		break;
	}
}

static void
produce(struct conn *c)
{
	settle(of_conn(c), unread(c));
}

static void
sent(struct conn *c, size_t n)
{
	struct back_h1 *b = of_conn(c);

	b->sent += n;
	h1_drained(&b->h, n);
}

static void
established(struct conn *c)
{
	struct back_h1 *b = of_conn(c);

	b->bc->owner->connected(b->bc);
}

static void
lost(struct conn *c, enum outcome why)
{
	struct back_h1 *b = of_conn(c);

	fail(b, broken(b, why));
}

static void
fini(struct conn *c)
{
	struct back_h1 *b = of_conn(c);

	h1_fini(&b->h);
	b->magic = 0;
	c->codec_state = NULL;
	free(b);
}

/* --- verbs ----------------------------------------------------------------------------- */

/* Checked here once more, whoever built the head: what is written is what a backend believes. */
static bool
request_valid(const struct head *head, bool end)
{
	return token_valid(head->method_text.p, head->method_text.n) &&
	       path_valid(head->path.p, head->path.n) &&
	       (head->authority.n == 0 || authority_valid(head->authority.p, head->authority.n)) &&
	       h1_fields_valid(&head->fields) && !(end && head->content_length > 0) &&
	       !(end && head->websocket);
}

static void
write_websocket(struct back_h1 *b, struct h1_writer *w)
{
	char key[WEBSOCKET_KEY + 1];

	websocket_key(key);
	websocket_accept(key, WEBSOCKET_KEY, b->accept);
	H1_WRITE(w, "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
	h1_write(w, key, WEBSOCKET_KEY);
	H1_WRITE(w, "\r\n");
}

/* RFC 9112 6: exactly one way, or none for a request without a body */
static void
write_framing(struct back_h1 *b, struct h1_writer *w, const struct head *head, bool end)
{
	struct h1 *h = &b->h;
	bool expects = head->method == METHOD_POST || head->method == METHOD_PUT ||
		       head->method == METHOD_PATCH;

	h->out_ended = end;
	if (end) {
		/* RFC 9110 8.6: zero is said where a body has a meaning */
		if (expects || head->content_length == 0)
			H1_WRITE(w, "content-length: 0\r\n");
	} else if (head->content_length >= 0) {
		h->out = H1_LENGTH;
		h->out_left = head->content_length;
		H1_WRITE(w, "content-length: ");
		h1_write_number(w, (uint64_t)head->content_length, 10);
		H1_WRITE(w, "\r\n");
	} else {
		h->out = H1_CHUNKED;
		H1_WRITE(w, "transfer-encoding: chunked\r\n");
	}
}

static void
send_head(struct stream *s, const struct head *head, bool end)
{
	struct back_h1 *b = of_stream(s);
	struct h1 *h = &b->h;
	struct h1_writer w;

	ENSURE(h->open && !b->begun);
	b->begun = true;
	h->conn->reader = s->user;
	if (!request_valid(head, end)) {
		b->failed = OUTCOME_INTERNAL;
		conn_output(h->conn);
		return;
	}
	b->head_method = head->method == METHOD_HEAD;
	b->expect_continue = head->expect_continue && !end;
	b->websocket = head->websocket;
	h1_write_begin(&w, &h->conn->out,
	    head->method_text.n + head->path.n + head->authority.n + head->fields.bytes + 192);
	h1_write(&w, head->method_text.p, head->method_text.n);
	H1_WRITE(&w, " ");
	h1_write(&w, head->path.p, head->path.n);
	H1_WRITE(&w, " HTTP/1.1\r\n");
	h1_write_field(&w, "host", 4, head->authority.p, head->authority.n);
	h1_write_fields(&w, &head->fields);
	if (b->websocket)
		write_websocket(b, &w);
	else
		write_framing(b, &w, head, end);
	if (b->expect_continue)
		H1_WRITE(&w, "expect: 100-continue\r\n");
	H1_WRITE(&w, "\r\n");
	h->out_framing += h1_write_end(&w);
	conn_output(h->conn);
}

/* Bodies of a request that was never written go nowhere. */
static void
send_body(struct stream *s, struct slice body, bool end)
{
	struct back_h1 *b = of_stream(s);

	if (b->failed == OUTCOME_OK)
		h1_send_body(s, body, end);
}

static void
send_trailers(struct stream *s, const struct fields *list)
{
	struct back_h1 *b = of_stream(s);

	if (b->failed == OUTCOME_OK)
		h1_send_trailers(s, list);
}

/* Nothing fires after this but the owner's events. */
static void
reset(struct stream *s, enum outcome why)
{
	struct back_h1 *b = of_stream(s);
	struct h1 *h = &b->h;
	bool whole = h->in_ended && h->out_ended && !h->out_short && !h->out_excess &&
		     buf_bytes(&h->conn->out) == 0 && b->failed == OUTCOME_OK && h->in != H1_TUNNEL;

	(void)why;
	if (!h->open)
		return;
	h->stream.events = NULL;
	if (!whole) {
		fail(b, OUTCOME_OK);
		return;
	}
	b->bc->n_streams--;
	h1_closed(h, OUTCOME_OK);
	if (b->reading)
		b->released = true; /* what is behind the response is not known yet */
	else
		release(b, unread(h->conn));
}

static const struct stream_verbs verbs = {
    .send_head = send_head,
    .send_body = send_body,
    .send_trailers = send_trailers,
    .consumed = h1_consumed,
    .hold = h1_hold,
    .reset = reset,
};

static const struct codec_ops codec = {
    .input = input,
    .eof = eof,
    .produce = produce,
    .sent = sent,
    .established = established,
    .lost = lost,
    .fini = fini,
};

/* --- for back_conn.c --------------------------------------------------------------------- */

void
back_h1_begin(struct back_conn *bc)
{
	struct back_h1 *b = calloc(1, sizeof(*b));
	struct conn *c = &bc->conn;
	size_t head_max = STATUS_LINE_MAX + bc->header_bytes + HEAD_SLACK;

	CHECK_MAGIC(bc, BACK_MAGIC);
	ENSURE(b != NULL);
	b->magic = BACK_H1_MAGIC;
	b->bc = bc;
	b->limits = (struct h1_limits){
	    .line = STATUS_LINE_MAX,
	    .bytes = bc->header_bytes,
	    .count = bc->header_count,
	};
	h1_init(&b->h, c, &verbs);
	c->in_max = head_max > CHUNK_LARGE ? head_max : CHUNK_LARGE;
	conn_set_codec(c, &codec, b);
}

unsigned
back_h1_slots(const struct back_conn *bc)
{
	const struct conn *c = &bc->conn;
	const struct back_h1 *b = of_conn((struct conn *)(uintptr_t)c);

	if (bc->retired || !conn_usable(c) || c->eof || b->h.open || b->released)
		return 0;
	return b->phase == IDLE ? 1 : 0;
}

struct stream *
back_h1_open(struct back_conn *bc)
{
	struct back_h1 *b = of_conn(&bc->conn);

	ENSURE(back_h1_slots(bc) == 1);
	b->reused = bc->served > 0;
	bc->served++;
	bc->n_streams++;
	b->phase = AWAITING;
	b->failed = OUTCOME_OK;
	b->begun = b->line_checked = b->answered = b->released = false;
	b->head_method = b->expect_continue = b->websocket = false;
	b->keep = true;
	b->interim = 0;
	b->sent = 0;
	b->h.open = true;
	bc->conn.in_small = chunk_pool_busy(bc->conn.turn->chunks) > CHUNKS_BUSY;
	return &b->h.stream;
}
