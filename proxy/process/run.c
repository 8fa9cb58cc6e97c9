/*
 * A command beside the event loop.  See run.h.
 *
 *   run_start -> posix_spawn -> the pidfd is readable: the leader has ended -> the group is killed, what is
 *     |             |             in the pipe is read, the leader reaped -> done
 *     |             +-> the deadline: the group is killed; the pidfd tells the rest
 *     +-> it cannot be started: done, from the loop
 *
 * The group is killed while the leader is a zombie still: its number cannot be another's.  What the
 * command leaves behind in its group dies with it; who wants to stay calls setsid().  Input is a
 * file in memory and no pipe: there is nobody to write to who might not read.
 *
 * Owner: whoever called run_start(), until done or run_cancel().  Control thread.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/parse.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/run.h"

#define RUN_MAGIC    0x72756e21u
#define READ_BYTES   4096
#define READS_MAX    32  /* per wake-up: a command that only prints is not the loop's only guest */
#define REAP_WAIT_MS 100 /* for a process that got SIGKILL; more only where the kernel hangs */

struct run {
	uint32_t magic;
	pid_t pid; /* -1: not started, or reaped */
	int pidfd, out;
	struct event *ended, *readable, *deadline;
	int64_t timeout_ms;
	bool timed_out;
	run_done *done;
	void *arg;
	size_t n;
	char output[RUN_OUTPUT_MAX + 1];
	struct run_result result;
};

/* --- the end --------------------------------------------------------------------------------- */

static void
close_if(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

static void
run_free(struct run *r)
{
	if (r->ended != NULL)
		event_free(r->ended);
	if (r->readable != NULL)
		event_free(r->readable);
	if (r->deadline != NULL)
		event_free(r->deadline);
	close_if(r->pidfd);
	close_if(r->out);
	r->magic = 0;
	free(r);
}

static void
kill_group(const struct run *r)
{
	if (r->pid <= 0)
		return;
	(void)kill(-r->pid, SIGKILL);
	(void)kill(
	    r->pid, SIGKILL); /* it may have left its group; not reaped, so the number is its own */
}

/* Control characters would write on the operator's terminal. */
static void
keep_output(struct run *r, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n && r->n < RUN_OUTPUT_MAX; i++) {
		unsigned char c = (unsigned char)bytes[i];

		r->output[r->n++] =
		    (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : (char)c;
	}
}

/* Takes what is in the pipe; what is too much is read away, so that the command can go on. */
static void
read_output(struct run *r)
{
	char bytes[READ_BYTES];

	for (int i = 0; i < READS_MAX && r->out >= 0; i++) {
		ssize_t n = read(r->out, bytes, sizeof(bytes));

		if (n > 0) {
			keep_output(r, bytes, (size_t)n);
		} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			return;
		} else { /* closed; the command may run on */
			(void)event_del(r->readable);
			(void)close(r->out);
			r->out = -1;
		}
	}
}

static void
say_end(struct run *r, int status)
{
	struct run_result *result = &r->result;
	char patience[UNIT_TEXT_SIZE];

	if (r->timed_out) {
		duration_print(r->timeout_ms, patience);
		result->end = RUN_TIMED_OUT;
		result->code = SIGKILL;
		(void)snprintf(
		    result->sentence, sizeof(result->sentence), "timed out after %s", patience);
	} else if (WIFSIGNALED(status)) {
		result->end = RUN_SIGNALLED;
		result->code = WTERMSIG(status);
		(void)snprintf(result->sentence, sizeof(result->sentence),
		    "killed by signal %d (%s)", result->code, strsignal(result->code));
	} else {
		result->end = RUN_EXITED;
		result->code = WEXITSTATUS(status);
		(void)snprintf(
		    result->sentence, sizeof(result->sentence), "exit code %d", result->code);
	}
}

static void
say_failure(struct run *r, const char *what, int error)
{
	r->result.end = RUN_NOT_STARTED;
	r->result.code = error;
	(void)snprintf(
	    r->result.sentence, sizeof(r->result.sentence), "%s: %s", what, strerror(error));
}

