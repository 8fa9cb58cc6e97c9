/*
 * The exchange machine between a fake front stream and fake back streams: requests that go through, and every way
 * in which they do not.  worker_end() holds each test to giving everything back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

/* --- going through ----------------------------------------------------------------------- */

static void
test_request_without_a_body(void **state)
{
	struct fake_stream *f, *b;

	(void)state;
	worker_begin(ONE("", ""));
	f = request_with("GET", "/a?b=c", "accept: */*\n", true);
	b = w.back[0];
	assert_string_equal(b->line, "GET /a?b=c");
	assert_true(b->with_head);
	assert_non_null(strstr(b->fields, "accept: */*\n"));
	assert_int_equal(w.at[0]->inflight, 1);
	assert_int_equal(tallied(BLUE).inflight, 1);
	fire_head_with(b, 200, "content-type: text/plain\n", false);
	assert_int_equal(f->status, 200);
	assert_non_null(strstr(f->fields, "content-type: text/plain\n"));
	fire_body(b, "half", false);
	assert_int_equal(b->consumed, 0); /* credit comes with the client's taking it, not before */
	fire_drained(f);
	assert_int_equal(b->consumed, 4);
	fire_body(b, "other", true);
	assert_true(f->ended);
	fire_closed(b, OUTCOME_OK);
	assert_int_equal(w.at[0]->inflight, 0);
	finish_front(f);
	ended(OUTCOME_OK, 200);
	assert_string_equal(f->sent, "halfother");
	assert_int_equal(logged_number("tries"), 1);
	assert_int_equal(logged_number("bytes_out"), 9);
	assert_string_equal(logged("backend"), "10.0.0.1:80");
	assert_int_equal(tallied(BLUE).requests, 1);
	assert_int_equal(tallied(BLUE).failures, 0);
	assert_int_equal(tallied(BLUE).codes[1], 1);
	assert_int_equal(w.engine.counters.outcomes[OUTCOME_OK], 1);
	worker_end();
}

static void
test_body_both_ways(void **state)
{
	struct fake_stream *f, *b;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("POST", false);
	b = w.back[0];
	assert_false(b->ended);
	fire_body(f, "one", false);
	assert_string_equal(b->sent, "one");
	assert_int_equal(f->consumed, 0);
	fire_drained(b);
	assert_int_equal(f->consumed, 3);
	fire_body(f, "two", false);
	fire_body(f, "", true);
	assert_true(b->ended);
	assert_string_equal(b->sent, "onetwo");
	fire_drained(b);
	conserved(f);
	complete(f, b);
	ended(OUTCOME_OK, 200);
	worker_end();
}

static void
test_trailers_both_ways(void **state)
{
	struct fake_stream *f, *b;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("POST", false);
	b = w.back[0];
	fire_body(f, "data", false);
	fire_trailers(f, "checksum: 1\n");
	assert_string_equal(b->trailers, "checksum: 1\n");
	fire_head(b, 200, false);
	fire_body(b, "x", false);
	fire_trailers(b, "checksum: 2\n");
	assert_string_equal(f->trailers, "checksum: 2\n");
	fire_drained(b);
	fire_drained(f);
	conserved(b);
	fire_closed(b, OUTCOME_OK);
	finish_front(f);
	conserved(f);
	ended(OUTCOME_OK, 200);
	worker_end();
}

/* The backend's stream may end before all of the request was drained: its answer stands. */
static void
test_back_closed_before_all_was_drained(void **state)
{
	struct fake_stream *f, *b;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("POST", false);
	b = w.back[0];
	fire_body(f, "data", true);
	fire_head(b, 200, true);
	fire_closed(b, OUTCOME_OK);
	conserved(f);
	finish_front(f);
	ended(OUTCOME_OK, 200);
	worker_end();
}

