/*
 * The client's side of HTTP/2: a server session.
 *
 *   HEADERS --> front_h2_request --> handler->request | refused
 *   verbs   --> submit_response, DATA, trailers --> END_STREAM [--> lingering, early response]
 *
 *   drain:  GOAWAY(2^31-1) + PING --ack or 1 s--> GOAWAY(last id) --last stream ended--> close
 *
 * Owner: its front_conn (codec_state); streams are freed when nghttp2 closes them.  Thread: the worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/codec/front_h2.h"
#include "proxy/codec/h1.h"

#define DRAIN_PING_MS 1000
#define EARLY_MS      100
#define EARLY_BYTES   ((size_t)8192) /* less than a backend may be ahead */
#define LAST_IDS                                                                                   \
	0x7ffff000 /* near the end of the ids: a new connection is needed (RFC 9113 5.1.1) */

static const uint8_t drain_ping[8] = {'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'};

static struct front_h2 *
front_of(struct h2_stream *s)
{
	return front_h2_of(s->h2);
}

/* --- responses: the verbs -------------------------------------------------------------- */

static void
submit_head(struct h2_stream *s, struct h2_nva *a, bool interim, bool end)
{
	nghttp2_session *session = s->h2->session;
	nghttp2_data_provider body = h2_body_source(s);
	int rv;

	if (a->bad)
		rv = NGHTTP2_ERR_INVALID_ARGUMENT;
	else if (interim)
		rv = nghttp2_submit_headers(
		    session, NGHTTP2_FLAG_NONE, s->id, NULL, a->nv, a->n, NULL);
	else
		rv = nghttp2_submit_response(session, s->id, a->nv, a->n, end ? NULL : &body);
	if (rv != 0)
		h2_doom(s, OUTCOME_INTERNAL);
}

/* Content-Length and Date, when this response may have them (RFC 9110 8.6, 6.6.1). */
static void
add_own_fields(struct h2_stream *s, struct h2_nva *a, const struct head *head, char digits[DIGITS])
{
	if (head->content_length >= 0 && head->status != 204 && !s->tunnel)
		h2_nva_field(
		    a, F_CONTENT_LENGTH, text_decimal(digits, (uint64_t)head->content_length));
	if (fields_find(&head->fields, F_DATE) == NULL)
		h2_nva_field(a, F_DATE, (struct text){h1_date(s->h2->conn->turn->wall_ms), 29});
}

/*
 * An error's head, while the client is still sending: some clients stop in the middle when they see it and end the stream short
 * of its Content-Length, which is malformed and resets it (RFC 9113 8.1.1), body of the answer and all.  So it waits for that
 * body, or enough of it, or EARLY_MS.
 */
static bool
must_wait(const struct h2_stream *s, const struct head *head, bool end)
{
	return head->status >= 400 && !end && !s->end_in && s->block.content_length > 0;
}

void
front_h2_submit_held(struct h2_stream *s)
{
	struct h2_nva a = {.nv = s->held, .n = s->n_held};

	s->held = NULL;
	s->linger_ms = 0;
	if (s->h2->ended || s->discard || s->doomed)
		return;
	submit_head(s, &a, false, false);
	conn_output(s->h2->conn);
}

static void
send_head(struct stream *stream, const struct head *head, bool end)
{
	struct h2_stream *s = h2_stream_of(stream);
	bool accepted = head->status == 101 && s->websocket;
	bool interim = head->status < 200 && !accepted;
	char status[DIGITS], digits[DIGITS];
	struct h2_nva a;

	if (s->h2->ended || s->head_out || s->doomed)
		return;
	if (head->status < 100 || head->status > 999 || (interim && (end || head->status == 101))) {
		h2_doom(s, OUTCOME_INTERNAL); /* 101 is not of HTTP/2 (RFC 9113 8.6) */
		return;
	}
	s->tunnel = accepted;
	h2_nva_begin(&a, &stream->arena, head->fields.n + 3);
	h2_nva_pseudo(&a, TEXT(":status"), text_decimal(status, accepted ? 200 : head->status));
	h2_nva_fields(&a, &head->fields, false);
	if (!interim) {
		add_own_fields(s, &a, head, digits);
		s->head_out = true;
		s->out_ended = end;
	}
	if (!interim && !a.bad && must_wait(s, head, end)) {
		s->held = h2_nva_keep(&a, &stream->arena);
		s->n_held = a.n;
		front_h2_linger(s, EARLY_MS);
		return;
	}
	submit_head(s, &a, interim, end);
	conn_output(s->h2->conn);
}

