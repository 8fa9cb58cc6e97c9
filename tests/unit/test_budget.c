/* The rescue budget: floor, share, windows by a fake clock, and never one too many with several workers. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "balancer/budget.h"

#define HOUR INT64_C(3600000)

/* How many are granted until it is used up, at most max. */
static unsigned
take_all(struct rescue_budget *b, int64_t now_ms, int64_t window_ms, uint64_t requests,
    unsigned share_bp, unsigned max)
{
	unsigned n = 0;

	while (n < max && rescue_budget_take(b, now_ms, window_ms, requests, share_bp))
		n++;
	return n;
}

static void
floor_and_share(void **state)
{
	(void)state;
	/* a share of little traffic is nothing: the floor */
	assert_int_equal(take_all(&(struct rescue_budget){0}, HOUR, 10000, 0, 2000, 1000), 100);
	assert_int_equal(take_all(&(struct rescue_budget){0}, HOUR, 10000, 504, 2000, 1000), 100);
	/* and the share above it */
	assert_int_equal(take_all(&(struct rescue_budget){0}, HOUR, 10000, 505, 2000, 1000), 101);
	assert_int_equal(
	    take_all(&(struct rescue_budget){0}, HOUR, 10000, 30000, 2000, 10000), 6000);
	assert_int_equal(
	    take_all(&(struct rescue_budget){0}, HOUR, 10000, 30000, 10000, 100000), 30000);
	/* none at all is none at all */
	assert_int_equal(take_all(&(struct rescue_budget){0}, HOUR, 10000, 30000, 0, 10), 0);
	/* nothing overflows */
	assert_int_equal(
	    take_all(&(struct rescue_budget){0}, HOUR, 10000, UINT64_MAX, 10000, 5000), 5000);
}

static void
grows_with_the_traffic(void **state)
{
	struct rescue_budget b = {0};

	(void)state;
	assert_int_equal(take_all(&b, HOUR, 10000, 1000, 2000, 1000), 200);
	assert_false(rescue_budget_take(&b, HOUR, 10000, 1004, 2000));
	assert_true(rescue_budget_take(&b, HOUR, 10000, 1005, 2000));
	assert_false(rescue_budget_take(&b, HOUR, 10000, 1005, 2000));
}

static void
window_slides(void **state)
{
	struct rescue_budget b = {0};

	(void)state;
	assert_int_equal(take_all(&b, HOUR, 10000, 0, 1, 60), 60);
	assert_int_equal(take_all(&b, HOUR + 5000, 10000, 0, 1, 1000), 40);
	/* a second counts until the window has left it whole, as in the tally */
	assert_false(rescue_budget_take(&b, HOUR + 10999, 10000, 0, 1));
	assert_int_equal(take_all(&b, HOUR + 11000, 10000, 0, 1, 1000), 60);
	assert_false(rescue_budget_take(&b, HOUR + 15999, 10000, 0, 1));
	assert_int_equal(take_all(&b, HOUR + 16000, 10000, 0, 1, 1000), 40);
	/* a longer window remembers more */
	assert_false(rescue_budget_take(&b, HOUR + 60000, 60000, 0, 1));
	/* at most a minute, at least a second */
	assert_int_equal(take_all(&b, HOUR + 77000, HOUR, 0, 1, 1000), 100);
	assert_false(rescue_budget_take(&b, HOUR + 78999, 0, 0, 1));
	assert_true(rescue_budget_take(&b, HOUR + 79000, 0, 0, 1));
}

static void
slots_are_used_again(void **state)
{
	struct rescue_budget b = {0};

	(void)state;
	/* three times round the ring: each second begins with nothing in it */
	for (int64_t s = 0; s < 3L * BUDGET_SLOTS; s++)
		assert_int_equal(take_all(&b, HOUR + s * 2000, 1000, 0, 1, 1000), 100);
	/* a clock that has just begun */
	assert_int_equal(take_all(&(struct rescue_budget){0}, 0, 60000, 0, 1, 1000), 100);
}

enum { WORKERS = 4, TRIES = 20000 };
static struct rescue_budget shared;

static void *
take_many(void *arg)
{
	unsigned *granted = arg;

	for (unsigned i = 0; i < TRIES; i++)
		*granted += rescue_budget_take(&shared, HOUR, 10000, 100000, 2000);
	return NULL;
}

static void
never_one_too_many(void **state)
{
	pthread_t threads[WORKERS];
	unsigned granted[WORKERS] = {0}, sum = 0;

	(void)state;
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_many, &granted[i]), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		sum += granted[i];
	}
	assert_int_equal(sum, 20000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(floor_and_share),
	    cmocka_unit_test(grows_with_the_traffic),
	    cmocka_unit_test(window_slides),
	    cmocka_unit_test(slots_are_used_again),
	    cmocka_unit_test(never_one_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