static void
test_interim_heads(void **state)
{
	struct fake_stream *f, *old;
	struct head *head;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("GET", true);
	fire_head(w.back[0], 103, false);
	assert_int_equal(f->n_interim, 1);
	assert_int_equal(f->interim[0], 103);
	complete(f, w.back[0]);

	old = front_new();
	head = head_of_request(old, "GET", "/", "");
	head->minor = 0;
	hand_over(old, head, true);
	fire_head(w.back[1], 103, false);
	assert_int_equal(old->n_interim, 0); /* RFC 9110 15.2 */
	complete(old, w.back[1]);
	ended(OUTCOME_OK, 200);
	worker_end();
}

/* --- backend's failures ------------------------------------------------------------------ */

/* Nothing went to the client yet: the row's status, the row's word, the row's blame. */
static void
test_failures_before_the_head(void **state)
{
	(void)state;
	for (unsigned o = 0; o < N_OUTCOMES; o++) {
		const struct outcome_row *row = outcome_row((enum outcome)o);
		struct fake_stream *f;

		if (!of_backend((enum outcome)o))
			continue;
		worker_begin(ONE("", "retries = 0;"));
		f = request("GET", true);
		fire_closed(w.back[0], (enum outcome)o);
		assert_int_equal(w.n_backs, 1);
		assert_int_equal(f->status, row->status);
		assert_true(f->ended);
		assert_non_null(strstr(f->sent, row->sentence));
		assert_non_null(strstr(f->sent, exchange_on(f)->id));
		assert_int_equal(strstr(f->fields, "retry-after: ") != NULL, row->status == 503);
		finish_front(f);
		ended((enum outcome)o, row->status);
		assert_int_equal(tallied(BLUE).failures, row->failure);
		assert_int_equal(tallied(BLUE).codes[5], 1);
		assert_int_equal(w.at[0]->failures, row->blame == BLAME_BACKEND);
		worker_end();
	}
}

/* The client has a part of the answer: it must see that it is cut. */
static void
test_failures_after_the_head(void **state)
{
	static const enum outcome whys[] = {OUTCOME_BACK_TRUNCATED, OUTCOME_BACK_RESET,
	    OUTCOME_BACK_MALFORMED, OUTCOME_BACK_TOO_LARGE};

	(void)state;
	for (size_t i = 0; i < sizeof(whys) / sizeof(whys[0]); i++) {
		struct fake_stream *f;

		worker_begin(TWO("", ""));
		f = request("GET", true);
		fire_head(w.back[0], 200, false);
		fire_body(w.back[0], "part", false);
		fire_closed(w.back[0], whys[i]);
		assert_true(f->reset);
		assert_int_equal(f->why, whys[i]);
		assert_int_equal(w.n_backs, 1); /* never replayed */
		worker_turn();
		ended(whys[i], 200);
		assert_int_equal(tallied(BLUE).failures, 1);
		assert_int_equal(w.at[0]->failures, 1);
		worker_end();
	}
}

/* A codec that says all went well without having given an answer is wrong, and that is our fault. */
static void
test_back_closed_without_an_answer(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("GET", true);
	fire_closed(w.back[0], OUTCOME_OK);
	assert_int_equal(f->status, 500);
	finish_front(f);
	ended(OUTCOME_INTERNAL, 500);
	worker_end();
}

static void
test_server_errors(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("GET", true);
	fire_head(w.back[0], 503, true);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_BACKEND_5XX, 503);
	assert_int_equal(tallied(BLUE).failures, 1);
	assert_int_equal(tallied(BLUE).codes[4], 1);

	/* whoever hangs up on an error does not make it a success */
	f = request("GET", true);
	fire_head(w.back[1], 500, false);
	fire_closed(f, OUTCOME_CLIENT_GONE);
	worker_turn();
	ended(OUTCOME_CLIENT_GONE, 500);
	assert_int_equal(tallied(BLUE).failures, 2);

	f = request("GET", true);
	fire_head(w.back[2], 404, true);
	fire_closed(w.back[2], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_OK, 404);
	assert_int_equal(tallied(BLUE).failures, 2);
	worker_end();
}

