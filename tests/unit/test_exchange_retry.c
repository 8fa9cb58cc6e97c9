/*
 * Another try: which outcomes allow it, for which requests, where it goes, and what of the body goes again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

/* --- retries ----------------------------------------------------------------------------- */

#define LONG_BODY 70000 /* more than rescue.max_body */

enum body { NO_BODY, SHORT_BODY, TOO_LONG_BODY };

static bool
allowed(enum outcome o, const char *method, enum body body)
{
	switch ((enum retry)outcome_row(o)->retry) {
	case RETRY_NEVER:
		return false;
	case RETRY_IDEMPOTENT:
		return strcmp(method, "POST") != 0 && strcmp(method, "PATCH") != 0 &&
		       body != TOO_LONG_BODY;
	case RETRY_ANY:
		return body != TOO_LONG_BODY;
	}
	return false;
}

static void
try_one(enum outcome o, const char *method, enum body body)
{
	struct fake_stream *f;

	worker_begin(TWO("", ""));
	f = request(method, body == NO_BODY);
	if (body == SHORT_BODY)
		fire_body(f, "hello", true);
	if (body == TOO_LONG_BODY) {
		fire_bytes(f, LONG_BODY / 2, false);
		fire_bytes(f, LONG_BODY / 2, true);
	}
	fire_closed(w.back[0], o);
	if (!allowed(o, method, body)) {
		assert_int_equal(w.n_backs, 1);
		assert_int_equal(f->status, outcome_row(o)->status);
		conserved(f);
		finish_front(f);
		ended(o, outcome_row(o)->status);
	} else {
		assert_int_equal(w.n_backs, 2);
		assert_int_equal(f->heads, 0);
		assert_true(w.back[1]->ended);
		assert_string_equal(w.back[1]->line, w.back[0]->line);
		assert_string_equal(w.back[1]->sent, body == SHORT_BODY ? "hello" : "");
		if (o != OUTCOME_BACK_STALE && o != OUTCOME_BACK_GOAWAY)
			assert_ptr_not_equal(w.at[0], w.at[1]);
		fire_drained(w.back[1]);
		complete(f, w.back[1]);
		ended(OUTCOME_OK, 200);
		assert_int_equal(logged_number("tries"), 2);
		assert_int_equal(w.roster.states[0].retries_ok, 1);
	}
	worker_end();
}

static void
test_retry_rules(void **state)
{
	static const char *const methods[] = {
	    "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"};

	(void)state;
	for (unsigned o = 0; o < N_OUTCOMES; o++) {
		if (!of_backend((enum outcome)o))
			continue;
		for (size_t m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
			for (enum body b = NO_BODY; b <= TOO_LONG_BODY; b++) {
				if (strcmp(methods[m], "HEAD") != 0)
					try_one((enum outcome)o, methods[m], b);
			}
		}
	}
}

static void
test_retries_are_counted(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(API(
	    POOL("", "\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\", \"10.0.0.4:80\""), ""));
	f = request("GET", true);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(w.n_backs, i + 1);
		for (unsigned j = 0; j < i; j++)
			assert_ptr_not_equal(w.at[i], w.at[j]);
		fire_closed(w.back[i], OUTCOME_BACK_REFUSED);
	}
	assert_int_equal(w.n_backs, 3); /* retries = 2 */
	assert_int_equal(f->status, 503);
	finish_front(f);
	ended(OUTCOME_BACK_REFUSED, 503);
	assert_int_equal(logged_number("tries"), 3);
	assert_int_equal(w.roster.states[0].retries_failed, 1);
	worker_end();
}

/* Nobody untried is left: the answer names what the last one did. */
static void
test_nobody_left_to_try(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", "retries = 7;"));
	f = request("GET", true);
	fire_closed(w.back[0], OUTCOME_BACK_RESET);
	fire_closed(w.back[1], OUTCOME_BACK_MALFORMED);
	assert_int_equal(w.n_backs, 2);
	assert_int_equal(f->status, 502);
	finish_front(f);
	ended(OUTCOME_BACK_MALFORMED, 502);
	worker_end();
}

