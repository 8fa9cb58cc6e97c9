/*
 * Asking a backend.  See ask.h.
 *
 *      choose -> assign -> ask -> (response: exchange.c)
 *        ^         |        |
 *        |         |        +-> again: retry on the same color, rescue on the live one, or answer
 *        +- queue -+
 *
 * Owner and thread: the engine's worker.
 */
#include <string.h>

#include "balancer/pick.h"
#include "proxy/base/obj.h"
#include "proxy/exchange/account.h"
#include "proxy/exchange/admit.h"
#include "proxy/exchange/ask.h"
#include "proxy/exchange/back.h"
#include "proxy/exchange/exchange_private.h"
#include "proxy/exchange/forward.h"
#include "proxy/exchange/wait.h"

void
ask_give_body(struct exchange *x, struct slice s, bool end)
{
	x->request_sent = end;
	stream_send_body(x->back, s, end);
}

/* What was kept of the request body goes out again, then its end if it has been seen. */
static void
replay(struct exchange *x)
{
	struct iovec iov[16];
	struct buf rest;
	int n;
	bool bare = x->request_end && x->trailers == NULL;

	buf_init(&rest, x->engine->turn->chunks);
	while ((n = buf_iov(&x->kept, iov, 16)) > 0) {
		size_t taken = 0;

		for (int i = 0; i < n; i++) {
			bool last = taken + iov[i].iov_len == buf_bytes(&x->kept);

			ask_give_body(
			    x, slice_borrowed(iov[i].iov_base, iov[i].iov_len), last && bare);
			taken += iov[i].iov_len;
		}
		buf_move(&rest, &x->kept, taken);
	}
	if (buf_bytes(&rest) > x->service->config->rescue.max_body) {
		exchange_drop_kept(x);
		buf_fini(&rest);
	} else {
		buf_move(&x->kept, &rest, buf_bytes(&rest));
	}
	if (x->trailers != NULL) {
		x->request_sent = true;
		stream_send_trailers(x->back, x->trailers);
	} else if (x->request_end && !x->request_sent) {
		ask_give_body(x, slice_borrowed("", 0), true);
	}
}

static void
ask(struct exchange *x)
{
	bool empty = x->request_end && x->body_in == 0 && x->trailers == NULL;

	exchange_enter(x, X_SENDING);
	x->tries++;
	x->back_drained = 0;
	x->request_sent = empty;
	x->back->events = &exchange_back_events;
	x->back->user = x;
	x->ahead = 0;
	if (!x->forward_made) {
		forward_request(x);
		x->forward_made = true;
	}
	/* a client that has gone on already need not be asked to once more */
	x->forward.expect_continue =
	    x->request->expect_continue && !x->continued && x->body_in == 0;
	atomic_fetch_add_explicit(&x->member->backend->requests, 1, memory_order_relaxed);
	stream_send_head(x->back, &x->forward, empty);
	if (!empty && (buf_bytes(&x->kept) != 0 || x->request_end))
		replay(x);
	exchange_arm_for_progress(x);
}

/* Who has no backend follows the newest fleet: of those in the one it began with some may have left for good. */
static void
follow_fleet(struct exchange *x)
{
	struct fleet_ref *newest = x->engine->fleet;

	if (x->fleet == newest)
		return;
	newest->refs++;
	x->service = &newest->fleet->services[x->service->index];
	x->member = NULL;
	x->addresses = 0;
	fleet_ref_drop(x->fleet);
	x->fleet = newest;
}

/*
 * Nothing is sent to a color after its traffic was taken away, whenever it was chosen: true, and the exchange is taken care of.
 * A tester's is left where it is; so is the retry of one that was with the live color until a flip.
 */
static bool
color_is_gone(struct exchange *x)
{
	uint32_t course = service_course(x->service->state);

	if (x->color == course_live(course) || course_weight(course) != 0 || x->why == WHY_FORCED)
		return false;
	if (x->tries == 0) {
		rescue_recolor(x);
		return true;
	}
	if (!x->candidate)
		return false;
	if (!rescue(x, x->outcome))
		exchange_give_up(x, x->outcome);
	return true;
}

/* The same backend again, by another address: its place had just been given back. */
static void
count_in_again(struct exchange *x)
{
	atomic_fetch_add_explicit(&x->member->backend->inflight, 1, memory_order_relaxed);
}

/* The backend was counted in, but cannot be asked. */
static void
count_out(struct exchange *x)
{
	x->counted_in = false;
	pick_release(x->member->backend);
}

