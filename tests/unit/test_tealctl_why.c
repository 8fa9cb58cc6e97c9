/*
 * The evidence and an event, as they are read.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* no part of the library the tests link */
#include "proxy/tealctl/event_line.c"
#include "proxy/tealctl/text.c"
#include "proxy/tealctl/why.c"

static const char evidence_text[] =
    "{\"service\": \"api\", \"time\": \"2026-11-21T06:00:00Z\", \"action\": \"trip\","
    " \"rule\": \"failure_rate\", \"reason\": \"green failed 3 of 3\", \"live\": \"blue\","
    " \"candidate\": \"green\", \"weight\": 25, \"epoch\": 9,"
    " \"numbers\": {\"requests\": 3, \"failures\": 3, \"failure_rate\": 100, \"limit\": 1,"
    "   \"beyond_chance\": 29.48, \"slow\": 1, \"overdue\": 2, \"p95_ms\": 12.3, \"wealth\": 64,"
    "   \"backends_up\": 1, \"backends\": 2, \"live\": {\"requests\": 9, \"failures\": 0,"
    "   \"failure_rate\": 0, \"p95_ms\": 3.1, \"backends_up\": 1, \"backends\": 1}},"
    " \"rollout\": {\"to\": \"green\", \"step\": 1, \"steps\": [{\"weight\": 25, \"hold\": "
    "\"5m\"}]},"
    " \"failures\": ["
    "   {\"time\": \"2026-11-21T05:59:59.120Z\", \"method\": \"GET\", \"path\": \"/a\","
    "    \"status\": 500, \"outcome\": \"ok\", \"backend\": \"10.0.1.1:80\", \"id\": \"x1\","
    "    \"age_ms\": 4},"
    "   {\"time\": \"2026-11-21T05:59:59.500Z\", \"method\": \"POST\", \"path\": \"/b\\u001b[2J\","
    "    \"status\": 0, \"outcome\": \"timeout\", \"backend\": \"10.0.1.2:80\", \"id\": \"x2\","
    "    \"age_ms\": 1500}],"
    " \"timeline\": [{\"time\": \"2026-11-21T05:55:00Z\", \"weight\": 25, \"why\": \"step 1\"},"
    "   {\"time\": \"2026-11-21T06:00:00Z\", \"weight\": 0, \"why\": \"trip\"}],"
    " \"backends\": [{\"color\": \"green\", \"address\": \"10.0.1.1:80\", \"state\": \"down\","
    "   \"reason\": \"refused\"}]}";

static json_t *evidence;
static char *text;

static int
setup(void **state)
{
	(void)state;
	evidence = json_loads(evidence_text, 0, NULL);
	return evidence == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	json_decref(evidence);
	free(text);
	text = NULL;
	return 0;
}

/* 2026-11-21 06:02:00 */
static const struct look look = {.utf8 = true, .now_ms = 1795240920000};

static void
render(const json_t *service, const struct look *l)
{
	size_t n;
	FILE *f;

	free(text);
	f = open_memstream(&text, &n);
	assert_non_null(f);
	why_render(f, evidence, service, l);
	assert_int_equal(fclose(f), 0);
}

static void
shows(const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("\"%s\" is not in\n%s", what, text);
}

