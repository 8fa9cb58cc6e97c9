/* Listening sockets.  See listen.h. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/process/listen.h"

static int
fail(int fd, const struct listener_config *l, const char *what, char *err, size_t err_size)
{
	snprintf(err, err_size, "listen %s: %s: %s", l->address.text, what, strerror(errno));
	if (fd != -1)
		close(fd);
	return -1;
}

/* A file that nobody answers behind is stale: left by a process that was killed. */
static int
remove_stale(
    const struct listener_config *l, const struct sockaddr_un *un, char *err, size_t err_size)
{
	struct stat st;
	int fd, taken;

	if (lstat(un->sun_path, &st) == -1)
		return errno == ENOENT ? 0 : fail(-1, l, "stat", err, err_size);
	if (!S_ISSOCK(st.st_mode)) { /* a slip in the configuration must not cost a file */
		errno = EEXIST;
		return fail(-1, l, "not a socket", err, err_size);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return fail(-1, l, "socket", err, err_size);
	taken = connect(fd, (const struct sockaddr *)(const void *)un, sizeof(*un)) == 0;
	close(fd);
	if (taken) {
		errno = EADDRINUSE;
		return fail(-1, l, "another process answers there", err, err_size);
	}
	if (unlink(un->sun_path) == -1 && errno != ENOENT)
		return fail(-1, l, "unlink", err, err_size);
	return 0;
}

static int
open_unix(const struct listener_config *l, char *err, size_t err_size)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd;

	if ((size_t)snprintf(un.sun_path, sizeof(un.sun_path), "%s", l->address.path) >=
	    sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return fail(-1, l, "path", err, err_size);
	}
	if (remove_stale(l, &un, err, err_size) == -1)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1 || bind(fd, (struct sockaddr *)(void *)&un, sizeof(un)) == -1)
		return fail(fd, l, "bind", err, err_size);
	if (listen(fd, (int)l->backlog) == -1)
		return fail(fd, l, "listen", err, err_size);
	return fd;
}

/* SO_REUSEPORT would let a second teal share the port unseen: ask once without it.  "[::]" is asked
 * for v6 alone: our own "0.0.0.0" of the same port may be open already. */
static bool
taken(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	bool is_taken;

	if (fd == -1)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	is_taken = bind(fd, a->ai_addr, a->ai_addrlen) == -1 && errno == EADDRINUSE;
	close(fd);
	return is_taken;
}

static int
open_tcp(const struct listener_config *l, bool ask_first, char *err, size_t err_size)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
			    .ai_socktype = SOCK_STREAM,
			    .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
			*all = NULL;
	char port[8];
	int fd, on = 1, off = 0, error;

	snprintf(port, sizeof(port), "%u", l->address.port);
	error = getaddrinfo(l->address.host, port, &hints, &all);
	if (error != 0) {
		snprintf(err, err_size, "listen %s: %s", l->address.text, gai_strerror(error));
		return -1;
	}
	if (ask_first && taken(all)) {
		freeaddrinfo(all);
		errno = EADDRINUSE;
		return fail(-1, l, "bind", err, err_size);
	}
	fd = socket(all->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1) {
		freeaddrinfo(all);
		return fail(fd, l, "socket", err, err_size);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	/* "[::]" takes v4 too, as operators of nginx and HAProxy expect of a wildcard */
	if (all->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	error = bind(fd, all->ai_addr, all->ai_addrlen);
	freeaddrinfo(all);
	if (error == -1)
		return fail(fd, l, "bind", err, err_size);
	if (listen(fd, (int)l->backlog) == -1)
		return fail(fd, l, "listen", err, err_size);
	return fd;
}

int
listen_open(const struct listener_config *l, unsigned index, int first, char *err, size_t err_size)
{
	int fd;

	if (l->address.path == NULL)
		return open_tcp(l, index == 0, err, err_size);
	if (index == 0)
		return open_unix(l, err, err_size);
	fd = fcntl(first, F_DUPFD_CLOEXEC, 0);
	return fd == -1 ? fail(fd, l, "dup", err, err_size) : fd;
}

void
listen_unlink(const struct listener_config *l)
{
	if (l->address.path != NULL)
		unlink(l->address.path);
}
