/*
 * The guard over real tallies: exchanges go in as a worker would count them, and the course says what came of it.
 * Time is a number.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/guard.h"
#include "balancer/hash.h"
#include "balancer/split.h"
#include "balancer/tally.h"

#define HOUR      INT64_C(3600000)
#define BACKENDS  4
#define N_WORKERS 2

struct world {
	struct service service;
	struct service_config config;
	struct service_state state;
	struct backend backends[N_COLORS][BACKENDS];
	struct member members[N_COLORS][BACKENDS];
	int64_t now_ms;
	unsigned worker; /* who counts next */
	struct verdict verdict;
	struct random random;
};

/* Blue is live, nothing has weight. */
static struct world *
world_new(void)
{
	struct world *w = calloc(1, sizeof *w);

	w->now_ms = HOUR;
	random_seed(&w->random, 1);
	w->config.rollout.limits = (struct limits_config){.failure_rate_bp = 100,
	    .p95_ms = 1000,
	    .window_ms = 30000,
	    .min_requests = 20,
	    .min_failures = 3,
	    .relative = true,
	    .healthy_backends_bp = 5000,
	    .confidence_bp = 9990};
	w->service.config = &w->config;
	w->service.state = &w->state;
	w->state.course = course_of(BLUE, 0);
	for (unsigned c = 0; c < N_COLORS; c++) {
		w->state.tally[c] = tally_new(N_WORKERS);
		for (unsigned i = 0; i < BACKENDS; i++) {
			w->backends[c][i].state = BACKEND_UP;
			w->members[c][i] =
			    (struct member){.backend = &w->backends[c][i], .weight = 1};
		}
		w->service.pools[c] = (struct pool){.color = (enum color)c,
		    .members = w->members[c],
		    .n_members = BACKENDS,
		    .n_primary = BACKENDS};
	}
	return w;
}

static void
world_free(struct world *w)
{
	for (unsigned c = 0; c < N_COLORS; c++)
		tally_free(w->state.tally[c]);
	free(w);
}

/* As control does it. */
static void
set_weight(struct world *w, uint32_t bp)
{
	uint32_t old = service_course(&w->state);

	guard_weight(&w->state, course_weight(old) == 0, bp, w->now_ms);
	w->state.course = course_of(course_live(old), bp);
}

static void
count(struct world *w, enum color c, bool failed, int64_t head_us)
{
	const struct tally_sample s = {.now_ms = w->now_ms,
	    .head_us = head_us,
	    .status = failed ? 500 : 200,
	    .failure = failed,
	    .generation = tally_generation(w->state.tally[c])};

	tally_add(w->state.tally[c], w->worker++ % N_WORKERS, &s);
}

/* One exchange, as account() has it; true: it tripped. */
static bool
answered(struct world *w, enum color c, bool failed)
{
	count(w, c, failed, 2000);
	return failed && guard_saw(&w->service, c, true, w->now_ms, &w->verdict);
}

static bool
slow(struct world *w, enum color c)
{
	count(w, c, false, 3000000);
	return guard_saw(&w->service, c, false, w->now_ms, &w->verdict);
}

static double
wealth(const struct world *w)
{
	double logs[N_RATIOS];

	for (unsigned i = 0; i < N_RATIOS; i++)
		logs[i] = (double)w->state.wealth[i] / 16777216.0;
	return martingale_wealth(logs);
}

static bool
chance(struct world *w, double p)
{
	return (double)(random_next(&w->random) >> 11) / 9007199254740992.0 < p;
}

static bool
has_tripped(const struct world *w)
{
	return service_course(&w->state) == (course_of(BLUE, 0) | COURSE_TRIPPED);
}

/* --- the trip ------------------------------------------------------------------- */

static void
dead_candidate_trips_at_its_third(void **state)
{
	static const uint32_t weights[] = {1, 100, 2500, 5000, 10000};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct world *w = world_new();

		set_weight(w, weights[i]);
		assert_false(answered(w, GREEN, true));
		assert_false(answered(w, BLUE, false));
		assert_false(answered(w, GREEN, true));
		assert_int_equal(service_course(&w->state), course_of(BLUE, weights[i]));
		assert_int_equal(w->verdict.word, VERDICT_WAIT);
		assert_true(answered(w, GREEN, true));
		assert_true(has_tripped(w));
		assert_true(course_tripped(service_course(&w->state)));
		assert_int_equal(service_weight(&w->service), 0);
		assert_int_equal(service_live(&w->service), BLUE);
		assert_int_equal(w->verdict.rule, RULE_FAILURE_RATE);
		assert_string_equal(w->verdict.reason,
		    "green failed 3 of 3 (100 %, at least 23.9 % "
		    "beyond chance), limit 1 %");
		assert_int_equal(w->verdict.candidate.backends_up, BACKENDS);
		assert_int_equal(w->verdict.live.requests, 1);
		/* what comes in later does nothing */
		assert_false(answered(w, GREEN, true));
		assert_int_equal(w->verdict.word, VERDICT_WAIT);
		assert_true(has_tripped(w));
		world_free(w);
	}
}

