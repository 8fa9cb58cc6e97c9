/*
 * The client's side of HTTP/1.1 (RFC 9112): one request at a time.
 *
 *   WAITING --head--> BODY --end--> DONE --response sent--> WAITING      kept alive
 *      |  \-- no body ------------>  |   \----------------> closing      Connection: close
 *      |  \-- websocket -> HELD -101-> TUNNEL ------------> closed
 *      \-- refused --> REFUSED ---- answer sent ----------> closing
 *
 * Bytes behind a request (pipelining, or before a 101) stay unread until its response has gone.  The
 * stream and the request's head are embedded and used again for the next request; nothing
 * is allocated per request but from the arena.
 *
 * closed() fires from the output side only (produce), from input that is broken, from eof and from
 * lost: never inside a verb.
 *
 * Owner: the front_conn, through conn->codec_state.  Thread: its worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/front_h1.h"

#define FRONT_H1_MAGIC  0xf2017411u
#define HEAD_SLACK      1024 /* blanks and line ends of a head that is within its limits as decoded */
#define TINY_PER_GLITCH 64   /* chunks not worth their framing: so many cost one glitch */

static struct front_h1 *
of_stream(struct stream *s)
{
	struct front_h1 *f = (struct front_h1 *)(void *)s;

	CHECK_MAGIC(f, FRONT_H1_MAGIC);
	return f;
}

static struct front_h1 *
of_conn(struct conn *c)
{
	return of_stream(c->codec_state);
}

static void
set_timer(struct front_h1 *f, int64_t ms)
{
	struct turn *turn = f->h.conn->turn;

	timeout_set(&turn->wheel, &f->fc->timer, turn->now_ms, ms);
}

/* --- a stream's life --------------------------------------------------------- */

static void
begin_stream(struct front_h1 *f)
{
	timeout_cancel(&f->h.conn->turn->wheel, &f->fc->timer);
	f->h.open = true;
	f->h.stream.front = f->fc;
	f->head.scheme = f->fc->tls ? TEXT("https") : TEXT("http");
	f->answered = false;
	f->failed = OUTCOME_OK;
	f->fc->n_streams++;
}

static void
end_stream(struct front_h1 *f, enum outcome why)
{
	if (!f->h.open)
		return;
	f->fc->n_streams--;
	timeout_cancel(&f->h.conn->turn->wheel, &f->fc->timer);
	h1_closed(&f->h, why);
}

static void
wait_for_next(struct front_h1 *f)
{
	h1_reopen(&f->h);
	f->head = (struct head){.content_length = HEAD_LENGTH_NONE};
	f->phase = WAITING;
	f->head_begun = f->blank_line = f->line_checked = false;
	f->again = true;
	set_timer(f, f->fc->timeouts->idle_ms);
	conn_resume(f->h.conn, PAUSE_CODEC);
}

/* The response is with the transport, all of it. */
static void
response_sent(struct front_h1 *f)
{
	struct conn *c = f->h.conn;
	bool next = f->keep && f->phase == DONE && !f->h.out_excess && !f->fc->draining;
	bool tunnel = f->phase == TUNNEL;

	end_stream(f, OUTCOME_OK);
	if (!conn_usable(c))
		return;
	if (tunnel)
		conn_close(c, false);
	else if (next)
		wait_for_next(f);
	else
		conn_close_after_flush(c); /* what a client still sends is read away for a while */
}

static void
settle(struct front_h1 *f)
{
	struct h1 *h = &f->h;

	if (!h->open)
		return;
	/* A response cut short must look it (RFC 9112 8): no end of chunks, no orderly close. */
	if (h->out_short)
		f->failed = OUTCOME_INTERNAL;
	if (f->failed != OUTCOME_OK) {
		end_stream(f, f->failed);
		conn_close(h->conn, true);
		return;
	}
	if (h->out_body > 0 && buf_bytes(&h->conn->out) == 0)
		h1_drained(h, 0); /* a body that HEAD does not have */
	if (!h->open || !h->out_ended || buf_bytes(&h->conn->out) > 0)
		return;
	if (f->phase == TUNNEL && !h->in_ended) {
		/* half-closed: a client that never ends its half is not waited for for ever */
		if (!timeout_armed(&f->fc->timer))
			set_timer(f, f->fc->timeouts->idle_ms);
		return;
	}
	response_sent(f);
}

/* --- request heads ------------------------------------------------------------ */

/* The head was refused: the handler answers, then the connection ends.  All input is used up. */
static void
refuse(struct front_h1 *f, enum outcome why)
{
	begin_stream(f);
	f->phase = REFUSED;
	f->keep = false;
	f->h.in_ended = true;
	f->head.no_body = true;
	f->head.websocket = f->head.expect_continue = false;
	f->head.content_length = HEAD_LENGTH_NONE;
	f->fc->handler->refused(f->fc, &f->h.stream, &f->head, why);
}

/* RFC 9112 9.3 */
static bool
keep_alive(const struct h1_head *h)
{
	return !h->close && (h->minor > 0 || h->keep_alive);
}