static void
test_grpc_errors(void **state)
{
	static const struct {
		const char *status;
		bool failed;
	} codes[] = {{"0", false}, {"1", false}, {"2", true}, {"4", true}, {"5", false},
	    {"12", false}, {"13", true}, {"14", true}, {"15", true}, {"16", false}};

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		char text[32];

		snprintf(text, sizeof(text), "grpc-status: %s\n", codes[i].status);
		for (int in_head = 0; in_head <= 1; in_head++) {
			struct fake_stream *f;

			worker_begin(ONE("", ""));
			f = request_with(
			    "POST", "/", "content-type: application/grpc+proto\n", true);
			fire_head_with(w.back[0], 200, in_head ? text : "", in_head);
			if (!in_head)
				fire_trailers(w.back[0], text);
			fire_closed(w.back[0], OUTCOME_OK);
			finish_front(f);
			ended(codes[i].failed ? OUTCOME_GRPC_ERROR : OUTCOME_OK, 200);
			assert_int_equal(tallied(BLUE).failures, codes[i].failed);
			worker_end();
		}
	}
	/* in an ordinary answer the field means nothing */
	worker_begin(ONE("", ""));
	struct fake_stream *f = request("GET", true);

	fire_head_with(w.back[0], 200, "grpc-status: 14\n", true);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_OK, 200);
	worker_end();
}

/* --- nobody to ask ----------------------------------------------------------------------- */

static void
test_no_backend(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	w.roster.backends[0]->backend.state = BACKEND_DOWN;
	f = request("GET", true);
	assert_int_equal(f->status, 503);
	assert_non_null(strstr(f->fields, "retry-after: 1\n"));
	finish_front(f);
	ended(OUTCOME_NO_BACKEND, 503);
	assert_int_equal(logged_number("tries"), 0);
	assert_int_equal(tallied(BLUE).failures, 1);
	worker_end();
}

static void
test_unresolved_backends(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", ""));
	w.roster.backends[0]->target.n = 0;
	worker_adopts();
	for (unsigned i = 0; i < 4; i++) { /* whoever is picked first */
		f = request("GET", true);
		assert_string_equal(w.at[i]->name, "10.0.0.2:80");
		complete(f, w.back[i]);
		ended(OUTCOME_OK, 200);
	}
	w.roster.backends[1]->target.n = 0;
	worker_adopts();
	f = request("GET", true);
	assert_int_equal(f->status, 503);
	finish_front(f);
	ended(OUTCOME_RESOLVE_FAILED, 503);
	assert_int_equal(w.n_backs, 4);
	worker_end();
}

/* --- the client goes --------------------------------------------------------------------- */

static void
test_client_gone_in_every_state(void **state)
{
	static const enum outcome whys[] = {OUTCOME_CLIENT_GONE, OUTCOME_CLIENT_SLOW,
	    OUTCOME_STOPPED, OUTCOME_BAD_REQUEST, OUTCOME_HEADER_TOO_LARGE};

	(void)state;
	for (size_t i = 0; i < sizeof(whys) / sizeof(whys[0]); i++) {
		const struct outcome_row *row = outcome_row(whys[i]);
		unsigned status = row->status != 0 ? row->status : 499;
		struct fake_stream *f, *first;

		worker_begin(ONE("max_in_flight = 1;", ""));
		/* waiting */
		first = request("GET", true);
		f = request("POST", false);
		fire_body(f, "kept", false);
		fire_closed(f, whys[i]);
		worker_turn();
		ended(whys[i], status);
		assert_int_equal(the_service(0)->state->waiting[BLUE], 0);
		/* sending */
		fire_closed(first, whys[i]);
		assert_true(w.back[0]->reset);
		worker_turn();
		ended(whys[i], status);
		/* relaying */
		f = request("POST", false);
		fire_body(f, "half", false);
		fire_head(w.back[1], 200, false);
		fire_body(w.back[1], "half", false);
		fire_closed(f, whys[i]);
		assert_true(w.back[1]->reset);
		worker_turn();
		ended(whys[i], 200);
		/* the answer is whole, the backend is through, and the client has not taken it */
		f = request("GET", true);
		fire_head(w.back[2], 200, true);
		fire_closed(w.back[2], OUTCOME_OK);
		fire_closed(f, whys[i]);
		worker_turn();
		ended(whys[i], 200);
		/* answered here: the reason stays */
		w.roster.backends[0]->backend.state = BACKEND_DOWN;
		f = request("POST", false);
		fire_closed(f, whys[i]);
		worker_turn();
		ended(OUTCOME_NO_BACKEND, 503);
		worker_end();
	}
}