static void
send_body(struct stream *stream, struct slice body, bool end)
{
	struct h2_stream *s = h2_stream_of(stream);

	h2_send_body(stream, body, end);
	if (s->held != NULL && (end || buf_bytes(&s->out) >= EARLY_BYTES))
		front_h2_submit_held(s);
}

static void
send_trailers(struct stream *stream, const struct fields *fields)
{
	struct h2_stream *s = h2_stream_of(stream);

	h2_send_trailers(stream, fields);
	if (s->held != NULL)
		front_h2_submit_held(s);
}

static uint32_t
reset_code(enum outcome why)
{
	if (why == OUTCOME_OK)
		return NGHTTP2_NO_ERROR;
	if (why == OUTCOME_TUNNEL || why == OUTCOME_STOPPED || why == OUTCOME_COLOR_LEFT ||
	    outcome_row(why)->blame == BLAME_CLIENT)
		return NGHTTP2_CANCEL;
	return NGHTTP2_INTERNAL_ERROR;
}

static void
reset(struct stream *stream, enum outcome why)
{
	struct h2_stream *s = h2_stream_of(stream);

	h2_detach(s);
	if (s->h2->ended || s->doomed)
		return;
	if (why == OUTCOME_OK && s->head_out && s->out_ended)
		return; /* what is queued goes out; end_out() sees to the rest of the request */
	h2_drop_queue(s);
	h2_reset(s, reset_code(why));
}

static const struct stream_verbs verbs = {
    .send_head = send_head,
    .send_body = send_body,
    .send_trailers = send_trailers,
    .consumed = h2_consumed,
    .hold = h2_hold,
    .reset = reset,
};

/* --- requests: the role ------------------------------------------------------------------ */

static struct h2_stream *
begin(struct h2 *h2, int32_t id)
{
	struct front_h2 *f = front_h2_of(h2);
	struct h2_stream *s = h2_stream_new(h2, &verbs);

	s->id = id;
	s->stream.front = f->front;
	f->front->n_streams++;
	return s;
}

static void
request(struct h2_stream *s, bool end)
{
	struct front_h2 *f = front_of(s);
	struct front_conn *front = f->front;
	struct head *head = arena_alloc(&s->stream.arena, sizeof(*head));
	enum outcome why;

	why = front_h2_request(s, head, end);
	f->served = true;
	s->head_in = true;
	s->end_in = end;
	if (why == OUTCOME_OK) {
		front->handler->request(front, &s->stream, head, end);
		return;
	}
	s->discard = true; /* its body */
	front->handler->refused(front, &s->stream, head, why);
}

/* The answer is complete, the rest of the request is not wanted. */
static void
end_out(struct h2_stream *s)
{
	if (!s->end_in && !s->tunnel)
		front_h2_answered(s);
}

static enum outcome
outcome(struct h2_stream *s, uint32_t code)
{
	if (code == NGHTTP2_NO_ERROR && s->end_out && s->head_out)
		return OUTCOME_OK;
	if (s->peer_reset)
		return OUTCOME_CLIENT_GONE;
	if (code == NGHTTP2_INTERNAL_ERROR)
		return OUTCOME_INTERNAL;
	return OUTCOME_BAD_REQUEST; /* nghttp2 found fault with the body or the trailers */
}

static enum outcome
cut(struct h2_stream *s)
{
	(void)s;
	return OUTCOME_CLIENT_GONE;
}

static void
stream_gone(struct h2 *h2)
{
	front_h2_of(h2)->front->n_streams--;
}

static bool
glitch(struct h2 *h2, unsigned n)
{
	struct front_h2 *f = front_h2_of(h2);
	bool graceful = false;
	bool ok = front_glitch(f->front, n, &graceful);

	if (ok && graceful)
		front_h2_drain(f->front);
	return ok;
}

