/*
 * Rescue: which failures of the candidate are replayed on the live color, for which requests, what of the body goes
 * again, and what is counted for whom.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

#define LONG_BODY 70000 /* more than rescue.max_body */

/* --- what is rescued -------------------------------------------------------------------- */

static void
test_server_error(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request_with("GET", "/a?b", "accept: */*\n", true);
	assert_int_equal(w.at[0]->color, GREEN);
	worker_waits(100);
	fire_head_with(w.back[0], 500, "server: green\n", false);
	assert_true(w.back[0]->reset);
	assert_int_equal(w.at[0]->inflight, 0);
	assert_int_equal(w.n_backs, 2);
	assert_int_equal(w.at[1]->color, BLUE);
	assert_string_equal(w.back[1]->line, "GET /a?b");
	assert_string_equal(w.back[1]->fields, w.back[0]->fields);
	assert_true(w.back[1]->with_head);
	/* the candidate's failure is counted before the live color has answered */
	assert_tallied(GREEN, 1, 1);
	assert_int_equal(tallied(GREEN).codes[4], 1);
	assert_int_equal(tallied(GREEN).inflight, 0);
	assert_int_equal(tallied(BLUE).inflight, 1);
	assert_int_equal(w.failed, 1);
	assert_int_equal(w.failed_why, OUTCOME_BACKEND_5XX);
	assert_int_equal(w.failed_status, 500);
	assert_int_equal(w.at[0]->failures, 1);
	assert_int_equal(w.at[0]->failed_in_a_row, 1);
	worker_waits(50);
	rescued_by(f, w.back[1], OUTCOME_BACKEND_5XX);
	assert_null(strstr(f->fields, "green"));
	assert_tallied(GREEN, 1, 1);
	assert_tallied(BLUE, 1, 0);
	assert_int_equal(tallied(BLUE).codes[1], 1);
	/* each color its own time; the client all of it */
	assert_true(tallied(GREEN).p50_ms > 90 && tallied(BLUE).p50_ms < 60);
	assert_true(json_real_value(json_object_get(w.log, "head_ms")) > 149);
	assert_int_equal(logged_number("tries"), 2);
	assert_int_equal(the_service(0)->state->rescues_ok, 1);
	assert_int_equal(the_service(0)->state->rescues_failed, 0);
	assert_int_equal(the_service(0)->state->retries_ok, 0);
	assert_int_equal(w.engine.counters.outcomes[OUTCOME_OK], 1);
	assert_int_equal(w.engine.counters.outcomes[OUTCOME_BACKEND_5XX], 0);
	worker_end();
}

/* An answer that is no error goes through, and says something good of its backend. */
static void
test_no_error(void **state)
{
	static const unsigned statuses[] = {200, 204, 304, 400, 404, 429, 499};

	(void)state;
	green_begin(COLORS("", "", ""));
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		struct fake_stream *f = request("GET", true);

		w.roster.backends[2]->backend.failed_in_a_row = 1;
		w.roster.backends[3]->backend.failed_in_a_row = 1;
		fire_head(w.back[i], statuses[i], true);
		assert_int_equal(f->status, statuses[i]);
		fire_closed(w.back[i], OUTCOME_OK);
		finish_front(f);
		assert_int_equal(w.at[i]->failed_in_a_row, 0);
		assert_string_equal(logged("color"), "green");
		assert_string_equal(logged("why"), "split");
		assert_null(logged("rescued_from"));
	}
	assert_int_equal(w.n_backs, 7);
	assert_tallied(GREEN, 7, 0);
	worker_end();
}

enum body { NO_BODY, SHORT_BODY, TOO_LONG_BODY };

static bool
idempotent(const char *method)
{
	return strcmp(method, "POST") != 0 && strcmp(method, "PATCH") != 0;
}

/* Idempotent and the body was kept, or provably not processed. */
static bool
allowed(enum outcome o, const char *method, enum body body)
{
	const struct outcome_row *row = outcome_row(o);

	if (body == TOO_LONG_BODY)
		return false;
	if (row->retry == RETRY_ANY)
		return true;
	return (row->failure || row->retry == RETRY_IDEMPOTENT) && idempotent(method);
}

static struct fake_stream *
request_of(const char *method, enum body body)
{
	struct fake_stream *f = request(method, body == NO_BODY);

	if (body == SHORT_BODY)
		fire_body(f, "hello", true);
	if (body == TOO_LONG_BODY) {
		fire_bytes(f, LONG_BODY / 2, false);
		fire_bytes(f, LONG_BODY / 2, true);
	}
	return f;
}

