/*
 * The exchange machine.  The states are drawn in exchange.h; they change in enter() only.
 *
 * Credit: every body byte that an event brings is given back by consumed() when the other side has
 * drained it, so what teal holds of one exchange is bounded by the streams' windows.
 *
 * Owner and thread: the engine's worker.
 */
#include <string.h>

#include "balancer/pick.h"
#include "balancer/tally.h"
#include "proxy/base/obj.h"
#include "proxy/exchange/account.h"
#include "proxy/exchange/admit.h"
#include "proxy/exchange/back.h"
#include "proxy/exchange/client.h"
#include "proxy/exchange/forward.h"
#include "proxy/exchange/local.h"
#include "proxy/exchange/wait.h"

static const struct stream_events front_events, back_events;
static void choose(struct exchange *);

static void
enter(struct exchange *x, enum exchange_state to)
{
	x->state = to;
}

static struct exchange *
exchange_of(void *user)
{
	struct exchange *x = user;

	CHECK_MAGIC(x, EXCHANGE_MAGIC);
	return x;
}

static void
arm(struct exchange *x, int64_t ms)
{
	timeout_set(&x->engine->turn->wheel, &x->timer, x->engine->turn->now_ms, ms);
}

/* The client has nothing more to say before there is an answer. */
static bool
all_asked(const struct exchange *x)
{
	if (x->request_sent || x->request->websocket)
		return true;
	/* Expect: 100-continue: it is the backend that must speak first (RFC 9110 10.1.1) */
	return x->forward.expect_continue && x->body_in == 0 && !x->continued;
}

/* The backend has all that has come of the request, and that is not all of it: it may rightly be silent. */
static bool
client_is_due(const struct exchange *x)
{
	return !all_asked(x) && x->back_drained == x->body_in;
}

/* What the client still sends goes nowhere: it was answered, or its upgrade was refused. */
static bool
answered(const struct exchange *x)
{
	return x->state == X_LOCAL ||
	       (x->response_begun && (x->back == NULL || (x->request->websocket && !x->tunnel)));
}

/* The one timer's meaning follows from how far the exchange is. */
static void
arm_for_progress(struct exchange *x)
{
	const struct service_timeouts *t;

	ENSURE(x->service != NULL);
	t = &x->service->config->timeouts;
	if (x->tunnel)
		arm(x, t->websocket_idle_ms);
	else if (x->response_end)
		return; /* the rest is between the front codec and the client */
	else if (x->response_begun)
		arm(x, t->body_ms);
	else if (all_asked(x))
		arm(x, t->response_ms);
	else
		arm(x, t->request_body_ms);
}

/* A power of two, so that it changes seldom. */
static size_t
share(const struct front_conn *fc)
{
	size_t n = STREAM_HELD, whole = 4 * fc->limits->queued_bytes;

	if (!fc->pressed) {
		while (n < 4 * STREAM_CREDIT && 2 * n * fc->n_streams <= whole)
			n *= 2;
	}
	return n;
}

static void
hold_to_share(struct exchange *x)
{
	size_t ahead = share(x->fc);

	if (x->back == NULL || x->ahead == ahead)
		return;
	x->ahead = ahead;
	stream_hold(x->back, ahead);
}

void
exchange_owe(struct exchange *x, int64_t n)
{
	struct front_conn *fc = x->fc;
	size_t max = fc->limits->queued_bytes;

	x->front_owed += (uint64_t)n;
	fc->queued += (size_t)n;
	fc->pressed = fc->queued > (fc->pressed ? max / 2 : max);
	if (!x->response_end)
		hold_to_share(x);
}

/* --- ending ---------------------------------------------------------------- */

void
fleet_ref_drop(struct fleet_ref *r)
{
	ENSURE(r->refs > 0);
	if (--r->refs == 0)
		r->release(r);
}

static void
bury(struct task *t)
{
	struct exchange *x = CONTAINER_OF(t, struct exchange, grave);

	CHECK_MAGIC(x, EXCHANGE_MAGIC);
	x->magic = 0;
	fleet_ref_drop(x->fleet);
	slab_put(&x->engine->exchanges, x);
}

static void
drop_kept(struct exchange *x)
{
	x->replayable = false;
	if (buf_bytes(&x->kept) != 0)
		buf_fini(&x->kept);
}

/* The backend's place is free again; x->member stays for the log. */
static void
give_place_back(struct exchange *x)
{
	if (!x->counted_in)
		return;
	x->counted_in = false;
	pick_release(x->member->backend);
	wait_wake(x);
}

