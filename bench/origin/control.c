#include "bench/origin/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench/origin/journal.h"

#define CLIENTS 16
#define LINE    ((size_t)1024)
#define BATCH   ((size_t)512) /* journal entries copied under its lock at once */

struct client {
	int fd; /* -1: free */
	bool lost;
	size_t n;
	char line[LINE];
};

static struct counters zero; /* what stats count from */

/* --- answers ------------------------------------------------------------------ */

static void
put(struct client *c, const char *p, size_t n)
{
	while (n && !c->lost) {
		ssize_t wrote = send(c->fd, p, n, MSG_NOSIGNAL);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0) {
			c->lost = true;
			return;
		}
		p += wrote;
		n -= (size_t)wrote;
	}
}

__attribute__((format(printf, 2, 3))) static void
say(struct client *c, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);

	va_end(args);
	put(c, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* --- stats -------------------------------------------------------------------- */

static void
add(struct counters *sum, const struct counters *more, bool subtract)
{
#define ADD(field) sum->field += subtract ? -more->field : more->field
	ADD(requests);
	ADD(failed);
	ADD(hung);
	ADD(delayed);
	ADD(probes);
	ADD(connections);
#undef ADD
}

static void
sum_up(const struct origin *o, struct counters *sum)
{
	memset(sum, 0, sizeof *sum);
	for (unsigned i = 0; i < o->n_workers; i++) {
		const struct counters *one = &o->workers[i]->counters;
		uint64_t first = one->first_fault_us, last = one->last_fault_us;

		add(sum, one, false);
		sum->open += one->open;
		if (first && (!sum->first_fault_us || first < sum->first_fault_us))
			sum->first_fault_us = first;
		if (last > sum->last_fault_us)
			sum->last_fault_us = last;
	}
}

static void
stats(const struct origin *o, struct client *c)
{
	struct counters sum;

	sum_up(o, &sum);
	add(&sum, &zero, true);
	say(c,
	    "{\"requests\":%llu,\"failed\":%llu,\"hung\":%llu,\"delayed\":%llu,\"probes\":%llu,"
	    "\"connections\":%llu,\"open\":%llu,\"first_fault_us\":%llu,\"last_fault_us\":%llu,"
	    "\"now_us\":%llu,\"version\":\"%s\"}\n",
	    (unsigned long long)sum.requests, (unsigned long long)sum.failed,
	    (unsigned long long)sum.hung, (unsigned long long)sum.delayed,
	    (unsigned long long)sum.probes, (unsigned long long)sum.connections,
	    (unsigned long long)sum.open, (unsigned long long)sum.first_fault_us,
	    (unsigned long long)sum.last_fault_us, (unsigned long long)now_us(), o->script.version);
}

static void
forget(struct origin *o)
{
	for (unsigned i = 0; i < o->n_workers; i++) {
		o->workers[i]->counters.first_fault_us = 0;
		o->workers[i]->counters.last_fault_us = 0;
	}
	sum_up(o, &zero);
	journal_clear();
}

static void
since(struct client *c, const char *text)
{
	static struct journal_entry entries[BATCH];
	char *end;
	uint64_t us = strtoull(text, &end, 10), at = 0;
	size_t n;

	if (end == text || *end) {
		say(c, "error: microseconds are wanted\n");
		return;
	}
	while (!c->lost && (n = journal_read(&at, us, entries, BATCH)) > 0)
		for (size_t i = 0; i < n; i++)
			say(c, "%llu %s %.*s\n", (unsigned long long)entries[i].us,
			    entries[i].faulty ? "fault" : "ok", (int)entries[i].n,
			    entries[i].target);
	say(c, ".\n");
}

/* --- commands ----------------------------------------------------------------- */

static const char *
change(struct origin *o, const struct script *to)
{
	if (o->script.refuse && !to->refuse)
		for (unsigned i = 0; i < o->n_listeners; i++)
			if (listener_open(&o->listeners[i], o->n_workers))
				return "cannot listen";
	origin_publish(o, to);
	return NULL;
}

static void
command(struct origin *o, struct client *c, char *line)
{
	struct script script = o->script; /* only this thread changes it */
	const char *wrong = NULL;

	if (!strncmp(line, "set ", 4)) {
		wrong = script_set(&script, line + 4);
	} else if (!strcmp(line, "reset")) {
		script_reset(&script);
	} else if (!strcmp(line, "log on") || !strcmp(line, "log off")) {
		script.log = line[5] == 'n';
	} else if (!strcmp(line, "zero")) {
		forget(o);
		say(c, "ok\n");
		return;
	} else if (!strcmp(line, "stats")) {
		stats(o, c);
		return;
	} else if (!strncmp(line, "since ", 6)) {
		since(c, line + 6);
		return;
	} else {
		wrong = "no such command";
	}
	if (!wrong)
		wrong = change(o, &script);
	if (wrong)
		say(c, "error: %s\n", wrong);
	else
		say(c, "ok\n");
}

static void
client_read(struct origin *o, struct client *c)
{
	ssize_t got = recv(c->fd, c->line + c->n, LINE - c->n, 0);
	char *end;

	if (got <= 0) {
		c->lost = true;
		return;
	}
	c->n += (size_t)got;
	while (!c->lost && (end = memchr(c->line, '\n', c->n))) {
		size_t used = (size_t)(end + 1 - c->line);

		*end = '\0';
		if (end > c->line && end[-1] == '\r')
			end[-1] = '\0';
		command(o, c, c->line);
		c->n -= used;
		memmove(c->line, c->line + used, c->n);
	}
	if (c->n == LINE) {
		say(c, "error: the line is too long\n");
		c->lost = true;
	}
}

static void
client_open(struct client *clients, int control)
{
	int fd = accept4(control, NULL, NULL, SOCK_CLOEXEC);
	struct timeval patience = {5, 0};

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].fd < 0) {
			clients[i] = (struct client){.fd = fd};
			return;
		}
	close(fd);
}

int
control_open(const char *path)
{
	struct listener l = {.reserve = -1};
	size_t n = strlen(path);

	if (n >= sizeof l.address.un.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	l.address.un.sun_family = AF_UNIX;
	memcpy(l.address.un.sun_path, path, n + 1);
	unlink(path);
	mode_t mask = umask(077);
	int bad = bind(fd, &l.address.any, sizeof l.address.un) || listen(fd, CLIENTS);

	umask(mask);
	return bad ? -1 : fd;
}

void
control_run(struct origin *o, int control, int signals)
{
	static struct client clients[CLIENTS];

	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i].fd = -1;
	for (;;) {
		struct pollfd fds[2 + CLIENTS] = {{signals, POLLIN, 0}, {control, POLLIN, 0}};

		for (unsigned i = 0; i < CLIENTS; i++)
			fds[2 + i] = (struct pollfd){clients[i].fd, POLLIN, 0};
		if (poll(fds, 2 + CLIENTS, -1) < 0)
			continue;
		if (fds[0].revents)
			break;
		for (unsigned i = 0; i < CLIENTS; i++) {
			if (clients[i].fd < 0 || !fds[2 + i].revents)
				continue;
			client_read(o, &clients[i]);
			if (clients[i].lost) {
				close(clients[i].fd);
				clients[i].fd = -1;
			}
		}
		if (fds[1].revents)
			client_open(clients, control);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].fd >= 0)
			close(clients[i].fd);
}
