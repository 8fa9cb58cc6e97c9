/* GCRA is exact: bursts, steady rates, threads; what a full table does; the glitch budget. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "balancer/hash.h"
#include "balancer/rate.h"

#define SECOND INT64_C(1000000)
#define DAY    (86400 * SECOND)

static unsigned
take_all(struct rate_table *t, uint64_t key, int64_t now, unsigned rate, unsigned burst)
{
	int64_t retry;
	unsigned n = 0;

	while (rate_take(t, key, now, rate, burst, &retry))
		n++;
	return n;
}

static void
burst_then_rate(void **state)
{
	struct rate_table *t = rate_new(1024);
	int64_t retry = 0, now = 5 * SECOND;

	(void)state;
	assert_int_equal(take_all(t, 1, now, 10, 20), 20);
	assert_false(rate_take(t, 1, now, 10, 20, &retry));
	assert_int_equal(retry, 100);
	/* one every 100 ms, and not a microsecond earlier */
	for (unsigned i = 1; i <= 50; i++) {
		assert_false(rate_take(t, 1, now + i * 100000 - 1, 10, 20, &retry));
		assert_int_equal(retry, 1);
		assert_true(rate_take(t, 1, now + i * 100000, 10, 20, &retry));
	}
	/* others are not concerned */
	assert_int_equal(take_all(t, 2, now, 10, 20), 20);
	/* what was saved up: 700 ms are seven */
	now += 50 * 100000 + 700000;
	assert_int_equal(take_all(t, 1, now, 10, 20), 7);
	/* never more than the burst */
	assert_int_equal(take_all(t, 1, now + 3600 * SECOND, 10, 20), 20);
	rate_free(t);
	rate_free(NULL);
}

static void
retry_after_is_true(void **state)
{
	static const unsigned rates[] = {1, 3, 7, 10, 999, 5000};
	struct rate_table *t = rate_new(64);

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		int64_t now = SECOND, retry = 0;

		(void)take_all(t, 100 + i, now, rates[i], 5);
		assert_false(rate_take(t, 100 + i, now, rates[i], 5, &retry));
		assert_true(retry >= 1);
		if (retry > 1)
			assert_false(rate_take(
			    t, 100 + i, now + (retry - 1) * 1000, rates[i], 5, &(int64_t){0}));
		assert_true(rate_take(t, 100 + i, now + retry * 1000, rates[i], 5, &retry));
	}
	rate_free(t);
}

/* A refused request costs nothing: who keeps knocking is served at the rate all the same. */
static void
knocking_is_free(void **state)
{
	struct rate_table *t = rate_new(64);
	unsigned served = 0;
	int64_t retry;

	(void)state;
	for (int64_t us = 0; us < 10 * SECOND; us += 100)
		served += rate_take(t, 9, SECOND + us, 50, 5, &retry);
	assert_int_equal(served, 5 + 499);
	rate_free(t);
}

static void
odd_rates(void **state)
{
	static const unsigned rates[] = {1, 3, 7, 60, 333, 1000, 7000, 300000};
	struct rate_table *t = rate_new(64);
	int64_t retry = 0;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		unsigned served = 0;
		int64_t step = SECOND / rates[i] / 3 + 1;

		for (int64_t us = 0; us < 10 * SECOND && served < 100000; us += step)
			served += rate_take(t, 50 + i, DAY + us, rates[i], 1, &retry);
		/* never more; less only by the rounding to microseconds and the sampling */
		if (rates[i] <= 1000)
			assert_in_range(served, rates[i] * 10 * 9 / 10, rates[i] * 10 + 1);
	}
	/* no burst is a burst of one, no rate is none */
	assert_int_equal(take_all(t, 70, DAY, 10, 0), 1);
	assert_false(rate_take(t, 71, DAY, 0, 10, &retry));
	assert_true(retry > 0);
	/* absurd numbers end somewhere */
	assert_true(rate_take(t, 72, DAY, UINT32_MAX, UINT32_MAX, &retry));
	assert_int_equal(take_all(t, 73, DAY, 1, UINT32_MAX), 137438);
	rate_free(t);
}

/* An interval that is no whole number of microseconds is rounded to the client's cost. */
static void
rates_round_down(void **state)
{
	static const unsigned rates[] = {3, 7000, 70000};
	struct rate_table *t = rate_new(64);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		unsigned served = 0;
		int64_t retry;

		for (int64_t us = 0; us < SECOND; us++)
			served += rate_take(t, 80 + i, DAY + us, rates[i], 1, &retry);
		assert_in_range(served, rates[i] - rates[i] / 15, rates[i]);
	}
	rate_free(t);
}