/* o == OUTCOME_OK: an answer of 503. */
static void
try_one(enum outcome o, const char *method, enum body body)
{
	enum outcome why = o == OUTCOME_OK ? OUTCOME_BACKEND_5XX : o;
	struct fake_stream *f;

	green_begin(COLORS("", "", "retries = 0;"));
	f = request_of(method, body);
	if (o == OUTCOME_OK)
		fire_head(w.back[0], 503, false);
	else
		fire_closed(w.back[0], o);
	if (allowed(why, method, body)) {
		assert_int_equal(w.n_backs, 2);
		assert_int_equal(w.at[1]->color, BLUE);
		assert_true(w.back[1]->ended);
		assert_string_equal(w.back[1]->sent, body == SHORT_BODY ? "hello" : "");
		rescued_by(f, w.back[1], why);
		conserved(f);
		/* what says nothing of the release is counted neither for nor against it */
		assert_tallied(GREEN, outcome_row(why)->failure, outcome_row(why)->failure);
		assert_tallied(BLUE, 1, 0);
	} else {
		assert_int_equal(w.n_backs, 1);
		if (o == OUTCOME_OK) {
			fire_body(w.back[0], "no", true);
			fire_closed(w.back[0], OUTCOME_OK);
		}
		assert_int_equal(f->status, o == OUTCOME_OK ? 503 : outcome_row(o)->status);
		finish_front(f);
		ended(why, f->status);
		assert_string_equal(logged("color"), "green");
		assert_tallied(GREEN, 1, outcome_row(why)->failure);
		assert_tallied(BLUE, 0, 0);
	}
	assert_int_equal(w.failed, outcome_row(why)->failure);
	assert_int_equal(w.roster.states[0].rescues_refused, 0);
	worker_end();
}

