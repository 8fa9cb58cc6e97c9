/*
 * One turn: the order of run, flush and bury, that it has an end, and that tasks may be taken off
 * at any time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/base/obj.h"
#include "proxy/base/turn.h"

static struct turn turn;
static char order[256];

struct job {
	struct task task;
	char name;
	unsigned times;
	void (*then)(struct job *);
	struct job *other;
};

static void
on_run(struct task *t)
{
	struct job *j = CONTAINER_OF(t, struct job, task);
	size_t n = strlen(order);

	assert_false(t->queued);
	j->times++;
	if (n + 1 < sizeof order) {
		order[n] = j->name;
		order[n + 1] = '\0';
	}
	if (j->then != NULL)
		j->then(j);
}

static struct job
job(char name, void (*then)(struct job *))
{
	return (struct job){.task = {.run = on_run}, .name = name, .then = then};
}

static int
setup(void **state)
{
	(void)state;
	turn_init(&turn, 5000123, 1700000000000);
	order[0] = '\0';
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	turn_fini(&turn);
	return 0;
}

static void
clock_is_told(void **state)
{
	(void)state;
	assert_int_equal(turn.now_us, 5000123);
	assert_int_equal(turn.now_ms, 5000);
	assert_int_equal(turn.wall_ms, 1700000000000);
	turn_clock(&turn, 6999999, 1700000002000);
	assert_int_equal(turn.now_ms, 6999);
	assert_int_equal(turn.wall_ms, 1700000002000);
}

static void
run_then_flush_then_bury(void **state)
{
	(void)state;
	struct job r = job('r', NULL), f = job('f', NULL), g = job('g', NULL), s = job('s', NULL);

	turn_bury(&turn, &g.task);
	turn_flush(&turn, &f.task);
	turn_flush(&turn, &f.task); /* on a list at most once */
	turn_run(&turn, &r.task);
	turn_run(&turn, &s.task);
	assert_false(turn_end(&turn));
	assert_string_equal(order, "rsfg");
	assert_false(turn_end(&turn));
	assert_string_equal(order, "rsfg");
}

static void
flush_it(struct job *j)
{
	turn_flush(&turn, &j->other->task);
}

static void
run_it_once(struct job *j)
{
	if (j->times == 1)
		turn_run(&turn, &j->other->task);
}

static void
what_comes_meanwhile_is_done_in_the_next_pass(void **state)
{
	(void)state;
	struct job r = job('r', flush_it), f = job('f', run_it_once), g = job('g', NULL);

	r.other = &f;
	f.other = &r;
	turn_run(&turn, &r.task);
	turn_bury(&turn, &g.task);
	assert_false(turn_end(&turn));
	assert_string_equal(order, "rfrfg");
}

static void
self(struct job *j)
{
	turn_run(&turn, &j->task);
}

static void
nobody_keeps_the_worker_in_one_turn(void **state)
{
	(void)state;
	struct job r = job('r', self), f = job('f', NULL), g = job('g', NULL);

	turn_run(&turn, &r.task);
	turn_flush(&turn, &f.task);
	turn_bury(&turn, &g.task);
	assert_true(turn_end(&turn)); /* do not sleep */
	assert_int_equal(r.times, TURN_PASSES);
	assert_int_equal(f.times, 1);
	assert_int_equal(g.times, 1);
	turn_forget(&r.task, &turn.runnable);
	assert_false(turn_end(&turn));
}

static void
self_later(struct job *j)
{
	turn_later(&turn, &j->task);
}

static void
later_is_the_next_turn(void **state)
{
	(void)state;
	struct job l = job('l', self_later), r = job('r', NULL);

	turn_later(&turn, &l.task);
	turn_run(&turn, &r.task);
	assert_true(turn_end(&turn)); /* do not sleep */
	assert_string_equal(order, "r");
	assert_true(turn_end(&turn));
	assert_true(turn_end(&turn));
	assert_int_equal(l.times, 2);
	turn_forget(&l.task, &turn.runnable);
	l.then = NULL;
	turn_later(&turn, &l.task);
	turn_run(&turn, &l.task); /* sooner after all; it stays one task on one list */
	turn_later(&turn, &l.task);
	assert_false(turn_end(&turn));
	assert_int_equal(l.times, 3);
	turn_later(&turn, &l.task);
	turn_forget(&l.task, &turn.runnable); /* wherever it is */
	assert_false(turn_end(&turn));
	assert_int_equal(l.times, 3);
}

static void
forget_it(struct job *j)
{
	turn_forget(&j->other->task, &turn.runnable);
}

static void
forget_at_any_time(void **state)
{
	(void)state;
	struct job a = job('a', forget_it), b = job('b', NULL), c = job('c', NULL);

	turn_forget(&a.task, &turn.runnable); /* not queued */
	a.other = &b;
	turn_run(&turn, &a.task);
	turn_run(&turn, &b.task);
	turn_run(&turn, &c.task);
	assert_false(turn_end(&turn));
	assert_string_equal(order, "ac");
	a.other = &a;
	turn_run(&turn, &a.task);
	turn_run(&turn, &b.task);
	turn_forget(&b.task, &turn.runnable);
	turn_run(&turn, &b.task); /* forgotten and queued again */
	assert_false(turn_end(&turn));
	assert_string_equal(order, "acab");
}

static void
bury_it(struct job *j)
{
	turn_bury(&turn, &j->other->task);
}

static void
the_dead_take_others_with_them(void **state)
{
	(void)state;
	struct job a = job('a', bury_it), b = job('b', flush_it), f = job('f', NULL);

	a.other = &b;
	b.other = &f;
	turn_bury(&turn, &a.task);
	assert_true(turn_end(&turn)); /* somebody has something to flush yet */
	assert_string_equal(order, "ab");
	assert_false(turn_end(&turn));
	assert_string_equal(order, "abf");
}

static void
fini_buries(void **state)
{
	(void)state;
	struct job g = job('g', NULL);

	turn_bury(&turn, &g.task);
	turn_fini(&turn);
	assert_int_equal(g.times, 1);
	setup(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(clock_is_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(run_then_flush_then_bury, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		what_comes_meanwhile_is_done_in_the_next_pass, setup, teardown),
	    cmocka_unit_test_setup_teardown(nobody_keeps_the_worker_in_one_turn, setup, teardown),
	    cmocka_unit_test_setup_teardown(later_is_the_next_turn, setup, teardown),
	    cmocka_unit_test_setup_teardown(forget_at_any_time, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_dead_take_others_with_them, setup, teardown),
	    cmocka_unit_test_setup_teardown(fini_buries, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
