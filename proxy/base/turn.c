/*
 * The work of one turn.  A list is worked off up to a marker put at its end first, so that what
 * is queued meanwhile has its go in the next pass, and every task may be taken off at any time.
 *
 * Owner: the worker.  Thread: that worker's.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/base/turn.h"

#define CHUNKS_KEPT 256 /* free ones: 4 MiB large, 4 MiB small */

void
turn_init(struct turn *turn, int64_t now_us, int64_t wall_ms)
{
	memset(turn, 0, sizeof *turn);
	turn_clock(turn, now_us, wall_ms);
	turn->chunks = chunk_pool_new(CHUNKS_KEPT);
	wheel_init(&turn->wheel, turn->now_ms);
	TAILQ_INIT(&turn->runnable);
	TAILQ_INIT(&turn->later);
	TAILQ_INIT(&turn->dirty);
	TAILQ_INIT(&turn->graves);
}

void
turn_clock(struct turn *turn, int64_t now_us, int64_t wall_ms)
{
	turn->now_us = now_us;
	turn->now_ms = now_us / 1000;
	turn->wall_ms = wall_ms;
}

static void
enqueue(struct task_list *list, struct task *t)
{
	if (t->queued)
		return;
	TAILQ_INSERT_TAIL(list, t, link);
	t->queued = true;
	t->on = list;
}

static void
take_off(struct task *t)
{
	TAILQ_REMOVE(t->on, t, link);
	t->queued = false;
	t->on = NULL;
}

void
turn_run(struct turn *turn, struct task *t)
{
	if (t->queued && t->on == &turn->later)
		take_off(t); /* sooner after all */
	enqueue(&turn->runnable, t);
}

void
turn_later(struct turn *turn, struct task *t)
{
	enqueue(&turn->later, t);
}

void
turn_flush(struct turn *turn, struct task *t)
{
	enqueue(&turn->dirty, t);
}

void
turn_bury(struct turn *turn, struct task *t)
{
	enqueue(&turn->graves, t);
}

void
turn_forget(struct task *t, struct task_list *list)
{
	(void)list; /* the task knows better: runnable or later */
	if (t->queued)
		take_off(t);
}

static void
run_list(struct turn *turn, struct task_list *list)
{
	struct task *t;

	if (TAILQ_EMPTY(list))
		return;
	ENSURE(!turn->marker.queued); /* turn_end() inside a task */
	enqueue(list, &turn->marker);
	while ((t = TAILQ_FIRST(list)) != &turn->marker) {
		take_off(t);
		t->run(t);
	}
	take_off(&turn->marker);
}

static void
bury(struct turn *turn)
{
	while (!TAILQ_EMPTY(&turn->graves))
		run_list(turn, &turn->graves); /* the dead may take others with them */
}

bool
turn_end(struct turn *turn)
{
	struct task *t;

	for (int pass = 0; pass < TURN_PASSES; pass++) {
		run_list(turn, &turn->runnable);
		run_list(turn, &turn->dirty);
		if (TAILQ_EMPTY(&turn->runnable) && TAILQ_EMPTY(&turn->dirty))
			break;
	}
	bury(turn);
	while ((t = TAILQ_FIRST(&turn->later)) != NULL) {
		take_off(t);
		enqueue(&turn->runnable, t);
	}
	return !TAILQ_EMPTY(&turn->runnable) || !TAILQ_EMPTY(&turn->dirty);
}

void
turn_fini(struct turn *turn)
{
	bury(turn);
	chunk_unref(turn->spare);
	turn->spare = NULL;
	chunk_pool_free(turn->chunks);
	turn->chunks = NULL;
}