static void
test_rules(void **state)
{
	static const char *const methods[] = {"GET", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"};

	(void)state;
	for (unsigned o = 0; o < N_OUTCOMES; o++) {
		if (o != OUTCOME_OK && !of_backend((enum outcome)o))
			continue;
		for (size_t m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
			for (enum body b = NO_BODY; b <= TOO_LONG_BODY; b++)
				try_one((enum outcome)o, methods[m], b);
		}
	}
}

static void
test_response_timeout(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", TIMES));
	f = request("GET", true);
	worker_waits(1100);
	assert_true(w.back[0]->reset);
	assert_int_equal(w.at[1]->color, BLUE);
	worker_waits(500); /* its own time, from the rescue on */
	rescued_by(f, w.back[1], OUTCOME_HEAD_TIMEOUT);
	assert_tallied(GREEN, 1, 1);
	/* a client that does not send its body is not the candidate's fault */
	f = request("PUT", false);
	worker_waits(3100);
	assert_int_equal(f->status, 408);
	finish_front(f);
	ended(OUTCOME_REQUEST_TIMEOUT, 408);
	assert_int_equal(w.n_backs, 3);
	assert_int_equal(tallied(GREEN).failures, 1);
	worker_end();
}

/* A failed connect says something of one backend: its neighbours first.  A reset says something of the release. */
static void
test_who_is_asked_next(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", PATIENT));
	f = request("POST", true);
	fire_closed(w.back[0], OUTCOME_CONNECT_REFUSED);
	assert_int_equal(w.at[1]->color, GREEN);
	assert_ptr_not_equal(w.at[1], w.at[0]);
	fire_closed(w.back[1], OUTCOME_CONNECT_REFUSED);
	assert_int_equal(w.at[2]->color, BLUE);
	rescued_by(f, w.back[2], OUTCOME_CONNECT_REFUSED);
	assert_int_equal(logged_number("tries"), 3);
	assert_tallied(GREEN, 1, 1);
	assert_int_equal(w.roster.states[0].retries_failed, 1); /* the candidate's two tries */
	assert_int_equal(w.roster.states[0].retries_ok, 0);
	assert_int_equal(w.roster.states[0].rescues_ok, 1);

	f = request("GET", true);
	assert_int_equal(w.at[3]->color, GREEN);
	fire_closed(w.back[3], OUTCOME_BACK_RESET);
	assert_int_equal(w.at[4]->color, BLUE);
	rescued_by(f, w.back[4], OUTCOME_BACK_RESET);

	/* what must not be replayed is not */
	f = request("POST", true);
	fire_closed(w.back[5], OUTCOME_BACK_RESET);
	assert_int_equal(w.n_backs, 6);
	finish_front(f);
	ended(OUTCOME_BACK_RESET, 502);
	worker_end();
}

/* A kept connection that had died: not the release's fault, so the candidate is asked once more. */
static void
test_stale_connection(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request("GET", true);
	fire_closed(w.back[0], OUTCOME_BACK_STALE);
	assert_int_equal(w.at[1]->color, GREEN);
	complete(f, w.back[1]);
	assert_string_equal(logged("color"), "green");
	assert_tallied(GREEN, 1, 0);
	worker_end();
}

/* But a client that gets an error because of it, or a release that goes away from every request, is a failure. */
static void
test_stale_or_away_at_the_end(void **state)
{
	struct fake_stream *f;
	unsigned n = 0;

	(void)state;
	green_begin(COLORS("", "", "rescue = { on = false; };"));
	f = request("POST", true);
	fire_closed(w.back[n++], OUTCOME_BACK_STALE);
	finish_front(f);
	ended(OUTCOME_BACK_STALE, 502);
	assert_tallied(GREEN, 1, 1);
	f = request("GET", true);
	while (!f->ended)
		fire_closed(w.back[n++], OUTCOME_BACK_GOAWAY);
	finish_front(f);
	ended(OUTCOME_BACK_GOAWAY, 503);
	assert_tallied(GREEN, 2, 2);
	worker_end();
}

static void
test_grpc(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", PATIENT));
	/* a POST that was answered may have been processed */
	f = request_with("POST", "/", "content-type: application/grpc\n", true);
	fire_head_with(w.back[0], 200, "grpc-status: 14\n", true);
	assert_true(f->ended);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_GRPC_ERROR, 200);
	assert_tallied(GREEN, 1, 1);
	assert_int_equal(w.at[0]->failures, 1);
	/* one that was refused was not */
	f = request_with("POST", "/", "content-type: application/grpc\n", true);
	w.roster.backends[2]->backend.state = w.roster.backends[3]->backend.state = BACKEND_DOWN;
	fire_closed(w.back[1], OUTCOME_BACK_REFUSED);
	assert_int_equal(w.at[2]->color, BLUE);
	rescued_by(f, w.back[2], OUTCOME_BACK_REFUSED);
	w.roster.backends[2]->backend.state = w.roster.backends[3]->backend.state = BACKEND_UP;
	/* and one that is idempotent may be, if the failure is all there is */
	f = request_with("GET", "/", "content-type: application/grpc\n", true);
	fire_head_with(w.back[3], 200, "grpc-status: 13\n", true);
	rescued_by(f, w.back[4], OUTCOME_GRPC_ERROR);
	f = request_with("GET", "/", "content-type: application/grpc\n", true);
	fire_head_with(w.back[5], 200, "", false);
	fire_trailers(w.back[5], "grpc-status: 13\n");
	fire_closed(w.back[5], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_GRPC_ERROR, 200);
	/* a status before the end is none; and it means nothing to others */
	f = request_with("GET", "/", "content-type: application/grpc\n", true);
	fire_head_with(w.back[6], 200, "grpc-status: 13\n", false);
	assert_int_equal(f->status, 200);
	fire_body(w.back[6], "", true);
	fire_closed(w.back[6], OUTCOME_OK);
	finish_front(f);
	f = request("GET", true);
	fire_head_with(w.back[7], 200, "grpc-status: 13\n", true);
	fire_closed(w.back[7], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_OK, 200);
	worker_end();
}

static void
test_upgrade(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = upgrade();
	fire_head(w.back[0], 500, false);
	assert_true(w.back[1]->websocket);
	assert_false(w.back[1]->ended);
	fire_head(w.back[1], 101, false);
	assert_int_equal(f->status, 101);
	fire_closed(w.back[1], OUTCOME_OK);
	worker_turn();
	ended(OUTCOME_TUNNEL, 101);
	assert_int_equal(w.roster.states[0].rescues_ok, 1);
	worker_end();
}

/* --- nobody to ask on the candidate ------------------------------------------------------ */

static void
test_no_backend(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	w.roster.backends[2]->backend.state = w.roster.backends[3]->backend.state = BACKEND_DOWN;
	f = request("POST", false);
	assert_int_equal(w.at[0]->color, BLUE);
	fire_body(f, "late", true);
	rescued_by(f, w.back[0], OUTCOME_NO_BACKEND);
	assert_tallied(GREEN, 1, 1);
	assert_int_equal(w.failed_status, 0);
	worker_end();
}

