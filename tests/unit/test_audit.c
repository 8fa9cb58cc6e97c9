/*
 * The audit log: a line an entry whatever is in it, whatever happened to the file meanwhile.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/process/audit.h"

static char directory[64], file[96], rotated[96];

static int
setup(void **unused)
{
	(void)unused;
	snprintf(directory, sizeof(directory), "/tmp/teal-audit-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/audit.log", directory);
	snprintf(rotated, sizeof(rotated), "%s/audit.log.1", directory);
	return 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	if (unlink(file) < 0)
		(void)rmdir(file);
	(void)unlink(rotated);
	return rmdir(directory);
}

/* The text of a file, NUL-terminated, until the next call. */
static char *
contents(const char *path)
{
	static char *text;
	struct stat st;
	FILE *f = fopen(path, "r");

	free(text);
	text = NULL;
	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	text = calloc(1, (size_t)st.st_size + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, (size_t)st.st_size, f), st.st_size);
	fclose(f);
	return text;
}

static void
append_text(const char *text, size_t n)
{
	FILE *f = fopen(file, "a");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static int
write_as(struct audit *a, const char *service, const char *reason, char err[256])
{
	const struct change by = {.reason = reason, .uid = getuid(), .gid = getgid(), .pid = 77};
	const struct audit_entry e = {
	    .service = service, .action = "weight", .from = "0", .to = "25", .epoch = 8, .by = &by};

	strcpy(err, "?");
	return audit_write(a, &e, err, 256);
}

static void
must_write(struct audit *a, const char *service, const char *reason)
{
	char err[256];

	if (write_as(a, service, reason, err) != 0)
		fail_msg("%s", err);
}

/* How many entries history has, and the reason of the last one. */
static size_t
history(const struct audit *a, const char *service, char last[256])
{
	json_t *all = audit_history(a, service);
	size_t n = json_array_size(all);

	assert_true(json_is_array(all));
	last[0] = '\0';
	if (n > 0)
		snprintf(last, 256, "%s",
		    json_string_value(json_object_get(json_array_get(all, n - 1), "reason")));
	json_decref(all);
	return n;
}

/* The only line there is, parsed. */
static json_t *
only_line(void)
{
	char *text = contents(file), *end = strchr(text, '\n');
	json_t *line;

	assert_non_null(end);
	assert_int_equal(end[1], '\0');
	line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(line);
	return line;
}

static void
says(const json_t *o, const char *key, const char *value)
{
	assert_string_equal(json_string_value(json_object_get(o, key)), value);
}

static void
says_who_what_when_where_why(void **unused)
{
	struct audit *a = audit_open(directory);
	const struct passwd *pw = getpwuid(getuid());
	json_t *line, *by, *last;
	char host[256] = "";
	struct stat st;
	struct tm tm = {0};

	(void)unused;
	gethostname(host, sizeof(host) - 1);
	must_write(a, "api", "TICKET-7");
	line = only_line();
	says(line, "service", "api");
	says(line, "action", "weight");
	says(line, "from", "0");
	says(line, "to", "25");
	says(line, "reason", "TICKET-7");
	says(line, "host", host);
	assert_int_equal(json_integer_value(json_object_get(line, "epoch")), 8);
	by = json_object_get(line, "by");
	assert_int_equal(json_integer_value(json_object_get(by, "uid")), getuid());
	assert_int_equal(json_integer_value(json_object_get(by, "gid")), getgid());
	assert_int_equal(json_integer_value(json_object_get(by, "pid")), 77);
	says(by, "user", pw == NULL ? "" : pw->pw_name);
	assert_non_null(
	    strptime(json_string_value(json_object_get(line, "time")), "%Y-%m-%dT%H:%M:%S.", &tm));
	assert_true(tm.tm_year >= 124);
	assert_null(json_object_get(line, "verdict"));
	last = audit_last(a);
	assert_true(json_equal(last, line));
	json_decref(last);
	json_decref(line);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07137, 0);
	audit_close(a);
	audit_close(NULL);
}