static void
let_back_go(struct exchange *x, enum outcome why)
{
	struct stream *back = x->back;

	x->back = NULL;
	if (back != NULL)
		stream_reset(back, why);
	give_place_back(x);
}

/* Nobody will pass on what the client has sent: give all of its credit back, so that the rest can be discarded. */
static void
credit_all(struct exchange *x)
{
	uint64_t n = x->body_in - x->credited;

	x->credited = x->body_in;
	if (n != 0 && x->front != NULL)
		stream_consumed(x->front, (size_t)n);
}

/* The front is gone, or about to be: judge, log, free. */
static void
finish(struct exchange *x)
{
	ENSURE(x->state != X_DONE);
	wait_leave(x);
	let_back_go(x, x->response_end && x->request_sent ? OUTCOME_OK : OUTCOME_CLIENT_GONE);
	exchange_owe(x, -(int64_t)x->front_owed);
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	account(x);
	drop_kept(x);
	x->front = NULL;
	enter(x, X_DONE);
	x->engine->n_exchanges--;
	turn_bury(x->engine->turn, &x->grave);
}

/* The response had begun and cannot be completed: the client must see that it is cut. */
static void
cut(struct exchange *x, enum outcome why)
{
	struct stream *front = x->front;

	x->outcome = why;
	finish(x);
	stream_reset(front, why);
}

static int64_t
retry_after_s(const struct exchange *x, enum outcome why)
{
	int64_t hold_ms;

	if (outcome_row(why)->status != 503 || x->service == NULL || !x->colored)
		return 0;
	hold_ms = x->service->pools[x->color].config->hold_down_ms;
	return hold_ms > 1000 ? (hold_ms + 999) / 1000 : 1;
}

/* Nobody is left to ask. */
static void
answer(struct exchange *x, enum outcome why, int64_t after_s)
{
	wait_leave(x);
	let_back_go(x, OUTCOME_CLIENT_GONE);
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	if (x->response_begun) {
		cut(x, why);
		return;
	}
	x->outcome = why;
	enter(x, X_LOCAL);
	drop_kept(x);
	local_answer(x, why, after_s);
	credit_all(x);
}

/* --- asking a backend -------------------------------------------------------- */

static void
give_body(struct exchange *x, struct slice s, bool end)
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

			give_body(x, slice_borrowed(iov[i].iov_base, iov[i].iov_len), last && bare);
			taken += iov[i].iov_len;
		}
		buf_move(&rest, &x->kept, taken);
	}
	if (buf_bytes(&rest) > x->service->config->rescue.max_body) {
		drop_kept(x);
		buf_fini(&rest);
	} else {
		buf_move(&x->kept, &rest, buf_bytes(&rest));
	}
	if (x->trailers != NULL) {
		x->request_sent = true;
		stream_send_trailers(x->back, x->trailers);
	} else if (x->request_end && !x->request_sent) {
		give_body(x, slice_borrowed("", 0), true);
	}
}

static void
ask(struct exchange *x)
{
	bool empty = x->request_end && x->body_in == 0 && x->trailers == NULL;

	enter(x, X_SENDING);
	x->tries++;
	x->back_drained = 0;
	x->request_sent = empty;
	x->back->events = &back_events;
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
	arm_for_progress(x);
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

/* The same backend again, by another address: its place had just been given back. */
static void
count_in_again(struct exchange *x)
{
	atomic_fetch_add_explicit(&x->member->backend->inflight, 1, memory_order_relaxed);
}

/* true: the exchange has a backend or an answer.  false: all backends are full. */
bool
exchange_assign(struct exchange *x)
{
	struct pick_request r = {.now_ms = x->engine->turn->now_ms};
	const struct pool *pool;

	follow_fleet(x);
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
				if (x->tries == 0)
					x->outcome = OUTCOME_NO_BACKEND;
				answer(x, x->outcome, retry_after_s(x, x->outcome));
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
			x->counted_in = false;
			pick_release(x->member->backend);
			return false;
		case BACK_UNRESOLVED:
			x->counted_in = false;
			pick_release(x->member->backend);
			x->outcome = OUTCOME_RESOLVE_FAILED;
			x->tries++;
			if (x->n_tried == PICK_TRIED_MAX) {
				answer(x, x->outcome, retry_after_s(x, x->outcome));
				return true;
			}
			x->tried[x->n_tried++] = x->member->backend;
			break;
		}
	}
}