static void
test_queue(void **state)
{
	struct fake_stream *f[3];

	(void)state;
	green_begin(COLORS("", "max_in_flight = 1; queue = 1; queue_timeout = \"1s\";", ""));
	w.roster.backends[3]->backend.state = BACKEND_DOWN;
	for (unsigned i = 0; i < 3; i++)
		f[i] = request("POST", true);
	assert_int_equal(w.n_backs, 2); /* the third did not even find a place in the queue */
	rescued_by(f[2], w.back[1], OUTCOME_QUEUE_FULL);
	assert_int_equal(exchange_on(f[1])->state, X_WAITING);
	worker_waits(1100);
	assert_int_equal(the_service(0)->state->waiting[GREEN], 0);
	rescued_by(f[1], w.back[2], OUTCOME_QUEUE_TIMEOUT);
	complete(f[0], w.back[0]);
	assert_tallied(GREEN, 1, 0); /* that it has no more room is no failure */
	assert_tallied(BLUE, 2, 0);
	worker_end();
}

/* --- what is not ----------------------------------------------------------------------------- */

/* The candidate's own answer goes through. */
static void
not_rescued(void)
{
	struct fake_stream *f = request_with("GET", "/", FORCED, true);
	unsigned i = w.n_backs - 1;

	assert_int_equal(w.at[i]->color, GREEN);
	fire_head(w.back[i], 500, true);
	assert_int_equal(w.n_backs, i + 1);
	assert_int_equal(f->status, 500);
	fire_closed(w.back[i], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_BACKEND_5XX, 500);
	assert_string_equal(logged("color"), "green");
}

static void
test_testers_see_the_candidate(void **state)
{
	(void)state;
	green_begin(COLORS("", "", TESTER));
	not_rescued();
	assert_string_equal(logged("why"), "forced");
	assert_int_equal(w.failed, 1);
	worker_end();
	/* also at weight 0, where the guard does not watch */
	worker_begin(COLORS("", "", TESTER));
	not_rescued();
	assert_int_equal(w.failed, 0);
	worker_end();
}

static void
test_switched_off(void **state)
{
	(void)state;
	green_begin(COLORS("", "", "rescue = { on = false; };"));
	not_rescued();
	assert_int_equal(w.roster.states[0].rescues_refused, 0);
	worker_end();
}

static void
test_live_color_is_not_rescued(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(COLORS("", "", ""));
	f = request("GET", true);
	assert_int_equal(w.at[0]->color, BLUE);
	fire_head(w.back[0], 500, true);
	assert_int_equal(f->status, 500);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	assert_int_equal(w.failed, 0);
	/* nor is one that was with the live color until a flip */
	f = request("GET", true);
	set_course(GREEN, 0);
	fire_head(w.back[1], 500, true);
	assert_int_equal(w.n_backs, 2);
	fire_closed(w.back[1], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_BACKEND_5XX, 500);
	/* its retry goes to a backend of its own color */
	f = request("GET", true);
	set_course(BLUE, 0);
	fire_closed(w.back[2], OUTCOME_BACK_RESET);
	assert_int_equal(w.at[3]->color, GREEN);
	complete(f, w.back[3]);
	worker_end();
}

static void
test_promoted_meanwhile(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request("GET", true);
	set_course(GREEN, 0);
	fire_head(w.back[0], 500, true);
	assert_int_equal(f->status, 500);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	assert_int_equal(w.n_backs, 1);
	worker_end();
}

/* Nobody is there to do better: the client gets what the candidate said. */
static void
test_live_color_is_down(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	w.roster.backends[0]->backend.state = w.roster.backends[1]->backend.state = BACKEND_DOWN;
	not_rescued();
	w.roster.backends[1]->backend.state = BACKEND_UP;
	f = request("GET", true);
	fire_head(w.back[1], 500, true);
	rescued_by(f, w.back[2], OUTCOME_BACKEND_5XX);
	worker_end();
}

