/*
 * What is thought of a backend: the startup gate, rise and fall on both sides of their limits, death and return, what a
 * restart may assume, and the words for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "health/health.h"

#define NOW INT64_C(5000)

static struct probe_config config[N_PROBES];
static struct health h;

#define ALL (1 << PROBE_LIVENESS | 1 << PROBE_READINESS | 1 << PROBE_STARTUP)

static void
make(int which, bool known_good)
{
	for (int i = 0; i < N_PROBES; i++)
		config[i] = (struct probe_config){
		    .on = (which & 1 << i) != 0, .rise = 2, .fall = 3, .deadline_ms = 60000};
	health_init(&h, config, known_good, NOW);
}

static bool
sees(enum probe_kind kind, bool ok, int64_t now)
{
	return health_observe(&h, kind, ok, ok ? "200 OK" : "503 Service Unavailable", "", now);
}

static const char *
reason(void)
{
	static char out[256];

	health_reason(&h, out, sizeof(out));
	return out;
}

static void
without_probes_up(void **state)
{
	(void)state;
	make(0, false);
	assert_int_equal(h.state, HEALTH_UP);
	assert_string_equal(reason(), "");
	assert_int_equal(health_deadline(&h), INT64_MAX);
	assert_false(health_tick(&h, INT64_MAX));
	for (int i = 0; i < N_PROBES; i++)
		assert_false(health_asks(&h, (enum probe_kind)i));
}

static void
startup_gates(void **state)
{
	(void)state;
	make(ALL, false);
	assert_int_equal(h.state, HEALTH_STARTING);
	assert_string_equal(reason(), "starting: waits for its first startup probe");
	assert_true(health_asks(&h, PROBE_STARTUP));
	assert_false(health_asks(&h, PROBE_LIVENESS));
	assert_false(health_asks(&h, PROBE_READINESS));
	for (int i = 0; i < 20; i++)
		assert_false(sees(PROBE_STARTUP, false, NOW));
	assert_string_equal(reason(), "starting: 503 Service Unavailable");
	/* one pass is enough, whatever rise says */
	assert_false(sees(PROBE_STARTUP, true, NOW + 1));
	assert_false(health_asks(&h, PROBE_STARTUP));
	assert_true(health_asks(&h, PROBE_LIVENESS));
	assert_true(health_asks(&h, PROBE_READINESS));
	/* and the others have to have answered */
	assert_int_equal(h.state, HEALTH_STARTING);
	assert_string_equal(reason(), "starting: waits for its first liveness probe");
	assert_false(sees(PROBE_LIVENESS, true, NOW + 2));
	assert_string_equal(reason(), "starting: waits for its first readiness probe");
	assert_true(sees(PROBE_READINESS, true, NOW + 3));
	assert_int_equal(h.state, HEALTH_UP);
	assert_int_equal(h.changed_ms, NOW + 3);
	assert_false(health_tick(&h, NOW + 1000000));
}

static void
deadline_and_late_starter(void **state)
{
	(void)state;
	make(ALL, false);
	assert_int_equal(health_deadline(&h), NOW + 60000);
	assert_false(health_tick(&h, NOW + 59999));
	assert_true(health_tick(&h, NOW + 60000));
	assert_int_equal(h.state, HEALTH_DEAD);
	assert_string_equal(reason(), "not started within 1m");
	assert_false(health_tick(&h, NOW + 60001));
	assert_int_equal(health_deadline(&h), INT64_MAX);
	assert_false(sees(PROBE_STARTUP, false, NOW + 61000));
	assert_string_equal(reason(), "not started within 1m: 503 Service Unavailable");
	assert_true(health_asks(&h, PROBE_STARTUP));
	assert_true(sees(PROBE_STARTUP, true, NOW + 70000));
	assert_int_equal(h.state, HEALTH_STARTING);
	sees(PROBE_LIVENESS, true, NOW + 70001);
	sees(PROBE_READINESS, true, NOW + 70001);
	assert_int_equal(h.state, HEALTH_UP);
}

static void
first_result_decides(void **state)
{
	(void)state;
	make(1 << PROBE_READINESS, false);
	assert_int_equal(h.state, HEALTH_STARTING);
	assert_true(sees(PROBE_READINESS, false, NOW));
	assert_int_equal(h.state, HEALTH_NOT_READY);
	make(1 << PROBE_READINESS, false);
	assert_true(sees(PROBE_READINESS, true, NOW));
	assert_int_equal(h.state, HEALTH_UP);
	make(1 << PROBE_LIVENESS, false);
	assert_true(sees(PROBE_LIVENESS, false, NOW));
	assert_int_equal(h.state, HEALTH_DEAD);
}

