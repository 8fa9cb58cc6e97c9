/*
 * Who is due when: a heap of slots, one for each thing that waits for a moment (a probe's next
 * turn, the end of its patience, a deadline).  Pure, told the time; O(log n) for each slot that
 * comes or goes.
 *
 *      first:  FIRST_GAP_MS apart, so that a small fleet is asked at once and a thousand backends
 *              not in one moment; spread over at most FIRST_SPREAD_MS or the interval
 *      again:  interval after the last one began, +- 10 %, so that they do not march in step; at a
 *              multiple of interval / GRID_PARTS (GRID_MAX_MS at most), so that a large fleet is
 *              asked in batches with warm caches and not in a thousand wake-ups
 *
 * After a stall of the whole process nothing is made up for, and nobody is blamed: the patience of
 * the slots that wait for an answer grows by the stall (prober_stalled()).
 *
 * One owner, one thread; slots are embedded in what the owner waits for.
 */
#ifndef TEAL_PROBER_H
#define TEAL_PROBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIRST_GAP_MS    1
#define FIRST_SPREAD_MS 1000
#define GRID_PARTS      10
#define GRID_MAX_MS     250

struct slot { /* zeroed before its first use */
	int64_t at_ms;
	size_t place; /* in the heap, + 1; 0: it waits for nothing */
	bool asking;  /* at_ms ends its patience with an answer under way */
	int64_t begun_ms;
	int64_t stalls_ms; /* prober->stalls_ms at its begin */
};

struct prober {
	struct entry {
		int64_t at_ms; /* the slot's, beside its neighbours' */
		struct slot *slot;
	} * heap;
	size_t n, room;
	uint64_t random;
	int64_t first_ms;  /* when the next first one has its turn */
	int64_t stalls_ms; /* of all stalls together */
};

void prober_init(struct prober *, uint64_t seed);
void prober_fini(struct prober *); /* the slots are their owners' */
/* Its first turn.  Out of memory ends the process, here and below. */
void prober_first(struct prober *, struct slot *, int64_t interval_ms, int64_t now_ms);
/* Its turn has come: it asks, and is due again when timeout_ms have passed without
 * prober_again(). */
void prober_ask(struct prober *, struct slot *, int64_t timeout_ms, int64_t now_ms);
/* It was answered, or its patience is at an end: its next turn. */
void prober_again(struct prober *, struct slot *, int64_t interval_ms, int64_t now_ms);
/* Simply at that moment. */
void prober_at(struct prober *, struct slot *, int64_t at_ms);
void prober_forget(struct prober *, struct slot *);
/* Takes out the next whose moment has come; NULL: none. */
struct slot *prober_due(struct prober *, int64_t now_ms);
/* When that will be; INT64_MAX: never. */
int64_t prober_next(const struct prober *);
/* The process could not look for so long. */
void prober_stalled(struct prober *, int64_t ms);

#endif
