/*
 * A color that loses its traffic: the trip by the very exchange that crosses a limit, hangs seen by their age, and what
 * becomes of those who were with the color.  The guard is the real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

/* --- the trip -------------------------------------------------------------------------------------- */

/* A release that fails every request trips at its third answered failure, once, and nobody sees an error. */
static void
test_trip_at_the_crossing_failure(void **state)
{
	struct fake_stream *f[6];

	(void)state;
	green_begin(COLORS("", "", ""));
	for (unsigned i = 0; i < 5; i++)
		f[i] = request("GET", true);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(w.tripped, 0);
		assert_false(course_tripped(service_course(the_service(0)->state)));
		fire_head(w.back[i], 500, true);
		assert_int_equal(w.failed, i + 1);
	}
	assert_int_equal(w.tripped, 1);
	assert_int_equal(w.verdict.rule, RULE_FAILURE_RATE);
	assert_int_equal(
	    service_course(the_service(0)->state), course_of(BLUE, 0) | COURSE_TRIPPED);
	for (unsigned i = 5; i < 8; i++)
		assert_int_equal(w.at[i]->color, BLUE);
	/* the very next request, in the same turn */
	f[5] = request("GET", true);
	assert_int_equal(w.at[8]->color, BLUE);
	complete(f[5], w.back[8]);
	assert_string_equal(logged("color"), "blue");
	/* those that still waited for it are asked of the live color at the end of the turn */
	for (unsigned i = 0; i < 3; i++)
		rescued_by(f[i], w.back[5 + i], OUTCOME_BACKEND_5XX);
	assert_true(w.back[3]->reset && w.back[4]->reset);
	rescued_by(f[3], w.back[9], OUTCOME_COLOR_LEFT);
	rescued_by(f[4], w.back[10], OUTCOME_COLOR_LEFT);
	assert_tallied(GREEN, 3, 3); /* those two had not failed */
	assert_int_equal(w.tripped, 1);
	worker_end();
}

/* A failure of the live color is shown to the guard, not to the evidence. */
static void
test_failures_of_both(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(COLORS("", "", PATIENT));
	set_course(BLUE, 5000);
	for (unsigned i = 0; i < 10; i++) {
		unsigned at = w.n_backs, failed = w.failed;
		bool green;

		f = request("POST", true);
		green = w.at[at]->color == GREEN;
		fire_head(w.back[at], 500, true);
		fire_closed(w.back[at], OUTCOME_OK);
		finish_front(f);
		assert_int_equal(w.failed, failed + green);
	}
	assert_int_equal(w.failed, 5);
	assert_true(atomic_load(&the_service(0)->state->wealth[0]) < 0);
	worker_end();
}

/* What began under an older guard counts only in the life-long numbers. */
static void
test_generation(void **state)
{
	struct fake_stream *f[4];

	(void)state;
	green_begin(COLORS("", "", ""));
	for (unsigned i = 0; i < 4; i++)
		f[i] = request("POST", true);
	set_course(BLUE, 0);
	set_course(BLUE, WHOLE);
	for (unsigned i = 0; i < 4; i++) {
		fire_head(w.back[i], 500, true);
		fire_closed(w.back[i], OUTCOME_OK);
		finish_front(f[i]);
	}
	assert_int_equal(tallied(GREEN).failures, 4);
	assert_int_equal(tallied(GREEN).window_failures, 0);
	assert_int_equal(w.tripped, 0);
	worker_end();
}

/* Slow heads are shown to the guard, too. */
static void
test_slow_answers(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", "rollout = { limits = { p95 = \"200ms\"; }; };"));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(w.tripped, 0);
		f = request("POST", true);
		worker_waits(240);
		complete(f, w.back[i]);
	}
	assert_int_equal(w.tripped, 1);
	assert_int_equal(w.verdict.rule, RULE_P95);
	assert_int_equal(w.failed, 0);
	worker_end();
}

/* --- hangs ------------------------------------------------------------------------------------------ */

#define P95 "rollout = { limits = { p95 = \"1s\"; }; };"

static uint64_t
overdue(void)
{
	struct tally_look look;

	tally_look(the_service(0)->state->tally[GREEN], w.turn->now_ms, 30000, 1000000, &look);
	return look.overdue;
}

