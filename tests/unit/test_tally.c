/* Counters, windows by a fake clock, quantiles against an exact sort, readers beside writers. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "balancer/hash.h"
#include "balancer/tally.h"

#define BUCKET_ERROR 0.125 /* an eighth: tally.h's log-linear buckets */
#define HOUR         INT64_C(3600000)

static void
add(struct tally *t, unsigned w, int64_t now_ms, int64_t head_us, unsigned status, bool failure)
{
	const struct tally_sample s = {
	    .now_ms = now_ms, .head_us = head_us, .status = status, .failure = failure};

	tally_add(t, w, &s);
}

static struct tally_sum
sum(const struct tally *t, int64_t now_ms, int64_t window_ms)
{
	struct tally_sum s;

	tally_sum(t, now_ms, window_ms, &s);
	return s;
}

static void
assert_about(double is, double expected, double share)
{
	if (fabs(is - expected) > expected * share)
		fail_msg("%f is not %f within %f", is, expected, expected * share);
}

static void
empty(void **state)
{
	struct tally *t = tally_new(4);
	struct tally_sum s = sum(t, HOUR, 30000);

	(void)state;
	assert_int_equal(s.requests, 0);
	assert_int_equal(s.window_requests, 0);
	assert_int_equal(s.inflight, 0);
	assert_true(s.rps == 0 && s.failure_rate == 0 && s.p50_ms == 0 && s.p99_ms == 0);
	/* a clock that has just begun */
	s = sum(t, 0, 30000);
	assert_int_equal(s.window_requests, 0);
	tally_free(t);
	tally_free(NULL);
}

static void
counters_over_workers(void **state)
{
	static const unsigned statuses[] = {
	    101, 200, 204, 302, 404, 500, 503, 599, 0, 99, 600, 999};
	static const uint64_t codes[TALLY_CODES] = {1, 2, 1, 1, 3, 4};
	struct tally *t = tally_new(3);

	(void)state;
	for (unsigned i = 0; i < 12; i++)
		add(t, i % 3, HOUR, 1000, statuses[i], statuses[i] >= 500 || statuses[i] == 0);
	struct tally_sum s = sum(t, HOUR, 30000);
	assert_int_equal(s.requests, 12);
	assert_int_equal(s.window_requests, 12);
	assert_int_equal(s.failures, 6);
	assert_int_equal(s.window_failures, 6);
	assert_about(s.failure_rate, 50, 1e-9);
	for (unsigned i = 0; i < TALLY_CODES; i++)
		assert_int_equal(s.codes[i], codes[i]);
	tally_free(t);
}

static void
inflight(void **state)
{
	struct tally *t = tally_new(2);

	(void)state;
	tally_begin(t, 0);
	tally_begin(t, 0);
	tally_begin(t, 1);
	assert_int_equal(sum(t, HOUR, 30000).inflight, 3);
	tally_end(t, 0);
	assert_int_equal(sum(t, HOUR, 30000).inflight, 2);
	tally_end(t, 0);
	tally_end(t, 1);
	assert_int_equal(sum(t, HOUR, 30000).inflight, 0);
	tally_free(t);
}

static void
window_expires(void **state)
{
	struct tally *t = tally_new(2);

	(void)state;
	add(t, 0, HOUR, 1000, 500, true);
	add(t, 1, HOUR + 999, 1000, 200, false);
	add(t, 1, HOUR + 1000, 1000, 200, false);
	for (int64_t ms = 1000; ms <= 30999; ms += 333)
		assert_int_equal(sum(t, HOUR + ms, 30000).window_requests, 3);
	/* a second lives until the window has left it whole */
	assert_int_equal(sum(t, HOUR + 30999, 30000).window_failures, 1);
	assert_int_equal(sum(t, HOUR + 31000, 30000).window_requests, 1);
	assert_int_equal(sum(t, HOUR + 31000, 30000).window_failures, 0);
	assert_int_equal(sum(t, HOUR + 32000, 30000).window_requests, 0);
	assert_int_equal(sum(t, HOUR + 32000, 60000).window_requests, 3);
	assert_int_equal(sum(t, HOUR + 61000, 60000).window_requests, 1);
	/* at least one second, at most a minute */
	assert_int_equal(sum(t, HOUR + 1999, 1).window_requests, 3);
	assert_int_equal(sum(t, HOUR + 2000, 1).window_requests, 1);
	assert_int_equal(sum(t, HOUR + 62000, HOUR).window_requests, 0);
	/* life goes on counting */
	assert_int_equal(sum(t, HOUR + 62000, 30000).requests, 3);
	tally_free(t);
}