/* --- answers made here ------------------------------------------------------------------- */

static void
test_refused_by_the_codec(void **state)
{
	static const enum outcome whys[] = {OUTCOME_HEADER_TIMEOUT, OUTCOME_BAD_REQUEST,
	    OUTCOME_METHOD_REFUSED, OUTCOME_URI_TOO_LONG, OUTCOME_EXPECT_REFUSED,
	    OUTCOME_HEADER_TOO_LARGE, OUTCOME_NOT_IMPLEMENTED, OUTCOME_VERSION_REFUSED};
	struct fake_stream *f;

	(void)state;
	for (size_t i = 0; i < sizeof(whys) / sizeof(whys[0]); i++) {
		struct head *partial;

		worker_begin(ONE("", ""));
		f = front_new();
		partial = arena_alloc(&f->stream.arena, sizeof(*partial));
		*partial = (struct head){.content_length = HEAD_LENGTH_NONE, .no_body = true};
		exchange_handler.refused(&w.client.fc, &f->stream, partial, whys[i]);
		assert_int_equal(f->status, outcome_row(whys[i])->status);
		assert_int_equal(strstr(f->fields, "allow: ") != NULL, f->status == 405);
		assert_non_null(strstr(f->fields, "cache-control: no-store\n"));
		finish_front(f);
		ended(whys[i], outcome_row(whys[i])->status);
		assert_int_equal(tallied(BLUE).requests, 0);
		worker_end();
	}
}

static void
test_answered_at_the_edge(void **state)
{
	struct fake_stream *f;
	struct head *head;

	(void)state;
	worker_begin(
	    LISTEN "services = ( { name = \"api\"; hosts = [ \"api.example\" ]; paths = [ \"/a\" "
		   "]; " BLUE_POOL
		   " rates = ( { path = \"/a/limited\"; requests = 1; burst = 1; } ); } );\n");
	f = request_with("GET", "/b", "", true);
	assert_int_equal(f->status, 404);
	finish_front(f);
	ended(OUTCOME_NO_ROUTE, 404);

	f = front_new();
	head = head_of_request(f, "GET", "/a", "");
	head->authority = TEXT("other.example");
	hand_over(f, head, true);
	finish_front(f);
	ended(OUTCOME_MISDIRECTED, 421);

	f = request_with("GET", "/a/limited", "", true);
	complete(f, w.back[0]);
	f = request_with("GET", "/a/limited", "", true);
	assert_non_null(strstr(f->fields, "retry-after: 1\n"));
	finish_front(f);
	ended(OUTCOME_RATE_LIMITED, 429);

	w.roster.states[0].maintenance = true;
	f = request_with("GET", "/a", "", true);
	assert_non_null(strstr(f->fields, "retry-after: 60\n"));
	assert_non_null(strstr(f->fields, "content-type: text/plain; charset=utf-8\n"));
	finish_front(f);
	ended(OUTCOME_MAINTENANCE, 503);
	w.pages[0] = "<p>soon</p>";
	f = request_with("GET", "/a", "", true);
	assert_string_equal(f->sent, "<p>soon</p>");
	assert_int_equal(f->content_length, 11);
	assert_non_null(strstr(f->fields, "content-type: text/html; charset=utf-8\n"));
	finish_front(f);
	f = request_with("HEAD", "/a", "", true);
	assert_true(f->with_head);
	assert_int_equal(f->content_length, 11);
	finish_front(f);
	ended(OUTCOME_MAINTENANCE, 503);
	worker_end();
}