static void
nobody_of_the_color(struct exchange *x, enum outcome why)
{
	x->outcome = why;
	if (!rescue(x, why))
		exchange_give_up(x, why);
}

/* true: the exchange has a backend or an answer.  false: all backends are full. */
bool
exchange_assign(struct exchange *x)
{
	struct pick_request r = {.now_ms = x->engine->turn->now_ms};
	const struct pool *pool;

	follow_fleet(x);
	if (color_is_gone(x))
		return true;
	pool = &x->service->pools[x->color];
	r.key_hash = admit_pick_key(x, pool->config);
	for (;;) {
		r.random = random_next(&x->engine->random);
		memcpy(r.tried, x->tried, sizeof(r.tried));
		r.n_tried = x->n_tried;
		if (x->addresses != 0) {
			count_in_again(x);
		} else {
			switch (pick_member(pool, &r, &x->member)) {
			case PICK_OK:
				break;
			case PICK_ALL_FULL:
				return false;
			case PICK_NONE_UP:
				nobody_of_the_color(
				    x, x->tries == 0 ? OUTCOME_NO_BACKEND : x->outcome);
				return true;
			}
		}
		x->counted_in = true;
		switch (back_stream(x->engine, x->member, &x->addresses, &x->back)) {
		case BACK_OPENED:
			wait_leave(x);
			ask(x);
			return true;
		case BACK_FULL:
			count_out(x);
			return false;
		case BACK_UNRESOLVED:
			count_out(x);
			x->outcome = OUTCOME_RESOLVE_FAILED;
			x->tries++;
			if (x->n_tried == PICK_TRIED_MAX) {
				nobody_of_the_color(x, x->outcome);
				return true;
			}
			x->tried[x->n_tried++] = x->member->backend;
			break;
		}
	}
}

void
ask_choose(struct exchange *x)
{
	exchange_enter(x, X_CHOOSING);
	wait_serve(x);
	if (exchange_assign(x))
		return;
	if (wait_enter(x))
		exchange_arm(x, x->service->pools[x->color].config->queue_timeout_ms);
	else if (!rescue(x, OUTCOME_QUEUE_FULL))
		exchange_give_up(x, OUTCOME_QUEUE_FULL);
}

/* May this request be sent once more after `why`?  (RFC 9110 9.2.2, RFC 9113 8.7) */
static bool
may_retry(const struct exchange *x, enum outcome why)
{
	const struct target *t = x->member->addresses;

	if (x->n_tried == PICK_TRIED_MAX || (x->body_in != 0 && !x->replayable))
		return false;
	if (x->tries > x->service->config->retries + (t->n > 1 ? t->n - 1 : 0))
		return false;
	switch ((enum retry)outcome_row(why)->retry) {
	case RETRY_ANY:
		return true;
	case RETRY_IDEMPOTENT:
		return method_idempotent(x->request->method);
	case RETRY_NEVER:
		break;
	}
	return false;
}

static bool
connect_failed(enum outcome why)
{
	return why == OUTCOME_CONNECT_REFUSED || why == OUTCOME_CONNECT_FAILED ||
	       why == OUTCOME_CONNECT_TIMEOUT || why == OUTCOME_BACK_TLS_FAILED;
}

void
ask_again(struct exchange *x, enum outcome why)
{
	const struct target *t = x->member->addresses;
	const struct outcome_row *row = outcome_row(why);
	bool more_addresses = connect_failed(why) && x->addresses != (1U << t->n) - 1;
	bool may = may_retry(x, why);

	x->outcome = why;
	if (connect_failed(why) && !more_addresses)
		back_unreachable(x->engine, x->member->backend, t->pool, why);
	account_blame(x, why);
	/* What the release did wrong its next backend would do too; a connect says something about one backend only, and a
	 * kept connection that had died about none. */
	if ((!may || (row->failure && row->retry != RETRY_ANY && why != OUTCOME_BACK_STALE)) &&
	    rescue(x, why))
		return;
	if (!may) {
		exchange_give_up(x, why);
		return;
	}
	if (!more_addresses) {
		x->addresses = 0;
		/* A kept connection that had died says nothing against its backend: it may be asked again. */
		if (why != OUTCOME_BACK_STALE && why != OUTCOME_BACK_GOAWAY)
			x->tried[x->n_tried++] = x->member->backend;
	}
	ask_choose(x);
}