static size_t
head_whole(struct front_h1 *f, struct slice in)
{
	struct h1 *h = &f->h;
	struct arena *arena = &h->stream.arena;
	size_t used = h->scan.at;
	struct h1_head parsed;
	enum outcome why = h1_parse_request(&parsed, arena, in.p, &h->scan, &f->limits);
	enum outcome meant = h1_request(&f->head, &parsed, arena);
	bool end;

	if (why == OUTCOME_OK)
		why = meant;
	if (why != OUTCOME_OK) {
		refuse(f, why);
		return in.n;
	}
	end = f->head.no_body;
	begin_stream(f);
	f->keep = keep_alive(&parsed);
	h->in_ended = end;
	if (f->head.websocket) {
		f->phase = HELD;
	} else if (end) {
		f->phase = DONE;
	} else {
		f->phase = BODY;
		h->in = parsed.chunked ? H1_CHUNKED : H1_LENGTH;
		h->in_left = parsed.content_length;
		h1_chunk_init(&h->chunks);
	}
	f->fc->handler->request(f->fc, &h->stream, &f->head, end);
	return used;
}

/* RFC 9112 2.2: one empty line before a request is forgiven.  Bytes used, or 0 with *why set or not (more is needed). */
static size_t
skip_blank_line(struct front_h1 *f, struct slice in, enum outcome *why)
{
	if (in.n == 1)
		return 0;
	if (in.p[1] != '\n' || f->blank_line) {
		*why = OUTCOME_BAD_REQUEST;
		return 0;
	}
	f->blank_line = true;
	return 2;
}

/* A first line that is bad already need not wait for the rest of its head. */
static enum outcome
check_line(struct front_h1 *f, struct slice in)
{
	struct h1_head line = {0};

	if (f->line_checked || f->h.scan.lines == 0)
		return OUTCOME_OK;
	f->line_checked = true;
	return h1_request_line((const char *)in.p, f->h.scan.first_line, &line);
}

static size_t
head_input(struct front_h1 *f, struct slice in)
{
	enum outcome why = OUTCOME_OK;
	size_t used = 0;

	if (!f->head_begun) {
		f->head_begun = true;
		if (f->again)
			set_timer(f, f->fc->timeouts->header_ms);
	}
	if (in.p[0] == '\r') {
		used = skip_blank_line(f, in, &why);
	} else if (!token_valid((const char *)in.p, 1)) {
		why = OUTCOME_BAD_REQUEST; /* TLS, say: no line end may ever come */
	} else {
		switch (h1_scan(&f->h.scan, in.p, in.n, f->limits.line,
		    f->limits.line + f->limits.bytes + HEAD_SLACK)) {
		case H1_MORE:
			why = check_line(f, in);
			break;
		case H1_WHOLE:
			return head_whole(f, in);
		case H1_BAD:
			why = OUTCOME_BAD_REQUEST;
			break;
		case H1_LINE_TOO_LONG:
			why = OUTCOME_URI_TOO_LONG;
			break;
		case H1_TOO_LARGE:
			why = OUTCOME_HEADER_TOO_LARGE;
			break;
		}
	}
	if (why != OUTCOME_OK) {
		refuse(f, why);
		return in.n;
	}
	return used;
}

/* --- request bodies ------------------------------------------------------------- */

/* The framing broke in the middle: nobody knows where the next request begins (RFC 9112 6.3). */
static void
bad_body(struct front_h1 *f, enum outcome why)
{
	struct conn *c = f->h.conn;

	if (f->answered) {
		end_stream(f, why);
		conn_close(c, true);
		return;
	}
	(void)h1_write_refusal(&c->out, why, c->turn->wall_ms);
	end_stream(f, why);
	conn_close_after_flush(c);
}

static size_t
body_input(struct front_h1 *f, struct slice in)
{
	enum outcome why = OUTCOME_OK;
	unsigned tiny = 0;
	bool graceful;
	size_t used = h1_receive(&f->h, in, &f->limits, true, &why, &tiny);

	if (!f->h.open)
		return in.n; /* reset by the event */
	f->tiny += tiny;
	if (f->tiny >= TINY_PER_GLITCH) {
		f->tiny = 0;
		if (!front_glitch(f->fc, 1, &graceful))
			why = OUTCOME_BAD_REQUEST;
	}
	if (why != OUTCOME_OK) {
		bad_body(f, why);
		return in.n;
	}
	if (f->h.in_ended && f->phase == BODY)
		f->phase = DONE;
	return used;
}

/* --- codec callbacks --------------------------------------------------------------- */

static size_t
step(struct front_h1 *f, struct slice in)
{
	switch (f->phase) {
	case WAITING:
		return head_input(f, in);
	case BODY:
	case TUNNEL:
		return body_input(f, in);
	case HELD:
	case DONE:
		conn_pause(f->h.conn, PAUSE_CODEC);
		return 0;
	case REFUSED:
		return in.n;
	}
	return in.n;
}

