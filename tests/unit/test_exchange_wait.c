/*
 * Waiting: the queue before a pool that is full, and every timer of an exchange.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

/* --- the queue --------------------------------------------------------------------------- */

static void
test_queue_is_first_come_first_served(void **state)
{
	struct fake_stream *f[4];

	(void)state;
	worker_begin(ONE("max_in_flight = 1; queue = 3;", ""));
	for (unsigned i = 0; i < 3; i++)
		f[i] = request("GET", true);
	assert_int_equal(w.n_backs, 1);
	assert_int_equal(the_service(0)->state->waiting[BLUE], 2);
	complete(f[0], w.back[0]);
	assert_int_equal(w.n_backs, 2);
	assert_ptr_equal(exchange_on(f[1])->back, &w.back[1]->stream);
	/* the place is free again within a turn, and a new request comes in that turn: it does not overtake */
	fire_head(w.back[1], 200, true);
	fire_closed(w.back[1], OUTCOME_OK);
	f[3] = request("GET", true);
	assert_int_equal(w.n_backs, 3);
	assert_ptr_equal(exchange_on(f[2])->back, &w.back[2]->stream);
	assert_int_equal(exchange_on(f[3])->state, X_WAITING);
	finish_front(f[1]);
	complete(f[2], w.back[2]);
	complete(f[3], w.back[3]);
	assert_int_equal(w.at[0]->inflight, 0);
	worker_end();
}

static void
test_queue_full(void **state)
{
	struct fake_stream *f[3];

	(void)state;
	worker_begin(ONE("max_in_flight = 1; queue = 1; hold_down = \"2500ms\";", ""));
	for (unsigned i = 0; i < 3; i++)
		f[i] = request("GET", true);
	assert_int_equal(f[2]->status, 503);
	assert_non_null(strstr(f[2]->fields, "retry-after: 3\n"));
	finish_front(f[2]);
	ended(OUTCOME_QUEUE_FULL, 503);
	assert_int_equal(tallied(BLUE).failures, 0);
	complete(f[0], w.back[0]);
	complete(f[1], w.back[1]);
	worker_end();
}

static void
test_queue_timeout(void **state)
{
	struct fake_stream *f[2];

	(void)state;
	worker_begin(ONE("max_in_flight = 1; queue_timeout = \"1s\";", ""));
	f[0] = request("GET", true);
	f[1] = request("POST", false);
	fire_body(f[1], "waits too", false);
	worker_waits(900);
	assert_int_equal(f[1]->heads, 0);
	worker_waits(200);
	assert_int_equal(f[1]->status, 503);
	conserved(f[1]);
	finish_front(f[1]);
	ended(OUTCOME_QUEUE_TIMEOUT, 503);
	complete(f[0], w.back[0]);
	assert_int_equal(w.n_backs, 1);
	worker_end();
}

/* The place is freed on another worker: found by looking again. */
static void
test_queue_looks_again(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("max_in_flight = 1;", ""));
	w.roster.backends[0]->backend.inflight = 1; /* somebody else's */
	f = request("GET", true);
	worker_waits(300);
	assert_int_equal(w.n_backs, 0);
	w.roster.backends[0]->backend.inflight = 0;
	worker_waits(100);
	assert_int_equal(w.n_backs, 1);
	complete(f, w.back[0]);
	/* max_connections */
	w.full = 2;
	f = request("GET", true);
	assert_int_equal(exchange_on(f)->state, X_WAITING);
	assert_int_equal(w.roster.backends[0]->backend.inflight, 0);
	worker_waits(200);
	complete(f, w.back[1]);
	worker_end();
}

/* What comes while nobody has it is kept, whatever its size, and goes out once; then it is too much for a second time. */
static void
test_body_of_one_who_waits(void **state)
{
	struct fake_stream *f[2];

	(void)state;
	worker_begin(TWO("max_in_flight = 1;", "rescue = { max_body = \"4k\"; };"));
	f[0] = request("GET", true);
	f[1] = request("GET", true);
	struct fake_stream *late = request("PUT", false);

	fire_bytes(late, 5000, false);
	fire_bytes(late, 5000, false);
	assert_int_equal(late->consumed, 0);
	complete(f[0], w.back[0]);
	assert_int_equal(w.back[2]->n_sent, 10000);
	fire_body(late, "end", true);
	fire_drained(w.back[2]);
	conserved(late);
	fire_closed(w.back[2], OUTCOME_BACK_RESET);
	assert_int_equal(w.n_backs, 3);
	finish_front(late);
	ended(OUTCOME_BACK_RESET, 502);
	complete(f[1], w.back[1]);
	worker_end();
}

/* --- time -------------------------------------------------------------------------------- */

static void
test_response_timeout(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", TIMES));
	f = request("POST", true);
	worker_waits(900);
	assert_int_equal(f->heads, 0);
	worker_waits(200);
	assert_true(w.back[0]->reset);
	assert_int_equal(f->status, 504); /* not idempotent */
	finish_front(f);
	ended(OUTCOME_HEAD_TIMEOUT, 504);
	assert_int_equal(tallied(BLUE).failures, 1);

	f = request("GET", true);
	worker_waits(1100);
	assert_int_equal(w.n_backs, 3);
	worker_waits(800); /* each has its own second */
	assert_true(w.back[2]->open);
	complete(f, w.back[2]);
	ended(OUTCOME_OK, 200);
	assert_int_equal(w.at[1]->failures, 1);
	worker_end();
}

