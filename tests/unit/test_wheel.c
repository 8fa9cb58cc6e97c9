/*
 * The wheel against the simplest thing that could be right: never early, at most a tick late,
 * whatever is moved, cancelled or freed meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/base/obj.h"
#include "proxy/base/wheel.h"

#define START      1000000
#define REVOLUTION ((int64_t)WHEEL_TICK_MS * WHEEL_SLOTS)

static struct wheel wheel;
static int64_t now;

struct alarm {
	struct timeout timeout;
	int64_t fired_ms;
	unsigned times;
	void (*then)(struct alarm *);
	struct alarm *other;
};

static void
on_fire(struct timeout *t)
{
	struct alarm *a = CONTAINER_OF(t, struct alarm, timeout);

	a->fired_ms = now;
	a->times++;
	assert_false(timeout_armed(t));
	if (a->then != NULL)
		a->then(a);
}

static int
setup(void **state)
{
	(void)state;
	now = START;
	wheel_init(&wheel, now);
	return 0;
}

static void
init(struct alarm *a)
{
	memset(a, 0, sizeof *a);
	timeout_init(&a->timeout, on_fire);
}

static void
set(struct alarm *a, int64_t ms)
{
	timeout_set(&wheel, &a->timeout, now, ms);
}

static void
forward(int64_t to, int64_t step)
{
	while (now < to) {
		now = now + step < to ? now + step : to;
		wheel_advance(&wheel, now);
	}
}

static void
fires_in_time(void **state)
{
	static const int64_t delays[] = {1, 2, WHEEL_TICK_MS - 1, WHEEL_TICK_MS, WHEEL_TICK_MS + 1,
	    1000, REVOLUTION - 1, REVOLUTION, REVOLUTION + 1, REVOLUTION + WHEEL_TICK_MS,
	    3 * REVOLUTION + 17, 3600000};

	for (int64_t phase = 0; phase < WHEEL_TICK_MS; phase += 7) {
		for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
			struct alarm a;

			setup(state);
			forward(START + phase, 1);
			init(&a);
			set(&a, delays[i]);
			assert_true(timeout_armed(&a.timeout));

			int64_t due = now + delays[i];

			forward(due - 1, WHEEL_TICK_MS);
			assert_int_equal(a.times, 0);
			forward(due + WHEEL_TICK_MS, 1);
			assert_int_equal(a.times, 1);
			assert_true(a.fired_ms >= due && a.fired_ms < due + WHEEL_TICK_MS);
			forward(now + REVOLUTION, WHEEL_TICK_MS);
			assert_int_equal(a.times, 1);
			assert_int_equal(wheel.armed, 0);
		}
	}
}

static void
zero_is_none(void **state)
{
	(void)state;
	struct alarm a;

	init(&a);
	set(&a, 0);
	assert_false(timeout_armed(&a.timeout));
	set(&a, 10);
	assert_int_equal(wheel.armed, 1);
	set(&a, -1);
	assert_false(timeout_armed(&a.timeout));
	timeout_cancel(&wheel, &a.timeout);
	assert_int_equal(wheel.armed, 0);
	forward(now + 1000, 10);
	assert_int_equal(a.times, 0);
}

static void
moving_later_is_a_store(void **state)
{
	(void)state;
	struct alarm a;

	init(&a);
	set(&a, 500);

	struct timeout **filed = a.timeout.prev;

	for (int i = 0; i < 400; i++) {
		forward(now + 10, 10);
		if (now < START + 500)
			assert_ptr_equal(a.timeout.prev, filed);
		set(&a, 500);
	}
	assert_int_equal(a.times, 0);
	assert_int_equal(wheel.armed, 1);
	forward(now + 499, 1);
	assert_int_equal(a.times, 0);
	forward(now + 1 + WHEEL_TICK_MS, 1);
	assert_int_equal(a.times, 1);
}

static void
moving_sooner(void **state)
{
	(void)state;
	struct alarm a;

	init(&a);
	set(&a, 10000);
	set(&a, 100);
	forward(now + 100 + WHEEL_TICK_MS, 1);
	assert_int_equal(a.times, 1);
	forward(now + 20000, 10);
	assert_int_equal(a.times, 1);
	/* later, then sooner than that but not than it is filed */
	set(&a, 1000);
	set(&a, 5000);
	set(&a, 2000);
	forward(now + 1999, 1);
	assert_int_equal(a.times, 1);
	forward(now + 1 + WHEEL_TICK_MS, 1);
	assert_int_equal(a.times, 2);
}

/* Told a time the wheel has passed already: the next tick, not a revolution later. */
static void
armed_too_late(void **state)
{
	(void)state;
	struct alarm a;

	init(&a);
	timeout_set(&wheel, &a.timeout, now - 1000, 10);
	forward(now + WHEEL_TICK_MS, 1);
	assert_int_equal(a.times, 1);
}

static void
again(struct alarm *a)
{
	if (a->times < 5)
		set(a, 1);
}

