/*
 * The session: bytes in, bytes out, nghttp2's callbacks, and how a connection ends.
 *
 *   open --h2_fail (inside nghttp2)--> failing --h2_settle--> ended
 *     \---h2_end (timers, eof), nothing left to do----------/
 *
 * Owner and thread: see h2.h.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/h2.h"

#define SEND_BLOCK_MAX   ((size_t)1 << 18) /* header block we send */
#define OUTBOUND_ACKS    1000U /* CVE-2019-9512, -9515: PING and SETTINGS that wait for their ACK */
#define SETTINGS_ENTRIES 32U   /* CVE-2020-11080 */
#define TABLE_BYTES      4096U /* our HPACK encoder, whatever the peer allows (CVE-2016-6581) */
/* nghttp2 1.52 counts each arrival of bytes in a CONTINUATION's head, not the frames: h2_watch does the counting. */
#define CONTINUATIONS_OFF 1024U

static struct h2 *
h2_of(void *user)
{
	struct h2 *h2 = user;

	CHECK_MAGIC(h2, H2_MAGIC);
	return h2;
}

static struct h2_stream *
find(struct h2 *h2, int32_t id)
{
	struct h2_stream *s = nghttp2_session_get_stream_user_data(h2->session, id);

	if (s != NULL)
		CHECK_MAGIC(s, H2_STREAM_MAGIC);
	return s;
}

/* The same without a search, while a header block comes in. */
static struct h2_stream *
reading(struct h2 *h2, int32_t id)
{
	return h2->reading != NULL && h2->reading->id == id ? h2->reading : find(h2, id);
}

/* --- callbacks ------------------------------------------------------------------ */

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2 *h2 = h2_of(user);
	struct h2_stream *s;

	if (!conn_usable(h2->conn))
		return NGHTTP2_ERR_CALLBACK_FAILURE; /* an event has closed it: read no further */
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		s = h2->role->begin(h2, frame->hd.stream_id);
		if (s == NULL)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, s);
	} else {
		s = find(h2, frame->hd.stream_id);
	}
	h2->reading = s;
	if (s != NULL) {
		h2_block_begin(s);
		s->block.too_large = s->discard; /* counted all the same */
	}
	return 0;
}

static struct arena *
block_arena(struct h2_stream *s)
{
	return s->stream.front != NULL ? &s->stream.arena : &s->block_arena;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name,
    const uint8_t *value, size_t n_value, uint8_t flags, void *user)
{
	struct h2_stream *s = reading(h2_of(user), frame->hd.stream_id);
	struct text n = {(const char *)name, n_name}, v = {(const char *)value, n_value};

	(void)flags;
	if (s == NULL)
		return 0;
	if (h2_block_add(s, block_arena(s), n, v, s->head_in) == 0)
		return 0;
	/* A bomb: not even worth decoding to answer it. */
	if (s->doom == OUTCOME_OK)
		s->doom =
		    s->stream.front != NULL ? OUTCOME_HEADER_TOO_LARGE : OUTCOME_BACK_TOO_LARGE;
	nghttp2_submit_rst_stream(
	    session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_ENHANCE_YOUR_CALM);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* nghttp2 would drop a field it finds invalid; teal resets the stream (RFC 9113 8.2.1). */
static int
on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
    size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags, void *user)
{
	(void)session;
	(void)frame;
	(void)name;
	(void)n_name;
	(void)value;
	(void)n_value;
	(void)flags;
	(void)user;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void
body_ends(struct h2_stream *s)
{
	if (s->end_in)
		return;
	s->end_in = true;
	if (s->stream.events != NULL && !s->discard)
		s->stream.events->body(s->stream.user, (struct slice){0}, true);
}

static void
trailers_complete(struct h2_stream *s)
{
	if (s->end_in)
		return;
	if (s->block.too_large && !s->discard) {
		s->doom =
		    s->stream.front != NULL ? OUTCOME_HEADER_TOO_LARGE : OUTCOME_BACK_TOO_LARGE;
		h2_reset(s, NGHTTP2_ENHANCE_YOUR_CALM);
		return;
	}
	s->end_in = true;
	if (s->stream.events == NULL || s->discard)
		return;
	if (s->block.fields.n > 0)
		s->stream.events->trailers(s->stream.user, &s->block.fields);
	else
		s->stream.events->body(s->stream.user, (struct slice){0}, true);
}

static int
on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2 *h2 = h2_of(user);
	struct h2_stream *s = frame->hd.stream_id != 0 ? find(h2, frame->hd.stream_id) : NULL;
	bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

	(void)session;
	if (!conn_usable(h2->conn))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	switch (frame->hd.type) {
	case NGHTTP2_DATA:
		if (s != NULL && end)
			body_ends(s);
		break;
	case NGHTTP2_HEADERS:
		h2->reading = NULL;
		if (s != NULL && s->head_in)
			trailers_complete(s);
		else if (s != NULL)
			h2->role->head(s, end);
		break;
	case NGHTTP2_RST_STREAM:
		if (s != NULL)
			s->peer_reset = true;
		break;
	default:
		h2->role->frame(h2, frame);
		break;
	}
	return 0;
}