static void
other_way_round(void **state)
{
	struct world *w = world_new();

	(void)state;
	w->state.course = course_of(GREEN, 0);
	set_weight(w, 2500);
	for (unsigned i = 0; i < 3; i++)
		(void)answered(w, BLUE, true);
	assert_int_equal(service_course(&w->state), course_of(GREEN, 0) | COURSE_TRIPPED);
	assert_non_null(strstr(w->verdict.reason, "blue failed 3 of 3"));
	world_free(w);
}

static void
nobody_is_guarded_without_weight(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_false(answered(w, GREEN, true));
		assert_false(answered(w, BLUE, true));
	}
	assert_int_equal(service_course(&w->state), course_of(BLUE, 0));
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.word, VERDICT_WAIT);
	assert_string_equal(w->verdict.reason, "no traffic");
	assert_true(wealth(w) == 1);
	/* and nothing of it counts when it gets weight */
	set_weight(w, 2500);
	assert_int_equal(w->state.guarded_since_ms, HOUR);
	for (unsigned i = 0; i < 20; i++)
		assert_false(answered(w, GREEN, false));
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.word, VERDICT_PASS);
	assert_int_equal(w->verdict.candidate.requests, 20);
	assert_int_equal(w->verdict.live.requests, 0);
	set_weight(w, 0);
	assert_int_equal(w->state.guarded_since_ms, 0);
	world_free(w);
}

static void
trip_is_of_the_course_seen(void **state)
{
	struct world *w = world_new();
	uint32_t seen = course_of(BLUE, 2500);

	(void)state;
	w->state.course = course_of(BLUE, 5000);
	assert_false(guard_trip(&w->state, seen));
	assert_int_equal(service_course(&w->state), course_of(BLUE, 5000));
	w->state.course = seen;
	assert_true(guard_trip(&w->state, seen));
	assert_false(guard_trip(&w->state, seen));
	assert_true(has_tripped(w));
	world_free(w);
}

enum { RACES = 200, RACERS = 4 };

struct racer {
	pthread_t thread;
	struct world *world;
	pthread_barrier_t *barrier;
	unsigned trips;
};

static void *
race(void *arg)
{
	struct racer *me = arg;
	struct verdict v;

	for (unsigned i = 0; i < RACES; i++) {
		(void)pthread_barrier_wait(me->barrier);
		me->trips += guard_saw(&me->world->service, GREEN, true, HOUR, &v);
		(void)pthread_barrier_wait(me->barrier);
	}
	return NULL;
}

/* All see the crossing at once, while control moves the weight: one wins, each time. */
static void
exactly_one_trips(void **state)
{
	struct world *w = world_new();
	struct racer racers[RACERS];
	pthread_barrier_t barrier;
	unsigned trips = 0;

	(void)state;
	set_weight(w, 2500);
	for (unsigned i = 0; i < 5; i++)
		count(w, GREEN, true, 1000);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, RACERS + 1), 0);
	for (unsigned i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){.world = w, .barrier = &barrier};
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < RACES; i++) {
		uint32_t seen = course_of(BLUE, 2500);

		w->state.course = seen;
		(void)pthread_barrier_wait(&barrier);
		/* a change of the weight does not save it: a worker trips the new one, too */
		(void)atomic_compare_exchange_strong(
		    &w->state.course, &seen, course_of(BLUE, 5000));
		(void)pthread_barrier_wait(&barrier);
		assert_true(has_tripped(w));
	}
	for (unsigned i = 0; i < RACERS; i++) {
		assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
		trips += racers[i].trips;
	}
	assert_int_equal(trips, RACES);
	(void)pthread_barrier_destroy(&barrier);
	world_free(w);
}

/* --- how soon ---------------------------------------------------------------------- */

/* The candidate fails with p, the live color with q; how many the candidate got until the trip, at most max. */
static unsigned
requests_until_trip(struct world *w, double p, double q, unsigned max)
{
	unsigned n = 0;

	while (n < max) {
		enum color c = split_next(&w->state);

		n += c == GREEN;
		w->now_ms += 1;
		if (answered(w, c, chance(w, c == GREEN ? p : q)))
			break;
	}
	return n;
}

static void
one_in_five_trips_soon(void **state)
{
	unsigned within_30 = 0, most = 0;

	(void)state;
	for (unsigned seed = 0; seed < 100; seed++) {
		struct world *w = world_new();

		random_seed(&w->random, seed + 1);
		set_weight(w, 2500);
		unsigned n = requests_until_trip(w, 0.2, 0.001, 1000);
		within_30 += n <= 30;
		most = n > most ? n : most;
		assert_true(has_tripped(w));
		world_free(w);
	}
	assert_true(within_30 >= 90);
	assert_true(most <= 60);
}