static void
rearm_from_fire(void **state)
{
	(void)state;
	struct alarm a;

	init(&a);
	a.then = again;
	set(&a, 1);
	wheel_advance(&wheel, now += WHEEL_TICK_MS);
	assert_int_equal(a.times, 1); /* not for ever in one tick */
	forward(now + 10 * WHEEL_TICK_MS, WHEEL_TICK_MS);
	assert_int_equal(a.times, 5);
	assert_int_equal(wheel.armed, 0);
}

static void
cancel_other(struct alarm *a)
{
	timeout_cancel(&wheel, &a->other->timeout);
}

static void
free_other(struct alarm *a)
{
	if (a->other == NULL)
		return;
	a->other->other = NULL; /* the survivor must not free us */
	timeout_cancel(&wheel, &a->other->timeout);
	free(a->other);
	a->other = NULL;
}

static void
move_other(struct alarm *a)
{
	set(a->other, 200);
}

static void
move_other_a_revolution(struct alarm *a)
{
	set(a->other, REVOLUTION);
}

/* Two in one slot; the first to fire does something to the second, whichever that is. */
static void
with_two(void (*then)(struct alarm *), unsigned expect, int64_t within)
{
	struct alarm *a = malloc(sizeof *a), *b = malloc(sizeof *b);

	assert_non_null(a);
	assert_non_null(b);
	init(a);
	init(b);
	a->other = b;
	b->other = a;
	a->then = b->then = then;
	set(a, 120);
	set(b, 120);
	forward(now + 150, 1);
	assert_int_equal(a->times + b->times, 1);
	a->then = b->then = NULL;
	forward(now + within, WHEEL_TICK_MS);
	assert_int_equal(a->times + b->times, expect);
	assert_int_equal(wheel.armed, 0);
	free(a);
	free(b);
}

static void
fire_touches_the_next_in_the_slot(void **state)
{
	(void)state;
	with_two(cancel_other, 1, 1000);
	with_two(move_other, 2, 1000);
	with_two(move_other_a_revolution, 2, REVOLUTION + 1000);
}

static unsigned n_fired;

static void
count_and_free(struct alarm *a)
{
	n_fired++;
	free_other(a);
	free(a);
}

static void
fire_frees_itself_and_the_next(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		struct alarm *a = malloc(sizeof *a), *b = malloc(sizeof *b);

		assert_non_null(a);
		assert_non_null(b);
		init(a);
		init(b);
		a->other = b;
		b->other = a;
		a->then = b->then = count_and_free;
		set(a, 120);
		set(b, 120);
	}
	n_fired = 0;
	forward(now + 500, 1);
	assert_int_equal(n_fired, 10);
	assert_int_equal(wheel.armed, 0);
}

static void
a_long_standstill(void **state)
{
	(void)state;
	struct alarm a, b, c;

	init(&a);
	init(&b);
	init(&c);
	set(&a, 100);
	set(&b, REVOLUTION + 100);
	set(&c, 10 * REVOLUTION);
	set(&b, 2 * REVOLUTION); /* moved meanwhile */
	wheel_advance(&wheel, now += 5 * REVOLUTION);
	assert_int_equal(a.times, 1);
	assert_int_equal(b.times, 1);
	assert_int_equal(c.times, 0);
	forward(START + 10 * REVOLUTION + WHEEL_TICK_MS, WHEEL_TICK_MS);
	assert_int_equal(c.times, 1);
}

/* A model: for each alarm only its deadline. */
static void
random_against_model(void **state)
{
	enum { N = 200 };
	static struct alarm alarms[N];
	static int64_t due[N];
	uint32_t seed = 12345;

	setup(state);
	for (int i = 0; i < N; i++) {
		init(&alarms[i]);
		due[i] = 0;
	}
	for (int step = 0; step < 60000; step++) {
		seed = seed * 1664525u + 1013904223u;

		size_t i = (seed >> 8) % N;
		int64_t ms = 1 + (seed >> 16) % ((seed & 7) == 0 ? 120000 : 700);

		if ((seed >> 28) == 0) {
			timeout_cancel(&wheel, &alarms[i].timeout);
			due[i] = 0;
		} else if ((seed >> 28) < 8) {
			set(&alarms[i], ms);
			due[i] = now + ms;
		}
		now += (seed >> 20) % 13;
		wheel_advance(&wheel, now);
		for (size_t k = 0; k < N; k++) {
			if (due[k] == 0) {
				assert_int_equal(alarms[k].times, 0);
			} else if (alarms[k].times > 0) {
				assert_true(now >= due[k]);
				assert_int_equal(alarms[k].times, 1);
				alarms[k].times = 0;
				due[k] = 0;
			} else {
				assert_true(now < due[k] + WHEEL_TICK_MS);
			}
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(fires_in_time, setup),
	    cmocka_unit_test_setup(zero_is_none, setup),
	    cmocka_unit_test_setup(moving_later_is_a_store, setup),
	    cmocka_unit_test_setup(moving_sooner, setup),
	    cmocka_unit_test_setup(armed_too_late, setup),
	    cmocka_unit_test_setup(rearm_from_fire, setup),
	    cmocka_unit_test_setup(fire_touches_the_next_in_the_slot, setup),
	    cmocka_unit_test_setup(fire_frees_itself_and_the_next, setup),
	    cmocka_unit_test_setup(a_long_standstill, setup),
	    cmocka_unit_test_setup(random_against_model, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