static void
slots_are_used_again(void **state)
{
	struct tally *t = tally_new(1);

	(void)state;
	/* five times round the ring, a second at a time, second s having s % 7 + 1 requests */
	for (int64_t s = 0; s < 5L * TALLY_SLOTS; s++) {
		for (int64_t i = 0; i <= s % 7; i++)
			add(t, 0, HOUR + s * 1000 + i, 1000 * (s + 1), 200, i == 0);
		uint64_t requests = 0, seconds = 0;
		for (int64_t back = s; back >= 0 && back >= s - 10; back--) {
			requests += (uint64_t)(back % 7 + 1);
			seconds++;
		}
		struct tally_sum got = sum(t, HOUR + s * 1000 + 999, 10000);
		assert_int_equal(got.window_requests, requests);
		assert_int_equal(got.window_failures, seconds);
		/* and the histogram is the window's too */
		assert_true(got.p99_ms <= (double)(s + 1) * (1 + BUCKET_ERROR));
		assert_true(got.p50_ms >= (double)(s - 10) * (1 - BUCKET_ERROR));
	}
	/* the same slot after a long silence */
	int64_t later = HOUR + 1000L * TALLY_SLOTS * 1000;
	add(t, 0, later, 1000, 200, false);
	assert_int_equal(sum(t, later, 60000).window_requests, 1);
	tally_free(t);
}

static void
rps_is_sensible(void **state)
{
	struct tally *t = tally_new(2);

	(void)state;
	/* the first request is no thousand per second */
	add(t, 0, HOUR + 500, 1000, 200, false);
	assert_about(sum(t, HOUR + 500, 30000).rps, 1, 1e-9);
	assert_about(sum(t, HOUR + 501, 30000).rps, 1, 1e-9);
	/* ten a second, for the first five seconds, from the second worker on: over five seconds */
	for (int64_t ms = 600; ms < 5500; ms += 100)
		add(t, 1, HOUR + ms, 1000, 200, false);
	assert_about(sum(t, HOUR + 5500, 30000).rps, 10, 0.01);
	for (int64_t ms = 5500; ms < 120000; ms += 100)
		add(t, 1, HOUR + ms, 1000, 200, false);
	for (int64_t ms = 120000; ms < 121000; ms += 50)
		assert_about(sum(t, HOUR + ms, 10000).rps, 10, 0.10);
	/* and dies away */
	assert_about(sum(t, HOUR + 125000, 10000).rps, 5, 0.1);
	assert_true(sum(t, HOUR + 140000, 10000).rps == 0);
	tally_free(t);
}