/* A hang is seen by its age, long before its timeout; who may be replayed is. */
static void
test_hang(void **state)
{
	struct fake_stream *get[4], *post[2], *put, *late;

	(void)state;
	green_begin(COLORS("", "", P95));
	for (unsigned i = 0; i < 2; i++)
		get[i] = request("GET", true);
	put = request("PUT", false); /* green waits for its body */
	post[0] = request("POST", true);
	late = request("GET", true); /* answered in time */
	worker_waits(900);
	complete(late, w.back[4]);
	get[2] = request("GET", true); /* young */
	assert_int_equal(overdue(), 0);
	assert_int_equal(w.tripped, 0);
	worker_waits(250);
	assert_int_equal(w.tripped, 1);
	assert_int_equal(w.verdict.rule, RULE_P95);
	assert_int_equal(w.verdict.candidate.overdue, 3);
	assert_int_equal(w.failed, 3); /* what hangs is the evidence */
	assert_int_equal(w.failed_why, OUTCOME_HEAD_TIMEOUT);
	/* rescued, in the order in which they came */
	assert_true(w.back[0]->reset && w.back[1]->reset && w.back[2]->reset && w.back[5]->reset);
	assert_true(w.back[3]->open);
	assert_int_equal(w.n_backs, 10);
	fire_body(put, "late", true);
	rescued_by(get[0], w.back[6], OUTCOME_HEAD_TIMEOUT);
	rescued_by(get[1], w.back[7], OUTCOME_HEAD_TIMEOUT);
	rescued_by(put, w.back[8], OUTCOME_COLOR_LEFT);
	rescued_by(get[2], w.back[9], OUTCOME_COLOR_LEFT);
	/* hung ones were cut by their age and count; the others had not failed */
	assert_tallied(GREEN, 3, 2);
	assert_int_equal(w.at[0]->failures + w.at[1]->failures, 2);
	/* what must not be replayed waits on, and may get its answer */
	worker_waits(500);
	assert_int_equal(overdue(), 0);
	complete(post[0], w.back[3]);
	assert_string_equal(logged("color"), "green");
	worker_end();
}

/* --- clients that do not wait ----------------------------------------------------------------------- */

static struct tally_look
seen_of_green(void)
{
	struct tally_look look;

	tally_look(the_service(0)->state->tally[GREEN], w.turn->now_ms, 30000, 1000000, &look);
	return look;
}

static void
leaves(struct fake_stream *f)
{
	fire_closed(f, OUTCOME_CLIENT_GONE);
	worker_turn();
	assert_string_equal(logged("color"), "green");
}

/* How it would have gone nobody knows: a candidate that answers nobody is not a good one. */
static void
test_abandoned(void **state)
{
	struct fake_stream *f;

	(void)state;
	for (unsigned with_limit = 0; with_limit <= 1; with_limit++) {
		green_begin(with_limit ? COLORS("", "", P95) : COLORS("", "", ""));
		for (unsigned i = 0; i < 10; i++) {
			f = request("GET", true);
			worker_waits(with_limit ? 950 : 5000);
			leaves(f);
		}
		assert_tallied(GREEN, 10, 0); /* for /metrics */
		assert_int_equal(seen_of_green().requests, 0);
		assert_int_equal(seen_of_green().failures, 0);
		assert_int_equal(w.tripped, 0);
		/* one who leaves while he is answered has seen that it answers */
		f = request("GET", true);
		fire_head(w.back[10], 200, false);
		leaves(f);
		assert_int_equal(seen_of_green().requests, 1);
		assert_int_equal(seen_of_green().slow, 0);
		worker_end();
	}
}

/* Who has waited for longer than limits.p95 has seen how slow it is. */
static void
test_abandoned_when_overdue(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", P95));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(w.tripped, 0);
		f = request("POST", true);
		worker_waits(1050);
		leaves(f);
		assert_int_equal(seen_of_green().requests, i + 1);
		assert_int_equal(seen_of_green().slow, i + 1);
		assert_int_equal(overdue(), 0); /* once */
	}
	assert_int_equal(w.tripped, 1);
	assert_int_equal(w.verdict.rule, RULE_P95);
	assert_int_equal(w.verdict.candidate.slow, 3);
	assert_tallied(GREEN, 3, 0);
	worker_end();
}

/* But not who has waited for his own body. */
static void
test_abandoned_by_a_slow_client(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", P95));
	for (unsigned i = 0; i < 5; i++) {
		f = request("POST", false);
		worker_waits(1500);
		leaves(f);
	}
	assert_int_equal(w.tripped, 0);
	assert_int_equal(seen_of_green().requests, 0);
	worker_end();
}