static void
says_what_teal_decided(void **unused)
{
	struct audit *a = audit_open(directory);
	struct verdict v = {.word = VERDICT_FAIL, .rule = RULE_P95, .reason = "green is slow"};
	const struct audit_entry e = {
	    .service = "", .action = "trip", .epoch = 9, .reason = "back to blue", .verdict = &v};
	char err[256], last[256];
	json_t *line;

	(void)unused;
	line = audit_last(a);
	assert_null(line);
	assert_int_equal(audit_write(a, &e, err, sizeof(err)), 0);
	line = only_line();
	says(line, "by", "teal");
	says(line, "reason", "back to blue");
	says(line, "rule", "p95");
	says(line, "verdict", "green is slow");
	says(line, "service", "");
	assert_null(json_object_get(line, "from"));
	json_decref(line);
	assert_int_equal(history(a, "", last), 1);
	assert_int_equal(history(a, "api", last), 0);
	audit_close(a);
}

/* Whatever is in a text, it stays one line, and every reader of lines agrees. */
static void
texts_do_not_break_lines(void **unused)
{
	static const char *const texts[] = {"a\nb", "a\r\nb\x1b[2J", "\"},{\"x\":\"", "\\",
	    "cut \xe2\x82", "\xff\xfe", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
	    "\xf0\x80\x80\x80", "\xe0\x80\x80", "\x7f", "\xc2\x85 \xc2\x9b",
	    "\xe2\x80\xa8\xe2\x80\xa9", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\xa6"};
	enum { N = sizeof(texts) / sizeof(texts[0]) };
	struct audit *a = audit_open(directory);
	char last[256], *p;
	unsigned lines = 0;

	(void)unused;
	for (size_t i = 0; i < N; i++)
		must_write(a, "api", texts[i]);
	assert_int_equal(history(a, "api", last), N);
	assert_string_equal(last, texts[N - 1]); /* what is well formed is left as it is */
	for (p = contents(file); *p != '\0'; p++) {
		lines += *p == '\n';
		assert_true(*p == '\n' || ((unsigned char)*p >= 0x20 && *p != 0x7f));
	}
	assert_int_equal(lines, N);
	assert_null(strstr(contents(file), "\xc2\x85"));
	assert_null(strstr(contents(file), "\xc2\x9b"));
	assert_null(strstr(contents(file), "\xe2\x80\xa8"));
	assert_null(strstr(contents(file), "\xe2\x80\xa9"));
	assert_non_null(strstr(contents(file), "\"cut ??\""));
	assert_non_null(strstr(contents(file), "\"a\\nb\""));
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(history(a, "api", last), N);
	audit_close(a);
}

static void
history_is_the_newest_of_each_service(void **unused)
{
	struct audit *a = audit_open(directory);
	char reason[32], last[256];

	(void)unused;
	must_write(a, "web", "the only one");
	for (int i = 0; i < AUDIT_KEPT + 5; i++) {
		snprintf(reason, sizeof(reason), "number %d", i);
		must_write(a, "api", reason);
	}
	for (int again = 0; again < 2; again++) {
		json_t *all = audit_history(a, "api");

		assert_int_equal(json_array_size(all), AUDIT_KEPT);
		says(json_array_get(all, 0), "reason", "number 5");
		says(json_array_get(all, AUDIT_KEPT - 1), "reason", reason);
		/* the array is the caller's */
		assert_int_equal(json_array_clear(all), 0);
		json_decref(all);
		assert_int_equal(history(a, "api", last), AUDIT_KEPT);
		assert_int_equal(history(a, "web", last), 1);
		assert_int_equal(history(a, "none", last), 0);
		/* the same from the file */
		audit_close(a);
		a = audit_open(directory);
	}
	audit_close(a);
}

/* Only the end of a large file is read: what is lost is old. */
static void
reads_the_end_only(void **unused)
{
	static const char filler[] =
	    "{\"time\":\"t\",\"service\":\"old\",\"action\":\"weight\",\"reason\":\"long ago\"}\n";
	struct audit *a;
	char last[256];
	size_t n = 0;
	FILE *f = fopen(file, "w");

	(void)unused;
	assert_non_null(f);
	fputs("{\"time\":\"t\",\"service\":\"first\",\"action\":\"weight\",\"reason\":\"\"}\n", f);
	while (n < 5 * 1024 * 1024) {
		fputs(filler, f);
		n += sizeof(filler) - 1;
	}
	assert_int_equal(fclose(f), 0);
	a = audit_open(directory);
	must_write(a, "api", "new");
	assert_int_equal(history(a, "first", last), 0);
	assert_int_equal(history(a, "old", last), AUDIT_KEPT);
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(history(a, "api", last), 1);
	assert_string_equal(last, "new");
	audit_close(a);
}

static void
write_entries(unsigned n, unsigned services)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "{\"service\":\"s%u\",\"time\":\"\",\"action\":\"\"}\n", i % services);
	assert_int_equal(fclose(f), 0);
}

