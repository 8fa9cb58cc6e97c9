/*
 * The guard: watches the candidate while it has weight, and takes the weight away.
 *
 *      a failure, a slow answer, a tick -> tally + wealth -> verdict -> course: weight 0, tripped
 *
 * Pure but for the atomics of service_state; told the time.  Any worker and control; lock-free.  Of
 * several that see the crossing at once exactly one wins the compare-and-swap and is told so.
 */
#ifndef TEAL_GUARD_H
#define TEAL_GUARD_H

#include "balancer/verdict.h"

/* Control: the weight goes from `old` to `new_bp` (before the course is stored).  From 0, or after
 * a change of the live color, the count begins anew: windows of both colors are empty, the wealth
 * is that of the first stakes.  To 0: nobody is guarded. */
void guard_weight(struct service_state *, bool begins, uint32_t new_bp, int64_t now_ms);

/* Control's tick: bets that have lost nearly all are given a new stake, see
 * martingale_restake(). */
void guard_restake(struct service_state *);

/* Something of `color` that began in the tally's generation has just been counted in the tally: a
 * failure, or (failed = false) an answer slower than limits.p95.  Costs nothing unless the
 * candidate has weight.  true: this call tripped, *out says why.  *out is written whenever a
 * verdict was asked for (out->word WAIT otherwise). */
bool guard_saw(
    const struct service *, enum color, bool failed, int64_t now_ms, struct verdict *out);
/* The tick: p95 with ages, healthy backends.  As guard_saw(), and *out is written in every case; no
 * weight: WAIT, "no traffic". */
bool guard_look(const struct service *, int64_t now_ms, struct verdict *out);
/* Weight 0, tripped, if the course is still `seen`.  true: this call did it. */
bool guard_trip(struct service_state *, uint32_t seen);

#endif