static void
redirected(const char *listener, const char *authority, const char *location)
{
	char config[512], expected[256];
	struct fake_stream *f;
	struct head *head;

	snprintf(config, sizeof(config),
	    "listen = ( { address = \"127.0.0.1:80\"; redirect_to_https = true; %s } );\n"
	    "services = ( { name = \"api\"; " BLUE_POOL " } );\n",
	    listener);
	worker_begin(config);
	f = front_new();
	head = head_of_request(f, "GET", "/x?y=z", "");
	head->authority = (struct text){authority, strlen(authority)};
	hand_over(f, head, true);
	snprintf(expected, sizeof(expected), "location: %s\n", location);
	assert_non_null(strstr(f->fields, expected));
	finish_front(f);
	ended(OUTCOME_REDIRECTED, 308);
	worker_end();
}

static void
test_redirects(void **state)
{
	(void)state;
	redirected("", "api.example", "https://api.example/x?y=z");
	redirected("", "api.example:80", "https://api.example/x?y=z");
	redirected("", "[2001:db8::1]", "https://[2001:db8::1]/x?y=z");
	redirected("", "[2001:db8::1]:80", "https://[2001:db8::1]/x?y=z");
	redirected("redirect_port = 8443;", "api.example:80", "https://api.example:8443/x?y=z");
}

/* What a gRPC client understands: 200 and a status in the head alone. */
static void
test_grpc_answers(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	w.roster.backends[0]->backend.state = BACKEND_DOWN;
	f = request_with("POST", "/", "content-type: application/grpc\n", false);
	assert_int_equal(f->status, 200);
	assert_true(f->with_head);
	assert_non_null(strstr(f->fields, "grpc-status: 14\n"));
	assert_non_null(strstr(f->fields, "grpc-message: no backend is up\n"));
	finish_front(f);
	ended(OUTCOME_NO_BACKEND, 200);
	worker_end();
}

/* --- and those are all the ways there are --------------------------------------------------- */

/* Of these the other programs take care: test_exchange_retry, _wait, _stream, _leave. */
static bool
ends_elsewhere(enum outcome o)
{
	return o == OUTCOME_QUEUE_FULL || o == OUTCOME_QUEUE_TIMEOUT || o == OUTCOME_HEAD_TIMEOUT ||
	       o == OUTCOME_BODY_TIMEOUT || o == OUTCOME_REQUEST_TIMEOUT || o == OUTCOME_TUNNEL ||
	       o == OUTCOME_BODY_TOO_LARGE || o == OUTCOME_COLOR_LEFT;
}

static void
test_every_outcome_was_seen(void **state)
{
	(void)state;
	for (unsigned o = 0; o < N_OUTCOMES; o++) {
		if (!outcomes_seen[o] && !ends_elsewhere((enum outcome)o))
			fail_msg("no test ends with %s", outcome_table[o].word);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request_without_a_body),
	    cmocka_unit_test(test_body_both_ways),
	    cmocka_unit_test(test_trailers_both_ways),
	    cmocka_unit_test(test_back_closed_before_all_was_drained),
	    cmocka_unit_test(test_interim_heads),
	    cmocka_unit_test(test_failures_before_the_head),
	    cmocka_unit_test(test_failures_after_the_head),
	    cmocka_unit_test(test_back_closed_without_an_answer),
	    cmocka_unit_test(test_server_errors),
	    cmocka_unit_test(test_grpc_errors),
	    cmocka_unit_test(test_no_backend),
	    cmocka_unit_test(test_unresolved_backends),
	    cmocka_unit_test(test_client_gone_in_every_state),
	    cmocka_unit_test(test_refused_by_the_codec),
	    cmocka_unit_test(test_answered_at_the_edge),
	    cmocka_unit_test(test_redirects),
	    cmocka_unit_test(test_grpc_answers),
	    cmocka_unit_test(test_every_outcome_was_seen),
	};

	return cmocka_run_group_tests_name("exchange", tests, config_files_begin, config_files_end);
}
