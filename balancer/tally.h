/*
 * What was seen of one color of one service: counters, a window of one-second slots, and
 * a latency histogram (log-linear, 8 sub-buckets per power of two, 100 us .. > 10 min).
 *
 * Cells are per worker: one writer each (that worker), read by anyone, relaxed atomics
 * with plain load/store by the writer (no lock-prefixed instruction on the request path).
 * Padded to cache lines.  The reader sums the cells.  A slot belongs to one second;
 * the writer clears it when it enters a new one; readers skip slots too old.
 */
#ifndef TEAL_TALLY_H
#define TEAL_TALLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TALLY_SLOTS 64 /* seconds kept; windows are at most 60 s */
#define TALLY_CODES 6  /* 1xx..5xx at [0..4], [5] = failed without an answer */

struct tally;

struct tally *tally_new(unsigned n_workers);
void tally_free(struct tally *);

struct tally_sample {
	int64_t now_ms;  /* monotonic */
	int64_t head_us; /* to the response head; < 0: there was none */
	unsigned status; /* as answered by the backend; 0: none */
	bool failure;
	bool unknown; /* neither answered nor failed: it counts in no window */
	/* tally_generation() when the exchange began; of an older one only the life-long counters
	 * count */
	uint32_t generation;
};
/* Worker `w` records one ended exchange. */
void tally_add(struct tally *, unsigned w, const struct tally_sample *);
/* Exchanges begun and not ended, per worker cell. */
void tally_begin(struct tally *, unsigned w);
void tally_end(struct tally *, unsigned w);
/* How many of worker w's exchanges are unanswered for longer than the limit; published by it on its
 * tick. A restart forgets it: publish again at each tick, also when the number is the same. */
void tally_overdue(struct tally *, unsigned w, uint32_t n);

/* Control: windows begin anew; what began before counts no more in them.  Life-long counters go on.
 * The window's span (for rps) begins at now_ms. */
void tally_restart(struct tally *, int64_t now_ms);
/* Which beginning this is; taken when an exchange begins. */
uint32_t tally_generation(const struct tally *);

struct tally_sum {
	uint64_t requests, failures; /* since the start */
	uint64_t codes[TALLY_CODES];
	uint64_t inflight;
	uint64_t window_requests, window_failures;
	double rps, failure_rate;      /* of the window; percent */
	double p50_ms, p95_ms, p99_ms; /* of the window; 0 when empty */
};
/* window_ms: 1 s .. 60 s (cut to that); the second in which it begins counts whole. rps is over
 * the time looked at, at least a second. Any thread; a few us a worker. */
void tally_sum(const struct tally *, int64_t now_ms, int64_t window_ms, struct tally_sum *out);

/* What the guard asks: as tally_sum() but only this, in one pass.  slow_us: answers slower than
 * that are slow; 0: none. Answers are kept in buckets, and only those that are slow as a whole
 * count: up to an eighth above slow_us may go unseen. */
struct tally_look {
	uint64_t requests, failures, slow, overdue;
	double p95_ms;
};
void tally_look(const struct tally *, int64_t now_ms, int64_t window_ms, int64_t slow_us,
    struct tally_look *out);
/* Begun and not ended, all workers. */
uint64_t tally_inflight(const struct tally *);
/* Requests since the start, all workers. */
uint64_t tally_requests(const struct tally *);

/* The whole-life histogram for /metrics: cumulative counts at `n` upper bounds in us; sum in us,
 * count. */
void tally_histogram(const struct tally *, const int64_t *bounds_us, unsigned n, uint64_t *counts,
    uint64_t *count, uint64_t *sum_us);

#endif