static void
test_budget(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", "rescue = { budget = 0.0; };" PATIENT));
	not_rescued();
	assert_int_equal(w.roster.states[0].rescues_refused, 1);
	assert_int_equal(w.roster.states[0].rescues_ok, 0);
	worker_end();
	/* the floor, and then no more within the window */
	green_begin(COLORS("", "",
	    "rescue = { budget = 0.01; }; health = { passive = { failures = 0; }; };" PATIENT));
	for (unsigned i = 0; i < BUDGET_FLOOR; i++) {
		f = request("GET", true);
		fire_head(w.back[0], 500, true);
		complete(f, w.back[1]);
		w.n_backs = 0;
	}
	not_rescued();
	assert_int_equal(w.roster.states[0].rescues_ok, BUDGET_FLOOR);
	assert_int_equal(w.roster.states[0].rescues_refused, 1);
	/* a refused one that may be retried still is */
	f = request("GET", true);
	fire_closed(w.back[1], OUTCOME_BACK_RESET);
	assert_int_equal(w.at[2]->color, GREEN);
	complete(f, w.back[2]);
	worker_waits(32000);
	f = request("GET", true);
	fire_head(w.back[3], 500, true);
	rescued_by(f, w.back[4], OUTCOME_BACKEND_5XX);
	worker_end();
}

/* Something has gone to the client. */
static void
test_after_the_head(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request("GET", true);
	fire_head(w.back[0], 200, false);
	fire_closed(w.back[0], OUTCOME_BACK_TRUNCATED);
	assert_true(f->reset);
	worker_turn();
	ended(OUTCOME_BACK_TRUNCATED, 200);
	assert_tallied(GREEN, 1, 1);
	assert_int_equal(w.n_backs, 1);
	/* but an interim head is no response */
	f = request("GET", true);
	fire_head(w.back[1], 103, false);
	assert_int_equal(f->n_interim, 1);
	fire_head(w.back[1], 502, true);
	rescued_by(f, w.back[2], OUTCOME_BACKEND_5XX);
	worker_end();
}

/* --- bodies ------------------------------------------------------------------------------------ */

/* What has come goes again, what comes goes on; no byte is credited twice. */
static void
test_body_still_arriving(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request("PUT", false);
	fire_body(f, "abc", false);
	fire_drained(w.back[0]);
	assert_int_equal(f->consumed, 3);
	fire_body(f, "de", false);
	fire_head(w.back[0], 500, false);
	assert_string_equal(w.back[1]->sent, "abcde");
	assert_false(w.back[1]->ended);
	fire_body(f, "f", false);
	fire_trailers(f, "sum: 7\n");
	assert_string_equal(w.back[1]->sent, "abcdef");
	assert_string_equal(w.back[1]->trailers, "sum: 7\n");
	rescued_by(f, w.back[1], OUTCOME_BACKEND_5XX);
	conserved(f);
	worker_end();
}

/* A client that was told to go on is not asked to once more. */
static void
test_expectation(void **state)
{
	struct fake_stream *f;
	struct head *head;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = front_new();
	head = head_of_request(f, "PUT", "/", "");
	head->expect_continue = true;
	hand_over(f, head, false);
	fire_head(w.back[0], 500, false);
	assert_true(w.back[1]->expects); /* it still waits */
	fire_head(w.back[1], 100, false);
	fire_body(f, "abc", true);
	rescued_by(f, w.back[1], OUTCOME_BACKEND_5XX);

	f = front_new();
	head = head_of_request(f, "PUT", "/", "");
	head->expect_continue = true;
	hand_over(f, head, false);
	fire_head(w.back[2], 100, false);
	fire_head(w.back[2], 500, false);
	assert_false(w.back[3]->expects);
	fire_body(f, "abc", true);
	rescued_by(f, w.back[3], OUTCOME_BACKEND_5XX);
	assert_int_equal(f->n_interim, 1);
	worker_end();
}

/* --- when the live color fails too --------------------------------------------------------------- */

static void
test_live_color_fails_too(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", PATIENT));
	f = request("GET", true);
	fire_head(w.back[0], 500, true);
	fire_head(w.back[1], 503, true);
	assert_int_equal(f->status, 503);
	fire_closed(w.back[1], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_BACKEND_5XX, 503);
	assert_string_equal(logged("color"), "blue");
	assert_tallied(GREEN, 1, 1);
	assert_tallied(BLUE, 1, 1);
	assert_int_equal(w.roster.states[0].rescues_failed, 1);
	assert_int_equal(w.roster.states[0].rescues_ok, 0);

	/* it has tries of its own */
	f = request("GET", true);
	fire_closed(w.back[2], OUTCOME_BACK_RESET);
	fire_closed(w.back[3], OUTCOME_CONNECT_REFUSED);
	assert_int_equal(w.at[4]->color, BLUE);
	assert_ptr_not_equal(w.at[4], w.at[3]);
	rescued_by(f, w.back[4], OUTCOME_BACK_RESET);
	assert_int_equal(logged_number("tries"), 3);
	assert_int_equal(w.roster.states[0].retries_ok, 1);
	assert_int_equal(w.roster.states[0].rescues_ok, 1);

	/* and when they are used up there is no way back to the candidate */
	f = request("GET", true);
	fire_closed(w.back[5], OUTCOME_BACK_RESET);
	fire_closed(w.back[6], OUTCOME_BACK_RESET);
	assert_int_equal(w.n_backs, 7); /* the other blue one is held down: nobody is left */
	assert_int_equal(f->status, 502);
	finish_front(f);
	ended(OUTCOME_BACK_RESET, 502);
	assert_int_equal(w.roster.states[0].rescues_failed, 2);
	worker_end();
}