/* Who queues before a candidate that hangs waits for it as well, whether his body has come or not. */
static void
test_hang_before_the_queue(void **state)
{
	struct fake_stream *sent, *first, *queued[3];

	(void)state;
	green_begin(COLORS("", "max_in_flight = 1;",
	    "rollout = { limits = { p95 = \"1s\"; min_failures = 5; }; };"));
	sent = request("GET", true);
	first = request("GET", true);
	assert_int_equal(w.n_backs, 2);
	for (unsigned i = 0; i < 3; i++)
		queued[i] = request("PUT", false);
	assert_int_equal(the_service(0)->state->waiting[GREEN], 3);
	worker_waits(900);
	assert_int_equal(overdue(), 0);
	worker_waits(250);
	assert_int_equal(w.tripped, 1);
	assert_int_equal(w.verdict.rule, RULE_P95);
	assert_int_equal(w.verdict.candidate.overdue, 5);
	rescued_by(sent, w.back[2], OUTCOME_HEAD_TIMEOUT);
	rescued_by(first, w.back[3], OUTCOME_HEAD_TIMEOUT);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(w.at[4 + i]->color, BLUE);
		fire_body(queued[i], "late", true);
		fire_drained(w.back[4 + i]);
		complete(queued[i], w.back[4 + i]);
		assert_string_equal(logged("color"), "blue");
	}
	worker_end();
}

/* Ages are published while they are too old, no longer; the timer sleeps when nobody waits. */
static void
test_overdue_is_published(void **state)
{
	struct fake_stream *f[2];

	(void)state;
	green_begin(
	    COLORS("", "", "rollout = { limits = { p95 = \"1s\"; min_failures = 1000; }; };"));
	f[0] = request("GET", true);
	worker_waits(600);
	f[1] = request("GET", true);
	worker_waits(500);
	assert_int_equal(overdue(), 1);
	worker_waits(600);
	assert_int_equal(overdue(), 2);
	fire_head(w.back[0], 200, false); /* with its head, at once */
	assert_int_equal(overdue(), 1);
	complete(f[1], w.back[1]);
	assert_int_equal(overdue(), 0);
	worker_waits(200);
	assert_false(timeout_armed(&w.engine.crowds[0].timer));
	fire_body(w.back[0], "x", true);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f[0]);
	/* without weight nobody is overdue */
	f[0] = request("GET", true);
	worker_waits(1200);
	assert_int_equal(overdue(), 1);
	set_course(GREEN, 0);
	worker_waits(100);
	assert_int_equal(overdue(), 0);
	complete(f[0], w.back[2]);
	worker_end();
}

/* Who was overdue and then fails is one, not two. */
static void
test_overdue_and_failed(void **state)
{
	struct fake_stream *f[3];

	(void)state;
	green_begin(COLORS("", "", P95));
	for (unsigned i = 0; i < 3; i++) {
		f[i] = request(i < 2 ? "GET" : "POST", true);
		if (i == 1)
			worker_waits(1150);
	}
	assert_int_equal(overdue(), 2);
	fire_head(w.back[0], 500, true);
	assert_int_equal(w.tripped, 0); /* that makes 2 slow ones */
	complete(f[0], w.back[3]);
	complete(f[1], w.back[1]);
	complete(f[2], w.back[2]);
	assert_int_equal(w.tripped, 0);
	worker_end();
}

/* Not armed where there is nothing to look at. */
static void
test_no_timer_without_need(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(COLORS("", "", P95));
	f = request("GET", true); /* the live color's */
	assert_false(timeout_armed(&w.engine.crowds[0].timer));
	complete(f, w.back[0]);
	worker_end();
	green_begin(COLORS("", "", ""));
	f = request("GET", true);
	assert_false(timeout_armed(&w.engine.crowds[0].timer));
	complete(f, w.back[0]);
	worker_end();
}

/* --- who was with the color ------------------------------------------------------------------------- */

static void
trip(void)
{
	assert_true(guard_trip(the_service(0)->state, course_of(BLUE, WHOLE)));
}