static int
compare(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static double
exact_ms(const int64_t *sorted, unsigned n, unsigned per_mille)
{
	return (double)sorted[(n * per_mille + 999) / 1000 - 1] / 1000;
}

/* Several shapes of latency over four workers, against the sorted values themselves. */
static void
quantiles(void **state)
{
	static const unsigned counts[] = {1, 2, 10, 100, 20000};
	struct random r;

	(void)state;
	random_seed(&r, 7);
	for (unsigned shape = 0; shape < 4; shape++) {
		for (unsigned c = 0; c < 5; c++) {
			struct tally *t = tally_new(4);
			unsigned n = counts[c];
			int64_t *values = calloc(n, sizeof *values);

			for (unsigned i = 0; i < n; i++) {
				double u = (double)(random_next(&r) >> 11) / 9007199254740992.0;
				double us = shape == 0   ? 100 + u * 1e6     /* even */
					    : shape == 1 ? 100 * exp(u * 15) /* 0.1 ms .. 5 min */
					    : shape == 2
						? -20000 * log(1 - u) + 100 /* exponential */
					    : u < 0.9 ? 3000 + u * 100
						      : 2e6 + u * 1e5; /* two humps */

				values[i] = (int64_t)us;
				add(t, i % 4, HOUR + i % 20000, values[i], 200, false);
			}
			qsort(values, n, sizeof *values, compare);
			struct tally_sum s = sum(t, HOUR + 20000, 30000);
			assert_about(s.p50_ms, exact_ms(values, n, 500), BUCKET_ERROR);
			assert_about(s.p95_ms, exact_ms(values, n, 950), BUCKET_ERROR);
			assert_about(s.p99_ms, exact_ms(values, n, 990), BUCKET_ERROR);
			free(values);
			tally_free(t);
		}
	}
}

static void
extreme_latencies(void **state)
{
	static const int64_t us[] = {
	    100, 101, 112, 113, 199, 200, 12345, 59999999, 600000000, 800000000};
	struct tally *t = tally_new(1);
	int64_t now = HOUR;

	(void)state;
	for (unsigned i = 0; i < 10; i++, now += 100000) {
		add(t, 0, now, us[i], 200, false);
		assert_about(sum(t, now, 1000).p50_ms, (double)us[i] / 1000, BUCKET_ERROR);
	}
	add(t, 0, now, 0, 200, false);
	assert_true(sum(t, now, 1000).p50_ms <= 0.1);
	now += 100000;
	add(t, 0, now, INT64_MAX, 200, false);
	assert_true(sum(t, now, 1000).p50_ms >= 600000);
	now += 100000;
	/* no response head: counts, but has no latency */
	add(t, 0, now, -1, 0, true);
	assert_int_equal(sum(t, now, 1000).window_requests, 1);
	assert_true(sum(t, now, 1000).p99_ms == 0);
	tally_free(t);
}

static void
histogram_of_life(void **state)
{
	static const int64_t bounds[] = {100, 800, 1600, 2000, 1000000, HOUR * 1000};
	uint64_t counts[6], count, sum_us;
	struct tally *t = tally_new(2);

	(void)state;
	tally_histogram(t, bounds, 6, counts, &count, &sum_us);
	assert_int_equal(count, 0);
	assert_int_equal(counts[5], 0);
	for (unsigned i = 0; i < 10; i++) {
		add(t, i % 2, HOUR + i * 200000, 50, 200, false);
		add(t, i % 2, HOUR + i * 200000, 799, 200, false);
		add(t, i % 2, HOUR + i * 200000, 800, 200, false);
		add(t, i % 2, HOUR + i * 200000, 500000, 200, false);
		add(t, i % 2, HOUR + i * 200000, -1, 0, true);
	}
	tally_histogram(t, bounds, 6, counts, &count, &sum_us);
	assert_int_equal(count, 40);
	assert_int_equal(sum_us, 10 * (50 + 799 + 800 + 500000));
	/* 100 * 2^k is a border of buckets, so these are exact */
	assert_int_equal(counts[0], 10);
	assert_int_equal(counts[1], 20);
	assert_int_equal(counts[2], 30);
	assert_int_equal(counts[3], 30);
	assert_int_equal(counts[4], 40);
	assert_int_equal(counts[5], 40);
	tally_free(t);
}

static void
histogram_grows_with_bounds(void **state)
{
	struct tally *t = tally_new(1);
	int64_t bounds[200];
	uint64_t counts[200], count, sum_us;
	struct random r;

	(void)state;
	random_seed(&r, 3);
	for (unsigned i = 0; i < 10000; i++)
		add(t, 0, HOUR, (int64_t)(random_next(&r) % 2000000), 200, false);
	for (unsigned i = 0; i < 200; i++)
		bounds[i] = i * 10000;
	tally_histogram(t, bounds, 200, counts, &count, &sum_us);
	assert_int_equal(counts[0], 0);
	for (unsigned i = 1; i < 200; i++) {
		assert_true(counts[i] >= counts[i - 1] && counts[i] <= count);
		assert_in_range(counts[i] + 200, i * 50, i * 50 + 400);
	}
	tally_free(t);
}

struct writer {
	pthread_t thread;
	struct tally *tally;
	unsigned w;
};

enum { WRITES = 100000 };

/* Through 1,000 seconds, so that slots are used again under the reader's eyes. */
static void *
write_many(void *arg)
{
	struct writer *me = arg;

	for (unsigned i = 0; i < WRITES; i++) {
		tally_begin(me->tally, me->w);
		add(me->tally, me->w, HOUR + i * 10, 1000, 200, i % 10 == 0);
		tally_end(me->tally, me->w);
	}
	return NULL;
}

/* For -fsanitize=thread, and for sums that must never be out of the possible. */
static void
readers_beside_writers(void **state)
{
	struct tally *t = tally_new(2);
	struct writer writers[2] = {{.tally = t, .w = 0}, {.tally = t, .w = 1}};
	uint64_t before = 0;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
		    pthread_create(&writers[i].thread, NULL, write_many, &writers[i]), 0);
	do {
		struct tally_sum s = sum(t, HOUR + 10 * WRITES, 60000);
		int64_t bound = 1000000;
		uint64_t counts, count, sum_us;

		assert_true(s.requests >= before && s.requests <= 2 * WRITES);
		assert_true(s.inflight <= 2);
		assert_true(s.window_requests <= 2 * 6101);
		before = s.requests;
		tally_histogram(t, &bound, 1, &counts, &count, &sum_us);
		assert_true(count <= 2 * WRITES);
	} while (before < 2 * WRITES);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
	struct tally_sum s = sum(t, HOUR + 10 * WRITES, 60000);
	assert_int_equal(s.failures, 2 * WRITES / 10);
	assert_int_equal(s.window_requests, 2 * 6000);
	assert_int_equal(s.window_failures, 2 * 600);
	assert_int_equal(s.inflight, 0);
	tally_free(t);
}