/* Frees first: whoever is told may start the next one at once, with these descriptors. */
static void
finish(struct run *r)
{
	struct run_result result = r->result;
	char output[RUN_OUTPUT_MAX + 1];
	run_done *done = r->done;
	void *arg = r->arg;

	memcpy(output, r->output, r->n);
	output[r->n] = '\0';
	result.output = output;
	run_free(r);
	done(arg, &result);
}

static void
on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;
	int status = 0;

	(void)fd;
	(void)what;
	CHECK_MAGIC(r, RUN_MAGIC);
	kill_group(r);
	read_output(r);
	if (waitpid(r->pid, &status, WNOHANG) == r->pid)
		say_end(r, status);
	else /* and must not pass for exit code 0 */
		say_failure(r, "its end is not known", errno);
	r->pid = -1;
	finish(r);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;

	(void)fd;
	(void)what;
	CHECK_MAGIC(r, RUN_MAGIC);
	read_output(r);
}

/* Its time is up; or it was never started, and this is the first turn after. */
static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;

	(void)fd;
	(void)what;
	CHECK_MAGIC(r, RUN_MAGIC);
	if (r->pid < 0) {
		finish(r);
		return;
	}
	r->timed_out = true;
	kill_group(r);
}

void
run_cancel(struct run *r)
{
	CHECK_MAGIC(r, RUN_MAGIC);
	if (r->pid > 0) {
		struct pollfd end = {.fd = r->pidfd, .events = POLLIN};

		kill_group(r);
		(void)poll(&end, 1, REAP_WAIT_MS);
		if (waitpid(r->pid, NULL, WNOHANG) != r->pid)
			log_warn("run: process %d does not end", (int)r->pid);
	}
	run_free(r);
}

/* --- the beginning --------------------------------------------------------------------------- */

/* What the child gets as 0, 1 and 2. */
struct ends {
	int in, out;
};

/* Above 2, so that one end put in its place is not another's; takes fd. */
static int
lift(int fd)
{
	int high;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	(void)close(fd);
	return high;
}

static int
input_file(const char *input, size_t n)
{
	int fd;

	if (input == NULL)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	if ((fd = memfd_create("teal-input", MFD_CLOEXEC)) < 0)
		return -1;
	for (size_t at = 0; at < n;) {
		ssize_t wrote = write(fd, input + at, n - at);

		if (wrote < 0 && errno != EINTR) {
			(void)close(fd);
			return -1;
		}
		at += wrote > 0 ? (size_t)wrote : 0;
	}
	(void)lseek(fd, 0, SEEK_SET);
	return fd;
}

/* 0 or errno. */
static int
open_ends(struct run *r, struct ends *e, const char *input, size_t n)
{
	int out[2];

	if ((e->in = lift(input_file(input, n))) < 0)
		return errno;
	if (pipe2(out, O_CLOEXEC) < 0)
		return errno;
	r->out = lift(out[0]);
	e->out = lift(out[1]);
	/* only this end: the command's own must block */
	if (r->out < 0 || e->out < 0 || fcntl(r->out, F_SETFL, O_NONBLOCK) < 0)
		return errno;
	return 0;
}

static bool
same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && (b[n] == '=' || b[n] == '\0');
}

/* teal's own, and the given in place of those of the same name.  The array is the caller's; the
 * strings are not. */
static char **
join_environment(const char *const *more)
{
	size_t n_own = 0, n_more = 0, n = 0;
	char **all;

	while (environ != NULL && environ[n_own] != NULL)
		n_own++;
	while (more != NULL && more[n_more] != NULL)
		n_more++;
	if ((all = calloc(n_own + n_more + 1, sizeof(*all))) == NULL)
		return NULL;
	for (size_t i = 0; i < n_own; i++) {
		bool given = false;

		for (size_t k = 0; k < n_more; k++)
			given = given || same_name(environ[i], more[k]);
		if (!given)
			all[n++] = environ[i];
	}
	for (size_t k = 0; k < n_more; k++)
		all[n++] = (char *)(uintptr_t)more[k]; /* execve() writes to none */
	return all;
}

