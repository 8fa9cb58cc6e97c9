/*
 * Passive ejection: one backend whose exchanges fail one after another while a neighbour's do not
 * gets no new requests for a while.  It is about single backends: when the whole pool fails, it is
 * the release (or something all share), and that is the verdict's business.
 *
 *      failed_in_a_row reaches passive.failures
 *        and a neighbour (of the same kind, primary or backup; usable) has last answered well
 *        and not more than max_ejected of the pool are held, this one included; one is always left
 *                 -> held for hold_ms, twice as long each further time, at most 32 x
 *
 * Ejections are forgotten (the next hold is the first again) when there was none for EJECT_FORGET
 * first holds after the last one ended.  Source: Envoy's outlier detection (consecutive 5xx), with
 * the neighbours' consent added.
 *
 * Request path, any worker, no lock.  Told the time.
 */
#ifndef TEAL_EJECT_H
#define TEAL_EJECT_H

#include "balancer/fleet.h"

#define EJECT_FORGET 10

/*
 * An exchange with `b`, a member of the pool, failed and it was the backend's fault (outcome.def:
 * BLAME BACKEND).  true: this call ejected it; it is the only one that says so.  Failures that come
 * in while it is held count for nothing: they are part of what began the hold.  O(1), but for every
 * passive.failures-th failure in a row, which asks the neighbours.  Two workers that eject two
 * backends in the same moment may exceed max_ejected by one; pick_member() never leaves a pool
 * without an answer.
 */
bool backend_failed(
    const struct pool *, struct backend *b, const struct passive_config *, int64_t now_ms);

/* Is it held by an ejection (not by failed connects)? */
bool backend_ejected(const struct backend *, int64_t now_ms);

/* An exchange with it went well.  One load in the usual case: nothing is written where nothing
 * failed. */
static inline void
backend_answered(struct backend *b)
{
	if (atomic_load_explicit(&b->failed_in_a_row, memory_order_relaxed) != 0)
		atomic_store_explicit(&b->failed_in_a_row, 0, memory_order_relaxed);
}

#endif
