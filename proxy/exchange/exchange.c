/*
 * The exchange machine: its beginning and end, what both streams say, and time.  The states are drawn in
 * exchange.h; they change in exchange_enter() only.  Asking a backend is ask.c's.
 *
 * Credit: every body byte that an event brings is given back by consumed() when the other side has
 * drained it, so what teal holds of one exchange is bounded by the streams' windows.
 *
 * Owner and thread: the engine's worker.
 */
#include <string.h>

#include "balancer/pick.h"
#include "proxy/base/obj.h"
#include "proxy/exchange/account.h"
#include "proxy/exchange/admit.h"
#include "proxy/exchange/ask.h"
#include "proxy/exchange/client.h"
#include "proxy/exchange/crowd.h"
#include "proxy/exchange/exchange_private.h"
#include "proxy/exchange/forward.h"
#include "proxy/exchange/local.h"
#include "proxy/exchange/wait.h"

static const struct stream_events front_events;

static struct exchange *
exchange_of(void *user)
{
	struct exchange *x = user;

	CHECK_MAGIC(x, EXCHANGE_MAGIC);
	return x;
}

void
exchange_arm(struct exchange *x, int64_t ms)
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

bool
exchange_client_is_due(const struct exchange *x)
{
	return x->state != X_WAITING && !all_asked(x) && x->back_drained == x->body_in;
}

/* What the client still sends goes nowhere: it was answered, or its upgrade was refused. */
static bool
answered(const struct exchange *x)
{
	return x->state == X_LOCAL ||
	       (x->response_begun && (x->back == NULL || (x->request->websocket && !x->tunnel)));
}

/* The one timer's meaning follows from how far the exchange is. */
void
exchange_arm_for_progress(struct exchange *x)
{
	const struct service_timeouts *t;

	ENSURE(x->service != NULL);
	t = &x->service->config->timeouts;
	if (x->tunnel)
		exchange_arm(x, t->websocket_idle_ms);
	else if (x->response_end)
		return; /* the rest is between the front codec and the client */
	else if (x->response_begun)
		exchange_arm(x, t->body_ms);
	else if (all_asked(x))
		exchange_arm(x, t->response_ms);
	else
		exchange_arm(x, t->request_body_ms);
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

void
exchange_drop_kept(struct exchange *x)
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

void
exchange_let_back_go(struct exchange *x, enum outcome why)
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
	crowd_out(x);
	exchange_let_back_go(
	    x, x->response_end && x->request_sent ? OUTCOME_OK : OUTCOME_CLIENT_GONE);
	exchange_owe(x, -(int64_t)x->front_owed);
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	account(x);
	exchange_drop_kept(x);
	x->front = NULL;
	exchange_enter(x, X_DONE);
	x->engine->n_exchanges--;
	turn_bury(x->engine->turn, &x->grave);
}

/* The response had begun and cannot be completed: the client must see that it is cut. */
void
exchange_cut(struct exchange *x, enum outcome why)
{
	struct stream *front = x->front;

	x->outcome = why;
	finish(x);
	stream_reset(front, why);
}

void
exchange_close_tunnel(struct exchange *x, enum outcome why)
{
	struct stream *front = x->front;

	if (!x->response_end)
		stream_send_body(front, slice_borrowed("", 0), true);
	x->outcome = why;
	finish(x);
	stream_reset(front, OUTCOME_OK);
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
	crowd_out(x);
	exchange_let_back_go(x, OUTCOME_CLIENT_GONE);
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	if (x->response_begun) {
		exchange_cut(x, why);
		return;
	}
	x->outcome = why;
	exchange_enter(x, X_LOCAL);
	exchange_drop_kept(x);
	local_answer(x, why, after_s);
	credit_all(x);
}

void
exchange_give_up(struct exchange *x, enum outcome why)
{
	answer(x, why, retry_after_s(x, why));
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
		exchange_drop_kept(x);
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
		ask_give_body(x, s, end);
		exchange_arm_for_progress(x);
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
		exchange_arm_for_progress(x);
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
		exchange_arm_for_progress(x);
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
		exchange_arm_for_progress(x); /* half-closed: the other half has its idle time */
		return;
	}
	crowd_out(x);
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	if (x->request_sent || x->back == NULL)
		return;
	/* An early response: what the client still sends goes nowhere (RFC 9113 8.1). */
	exchange_let_back_go(x, OUTCOME_OK);
	credit_all(x);
}