/* Signals as a program expects them: teal's threads block some and ignore SIGPIPE. */
static int
set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none, all;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	if (posix_spawnattr_setsigmask(attributes, &none) != 0 ||
	    posix_spawnattr_setsigdefault(attributes, &all) != 0 ||
	    posix_spawnattr_setpgroup(attributes, 0) != 0)
		return EINVAL;
	return posix_spawnattr_setflags(
	    attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

static int
set_actions(posix_spawn_file_actions_t *actions, const struct ends *e)
{
	if (posix_spawn_file_actions_adddup2(actions, e->in, STDIN_FILENO) != 0 ||
	    posix_spawn_file_actions_adddup2(actions, e->out, STDOUT_FILENO) != 0 ||
	    posix_spawn_file_actions_adddup2(actions, e->out, STDERR_FILENO) != 0)
		return ENOMEM;
	/* also what a library opened without O_CLOEXEC */
	return posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
}

/* 0 or errno, that of execve() included. */
static int
spawn(struct run *r, const struct string_list *argv, const char *const *environment, struct ends *e)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char **args = calloc(argv->n + 1, sizeof(*args));
	char **env = join_environment(environment);
	int error;

	if (args == NULL || env == NULL) {
		free(args);
		free(env);
		return ENOMEM;
	}
	memcpy(args, argv->items, argv->n * sizeof(*args));
	/* inherited as ignored, the kernel would reap behind our back */
	(void)signal(SIGCHLD, SIG_DFL);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attributes);
	if ((error = set_attributes(&attributes)) == 0 && (error = set_actions(&actions, e)) == 0)
		error = posix_spawn(&r->pid, args[0], &actions, &attributes, args, env);
	(void)posix_spawnattr_destroy(&attributes);
	(void)posix_spawn_file_actions_destroy(&actions);
	free(args);
	free(env);
	if (error != 0)
		r->pid = -1;
	return error;
}

/* 0 or errno; what was started is ended again. */
static int
watch(struct run *r, struct event_base *base)
{
	int error;

	r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	if (r->pidfd >= 0 && (r->ended = event_new(base, r->pidfd, EV_READ, on_ended, r)) != NULL &&
	    (r->readable = event_new(base, r->out, EV_READ | EV_PERSIST, on_readable, r)) != NULL &&
	    event_add(r->ended, NULL) == 0 && event_add(r->readable, NULL) == 0)
		return 0;
	error = errno != 0 ? errno : ENOMEM;
	if (r->ended != NULL)
		(void)event_del(r->ended);
	kill_group(r);
	(void)waitpid(r->pid, NULL, 0); /* started a moment ago, and killed */
	r->pid = -1;
	return error;
}

struct run *
run_start(struct event_base *base, const struct string_list *argv, const char *const *environment,
    const char *input, size_t n, int64_t timeout_ms, run_done *done, void *arg)
{
	struct run *r = calloc(1, sizeof(*r));
	struct ends e = {.in = -1, .out = -1};
	struct timeval patience = {0};
	int error;

	ENSURE(r != NULL && argv->n > 0);
	*r = (struct run){.magic = RUN_MAGIC,
	    .pid = -1,
	    .pidfd = -1,
	    .out = -1,
	    .timeout_ms = timeout_ms,
	    .done = done,
	    .arg = arg};
	r->deadline = evtimer_new(base, on_deadline, r);
	ENSURE(r->deadline != NULL);
	error = open_ends(r, &e, input, n);
	if (error == 0)
		error = spawn(r, argv, environment, &e);
	close_if(e.in);
	close_if(e.out);
	if (error == 0)
		error = watch(r, base);
	if (error == 0) {
		patience.tv_sec = timeout_ms / 1000;
		patience.tv_usec = timeout_ms % 1000 * 1000;
	} else {
		say_failure(r, argv->items[0], error);
	}
	ENSURE(event_add(r->deadline, &patience) == 0);
	return r;
}