/* The clock's 40 bits come round; who was idle meanwhile starts afresh. */
static void
clock_comes_round(void **state)
{
	struct rate_table *t = rate_new(64);

	(void)state;
	for (int64_t day = 0; day < 60; day++) {
		for (int64_t hour = 0; hour < 24; hour += 6) {
			int64_t now = day * DAY + hour * 3600 * SECOND;

			assert_int_equal(take_all(t, 5, now, 10, 20), 20);
			assert_int_equal(take_all(t, 5, now + SECOND, 10, 20), 10);
		}
	}
	/* across the very border */
	int64_t border = INT64_C(1) << 40;
	assert_int_equal(take_all(t, 6, border - SECOND, 10, 20), 20);
	assert_int_equal(take_all(t, 6, border, 10, 20), 10);
	assert_int_equal(take_all(t, 6, border + SECOND, 10, 20), 10);
	/* a clock a little behind another worker's gives nothing away */
	assert_int_equal(take_all(t, 6, border + SECOND - 5000, 10, 20), 0);
	/* idle for a week, ten days, a month */
	assert_int_equal(take_all(t, 6, border + 7 * DAY, 10, 20), 20);
	assert_int_equal(take_all(t, 6, border + 17 * DAY, 10, 20), 20);
	assert_int_equal(take_all(t, 6, border + 47 * DAY, 10, 20), 20);
	rate_free(t);
}

/* An empty slot's time is 0, which shortly before the border looks like the near future: it
 * is taken first all the same. */
static void
empty_slots_go_first(void **state)
{
	struct rate_table *t = rate_new(8);
	int64_t now = (INT64_C(1) << 40) - 100 * SECOND, retry;

	(void)state;
	assert_int_equal(take_all(t, 1, now, 1, 10), 10);
	for (uint64_t key = 2; key <= 8; key++)
		assert_true(rate_take(t, key, now, 1, 20, &retry));
	assert_int_equal(take_all(t, 1, now, 1, 10), 0);
	rate_free(t);
}

/* Eight slots are one neighbourhood: the ninth client displaces the one idle longest. */
static void
full_table_gives_up_the_idlest(void **state)
{
	struct rate_table *t = rate_new(8);
	int64_t now = 100 * SECOND, retry;

	(void)state;
	/* client i owes until i seconds later */
	for (uint64_t i = 1; i <= 8; i++) {
		for (uint64_t k = 0; k < i; k++)
			assert_true(rate_take(t, i, now, 1, 8, &retry));
	}
	for (uint64_t i = 1; i <= 8; i++)
		assert_int_equal(take_all(t, i, now, 1, (unsigned)i), 0);
	assert_true(rate_take(t, 9, now, 1, 100, &retry));
	/* client 1 was forgotten, 2..8 were not */
	for (uint64_t i = 2; i <= 8; i++)
		assert_int_equal(take_all(t, i, now, 1, (unsigned)i), 0);
	assert_true(rate_take(t, 1, now, 1, 1, &retry));
	rate_free(t);
}

/* A flood of addresses seen once does not wash out who is being held back. */
static void
flood_of_addresses(void **state)
{
	struct rate_table *t = rate_new(4096);
	int64_t now = 100 * SECOND;

	(void)state;
	assert_int_equal(take_all(t, 77, now, 10, 1000), 1000);
	for (uint64_t i = 0; i < 100000; i++) {
		int64_t retry;

		assert_true(rate_take(t, hash_mix(i) | 1, now, 1000, 10, &retry));
	}
	assert_int_equal(take_all(t, 77, now, 10, 1000), 0);
	rate_free(t);
}

static void
many_clients_fit(void **state)
{
	enum { CLIENTS = 20000 };
	struct rate_table *t = rate_new(65536);
	unsigned more = 0;
	int64_t retry;

	(void)state;
	for (uint64_t i = 1; i <= CLIENTS; i++)
		assert_int_equal(take_all(t, i, SECOND, 1, 3), 3);
	for (uint64_t i = 1; i <= CLIENTS; i++)
		more += rate_take(t, i, SECOND, 1, 3, &retry);
	/* at a third full few neighbourhoods of eight overflow: less than 1 % are forgotten */
	assert_true(more < CLIENTS / 100);
	rate_free(t);
}

enum { THREADS = 4, KEYS = 3, RATE = 1000, BURST = 50 };

struct taker {
	pthread_t thread;
	struct rate_table *table;
	_Atomic int64_t *clock;
	unsigned served[KEYS];
};

/* All threads move one fake clock on, and take what they get. */
static void *
take_much(void *arg)
{
	struct taker *me = arg;

	for (unsigned i = 0; i < 100000; i++) {
		int64_t retry, now = SECOND + atomic_fetch_add(me->clock, 7);

		me->served[i % KEYS] +=
		    rate_take(me->table, 1000 + i % KEYS, now, RATE, BURST, &retry);
	}
	return NULL;
}