/* Another worker tripped: seen on the timer, before control says so; control's word changes nothing more. */
static void
test_tripped_elsewhere(void **state)
{
	struct fake_stream *f, *tester;

	(void)state;
	green_begin(COLORS("", "", P95 TESTER));
	f = request("GET", true);
	tester = request_with("GET", "/", FORCED, true);
	trip();
	worker_waits(150);
	assert_int_equal(w.tripped, 0);
	assert_int_equal(w.n_backs, 3);
	exchange_leave(&w.engine, 0, GREEN, true);
	assert_int_equal(w.n_backs, 3);
	rescued_by(f, w.back[2], OUTCOME_COLOR_LEFT);
	complete(tester, w.back[1]);
	assert_string_equal(logged("color"), "green");
	worker_end();
}

/* A weight of 0 by hand, a flip, a promotion: the release has done nothing wrong, nothing is replayed. */
static void
test_left_without_rescue(void **state)
{
	struct fake_stream *f[2];

	(void)state;
	green_begin(COLORS("", "", P95));
	f[0] = request("GET", true);
	set_course(BLUE, 0);
	worker_waits(300); /* seen by the timer, too */
	exchange_leave(&w.engine, 0, GREEN, false);
	worker_waits(300);
	assert_int_equal(w.n_backs, 1);
	/* it may still fail, and is then rescued */
	f[1] = f[0];
	fire_closed(w.back[0], OUTCOME_BACK_RESET);
	rescued_by(f[1], w.back[1], OUTCOME_BACK_RESET);
	/* a color that has traffic is not left */
	set_course(BLUE, WHOLE);
	f[0] = request("GET", true);
	exchange_leave(&w.engine, 0, GREEN, true);
	exchange_leave(&w.engine, 0, BLUE, true);
	assert_int_equal(w.n_backs, 3);
	complete(f[0], w.back[2]);
	assert_string_equal(logged("color"), "green");
	worker_end();
}

/* Who is in the queue has been sent to nobody: the live color's from now on, whatever its method. */
static void
test_recolored_in_the_queue(void **state)
{
	struct fake_stream *f[4], *tester;

	(void)state;
	for (unsigned by_order = 0; by_order <= 1; by_order++) {
		green_begin(COLORS("", "max_in_flight = 1;", TESTER));
		for (unsigned i = 0; i < 4; i++)
			f[i] = request("POST", true);
		tester = request_with("GET", "/", FORCED, true);
		assert_int_equal(w.n_backs, 2);
		assert_int_equal(the_service(0)->state->waiting[GREEN], 3);
		if (by_order) {
			set_course(BLUE, 0);
			exchange_leave(&w.engine, 0, GREEN, false);
		} else {
			trip();
			complete(f[0], w.back[0]); /* a place is free, but not for those */
		}
		assert_int_equal(the_service(0)->state->waiting[GREEN], by_order);
		assert_int_equal(w.n_backs, 5 - by_order);
		for (unsigned i = 2; i < 4; i++) {
			assert_int_equal(w.at[i]->color, BLUE);
			complete(f[i], w.back[i]);
			ended(OUTCOME_OK, 200);
			assert_string_equal(logged("color"), "blue");
			assert_string_equal(logged("why"), "split");
			assert_null(logged("rescued_from"));
		}
		if (by_order)
			complete(f[0], w.back[0]);
		complete(f[1], w.back[1]);
		assert_int_equal(w.at[4]->color, GREEN); /* a tester waits for what he asked for */
		complete(tester, w.back[4]);
		assert_tallied(GREEN, 3, 0);
		assert_tallied(BLUE, 2, 0);
		assert_int_equal(w.roster.states[0].rescues_ok, 0);
		worker_end();
	}
}

/* Nothing that is picked after the trip goes to the candidate: not a retry, not a tester's neighbour. */
static void
test_nothing_is_sent_after_the_trip(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", TESTER));
	f = request("POST", true);
	trip();
	fire_closed(w.back[0], OUTCOME_CONNECT_REFUSED);
	rescued_by(f, w.back[1], OUTCOME_CONNECT_REFUSED); /* green's other backend is not asked */
	assert_int_equal(w.at[1]->color, BLUE);
	/* without rescue there is nobody left */
	worker_end();
	green_begin(COLORS("", "", "rescue = { on = false; };" TESTER));
	f = request("POST", true);
	trip();
	fire_closed(w.back[0], OUTCOME_CONNECT_REFUSED);
	assert_int_equal(w.n_backs, 1);
	assert_int_equal(f->status, 503);
	finish_front(f);
	ended(OUTCOME_CONNECT_REFUSED, 503);
	/* a tester's retry is */
	f = request_with("GET", "/", FORCED, true);
	assert_int_equal(w.at[1]->color, GREEN);
	fire_closed(w.back[1], OUTCOME_CONNECT_REFUSED);
	assert_int_equal(w.at[2]->color, GREEN);
	complete(f, w.back[2]);
	worker_end();
}

