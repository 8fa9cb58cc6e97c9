/*
 * Commands beside the loop, with a real event base and real processes: how they end, what they print, what they inherit, and
 * that nothing is left of them: no process, no zombie, no descriptor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/process/run.h"

#define DEADLINE_S 20
#define LONG_MS    60000

static struct event_base *base;
static char sh[] = "/bin/sh", dash_c[] = "-c";

/* What done was told. */
static struct {
	unsigned calls;
	enum run_end end;
	int code;
	char output[RUN_OUTPUT_MAX + 1];
	char sentence[160];
} told;

static void
done(void *arg, const struct run_result *r)
{
	assert_ptr_equal(arg, &told);
	told.calls++;
	told.end = r->end;
	told.code = r->code;
	assert_true(strlen(r->output) <= RUN_OUTPUT_MAX);
	strcpy(told.output, r->output);
	strcpy(told.sentence, r->sentence);
}

static void
too_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	fail_msg("no end within %d s", DEADLINE_S);
}

/* Turns the loop until condition() holds. */
static void
loop_until(bool (*condition)(void))
{
	struct timeval patience = {.tv_sec = DEADLINE_S}, soon = {.tv_usec = 1000};
	struct event *deadline = evtimer_new(base, too_late, NULL);

	evtimer_add(deadline, &patience);
	while (!condition()) {
		event_base_loopexit(base, &soon);
		event_base_loop(base, EVLOOP_ONCE);
	}
	event_free(deadline);
}

static bool
is_told(void)
{
	return told.calls > 0;
}

static struct run *
start(char *script, const char *const *environment, const char *input, int64_t timeout_ms)
{
	char *items[] = {sh, dash_c, script};
	struct string_list argv = {items, 3};

	memset(&told, 0, sizeof(told));
	return run_start(base, &argv, environment, input, input != NULL ? strlen(input) : 0,
	    timeout_ms, done, &told);
}

static void
shell(const char *script, const char *input, int64_t timeout_ms)
{
	char *copy = strdup(script);

	assert_non_null(start(copy, NULL, input, timeout_ms));
	assert_int_equal(told.calls, 0); /* never within the call */
	free(copy);
	loop_until(is_told);
	assert_int_equal(told.calls, 1);
}

static unsigned
n_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static bool
no_children(void)
{
	return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

static unsigned descriptors_before;

static int
setup(void **state)
{
	(void)state;
	base = event_base_new();
	descriptors_before = n_descriptors();
	return base == NULL;
}

static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(n_descriptors(), descriptors_before);
	assert_true(no_children());
	event_base_free(base);
	return 0;
}

static void
test_exit_codes(void **state)
{
	(void)state;
	shell("true", NULL, LONG_MS);
	assert_int_equal(told.end, RUN_EXITED);
	assert_int_equal(told.code, 0);
	assert_string_equal(told.sentence, "exit code 0");
	assert_string_equal(told.output, "");
	shell("exit 3", NULL, LONG_MS);
	assert_int_equal(told.end, RUN_EXITED);
	assert_int_equal(told.code, 3);
	assert_string_equal(told.sentence, "exit code 3");
	shell("kill -TERM $$", NULL, LONG_MS);
	assert_int_equal(told.end, RUN_SIGNALLED);
	assert_int_equal(told.code, SIGTERM);
	assert_string_equal(told.sentence, "killed by signal 15 (Terminated)");
}

static void
test_output(void **state)
{
	(void)state;
	shell("printf 'a\\tb\\n'; printf 'c\\033[1m\\177\\001\\r\\000d' >&2", NULL, LONG_MS);
	assert_string_equal(told.output, "a\tb\nc?[1m????d");
	/* more than a pipe holds: it ends all the same, and the beginning is kept */
	shell("i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789$i; "
	      "i=$((i+1)); done; exit 4",
	    NULL, LONG_MS);
	assert_int_equal(told.code, 4);
	assert_int_equal(strlen(told.output), RUN_OUTPUT_MAX);
	assert_memory_equal(told.output, "01234567890123456789012345678901234567890\n", 42);
}

static void
test_early_close(void **state)
{
	(void)state;
	shell("echo x; exec >&- 2>&-; exec sh -c 'exit 5'", NULL, LONG_MS);
	assert_int_equal(told.code, 5);
	assert_string_equal(told.output, "x\n");
}

