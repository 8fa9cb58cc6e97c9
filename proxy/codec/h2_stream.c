/*
 * A stream's life, its queue of body bytes, and credit.
 *
 * DATA: nghttp2 asks read_body() how much there is and h2_send_data() moves that many bytes as slices to conn->out
 * behind the frame's head.  What was moved is told as drained() once nghttp2 is done, never from inside it.
 *
 * Credit: a received byte stays in both windows until consumed().  What is outstanding when a stream ends is
 * given back to the connection's window, else it would leak away.
 *
 * A client's stream has one window for good, which nghttp2 looks after.  A backend's begins with H2_FIRST_WINDOW, so
 * that a response nobody reads holds little, and quadruples each time half of it has moved; hold() takes that back.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/h2.h"

#define STREAMS_KEPT 1024U

static _Thread_local struct slab slab;

struct h2_stream *
h2_stream_new(struct h2 *h2, const struct stream_verbs *verbs)
{
	struct h2_stream *s;

	if (slab.size == 0)
		slab_init(&slab, sizeof(struct h2_stream), STREAMS_KEPT);
	s = slab_get(&slab);
	s->stream.magic = STREAM_MAGIC;
	s->stream.verbs = verbs;
	s->magic = H2_STREAM_MAGIC;
	s->h2 = h2;
	s->doom = OUTCOME_OK;
	arena_init(&s->stream.arena, h2->conn->turn->chunks);
	arena_init(&s->block_arena, h2->conn->turn->chunks);
	buf_init(&s->out, h2->conn->turn->chunks);
	LIST_INSERT_HEAD(&h2->streams, s, link);
	h2->n_streams++;
	return s;
}

void
h2_stream_free(struct h2_stream *s)
{
	struct h2 *h2 = s->h2;

	if (h2->reading == s)
		h2->reading = NULL;
	h2_drop_queue(s);
	if (s->unconsumed > 0)
		nghttp2_session_consume_connection(h2->session, s->unconsumed);
	if (s->drained > 0)
		LIST_REMOVE(s, drained_link);
	LIST_REMOVE(s, link);
	h2->n_streams--;
	arena_fini(&s->stream.arena);
	arena_fini(&s->block_arena);
	s->magic = 0;
	s->stream.magic = 0;
	slab_put(&slab, s);
	h2->role->stream_gone(h2);
}

void
h2_stream_fini_thread(void)
{
	if (slab.size != 0)
		slab_fini(&slab);
	slab.size = 0;
}

/* --- events -------------------------------------------------------------------- */

static void
tell_drained(struct h2_stream *s)
{
	size_t n = s->drained;

	if (n == 0)
		return;
	s->drained = 0;
	LIST_REMOVE(s, drained_link);
	if (s->stream.events != NULL)
		s->stream.events->drained(s->stream.user, n);
}

void
h2_tell_drained(struct h2 *h2)
{
	while (!LIST_EMPTY(&h2->drained))
		tell_drained(LIST_FIRST(&h2->drained));
}

void
h2_stream_close(struct h2_stream *s, enum outcome outcome)
{
	const struct stream_events *events;

	tell_drained(s);
	events = s->stream.events; /* drained() may have reset it */
	s->stream.events = NULL;
	if (events != NULL)
		events->closed(s->stream.user, outcome);
}

void
h2_doom(struct h2_stream *s, enum outcome why)
{
	if (s->doom == OUTCOME_OK)
		s->doom = why;
	s->doomed = true;
	s->h2->any_doomed = true;
	conn_output(s->h2->conn);
}

/* --- sending ---------------------------------------------------------------------- */

void
h2_kick(struct h2_stream *s)
{
	if (s->deferred) {
		s->deferred = false;
		nghttp2_session_resume_data(s->h2->session, s->id);
	}
	conn_output(s->h2->conn);
}

void
h2_send_body(struct stream *stream, struct slice body, bool end)
{
	struct h2_stream *s = h2_stream_of(stream);

	if (s->h2->ended || s->out_ended || s->doomed || (body.n == 0 && !end))
		return;
	if (body.n > 0) {
		buf_append_first(&s->out, body);
		s->h2->queued += body.n;
		stream->bytes_out += body.n;
	}
	s->out_ended = end;
	h2_kick(s);
}

void
h2_send_trailers(struct stream *stream, const struct fields *fields)
{
	struct h2_stream *s = h2_stream_of(stream);
	struct h2_nva a;

	if (s->h2->ended || s->out_ended || s->doomed)
		return;
	h2_nva_begin(&a, &stream->arena, fields->n);
	h2_nva_fields(&a, fields, true);
	if (a.bad) {
		h2_doom(s, OUTCOME_INTERNAL);
		return;
	}
	s->trailers = h2_nva_keep(&a, &stream->arena);
	s->n_trailers = a.n;
	s->out_ended = true;
	h2_kick(s);
}

