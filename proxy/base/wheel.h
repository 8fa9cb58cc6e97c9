/*
 * Coarse timeouts: a hashed wheel ticked by one timer, so that arming, moving and cancelling
 * cost a few stores and no system call.  Fires up to one tick late, never early.
 * Source: Varghese and Lauck, 1987 (scheme 6).  One thread.
 */
#ifndef TEAL_WHEEL_H
#define TEAL_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_TICK_MS 50
#define WHEEL_SLOTS   1024

struct timeout {
	struct timeout *next, **prev; /* linked while armed */
	int64_t deadline_ms;
	int64_t filed_ms; /* deadline under which it is filed; moving later is a store */
	void (*fire)(struct timeout *); /* owner by CONTAINER_OF; may re-arm or free it */
};

struct wheel {
	struct timeout *slots[WHEEL_SLOTS];
	int64_t tick; /* last tick done */
	unsigned armed;
};

void wheel_init(struct wheel *, int64_t now_ms);
void timeout_init(struct timeout *, void (*fire)(struct timeout *));
/* (Re)arms for now + ms; ms <= 0 means "none": cancels. */
void timeout_set(struct wheel *, struct timeout *, int64_t now_ms, int64_t ms);
void timeout_cancel(struct wheel *, struct timeout *);
static inline bool
timeout_armed(const struct timeout *t)
{
	return t->prev != NULL;
}
void wheel_advance(struct wheel *, int64_t now_ms); /* fires what is due */

#endif
