/*
 * The evidence of a rollback: it comes back as it went, has no secrets, and damage is told.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/process/evidence.h"
#include "proxy/process/note.h"

static char directory[64], file[128];

static int
setup(void **unused)
{
	(void)unused;
	snprintf(directory, sizeof(directory), "/tmp/teal-evidence-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/evidence-api.json", directory);
	return 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	(void)unlink(file);
	return rmdir(directory);
}

static const struct rollout rollout = {.state = ROLLOUT_ROLLED_BACK,
    .to = GREEN,
    .steps = {{2500, 300000}, {10000, 250}},
    .n_steps = 2,
    .step = 1};

static struct failure failures[2] = {
    {.wall_ms = 1790000000123,
	.method = "GET",
	.path = "/a/b",
	.id = "0123abcd",
	.backend = "10.0.0.1:8080",
	.status = 503,
	.outcome = OUTCOME_BACKEND_5XX,
	.age_us = 1500},
    {.wall_ms = 1790000000999,
	.method = "POST",
	.path = "/",
	.backend = "unix:/run/g.sock",
	.outcome = OUTCOME_CONNECT_REFUSED},
};

static const struct weight_point timeline[] = {
    {1790000000000, 2500, "step 1"}, {1790000001000, 0, "trip"}};

static const struct evidence_backend backends[] = {
    {"10.0.0.1:8080", "down", "connect refused (3 in a row)", GREEN},
    {"10.0.0.2:8080", "up", "", BLUE}};

static struct evidence
example(void)
{
	return (struct evidence){.service = "api",
	    .wall_ms = 1790000001001,
	    .live = BLUE,
	    .candidate = GREEN,
	    .weight_bp = 1225,
	    .epoch = 12,
	    .action = "trip",
	    .reason = "green failed 7 of 31 (22.6 %, at least 9.1 % beyond chance), limit 1 %",
	    .verdict = {.word = VERDICT_FAIL,
		.rule = RULE_FAILURE_RATE,
		.lower = 9.1,
		.limit = 1,
		.wealth = 2.5,
		.candidate = {.requests = 31,
		    .failures = 7,
		    .slow = 2,
		    .overdue = 1,
		    .p95_ms = 12.3456,
		    .backends = 4,
		    .backends_up = 3},
		.live =
		    {.requests = 100, .failures = 0, .p95_ms = 9, .backends = 5, .backends_up = 5}},
	    .rollout = &rollout,
	    .failures = failures,
	    .n_failures = 2,
	    .timeline = timeline,
	    .n_timeline = 2,
	    .backends = backends,
	    .n_backends = 2};
}

/* The contract with tealctl, word for word. */
static const char expected[] =
    "{\"service\": \"api\", \"time\": \"2026-09-21T14:13:21.001Z\", \"action\": \"trip\","
    " \"rule\": \"failure_rate\", \"reason\":"
    " \"green failed 7 of 31 (22.6 %, at least 9.1 % beyond chance), limit 1 %\","
    " \"live\": \"blue\", \"candidate\": \"green\", \"weight\": 12.25, \"epoch\": 12,"
    " \"numbers\": {\"requests\": 31, \"failures\": 7, \"failure_rate\": 22.581,"
    " \"beyond_chance\": 9.1, \"limit\": 1, \"slow\": 2, \"overdue\": 1, \"p95_ms\": 12.346,"
    " \"wealth\": 2.5, \"backends_up\": 3, \"backends\": 4, \"live\": {\"requests\": 100,"
    " \"failures\": 0, \"failure_rate\": 0, \"p95_ms\": 9, \"backends_up\": 5, \"backends\": 5}},"
    " \"rollout\": {\"to\": \"green\", \"step\": 2, \"steps\": ["
    " {\"weight\": 25, \"hold\": \"5m\", \"hold_ms\": 300000},"
    " {\"weight\": 100, \"hold\": \"250ms\", \"hold_ms\": 250}]},"
    " \"failures\": [{\"time\": \"2026-09-21T14:13:20.123Z\", \"method\": \"GET\","
    " \"path\": \"/a/b\", \"status\": 503, \"outcome\": \"backend-5xx\","
    " \"backend\": \"10.0.0.1:8080\", \"id\": \"0123abcd\", \"age_ms\": 1.5},"
    " {\"time\": \"2026-09-21T14:13:20.999Z\", \"method\": \"POST\", \"path\": \"/\","
    " \"status\": 0, \"outcome\": \"connect-refused\", \"backend\": \"unix:/run/g.sock\","
    " \"id\": \"\", \"age_ms\": 0}],"
    " \"timeline\": [{\"time\": \"2026-09-21T14:13:20.000Z\", \"weight\": 25, \"why\": \"step 1\"},"
    " {\"time\": \"2026-09-21T14:13:21.000Z\", \"weight\": 0, \"why\": \"trip\"}],"
    " \"backends\": [{\"color\": \"green\", \"address\": \"10.0.0.1:8080\", \"state\": \"down\","
    " \"reason\": \"connect refused (3 in a row)\"},"
    " {\"color\": \"blue\", \"address\": \"10.0.0.2:8080\", \"state\": \"up\", \"reason\": \"\"}]}";

