/*
 * Listening sockets, opened by control and handed to the workers, who close them.
 *
 * TCP: one for each worker (SO_REUSEPORT), and one that is bound and never listens, so that the
 * port stays ours while connections are refused.  Unix: one, of which each worker has a
 * duplicate.
 */
#include "bench/origin/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096

static int
parse_unix(struct listener *l, const char *path)
{
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof l->address.un.sun_path)
		return -1;
	l->local = true;
	l->address.un.sun_family = AF_UNIX;
	memcpy(l->address.un.sun_path, path, n + 1);
	l->n_address = sizeof l->address.un;
	return 0;
}

int
listener_parse(struct listener *l, const char *text)
{
	memset(l, 0, sizeof *l);
	l->name = text;
	l->reserve = -1;
	for (unsigned i = 0; i < WORKERS; i++)
		l->fds[i] = -1;
	if (!strncmp(text, "unix:", 5))
		return parse_unix(l, text + 5);

	char host[64], *end;
	const char *colon = strrchr(text, ':');
	bool v6 = *text == '[';
	size_t n = colon ? (size_t)(colon - text) : 0;

	if (!colon || n < (v6 ? 3 : 1) || n >= sizeof host || (v6 && colon[-1] != ']'))
		return -1;
	snprintf(host, sizeof host, "%.*s", (int)(v6 ? n - 2 : n), text + v6);
	unsigned long port = strtoul(colon + 1, &end, 10);

	if (end == colon + 1 || *end || port > 65535)
		return -1;
	if (v6) {
		l->address.v6.sin6_family = AF_INET6;
		l->address.v6.sin6_port = htons((uint16_t)port);
		l->n_address = sizeof l->address.v6;
		return inet_pton(AF_INET6, host, &l->address.v6.sin6_addr) == 1 ? 0 : -1;
	}
	l->address.v4.sin_family = AF_INET;
	l->address.v4.sin_port = htons((uint16_t)port);
	l->n_address = sizeof l->address.v4;
	return inet_pton(AF_INET, host, &l->address.v4.sin_addr) == 1 ? 0 : -1;
}

/* A bound socket; the port becomes known with the first. */
static int
bound(struct listener *l)
{
	int fd = socket(l->address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	    on = 1;

	if (fd < 0)
		return -1;
	if (l->local) {
		unlink(l->address.un.sun_path);
	} else {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
		setsockopt(
		    fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted ones inherit it */
	}
	if (bind(fd, &l->address.any, l->n_address) ||
	    (!l->local && getsockname(fd, &l->address.any, &l->n_address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* By another program: SO_REUSEPORT would share the port with it, a Unix socket would be taken
 * away. */
static bool
taken(const struct listener *l)
{
	int fd = socket(l->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, bad;

	if (fd < 0)
		return true;
	if (l->local) {
		bad = connect(fd, &l->address.any, l->n_address) == 0;
		errno = EADDRINUSE;
	} else {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		bad = bind(fd, &l->address.any, l->n_address);
	}
	int why = errno;

	close(fd);
	errno = why;
	return bad;
}

int
listener_start(struct listener *l, unsigned workers)
{
	return taken(l) ? -1 : listener_open(l, workers);
}

int
listener_open(struct listener *l, unsigned workers)
{
	if (!l->local && l->reserve < 0 && (l->reserve = bound(l)) < 0)
		return -1;
	for (unsigned i = 0; i < workers; i++) {
		l->fds[i] = l->local && i > 0 ? fcntl(l->fds[0], F_DUPFD_CLOEXEC, 0) : bound(l);
		if (l->fds[i] < 0 || listen(l->fds[i], BACKLOG))
			return -1;
	}
	return 0;
}

void
listener_print(const struct listener *l)
{
	char host[INET6_ADDRSTRLEN];

	if (l->local) {
		printf("listening on unix:%s\n", l->address.un.sun_path);
	} else if (l->address.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &l->address.v6.sin6_addr, host, sizeof host);
		printf("listening on [%s]:%u\n", host, ntohs(l->address.v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &l->address.v4.sin_addr, host, sizeof host);
		printf("listening on %s:%u\n", host, ntohs(l->address.v4.sin_port));
	}
	fflush(stdout);
}

void
listener_remove(struct listener *l)
{
	if (l->local)
		unlink(l->address.un.sun_path);
	if (l->reserve >= 0)
		close(l->reserve);
	for (unsigned i = 0; i < WORKERS; i++)
		if (l->fds[i] >= 0)
			close(l->fds[i]);
}
