/* The rules every row of outcome.def must keep. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/outcome.h"

static void
rows_are_complete(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_OUTCOMES; i++) {
		const struct outcome_row *row = outcome_row((enum outcome)i);

		assert_non_null(row->word);
		assert_non_null(row->sentence);
		assert_true(row->word[0] != '\0' && row->sentence[0] != '\0');
		assert_true(row->status == 0 || (row->status >= 300 && row->status <= 599));
		assert_true(row->retry <= RETRY_ANY);
		assert_true(row->blame <= BLAME_EDGE);
	}
}

/* The words go to logs and metric labels: lower case and dashes, each only once. */
static void
words_are_labels(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_OUTCOMES; i++) {
		const char *word = outcome_row((enum outcome)i)->word;

		for (const char *c = word; *c != '\0'; c++)
			assert_true(
			    islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '-');
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(word, outcome_row((enum outcome)k)->word);
	}
}

/* Sentences go into plain-text and JSON bodies as they are. */
static void
sentences_need_no_quoting(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_OUTCOMES; i++) {
		const char *sentence = outcome_row((enum outcome)i)->sentence;

		assert_null(strpbrk(sentence, "\"\\<>&\r\n"));
	}
}

static void
policy_is_consistent(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_OUTCOMES; i++) {
		const struct outcome_row *row = outcome_row((enum outcome)i);

		/* what the client did, or what we refused, is no failure of a color and not
		 * to be tried again */
		if (row->blame == BLAME_CLIENT || row->blame == BLAME_EDGE) {
			assert_false(row->failure);
			assert_int_equal(row->retry, RETRY_NEVER);
		}
		/* what the backend is blamed for is a failure of its color */
		if (row->blame == BLAME_BACKEND)
			assert_true(row->failure);
		/* whoever is blamed with an answer of ours: 4xx the client, 5xx the backend */
		if (row->blame == BLAME_CLIENT && row->status != 0 && row->status != 501 &&
		    row->status != 505)
			assert_in_range(row->status, 400, 499);
		if (row->blame == BLAME_BACKEND && row->status != 0)
			assert_in_range(row->status, 502, 504);
		/* if we try again we must have something to say when nobody is left */
		if (row->retry != RETRY_NEVER)
			assert_int_not_equal(row->status, 0);
	}
}

static void
contract(void **state)
{
	(void)state;
	/* provably not processed: any method may be tried elsewhere (RFC 9113 8.7) */
	assert_int_equal(outcome_row(OUTCOME_CONNECT_REFUSED)->retry, RETRY_ANY);
	assert_int_equal(outcome_row(OUTCOME_BACK_REFUSED)->retry, RETRY_ANY);
	assert_int_equal(outcome_row(OUTCOME_BACK_GOAWAY)->retry, RETRY_ANY);
	/* perhaps processed: only what is idempotent (RFC 9110 9.2.2) */
	assert_int_equal(outcome_row(OUTCOME_BACK_RESET)->retry, RETRY_IDEMPOTENT);
	assert_int_equal(outcome_row(OUTCOME_HEAD_TIMEOUT)->retry, RETRY_IDEMPOTENT);
	/* the client has seen bytes */
	assert_int_equal(outcome_row(OUTCOME_BACK_TRUNCATED)->retry, RETRY_NEVER);
	assert_true(outcome_row(OUTCOME_BACKEND_5XX)->failure);
	assert_true(outcome_row(OUTCOME_GRPC_ERROR)->failure);
	assert_false(outcome_row(OUTCOME_OK)->failure);
	assert_false(outcome_row(OUTCOME_CLIENT_GONE)->failure);
	assert_int_equal(outcome_row(OUTCOME_RATE_LIMITED)->status, 429);
	assert_int_equal(outcome_row(OUTCOME_HEADER_TOO_LARGE)->status, 431);
	assert_int_equal(outcome_row(OUTCOME_MISDIRECTED)->status, 421);
	assert_int_equal(outcome_row(OUTCOME_HEAD_TIMEOUT)->status, 504);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_are_complete),
	    cmocka_unit_test(words_are_labels),
	    cmocka_unit_test(sentences_need_no_quoting),
	    cmocka_unit_test(policy_is_consistent),
	    cmocka_unit_test(contract),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