static json_t *
build(const struct evidence *e)
{
	json_t *json = evidence_json(e);

	assert_non_null(json);
	return json;
}

static void
save(const json_t *json)
{
	char err[256] = "";

	if (evidence_save(directory, "api", json, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void
says_what_the_contract_says(void **unused)
{
	struct evidence e = example();
	json_t *json = build(&e), *want = json_loads(expected, 0, NULL);
	char *a, *b;

	(void)unused;
	assert_non_null(want);
	a = json_dumps(json, JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
	b = json_dumps(want, JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
	assert_string_equal(a, b);
	free(a);
	free(b);
	json_decref(json);
	json_decref(want);
}

static void
comes_back(void **unused)
{
	struct evidence e = example();
	json_t *json = build(&e), *again;
	char err[256] = "x";
	struct stat st;

	(void)unused;
	again = evidence_load(directory, "api", err, sizeof(err));
	assert_null(again);
	assert_string_equal(err, "");
	for (int twice = 0; twice < 2; twice++) {
		save(json);
		again = evidence_load(directory, "api", err, sizeof(err));
		assert_non_null(again);
		assert_string_equal(err, "");
		assert_true(json_equal(json, again));
		json_decref(again);
	}
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	json_decref(json);
}

/* Nothing seen, nobody to blame, the weight set by hand. */
static void
empty_evidence_comes_back(void **unused)
{
	const struct rollout idle = {.state = ROLLOUT_IDLE};
	struct evidence e = {.service = "api",
	    .wall_ms = -1,
	    .action = "abort",
	    .reason = "",
	    .verdict = {.lower = NAN, .wealth = INFINITY}};
	char err[256];

	(void)unused;
	for (int i = 0; i < 2; i++) {
		json_t *json, *again;

		e.rollout = i == 0 ? NULL : &idle;
		e.wall_ms = i;
		json = build(&e);
		save(json);
		again = evidence_load(directory, "api", err, sizeof(err));
		assert_non_null(again);
		assert_true(json_equal(json, again));
		assert_true(json_is_null(json_object_get(json, "rollout")));
		json_decref(json);
		json_decref(again);
	}
}

/* Whoever filled it in: a query, a fragment, a byte that is no text. */
static void
no_secrets(void **unused)
{
	static const char *const paths[][2] = {{"/a?token=SECRET", "/a"}, {"/a#SECRET", "/a"},
	    {"/?SECRET", "/"}, {"?SECRET", ""}, {"/a?b?SECRET#c", "/a"},
	    {"/\xff\n\x1b[2J?SECRET", "/?\n\x1b[2J"}, {"", ""}};
	struct failure f = failures[0];
	struct evidence e = example();
	char *text;

	(void)unused;
	e.failures = &f;
	e.n_failures = 1;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		json_t *json, *path;

		strcpy(f.path, paths[i][0]);
		json = build(&e);
		path =
		    json_object_get(json_array_get(json_object_get(json, "failures"), 0), "path");
		assert_string_equal(json_string_value(path), paths[i][1]);
		text = json_dumps(json, 0);
		assert_null(strstr(text, "SECRET"));
		free(text);
		json_decref(json);
	}
	/* as long as it may be, and cut within a character */
	memset(f.path, 'a', sizeof(f.path) - 1);
	f.path[sizeof(f.path) - 2] = '\xc3';
	f.path[sizeof(f.path) - 1] = '\0';
	json_decref(build(&e));
}

/* Every byte damaged and the file cut after every byte: a crash never, evidence only when it is. */
static void
damage_is_told(void **unused)
{
	static const char *const texts[] = {
	    "", "hello", "[]", "{}", "null", "{\"service\": \"api\", \"time\": \"\"}"};
	struct evidence e = example();
	json_t *json = build(&e), *again;
	char err[256], *good = json_dumps(json, JSON_COMPACT);
	size_t n = strlen(good), i, taken = 0;
	size_t all = 2 * n + sizeof(texts) / sizeof(texts[0]);

	(void)unused;
	for (i = 0; i < all; i++) {
		FILE *f = fopen(file, "w");

		assert_non_null(f);
		if (i >= 2 * n) {
			fputs(texts[i - 2 * n], f);
		} else {
			fwrite(good, 1, i < n ? i : n, f);
			if (i >= n) {
				fseek(f, (long)(i - n), SEEK_SET);
				fputc(good[i - n] ^ 0x10, f);
			}
		}
		fclose(f);
		again = evidence_load(directory, "api", err, sizeof(err));
		if (again == NULL) {
			assert_non_null(strstr(err, "damaged"));
			assert_non_null(strstr(err, file));
		} else {
			assert_true(i >= n && i < 2 * n);
			assert_int_equal(json_object_size(again), json_object_size(json));
			assert_string_equal(err, "");
			taken++;
		}
		json_decref(again);
	}
	assert_in_range(taken, 1, n - 100);
	/* members of another type, and one too many */
	for (i = 0; i <= json_object_size(json); i++) {
		void *at = json_object_iter(json);

		for (size_t skip = 0; skip < i; skip++)
			at = json_object_iter_next(json, at);
		again = json_deep_copy(json);
		json_object_set_new(
		    again, at == NULL ? "more" : json_object_iter_key(at), json_true());
		save(again);
		json_decref(again);
		assert_null(evidence_load(directory, "api", err, sizeof(err)));
	}
	free(good);
	json_decref(json);
}

static void
odd_files_are_told(void **unused)
{
	struct evidence e = example();
	json_t *json;
	char err[256];

	(void)unused;
	/* of another service: copied there by somebody */
	e.service = "web";
	json = build(&e);
	save(json);
	json_decref(json);
	assert_null(evidence_load(directory, "api", err, sizeof(err)));
	assert_non_null(strstr(err, "no evidence of service api"));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(symlink("/etc/hostname", file), 0);
	assert_null(evidence_load(directory, "api", err, sizeof(err)));
	assert_non_null(strstr(err, "regular file"));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_null(evidence_load(directory, "api", err, sizeof(err)));
	assert_non_null(strstr(err, "regular file"));
	assert_int_equal(unlink(file), 0);
	/* larger than any evidence */
	json = json_object();
	save(json);
	assert_int_equal(truncate(file, 17 * 1024 * 1024), 0);
	assert_null(evidence_load(directory, "api", err, sizeof(err)));
	assert_non_null(strstr(err, "sane size"));
	json_decref(json);
}

/* Names that would lead elsewhere are none of a service. */
static void
names_stay_in_the_directory(void **unused)
{
	static const char *const names[] = {"", "../x", "a/b", ".", "..", "a b", "\xff"};
	json_t *json = json_object();
	char err[256];

	(void)unused;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(evidence_save(directory, names[i], json, err, sizeof(err)), -1);
		assert_non_null(strstr(err, "name of a service"));
		assert_null(evidence_load(directory, names[i], err, sizeof(err)));
		assert_non_null(strstr(err, "name of a service"));
	}
	json_decref(json);
}

static void
full_disk_keeps_the_old_one(void **unused)
{
	struct evidence e = example();
	json_t *json = build(&e), *again;
	struct rlimit old, tiny;
	char err[256];
	int failed;

	(void)unused;
	save(json);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tiny = old;
	tiny.rlim_cur = 100;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	failed = evidence_save(directory, "api", json, err, sizeof(err));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(failed, -1);
	assert_non_null(strstr(err, "File too large"));
	again = evidence_load(directory, "api", err, sizeof(err));
	assert_true(json_equal(json, again));
	json_decref(again);
	json_decref(json);
	/* teardown finds nothing else in the directory */
}

static void
times_and_numbers(void **unused)
{
	static const struct {
		int64_t ms;
		const char *text; /* NULL: null */
	} times[] = {{0, "1970-01-01T00:00:00.000Z"}, {1, "1970-01-01T00:00:00.001Z"}, {-1, NULL},
	    {NOTE_MS_MAX, "9999-12-31T23:59:59.999Z"}, {NOTE_MS_MAX + 1, NULL}, {INT64_MAX, NULL},
	    {INT64_MIN, NULL}};
	static const struct {
		double value, said;
		bool whole;
	} numbers[] = {{0, 0, true}, {1.0004, 1, true}, {1.0005001, 1.001, false},
	    {-2.5, -2.5, false}, {NAN, 0, true}, {INFINITY, 1e15, true}, {-INFINITY, -1e15, true},
	    {1e300, 1e15, true}};

	(void)unused;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		json_t *json = note_time(times[i].ms);

		assert_int_equal(json_is_null(json), times[i].text == NULL);
		if (times[i].text != NULL)
			assert_string_equal(json_string_value(json), times[i].text);
		json_decref(json);
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		json_t *json = note_number(numbers[i].value, 1000);

		assert_true(json_is_number(json));
		assert_int_equal(json_is_integer(json), numbers[i].whole);
		assert_true(fabs(json_number_value(json) - numbers[i].said) < 1e-9);
		json_decref(json);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(says_what_the_contract_says),
	    TEST(comes_back),
	    TEST(empty_evidence_comes_back),
	    TEST(no_secrets),
	    TEST(damage_is_told),
	    TEST(odd_files_are_told),
	    TEST(names_stay_in_the_directory),
	    TEST(full_disk_keeps_the_old_one),
	    TEST(times_and_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