static int
on_data_chunk(
    nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user)
{
	struct h2 *h2 = h2_of(user);
	struct h2_stream *s = find(h2, id);
	struct slice body = {h2->in, p, n};

	(void)session;
	(void)flags;
	if (!conn_usable(h2->conn))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (s == NULL || s->discard || s->end_in || s->stream.events == NULL) {
		h2_credit(h2, s, id, n);
		return 0;
	}
	s->stream.bytes_in += n;
	s->unconsumed += n;
	s->stream.events->body(s->stream.user, body, false);
	return 0;
}

static int
on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
	struct h2 *h2 = h2_of(user);
	struct h2_stream *s = find(h2, id);

	if (s == NULL)
		return 0;
	nghttp2_session_set_stream_user_data(session, id, NULL);
	if (s->linger_ms != 0 && s->end_out && !s->peer_reset && h2->watch.resets_due > 0)
		h2->watch.resets_due--;
	h2_stream_close(s, s->doom != OUTCOME_OK ? s->doom : h2->role->outcome(s, code));
	h2_stream_free(s);
	return 0;
}

/* A reset of ours that the peer's mistake caused is dear: CVE-2019-9514, CVE-2025-8671 (MadeYouReset). */
static bool
reset_paid(struct h2 *h2, uint32_t code)
{
	switch (code) {
	case NGHTTP2_NO_ERROR:
	case NGHTTP2_CANCEL:
	case NGHTTP2_INTERNAL_ERROR:
		return true; /* the exchange's own */
	case NGHTTP2_REFUSED_STREAM:
		return h2->role->glitch(h2, GLITCH_FRAME);
	default:
		return h2->role->glitch(h2, GLITCH_ERROR);
	}
}

static int
on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2 *h2 = h2_of(user);
	struct h2_stream *s;

	(void)session;
	switch (frame->hd.type) {
	case NGHTTP2_RST_STREAM:
		if (!reset_paid(h2, frame->rst_stream.error_code))
			h2_fail(h2, NGHTTP2_ENHANCE_YOUR_CALM);
		return 0;
	case NGHTTP2_GOAWAY:
		if (frame->goaway.error_code != NGHTTP2_NO_ERROR)
			h2_fail(
			    h2, frame->goaway.error_code); /* nghttp2 found fault with the peer */
		return 0;
	case NGHTTP2_DATA:
		h2_watch_sent(&h2->watch, frame->hd.length);
		break;
	case NGHTTP2_HEADERS:
		break;
	default:
		return 0;
	}
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	s = find(h2, frame->hd.stream_id);
	if (s != NULL && !s->end_out) {
		s->end_out = true;
		h2->role->end_out(s);
	}
	return 0;
}

/* A head or trailers that could not be sent: too large, or the peer would not have it. */
static int
on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
	struct h2_stream *s;

	(void)session;
	if (frame->hd.type != NGHTTP2_HEADERS || error != NGHTTP2_ERR_FRAME_SIZE_ERROR)
		return 0; /* the stream or the connection is ending anyway */
	s = find(h2_of(user), frame->hd.stream_id);
	if (s != NULL)
		h2_doom(s, OUTCOME_INTERNAL);
	return 0;
}

