#include "bench/origin/timers.h"

#include <stdlib.h>
#include <time.h>

uint64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void
place(struct timers *t, struct timer *one, size_t i)
{
	t->heap[i] = one;
	one->at = i + 1;
}

static void
rise(struct timers *t, struct timer *one, size_t i)
{
	while (i > 0 && t->heap[(i - 1) / 2]->due_us > one->due_us) {
		place(t, t->heap[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	place(t, one, i);
}

static void
sink(struct timers *t, struct timer *one, size_t i)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < t->n && t->heap[child + 1]->due_us < t->heap[child]->due_us)
			child++;
		if (child >= t->n || t->heap[child]->due_us >= one->due_us)
			break;
		place(t, t->heap[child], i);
		i = child;
	}
	place(t, one, i);
}

void
timer_set(struct timers *t, struct timer *one, uint64_t due_us)
{
	timer_clear(t, one);
	if (t->n == t->room) {
		size_t room = t->room ? 2 * t->room : 256;
		struct timer **heap = realloc(t->heap, room * sizeof(struct timer *));

		if (!heap)
			abort();
		t->heap = heap;
		t->room = room;
	}
	one->due_us = due_us;
	rise(t, one, t->n++);
}

void
timer_clear(struct timers *t, struct timer *one)
{
	size_t i = one->at;

	if (i == 0)
		return;
	one->at = 0;
	i--;
	struct timer *last = t->heap[--t->n];

	if (last == one)
		return;
	if (last->due_us < one->due_us)
		rise(t, last, i);
	else
		sink(t, last, i);
}

int
timers_wait_ms(const struct timers *t)
{
	if (t->n == 0)
		return -1;
	uint64_t now = now_us(), due = t->heap[0]->due_us;

	return due <= now ? 0 : (int)((due - now + 999) / 1000);
}

void
timers_fire(struct timers *t)
{
	if (t->n == 0)
		return;
	uint64_t now = now_us();

	while (t->n && t->heap[0]->due_us <= now) {
		struct timer *one = t->heap[0];

		timer_clear(t, one);
		one->fire(one);
	}
}

void
timers_fini(struct timers *t)
{
	free(t->heap);
}
