/*
 * The screen: what stands where, what is cut, what never reaches a terminal.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* no part of the library the tests link */
#include "proxy/tealctl/rollout_view.c"
#include "proxy/tealctl/status.c"
#include "proxy/tealctl/text.c"

static const char service_text[] =
    "{\"name\": \"api\", \"epoch\": 7, \"live\": \"blue\", \"candidate\": \"green\","
    " \"weight\": 12.25, \"tripped\": false, \"maintenance\": false,"
    " \"rollout\": {\"state\": \"idle\", \"reason\": \"\","
    "   \"steps\": [{\"weight\": 25, \"hold\": \"5m\"}, {\"weight\": 100, \"hold\": \"10m\"}]},"
    " \"colors\": {"
    "  \"blue\": {\"weight\": 87.75, \"share\": 88, \"rps\": 812.34, \"failure_rate\": 0,"
    "    \"window_requests\": 100, \"p50_ms\": 3.14, \"p95_ms\": 12.3, \"p99_ms\": 1250,"
    "    \"inflight\": 12, \"backends\": ["
    "      {\"address\": \"10.0.0.11:8080\", \"state\": \"up\", \"reason\": \"\", \"inflight\": 6},"
    "      {\"address\": \"unix:/b\", \"state\": \"down\", \"reason\": \"refused\","
    "       \"inflight\": 0, \"backup\": true}]},"
    "  \"green\": {\"weight\": 12.25, \"share\": 12, \"rps\": 100, \"failure_rate\": 0.125,"
    "    \"window_requests\": 10, \"p50_ms\": 0, \"p95_ms\": 0, \"p99_ms\": 0, \"inflight\": 0,"
    "    \"backends\": []}}}";

static json_t *service;
static char *screen;

static int
setup(void **state)
{
	(void)state;
	service = json_loads(service_text, 0, NULL);
	return service == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	json_decref(service);
	free(screen);
	screen = NULL;
	return 0;
}

static void
render(const json_t *answer, const struct look *look)
{
	size_t n;
	FILE *f;

	free(screen);
	f = open_memstream(&screen, &n);
	assert_non_null(f);
	status_render(f, answer, look);
	assert_int_equal(fclose(f), 0);
}

static void
shows(const char *line)
{
	if (strstr(screen, line) == NULL)
		fail_msg("\"%s\" is not in\n%s", line, screen);
}

static void
one_service(void **state)
{
	const struct look look = {.utf8 = true};

	(void)state;
	render(service, &look);
	assert_string_equal(screen,
	    "api   live blue   candidate green at 12.25 %   epoch 7\n"
	    "             set   actual     req/s    failed      p50      p95      p99  in flight\n"
	    "  blue   87.75 %   88.0 %     812.3    0.00 %   3.1 ms    12 ms   1.25 s         12\n"
	    "  green  12.25 %   12.0 %     100.0    0.12 %        -        -        -          0\n"
	    "  blue   10.0.0.11:8080  up           6 in flight\n"
	    "         unix:/b         down         0 in flight  backup  refused\n"
	    "  green  no backends\n"
	    "  rollout idle   steps 25 % for 5m, 100 % for 10m\n");
}

static void
all_services(void **state)
{
	const struct look look = {.utf8 = false};
	json_t *all = json_pack("{s:s, s:I, s:b, s:i, s:{s:i}, s:[O,O]}", "version", "1.2.3",
	    "uptime_ms", (json_int_t)11520000, "draining", 1, "log_lines_lost", 4, "connections",
	    "open", 132, "services", service, service);

	(void)state;
	assert_non_null(all);
	json_object_set_new(service, "maintenance", json_true());
	json_object_set_new(service, "tripped", json_true());
	render(all, &look);
	shows("teal 1.2.3   up 3h 12m   132 connections   draining   4 log lines lost\n\napi ");
	shows("epoch 7   TRIPPED   MAINTENANCE\n");
	shows("100 % for 10m\n\napi   live");
	json_decref(all);
}

/* No requests in the window: the share is not 0 %, it is not known. */
static void
silence_is_no_share(void **state)
{
	const struct look look = {.utf8 = false};

	(void)state;
	for (int c = 0; c < N_COLORS; c++) {
		json_t *color =
		    json_object_get(json_object_get(service, "colors"), color_name((enum color)c));

		json_object_set_new(color, "window_requests", json_integer(0));
	}
	render(service, &look);
	shows("87.75 %        - ");
}