/* --- what relays -------------------------------------------------------------------------------------- */

#define DRAIN(more) "rollout = { drain = { " more " }; };" TESTER

struct relays {
	struct fake_stream *f[6], *b[6];
};

/* Two tunnels, two long answers, a tester's, and one of the live color. */
static struct relays
relays_begin_on(unsigned worker, const char *config)
{
	struct relays r;

	green_begin(config);
	w.engine.index = worker;
	for (unsigned i = 0; i < 6; i++) {
		if (i == 5)
			set_course(BLUE, 0);
		r.f[i] = i < 2    ? upgrade()
			 : i == 4 ? request_with("GET", "/", FORCED, true)
				  : request("GET", true);
		r.b[i] = w.back[i];
		fire_head(r.b[i], i < 2 ? 101 : 200, false);
		if (i == 5)
			set_course(BLUE, WHOLE);
	}
	assert_int_equal(w.at[5]->color, BLUE);
	return r;
}

static struct relays
relays_begin(const char *config)
{
	return relays_begin_on(0, config);
}

static void
relays_end(struct relays *r)
{
	for (unsigned i = 0; i < 6; i++) {
		if (r->f[i]->open)
			fire_closed(r->f[i], OUTCOME_CLIENT_GONE);
	}
	worker_end();
}

static unsigned
n_open(const struct relays *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 6; i++)
		n += r->f[i]->open;
	return n;
}

/* They go on for as long as they like. */
static void
test_relays_are_kept(void **state)
{
	struct relays r;

	(void)state;
	r = relays_begin(
	    COLORS("", "", TESTER "timeouts = { body = \"1h\"; websocket_idle = \"1h\"; };"));
	trip();
	exchange_leave(&w.engine, 0, GREEN, true);
	worker_waits(60000);
	assert_int_equal(n_open(&r), 6);
	assert_false(timeout_armed(&w.engine.crowds[0].timer));
	relays_end(&r);
}

/* The oldest first, at the rate; testers and the live color are left alone. */
static void
test_relays_are_closed_at_a_rate(void **state)
{
	struct relays r;

	(void)state;
	r = relays_begin(COLORS("", "", DRAIN("rate = 2;")));
	trip();
	exchange_leave(&w.engine, 0, GREEN, true);
	worker_waits(400);
	assert_int_equal(n_open(&r), 6);
	worker_waits(200);
	/* a tunnel's client sees an orderly end */
	assert_true(r.f[0]->reset && r.f[0]->ended);
	assert_int_equal(r.f[0]->why, OUTCOME_OK);
	assert_true(r.b[0]->reset);
	ended(OUTCOME_COLOR_LEFT, 101);
	assert_int_equal(n_open(&r), 5);
	worker_waits(500);
	assert_int_equal(n_open(&r), 4);
	worker_waits(500);
	/* what was cut must look cut */
	assert_true(r.f[2]->reset && !r.f[2]->ended);
	assert_int_equal(r.f[2]->why, OUTCOME_COLOR_LEFT);
	ended(OUTCOME_COLOR_LEFT, 200);
	assert_int_equal(n_open(&r), 3);
	worker_waits(5000);
	assert_int_equal(n_open(&r), 2);
	assert_true(r.f[4]->open && r.f[5]->open);
	assert_tallied(GREEN, 4, 0);
	assert_false(timeout_armed(&w.engine.crowds[0].timer));
	relays_end(&r);
}

/* The rate is all workers' together: they take turns. */
static void
test_rate_is_shared(void **state)
{
	(void)state;
	for (unsigned index = 0; index < 2; index++) {
		struct relays r = relays_begin_on(index, COLORS("", "", DRAIN("rate = 2;")));

		w.engine.n_workers = 2;
		trip();
		exchange_leave(&w.engine, 0, GREEN, true);
		worker_waits(400);
		assert_int_equal(n_open(&r), 6);
		worker_waits(250);
		assert_int_equal(n_open(&r), index == 0 ? 5 : 6);
		worker_waits(500);
		assert_int_equal(n_open(&r), 5);
		worker_waits(500);
		assert_int_equal(n_open(&r), index == 0 ? 4 : 5);
		worker_waits(500);
		assert_int_equal(n_open(&r), 4);
		relays_end(&r);
	}
}