/* A kept connection that had been closed says nothing against the only backend there is. */
static void
test_stale_connection_asks_the_same_again(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("GET", true);
	fire_closed(w.back[0], OUTCOME_BACK_STALE);
	assert_int_equal(w.n_backs, 2);
	complete(f, w.back[1]);
	ended(OUTCOME_OK, 200);
	assert_int_equal(tallied(BLUE).failures, 0);
	worker_end();
}

/* Every address of a name before another backend; only then is it held down. */
static void
test_addresses_of_one_backend(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", "retries = 1;"));
	for (unsigned i = 0; i < 2; i++)
		w.roster.backends[i]->target.n = 3;
	worker_adopts();
	f = request("POST", false);
	fire_body(f, "body", true);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(w.n_backs, i + 1);
		assert_ptr_equal(w.at[i], w.at[0]);
		assert_int_equal(w.at[0]->inflight, 1);
		assert_int_equal(w.unreachable, 0);
		fire_closed(w.back[i], OUTCOME_CONNECT_REFUSED);
	}
	assert_int_equal(w.unreachable, 1);
	assert_int_equal(w.n_backs, 4);
	assert_ptr_not_equal(w.at[3], w.at[0]);
	assert_string_equal(w.back[3]->sent, "body");
	fire_drained(w.back[3]);
	complete(f, w.back[3]);
	ended(OUTCOME_OK, 200);
	worker_end();
}

/* A part of the body was taken, credited and replayed: no byte is credited twice. */
static void
test_replay_credits_each_byte_once(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", ""));
	f = request("PUT", false);
	fire_body(f, "abcdef", false);
	fire_drained(w.back[0]);
	assert_int_equal(f->consumed, 6);
	fire_body(f, "gh", false);
	fire_closed(w.back[0], OUTCOME_BACK_RESET);
	assert_string_equal(w.back[1]->sent, "abcdefgh");
	assert_int_equal(f->consumed, 6);
	fire_body(f, "i", true);
	assert_string_equal(w.back[1]->sent, "abcdefghi");
	fire_drained(w.back[1]);
	assert_int_equal(f->consumed, 9);
	complete(f, w.back[1]);
	ended(OUTCOME_OK, 200);
	worker_end();
}

static void
test_replay_of_trailers(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", ""));
	f = request("PUT", false);
	fire_body(f, "abc", false);
	fire_trailers(f, "sum: 7\n");
	fire_closed(w.back[0], OUTCOME_BACK_RESET);
	assert_string_equal(w.back[1]->sent, "abc");
	assert_string_equal(w.back[1]->trailers, "sum: 7\n");
	fire_drained(w.back[1]);
	complete(f, w.back[1]);
	/* and a request of trailers alone */
	f = request("PUT", false);
	fire_trailers(f, "sum: 8\n");
	fire_closed(w.back[2], OUTCOME_BACK_RESET);
	assert_false(w.back[3]->with_head);
	assert_string_equal(w.back[3]->trailers, "sum: 8\n");
	complete(f, w.back[3]);
	worker_end();
}