static void
test_request_body_timeout(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", TIMES));
	f = request("POST", false);
	worker_waits(2900);
	fire_body(f, "slowly", false);
	worker_waits(2900);
	fire_drained(w.back[0]); /* from here on it is the client's turn */
	worker_waits(2900);
	assert_int_equal(f->heads, 0);
	worker_waits(200);
	assert_int_equal(f->status, 408);
	assert_true(w.back[0]->reset);
	conserved(f);
	finish_front(f);
	ended(OUTCOME_REQUEST_TIMEOUT, 408);
	assert_int_equal(tallied(BLUE).failures, 0);
	worker_end();
}

/* It does not take what the client has sent: the client is not to blame. */
static void
test_backend_does_not_read(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", TIMES));
	f = request("POST", false);
	fire_body(f, "take it", false);
	worker_waits(3100);
	assert_int_equal(f->status, 504);
	finish_front(f);
	ended(OUTCOME_HEAD_TIMEOUT, 504);
	worker_end();
}

/* The same with a second backend, whom the credit given for the first one says nothing about. */
static void
test_second_backend_does_not_read(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", TIMES "retries = 1;"));
	f = request("PUT", false);
	fire_body(f, "take it", false);
	fire_drained(w.back[0]);
	fire_closed(w.back[0], OUTCOME_BACK_RESET);
	assert_int_equal(w.n_backs, 2);
	worker_waits(3100);
	assert_int_equal(f->status, 504);
	finish_front(f);
	ended(OUTCOME_HEAD_TIMEOUT, 504);
	worker_end();
}

static void
test_body_timeout(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", TIMES));
	f = request("GET", true);
	fire_head(w.back[0], 200, false);
	worker_waits(1900);
	fire_body(w.back[0], "more", false);
	worker_waits(5000); /* the client has not taken it: that is its connection's affair */
	assert_true(f->open);
	fire_drained(f);
	worker_waits(1900);
	assert_true(f->open);
	worker_waits(200);
	assert_true(f->reset);
	assert_int_equal(f->why, OUTCOME_BODY_TIMEOUT);
	assert_true(w.back[0]->reset);
	ended(OUTCOME_BODY_TIMEOUT, 200);
	assert_int_equal(tallied(BLUE).failures, 1);
	assert_int_equal(w.at[0]->failures, 1);
	worker_end();
}

/* A stream both may speak on, and the client has not ended its half: its silence is no failure of the color. */
static void
test_silent_client_within_an_answer(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", TIMES));
	f = request("POST", false);
	fire_body(f, "hello", false);
	fire_drained(w.back[0]);
	fire_head(w.back[0], 200, false);
	worker_waits(2100);
	assert_true(f->reset);
	ended(OUTCOME_REQUEST_TIMEOUT, 200);
	assert_int_equal(tallied(BLUE).failures, 0);
	worker_end();
}

static void
test_expect_continue(void **state)
{
	struct fake_stream *f;
	struct head *head;

	(void)state;
	worker_begin(TWO("", TIMES));
	f = front_new();
	head = head_of_request(f, "PUT", "/", "");
	head->expect_continue = true;
	hand_over(f, head, false);
	assert_true(w.back[0]->expects);
	worker_waits(1100); /* the backend must speak first, and has the response's time to */
	assert_int_equal(w.n_backs, 2);
	assert_true(w.back[1]->expects);
	fire_head(w.back[1], 100, false);
	assert_int_equal(f->interim[0], 100);
	worker_waits(2900); /* now it is the client's turn */
	assert_true(w.back[1]->open);
	fire_body(f, "body", true);
	fire_drained(w.back[1]);
	complete(f, w.back[1]);
	ended(OUTCOME_OK, 200);
	worker_end();
}

/* 100 was said, and the client does not go on: not the backend's failure.  Whoever is tried next need not say it again. */
static void
test_expect_continue_and_silence(void **state)
{
	struct fake_stream *f;
	struct head *head;

	(void)state;
	worker_begin(TWO("", TIMES));
	f = front_new();
	head = head_of_request(f, "PUT", "/", "");
	head->expect_continue = true;
	hand_over(f, head, false);
	fire_head(w.back[0], 100, false);
	fire_closed(w.back[0], OUTCOME_BACK_RESET);
	assert_false(w.back[1]->expects);
	worker_waits(3100);
	assert_int_equal(f->status, 408);
	finish_front(f);
	ended(OUTCOME_REQUEST_TIMEOUT, 408);
	assert_int_equal(tallied(BLUE).failures, 0);
	worker_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_queue_is_first_come_first_served),
	    cmocka_unit_test(test_queue_full),
	    cmocka_unit_test(test_queue_timeout),
	    cmocka_unit_test(test_queue_looks_again),
	    cmocka_unit_test(test_body_of_one_who_waits),
	    cmocka_unit_test(test_response_timeout),
	    cmocka_unit_test(test_request_body_timeout),
	    cmocka_unit_test(test_backend_does_not_read),
	    cmocka_unit_test(test_second_backend_does_not_read),
	    cmocka_unit_test(test_body_timeout),
	    cmocka_unit_test(test_silent_client_within_an_answer),
	    cmocka_unit_test(test_expect_continue),
	    cmocka_unit_test(test_expect_continue_and_silence),
	};

	return cmocka_run_group_tests_name(
	    "exchange_wait", tests, config_files_begin, config_files_end);
}
