/*
 * Answers that wait for their moment: a binary heap, one per worker.  A timer lives in what it
 * belongs to.
 */
#ifndef ORIGIN_TIMERS_H
#define ORIGIN_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
	uint64_t due_us;
	size_t at; /* place in the heap + 1; 0: not set */
	void (*fire)(struct timer *);
};

struct timers {
	struct timer **heap;
	size_t n, room;
};

uint64_t now_us(void); /* CLOCK_MONOTONIC */

void timer_set(struct timers *, struct timer *, uint64_t due_us);
void timer_clear(struct timers *, struct timer *);
int timers_wait_ms(const struct timers *); /* for epoll_wait: -1 when nothing is set */
void timers_fire(struct timers *);         /* all that are due */
void timers_fini(struct timers *);

#endif