/* --- generations and the guard's look --------------------------------------------- */

static void
add_of(struct tally *t, unsigned w, uint32_t generation, int64_t now_ms, bool failure)
{
	const struct tally_sample s = {.now_ms = now_ms,
	    .head_us = 1000,
	    .status = 200,
	    .failure = failure,
	    .generation = generation};

	tally_add(t, w, &s);
}

static struct tally_look
look(const struct tally *t, int64_t now_ms, int64_t slow_us)
{
	struct tally_look l;

	tally_look(t, now_ms, 30000, slow_us, &l);
	return l;
}

static void
restart_empties_windows(void **state)
{
	struct tally *t = tally_new(2);

	(void)state;
	assert_int_equal(tally_generation(t), 0);
	for (unsigned i = 0; i < 10; i++)
		add_of(t, i % 2, 0, HOUR + i * 1000, true);
	assert_int_equal(sum(t, HOUR + 10000, 30000).window_failures, 10);
	tally_restart(t, HOUR + 10000);
	assert_int_equal(tally_generation(t), 1);
	struct tally_sum s = sum(t, HOUR + 10000, 30000);
	assert_int_equal(s.window_requests, 0);
	assert_int_equal(s.requests, 10);
	assert_int_equal(s.failures, 10);
	assert_int_equal(look(t, HOUR + 10000, 0).requests, 0);
	/* what began before counts in the life only, in a cell that was emptied and in one that was not */
	add_of(t, 0, 1, HOUR + 10000, false);
	add_of(t, 0, 0, HOUR + 10001, true);
	add_of(t, 1, 0, HOUR + 10002, true);
	s = sum(t, HOUR + 11000, 30000);
	assert_int_equal(s.window_requests, 1);
	assert_int_equal(s.window_failures, 0);
	assert_int_equal(s.requests, 13);
	assert_int_equal(s.failures, 12);
	assert_int_equal(tally_requests(t), 13);
	add_of(t, 1, 1, HOUR + 11000, true);
	assert_int_equal(look(t, HOUR + 11000, 0).requests, 2);
	assert_int_equal(look(t, HOUR + 11000, 0).failures, 1);
	/* in the very second, and again */
	tally_restart(t, HOUR + 11000);
	tally_restart(t, HOUR + 11000);
	add_of(t, 0, 2, HOUR + 11000, true);
	add_of(t, 1, 3, HOUR + 11000, false);
	assert_int_equal(look(t, HOUR + 11000, 0).requests, 1);
	assert_int_equal(look(t, HOUR + 11000, 0).failures, 0);
	tally_free(t);
}