static void
begin_tunnel(struct exchange *x, const struct head *head)
{
	struct head out;

	x->tunnel = x->response_begun = true;
	x->back_status = x->status = 101;
	x->head_us = x->engine->turn->now_us;
	exchange_drop_kept(x);
	exchange_enter(x, X_RELAYING);
	crowd_head(x);
	forward_response(x, head, &out);
	stream_send_head(x->front, &out, false);
	exchange_arm_for_progress(x);
}

/* A final head that says the backend failed: what is in it goes to the client only if nobody else can do better. */
static bool
failed_head(struct exchange *x, const struct head *head, bool end)
{
	enum outcome why = OUTCOME_OK;

	if (head->status >= 500)
		why = OUTCOME_BACKEND_5XX;
	else if (x->grpc && end && account_grpc_failed(&head->fields))
		why = OUTCOME_GRPC_ERROR;
	if (why == OUTCOME_OK)
		return false;
	x->back_status = head->status;
	if (why == OUTCOME_BACKEND_5XX)
		account_blame(x, why);
	if (!rescue_may(x, why))
		return false;
	if (why == OUTCOME_GRPC_ERROR)
		account_blame(x, why);
	timeout_cancel(&x->engine->turn->wheel, &x->timer);
	rescue_go(x, why);
	return true;
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
			exchange_arm_for_progress(x);
		}
		return;
	}
	if (failed_head(x, head, end))
		return;
	x->response_begun = true;
	x->back_status = x->status = head->status;
	x->head_us = x->engine->turn->now_us;
	if (x->request->websocket)
		x->request_sent = x->request_end = true; /* refused: there is no body */
	exchange_drop_kept(x);
	exchange_enter(x, X_RELAYING);
	if (x->grpc)
		x->grpc_failed = account_grpc_failed(&head->fields);
	forward_response(x, head, &out);
	stream_send_head(x->front, &out, end);
	if (end) {
		response_ended(x);
		return;
	}
	crowd_head(x);
	exchange_arm_for_progress(x);
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
		exchange_arm_for_progress(x);
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
	exchange_arm_for_progress(x);
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
		exchange_cut(x, OUTCOME_TUNNEL);
	} else if (x->response_begun) {
		if (x->back_status < 500) /* else its head was blamed already */
			account_blame(x, why);
		exchange_cut(x, why);
	} else {
		ask_again(x, why);
	}
}

const struct stream_events exchange_back_events = {
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
		exchange_arm_for_progress(x);
		return;
	}
	if (x->tunnel) {
		exchange_cut(x, OUTCOME_TUNNEL);
		return;
	}
	if (exchange_client_is_due(x)) {
		answer(x, OUTCOME_REQUEST_TIMEOUT, 0);
		return;
	}
	if (x->response_begun) {
		account_blame(x, OUTCOME_BODY_TIMEOUT);
		exchange_let_back_go(x, OUTCOME_BODY_TIMEOUT);
		exchange_cut(x, OUTCOME_BODY_TIMEOUT);
		return;
	}
	exchange_let_back_go(x, OUTCOME_HEAD_TIMEOUT);
	ask_again(x, OUTCOME_HEAD_TIMEOUT);
}

static void
on_timer(struct timeout *t)
{
	struct exchange *x = CONTAINER_OF(t, struct exchange, timer);

	CHECK_MAGIC(x, EXCHANGE_MAGIC);
	switch (x->state) {
	case X_WAITING:
		if (!rescue(x, OUTCOME_QUEUE_TIMEOUT))
			exchange_give_up(x, OUTCOME_QUEUE_TIMEOUT);
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
	account_join(x);
	ask_choose(x);
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
	e->crowds = calloc(f->n_services, sizeof(struct crowd));
	ENSURE(e->line != NULL && e->queues != NULL && e->crowds != NULL);
	for (unsigned i = 0; i < f->n_services; i++) {
		crowd_init(&e->crowds[i], e, i);
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
	free(e->crowds);
}
