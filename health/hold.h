/*
 * Passive health: how long a backend rests after connects that failed.  Pure, told the time.
 */
#ifndef TEAL_HOLD_H
#define TEAL_HOLD_H

#include <stdint.h>

#define HOLD_DOUBLES 5u /* the longest hold is 32 times the first */

/* When a backend that has just failed to connect may be asked again: now + hold_down_ms, doubled
 * for each failure in a row before this one (at most HOLD_DOUBLES times). */
int64_t hold_until(int64_t now_ms, int64_t hold_down_ms, unsigned failures_before);

#endif