static ssize_t
read_body(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t room, uint32_t *flags,
    nghttp2_data_source *source, void *user)
{
	struct h2_stream *s = source->ptr;
	size_t n = buf_bytes(&s->out);

	(void)buffer;
	(void)user;
	CHECK_MAGIC(s, H2_STREAM_MAGIC);
	if (n == 0 && !s->out_ended) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n > room)
		return (ssize_t)room;
	if (!s->out_ended)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (s->n_trailers > 0) {
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (nghttp2_submit_trailer(session, id, s->trailers, s->n_trailers) != 0)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return (ssize_t)n;
}

nghttp2_data_provider
h2_body_source(struct h2_stream *s)
{
	return (nghttp2_data_provider){.source = {.ptr = s}, .read_callback = read_body};
}

int
h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
    nghttp2_data_source *source, void *user)
{
	struct h2_stream *s = source->ptr;
	struct h2 *h2 = user;
	struct buf *out = &h2->conn->out;

	(void)session;
	(void)frame;
	CHECK_MAGIC(s, H2_STREAM_MAGIC);
	ENSURE(n <= buf_bytes(&s->out)); /* read_body() has just said so */
	buf_append(out, head, 9);
	if (n > 0) {
		buf_move(out, &s->out, n);
		h2->queued -= n;
		s->bytes_framed += n;
		if (s->drained == 0)
			LIST_INSERT_HEAD(&h2->drained, s, drained_link);
		s->drained += n;
	}
	return buf_bytes(out) >= CONN_OUT_HIGH ? NGHTTP2_ERR_PAUSE : 0;
}

/* --- credit and the end --------------------------------------------------------------- */

/* A request that has been answered: what its window allows may still come, more is not asked for. */
static bool
answered(const struct h2_stream *s)
{
	return s->stream.front != NULL && s->out_ended && !s->tunnel;
}

void
h2_widen(struct h2_stream *s)
{
	nghttp2_session *session = s->h2->session;
	int32_t open, missing;

	if (s->window == 0 || s->id == 0 || s->end_in || s->discard)
		return;
	open = nghttp2_session_get_stream_local_window_size(session, s->id);
	if (open < 0 || s->unconsumed > (size_t)s->window)
		return;
	missing = s->window - (int32_t)s->unconsumed - open;
	if (missing >= s->window / 2)
		nghttp2_submit_window_update(session, NGHTTP2_FLAG_NONE, s->id, missing);
}

static void
moved(struct h2_stream *s, size_t n)
{
	s->moved += n;
	if (s->window < s->window_max && s->moved >= (size_t)s->window / 2) {
		s->window = s->window > s->window_max / 4 ? s->window_max : s->window * 4;
		s->moved = 0;
	}
	h2_widen(s);
}

void
h2_credit(struct h2 *h2, const struct h2_stream *s, int32_t id, size_t n)
{
	if (s != NULL && (s->window != 0 || answered(s)))
		nghttp2_session_consume_connection(h2->session, n);
	else
		nghttp2_session_consume(h2->session, id, n);
}

void
h2_consumed(struct stream *stream, size_t n)
{
	struct h2_stream *s = h2_stream_of(stream);

	ENSURE(n <= s->unconsumed);
	s->unconsumed -= n;
	if (s->h2->ended)
		return;
	h2_credit(s->h2, s, s->id, n);
	moved(s, n);
	if (nghttp2_session_get_outbound_queue_size(s->h2->session) > 0)
		conn_output(s->h2->conn); /* a WINDOW_UPDATE is due */
}

void
h2_hold(struct stream *stream, size_t ahead)
{
	struct h2_stream *s = h2_stream_of(stream);

	if (s->window == 0)
		return;
	if (ahead <= STREAM_HELD)
		s->window_max = H2_FIRST_WINDOW;
	else
		s->window_max = ahead < H2_STREAM_WINDOW ? (int32_t)ahead : H2_STREAM_WINDOW;
	if (s->window > s->window_max)
		s->window = s->window_max; /* wider again as bytes move */
}

void
h2_detach(struct h2_stream *s)
{
	s->stream.events = NULL;
	s->discard = true;
	if (s->unconsumed > 0 && !s->h2->ended) {
		h2_credit(s->h2, s, s->id, s->unconsumed);
		s->unconsumed = 0;
	}
}

void
h2_drop_queue(struct h2_stream *s)
{
	s->h2->queued -= buf_bytes(&s->out);
	buf_fini(&s->out);
}

void
h2_reset(struct h2_stream *s, uint32_t code)
{
	nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, code);
	conn_output(s->h2->conn);
}