static size_t
input(struct conn *c, struct slice in)
{
	struct front_h1 *f = of_conn(c);
	size_t used = 0, n;

	do {
		n = step(f, (struct slice){in.chunk, in.p + used, in.n - used});
		used += n;
	} while (n > 0 && used < in.n && (c->pauses & ~(unsigned)PAUSE_EOF) == 0 && !c->dead);
	return used;
}

static void
eof(struct conn *c)
{
	struct front_h1 *f = of_conn(c);

	switch (f->phase) {
	case WAITING: /* nobody is left to tell of half a head */
		conn_close(c, false);
		break;
	case BODY:
		end_stream(f, OUTCOME_CLIENT_GONE);
		conn_close(c, true);
		break;
	case HELD:
	case DONE: /* half-closed: it still gets its answer */
	case REFUSED:
		f->keep = false;
		break;
	case TUNNEL:
		h1_receive_end(&f->h);
		settle(f);
		break;
	}
}

static void
produce(struct conn *c)
{
	settle(of_conn(c));
}

static void
sent(struct conn *c, size_t n)
{
	h1_drained(&of_conn(c)->h, n);
}

static void
lost(struct conn *c, enum outcome why)
{
	struct front_h1 *f = of_conn(c);

	end_stream(f, why);
	timeout_cancel(&c->turn->wheel, &f->fc->timer);
}

static void
fini(struct conn *c)
{
	struct front_h1 *f = of_conn(c);

	timeout_cancel(&c->turn->wheel, &f->fc->timer);
	h1_fini(&f->h);
	f->magic = 0;
	c->codec_state = NULL;
	free(f);
}

static void
on_timer(struct timeout *t)
{
	struct front_conn *fc = CONTAINER_OF(t, struct front_conn, timer);
	struct conn *c = &fc->conn;
	struct front_h1 *f = of_conn(c);

	CHECK_MAGIC(fc, FRONT_MAGIC);
	if (!conn_usable(c))
		return;
	if (f->phase == TUNNEL)
		response_sent(f);
	else if (f->phase == WAITING && f->head_begun)
		refuse(f, OUTCOME_HEADER_TIMEOUT);
	else if (f->phase == WAITING)
		conn_close(c, false);
}

/* --- verbs ---------------------------------------------------------------------- */

static void
send_head(struct stream *s, const struct head *head, bool end)
{
	struct front_h1 *f = of_stream(s);

	ENSURE(f->h.open && !f->answered);
	front_h1_send_head(f, head, end);
	conn_output(f->h.conn);
}

/* Nothing fires after this. */
static void
reset(struct stream *s, enum outcome why)
{
	struct front_h1 *f = of_stream(s);
	struct conn *c = f->h.conn;
	bool whole = f->h.out_ended && !f->h.out_short && f->failed == OUTCOME_OK;

	(void)why; /* HTTP/1.1 has no word for it */
	if (!f->h.open)
		return;
	f->h.stream.events = NULL;
	end_stream(f, OUTCOME_OK);
	if (whole)
		conn_close_after_flush(c);
	else
		conn_close(c, true);
}

static const struct stream_verbs verbs = {
    .send_head = send_head,
    .send_body = h1_send_body,
    .send_trailers = h1_send_trailers,
    .consumed = h1_consumed,
    .hold = h1_hold,
    .reset = reset,
};

static const struct codec_ops codec = {
    .input = input,
    .eof = eof,
    .produce = produce,
    .sent = sent,
    .lost = lost,
    .fini = fini,
};

void
front_h1_begin(struct front_conn *fc)
{
	struct front_h1 *f = calloc(1, sizeof(*f));
	struct conn *c = &fc->conn;
	size_t head_max = fc->limits->request_line + fc->limits->header_bytes + HEAD_SLACK;

	CHECK_MAGIC(fc, FRONT_MAGIC);
	ENSURE(f != NULL);
	f->magic = FRONT_H1_MAGIC;
	f->fc = fc;
	f->limits = (struct h1_limits){
	    .line = fc->limits->request_line,
	    .bytes = fc->limits->header_bytes,
	    .count = fc->limits->header_count,
	};
	f->head.content_length = HEAD_LENGTH_NONE;
	h1_init(&f->h, c, &verbs);
	c->in_max = head_max > CHUNK_LARGE ? head_max : CHUNK_LARGE;
	c->send_timeout_ms = fc->timeouts->send_ms;
	timeout_cancel(&c->turn->wheel, &fc->timer);
	timeout_init(&fc->timer, on_timer);
	set_timer(f, fc->timeouts->header_ms);
	conn_set_codec(c, &codec, f);
}

/* Between two requests nobody loses anything: closed now.  A connection that has not asked yet, or is asking, is
 * answered once more (choose_keep). */
void
front_h1_drain(struct front_conn *fc)
{
	struct front_h1 *f = of_conn(&fc->conn);

	if (f->phase == WAITING && f->again && !f->head_begun)
		conn_close_after_flush(&fc->conn);
}
