/* Waiting for a free backend.  See wait.h. */
#include "proxy/base/obj.h"
#include "proxy/exchange/wait.h"

static struct wait_queue *
queue_of(const struct exchange *x)
{
	return &x->engine->queues[x->service->index * N_COLORS + (unsigned)x->color];
}

static void
look_again(struct wait_queue *q)
{
	struct exchange *x;

	while ((x = TAILQ_FIRST(&q->list)) != NULL && exchange_assign(x))
		ENSURE(TAILQ_FIRST(&q->list) != x);
	if (x != NULL && !timeout_armed(&q->timer))
		timeout_set(
		    &q->engine->turn->wheel, &q->timer, q->engine->turn->now_ms, WHEEL_TICK_MS);
}

static void
on_timer(struct timeout *t)
{
	look_again(CONTAINER_OF(t, struct wait_queue, timer));
}

static void
on_task(struct task *t)
{
	look_again(CONTAINER_OF(t, struct wait_queue, task));
}

void
wait_init(struct wait_queue *q, struct engine *e, _Atomic uint32_t *waiting)
{
	TAILQ_INIT(&q->list);
	q->engine = e;
	q->waiting = waiting;
	timeout_init(&q->timer, on_timer);
	q->task.run = on_task;
}

bool
wait_enter(struct exchange *x)
{
	struct wait_queue *q = queue_of(x);
	uint32_t n = atomic_fetch_add_explicit(q->waiting, 1, memory_order_relaxed);

	if (n >= x->service->pools[x->color].config->queue) {
		atomic_fetch_sub_explicit(q->waiting, 1, memory_order_relaxed);
		return false;
	}
	x->state = X_WAITING;
	TAILQ_INSERT_TAIL(&q->list, x, link);
	if (!timeout_armed(&q->timer))
		timeout_set(
		    &x->engine->turn->wheel, &q->timer, x->engine->turn->now_ms, WHEEL_TICK_MS);
	return true;
}

void
wait_leave(struct exchange *x)
{
	struct wait_queue *q;

	if (x->state != X_WAITING)
		return;
	q = queue_of(x);
	TAILQ_REMOVE(&q->list, x, link);
	atomic_fetch_sub_explicit(q->waiting, 1, memory_order_relaxed);
	x->state = X_CHOOSING;
}

void
wait_serve(struct exchange *x)
{
	struct wait_queue *q = queue_of(x);

	if (!TAILQ_EMPTY(&q->list))
		look_again(q);
}

void
wait_wake(struct exchange *x)
{
	struct wait_queue *q = queue_of(x);

	if (!TAILQ_EMPTY(&q->list))
		turn_run(x->engine->turn, &q->task);
}
