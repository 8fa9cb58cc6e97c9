/*
 * The backend's side of HTTP/2: a client session with many streams.
 *
 *   verbs --> submit_request (CONNECT for a websocket, once the peer's SETTINGS allow it), DATA, trailers
 *   HEADERS, DATA, trailers --> events
 *
 *   open --GOAWAY, owner's retire, eof--> retired --last stream ended--> close
 *
 * Owner: its back_conn (codec_state).  Thread: the worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/codec/back_h2.h"

#define BACK_GLITCHES            1000U
#define BACK_GLITCHES_PER_SECOND 33U
#define LAST_IDS                 0x7ffff000U

static struct back_h2 *
back_of(const struct h2_stream *s)
{
	return back_h2_of(s->h2);
}

/* --- requests: the verbs -------------------------------------------------------------------- */

static void
submit(struct h2_stream *s, const nghttp2_nv *nv, size_t n, bool end)
{
	nghttp2_data_provider body = h2_body_source(s);
	int32_t id = nghttp2_submit_request(s->h2->session, NULL, nv, n, end ? NULL : &body, s);

	if (id < 0) {
		h2_doom(s, OUTCOME_BACK_GOAWAY); /* no ids left; nothing was sent */
		return;
	}
	s->id = id;
	s->rx_mark = s->h2->watch.total;
}

/* The last look at what goes to a backend, in every build (RFC 9113 section 10.3). */
static bool
line_sendable(const struct head *h)
{
	return token_valid(h->method_text.p, h->method_text.n) &&
	       (path_valid(h->path.p, h->path.n) || text_is(h->path, "*")) &&
	       authority_valid(h->authority.p, h->authority.n) &&
	       (text_is(h->scheme, "http") || text_is(h->scheme, "https"));
}

static void
build(struct h2_stream *s, struct h2_nva *a, const struct head *h, char digits[DIGITS])
{
	h2_nva_begin(a, &s->stream.arena, h->fields.n + 8);
	h2_nva_pseudo(a, TEXT(":method"), h->websocket ? TEXT("CONNECT") : h->method_text);
	h2_nva_pseudo(a, TEXT(":scheme"), h->scheme);
	h2_nva_pseudo(a, TEXT(":authority"), h->authority);
	h2_nva_pseudo(a, TEXT(":path"), h->path);
	if (h->websocket)
		h2_nva_pseudo(a, TEXT(":protocol"), TEXT("websocket"));
	h2_nva_fields(a, &h->fields, false);
	if (h->content_length >= 0 && !h->websocket)
		h2_nva_field(
		    a, F_CONTENT_LENGTH, text_decimal(digits, (uint64_t)h->content_length));
	if (h->expect_continue)
		h2_nva_field(a, F_EXPECT, TEXT("100-continue"));
	h2_nva_field(a, F_TE, TEXT("trailers")); /* what gRPC servers insist on */
}