/* The window is full of good answers: the rate alone would take a hundred failures. */
static void
sudden_death_after_a_good_time_trips_by_the_order(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	(void)requests_until_trip(w, 0, 0, 10000);
	assert_false(has_tripped(w));
	assert_in_range(requests_until_trip(w, 1, 0, 1000), 3, 12);
	assert_int_equal(w->verdict.rule, RULE_RELATIVE);
	assert_true(w->verdict.wealth >= WEALTH_TRIPS);
	world_free(w);
}

static void
good_candidate_stays(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	assert_int_equal(requests_until_trip(w, 0.003, 0.003, 50000), 50000);
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.word, VERDICT_PASS);
	world_free(w);
}

static void
shared_outage_freezes(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	assert_int_equal(requests_until_trip(w, 0.001, 0.001, 5000), 5000);
	assert_int_equal(requests_until_trip(w, 1, 1, 2000), 2000);
	assert_int_equal(service_course(&w->state), course_of(BLUE, 2500));
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.word, VERDICT_FAIL);
	assert_true(w->verdict.frozen);
	/* over for the live color, not for the candidate */
	assert_true(requests_until_trip(w, 1, 0, 20000) < 20000);
	assert_true(has_tripped(w));
	world_free(w);
}

/* --- the martingale ------------------------------------------------------------------ */

static void
wealth_follows_the_failures(void **state)
{
	struct world *w = world_new();
	double steps[N_RATIOS], was;

	(void)state;
	w->config.rollout.limits.min_failures = 1000;
	set_weight(w, 2500);
	assert_true(fabs(wealth(w) - 0.5) < 1e-6);
	/* the first: 20 exchanges' worth of the set weight, and itself */
	(void)answered(w, GREEN, true);
	martingale_step(steps, true, (20 * 0.25 + 1) / 21);
	assert_true(fabs(wealth(w) - martingale_wealth(steps) / 2) < 1e-4);
	was = wealth(w);
	(void)answered(w, BLUE, true);
	assert_true(wealth(w) < was);
	/* what went well says nothing */
	was = wealth(w);
	(void)answered(w, GREEN, false);
	(void)slow(w, GREEN);
	assert_true(wealth(w) == was);
	/* a new step: the wealth stays, the count of shares begins anew */
	set_weight(w, 5000);
	assert_true(wealth(w) == was);
	int64_t before = w->state.wealth[0];
	(void)answered(w, GREEN, true);
	martingale_step(steps, true, (20 * 0.5 + 1) / 21);
	assert_true(fabs((double)(w->state.wealth[0] - before) / 16777216.0 - steps[0]) < 1e-6);
	/* at 100 % there is nothing to compare with */
	set_weight(w, 10000);
	was = wealth(w);
	(void)answered(w, GREEN, true);
	(void)answered(w, BLUE, true);
	assert_true(wealth(w) == was);
	/* a new rollout */
	set_weight(w, 0);
	set_weight(w, 2500);
	assert_true(fabs(wealth(w) - 0.5) < 1e-6);
	world_free(w);
}

/* After long good times with a failure now and then on the live color, a release that turns bad is seen as fast as a new one. */
static void
lost_bets_get_a_new_stake(void **state)
{
	struct world *w = world_new();
	int64_t poor;
	unsigned n = 0;

	(void)state;
	w->config.rollout.limits.failure_rate_bp = 10000;
	set_weight(w, 2500);
	for (unsigned i = 0; i < 500; i++)
		(void)answered(w, BLUE, true);
	poor = w->state.wealth[2];
	guard_restake(&w->state);
	assert_true(w->state.wealth[2] > poor);
	assert_int_equal(w->state.stakes[2], 1);
	while (!answered(w, GREEN, true))
		n++;
	assert_true(n < 20);
	assert_int_equal(w->verdict.rule, RULE_RELATIVE);
	world_free(w);
}

/* Forced and sticky clients do not follow the weight: 1 % set, half of the answers are the candidate's. */
static void
share_is_counted(void **state)
{
	struct world *w = world_new();

	(void)state;
	w->config.rollout.limits.failure_rate_bp = 10000;
	set_weight(w, 100);
	for (unsigned i = 0; i < 20000; i++)
		assert_false(answered(w, i % 2 == 0 ? GREEN : BLUE, chance(w, 0.05)));
	assert_true(wealth(w) < WEALTH_TRIPS);
	world_free(w);
}

