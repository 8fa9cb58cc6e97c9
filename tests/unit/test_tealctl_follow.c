/*
 * --wait without a clock: looks at a service, one after the other, and what is made of them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

/* no part of the library the tests link */
#include "proxy/tealctl/follow.c"
#include "proxy/tealctl/ready.c"
#include "proxy/tealctl/text.c"

static struct follow f;
static char *said, *ended;

static void
capture(const json_t *service, enum follow_end want)
{
	size_t n, m;
	FILE *lines, *end;

	free(said);
	free(ended);
	lines = open_memstream(&said, &n);
	end = open_memstream(&ended, &m);
	assert_non_null(lines);
	assert_non_null(end);
	assert_int_equal(follow_look(&f, service, lines, end), want);
	fclose(lines);
	fclose(end);
}

/* "stepping 2 entered" and the like; `more` is members of the rollout, with a comma in front. */
static json_t *
service(const char *state, int step, bool entered, const char *more)
{
	char text[2048];
	json_t *json;
	json_error_t error;

	(void)snprintf(text, sizeof(text),
	    "{\"name\": \"api\", \"live\": \"blue\", \"candidate\": \"green\", \"weight\": %d,"
	    " \"rollout\": {\"state\": \"%s\", \"to\": \"green\", \"step\": %d, \"entered\": %s,"
	    " \"held_ms\": 0, \"hold_ms\": 1000,"
	    " \"steps\": [{\"weight\": 50, \"hold\": \"1s\", \"hold_ms\": 1000},"
	    "             {\"weight\": 100, \"hold\": \"1s\", \"hold_ms\": 1000}]%s}}",
	    step * 50, state, step, entered ? "true" : "false", more);
	json = json_loads(text, JSON_REJECT_DUPLICATES & 0, &error);
	if (json == NULL)
		fail_msg("%s: %s", text, error.text);
	return json;
}

static void
begin(const char *state, int step, bool entered)
{
	json_t *answer = service(state, step, entered, "");

	follow_fini(&f);
	follow_begin(&f, answer);
	json_decref(answer);
}

static void
look_is(const char *state, int step, bool entered, const char *more, enum follow_end want)
{
	json_t *one = service(state, step, entered, more);

	capture(one, want);
	json_decref(one);
}

/* One member of a service set to a text. */
static void
look_with(const char *state, const char *key, const char *value, enum follow_end want)
{
	json_t *one = service(state, 1, true, "");

	json_object_set_new(one, key, json_string(value));
	capture(one, want);
	json_decref(one);
}

static void
has(const char *text, const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", what, text);
}

static void
each_change_is_told_once(void **state)
{
	(void)state;
	begin("stepping", 1, false);
	look_is("stepping", 1, false, ", \"gate\": true", FOLLOW_ON);
	assert_string_equal(said, "api: rollout to green: 50 % for 1s, 100 % for 1s\n"
				  "api: step 1/2: its gate is asked\n");
	look_is("stepping", 1, false, ", \"gate\": true", FOLLOW_ON);
	assert_string_equal(said, "");
	look_is("stepping", 1, true, "", FOLLOW_ON);
	assert_string_equal(said, "api: step 1/2: green has 50 % for 1s\n");
	look_is("stepping", 1, true, "", FOLLOW_ON);
	assert_string_equal(said, "");
	look_is("stepping", 2, false, ", \"gate\": true", FOLLOW_ON);
	assert_string_equal(said, "api: step 2/2: its gate is asked\n");
	look_is("stepping", 2, true, "", FOLLOW_ON);
	assert_string_equal(said, "api: step 2/2: green has 100 % for 1s\n");
	look_with("promoted", "live", "green", FOLLOW_PROMOTED);
	assert_string_equal(said, "api: green was promoted: it is live\n");
	assert_string_equal(ended, "");
}

static void
frozen(void **state)
{
	(void)state;
	begin("stepping", 1, true);
	look_is("stepping", 1, true, "", FOLLOW_ON);
	look_is("stepping", 1, true, ", \"frozen\": true, \"reason\": \"a\"", FOLLOW_ON);
	assert_string_equal(said, "api: frozen: a\n");
	look_is("stepping", 1, true, ", \"frozen\": true, \"reason\": \"a\"", FOLLOW_ON);
	assert_string_equal(said, "");
	look_is("stepping", 1, true, ", \"frozen\": true, \"reason\": \"b\"", FOLLOW_ON);
	assert_string_equal(said, "api: frozen: b\n");
	look_is("stepping", 1, true, "", FOLLOW_ON);
	assert_string_equal(said, "api: goes on\n");
}

static void
ends(void **state)
{
	(void)state;
	begin("stepping", 1, true);
	look_is("rolled_back", 0, false, ", \"reason\": \"it failed\"", FOLLOW_ROLLED_BACK);
	assert_string_equal(
	    ended, "api: green was rolled back: it failed\n  the evidence: tealctl why api\n");
	assert_string_equal(said, "");
	begin("stepping", 1, true);
	look_is("paused", 1, true, ", \"reason\": \"inconclusive\"", FOLLOW_UNDECIDED);
	has(ended, "api: the rollout is paused in step 1/2, at 50 %: inconclusive\n");
	has(ended, "tealctl rollout resume api\n");
	begin("stepping", 1, true);
	look_is("stepping", 1, true, ", \"waiting\": true", FOLLOW_UNDECIDED);
	has(ended, "tealctl rollout promote api\n");
	has(said, "step 1/2: green has 50 %"); /* what led there is told, too */
	begin("stepping", 1, true);
	look_is("promoted", 0, false, "", FOLLOW_PROMOTED); /* and flipped back since */
	begin("stepping", 1, true);
	look_is("idle", 0, false, "", FOLLOW_ROLLED_BACK);
}

