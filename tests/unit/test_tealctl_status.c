/*
 * The screen: what stands where, what is cut, what never reaches a terminal.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "proxy/tealctl/status.c" /* no part of the library the tests link */

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
	shows("\033[31mdown\033[0m");
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
	static struct history history;
	const struct look look = {.utf8 = true, .history = &history};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *json = json_loads(texts[i], 0, NULL), *services;

		assert_non_null(json);
		services = status_services(json);
		history_add(&history, services);
		json_decref(services);
		render(json, &look);
		json_decref(json);
	}
}

static void
history_and_sparks(void **state)
{
	static struct history history;
	struct look look = {.utf8 = true, .history = &history};
	json_t *services = status_services(service);
	json_t *blue = json_object_get(json_object_get(service, "colors"), "blue");
	const double *points;
	unsigned n;

	(void)state;
	for (int i = 1; i <= 8; i++) {
		json_object_set_new(blue, "p95_ms", json_integer(i * 10));
		history_add(&history, services);
	}
	render(service, &look);
	shows("  p95 blue  ▁▂▃▄▅▆▇█ 80 ms\n");
	shows("  p95 green          -\n");
	shows("  [####------------------------------------] 12.25 % to green\n");
	look.utf8 = false;
	render(service, &look);
	shows("  p95 blue  _.-~=+*# 80 ms\n");
	for (int i = 0; i < HISTORY_POINTS; i++) {
		json_object_set_new(blue, "p95_ms", json_integer(i + 1));
		history_add(&history, services);
	}
	points = history_of(&history, "api", BLUE, &n);
	assert_non_null(points);
	assert_int_equal(n, HISTORY_POINTS);
	assert_true(points[0] == 1 && points[HISTORY_POINTS - 1] == HISTORY_POINTS);
	assert_null(history_of(&history, "other", BLUE, &n));
	json_decref(services);
}

static void
more_services_than_places(void **state)
{
	static struct history history;
	char name[16];

	(void)state;
	for (int i = 0; i < HISTORY_SERVICES + 5; i++) {
		json_t *services =
		    json_pack("[{s:s}]", "name", (snprintf(name, sizeof(name), "s%d", i), name));

		history_add(&history, services);
		json_decref(services);
	}
	assert_int_equal(history.n_services, HISTORY_SERVICES);
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
	    TEST(history_and_sparks),
	    TEST(more_services_than_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
