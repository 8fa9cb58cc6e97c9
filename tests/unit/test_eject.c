/*
 * Passive ejection: who is held, when, for how long, and above all when nobody is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/eject.h"
#include "balancer/pick.h"

#define NOW INT64_C(1000000)
#define MAX 10

static struct backend backends[MAX];
static struct member members[MAX];
static struct pool pool;
static struct passive_config config;

static void
make(unsigned n, unsigned n_backups)
{
	memset(backends, 0, sizeof(backends));
	for (unsigned i = 0; i < n + n_backups; i++) {
		backends[i].state = BACKEND_UP;
		members[i] =
		    (struct member){.backend = &backends[i], .weight = 1, .backup = i >= n};
	}
	pool = (struct pool){.members = members, .n_members = n + n_backups, .n_primary = n};
	config = (struct passive_config){.failures = 3, .hold_ms = 1000, .max_ejected_bp = 5000};
}

/* How many of n failures in a row ejected backend i. */
static unsigned
failing(unsigned i, unsigned n, int64_t now)
{
	unsigned ejected = 0;

	while (n-- > 0)
		ejected += backend_failed(&pool, &backends[i], &config, now);
	return ejected;
}

static void
one_among_three(void **state)
{
	(void)state;
	make(3, 0);
	assert_int_equal(failing(0, 2, NOW), 0);
	assert_true(backend_usable(&backends[0], NOW));
	assert_true(backend_failed(&pool, &backends[0], &config, NOW));
	assert_false(backend_usable(&backends[0], NOW + 999));
	assert_true(backend_ejected(&backends[0], NOW + 999));
	assert_true(backend_usable(&backends[0], NOW + 1000));
	assert_false(backend_ejected(&backends[0], NOW + 1000));
	assert_int_equal(backends[0].failed_in_a_row, 0);
	assert_int_equal(backends[0].ejections, 1);
}

static void
a_success_breaks_the_row(void **state)
{
	(void)state;
	make(3, 0);
	assert_int_equal(failing(0, 2, NOW), 0);
	backend_answered(&backends[0]);
	assert_int_equal(failing(0, 2, NOW), 0);
	assert_int_equal(failing(0, 1, NOW), 1);
}

static void
off(void **state)
{
	(void)state;
	make(3, 0);
	config.failures = 0;
	assert_int_equal(failing(0, 100, NOW), 0);
	assert_int_equal(backends[0].failed_in_a_row, 0);
}

/* A shared outage: all fail in turn, nobody is thrown out. */
static void
not_when_all_fail(void **state)
{
	(void)state;
	make(4, 0);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(failing(i, 1, NOW + round), 0);
	}
	/* one comes back: the others go, as far as max_ejected lets them, at their next full row */
	backend_answered(&backends[3]);
	assert_int_equal(failing(0, 3, NOW + 100), 1);
	assert_int_equal(failing(1, 3, NOW + 100), 1);
	assert_int_equal(failing(2, 9, NOW + 100), 0);
}

static void
never_alone(void **state)
{
	(void)state;
	make(1, 0);
	config.max_ejected_bp = 10000;
	assert_int_equal(failing(0, 100, NOW), 0);
	/* two, all may go by number: the last one is left */
	make(2, 0);
	config.max_ejected_bp = 10000;
	assert_int_equal(failing(0, 3, NOW), 1);
	assert_int_equal(failing(1, 100, NOW), 0);
	assert_true(backend_usable(&backends[1], NOW));
}

static void
a_neighbour_that_is_not_there_is_none(void **state)
{
	(void)state;
	make(2, 0);
	backends[1].state = BACKEND_DOWN;
	assert_int_equal(failing(0, 9, NOW), 0);
	backends[1].state = BACKEND_DRAINING;
	assert_int_equal(failing(0, 9, NOW), 0);
	backends[1].state = BACKEND_UP;
	backends[1].held_until_ms = NOW + 1;
	assert_int_equal(failing(0, 9, NOW), 0);
	backends[1].held_until_ms = NOW;
	assert_int_equal(failing(0, 9, NOW), 1);
}

static void
backups_are_no_neighbours_of_primaries(void **state)
{
	(void)state;
	make(1, 3);
	assert_int_equal(failing(0, 9, NOW), 0);
	assert_int_equal(failing(1, 9, NOW), 1);
}

/* 50 % of three is one and a half: one may go, two may not.  Of four two may. */
static void
max_ejected(void **state)
{
	(void)state;
	make(3, 0);
	assert_int_equal(failing(0, 3, NOW), 1);
	assert_int_equal(failing(1, 9, NOW), 0);
	make(4, 0);
	assert_int_equal(failing(0, 3, NOW), 1);
	assert_int_equal(failing(1, 3, NOW), 1);
	assert_int_equal(failing(2, 9, NOW), 0);
	/* who is held because of connects counts too */
	make(4, 0);
	backends[2].held_until_ms = backends[3].held_until_ms = NOW + 1;
	assert_int_equal(failing(0, 9, NOW), 0);
	make(3, 0);
	config.max_ejected_bp = 3333;
	assert_int_equal(failing(0, 9, NOW), 0);
	config.max_ejected_bp = 3334;
	assert_int_equal(failing(0, 9, NOW), 1);
}

static void
holds_grow_and_are_forgotten(void **state)
{
	static const int64_t holds[] = {1000, 2000, 4000, 8000, 16000, 32000, 32000};
	int64_t now = NOW;

	(void)state;
	make(2, 0);
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(failing(0, 3, now), 1);
		assert_int_equal(backends[0].held_until_ms, now + holds[i]);
		/* those that were under way change nothing */
		assert_int_equal(failing(0, 30, now + holds[i] - 1), 0);
		assert_int_equal(backends[0].failed_in_a_row, 0);
		now += holds[i] + EJECT_FORGET * 1000 - 1;
	}
	now += 1;
	assert_int_equal(failing(0, 3, now), 1);
	assert_int_equal(backends[0].held_until_ms, now + 1000);
}

/* A connect that was under way when it was ejected, or that a health probe made, does not end it; the hold of a failed
 * connect it does end. */
static void
a_connect_does_not_end_it(void **state)
{
	const struct pool_config pc = {.hold_down_ms = 500};

	(void)state;
	make(2, 0);
	assert_int_equal(failing(0, 3, NOW), 1);
	backend_connected(&backends[0]);
	assert_false(backend_usable(&backends[0], NOW + 999));
	backend_connect_failed(&backends[0], &pc, NOW + 1000);
	assert_false(backend_usable(&backends[0], NOW + 1000));
	assert_false(backend_ejected(&backends[0], NOW + 1000));
	backend_connected(&backends[0]);
	assert_true(backend_usable(&backends[0], NOW + 1000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_among_three),
	    cmocka_unit_test(a_success_breaks_the_row),
	    cmocka_unit_test(off),
	    cmocka_unit_test(not_when_all_fail),
	    cmocka_unit_test(never_alone),
	    cmocka_unit_test(a_neighbour_that_is_not_there_is_none),
	    cmocka_unit_test(backups_are_no_neighbours_of_primaries),
	    cmocka_unit_test(max_ejected),
	    cmocka_unit_test(holds_grow_and_are_forgotten),
	    cmocka_unit_test(a_connect_does_not_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