/* What nobody needed is not saved up for those whose answer begins later. */
static void
test_rate_is_not_saved_up(void **state)
{
	struct fake_stream *f[2];

	(void)state;
	green_begin(COLORS("", "", DRAIN("rate = 2;")));
	for (unsigned i = 0; i < 2; i++)
		f[i] = request("POST", true);
	trip();
	exchange_leave(&w.engine, 0, GREEN, true);
	worker_waits(3000);
	for (unsigned i = 0; i < 2; i++)
		fire_head(w.back[i], 200, false);
	worker_waits(200);
	assert_true(f[0]->open && f[1]->open);
	worker_waits(500);
	assert_true(!f[0]->open && f[1]->open);
	fire_closed(f[1], OUTCOME_CLIENT_GONE);
	worker_end();
}

static void
test_relays_are_closed_at_the_timeout(void **state)
{
	struct fake_stream *waits;
	struct relays r;

	(void)state;
	r = relays_begin(COLORS("", "", DRAIN("timeout = \"2s\";")));
	waits = request("POST", true);
	trip();
	exchange_leave(&w.engine, 0, GREEN, true);
	worker_waits(1000);
	exchange_leave(&w.engine, 0, GREEN, true); /* by control's order: it was left already */
	worker_waits(900);
	assert_int_equal(n_open(&r), 6);
	worker_waits(200);
	assert_int_equal(n_open(&r), 2);
	assert_true(waits->open); /* it has its response timeout */
	complete(waits, w.back[6]);
	relays_end(&r);
}

/* The color has traffic again: nobody more is closed, and the next time begins anew. */
static void
test_traffic_comes_back(void **state)
{
	struct relays r;

	(void)state;
	r = relays_begin(COLORS("", "", DRAIN("timeout = \"2s\";")));
	trip();
	exchange_leave(&w.engine, 0, GREEN, true);
	worker_waits(1000);
	set_course(BLUE, 1000);
	worker_waits(2000);
	assert_int_equal(n_open(&r), 6);
	set_course(BLUE, 0);
	exchange_leave(&w.engine, 0, GREEN, false);
	worker_waits(1500);
	assert_int_equal(n_open(&r), 6);
	/* promoted */
	set_course(GREEN, 0);
	worker_waits(2000);
	assert_int_equal(n_open(&r), 6);
	relays_end(&r);
}

/* An answer that is whole is between its codec and the client. */
static void
test_whole_answers_are_delivered(void **state)
{
	struct relays r;

	(void)state;
	r = relays_begin(COLORS("", "", DRAIN("timeout = \"1s\";")));
	fire_body(r.b[1], "bye", true); /* a tunnel, half-closed */
	fire_body(r.b[2], "all", true);
	trip();
	exchange_leave(&w.engine, 0, GREEN, true);
	worker_waits(1200);
	assert_true(r.f[1]->reset);
	assert_true(r.f[2]->open && !r.f[3]->open);
	relays_end(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_trip_at_the_crossing_failure),
	    cmocka_unit_test(test_failures_of_both),
	    cmocka_unit_test(test_generation),
	    cmocka_unit_test(test_slow_answers),
	    cmocka_unit_test(test_hang),
	    cmocka_unit_test(test_abandoned),
	    cmocka_unit_test(test_abandoned_when_overdue),
	    cmocka_unit_test(test_abandoned_by_a_slow_client),
	    cmocka_unit_test(test_hang_before_the_queue),
	    cmocka_unit_test(test_overdue_is_published),
	    cmocka_unit_test(test_overdue_and_failed),
	    cmocka_unit_test(test_no_timer_without_need),
	    cmocka_unit_test(test_tripped_elsewhere),
	    cmocka_unit_test(test_left_without_rescue),
	    cmocka_unit_test(test_recolored_in_the_queue),
	    cmocka_unit_test(test_nothing_is_sent_after_the_trip),
	    cmocka_unit_test(test_relays_are_kept),
	    cmocka_unit_test(test_relays_are_closed_at_a_rate),
	    cmocka_unit_test(test_rate_is_shared),
	    cmocka_unit_test(test_rate_is_not_saved_up),
	    cmocka_unit_test(test_relays_are_closed_at_the_timeout),
	    cmocka_unit_test(test_traffic_comes_back),
	    cmocka_unit_test(test_whole_answers_are_delivered),
	};

	return cmocka_run_group_tests_name(
	    "exchange_leave", tests, config_files_begin, config_files_end);
}
