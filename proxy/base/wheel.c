/*
 * The timing wheel.  A timeout is filed in the slot of its deadline's tick.  When the slot comes up
 * and the deadline is not due, because it was moved or is of a later revolution, it is filed anew:
 * so moving a deadline later is a store, and that is what most timeouts do all their life.
 *
 * While a slot is worked off its list hangs on a local head: any timeout on it may be cancelled,
 * re-armed or freed by the one that fires.
 *
 * Owner: struct turn.  Thread: that worker's.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/base/wheel.h"

void
wheel_init(struct wheel *w, int64_t now_ms)
{
	memset(w, 0, sizeof *w);
	w->tick = now_ms / WHEEL_TICK_MS;
}

void
timeout_init(struct timeout *t, void (*fire)(struct timeout *))
{
	*t = (struct timeout){.fire = fire};
}

static void
insert(struct timeout **head, struct timeout *t)
{
	t->next = *head;
	t->prev = head;
	if (t->next != NULL)
		t->next->prev = &t->next;
	*head = t;
}

static void
detach(struct timeout *t)
{
	*t->prev = t->next;
	if (t->next != NULL)
		t->next->prev = t->prev;
	t->next = NULL;
	t->prev = NULL;
}

/* Under the first tick that is not before the deadline, and never one already done. */
static void
file(struct wheel *w, struct timeout *t)
{
	int64_t tick = (t->deadline_ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;

	if (tick <= w->tick)
		tick = w->tick + 1;
	t->filed_ms = t->deadline_ms;
	insert(&w->slots[(uint64_t)tick % WHEEL_SLOTS], t);
}

void
timeout_set(struct wheel *w, struct timeout *t, int64_t now_ms, int64_t ms)
{
	if (ms <= 0) {
		timeout_cancel(w, t);
		return;
	}
	t->deadline_ms = now_ms + ms;
	if (timeout_armed(t)) {
		if (t->deadline_ms >= t->filed_ms)
			return;
		detach(t);
	} else {
		w->armed++;
	}
	file(w, t);
}

void
timeout_cancel(struct wheel *w, struct timeout *t)
{
	if (!timeout_armed(t))
		return;
	detach(t);
	ENSURE(w->armed > 0);
	w->armed--;
}

static void
work_off(struct wheel *w, struct timeout **slot, int64_t upto_ms)
{
	struct timeout *list = *slot;

	if (list == NULL)
		return;
	list->prev = &list;
	*slot = NULL;
	while (list != NULL) {
		struct timeout *t = list;

		detach(t);
		if (t->deadline_ms > upto_ms) {
			file(w, t); /* was moved later, or is of a later revolution */
		} else {
			w->armed--;
			t->fire(t);
		}
	}
}

void
wheel_advance(struct wheel *w, int64_t now_ms)
{
	int64_t target = now_ms / WHEEL_TICK_MS;

	if (target - w->tick > WHEEL_SLOTS)
		w->tick = target - WHEEL_SLOTS; /* stood still for long: each slot once */
	while (w->tick < target) {
		w->tick++;
		work_off(w, &w->slots[(uint64_t)w->tick % WHEEL_SLOTS], w->tick * WHEEL_TICK_MS);
	}
}