/* Memory is bounded over all services too; what one of them has used up does not count for ever. */
static void
all_histories_are_bounded(void **unused)
{
	struct audit *a;
	char last[256], name[16];
	size_t sum = 0;

	(void)unused;
	write_entries(90000, 450);
	a = audit_open(directory);
	for (int i = 0; i < 450; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		json_t *all = audit_history(a, name);

		sum += json_array_size(all);
		json_decref(all);
	}
	assert_in_range(sum, 49000, 50000);
	/* one that has none yet gets its place all the same */
	must_write(a, "api", "one");
	must_write(a, "api", "two");
	assert_int_equal(history(a, "api", last), 1);
	assert_string_equal(last, "two");
	audit_close(a);
	write_entries(60000, 1);
	a = audit_open(directory);
	must_write(a, "api", "one");
	must_write(a, "api", "two");
	assert_int_equal(history(a, "api", last), 2);
	audit_close(a);
}

/* logrotate renames it away while teal runs: the next entry makes a new one. */
static void
rotated_while_running(void **unused)
{
	struct audit *a = audit_open(directory);
	char last[256];

	(void)unused;
	must_write(a, "api", "before");
	assert_int_equal(rename(file, rotated), 0);
	must_write(a, "api", "after");
	assert_non_null(strstr(contents(rotated), "before"));
	assert_null(strstr(contents(rotated), "after"));
	json_decref(only_line());
	assert_non_null(strstr(contents(file), "after"));
	assert_int_equal(history(a, "api", last), 2);
	/* or cuts it */
	assert_int_equal(truncate(file, 0), 0);
	must_write(a, "api", "cut");
	json_decref(only_line());
	audit_close(a);
}

/* What a crash left of a line stays what it is; the next entry begins a line of its own. */
static void
a_torn_line_is_closed(void **unused)
{
	static const char torn[] = "{\"time\":\"2026-01-01T00:00:00.000Z\",\"serv";
	struct audit *a;
	char last[256], *text;

	(void)unused;
	append_text(torn, sizeof(torn) - 1);
	a = audit_open(directory);
	assert_int_equal(history(a, "api", last), 0);
	must_write(a, "api", "one");
	must_write(a, "api", "two");
	text = contents(file);
	assert_memory_equal(text, torn, sizeof(torn) - 1);
	assert_memory_equal(text + sizeof(torn) - 1, "\n{", 2);
	assert_null(strstr(text, "\n\n"));
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(history(a, "api", last), 2);
	assert_string_equal(last, "two");
	audit_close(a);
}