static nghttp2_session_callbacks *
callbacks_new(void)
{
	nghttp2_session_callbacks *cb;

	ENSURE(nghttp2_session_callbacks_new(&cb) == 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, h2_send_data);
	return cb;
}

/* --- begin ---------------------------------------------------------------------- */

nghttp2_option *
h2_option_new(unsigned reset_burst, unsigned reset_rate)
{
	nghttp2_option *o;

	ENSURE(nghttp2_option_new(&o) == 0);
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_max_outbound_ack(o, OUTBOUND_ACKS);
	nghttp2_option_set_max_settings(o, SETTINGS_ENTRIES);
	nghttp2_option_set_max_continuations(o, CONTINUATIONS_OFF);
	nghttp2_option_set_max_deflate_dynamic_table_size(o, TABLE_BYTES);
	nghttp2_option_set_max_send_header_block_length(o, SEND_BLOCK_MAX);
	nghttp2_option_set_stream_reset_rate_limit(o, reset_burst, reset_rate);
	return o;
}

static bool
glitch(void *user, unsigned n)
{
	struct h2 *h2 = h2_of(user);

	return h2->role->glitch(h2, n);
}

void
h2_init(struct h2 *h2, struct conn *c, const struct h2_role *role, bool server,
    const nghttp2_settings_entry *settings, size_t n, const nghttp2_option *option)
{
	nghttp2_session_callbacks *cb = callbacks_new();
	int32_t window = server ? H2_FRONT_CONN_WINDOW : H2_BACK_CONN_WINDOW;

	h2->magic = H2_MAGIC;
	h2->conn = c;
	h2->role = role;
	LIST_INIT(&h2->streams);
	LIST_INIT(&h2->drained);
	h2_watch_init(&h2->watch, server, glitch, h2);
	if (h2->header_bytes > h2->watch.block_bytes_max)
		h2->watch.block_bytes_max = h2->header_bytes;
	if (server)
		ENSURE(nghttp2_session_server_new3(&h2->session, cb, h2, option, h2_mem()) == 0);
	else
		ENSURE(nghttp2_session_client_new3(&h2->session, cb, h2, option, h2_mem()) == 0);
	nghttp2_session_callbacks_del(cb);
	ENSURE(nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, n) == 0);
	ENSURE(
	    nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, window) == 0);
}

/* --- input ---------------------------------------------------------------------- */

/* CVE-2019-9517 and all floods: what the peer makes us queue is bounded by not reading on. */
static bool
output_waits(const struct h2 *h2)
{
	return buf_bytes(&h2->conn->out) >= CONN_OUT_HIGH ||
	       nghttp2_session_get_outbound_queue_size(h2->session) > H2_QUEUE_HIGH;
}

static void
feed(struct h2 *h2, const unsigned char *p, size_t n)
{
	ssize_t used = nghttp2_session_mem_recv(h2->session, p, n);

	if (used == (ssize_t)n)
		return;
	switch (used) {
	case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
	case NGHTTP2_ERR_PROTO:
		h2_fail(h2, NGHTTP2_PROTOCOL_ERROR);
		break;
	case NGHTTP2_ERR_FLOODED:
		h2_fail(h2, NGHTTP2_ENHANCE_YOUR_CALM);
		break;
	default:
		h2_fail(h2, NGHTTP2_INTERNAL_ERROR);
		break;
	}
}

size_t
h2_input(struct conn *c, struct slice in)
{
	struct h2 *h2 = h2_of(c->codec_state);
	size_t used = 0;

	h2->in = in.chunk;
	while (used < in.n && !h2->failing && !h2->ended && conn_usable(c)) {
		uint32_t error = NGHTTP2_NO_ERROR;
		size_t n;

		if (output_waits(h2)) {
			h2->paused = true;
			conn_pause(c, PAUSE_CODEC);
			break;
		}
		n = h2_watch(&h2->watch, in.p + used, in.n - used, &error);
		if (n > 0)
			feed(h2, in.p + used, n);
		used += n;
		if (error != NGHTTP2_NO_ERROR)
			h2_fail(h2, error);
	}
	h2->in = NULL;
	h2_settle(h2);
	if (h2->ended || !conn_usable(c))
		return in.n; /* of what follows an end nothing is wanted */
	if (nghttp2_session_want_write(h2->session))
		conn_output(c);
	return used;
}