static void
all_of_it(void **state)
{
	json_t *service =
	    json_pack("{s:s, s:s, s:b}", "name", "api", "candidate", "green", "tripped", 1);

	(void)state;
	render(service, &look);
	assert_string_equal(text,
	    "api: green was rolled back 2m 0s ago (2026-11-21 06:00:00 UTC) by failure_rate: green "
	    "failed 3 of 3\n"
	    "  it had 25 % of the requests in step 1 of its rollout: 25 % for 5m; epoch 9\n"
	    "\n"
	    "  color  requests   failed       rate      p95   backends up\n"
	    "  green         3        3   100.00 %    12 ms   1 of 2\n"
	    "  blue          9        0     0.00 %   3.1 ms   1 of 1\n"
	    "  limit 1 %, at least 29.48 % beyond chance, 1 slow, 2 overdue, wealth 64 (10000 "
	    "trips)\n"
	    "\n"
	    "The first failing exchanges\n"
	    "  time (UTC)    request      result      after  backend      id\n"
	    "  05:59:59.120  GET /a       500 ok     4.0 ms  10.0.1.1:80  x1\n"
	    "  05:59:59.500  POST /b?[2J  timeout    1.50 s  10.0.1.2:80  x2\n"
	    "\n"
	    "The weight\n"
	    "  2026-11-21 05:55:00     25 %  [#####...............]  step 1\n"
	    "  2026-11-21 06:00:00      0 %  [....................]  trip\n"
	    "\n"
	    "The backends then\n"
	    "  green  10.0.1.1:80  down: refused\n"
	    "\n"
	    "green gets nothing until: tealctl rearm api\n");
	json_decref(service);
}

static void
other_ways_back(void **state)
{
	const struct look timeless = {.utf8 = true};

	(void)state;
	json_object_set_new(evidence, "action", json_string("abort"));
	json_object_set_new(evidence, "rule", json_string(""));
	json_object_set_new(evidence, "reason", json_string("OPS-7"));
	json_object_set_new(evidence, "rollout", json_null());
	render(NULL, &timeless);
	shows("api: green was taken back by hand at 2026-11-21 06:00:00 UTC: OPS-7\n");
	shows("  it had 25 % of the requests, set by hand; epoch 9\n");
	assert_null(strstr(text, "rearm"));
	json_object_set_new(evidence, "action", json_string("inconclusive"));
	render(NULL, &timeless);
	shows("was rolled back at 2026-11-21 06:00:00 UTC as inconclusive: OPS-7\n");
	json_object_set_new(evidence, "rule", json_string("p95"));
	render(NULL, &timeless);
	shows("  limit 1 ms, ");
}

static void
long_paths_are_cut(void **state)
{
	json_t *failure = json_array_get(json_object_get(evidence, "failures"), 0);
	char path[300];

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	json_object_set_new(failure, "path", json_string(path));
	render(NULL, &look);
	path[REQUEST_MAX - 4] = '\0'; /* "GET " is part of it */
	strcat(path, "  500 ok");
	shows(path);
}

static void
missing_members(void **state)
{
	static const char *const texts[] = {
	    "{}", "5", "{\"failures\": [1, {}, null], \"timeline\": [3], \"backends\": [[]]}"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_decref(evidence);
		evidence = json_loads(texts[i], JSON_DECODE_ANY, NULL);
		assert_non_null(evidence);
		render(evidence, &look);
	}
}

static void
events(void **state)
{
	json_t *event =
	    json_loads("{\"id\": 7, \"time\": \"2026-11-21T06:00:00.120Z\", \"type\": \"step\","
		       " \"service\": \"\", \"weight\": 12.5, \"on\": true, \"why\": \"x\\u0007\","
		       " \"none\": null, \"host\": \"h\", \"by\": {\"uid\": 0, \"user\": \"root\"},"
		       " \"reason\": \"same\", \"verdict\": \"same\", \"empty\": \"\", \"list\": "
		       "[1, \"\\u009b\"]}",
		0, NULL);
	size_t n;
	FILE *f;

	(void)state;
	free(text);
	f = open_memstream(&text, &n);
	assert_non_null(f);
	event_line(f, event, &look);
	fclose(f);
	assert_string_equal(text, "2026-11-21 06:00:00  -  step  weight 12.5, on true, why x?, by "
				  "root, reason same, list [1,\"?\"]\n");
	json_decref(event);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(all_of_it),
	    TEST(other_ways_back),
	    TEST(long_paths_are_cut),
	    TEST(missing_members),
	    TEST(events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