static void
rps_begins_at_the_restart(void **state)
{
	struct tally *t = tally_new(1);

	(void)state;
	for (int64_t ms = 0; ms < 30000; ms += 100)
		add_of(t, 0, 0, HOUR + ms, false);
	tally_restart(t, HOUR + 30000);
	for (int64_t ms = 30000; ms < 34000; ms += 100)
		add_of(t, 0, 1, HOUR + ms, false);
	assert_about(sum(t, HOUR + 34000, 30000).rps, 10, 0.01);
	for (int64_t ms = 34000; ms < 94000; ms += 100)
		add_of(t, 0, 1, HOUR + ms, false);
	assert_about(sum(t, HOUR + 94000, 30000).rps, 10, 0.04);
	tally_free(t);
}

static void
look_is_the_sum(void **state)
{
	struct tally *t = tally_new(3);
	struct random r;

	(void)state;
	random_seed(&r, 11);
	for (unsigned i = 0; i < 20000; i++) {
		int64_t now = HOUR + i * 3, us = (int64_t)(random_next(&r) % 3000000);

		add(t, i % 3, now, i % 50 == 0 ? -1 : us, 200, i % 17 == 0);
		if (i % 100 != 0)
			continue;
		struct tally_sum s = sum(t, now, 30000);
		struct tally_look l = look(t, now, 1000000);
		assert_int_equal(l.requests, s.window_requests);
		assert_int_equal(l.failures, s.window_failures);
		assert_about(l.p95_ms, s.p95_ms, 1e-9);
		assert_true(l.slow <= l.requests);
	}
	/* two thirds are slower; a bucket's width may be missed, nothing is made up */
	struct tally_look l = look(t, HOUR + 60000, 1000000);
	double slow = (double)l.slow / (double)l.requests / 0.98;
	assert_true(slow <= 0.68 && slow >= 0.62);
	tally_free(t);
}

static void
nobody_is_slow_by_a_bucket(void **state)
{
	struct tally *t = tally_new(1);

	(void)state;
	for (int64_t us = 900000; us <= 1000000; us += 1000)
		add(t, 0, HOUR, us, 200, false);
	assert_int_equal(look(t, HOUR, 1000000).slow, 0);
	add(t, 0, HOUR, 1125000, 200, false);
	add(t, 0, HOUR, INT64_MAX, 200, false);
	assert_int_equal(look(t, HOUR, 1000000).slow, 2);
	assert_int_equal(look(t, HOUR, 0).slow, 0);
	/* a limit on the border of a bucket counts the bucket */
	add(t, 0, HOUR + 100000, 800, 200, false);
	add(t, 0, HOUR + 100000, 799, 200, false);
	assert_int_equal(look(t, HOUR + 100000, 800).slow, 1);
	assert_int_equal(look(t, HOUR + 100000, 1).slow, 2);
	tally_free(t);
}