static void
test_input(void **state)
{
	char big[200001];

	(void)state;
	shell("cat", "{\"a\": 1}\n", LONG_MS);
	assert_string_equal(told.output, "{\"a\": 1}\n");
	shell("cat", "", LONG_MS);
	assert_string_equal(told.output, "");
	/* none: /dev/null, not the daemon's own */
	shell("readlink /proc/self/fd/0", NULL, LONG_MS);
	assert_string_equal(told.output, "/dev/null\n");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	shell("wc -c", big, LONG_MS);
	assert_int_equal(atoi(told.output), 200000);
	/* unread input is nobody's harm (SIGPIPE has its default here) */
	shell("exec <&-; exit 6", big, LONG_MS);
	assert_int_equal(told.code, 6);
}

static void
test_environment(void **state)
{
	static const char *const more[] = {"TEAL_EVENT=step", "TEAL_OLD=new", NULL};
	char script[] = "echo $TEAL_EVENT $TEAL_OLD $TEAL_KEPT; env | grep -c ^TEAL_OLD=";

	(void)state;
	setenv("TEAL_OLD", "old", 1);
	setenv("TEAL_KEPT", "kept", 1);
	start(script, more, NULL, LONG_MS);
	loop_until(is_told);
	assert_string_equal(told.output, "step new kept\n1\n");
	unsetenv("TEAL_OLD");
	unsetenv("TEAL_KEPT");
}

/* Nothing of the daemon is left in the child: descriptors, blocked and ignored signals. */
static void
test_inherits_nothing(void **state)
{
	unsigned long long blocked, ignored;
	sigset_t all, old;
	int loose = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */
	char script[] =
	    "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign)' /proc/self/status";

	(void)state;
	assert_true(loose >= 0);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	signal(SIGPIPE, SIG_IGN);
	start(script, NULL, NULL, LONG_MS);
	signal(SIGPIPE, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(loose);
	loop_until(is_told);
	/* 3 is of ls itself; 32 and 33 are glibc's own signals */
	assert_int_equal(
	    sscanf(told.output, "0 1 2 3 SigBlk:\t%llx\nSigIgn:\t%llx\n", &blocked, &ignored), 2);
	assert_int_equal(blocked, 0);
	assert_int_equal(ignored & 0x7fffffff, 0);
}

static void
test_not_started(void **state)
{
	char gone[] = "/nonexistent/x", file[] = "/etc/passwd", *items[1];
	struct string_list argv = {items, 1};

	(void)state;
	items[0] = gone;
	memset(&told, 0, sizeof(told));
	run_start(base, &argv, NULL, NULL, 0, LONG_MS, done, &told);
	assert_int_equal(told.calls, 0);
	loop_until(is_told);
	assert_int_equal(told.end, RUN_NOT_STARTED);
	assert_int_equal(told.code, ENOENT);
	assert_string_equal(told.sentence, "/nonexistent/x: No such file or directory");
	assert_string_equal(told.output, "");
	items[0] = file;
	memset(&told, 0, sizeof(told));
	run_start(base, &argv, NULL, "input", 5, LONG_MS, done, &told);
	loop_until(is_told);
	assert_int_equal(told.code, EACCES);
	assert_int_equal(told.calls, 1);
	/* one that is cancelled before it could be told */
	memset(&told, 0, sizeof(told));
	run_cancel(run_start(base, &argv, NULL, NULL, 0, LONG_MS, done, &told));
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(told.calls, 0);
}

/* --- the whole group ------------------------------------------------------------------------- */

/* A FIFO of which the child's group holds the writing end: it ends when the last of them does. */
static char fifo[64];
static int fifo_fd;

static void
fifo_open(void)
{
	snprintf(fifo, sizeof(fifo), "/tmp/teal-run-%d", (int)getpid());
	assert_int_equal(mkfifo(fifo, 0600), 0);
	fifo_fd = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fifo_fd >= 0);
}

static bool
fifo_has_writer(void)
{
	char c;

	return read(fifo_fd, &c, 1) < 0 && errno == EAGAIN;
}

static bool
fifo_has_none(void)
{
	return !fifo_has_writer();
}

