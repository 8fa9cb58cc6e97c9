/*
 * Who changed what: the table.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* no part of the library the tests link */
#include "proxy/tealctl/history.c"
#include "proxy/tealctl/text.c"

static void
table_is(const char *json_text, const char *want)
{
	const struct look look = {.utf8 = true};
	json_t *answer = json_loads(json_text, JSON_DECODE_ANY, NULL);
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	assert_non_null(f);
	assert_non_null(answer);
	history_render(f, answer, &look);
	fclose(f);
	if (want != NULL)
		assert_string_equal(text, want);
	free(text);
	json_decref(answer);
}

static void
table(void **state)
{
	(void)state;
	table_is(
	    "{\"service\": \"api\", \"entries\": ["
	    "{\"time\": \"2026-11-21T05:00:00.123Z\", \"action\": \"weight\", \"from\": \"0\","
	    " \"to\": \"25\", \"epoch\": 8, \"by\": {\"uid\": 0, \"user\": \"alice\"},"
	    " \"reason\": \"OPS-7\\u001b\"},"
	    "{\"time\": \"2026-11-21T05:00:01Z\", \"action\": \"rearm\", \"from\": \"\", "
	    "\"to\": \"\","
	    " \"epoch\": 9, \"by\": {\"uid\": 1000, \"user\": \"\"}, \"reason\": \"\"},"
	    "{\"time\": \"2026-11-21T05:00:02Z\", \"action\": \"trip\", \"from\": \"25\","
	    " \"to\": \"0\", \"epoch\": 10, \"by\": \"teal\", \"rule\": \"p95\", \"reason\": "
	    "\"slow\","
	    " \"verdict\": \"12 of 20\"},"
	    "{\"time\": \"2026-11-21T05:00:03Z\", \"action\": \"step\", \"to\": \"step 1, 25 %\","
	    " \"epoch\": 11, \"by\": \"teal\", \"verdict\": \"well\"}]}",
	    "time (UTC)           who       what            epoch  why\n"
	    "2026-11-21 05:00:00  alice     weight 0 -> 25      8  OPS-7?\n"
	    "2026-11-21 05:00:01  uid 1000  rearm               9\n"
	    "2026-11-21 05:00:02  teal      trip 25 -> 0       10  p95: slow (12 of 20)\n"
	    "2026-11-21 05:00:03  teal      step 1, 25 %       11  well\n");
}

static void
long_changes_push_on(void **state)
{
	(void)state;
	table_is(
	    "{\"entries\": [{\"time\": \"2026-11-21T05:00:00Z\", \"action\": \"pool\", \"from\": "
	    "\"\","
	    " \"to\": \"1234567890123456789012345678901234567890123456789012345678901234567890\","
	    " \"epoch\": 1, \"by\": \"teal\", \"reason\": \"same\", \"verdict\": \"same\"},"
	    "{\"time\": \"2026-11-21T05:00:00Z\", \"action\": \"flip\", \"from\": \"blue\","
	    " \"to\": \"\", \"epoch\": 2, \"by\": 5}]}",
	    "time (UTC)           who   what                                                       "
	    "  "
	    " epoch  why\n"
	    "2026-11-21 05:00:00  teal  pool "
	    "1234567890123456789012345678901234567890123456789012345678901234567890      1  same\n"
	    "2026-11-21 05:00:00  ?     flip blue -> nothing                                       "
	    "  "
	    "     2\n");
}

static void
odd_answers(void **state)
{
	(void)state;
	table_is("{\"service\": \"api\", \"entries\": []}", "api: nothing has been changed yet\n");
	table_is("5", NULL);
	table_is("{\"entries\": 5}", NULL);
	table_is("{\"entries\": [null, 7, {}, {\"by\": {\"user\": 3}, \"from\": 3}]}", NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(table),
	    cmocka_unit_test(long_changes_push_on),
	    cmocka_unit_test(odd_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
