/*
 * The clocks, in us.  Workers and probes read them once a turn (turn.h), control whenever it asks.
 * Any thread.
 */
#ifndef TEAL_CLOCK_H
#define TEAL_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "proxy/base/turn.h"

static inline int64_t
clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* The turn's time is now. */
static inline void
clock_turn(struct turn *turn)
{
	turn_clock(turn, clock_us(CLOCK_MONOTONIC), clock_us(CLOCK_REALTIME) / 1000);
	turn->stale = false;
}

#endif
