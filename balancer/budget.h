/*
 * The rescue budget: how many requests of a service may be replayed, as a share of its requests in
 * a window, so that a bad release cannot double the live color's load.
 *
 * One per service, all workers write it, lock-free; touched only when something failed.
 */
#ifndef TEAL_BUDGET_H
#define TEAL_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUDGET_SLOTS 64 /* seconds kept */
#define BUDGET_FLOOR                                                                               \
	100 /* takes a window that are always allowed: a share of little traffic is nothing */

struct rescue_budget {
	_Atomic uint64_t slots[BUDGET_SLOTS]; /* second << 24 | taken in it */
};

/*
 * Takes one when fewer than max(BUDGET_FLOOR, share_bp of requests) were taken in the last
 * window_ms (1 s .. 60 s). requests: the service's, both colors, in the same window, those under
 * way included.  share_bp 0: never.  false: used up.
 */
bool rescue_budget_take(struct rescue_budget *, int64_t now_ms, int64_t window_ms,
    uint64_t requests, unsigned share_bp);

#endif