static void
rise_and_fall(void **state)
{
	(void)state;
	make(1 << PROBE_READINESS, false);
	sees(PROBE_READINESS, true, NOW);
	assert_false(sees(PROBE_READINESS, false, NOW));
	assert_false(sees(PROBE_READINESS, false, NOW));
	/* in a row it must be */
	assert_false(sees(PROBE_READINESS, true, NOW));
	assert_false(sees(PROBE_READINESS, false, NOW));
	assert_false(sees(PROBE_READINESS, false, NOW));
	assert_true(sees(PROBE_READINESS, false, NOW));
	assert_int_equal(h.state, HEALTH_NOT_READY);
	assert_string_equal(reason(), "not ready: 503 Service Unavailable");
	assert_false(sees(PROBE_READINESS, true, NOW));
	assert_string_equal(reason(), "not ready: 200 OK (1 of 2 passed)");
	assert_false(sees(PROBE_READINESS, false, NOW));
	assert_false(sees(PROBE_READINESS, true, NOW));
	assert_true(sees(PROBE_READINESS, true, NOW + 7));
	assert_int_equal(h.state, HEALTH_UP);
	assert_int_equal(h.probes[PROBE_READINESS].passed, 5);
	assert_int_equal(h.probes[PROBE_READINESS].failed, 6);
	assert_int_equal(h.probes[PROBE_READINESS].last_ms, NOW + 7);
}

static void
death_and_return(void **state)
{
	(void)state;
	make(ALL, false);
	sees(PROBE_STARTUP, true, NOW);
	sees(PROBE_LIVENESS, true, NOW);
	sees(PROBE_READINESS, true, NOW);
	assert_false(sees(PROBE_LIVENESS, false, NOW));
	assert_false(sees(PROBE_LIVENESS, false, NOW));
	assert_true(sees(PROBE_LIVENESS, false, NOW));
	assert_int_equal(h.state, HEALTH_DEAD);
	assert_string_equal(reason(), "not alive: 503 Service Unavailable");
	assert_false(health_asks(&h, PROBE_STARTUP));
	assert_true(health_asks(&h, PROBE_READINESS));
	assert_false(sees(PROBE_LIVENESS, true, NOW));
	/* alive again, but what was known of its readiness is of another life */
	assert_true(sees(PROBE_LIVENESS, true, NOW));
	assert_int_equal(h.state, HEALTH_STARTING);
	assert_true(sees(PROBE_READINESS, false, NOW));
	assert_int_equal(h.state, HEALTH_NOT_READY);
	/* dead again; this time it says ready before it is found alive */
	for (int i = 0; i < 3; i++)
		sees(PROBE_LIVENESS, false, NOW);
	assert_int_equal(h.state, HEALTH_DEAD);
	assert_false(sees(PROBE_READINESS, true, NOW));
	sees(PROBE_LIVENESS, true, NOW);
	assert_true(sees(PROBE_LIVENESS, true, NOW));
	assert_int_equal(h.state, HEALTH_UP);
}

static void
known_good_until_it_speaks(void **state)
{
	(void)state;
	make(ALL, true);
	assert_int_equal(h.state, HEALTH_UP);
	assert_true(health_asks(&h, PROBE_STARTUP));
	assert_false(sees(PROBE_STARTUP, true, NOW));
	assert_false(sees(PROBE_READINESS, true, NOW));
	assert_int_equal(h.state, HEALTH_UP);
	assert_true(sees(PROBE_LIVENESS, false, NOW));
	assert_int_equal(h.state, HEALTH_DEAD);

	/* it was restarted while teal was away: all has to be shown anew */
	make(ALL, true);
	assert_true(sees(PROBE_STARTUP, false, NOW));
	assert_int_equal(h.state, HEALTH_STARTING);
	assert_false(sees(PROBE_STARTUP, true, NOW));
	assert_false(sees(PROBE_LIVENESS, true, NOW));
	assert_true(sees(PROBE_READINESS, true, NOW));
	assert_int_equal(h.state, HEALTH_UP);

	make(1 << PROBE_READINESS, true);
	assert_int_equal(h.state, HEALTH_UP);
	assert_true(sees(PROBE_READINESS, false, NOW));
}

static void
version_is_kept(void **state)
{
	char long_one[400];

	(void)state;
	make(ALL, false);
	health_observe(&h, PROBE_STARTUP, true, "200 OK", "1.2.3", NOW);
	assert_string_equal(h.version, "1.2.3");
	health_observe(&h, PROBE_LIVENESS, true, "200 OK", "", NOW);
	assert_string_equal(h.version, "1.2.3");
	memset(long_one, 'x', sizeof(long_one));
	long_one[sizeof(long_one) - 1] = '\0';
	health_observe(&h, PROBE_LIVENESS, true, long_one, long_one, NOW);
	assert_int_equal(strlen(h.version), sizeof(h.version) - 1);
	assert_int_equal(strlen(h.probes[PROBE_LIVENESS].saw), HEALTH_SAW_MAX - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(without_probes_up),
	    cmocka_unit_test(startup_gates),
	    cmocka_unit_test(deadline_and_late_starter),
	    cmocka_unit_test(first_result_decides),
	    cmocka_unit_test(rise_and_fall),
	    cmocka_unit_test(death_and_return),
	    cmocka_unit_test(known_good_until_it_speaks),
	    cmocka_unit_test(version_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
