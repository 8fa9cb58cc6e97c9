/*
 * When a client's connection or stream has had enough time.
 *
 *   WAIT_FIRST   header_ms from the beginning to the first complete request (attack 18)
 *   WAIT_BLOCK   header_ms from a header block's first byte to its last (attacks 11, 18)
 *   WAIT_IDLE    idle_ms without a stream, then a graceful end
 *   slow look    a stream that has output waiting, a window that will not take it and less than 1 KiB
 *                of progress in 10 s is reset (attack 1, data dribble, CVE-2019-9511)
 *
 * Owner: front_h2.  Thread: the worker's.
 */
#include "proxy/codec/front_h2.h"

#define SLOW_LOOK_MS 5000
#define SLOW_LOOKS   3U /* the first marks, the next two must see progress */
#define SLOW_BYTES   1024U

static struct turn *
turn_of(const struct front_h2 *f)
{
	return f->front->conn.turn;
}

static void
fired(struct timeout *t)
{
	struct front_conn *front = CONTAINER_OF(t, struct front_conn, timer);
	struct front_h2 *f = front->conn.codec_state;

	CHECK_MAGIC(f, FRONT_H2_MAGIC);
	switch (f->wait) {
	case WAIT_NONE:
		break;
	case WAIT_FIRST:
		h2_end(&f->h2, NGHTTP2_NO_ERROR);
		break;
	case WAIT_BLOCK:
		h2_end(&f->h2, NGHTTP2_ENHANCE_YOUR_CALM);
		break;
	case WAIT_IDLE:
		front_h2_drain(front); /* a request may be on its way: it is still answered */
		break;
	}
	h2_settle(&f->h2);
}

static void
drain_fired(struct timeout *t)
{
	front_h2_final_goaway(CONTAINER_OF(t, struct front_h2, drain_timer));
}

/* --- slow readers ------------------------------------------------------------------- */

static bool
window_shut(const struct front_h2 *f, const struct h2_stream *s, bool conn_shut)
{
	return conn_shut || nghttp2_session_get_stream_remote_window_size(f->h2.session, s->id) <
				(int32_t)SLOW_BYTES;
}

static void
look_at(struct front_h2 *f, struct h2_stream *s, bool conn_shut)
{
	bool moved = s->bytes_framed - s->slow_mark >= SLOW_BYTES;

	if (buf_bytes(&s->out) == 0 || moved || !window_shut(f, s, conn_shut)) {
		s->slow_mark = s->bytes_framed;
		s->slow_looks = buf_bytes(&s->out) > 0;
		return;
	}
	if (++s->slow_looks < SLOW_LOOKS)
		return;
	s->discard = true;
	h2_drop_queue(s);
	h2_reset(s, NGHTTP2_CANCEL);
	h2_stream_close(s, OUTCOME_CLIENT_SLOW);
}

static void
slow_fired(struct timeout *t)
{
	struct front_h2 *f = CONTAINER_OF(t, struct front_h2, slow_timer);
	bool conn_shut;
	struct h2_stream *s;

	CHECK_MAGIC(f, FRONT_H2_MAGIC);
	if (f->h2.ended)
		return;
	conn_shut = nghttp2_session_get_remote_window_size(f->h2.session) < (int32_t)SLOW_BYTES;
	/* closed() may reset other streams but frees none. */
	for (s = LIST_FIRST(&f->h2.streams); s != NULL; s = LIST_NEXT(s, link)) {
		look_at(f, s, conn_shut);
	}
	h2_settle(&f->h2);
}

/* --- what the state asks for ------------------------------------------------------------ */

static enum front_h2_wait
wait_for(const struct front_h2 *f)
{
	if (!f->served)
		return WAIT_FIRST;
	if (f->h2.watch.block_open)
		return WAIT_BLOCK;
	return f->h2.n_streams == 0 && !f->front->draining ? WAIT_IDLE : WAIT_NONE;
}

void
front_h2_time_settle(struct front_h2 *f)
{
	struct turn *turn = turn_of(f);
	const struct front_timeouts *limits = f->front->timeouts;
	enum front_h2_wait wait = wait_for(f);

	if (f->h2.ended) {
		front_h2_time_fini(f);
		return;
	}
	if (f->h2.queued > 0 && !timeout_armed(&f->slow_timer))
		timeout_set(&turn->wheel, &f->slow_timer, turn->now_ms, SLOW_LOOK_MS);
	if (wait == f->wait && (wait != WAIT_BLOCK || f->wait_block == f->h2.watch.block_seq))
		return;
	f->wait = wait;
	f->wait_block = f->h2.watch.block_seq;
	switch (wait) {
	case WAIT_NONE:
		timeout_cancel(&turn->wheel, &f->front->timer);
		break;
	case WAIT_FIRST:
	case WAIT_BLOCK:
		timeout_set(&turn->wheel, &f->front->timer, turn->now_ms, limits->header_ms);
		break;
	case WAIT_IDLE:
		timeout_set(&turn->wheel, &f->front->timer, turn->now_ms, limits->idle_ms);
		break;
	}
}

void
front_h2_time_begin(struct front_h2 *f)
{
	timeout_cancel(&turn_of(f)->wheel, &f->front->timer); /* the handshake's */
	timeout_init(&f->front->timer, fired);
	timeout_init(&f->drain_timer, drain_fired);
	timeout_init(&f->slow_timer, slow_fired);
	front_h2_time_settle(f);
}

void
front_h2_time_fini(struct front_h2 *f)
{
	struct wheel *wheel = &turn_of(f)->wheel;

	timeout_cancel(wheel, &f->front->timer);
	timeout_cancel(wheel, &f->drain_timer);
	timeout_cancel(wheel, &f->slow_timer);
}