/* Bytes that came in many pieces, some by reference into a chunk: the second backend gets the same. */
static void
test_replay_of_many_pieces(void **state)
{
	struct fake_stream *f;
	struct chunk *c;

	(void)state;
	worker_begin(TWO("", ""));
	f = request("PUT", false);
	c = chunk_new(w.turn->chunks, CHUNK_LARGE);
	for (unsigned i = 0; i < CHUNK_LARGE; i++)
		c->data[i] = (unsigned char)('a' + i % 23);
	c->used = CHUNK_LARGE;
	for (unsigned i = 0; i < 16; i++) {
		struct slice s = {c, c->data + i * 100, i % 2 == 0 ? 3000 : 10};

		f->given += s.n;
		f->stream.events->body(f->stream.user, s, false);
	}
	chunk_unref(c);
	fire_body(f, "z", true);
	fire_closed(w.back[0], OUTCOME_BACK_REFUSED);
	assert_int_equal(w.back[1]->n_sent, 8 * 3010 + 1);
	assert_memory_equal(w.back[1]->sent, w.back[0]->sent, w.back[0]->n_sent);
	assert_true(w.back[1]->ended);
	fire_drained(w.back[1]);
	complete(f, w.back[1]);
	worker_end();
}

/* --- a new fleet ------------------------------------------------------------------------- */

static struct known_backend *
swap_backend(const char *address)
{
	char err[128];
	struct known_backend *k;

	for (unsigned i = 0; i < w.roster.n_backends; i++)
		w.roster.backends[i]->member = false;
	k = roster_backend(&w.roster, 0, BLUE, address, err, sizeof(err));
	assert_non_null(k);
	k->member = true;
	k->target.n = 1;
	worker_adopts();
	return k;
}

/* Those who wait must not end at backends that have left: they follow the newest fleet.  Those under way finish. */
static void
test_new_fleet_while_waiting(void **state)
{
	struct fake_stream *f[2];
	struct known_backend *k;

	(void)state;
	worker_begin(ONE("max_in_flight = 1;", ""));
	f[0] = request("GET", true);
	f[1] = request("GET", true);
	k = swap_backend("10.0.0.9:80");
	assert_non_null(w.roster.retired);
	worker_waits(100);
	assert_int_equal(w.n_backs, 2);
	assert_ptr_equal(w.at[1], &k->backend);
	complete(f[1], w.back[1]);
	complete(f[0], w.back[0]);
	ended(OUTCOME_OK, 200);
	roster_collect(&w.roster);
	assert_null(w.roster.retired);
	worker_end();
}

static void
test_new_fleet_before_a_retry(void **state)
{
	struct fake_stream *f;
	struct known_backend *k;

	(void)state;
	worker_begin(ONE("", ""));
	w.roster.backends[0]->target.n = 2;
	worker_adopts();
	f = request("GET", true);
	k = swap_backend("10.0.0.9:80");
	fire_closed(
	    w.back[0], OUTCOME_CONNECT_FAILED); /* its second address is not tried any more */
	roster_collect(&w.roster);
	assert_null(w.roster.retired);
	assert_int_equal(w.n_backs, 2);
	assert_ptr_equal(w.at[1], &k->backend);
	complete(f, w.back[1]);
	ended(OUTCOME_OK, 200);
	assert_string_equal(logged("backend"), "10.0.0.9:80");
	/* nobody is left in the new one: the log still has the name of who was asked */
	f = request("GET", true);
	w.roster.backends[1]->member = false;
	worker_adopts();
	fire_closed(w.back[2], OUTCOME_BACK_RESET);
	finish_front(f);
	ended(OUTCOME_BACK_RESET, 502);
	assert_string_equal(logged("backend"), "10.0.0.9:80");
	worker_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_retry_rules),
	    cmocka_unit_test(test_retries_are_counted),
	    cmocka_unit_test(test_nobody_left_to_try),
	    cmocka_unit_test(test_stale_connection_asks_the_same_again),
	    cmocka_unit_test(test_addresses_of_one_backend),
	    cmocka_unit_test(test_replay_credits_each_byte_once),
	    cmocka_unit_test(test_replay_of_trailers),
	    cmocka_unit_test(test_replay_of_many_pieces),
	    cmocka_unit_test(test_new_fleet_while_waiting),
	    cmocka_unit_test(test_new_fleet_before_a_retry),
	};

	return cmocka_run_group_tests_name(
	    "exchange_retry", tests, config_files_begin, config_files_end);
}
