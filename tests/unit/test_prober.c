/*
 * Who is due when: order, the spread of the first turns, the jitter of the later ones, and stalls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "health/prober.h"

#define NOW INT64_C(1000000)
#define MAX 5000

static struct prober p;
static struct slot slots[MAX];

static int
begin(void **state)
{
	(void)state;
	memset(slots, 0, sizeof(slots));
	prober_init(&p, 42);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	prober_fini(&p);
	return 0;
}

static void
in_order(void **state)
{
	uint64_t r = 1;
	int64_t before = 0;
	unsigned n = 0, left = 0;
	struct slot *s;

	(void)state;
	assert_int_equal(prober_next(&p), INT64_MAX);
	assert_null(prober_due(&p, INT64_MAX));
	for (unsigned i = 0; i < MAX; i++) {
		r = r * UINT64_C(6364136223846793005) + 1442695040888963407U;
		prober_at(&p, &slots[i], (int64_t)(r >> 44));
	}
	/* some are moved, some taken out; an odd one twice */
	for (unsigned i = 0; i < MAX; i += 3)
		prober_at(&p, &slots[i], slots[(i + 7) % MAX].at_ms + 1);
	for (unsigned i = 0; i < MAX; i += 5) {
		prober_forget(&p, &slots[i]);
		prober_forget(&p, &slots[i]);
	}
	for (unsigned i = 0; i < MAX; i++)
		left += slots[i].place != 0;
	assert_int_equal(left, MAX - MAX / 5);
	while (prober_next(&p) != INT64_MAX) {
		int64_t next = prober_next(&p);

		assert_null(prober_due(&p, next - 1));
		s = prober_due(&p, next);
		assert_non_null(s);
		assert_int_equal(s->at_ms, next);
		assert_int_equal(s->place, 0);
		assert_int_not_equal((s - slots) % 5, 0);
		assert_true(next >= before);
		before = next;
		n++;
	}
	assert_int_equal(n, left);
}

static void
a_small_fleet_at_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		prober_first(&p, &slots[i], 2000, NOW);
	assert_int_equal(prober_next(&p), NOW);
	for (unsigned i = 0; i < 3; i++)
		assert_true(slots[i].at_ms - NOW <= 5);
	/* one that comes much later does not wait for a place behind them */
	prober_first(&p, &slots[3], 2000, NOW + 7000);
	assert_int_equal(slots[3].at_ms, NOW + 7000);
}

static void
a_large_one_spread(void **state)
{
	static unsigned per_100_ms[11];

	(void)state;
	for (unsigned i = 0; i < MAX; i++)
		prober_first(&p, &slots[i], 2000, NOW);
	for (unsigned i = 0; i < MAX; i++) {
		assert_in_range(slots[i].at_ms, NOW, NOW + FIRST_SPREAD_MS);
		per_100_ms[(slots[i].at_ms - NOW) / 100]++;
	}
	for (unsigned i = 0; i < 10; i++)
		assert_in_range(per_100_ms[i], MAX / 10 - 100, MAX / 10 + 100);
	/* an interval below a second is the spread */
	for (unsigned i = 0; i < MAX; i++)
		prober_first(&p, &slots[i], 50, NOW);
	for (unsigned i = 0; i < MAX; i++)
		assert_in_range(slots[i].at_ms, NOW, NOW + 50);
}

static void
jitter(void **state)
{
	int64_t least = INT64_MAX, most = 0, sum = 0;

	(void)state;
	for (unsigned i = 0; i < MAX; i++) {
		prober_ask(&p, &slots[0], 1000, NOW);
		assert_true(slots[0].asking);
		assert_int_equal(slots[0].at_ms, NOW + 1000);
		prober_again(&p, &slots[0], 2000, NOW + 30);
		assert_false(slots[0].asking);
		assert_int_equal(slots[0].at_ms % 200, 0);
		least = slots[0].at_ms < least ? slots[0].at_ms : least;
		most = slots[0].at_ms > most ? slots[0].at_ms : most;
		sum += slots[0].at_ms - NOW;
	}
	/* counted from its begin, not from the answer */
	assert_int_equal(least, NOW + 1800);
	assert_int_equal(most, NOW + 2200);
	assert_in_range(sum / MAX, 1990, 2010);
	/* it took longer than the interval: at once, not in the past */
	prober_ask(&p, &slots[0], 10000, NOW);
	prober_again(&p, &slots[0], 2000, NOW + 9000);
	assert_int_equal(slots[0].at_ms, NOW + 9000);
	/* the least interval there is */
	prober_ask(&p, &slots[0], 10, NOW);
	prober_again(&p, &slots[0], 5, NOW);
	assert_int_equal(slots[0].at_ms, NOW + 5);
}

static void
patience_grows_by_stalls(void **state)
{
	(void)state;
	prober_ask(&p, &slots[0], 1000, NOW);
	prober_at(&p, &slots[1], NOW + 500);
	/* nobody could look from 200 to 1900 */
	prober_stalled(&p, 1700);
	assert_ptr_equal(
	    prober_due(&p, NOW + 1900), &slots[1]); /* who asks nothing is due as ever */
	assert_null(prober_due(&p, NOW + 1900));
	assert_int_equal(prober_next(&p), NOW + 2700);
	assert_null(prober_due(&p, NOW + 2699));
	assert_ptr_equal(prober_due(&p, NOW + 2700), &slots[0]);
	/* a stall before it began is none of its business */
	prober_ask(&p, &slots[0], 1000, NOW + 3000);
	assert_ptr_equal(prober_due(&p, NOW + 4000), &slots[0]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(in_order, begin, end),
	    cmocka_unit_test_setup_teardown(a_small_fleet_at_once, begin, end),
	    cmocka_unit_test_setup_teardown(a_large_one_spread, begin, end),
	    cmocka_unit_test_setup_teardown(jitter, begin, end),
	    cmocka_unit_test_setup_teardown(patience_grows_by_stalls, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
