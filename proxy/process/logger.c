/* The log thread.  See logger.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/logger.h"

#define RINGS_MAX      2048
#define PAUSE_MS       20 /* between looks when there was nothing */
#define WRITE_WAIT_MS  200
#define COMPLAIN_EVERY 60 /* seconds between two words about the same trouble */

struct logger {
	char *path;
	bool file; /* path is a file that can be reopened */
	int fd;    /* -1: access log off */
	struct ring *access[RINGS_MAX], *log[RINGS_MAX];
	unsigned n_access, n_log;
	_Atomic bool stopping, reopen;
	_Atomic uint64_t lost;
	time_t complained;
	int given_up; /* descriptor + 1 */
	pthread_t thread;
	bool started;
};

/* O_NONBLOCK means nothing to a regular file; a FIFO without a reader must not hold us. */
static int
open_file(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
}

struct logger *
logger_new(const char *access, char *err, size_t err_size)
{
	struct logger *l = calloc(1, sizeof(*l));

	if (l == NULL || (l->path = strdup(access)) == NULL) {
		snprintf(err, err_size, "out of memory");
		free(l);
		return NULL;
	}
	l->fd = -1;
	if (strcmp(access, "off") == 0)
		return l;
	if (strcmp(access, "stdout") == 0) {
		l->fd = STDOUT_FILENO;
		return l;
	}
	l->file = true;
	l->fd = open_file(access);
	if (l->fd == -1) {
		snprintf(err, err_size, "access log %s: %s", access, strerror(errno));
		free(l->path);
		free(l);
		return NULL;
	}
	return l;
}

void
logger_add(struct logger *l, struct ring *access, struct ring *log)
{
	ENSURE(l->n_access < RINGS_MAX && l->n_log < RINGS_MAX);
	if (access != NULL)
		l->access[l->n_access++] = access;
	if (log != NULL)
		l->log[l->n_log++] = log;
}

static void
complain(struct logger *l, const char *what, int error)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (l->complained != 0 && now.tv_sec - l->complained < COMPLAIN_EVERY)
		return;
	l->complained = now.tv_sec;
	log_error("access log %s: %s: %s", l->path, what, strerror(error));
}

static unsigned
lines(const char *p, size_t n)
{
	unsigned count = 0;

	for (size_t i = 0; i < n; i++)
		count += p[i] == '\n';
	return count;
}

/*
 * A pipe whose reader has stopped must hold up neither the rest of the logs nor the end: the
 * operator's lines are given up after a moment, access lines wait (the rings fill, then lose and
 * count) until the stop.
 */
static bool
writable(struct logger *l, int fd, bool access)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	for (;;) {
		bool last = atomic_load(&l->stopping);

		if (l->given_up == fd + 1)
			return false;
		if (poll(&pfd, 1, WRITE_WAIT_MS) > 0)
			return true;
		if (last)
			l->given_up = fd + 1; /* nobody reads, and we are leaving */
		if (!access || last)
			return false;
	}
}

/* Everything or a counted loss: a line that failed is not tried again. */
static void
write_out(struct logger *l, int fd, const char *p, size_t n, bool access)
{
	while (n > 0) {
		/* a pipe that is writable takes PIPE_BUF bytes without blocking (pipe(7)) */
		size_t some = l->file && access ? n : n < PIPE_BUF ? n : PIPE_BUF;
		ssize_t done = -1;

		errno = EAGAIN;
		if (writable(l, fd, access))
			done = write(fd, p, some);
		if (done == -1 &&
		    (errno == EINTR || (errno == EAGAIN && l->given_up != fd + 1 && access)))
			continue;
		if (done <= 0) {
			if (access) {
				atomic_fetch_add(&l->lost, lines(p, n));
				complain(l, "lines are lost", done == 0 ? ENOSPC : errno);
			}
			return;
		}
		p += done;
		n -= (size_t)done;
	}
}

static bool
drain_ring(struct logger *l, struct ring *r, int fd, bool access)
{
	const char *at;
	size_t n = ring_peek(r, &at);

	if (n == 0)
		return false;
	write_out(l, fd, at, n, access);
	ring_take(r, n);
	return true;
}

static bool
drain_all(struct logger *l)
{
	bool any = false;

	for (unsigned i = 0; i < l->n_access; i++)
		any = drain_ring(l, l->access[i], l->fd, true) || any;
	for (unsigned i = 0; i < l->n_log; i++)
		any = drain_ring(l, l->log[i], STDERR_FILENO, false) || any;
	return any;
}

/* What was logged before belongs to the old file, to the end of a line: the ring's end may cut one
 * in two. */
static void
finish_lines(struct logger *l)
{
	for (unsigned i = 0; i < l->n_access; i++) {
		const char *at;
		size_t n;
		bool whole;

		do {
			n = ring_peek(l->access[i], &at);
			whole = n == 0 || at[n - 1] == '\n';
			(void)drain_ring(l, l->access[i], l->fd, true);
		} while (!whole);
	}
}

static void
reopen(struct logger *l)
{
	int fd;

	if (!l->file)
		return;
	finish_lines(l);
	fd = open_file(l->path);
	if (fd == -1) {
		complain(l, "cannot be reopened, the old file is kept", errno);
		return;
	}
	close(l->fd);
	l->fd = fd;
}

static void *
run(void *arg)
{
	static const struct timespec pause = {0, PAUSE_MS * 1000000L};
	struct logger *l = arg;

	for (;;) {
		bool last = atomic_load(&l->stopping);

		if (atomic_exchange(&l->reopen, false))
			reopen(l);
		if (drain_all(l))
			continue;
		if (last)
			return NULL;
		nanosleep(&pause, NULL);
	}
}

int
logger_start(struct logger *l)
{
	int error = pthread_create(&l->thread, NULL, run, l);

	l->started = error == 0;
	return error;
}

void
logger_reopen(struct logger *l)
{
	atomic_store(&l->reopen, true);
}

uint64_t
logger_lost(const struct logger *l)
{
	uint64_t n = atomic_load(&l->lost);

	for (unsigned i = 0; i < l->n_access; i++)
		n += atomic_load_explicit(&l->access[i]->lost, memory_order_relaxed);
	return n;
}

void
logger_stop(struct logger *l)
{
	if (l == NULL)
		return;
	atomic_store(&l->stopping, true);
	if (l->started)
		pthread_join(l->thread, NULL);
	if (l->file)
		close(l->fd);
	free(l->path);
	free(l);
}