static void
damaged_lines_are_skipped(void **unused)
{
	static const char bad[] =
	    "hello\n[]\n{}\n\"x\"\n\n{\"service\": 7, \"time\": \"t\", \"action\": \"x\"}\n"
	    "{\"service\": \"api\", \"time\": 7, \"action\": \"x\"}\n"
	    "{\"service\": \"api\", \"time\": \"t\"}\n"
	    "{\"service\": \"../x\", \"time\": \"t\", \"action\": \"x\"}\n"
	    "{\"service\": \"api\", \"service\": \"b\", \"time\": \"t\", \"action\": \"x\"}\n"
	    "\0\0\0\n\xff\xff{\n";
	struct audit *a = audit_open(directory);
	char last[256];

	(void)unused;
	must_write(a, "api", "one");
	append_text(bad, sizeof(bad) - 1);
	must_write(a, "api", "two");
	append_text("{\"service\": \"api\", \"ti", 20);
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(history(a, "api", last), 2);
	assert_string_equal(last, "two");
	assert_int_equal(history(a, "b", last), 0);
	assert_int_equal(history(a, "../x", last), 0);
	audit_close(a);
}

/* A full disk, as a limit on the size of files: told, nothing half written, history has it all the
 * same, and it goes on when there is room again. */
static void
full_disk(void **unused)
{
	struct audit *a = audit_open(directory);
	struct rlimit old, tiny;
	char err[256], last[256], *before;
	int failed;

	(void)unused;
	must_write(a, "api", "one");
	before = strdup(contents(file));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	for (rlim_t room = 0; room < 60; room += 30) {
		tiny = old;
		tiny.rlim_cur = strlen(before) + room;
		(void)signal(SIGXFSZ, SIG_IGN);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
		failed = write_as(a, "api", "two", err);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
		assert_int_equal(failed, -1);
		assert_non_null(strstr(err, file));
		assert_non_null(strstr(err, room == 0 ? "File too large" : "No space left"));
		assert_string_equal(contents(file), before);
	}
	free(before);
	assert_int_equal(history(a, "api", last), 3);
	assert_string_equal(last, "two");
	must_write(a, "api", "three");
	assert_int_equal(history(a, "api", last), 4);
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(history(a, "api", last), 2);
	audit_close(a);
}

static void
read_only_directory(void **unused)
{
	struct audit *a = audit_open(directory);
	bool root = geteuid() == 0;
	char err[256], last[256];
	int failed;

	(void)unused;
	assert_int_equal(chmod(directory, 0555), 0);
	if (root) /* whom no mode stops */
		assert_int_equal(seteuid(65534), 0);
	failed = write_as(a, "api", "one", err);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(failed, -1);
	assert_non_null(strstr(err, "Permission denied"));
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(history(a, "api", last), 1);
	must_write(a, "api", "two");
	audit_close(a);
}

/* Something else in its place: not followed, not waited for, not written into. */
static void
odd_files_are_refused(void **unused)
{
	struct audit *a;
	char err[256], last[256];

	(void)unused;
	append_text("", 0);
	assert_int_equal(rename(file, rotated), 0);
	assert_int_equal(symlink("audit.log.1", file), 0);
	a = audit_open(directory);
	assert_int_equal(write_as(a, "api", "", err), -1);
	assert_non_null(strstr(err, "not a regular file"));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(write_as(a, "api", "", err), -1);
	assert_non_null(strstr(err, "not a regular file"));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkdir(file, 0700), 0);
	audit_close(a);
	a = audit_open(directory);
	assert_int_equal(write_as(a, "api", "", err), -1);
	assert_int_equal(history(a, "api", last), 1);
	assert_int_equal(rmdir(file), 0);
	must_write(a, "api", "");
	audit_close(a);
	/* no directory at all */
	a = audit_open("/nonexistent/teal/audit");
	assert_int_equal(write_as(a, "api", "", err), -1);
	assert_non_null(strstr(err, "No such file"));
	audit_close(a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(says_who_what_when_where_why),
	    TEST(says_what_teal_decided),
	    TEST(texts_do_not_break_lines),
	    TEST(history_is_the_newest_of_each_service),
	    TEST(reads_the_end_only),
	    TEST(all_histories_are_bounded),
	    TEST(rotated_while_running),
	    TEST(a_torn_line_is_closed),
	    TEST(damaged_lines_are_skipped),
	    TEST(full_disk),
	    TEST(read_only_directory),
	    TEST(odd_files_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
