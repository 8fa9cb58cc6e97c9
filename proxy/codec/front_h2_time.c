/*
 * When a client's connection or stream has had enough time.
 *
 *   WAIT_FIRST   header_ms from the beginning to the first complete request (attack 18)
 *   WAIT_BLOCK   header_ms from a header block's first byte to its last (attacks 11, 18)
 *   WAIT_IDLE    idle_ms without a stream, then a graceful end
 *   slow look    a stream that has output waiting and a window that will not take it is reset after send_ms
 *                without any progress, or 10 s with less than 1 KiB (attack 1, data dribble, CVE-2019-9511)
 *   lingering    a stream answered before its request had ended has LINGER_MS to end it
 *
 * Owner: front_h2.  Thread: the worker's.
 */
#include "proxy/codec/front_h2.h"

#define SLOW_LOOK_MS 5000
#define SLOW_MS      10000
#define SLOW_BYTES   1024U
#define LINGER_MS    1000

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

/* A client that reads nothing may be a paused player: it has send_ms.  One that keeps on reading hardly anything is not. */
static bool
too_slow(const struct front_h2 *f, struct h2_stream *s)
{
	int64_t now_ms = turn_of(f)->now_ms;

	if (s->slow_ms == 0 || s->bytes_framed - s->slow_mark >= SLOW_BYTES) {
		s->slow_mark = s->bytes_framed;
		s->slow_ms = now_ms;
	}
	if (s->still_ms == 0 || s->bytes_framed != s->still_mark) {
		s->still_mark = s->bytes_framed;
		s->still_ms = now_ms;
	}
	return now_ms - s->still_ms >= f->front->timeouts->send_ms ||
	       (now_ms - s->slow_ms >= SLOW_MS && now_ms == s->still_ms);
}

static void
look_at(struct front_h2 *f, struct h2_stream *s, bool conn_shut)
{
	if (buf_bytes(&s->out) == 0 || !window_shut(f, s, conn_shut)) {
		s->slow_ms = s->still_ms = 0;
		return;
	}
	if (!too_slow(f, s))
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

/* Twice in the time the client has, so that it is over by at most half. */
static int64_t
look_ms(const struct front_h2 *f)
{
	int64_t half_ms = f->front->timeouts->send_ms / 2;

	return half_ms < SLOW_LOOK_MS ? half_ms : SLOW_LOOK_MS;
}

/* --- answered early ------------------------------------------------------------------- */

void
front_h2_linger(struct h2_stream *s, int64_t ms)
{
	struct front_h2 *f = front_h2_of(s->h2);
	struct turn *turn = turn_of(f);

	s->linger_ms = turn->now_ms + ms;
	if (!timeout_armed(&f->linger_timer) || f->linger_timer.deadline_ms > s->linger_ms)
		timeout_set(&turn->wheel, &f->linger_timer, turn->now_ms, ms);
}

/*
 * RFC 9113 8.1 allows RST_STREAM NO_ERROR behind the answer at once, but clients that are still sending then see
 * their stream closed before they have read the answer.  What they send meanwhile is what their window has: nothing
 * is added to it.
 */
void
front_h2_answered(struct h2_stream *s)
{
	front_h2_linger(s, LINGER_MS);
	s->h2->watch.resets_due++;
	h2_stream_close(s, OUTCOME_OK);
	h2_detach(s);
	arena_fini(&s->stream.arena); /* the exchange was the last to look */
}

static void
linger_fired(struct timeout *t)
{
	struct front_h2 *f = CONTAINER_OF(t, struct front_h2, linger_timer);
	struct turn *turn = turn_of(f);
	int64_t next_ms = INT64_MAX;
	struct h2_stream *s;

	CHECK_MAGIC(f, FRONT_H2_MAGIC);
	if (f->h2.ended)
		return;
	for (s = LIST_FIRST(&f->h2.streams); s != NULL; s = LIST_NEXT(s, link)) {
		if (s->linger_ms == 0)
			continue;
		if (s->linger_ms > turn->now_ms) {
			next_ms = s->linger_ms < next_ms ? s->linger_ms : next_ms;
			continue;
		}
		s->linger_ms = 0;
		if (s->held != NULL)
			front_h2_submit_held(s);
		else
			h2_reset(s, NGHTTP2_NO_ERROR);
	}
	if (next_ms != INT64_MAX)
		timeout_set(&turn->wheel, &f->linger_timer, turn->now_ms, next_ms - turn->now_ms);
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
		timeout_set(&turn->wheel, &f->slow_timer, turn->now_ms, look_ms(f));
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
	timeout_init(&f->linger_timer, linger_fired);
	front_h2_time_settle(f);
}

void
front_h2_time_fini(struct front_h2 *f)
{
	struct wheel *wheel = &turn_of(f)->wheel;

	timeout_cancel(wheel, &f->front->timer);
	timeout_cancel(wheel, &f->drain_timer);
	timeout_cancel(wheel, &f->slow_timer);
	timeout_cancel(wheel, &f->linger_timer);
}