static void
fifo_close(void)
{
	loop_until(fifo_has_none);
	close(fifo_fd);
	unlink(fifo);
}

static void
test_timeout_ends_all(void **state)
{
	char script[128];

	(void)state;
	fifo_open();
	snprintf(script, sizeof(script),
	    "exec 3>%s; echo begun; trap '' TERM; sleep 100 & sleep 100", fifo);
	shell(script, NULL, 300);
	assert_int_equal(told.end, RUN_TIMED_OUT);
	assert_string_equal(told.sentence, "timed out after 300ms");
	fifo_close();
}

/* One that has gone to another process group is ended all the same. */
static void
test_timeout_ends_a_fugitive(void **state)
{
	(void)state;
	shell("exec /usr/bin/python3 -c 'import os, time; os.setpgid(0, os.getpgid(os.getppid())); "
	      "time.sleep(600)'",
	    NULL, 1000);
	assert_int_equal(told.end, RUN_TIMED_OUT);
}

static void
test_leftovers_end(void **state)
{
	char script[128];

	(void)state;
	fifo_open();
	/* the grandchild keeps the pipe of the output too */
	snprintf(script, sizeof(script), "exec 3>%s; sleep 100 & echo left; exit 0", fifo);
	shell(script, NULL, LONG_MS);
	assert_int_equal(told.end, RUN_EXITED);
	assert_string_equal(told.output, "left\n");
	fifo_close();
}

static void
test_cancel(void **state)
{
	char script[128];
	struct run *r;

	(void)state;
	fifo_open();
	snprintf(script, sizeof(script), "exec 3>%s; sleep 100 & sleep 100", fifo);
	r = start(script, NULL, NULL, LONG_MS);
	loop_until(fifo_has_writer);
	run_cancel(r);
	fifo_close();
	assert_int_equal(told.calls, 0);
	assert_true(no_children());
}

/* --- many ------------------------------------------------------------------------------------ */

static unsigned n_done;

static void
count(void *arg, const struct run_result *r)
{
	assert_int_equal(r->code, *(int *)arg);
	n_done++;
}

static bool
all_done(void)
{
	return n_done == 20;
}

static void
test_many_at_once(void **state)
{
	int codes[20];
	char script[32], *items[] = {sh, dash_c, script};
	struct string_list argv = {items, 3};

	(void)state;
	n_done = 0;
	for (int i = 0; i < 20; i++) {
		codes[i] = i;
		snprintf(script, sizeof(script), "exit %d", i);
		run_start(base, &argv, NULL, NULL, 0, LONG_MS, count, &codes[i]);
	}
	loop_until(all_done);
}

/* done may start the next. */
static void
again(void *arg, const struct run_result *r)
{
	char script[] = "exit 7", *items[] = {sh, dash_c, script};
	struct string_list argv = {items, 3};

	(void)arg;
	assert_int_equal(r->code, 1);
	run_start(base, &argv, NULL, NULL, 0, LONG_MS, done, &told);
}

static void
test_next_from_done(void **state)
{
	char script[] = "exit 1", *items[] = {sh, dash_c, script};
	struct string_list argv = {items, 3};

	(void)state;
	memset(&told, 0, sizeof(told));
	run_start(base, &argv, NULL, NULL, 0, LONG_MS, again, NULL);
	loop_until(is_told);
	assert_int_equal(told.code, 7);
}

/* An inherited SIG_IGN of SIGCHLD must not make the end unknown. */
static void
test_sigchld_ignored(void **state)
{
	(void)state;
	signal(SIGCHLD, SIG_IGN);
	shell("exit 9", NULL, LONG_MS);
	assert_int_equal(told.end, RUN_EXITED);
	assert_int_equal(told.code, 9);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_exit_codes),
	    TEST(test_output),
	    TEST(test_early_close),
	    TEST(test_input),
	    TEST(test_environment),
	    TEST(test_inherits_nothing),
	    TEST(test_not_started),
	    TEST(test_timeout_ends_all),
	    TEST(test_timeout_ends_a_fugitive),
	    TEST(test_leftovers_end),
	    TEST(test_cancel),
	    TEST(test_many_at_once),
	    TEST(test_next_from_done),
	    TEST(test_sigchld_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
