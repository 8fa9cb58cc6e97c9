/*
 * Request rate per client address: a token bucket as GCRA (one theoretical arrival time per
 * client, ITU-T I.371), in one fixed table of atomics shared by all workers.  No lock, no
 * allocation after rate_new(); the table's size is its limit: a full neighbourhood of slots
 * gives up the entry that has been idle longest (one whose bucket is full again first).
 */
#ifndef TEAL_RATE_H
#define TEAL_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate_table;

/* `slots` clients, 8 bytes each; rounded up to a power of two, at least 8, at most 2^26.
 * NULL: out of memory. */
struct rate_table *rate_new(unsigned slots);
void rate_free(struct rate_table *);

/*
 * May this client (key: a keyed hash of address, service and rule; never 0) send one more
 * now?  false: *retry_after_ms is set, at least 1.  now_us is monotonic; a refused request
 * costs nothing.  burst 0 counts as 1; per_second 0 refuses all.  Never admits more than
 * burst + per_second * t in any time t, whatever the number of threads, as long as the
 * table is not so full that entries with debt must go.  A burst that takes longer than
 * 38 hours to come back (burst / per_second) is cut to that.
 */
bool rate_take(struct rate_table *, uint64_t key, int64_t now_us, unsigned per_second,
    unsigned burst, int64_t *retry_after_ms);

/* The bucket of one connection's useless work ("glitches" in the configuration); one thread. */
struct budget {
	int64_t level_milli; /* tokens * 1000 left */
	int64_t last_ms;
};
void budget_init(struct budget *, unsigned burst, int64_t now_ms);
/* Takes n tokens.  The share used so far in percent (0..100, > 100 = broken). */
unsigned budget_take(
    struct budget *, unsigned n, unsigned burst, unsigned per_second, int64_t now_ms);

#endif