static void
lines_are_cut(void **state)
{
	struct look look = {.utf8 = true};

	(void)state;
	for (look.width = 1; look.width < 100; look.width++) {
		char *rest, *line;
		int with_color;

		for (with_color = 0; with_color < 2; with_color++) {
			look.color = with_color == 1;
			render(service, &look);
			for (rest = screen; (line = strsep(&rest, "\n")) != NULL;) {
				unsigned columns = 0;

				for (char *p = line; *p != '\0'; p++) {
					if (*p == '\033')
						p = strchr(p, 'm');
					else
						columns++;
				}
				assert_true(columns <= look.width);
			}
		}
	}
}

static void
color_only_where_wanted(void **state)
{
	struct look look = {.utf8 = true, .color = true};
	char *out;

	(void)state;
	render(service, &look);
	shows("\033[31mdown    \033[0m");
	shows("\033[31m   0.12 %\033[0m");
	look.color = false;
	render(service, &look);
	out = strchr(screen, '\033');
	assert_null(out);
}

/* A backend's reason, a name: nothing in it moves the cursor or sets a title. */
static void
nothing_reaches_the_terminal(void **state)
{
	const struct look look = {.utf8 = true};
	char *out = NULL;
	size_t n;
	FILE *f;

	(void)state;
	json_object_set_new(service, "name",
	    json_string("a\033]0;x\a\nb\x7f\xc2\x9b"
			"31m\xc3\xa4"));
	render(service, &look);
	shows("a?]0;x??b??31m\xc3\xa4   live");
	f = open_memstream(&out, &n);
	assert_non_null(f);
	status_line(f, service);
	fclose(f);
	assert_string_equal(out, "a?]0;x??b??31m\xc3\xa4: live blue, green at 12.25 %, epoch 7\n");
	free(out);
}

/* An older or newer teal may leave things out. */
static void
missing_members(void **state)
{
	static const char *const texts[] = {"{}", "{\"services\": []}",
	    "{\"services\": [{}, 5, null]}", "{\"colors\": 5, \"rollout\": []}",
	    "{\"colors\": {\"blue\": {\"backends\": [null, 1]}}}"};
	static struct trail trail;
	const struct look look = {.utf8 = true, .trail = &trail};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *json = json_loads(texts[i], 0, NULL), *services;

		assert_non_null(json);
		services = status_services(json);
		trail_add(&trail, services);
		json_decref(services);
		render(json, &look);
		json_decref(json);
	}
}

static void
sparks(void **state)
{
	static struct trail trail;
	struct look look = {.utf8 = true, .trail = &trail};
	json_t *services = status_services(service);
	json_t *blue = json_object_get(json_object_get(service, "colors"), "blue");
	const double *points;
	unsigned n;

	(void)state;
	for (int i = 1; i <= 8; i++) {
		json_object_set_new(blue, "p95_ms", json_integer(i * 10));
		trail_add(&trail, services);
	}
	render(service, &look);
	shows("  p95 blue     80 ms  ▁▂▃▄▅▆▇█\n");
	shows("  p95 green        -          \n");
	look.utf8 = false;
	render(service, &look);
	shows("  p95 blue     80 ms  _.-~=+*#\n");
	look.width = 25; /* the newest are kept */
	render(service, &look);
	shows("  p95 blue     80 ms  +*#\n");
	for (int i = 0; i < TRAIL_POINTS; i++) {
		json_object_set_new(blue, "p95_ms", json_integer(i + 1));
		trail_add(&trail, services);
	}
	points = trail_of(&trail, "api", BLUE, &n);
	assert_non_null(points);
	assert_int_equal(n, TRAIL_POINTS);
	assert_true(points[0] == 1 && points[TRAIL_POINTS - 1] == TRAIL_POINTS);
	assert_null(trail_of(&trail, "other", BLUE, &n));
	json_decref(services);
}

static void
more_services_than_places(void **state)
{
	static struct trail trail;
	char name[16];

	(void)state;
	for (int i = 0; i < TRAIL_SERVICES + 5; i++) {
		json_t *services =
		    json_pack("[{s:s}]", "name", (snprintf(name, sizeof(name), "s%d", i), name));

		trail_add(&trail, services);
		json_decref(services);
	}
	assert_int_equal(trail.n_services, TRAIL_SERVICES);
}

/* --- rollouts --------------------------------------------------------------------------------- */

static void
set_rollout(const char *text)
{
	json_t *rollout = json_loads(text, 0, NULL);

	assert_non_null(rollout);
	json_object_set_new(service, "rollout", rollout);
}