static void
relative_rule_trips(void **state)
{
	struct world *w = world_new();

	(void)state;
	w->config.rollout.limits.failure_rate_bp = 5000;
	set_weight(w, 2500);
	unsigned n = requests_until_trip(w, 0.05, 0.005, 10000);
	assert_true(n < 2000);
	assert_int_equal(w->verdict.rule, RULE_RELATIVE);
	assert_true(has_tripped(w));
	world_free(w);
	/* switched off it does not */
	w = world_new();
	w->config.rollout.limits.failure_rate_bp = 5000;
	w->config.rollout.limits.relative = false;
	set_weight(w, 2500);
	assert_int_equal(requests_until_trip(w, 0.05, 0.005, 10000), 10000);
	world_free(w);
}

/* --- latency and backends -------------------------------------------------------------- */

static void
slow_answers_trip(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	assert_false(slow(w, BLUE));
	assert_false(slow(w, GREEN));
	assert_false(slow(w, GREEN));
	/* blue is as slow, but for its one it could be chance */
	for (unsigned i = 0; i < 40; i++)
		assert_false(answered(w, BLUE, false));
	assert_true(slow(w, GREEN));
	assert_int_equal(w->verdict.rule, RULE_P95);
	assert_true(has_tripped(w));
	world_free(w);
}

static void
hang_is_seen_at_the_tick(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	tally_overdue(w->state.tally[GREEN], 0, 1);
	tally_overdue(w->state.tally[GREEN], 1, 1);
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	tally_overdue(w->state.tally[GREEN], 1, 2);
	assert_true(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.rule, RULE_P95);
	assert_true(has_tripped(w));
	world_free(w);
}

static void
down_backends_trip_at_the_tick(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	w->backends[GREEN][0].state = BACKEND_DOWN;
	w->backends[GREEN][1].state = BACKEND_DOWN;
	/* held down is not down: that is passive, and for a second */
	w->backends[GREEN][2].held_until_ms = w->now_ms + 1000;
	w->backends[GREEN][2].connect_failures = 5;
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	/* one that starts or is drained by the operator is no sign */
	w->backends[GREEN][1].state = BACKEND_STARTING;
	w->backends[GREEN][3].state = BACKEND_DRAINING;
	assert_false(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.candidate.backends, 2);
	assert_int_equal(w->verdict.candidate.backends_up, 1);
	w->backends[GREEN][1].state = BACKEND_DOWN;
	/* a failure does not count backends while no rule fails: it is the tick's */
	for (unsigned i = 0; i < 2000; i++)
		assert_false(answered(w, GREEN, i % 500 == 0));
	assert_true(guard_look(&w->service, w->now_ms, &w->verdict));
	assert_int_equal(w->verdict.rule, RULE_HEALTHY_BACKENDS);
	assert_string_equal(w->verdict.reason, "1 of 3 backends of green is up, limit 50 %");
	world_free(w);
}

static void
live_color_down_freezes(void **state)
{
	struct world *w = world_new();

	(void)state;
	set_weight(w, 2500);
	for (unsigned i = 0; i < BACKENDS; i++)
		w->backends[BLUE][i].state = BACKEND_DOWN;
	for (unsigned i = 0; i < 10; i++)
		assert_false(answered(w, GREEN, true));
	assert_true(w->verdict.frozen);
	assert_int_equal(w->verdict.live.backends_up, 0);
	/* one is back, but its connects have failed twice in a row: nobody to give traffic to */
	w->backends[BLUE][0].state = BACKEND_UP;
	w->backends[BLUE][0].held_until_ms = w->now_ms + 2000;
	w->backends[BLUE][0].connect_failures = 2;
	assert_false(answered(w, GREEN, true));
	assert_true(w->verdict.frozen);
	/* a single failed connect is an accident */
	w->backends[BLUE][0].connect_failures = 1;
	assert_true(answered(w, GREEN, true));
	assert_true(has_tripped(w));
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(dead_candidate_trips_at_its_third),
	    cmocka_unit_test(other_way_round),
	    cmocka_unit_test(nobody_is_guarded_without_weight),
	    cmocka_unit_test(trip_is_of_the_course_seen),
	    cmocka_unit_test(exactly_one_trips),
	    cmocka_unit_test(one_in_five_trips_soon),
	    cmocka_unit_test(sudden_death_after_a_good_time_trips_by_the_order),
	    cmocka_unit_test(good_candidate_stays),
	    cmocka_unit_test(shared_outage_freezes),
	    cmocka_unit_test(wealth_follows_the_failures),
	    cmocka_unit_test(lost_bets_get_a_new_stake),
	    cmocka_unit_test(share_is_counted),
	    cmocka_unit_test(relative_rule_trips),
	    cmocka_unit_test(slow_answers_trip),
	    cmocka_unit_test(hang_is_seen_at_the_tick),
	    cmocka_unit_test(down_backends_trip_at_the_tick),
	    cmocka_unit_test(live_color_down_freezes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
