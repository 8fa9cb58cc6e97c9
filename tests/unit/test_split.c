/* The split is exact, over windows, weights, threads and changes; buckets move one way. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/split.h"

#define OFF_BY_MOST 4.0 /* in any window of any length, requests; split.h promises it */

static double
off_by(unsigned taken, unsigned n, unsigned weight_bp)
{
	double d = taken - (double)n * weight_bp / 10000;

	return d < 0 ? -d : d;
}

static unsigned
count(uint64_t first, unsigned n, unsigned weight_bp)
{
	unsigned taken = 0;

	for (uint64_t i = first; i < first + n; i++)
		taken += split_takes(i, weight_bp);
	return taken;
}

static void
exact_at_small_numbers(void **state)
{
	(void)state;
	/* what an operator tries by hand */
	assert_int_equal(count(0, 4, 2500), 1);
	assert_int_equal(count(0, 2, 5000), 1);
	assert_int_equal(count(0, 10, 1000), 1);
	assert_in_range(count(0, 1000, 2500), 249, 251);
	assert_in_range(count(0, 400, 125), 4, 6);
	assert_int_equal(count(0, 10000, 1), 1);
	assert_int_equal(count(777, 10000, 1), 1);
	assert_int_equal(count(777, 10000, 9999), 9999);
	/* a weight nobody notices does not take the first request after a start */
	assert_false(split_takes(0, 1));
}

static void
never_and_always(void **state)
{
	(void)state;
	assert_int_equal(count(0, 100000, 0), 0);
	assert_int_equal(count(0, 100000, 10000), 100000);
	assert_false(split_takes(UINT64_MAX, 0));
	assert_true(split_takes(UINT64_MAX, 10000));
}