#define STEPS                                                                                      \
	"\"to\": \"green\", \"steps\": [{\"weight\": 25, \"hold\": \"5m\", \"hold_ms\": 300000},"  \
	" {\"weight\": 50, \"hold\": \"5m\", \"hold_ms\": 300000},"                                \
	" {\"weight\": 100, \"hold\": \"10m\", \"hold_ms\": 600000}]"

static void
stepping(void **state)
{
	const struct look look = {.utf8 = true};

	(void)state;
	set_rollout("{\"state\": \"stepping\", \"step\": 2, \"entered\": true, \"held_ms\": 108000,"
		    "\"left_ms\": 792000, \"reason\": \"\", \"verdict\": \"pass\", \"judgement\": "
		    "{\"word\": \"pass\","
		    "\"reason\": \"green failed 0 of 210\"}, " STEPS "}");
	render(service, &look);
	/* 300 + 108 of 1200 s */
	shows(
	    "  rollout to green: step 2/3, 50 % for 5m, 1m 48s held\n"
	    "    [#############...........................]  25 % for 5m, >50 % for 5m, 100 % for "
	    "10m   13m 12s left\n"
	    "    verdict pass: green failed 0 of 210\n");
	set_rollout(
	    "{\"state\": \"stepping\", \"step\": 1, \"entered\": false, \"gate\": true, " STEPS
	    "}");
	render(service, &look);
	shows("step 1/3, 25 % for 5m, its gate is asked\n    "
	      "[........................................]");
}

static void
obstacles(void **state)
{
	const struct look look = {.utf8 = true};

	(void)state;
	set_rollout(
	    "{\"state\": \"paused\", \"step\": 1, \"entered\": true, \"reason\": \"lunch\", " STEPS
	    "}");
	render(service, &look);
	shows("    PAUSED: lunch\n    go on: tealctl rollout resume api   go back: tealctl rollout "
	      "abort "
	      "api\n");
	set_rollout(
	    "{\"state\": \"stepping\", \"step\": 1, \"entered\": true, \"waiting\": true, " STEPS
	    "}");
	render(service, &look);
	shows("    WAITING for promote\n    go on: tealctl rollout promote api");
	set_rollout("{\"state\": \"stepping\", \"step\": 1, \"entered\": true, \"frozen\": true,"
		    "\"reason\": \"blue is down\", " STEPS "}");
	render(service, &look);
	shows("    FROZEN: blue is down\n");
}

static void
tripped(void **state)
{
	/* 2026-11-21 06:02:03 */
	const struct look look = {.utf8 = true, .now_ms = 1795240923000};
	char *first;

	(void)state;
	json_object_set_new(service, "tripped", json_true());
	json_object_set_new(service, "trip",
	    json_pack("{s:s, s:s, s:s, s:s}", "time", "2026-11-21T06:00:00Z", "rule", "p95",
		"reason", "green is slow", "color", "green"));
	set_rollout("{\"state\": \"rolled_back\", \"since\": \"2026-11-21T06:00:00Z\","
		    "\"reason\": \"green is slow\", " STEPS "}");
	render(service, &look);
	shows("  TRIPPED 2m 3s ago by p95: green is slow\n"
	      "    green gets nothing until \"tealctl rearm api\"; \"tealctl why api\" shows the "
	      "evidence\n"
	      "  rollout of green rolled back 2m 3s ago\n");
	first = strstr(screen, "green is slow");
	assert_null(strstr(first + 1, "green is slow")); /* once */
}

static void
probes(void **state)
{
	const struct look look = {.utf8 = true};
	json_t *backends = json_loads(
	    "[{\"address\": \"a:1\", \"state\": \"up\", \"version\": \"2.1\", \"probes\": {"
	    "  \"startup\": {\"well\": true, \"saw\": \"200\"},"
	    "  \"liveness\": {\"well\": true, \"saw\": \"200 ok\"}}},"
	    " {\"address\": \"a:2\", \"state\": \"down\", \"ejected\": true, \"probes\": {"
	    "  \"startup\": {\"well\": null, \"saw\": \"\"},"
	    "  \"readiness\": {\"well\": false, \"saw\": \"503 \\u001b[2J\", \"failed\": 4}}},"
	    " {\"address\": \"a:3\", \"state\": \"down\", \"reason\": \"not ready: 503\", "
	    "\"probes\": {"
	    "  \"readiness\": {\"well\": false, \"saw\": \"503\", \"failed\": 4}}}]",
	    0, NULL);

	(void)state;
	assert_non_null(backends);
	json_object_set_new(
	    json_object_get(json_object_get(service, "colors"), "green"), "backends", backends);
	render(service, &look);
	shows("a:1             up           0 in flight  version 2.1  liveness: 200 ok\n");
	shows("a:2             down         0 in flight  EJECTED  startup undecided: no answer yet"
	      "  readiness FAILS (4 x): 503 ?[2J\n");
	shows("in flight  not ready: 503  readiness FAILS (4 x)\n"); /* said once */
}