static void
threads_admit_no_more(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		struct rate_table *t = rate_new(round % 2 == 0 ? 8 : 1024);
		_Atomic int64_t clock = 0;
		struct taker takers[THREADS];

		for (unsigned i = 0; i < THREADS; i++) {
			takers[i] = (struct taker){.table = t, .clock = &clock};
			assert_int_equal(
			    pthread_create(&takers[i].thread, NULL, take_much, &takers[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(takers[i].thread, NULL), 0);
		int64_t elapsed_us = atomic_load(&clock);
		for (unsigned k = 0; k < KEYS; k++) {
			unsigned served = 0;

			for (unsigned i = 0; i < THREADS; i++)
				served += takers[i].served[k];
			unsigned most = BURST + (unsigned)(RATE * elapsed_us / SECOND);
			/* and hardly less: there was always somebody asking */
			assert_in_range(served, most - most / 20, most);
		}
		rate_free(t);
	}
}

enum { NEWCOMERS = 3000 };

struct newcomer {
	pthread_t thread;
	struct rate_table *table;
	pthread_barrier_t *barrier;
	uint64_t own;
	unsigned char served[NEWCOMERS];
};

/* A client nobody has seen comes to all threads at once, and each has one of its own besides
 * that wants a slot too. */
static void *
come_new(void *arg)
{
	struct newcomer *me = arg;

	for (unsigned i = 0; i < NEWCOMERS; i++) {
		int64_t now = (i + 1) * 10 * SECOND;

		(void)pthread_barrier_wait(me->barrier);
		if (i % 2 == 0)
			(void)take_all(me->table, me->own + i, now, 1, 2);
		me->served[i] = (unsigned char)take_all(me->table, i + 1, now, 1, 2);
		if (i % 2 == 1)
			(void)take_all(me->table, me->own + i, now, 1, 2);
	}
	return NULL;
}

static void
newcomers_enter_once(void **state)
{
	struct newcomer *all = calloc(THREADS, sizeof *all);
	struct rate_table *t = rate_new(8);
	pthread_barrier_t barrier;

	(void)state;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		all[i].table = t;
		all[i].barrier = &barrier;
		all[i].own = 1000000 * (i + 1);
		assert_int_equal(pthread_create(&all[i].thread, NULL, come_new, &all[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(all[i].thread, NULL), 0);
	for (unsigned n = 0; n < NEWCOMERS; n++) {
		unsigned served = 0;

		for (unsigned i = 0; i < THREADS; i++)
			served += all[i].served[n];
		assert_int_equal(served, 2);
	}
	assert_int_equal(pthread_barrier_destroy(&barrier), 0);
	rate_free(t);
	free(all);
}

static void
budget(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, 100, 1000);
	assert_int_equal(budget_take(&b, 0, 100, 10, 1000), 0);
	assert_int_equal(budget_take(&b, 74, 100, 10, 1000), 74);
	assert_int_equal(budget_take(&b, 1, 100, 10, 1000), 75);
	assert_int_equal(budget_take(&b, 25, 100, 10, 1000), 100);
	assert_int_equal(budget_take(&b, 1, 100, 10, 1000), 101);
	/* given back: 10 a second */
	assert_int_equal(budget_take(&b, 0, 100, 10, 1100), 100);
	assert_int_equal(budget_take(&b, 0, 100, 10, 2100), 90);
	/* in thousandths: what a millisecond gives is not lost */
	for (int64_t ms = 2101; ms <= 3100; ms++)
		(void)budget_take(&b, 0, 100, 10, ms);
	assert_int_equal(budget_take(&b, 0, 100, 10, 3100), 80);
	/* never more than the burst, whatever the pause; a clock that stands gives nothing */
	assert_int_equal(budget_take(&b, 0, 100, 10, INT64_MAX / 2), 0);
	assert_int_equal(budget_take(&b, 5, 100, 10, INT64_MAX / 2), 5);
	assert_int_equal(budget_take(&b, 0, 100, 10, 0), 5);
}

static void
budget_extremes(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, 1000, 0);
	/* the first token too many of a large budget says so */
	assert_int_equal(budget_take(&b, 1000, 1000, 1, 0), 100);
	assert_true(budget_take(&b, 1, 1000, 1, 0) > 100);
	assert_true(budget_take(&b, UINT32_MAX, 1000, 1, 0) > 100);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(budget_take(&b, UINT32_MAX, 1000, UINT32_MAX, 0) > 100);
	/* back in finite time */
	assert_true(budget_take(&b, 0, 1000, 1, 2002000) <= 100);
	budget_init(&b, UINT32_MAX, 0);
	assert_int_equal(budget_take(&b, 1, UINT32_MAX, UINT32_MAX, INT64_MAX), 1);
	/* no budget at all */
	budget_init(&b, 0, 0);
	assert_int_equal(budget_take(&b, 0, 0, 10, 1000), 0);
	assert_true(budget_take(&b, 1, 0, 10, 1000) > 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(burst_then_rate),
	    cmocka_unit_test(retry_after_is_true),
	    cmocka_unit_test(knocking_is_free),
	    cmocka_unit_test(odd_rates),
	    cmocka_unit_test(rates_round_down),
	    cmocka_unit_test(clock_comes_round),
	    cmocka_unit_test(empty_slots_go_first),
	    cmocka_unit_test(full_table_gives_up_the_idlest),
	    cmocka_unit_test(flood_of_addresses),
	    cmocka_unit_test(many_clients_fit),
	    cmocka_unit_test(threads_admit_no_more),
	    cmocka_unit_test(newcomers_enter_once),
	    cmocka_unit_test(budget),
	    cmocka_unit_test(budget_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