/* The least weight that takes point n. */
static unsigned
least_weight(uint64_t n)
{
	unsigned low = 0, high = 10000;

	while (high - low > 1) {
		unsigned middle = (low + high) / 2;

		if (split_takes(n, middle))
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* All weights 0..10,000 over windows of three lengths at several starts. */
static void
every_weight(void **state)
{
	static const unsigned lengths[] = {100, 1000, 10000};
	static const uint64_t starts[] = {0, 1, 4321, 9999, 123456789, UINT64_C(1) << 40};

	(void)state;
	for (unsigned l = 0; l < 3; l++) {
		for (unsigned s = 0; s < sizeof starts / sizeof starts[0]; s++) {
			double allowed = lengths[l] == 10000 ? 0 : OFF_BY_MOST;
			unsigned *joins = calloc(10001, sizeof *joins), taken = 0;

			for (unsigned i = 0; i < lengths[l]; i++)
				joins[least_weight(starts[s] + i)]++;
			for (unsigned w = 0; w <= 10000; w++) {
				taken += joins[w];
				assert_true(off_by(taken, lengths[l], w) <= allowed);
			}
			free(joins);
		}
	}
}

/* 25 % over 1,000 requests is 250 +/- 5, wherever the thousand begins. */
static void
every_window_of_1000(void **state)
{
	(void)state;
	for (unsigned w = 0; w <= 10000; w += w < 10 ? 1 : 271) {
		unsigned taken = count(0, 1000, w);

		for (uint64_t first = 0; first < 30000; first++) {
			assert_true(off_by(taken, 1000, w) <= OFF_BY_MOST);
			taken += split_takes(first + 1000, w);
			taken -= split_takes(first, w);
		}
	}
}

/* Requests that come in a pattern (a page, then its five pictures) get their share too. */
static void
no_resonance(void **state)
{
	(void)state;
	for (unsigned period = 2; period <= 32; period++) {
		for (unsigned phase = 0; phase < period; phase++) {
			unsigned taken = 0, n = 10000;

			for (uint64_t i = 0; i < n; i++)
				taken += split_takes(i * period + phase, 2500);
			assert_true(off_by(taken, n, 2500) <= 100);
		}
	}
}

static void
next_follows_live_and_weight(void **state)
{
	struct service_state s = {.course = course_of(GREEN, 0)};

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(split_next(&s), GREEN);
	s.course = course_of(GREEN, 10000);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(split_next(&s), BLUE);
	s.course = course_of(BLUE, 10000);
	assert_int_equal(split_next(&s), GREEN);
	assert_int_equal(s.sequence, 0);
}

static void
weight_changes_midway(void **state)
{
	static const unsigned weights[] = {2500, 5000, 100, 10000, 0, 3333, 1};
	struct service_state s = {.course = course_of(BLUE, 0)};

	(void)state;
	for (unsigned step = 0; step < 7; step++) {
		unsigned taken = 0, n = 617;

		s.course = course_of(BLUE, weights[step]);
		for (unsigned i = 0; i < n; i++)
			taken += split_next(&s) == GREEN;
		assert_true(off_by(taken, n, weights[step]) <= OFF_BY_MOST);
	}
}

struct taker {
	pthread_t thread;
	struct service_state *state;
	unsigned n, taken;
};

static void *
take(void *arg)
{
	struct taker *t = arg;

	for (unsigned i = 0; i < t->n; i++)
		t->taken += split_next(t->state) == GREEN;
	return NULL;
}

static void
exact_over_threads(void **state)
{
	static const unsigned weights[] = {2500, 125, 1, 9999};

	(void)state;
	for (unsigned w = 0; w < 4; w++) {
		for (unsigned round = 0; round < 50; round++) {
			struct service_state s = {.course = course_of(BLUE, weights[w])};
			struct taker takers[4];
			unsigned taken = 0;

			for (unsigned i = 0; i < 4; i++) {
				takers[i] = (struct taker){.state = &s, .n = 250};
				assert_int_equal(
				    pthread_create(&takers[i].thread, NULL, take, &takers[i]), 0);
			}
			for (unsigned i = 0; i < 4; i++) {
				assert_int_equal(pthread_join(takers[i].thread, NULL), 0);
				taken += takers[i].taken;
			}
			assert_int_equal(s.sequence, 1000);
			assert_true(off_by(taken, 1000, weights[w]) <= OFF_BY_MOST);
			assert_int_equal(taken, count(0, 1000, weights[w]));
		}
	}
}

static void
buckets_are_even(void **state)
{
	struct service_state s = {.split_key = {1, 2}};
	unsigned tenths[10] = {0};

	(void)state;
	for (uint32_t key = 0; key < 100000; key++) {
		uint32_t bucket = split_bucket(&s, &key, sizeof key);

		assert_true(bucket < 10000);
		tenths[bucket / 1000]++;
	}
	for (unsigned i = 0; i < 10; i++)
		assert_in_range(tenths[i], 9500, 10500);
}

/* Whoever is on the candidate stays there as the weight grows. */
static void
buckets_move_one_way(void **state)
{
	static const unsigned weights[] = {0, 1, 2500, 2501, 5000, 9999, 10000};
	struct service_state s = {.course = course_of(GREEN, 0), .split_key = {3, 4}};
	unsigned on[7] = {0};

	(void)state;
	for (uint32_t key = 0; key < 100000; key++) {
		uint32_t bucket = split_bucket(&s, &key, sizeof key);
		bool moved = false;

		for (unsigned i = 0; i < 7; i++) {
			s.course = course_of(GREEN, weights[i]);
			bool candidate = split_by_bucket(&s, bucket) == BLUE;
			assert_true(candidate || !moved);
			moved = candidate;
			on[i] += candidate;
		}
	}
	assert_int_equal(on[0], 0);
	assert_in_range(on[2], 24300, 25700);
	assert_in_range(on[4], 49200, 50800);
	assert_int_equal(on[6], 100000);
}

static void
new_key_reshuffles(void **state)
{
	struct service_state a = {.split_key = {5, 6}}, b = {.split_key = {5, 7}};
	unsigned both = 0;

	(void)state;
	for (uint32_t key = 0; key < 100000; key++)
		both += split_bucket(&a, &key, sizeof key) < 1000 &&
			split_bucket(&b, &key, sizeof key) < 1000;
	/* the unlucky tenth of one rollout is no more likely in the next: 1 % are in both */
	assert_in_range(both, 850, 1150);
}

static bool
forced(const struct service *s, const char *value, enum color *c)
{
	return split_forced(s, value, strlen(value), c);
}

static void
forced_color(void **state)
{
	struct service_config config = {.split.force_secret = (char[]){"s3:cret"}};
	struct service_state st = {.course = course_of(GREEN, 0)};
	struct service s = {.config = &config, .state = &st};
	enum color c = GREEN;

	(void)state;
	assert_true(forced(&s, "blue:s3:cret", &c));
	assert_int_equal(c, BLUE);
	assert_true(forced(&s, "green:s3:cret", &c));
	assert_int_equal(c, GREEN);
	assert_true(forced(&s, "candidate:s3:cret", &c));
	assert_int_equal(c, BLUE);
	assert_true(forced(&s, "live:s3:cret", &c));
	assert_int_equal(c, GREEN);

	c = BLUE;
	static const char *const wrong[] = {"", ":", "green", "green:", "green:s3:cre",
	    "green:s3:cret ", "green:s3:creT", "Green:s3:cret", "gree:s3:cret", "greens:s3:cret",
	    ":s3:cret", "s3:cret", " green:s3:cret", "green: s3:cret",
	    "green:s3:cretgreen:s3:cret"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_false(forced(&s, wrong[i], &c));
	/* a NUL is a byte like any other */
	assert_false(split_forced(&s, "green:s3:cret\0", 14, &c));
	assert_false(split_forced(&s, "green\0:s3:cret", 14, &c));
	assert_false(split_forced(&s, NULL, 0, &c));
	assert_int_equal(c, BLUE);
}

static void
forced_is_off_without_secret(void **state)
{
	struct service_config config = {.split.force_secret = (char[]){""}};
	struct service_state st = {.course = course_of(BLUE, 0)};
	struct service s = {.config = &config, .state = &st};
	enum color c = BLUE;

	(void)state;
	assert_false(forced(&s, "green:", &c));
	assert_false(forced(&s, "green", &c));
	assert_int_equal(c, BLUE);
}

static void
why_words(void **state)
{
	(void)state;
	assert_string_equal(split_why_word(WHY_SPLIT), "split");
	assert_string_equal(split_why_word(WHY_BUCKET), "bucket");
	assert_string_equal(split_why_word(WHY_FORCED), "forced");
	assert_string_equal(split_why_word(WHY_RESCUE), "rescue");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(exact_at_small_numbers),
	    cmocka_unit_test(never_and_always),
	    cmocka_unit_test(every_weight),
	    cmocka_unit_test(every_window_of_1000),
	    cmocka_unit_test(no_resonance),
	    cmocka_unit_test(next_follows_live_and_weight),
	    cmocka_unit_test(weight_changes_midway),
	    cmocka_unit_test(exact_over_threads),
	    cmocka_unit_test(buckets_are_even),
	    cmocka_unit_test(buckets_move_one_way),
	    cmocka_unit_test(new_key_reshuffles),
	    cmocka_unit_test(forced_color),
	    cmocka_unit_test(forced_is_off_without_secret),
	    cmocka_unit_test(why_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