static void
the_line_of_wait(void **state)
{
	const struct look look = {.utf8 = true};
	char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	(void)state;
	assert_non_null(f);
	set_rollout("{\"state\": \"stepping\", \"step\": 2, \"entered\": true, \"held_ms\": 108000,"
		    "\"left_ms\": 792000, " STEPS "}");
	rollout_line(f, service, &look);
	fclose(f);
	assert_string_equal(out,
	    "api step 2/3 12.25 % [######..............] 13m 12s left   "
	    "green 100.0 req/s, 0.12 % failed   blue 812.3 req/s, 0.00 % failed");
	free(out);
}

static void
one_line(void **state)
{
	char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	(void)state;
	assert_non_null(f);
	set_rollout("{\"state\": \"paused\", \"step\": 2, " STEPS "}");
	json_object_set_new(service, "tripped", json_true());
	status_line(f, service);
	fclose(f);
	assert_string_equal(out,
	    "api: live blue, green at 12.25 %, epoch 7, rollout paused at step 2/3, tripped\n");
	free(out);
}

/* --- text ------------------------------------------------------------------------------------- */

static void
cell_is(const char *text, unsigned width, const char *want)
{
	char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	assert_non_null(f);
	put_cell(f, text, width);
	fclose(f);
	assert_string_equal(out, want);
	free(out);
}

static void
cells(void **state)
{
	(void)state;
	cell_is("abc", 5, "abc  ");
	cell_is("abcdef", 5, "abcde");
	cell_is("\xc3\xa4\xc3\xb6", 3, "\xc3\xa4\xc3\xb6 ");
	cell_is("\xc3\xa4\xc3\xb6", 1, "\xc3\xa4");
	/* what turns the direction of writing (U+202E, U+2066), C1, a cut character */
	cell_is("a\xe2\x80\xae"
		"b\xe2\x81\xa6\xc2\x85\xff\xc3",
	    6, "a?b???");
	assert_int_equal(text_columns("a\xe2\x80\xae\xf0\x9f\x98\x80"), 3);
	text_utf8 = false;
	cell_is("\xc3\xa4-\xf0\x9f\x98\x80", 3, "?-?");
	text_utf8 = true;
}

static void
bars(void **state)
{
	static const struct {
		double part;
		const char *want;
	} cases[] = {{0, "[..........]"}, {0.09, "[..........]"}, {0.1, "[#.........]"},
	    {0.3, "[###.......]"}, {0.999, "[#########.]"}, {1, "[##########]"},
	    {7, "[##########]"}, {-1, "[..........]"}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *out = NULL;
		size_t n;
		FILE *f = open_memstream(&out, &n);

		assert_non_null(f);
		put_bar(f, cases[i].part, 10);
		fclose(f);
		assert_string_equal(out, cases[i].want);
		free(out);
	}
}

static void
times(void **state)
{
	(void)state;
	assert_int_equal(time_parse("1970-01-01T00:00:01Z"), 1000);
	assert_int_equal(time_parse("1970-01-01T00:00:01.25Z"), 1250);
	assert_int_equal(time_parse("2026-11-21T06:00:00Z"), 1795240800000);
	assert_int_equal(time_parse("2026-11-21T06:00:00"), -1);
	assert_int_equal(time_parse("2026-11-21T06:00:00+01:00"), -1);
	assert_int_equal(time_parse("yesterday"), -1);
	assert_int_equal(time_parse(""), -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(one_service),
	    TEST(all_services),
	    TEST(silence_is_no_share),
	    TEST(lines_are_cut),
	    TEST(color_only_where_wanted),
	    TEST(nothing_reaches_the_terminal),
	    TEST(missing_members),
	    TEST(sparks),
	    TEST(more_services_than_places),
	    TEST(stepping),
	    TEST(obstacles),
	    TEST(tripped),
	    TEST(probes),
	    TEST(the_line_of_wait),
	    TEST(one_line),
	    TEST(cells),
	    TEST(bars),
	    TEST(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
