/* health/hold.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "health/hold.h"

static void
doubles_with_each_failure_in_a_row(void **state)
{
	(void)state;
	assert_int_equal(hold_until(500, 1000, 0), 1500);
	assert_int_equal(hold_until(500, 1000, 1), 2500);
	assert_int_equal(hold_until(500, 1000, 2), 4500);
}

static void
is_bounded(void **state)
{
	(void)state;
	assert_int_equal(hold_until(0, 1000, HOLD_DOUBLES), 32000);
	assert_int_equal(hold_until(0, 1000, HOLD_DOUBLES + 1), 32000);
	assert_int_equal(hold_until(0, 1000, UINT32_MAX), 32000);
}

static void
none_when_switched_off(void **state)
{
	(void)state;
	assert_int_equal(hold_until(7, 0, 3), 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(doubles_with_each_failure_in_a_row),
	    cmocka_unit_test(is_bounded),
	    cmocka_unit_test(none_when_switched_off),
	};

	return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