/* Which rollout is it? */
static void
others(void **state)
{
	(void)state;
	begin("stepping", 2, true);
	look_is("stepping", 2, true, "", FOLLOW_ON);
	look_is("stepping", 1, true, "", FOLLOW_ROLLED_BACK);
	has(ended, "another rollout has been started since");
	begin("stepping", 1, true);
	look_is("stepping", 1, true, "", FOLLOW_ON);
	look_is("stepping", 1, false, "", FOLLOW_ROLLED_BACK);
	/* a gate that refused is asked again after resume: the same step, not entered yet */
	begin("stepping", 1, false);
	look_is("stepping", 1, false, "", FOLLOW_ON);
	look_is("stepping", 1, false, "", FOLLOW_ON);
	begin("stepping", 1, true);
	look_is("stepping", 2, true,
	    ", \"steps\": [{\"weight\": 50, \"hold_ms\": 2}, {\"weight\": 100, \"hold_ms\": 1000}]",
	    FOLLOW_ROLLED_BACK);
	/* ours is live, the next one goes the other way already */
	begin("stepping", 2, true);
	look_with("stepping", "live", "green", FOLLOW_PROMOTED);
}

static void
odd_answers(void **state)
{
	static const char *const texts[] = {
	    "{}", "[]", "5", "{\"rollout\": 5}", "{\"rollout\": {\"state\": 5, \"steps\": 5}}"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *json = json_loads(texts[i], JSON_DECODE_ANY, NULL);

		assert_non_null(json);
		follow_fini(&f);
		follow_begin(&f, json);
		capture(json, FOLLOW_ROLLED_BACK);
		json_decref(json);
	}
}

/* --- deploy's readiness ----------------------------------------------------------------------- */

static char one[] = "a:1", two[] = "a:2";
static char *const addresses[] = {one, two};

static char *
ready_says(struct ready *r, const char *backends)
{
	static char *text;
	char whole[1024];
	json_t *json;
	size_t n;
	FILE *out;

	free(text);
	text = NULL;
	if (r == NULL)
		return NULL;
	(void)snprintf(whole, sizeof(whole),
	    "{\"name\": \"api\", \"colors\": {\"green\": {\"backends\": [%s]}}}", backends);
	json = json_loads(whole, 0, NULL);
	assert_non_null(json);
	out = open_memstream(&text, &n);
	assert_non_null(out);
	ready_look(r, json, out);
	(void)fputs("lacking:\n", out);
	ready_lacking(r, json, out);
	fclose(out);
	json_decref(json);
	return text;
}

#define UP(a) "{\"address\": \"" a "\", \"state\": \"up\", \"version\": \"2\"}"
#define DOWN(a, saw, failed)                                                                       \
	"{\"address\": \"" a "\", \"state\": \"down\", \"reason\": \"failed " failed " times\","   \
	" \"probes\": {\"readiness\": {\"well\": false, \"saw\": \"" saw "\", \"failed\": " failed \
	"}}}"

static void
readiness(void **state)
{
	struct ready r;

	(void)state;
	ready_begin(&r, GREEN, addresses, 2);
	assert_string_equal(ready_says(&r, UP("a:1") "," DOWN("a:2", "503", "1")),
	    "api: green a:1 is up, version 2\n"
	    "api: green a:2 is down: failed 1 times; readiness saw 503\n"
	    "lacking:\n  a:2 is down: failed 1 times; readiness saw 503\n");
	assert_int_equal(r.up, 1);
	/* a counter is no news */
	assert_string_equal(ready_says(&r, UP("a:1") "," DOWN("a:2", "503", "2")),
	    "lacking:\n  a:2 is down: failed 2 times; readiness saw 503\n");
	has(ready_says(&r, UP("a:1") "," DOWN("a:2", "refused", "4")), "readiness saw refused\n");
	assert_string_equal(ready_says(&r, UP("a:1") "," UP("a:2") "," DOWN("a:9", "x", "1")),
	    "api: green a:2 is up, version 2\nlacking:\n");
	assert_int_equal(r.up, 2);
	assert_int_equal(r.missing, 0);
	has(ready_says(&r, UP("a:1")), "api: green a:2 is not in the pool\n");
	assert_int_equal(r.missing, 1);
	assert_string_equal(
	    ready_says(&r, UP("a:1") ",{\"address\": \"a:2\", \"state\": \"starting\","
				     "\"reason\": \"starting: waits; 503\", \"probes\":"
				     " {\"startup\": {\"well\": null, \"saw\": \"503\"}}}"),
	    "api: green a:2 is starting: waits; 503\nlacking:\n  a:2 is starting: waits; 503\n");
	ready_fini(&r);
	(void)ready_says(NULL, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_change_is_told_once),
	    cmocka_unit_test(frozen),
	    cmocka_unit_test(ends),
	    cmocka_unit_test(others),
	    cmocka_unit_test(odd_answers),
	    cmocka_unit_test(readiness),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	follow_fini(&f);
	free(said);
	free(ended);
	return failed;
}