static bool
websocket_allowed(struct h2 *h2)
{
	return nghttp2_session_get_remote_settings(
		   h2->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

static void
send_head(struct stream *stream, const struct head *head, bool end)
{
	struct h2_stream *s = h2_stream_of(stream);
	struct back_h2 *b = back_of(s);
	char digits[DIGITS];
	struct h2_nva a;

	if (s->h2->ended || s->head_out || s->doomed)
		return;
	s->head_out = true;
	s->out_ended = end;
	s->websocket = head->websocket;
	s->asked_100 = head->expect_continue;
	s->head_request = head->method == METHOD_HEAD;
	build(s, &a, head, digits);
	if (a.bad || !line_sendable(head)) {
		h2_doom(s, OUTCOME_INTERNAL);
		return;
	}
	if (s->websocket && !b->settings_seen) {
		s->held = h2_nva_keep(&a, &stream->arena);
		s->n_held = a.n;
		return;
	}
	if (s->websocket && !websocket_allowed(s->h2)) {
		h2_doom(s, OUTCOME_NOT_IMPLEMENTED);
		return;
	}
	submit(s, a.nv, a.n, end);
	conn_output(s->h2->conn);
}

static void
reset(struct stream *stream, enum outcome why)
{
	struct h2_stream *s = h2_stream_of(stream);

	(void)why;
	h2_detach(s);
	s->held = NULL;
	if (s->h2->ended || s->doomed)
		return;
	h2_drop_queue(s);
	if (s->id != 0) {
		h2_reset(s, NGHTTP2_CANCEL);
		return;
	}
	s->abandoned = true;
	s->h2->any_doomed = true;
	conn_output(s->h2->conn);
}

static const struct stream_verbs verbs = {
    .send_head = send_head,
    .send_body = h2_send_body,
    .send_trailers = h2_send_trailers,
    .consumed = h2_consumed,
    .hold = h2_hold,
    .reset = reset,
};

/* --- responses: the role ------------------------------------------------------------------------ */

static struct h2_stream *
begin(struct h2 *h2, int32_t id)
{
	(void)h2;
	(void)id;
	return NULL; /* a server opens no streams: push is off */
}

static void
end_out(struct h2_stream *s)
{
	(void)s;
}

static void
stream_gone(struct h2 *h2)
{
	struct back_h2 *b = back_h2_of(h2);

	b->back->n_streams--;
	b->available_due = true;
}

static bool
glitch(struct h2 *h2, unsigned n)
{
	struct back_h2 *b = back_h2_of(h2);

	return budget_take(&b->budget, n, BACK_GLITCHES, BACK_GLITCHES_PER_SECOND,
		   h2->conn->turn->now_ms) <= 100;
}

/* The websockets that waited for the first SETTINGS. */
static void
submit_held(struct back_h2 *b)
{
	struct h2_stream *s;

	for (s = LIST_FIRST(&b->h2.streams); s != NULL; s = LIST_NEXT(s, link)) {
		if (s->held == NULL)
			continue;
		if (websocket_allowed(&b->h2))
			submit(s, s->held, s->n_held, false);
		else
			h2_doom(s, OUTCOME_NOT_IMPLEMENTED);
		s->held = NULL;
	}
}

/* Until our SETTINGS are acknowledged nghttp2 takes windows for larger than they are. */
static void
widen_all(struct back_h2 *b)
{
	struct h2_stream *s;

	for (s = LIST_FIRST(&b->h2.streams); s != NULL; s = LIST_NEXT(s, link))
		h2_widen(s);
}

static void
frame(struct h2 *h2, const nghttp2_frame *fr)
{
	struct back_h2 *b = back_h2_of(h2);

	switch (fr->hd.type) {
	case NGHTTP2_SETTINGS:
		if ((fr->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
			widen_all(b);
			break;
		}
		b->settings_seen = true;
		b->available_due = true; /* its MAX_CONCURRENT_STREAMS may have risen */
		submit_held(b);
		break;
	case NGHTTP2_GOAWAY:
		b->goaway_seen = true;
		b->retire_due = true;
		break;
	default:
		break;
	}
}

static void
retire(struct back_h2 *b)
{
	b->retire_due = false;
	if (b->back->retired)
		return;
	b->back->retired = true;
	b->back->owner->retired(b->back);
}

static void
settled(struct h2 *h2)
{
	struct back_h2 *b = back_h2_of(h2);
	struct back_conn *back = b->back;

	if (b->retire_due || h2->ended ||
	    nghttp2_session_get_next_stream_id(h2->session) > LAST_IDS)
		retire(b);
	if (h2->ended)
		return;
	if (back->retired && back->n_streams == 0 && !b->goaway_sent) {
		b->goaway_sent = true;
		h2_end(h2, NGHTTP2_NO_ERROR);
		return;
	}
	if (b->available_due && conn_usable(&back->conn) && back_h2_slots(back) > 0) {
		b->available_due = false;
		back->owner->available(back);
	}
}

static const struct h2_role role = {
    .begin = begin,
    .head = back_h2_response,
    .end_out = end_out,
    .frame = frame,
    .outcome = back_h2_outcome,
    .cut = back_h2_cut,
    .stream_gone = stream_gone,
    .glitch = glitch,
    .settled = settled,
};

/* --- from the owner ----------------------------------------------------------------------------- */

unsigned
back_h2_slots(const struct back_conn *back)
{
	const struct back_h2 *b = back->conn.codec_state;
	uint32_t max;

	CHECK_MAGIC(b, BACK_H2_MAGIC);
	if (back->retired || b->h2.ended || b->h2.failing)
		return 0;
	max = nghttp2_session_get_remote_settings(
	    b->h2.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	if (max > back->max_streams)
		max = back->max_streams;
	return max > back->n_streams ? max - back->n_streams : 0;
}

struct stream *
back_h2_open(struct back_conn *back)
{
	struct back_h2 *b = back->conn.codec_state;
	struct h2_stream *s;

	CHECK_MAGIC(b, BACK_H2_MAGIC);
	s = h2_stream_new(&b->h2, &verbs);
	s->reused = back->served > 0;
	s->window = H2_FIRST_WINDOW;
	s->window_max = H2_STREAM_WINDOW;
	s->rx_mark = b->h2.watch.total;
	back->n_streams++;
	back->served++;
	return &s->stream;
}

void
back_h2_retire(struct back_conn *back)
{
	struct back_h2 *b = back->conn.codec_state;

	CHECK_MAGIC(b, BACK_H2_MAGIC);
	retire(b);
	if (back->n_streams == 0 && !b->h2.ended) {
		b->goaway_sent = true;
		h2_end(&b->h2, NGHTTP2_NO_ERROR);
	}
}

/* --- the codec ------------------------------------------------------------------------------------ */

static void
established(struct conn *c)
{
	struct back_h2 *b = back_h2_of(c->codec_state);

	b->back->owner->connected(b->back);
}

static void
eof(struct conn *c)
{
	struct h2 *h2 = c->codec_state;

	h2_end(h2, NGHTTP2_NO_ERROR);
	h2_settle(h2);
}

/* `why` is the connect's when it never came about; else each stream's state says. */
static void
lost(struct conn *c, enum outcome why)
{
	struct h2 *h2 = c->codec_state;

	h2_cut(h2, c->established ? NULL : &why);
	h2_settle(h2);
}

static void
fini(struct conn *c)
{
	struct back_h2 *b = back_h2_of(c->codec_state);

	h2_fini(&b->h2);
	b->magic = 0;
	free(b);
	c->codec_state = NULL;
}

static const struct codec_ops codec = {
    .input = h2_input,
    .eof = eof,
    .produce = h2_produce,
    .established = established,
    .lost = lost,
    .fini = fini,
};

void
back_h2_begin(struct back_conn *back)
{
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)H2_FIRST_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)back->header_bytes},
	};
	nghttp2_option *option = h2_option_new(BACK_GLITCHES, BACK_GLITCHES_PER_SECOND);
	struct back_h2 *b = calloc(1, sizeof(*b));

	ENSURE(b != NULL);
	b->magic = BACK_H2_MAGIC;
	b->back = back;
	b->h2.header_bytes = back->header_bytes;
	b->h2.header_count = back->header_count;
	budget_init(&b->budget, BACK_GLITCHES, back->conn.turn->now_ms);
	h2_init(&b->h2, &back->conn, &role, false, settings, sizeof(settings) / sizeof(settings[0]),
	    option);
	nghttp2_option_del(option);
	conn_set_codec(&back->conn, &codec, b);
	conn_output(&back->conn);
}