static void
test_live_color_is_full(void **state)
{
	struct fake_stream *f[3];

	(void)state;
	green_begin(COLORS("max_in_flight = 1; queue = 1;", "", PATIENT));
	w.roster.backends[0]->backend.state = BACKEND_DOWN;
	for (unsigned i = 0; i < 3; i++)
		f[i] = request("GET", true);
	for (unsigned i = 0; i < 3; i++)
		fire_head(w.back[i], 500, true);
	assert_int_equal(w.n_backs, 4);
	assert_int_equal(exchange_on(f[1])->state, X_WAITING);
	assert_int_equal(f[2]->status, 503);
	finish_front(f[2]);
	ended(OUTCOME_QUEUE_FULL, 503);
	assert_string_equal(logged("backend"), ""); /* no blue one was asked */
	assert_int_equal(w.roster.states[0].rescues_failed, 1);
	rescued_by(f[0], w.back[3], OUTCOME_BACKEND_5XX);
	rescued_by(f[1], w.back[4], OUTCOME_BACKEND_5XX);
	worker_end();
}

/* The client does not stay to see it. */
static void
test_client_goes_after_the_rescue(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request("GET", true);
	fire_head(w.back[0], 500, true);
	fire_closed(f, OUTCOME_CLIENT_GONE);
	assert_true(w.back[1]->reset);
	worker_turn();
	ended(OUTCOME_CLIENT_GONE, 499);
	assert_tallied(GREEN, 1, 1);
	assert_tallied(BLUE, 1, 0);
	assert_int_equal(w.roster.states[0].rescues_ok, 1);
	/* it had seen an error */
	f = request("GET", true);
	fire_head(w.back[2], 500, true);
	fire_head(w.back[3], 500, false);
	fire_closed(f, OUTCOME_CLIENT_GONE);
	worker_turn();
	ended(OUTCOME_CLIENT_GONE, 500);
	assert_int_equal(w.roster.states[0].rescues_failed, 1);
	worker_end();
}

/* Also when the colors change their parts meanwhile. */
static void
test_never_twice(void **state)
{
	struct fake_stream *f;

	(void)state;
	green_begin(COLORS("", "", ""));
	f = request("GET", true);
	fire_head(w.back[0], 500, true);
	set_course(GREEN, WHOLE);
	fire_head(w.back[1], 500, true);
	assert_int_equal(w.n_backs, 2);
	assert_int_equal(f->status, 500);
	fire_closed(w.back[1], OUTCOME_OK);
	finish_front(f);
	worker_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_server_error),
	    cmocka_unit_test(test_no_error),
	    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_response_timeout),
	    cmocka_unit_test(test_who_is_asked_next),
	    cmocka_unit_test(test_stale_connection),
	    cmocka_unit_test(test_stale_or_away_at_the_end),
	    cmocka_unit_test(test_grpc),
	    cmocka_unit_test(test_upgrade),
	    cmocka_unit_test(test_no_backend),
	    cmocka_unit_test(test_queue),
	    cmocka_unit_test(test_testers_see_the_candidate),
	    cmocka_unit_test(test_switched_off),
	    cmocka_unit_test(test_live_color_is_not_rescued),
	    cmocka_unit_test(test_promoted_meanwhile),
	    cmocka_unit_test(test_live_color_is_down),
	    cmocka_unit_test(test_budget),
	    cmocka_unit_test(test_after_the_head),
	    cmocka_unit_test(test_body_still_arriving),
	    cmocka_unit_test(test_expectation),
	    cmocka_unit_test(test_live_color_fails_too),
	    cmocka_unit_test(test_live_color_is_full),
	    cmocka_unit_test(test_client_goes_after_the_rescue),
	    cmocka_unit_test(test_never_twice),
	};

	return cmocka_run_group_tests_name(
	    "exchange_rescue", tests, config_files_begin, config_files_end);
}