static void
choose(struct exchange *x)
{
	enter(x, X_CHOOSING);
	wait_serve(x);
	if (exchange_assign(x))
		return;
	if (!wait_enter(x)) {
		answer(x, OUTCOME_QUEUE_FULL, retry_after_s(x, OUTCOME_QUEUE_FULL));
		return;
	}
	arm(x, x->service->pools[x->color].config->queue_timeout_ms);
}

/* May this request be sent once more after `why`?  (RFC 9110 9.2.2, RFC 9113 8.7) */
static bool
may_retry(const struct exchange *x, enum outcome why)
{
	const struct target *t = x->member->addresses;

	if (x->body_in != 0 && !x->replayable)
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

/* For status and metrics. */
static void
blame(struct exchange *x, enum outcome why)
{
	if (outcome_row(why)->blame == BLAME_BACKEND)
		atomic_fetch_add_explicit(&x->member->backend->failures, 1, memory_order_relaxed);
}

/* The back stream is gone before a byte of its response went to the client. */
static void
try_again_or_answer(struct exchange *x, enum outcome why)
{
	const struct target *t = x->member->addresses;
	bool more_addresses = connect_failed(why) && x->addresses != (1U << t->n) - 1;

	x->outcome = why;
	if (connect_failed(why) && !more_addresses)
		back_unreachable(x->engine, x->member->backend, t->pool, why);
	blame(x, why);
	if (!may_retry(x, why) || x->n_tried == PICK_TRIED_MAX) {
		answer(x, why, retry_after_s(x, why));
		return;
	}
	if (!more_addresses) {
		x->addresses = 0;
		/* A kept connection that had died says nothing against its backend: it may be asked again. */
		if (why != OUTCOME_BACK_STALE && why != OUTCOME_BACK_GOAWAY)
			x->tried[x->n_tried++] = x->member->backend;
	}
	choose(x);
}

/* --- what the client sends --------------------------------------------------- */

static void
keep(struct exchange *x, struct slice s)
{
	if (!x->replayable)
		return;
	ENSURE(x->service != NULL);
	/* While nobody has it, it must be kept; the stream's window bounds it. */
	if (x->back != NULL && buf_bytes(&x->kept) + s.n > x->service->config->rescue.max_body)
		drop_kept(x);
	else
		buf_append_slice(&x->kept, s);
}

static void
on_front_body(void *user, struct slice s, bool end)
{
	struct exchange *x = exchange_of(user);
	size_t max = x->service != NULL ? x->service->config->max_body : 0;

	x->body_in += s.n;
	x->request_end |= end;
	if (answered(x)) {
		credit_all(x);
		return;
	}
	if (x->request->websocket && !x->tunnel) {
		answer(x, OUTCOME_BAD_REQUEST, 0); /* RFC 6455 4.1: it has to wait for the answer */
		return;
	}
	if (max != 0 && x->body_in > max && !x->tunnel) {
		answer(x, OUTCOME_BODY_TOO_LARGE, 0);
		return;
	}
	keep(x, s);
	if (x->back != NULL) {
		give_body(x, s, end);
		arm_for_progress(x);
	}
}

static void
on_front_trailers(void *user, const struct fields *trailers)
{
	struct exchange *x = exchange_of(user);
	struct arena *a = &x->front->arena;
	struct fields *copy;

	x->request_end = true;
	if (answered(x))
		return;
	if (x->request->websocket && !x->tunnel) {
		answer(x, OUTCOME_BAD_REQUEST, 0);
		return;
	}
	copy = arena_alloc(a, sizeof(*copy));
	memset(copy, 0, sizeof(*copy));
	for (unsigned i = 0; i < trailers->n; i++) {
		const struct field *f = &trailers->items[i];

		fields_add(copy, a, f->id,
		    (struct text){arena_copy(a, f->name.p, f->name.n), f->name.n},
		    (struct text){arena_copy(a, f->value.p, f->value.n), f->value.n});
	}
	x->trailers = copy;
	if (x->back != NULL) {
		x->request_sent = true;
		stream_send_trailers(x->back, copy);
		arm_for_progress(x);
	}
}

static void
on_front_drained(void *user, size_t n)
{
	struct exchange *x = exchange_of(user);

	ENSURE(x->front_owed >= n);
	exchange_owe(x, -(int64_t)n);
	if (x->back != NULL) {
		stream_consumed(x->back, n);
		arm_for_progress(x);
	}
}

static void
on_front_closed(void *user, enum outcome why)
{
	struct exchange *x = exchange_of(user);

	if (why != OUTCOME_OK && x->state != X_LOCAL) {
		x->outcome = why;
		if (!x->response_begun) /* 499: nginx's word for a client that did not wait */
			x->status = outcome_row(why)->status != 0 ? outcome_row(why)->status : 499;
	} else if (x->state != X_LOCAL) {
		x->outcome = OUTCOME_OK;
	}
	finish(x);
}

static const struct stream_events front_events = {
    .body = on_front_body,
    .trailers = on_front_trailers,
    .drained = on_front_drained,
    .closed = on_front_closed,
};

/* --- what the backend sends -------------------------------------------------- */

static void
response_ended(struct exchange *x)
{
	x->response_end = true;
	if (x->tunnel) {
		arm_for_progress(x); /* half-closed: the other half has its idle time */
		return;
	}
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	if (x->request_sent || x->back == NULL)
		return;
	/* An early response: what the client still sends goes nowhere (RFC 9113 8.1). */
	let_back_go(x, OUTCOME_OK);
	credit_all(x);
}

static void
begin_tunnel(struct exchange *x, const struct head *head)
{
	struct head out;

	x->tunnel = x->response_begun = true;
	x->back_status = x->status = 101;
	x->head_us = x->engine->turn->now_us;
	drop_kept(x);
	enter(x, X_RELAYING);
	forward_response(x, head, &out);
	stream_send_head(x->front, &out, false);
	arm_for_progress(x);
}

static void
on_back_head(void *user, const struct head *head, bool end)
{
	struct exchange *x = exchange_of(user);
	struct head out;

	if (head->status == 101) {
		begin_tunnel(x, head);
		return;
	}
	if (head->status < 200) {
		/* RFC 9110 15.2: an HTTP/1.0 client does not know 1xx */
		if (x->request->h2 || x->request->minor != 0)
			stream_send_head(x->front, head, false);
		if (head->status == 100) {
			x->continued = true;
			arm_for_progress(x);
		}
		return;
	}
	x->response_begun = true;
	x->back_status = x->status = head->status;
	x->head_us = x->engine->turn->now_us;
	if (x->request->websocket)
		x->request_sent = x->request_end = true; /* refused: there is no body */
	drop_kept(x);
	enter(x, X_RELAYING);
	if (x->grpc)
		x->grpc_failed = account_grpc_failed(&head->fields);
	if (head->status >= 500)
		atomic_fetch_add_explicit(&x->member->backend->failures, 1, memory_order_relaxed);
	forward_response(x, head, &out);
	stream_send_head(x->front, &out, end);
	if (end)
		response_ended(x);
	else
		arm_for_progress(x);
}

static void
on_back_body(void *user, struct slice s, bool end)
{
	struct exchange *x = exchange_of(user);

	exchange_owe(x, (int64_t)s.n);
	stream_send_body(x->front, s, end);
	if (end)
		response_ended(x);
	else
		arm_for_progress(x);
}

static void
on_back_trailers(void *user, const struct fields *trailers)
{
	struct exchange *x = exchange_of(user);

	if (x->grpc && account_grpc_failed(trailers))
		x->grpc_failed = true;
	stream_send_trailers(x->front, trailers);
	response_ended(x);
}

static void
on_back_drained(void *user, size_t n)
{
	struct exchange *x = exchange_of(user);
	uint64_t fresh;

	x->back_drained += n;
	if (x->back_drained > x->credited) {
		/* bytes that were replayed had their credit the first time */
		fresh = x->back_drained - x->credited;
		x->credited = x->back_drained;
		stream_consumed(x->front, (size_t)fresh);
	}
	arm_for_progress(x);
}

static void
on_back_closed(void *user, enum outcome why)
{
	struct exchange *x = exchange_of(user);

	x->back = NULL;
	give_place_back(x);
	if (x->response_end) {
		credit_all(x);
		return; /* the front codec has all of it; its closed() ends us */
	}
	if (why == OUTCOME_OK)
		why = OUTCOME_INTERNAL;
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	if (x->tunnel) {
		cut(x, OUTCOME_TUNNEL);
	} else if (x->response_begun) {
		blame(x, why);
		cut(x, why);
	} else {
		try_again_or_answer(x, why);
	}
}

static const struct stream_events back_events = {
    .head = on_back_head,
    .body = on_back_body,
    .trailers = on_back_trailers,
    .drained = on_back_drained,
    .closed = on_back_closed,
};

/* --- time ---------------------------------------------------------------------- */

static void
stalled(struct exchange *x)
{
	/* What the client does not read is between it and its connection's send timeout. */
	if (x->response_begun && x->front_owed != 0) {
		arm_for_progress(x);
		return;
	}
	if (x->tunnel) {
		cut(x, OUTCOME_TUNNEL);
		return;
	}
	if (client_is_due(x)) {
		answer(x, OUTCOME_REQUEST_TIMEOUT, 0);
		return;
	}
	if (x->response_begun) {
		blame(x, OUTCOME_BODY_TIMEOUT);
		let_back_go(x, OUTCOME_BODY_TIMEOUT);
		cut(x, OUTCOME_BODY_TIMEOUT);
		return;
	}
	let_back_go(x, OUTCOME_HEAD_TIMEOUT);
	try_again_or_answer(x, OUTCOME_HEAD_TIMEOUT);
}

static void
on_timer(struct timeout *t)
{
	struct exchange *x = CONTAINER_OF(t, struct exchange, timer);

	CHECK_MAGIC(x, EXCHANGE_MAGIC);
	switch (x->state) {
	case X_WAITING:
		answer(x, OUTCOME_QUEUE_TIMEOUT, retry_after_s(x, OUTCOME_QUEUE_TIMEOUT));
		break;
	case X_SENDING:
	case X_RELAYING:
		stalled(x);
		break;
	case X_BEGIN:
	case X_CHOOSING:
	case X_LOCAL:
	case X_DONE:
		break;
	}
}

/* --- beginning ------------------------------------------------------------------ */

static struct exchange *
begin(struct front_conn *fc, struct stream *front, struct head *head)
{
	struct engine *e = client_of(fc)->engine;
	struct exchange *x = slab_get(&e->exchanges);
	const struct field *type = fields_find(&head->fields, F_CONTENT_TYPE);

	x->magic = EXCHANGE_MAGIC;
	x->engine = e;
	x->fleet = e->fleet;
	x->fleet->refs++;
	x->fc = fc;
	x->front = front;
	x->request = head;
	x->replayable = true;
	x->grpc = type != NULL && type->value.n >= 16 &&
		  memcmp(type->value.p, "application/grpc", 16) == 0;
	x->start_us = e->turn->now_us;
	x->wall_ms = e->turn->wall_ms;
	x->grave.run = bury;
	buf_init(&x->kept, e->turn->chunks);
	timeout_init(&x->timer, on_timer);
	front->events = &front_events;
	front->user = x;
	e->n_exchanges++;
	forward_request_id(x);
	return x;
}

static void
request(struct front_conn *fc, struct stream *front, struct head *head, bool end)
{
	struct exchange *x = begin(fc, front, head);
	int64_t after_s;
	enum outcome o;

	x->request_end = end;
	o = admit(x, &after_s);
	if (o != OUTCOME_OK) {
		answer(x, o, after_s);
		return;
	}
	tally_begin(x->service->state->tally[x->color], x->engine->index);
	choose(x);
}

static void
refused(struct front_conn *fc, struct stream *front, struct head *partial, enum outcome why)
{
	struct exchange *x = begin(fc, front, partial);

	x->request_end = true;
	answer(x, why, 0);
}

static void
gone(struct front_conn *fc)
{
	struct client *c = client_of(fc);

	CHECK_MAGIC(c, CLIENT_MAGIC);
	c->engine->client_gone(c->engine, fc);
}

const struct front_handler exchange_handler = {
    .request = request,
    .refused = refused,
    .gone = gone,
};

void
exchange_engine_init(struct engine *e)
{
	const struct fleet *f = e->fleet->fleet;

	slab_init(&e->exchanges, sizeof(struct exchange), 1024);
	arena_init(&e->scratch_arena, e->turn->chunks);
	e->line = malloc(RING_LINE_MAX);
	e->queues = calloc((size_t)f->n_services * N_COLORS, sizeof(struct wait_queue));
	ENSURE(e->line != NULL && e->queues != NULL);
	for (unsigned i = 0; i < f->n_services; i++) {
		for (unsigned c = 0; c < N_COLORS; c++)
			wait_init(
			    &e->queues[i * N_COLORS + c], e, &f->services[i].state->waiting[c]);
	}
}

void
exchange_engine_fini(struct engine *e)
{
	arena_fini(&e->scratch_arena);
	slab_fini(&e->exchanges);
	free(e->line);
	free(e->queues);
}