/* Neither answered nor failed: in no window, though it is a request. */
static void
unknown_is_in_no_window(void **state)
{
	struct tally *t = tally_new(2);
	struct tally_sample s = {.now_ms = HOUR, .head_us = -1, .unknown = true};

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		tally_add(t, i % 2, &s);
	assert_int_equal(look(t, HOUR, 1000).requests, 0);
	assert_int_equal(sum(t, HOUR, 30000).window_requests, 0);
	assert_int_equal(sum(t, HOUR, 30000).requests, 10);
	assert_int_equal(tally_requests(t), 10);
	/* beside those that are known */
	s.unknown = false;
	s.head_us = 5000;
	tally_add(t, 0, &s);
	assert_int_equal(look(t, HOUR, 1000).requests, 1);
	assert_int_equal(look(t, HOUR, 1000).slow, 1);
	assert_int_equal(sum(t, HOUR, 30000).requests, 11);
	tally_free(t);
}

static void
overdue_is_of_its_generation(void **state)
{
	struct tally *t = tally_new(3);

	(void)state;
	tally_overdue(t, 0, 2);
	tally_overdue(t, 2, 3);
	assert_int_equal(look(t, HOUR, 1000).overdue, 5);
	assert_int_equal(look(t, HOUR, 0).overdue, 0);
	tally_overdue(t, 0, 1);
	assert_int_equal(look(t, HOUR, 1000).overdue, 4);
	/* until a worker has counted anew it has said nothing */
	tally_restart(t, HOUR);
	assert_int_equal(look(t, HOUR, 1000).overdue, 0);
	tally_overdue(t, 1, UINT32_MAX);
	assert_int_equal(look(t, HOUR, 1000).overdue, UINT32_MAX);
	tally_free(t);
}

static void *
write_generations(void *arg)
{
	struct writer *me = arg;

	for (unsigned i = 0; i < WRITES; i++)
		add_of(me->tally, me->w, tally_generation(me->tally), HOUR + i / 100, true);
	return NULL;
}

/* All in two minutes of one window: after the last restart no more can be seen than was written since. */
static void
restarts_beside_writers(void **state)
{
	struct tally *t = tally_new(2);
	struct writer writers[2] = {{.tally = t, .w = 0}, {.tally = t, .w = 1}};
	uint64_t written = 0;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
		    pthread_create(&writers[i].thread, NULL, write_generations, &writers[i]), 0);
	do {
		uint64_t before = tally_requests(t);

		tally_restart(t, HOUR);
		struct tally_look l = look(t, HOUR, 1000);
		written = tally_requests(t);
		/* each writer may be in the middle of one */
		assert_true(l.requests <= written - before + 2);
	} while (written < 2 * WRITES);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
	assert_int_equal(sum(t, HOUR, 60000).failures, 2 * WRITES);
	tally_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(empty),
	    cmocka_unit_test(counters_over_workers),
	    cmocka_unit_test(inflight),
	    cmocka_unit_test(window_expires),
	    cmocka_unit_test(slots_are_used_again),
	    cmocka_unit_test(rps_is_sensible),
	    cmocka_unit_test(quantiles),
	    cmocka_unit_test(extreme_latencies),
	    cmocka_unit_test(histogram_of_life),
	    cmocka_unit_test(histogram_grows_with_bounds),
	    cmocka_unit_test(readers_beside_writers),
	    cmocka_unit_test(restart_empties_windows),
	    cmocka_unit_test(rps_begins_at_the_restart),
	    cmocka_unit_test(look_is_the_sum),
	    cmocka_unit_test(nobody_is_slow_by_a_bucket),
	    cmocka_unit_test(overdue_is_of_its_generation),
	    cmocka_unit_test(unknown_is_in_no_window),
	    cmocka_unit_test(restarts_beside_writers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