static void
frame(struct h2 *h2, const nghttp2_frame *fr)
{
	struct front_h2 *f = front_h2_of(h2);

	if (fr->hd.type == NGHTTP2_PING && (fr->hd.flags & NGHTTP2_FLAG_ACK) != 0 &&
	    f->front->draining && memcmp(fr->ping.opaque_data, drain_ping, 8) == 0)
		front_h2_final_goaway(f);
}

static void
settled(struct h2 *h2)
{
	struct front_h2 *f = front_h2_of(h2);

	if (!h2->ended && h2->watch.last_id > LAST_IDS && !f->front->draining)
		front_h2_drain(f->front);
	front_h2_time_settle(f);
}

static const struct h2_role role = {
    .begin = begin,
    .head = request,
    .end_out = end_out,
    .frame = frame,
    .outcome = outcome,
    .cut = cut,
    .stream_gone = stream_gone,
    .glitch = glitch,
    .settled = settled,
};

/* --- drain --------------------------------------------------------------------------------- */

void
front_h2_drain(struct front_conn *front)
{
	struct front_h2 *f = front->conn.codec_state;

	CHECK_MAGIC(f, FRONT_H2_MAGIC);
	if (f->h2.ended || timeout_armed(&f->drain_timer) || f->final_goaway)
		return;
	front->draining = true;
	nghttp2_submit_shutdown_notice(f->h2.session);
	nghttp2_submit_ping(f->h2.session, NGHTTP2_FLAG_NONE, drain_ping);
	f->h2.watch.pongs_due++;
	timeout_set(
	    &front->conn.turn->wheel, &f->drain_timer, front->conn.turn->now_ms, DRAIN_PING_MS);
	conn_output(&front->conn);
}

/* RFC 9113 6.8: from here on streams above the last one are ignored; the client knows that. */
void
front_h2_final_goaway(struct front_h2 *f)
{
	if (f->h2.ended || f->final_goaway)
		return;
	f->final_goaway = true;
	timeout_cancel(&f->front->conn.turn->wheel, &f->drain_timer);
	nghttp2_submit_goaway(f->h2.session, NGHTTP2_FLAG_NONE,
	    nghttp2_session_get_last_proc_stream_id(f->h2.session), NGHTTP2_NO_ERROR, NULL, 0);
	conn_output(&f->front->conn);
}

/* --- the codec ------------------------------------------------------------------------------ */

/* A client that closes has gone: half-closing is for streams (RFC 9113 5.1), not for the connection. */
static void
eof(struct conn *c)
{
	struct h2 *h2 = c->codec_state;

	h2_end(h2, NGHTTP2_NO_ERROR);
	h2_settle(h2);
}

static void
lost(struct conn *c, enum outcome why)
{
	struct h2 *h2 = c->codec_state;

	h2_cut(h2, &why);
	h2_settle(h2);
}

static void
fini(struct conn *c)
{
	struct front_h2 *f = front_h2_of(c->codec_state);

	h2_fini(&f->h2);
	front_h2_time_fini(f);
	f->magic = 0;
	free(f);
	c->codec_state = NULL;
}

static const struct codec_ops codec = {
    .input = h2_input,
    .eof = eof,
    .produce = h2_produce,
    .lost = lost,
    .fini = fini,
};

void
front_h2_begin(struct front_conn *front)
{
	const struct front_limits *limits = front->limits;
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits->streams},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)H2_STREAM_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)limits->header_bytes},
	    {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
	};
	nghttp2_option *option =
	    h2_option_new(limits->glitches + 1, limits->glitches_per_second + 1);
	struct front_h2 *f = calloc(1, sizeof(*f));

	ENSURE(f != NULL);
	f->magic = FRONT_H2_MAGIC;
	f->front = front;
	f->h2.header_bytes = limits->header_bytes;
	f->h2.header_count = limits->header_count;
	h2_init(&f->h2, &front->conn, &role, true, settings, sizeof(settings) / sizeof(settings[0]),
	    option);
	nghttp2_option_del(option);
	front->h2 = true;
	front->conn.out.large = true; /* TLS makes a record of what lies together, without a copy */
	front_h2_time_begin(f);
	conn_set_codec(&front->conn, &codec, f);
	conn_output(&front->conn);
}