/* --- output --------------------------------------------------------------------- */

/* nghttp2 -> conn->out, up to the mark; DATA goes there by itself, from h2_send_data(). */
static void
pump(struct h2 *h2, size_t mark)
{
	const uint8_t *p;
	ssize_t n = 0;

	while (buf_bytes(&h2->conn->out) < mark) {
		n = nghttp2_session_mem_send(h2->session, &p);
		if (n <= 0)
			break;
		buf_append(&h2->conn->out, p, (size_t)n);
	}
	if (n < 0)
		h2_fail(h2, NGHTTP2_INTERNAL_ERROR);
}

/* What verbs left to do. */
static void
end_doomed(struct h2 *h2)
{
	struct h2_stream *s, *next;

	h2->any_doomed = false;
	for (s = LIST_FIRST(&h2->streams); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if (s->doomed) {
			s->doomed = false;
			s->discard = true;
			h2_drop_queue(s);
			if (s->id != 0)
				h2_reset(s, NGHTTP2_INTERNAL_ERROR);
			else
				s->abandoned = true;
			h2_stream_close(s, s->doom);
		}
		if (s->abandoned)
			h2_stream_free(s);
	}
}

void
h2_produce(struct conn *c)
{
	struct h2 *h2 = h2_of(c->codec_state);

	if (h2->ended)
		return;
	if (h2->any_doomed)
		end_doomed(h2);
	pump(h2, CONN_OUT_HIGH);
	h2_tell_drained(h2);
	h2_settle(h2);
}

/* --- the end -------------------------------------------------------------------- */

void
h2_fail(struct h2 *h2, uint32_t code)
{
	if (h2->failing)
		return;
	h2->failing = true;
	h2->error = code;
}

void
h2_cut(struct h2 *h2, const enum outcome *why)
{
	struct h2_stream *s;

	h2->ended = true;
	/* Nothing is freed here, so the list stands; closed() may reset others. */
	for (s = LIST_FIRST(&h2->streams); s != NULL; s = LIST_NEXT(s, link)) {
		h2_drop_queue(s);
		h2_stream_close(s, s->doom != OUTCOME_OK ? s->doom
				   : why != NULL         ? *why
							 : h2->role->cut(s));
	}
}

void
h2_end(struct h2 *h2, uint32_t code)
{
	struct h2_stream *s;

	if (h2->ended || !conn_usable(h2->conn))
		return;
	h2->ended = true; /* no verb makes more output now */
	for (s = LIST_FIRST(&h2->streams); s != NULL; s = LIST_NEXT(s, link)) {
		h2_drop_queue(s);
	}
	nghttp2_session_terminate_session(h2->session, code);
	pump(h2, SIZE_MAX); /* at most H2_QUEUE_HIGH frames and one piece's answers */
	h2_cut(h2, NULL);
	conn_close_after_flush(h2->conn);
}

void
h2_settle(struct h2 *h2)
{
	struct conn *c = h2->conn;

	if (!h2->ended && h2->failing)
		h2_end(h2, h2->error);
	if (!h2->ended && conn_usable(c) && nghttp2_session_want_write(h2->session) == 0 &&
	    nghttp2_session_want_read(h2->session) == 0) {
		h2_cut(h2, NULL); /* GOAWAY went out and the last stream has ended */
		conn_close_after_flush(c);
	}
	if (h2->paused && !h2->ended && buf_bytes(&c->out) < CONN_OUT_HIGH &&
	    nghttp2_session_get_outbound_queue_size(h2->session) <= H2_QUEUE_LOW) {
		h2->paused = false;
		conn_resume(c, PAUSE_CODEC);
	}
	h2->role->settled(h2);
}

void
h2_fini(struct h2 *h2)
{
	struct h2_stream *s;

	if (!h2->ended)
		h2_cut(h2, NULL); /* the owner closed the conn under running streams */
	while ((s = LIST_FIRST(&h2->streams)) != NULL)
		h2_stream_free(s);
	nghttp2_session_del(h2->session);
	h2->session = NULL;
	h2->magic = 0;
}
