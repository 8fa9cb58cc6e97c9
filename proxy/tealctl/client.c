/* Asking teal.  See client.h. */
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proxy/tealctl/client.h"

/* --- responses -------------------------------------------------------------------------------- */

/* The value of a header field in data[0..end), or NULL; it ends at \r. */
static const char *
field(const char *data, const char *end, const char *name)
{
	size_t n = strlen(name);
	const char *line = data;

	while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		line++;
		if ((size_t)(end - line) > n && strncasecmp(line, name, n) == 0 && line[n] == ':')
			return line + n + 1 + strspn(line + n + 1, " \t");
	}
	return NULL;
}

/* 1, 0 or -1 as response_parse(). */
static int
chunks(const char *p, const char *end, struct response *out)
{
	char *body = malloc((size_t)(end - p) + 1);
	size_t n = 0;

	if (body == NULL)
		return -1;
	for (;;) {
		const char *line = memmem(p, (size_t)(end - p), "\r\n", 2);
		char *after;
		unsigned long size;

		if (line == NULL)
			break;
		size = strtoul(p, &after, 16);
		if (!isxdigit((unsigned char)*p) || (*after != '\r' && *after != ';') ||
		    size > RESPONSE_MAX) {
			free(body);
			return -1;
		}
		p = line + 2;
		if (size == 0) { /* trailers are not looked at */
			body[n] = '\0';
			out->body = body;
			out->n = n;
			return 1;
		}
		if ((size_t)(end - p) < size + 2)
			break;
		memcpy(body + n, p, size);
		n += size;
		p += size + 2;
	}
	free(body);
	return 0;
}

static int
keep(const char *body, size_t n, struct response *out)
{
	if ((out->body = malloc(n + 1)) == NULL)
		return -1;
	memcpy(out->body, body, n);
	out->body[n] = '\0';
	out->n = n;
	return 1;
}

int
response_parse(const char *data, size_t n, bool ended, struct response *out)
{
	const char *end = memmem(data, n, "\r\n\r\n", 4), *value, *body;
	char *after;
	size_t have;
	int done;

	*out = (struct response){0};
	if (end == NULL)
		return ended || n > 65536 ? -1 : 0;
	if (strncmp(data, "HTTP/1.", 7) != 0 || data[8] != ' ' || !isdigit((unsigned char)data[9]))
		return -1;
	out->status = (unsigned)strtoul(data + 9, NULL, 10);
	if (out->status >= 100 && out->status < 200) /* an interim response: the next one counts */
		return response_parse(end + 4, n - (size_t)(end + 4 - data), ended, out);
	body = end + 4;
	have = n - (size_t)(body - data);
	if (field(data, end, "Transfer-Encoding") != NULL) {
		done = chunks(body, data + n, out);
	} else if ((value = field(data, end, "Content-Length")) != NULL) {
		unsigned long length = strtoul(value, &after, 10);

		if (!isdigit((unsigned char)*value) || *after != '\r' || length > RESPONSE_MAX)
			return -1;
		done = have < length ? 0 : keep(body, length, out);
	} else {
		done = ended ? keep(body, have, out) : 0;
	}
	return done == 0 && ended ? -1 : done;
}

/* --- the socket ------------------------------------------------------------------------------- */

/* Who may use the socket, in words. */
static void
explain_permission(const char *path, char *err, size_t err_size)
{
	const struct group *gr;
	const struct passwd *pw;
	struct stat st;
	char owner[64] = "?", group[64] = "?";

	if (stat(path, &st) < 0) {
		(void)snprintf(err, err_size,
		    "no permission to reach %s: one of its directories is closed to you\n"
		    "  run tealctl as root, or as a member of the socket's group",
		    path);
		return;
	}
	if ((pw = getpwuid(st.st_uid)) != NULL)
		(void)snprintf(owner, sizeof(owner), "%s", pw->pw_name);
	if ((gr = getgrgid(st.st_gid)) != NULL)
		(void)snprintf(group, sizeof(group), "%s", gr->gr_name);
	(void)snprintf(err, err_size,
	    "no permission to use %s: it belongs to %s:%s, mode %04o\n"
	    "  run tealctl as root, or become a member of the group (usermod -aG %s $USER)",
	    path, owner, group, (unsigned)(st.st_mode & 07777), group);
}

static void
explain_connect(const char *path, int error, char *err, size_t err_size)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		(void)snprintf(err, err_size,
		    "there is no socket at %s\n"
		    "  is teal running? (systemctl status teal)\n"
		    "  if admin.socket in teal.conf is another, give -s SOCKET or set TEAL_SOCKET",
		    path);
		return;
	case ECONNREFUSED:
		(void)snprintf(err, err_size,
		    "nobody answers at %s: teal is not running and has left its socket behind\n"
		    "  start it (systemctl start teal) and look at its log (journalctl -u teal)",
		    path);
		return;
	case EACCES:
	case EPERM:
		explain_permission(path, err, err_size);
		return;
	case ENOTSOCK:
	case EPROTOTYPE:
		(void)snprintf(err, err_size,
		    "%s is not teal's admin socket: give -s SOCKET or set TEAL_SOCKET", path);
		return;
	case EAGAIN:
	case EINPROGRESS:
		(void)snprintf(err, err_size,
		    "teal does not accept connections at %s: too many wait, or it hangs", path);
		return;
	default:
		(void)snprintf(err, err_size, "cannot connect to %s: %s", path, strerror(error));
	}
}

int
client_connect(const char *path, int64_t patience_ms, char *err, size_t err_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = patience_ms / 1000, .tv_usec = patience_ms % 1000 * 1000};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		(void)snprintf(err, err_size, "the socket's path is too long: %s", path);
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) {
		(void)snprintf(err, err_size, "socket: %s", strerror(errno));
		return -1;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		explain_connect(path, errno, err, err_size);
		(void)close(fd);
		return -1;
	}
	return fd;
}

int
client_send(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -1;
		text += sent;
		n -= (size_t)sent;
	}
	return 0;
}

int64_t
client_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 0, or -1 with errno (0: not an HTTP response). */
static int
receive(int fd, int64_t patience_ms, struct response *out)
{
	int64_t deadline = client_now_ms() + patience_ms;
	char *data = NULL, *grown;
	size_t n = 0, size = 0;
	int done = 0, saved;

	while (done == 0) {
		ssize_t got;

		if (n + 1 >= size) {
			size = size == 0 ? 16384 : size * 2;
			if (size > 2 * (size_t)RESPONSE_MAX ||
			    (grown = realloc(data, size)) == NULL) {
				errno = ENOMEM;
				done = -1;
				break;
			}
			data = grown;
		}
		got = recv(fd, data + n, size - 1 - n, 0);
		if (got < 0 && errno == EINTR && client_now_ms() < deadline)
			continue;
		if (got < 0 || client_now_ms() > deadline) {
			errno = got < 0 && errno != EINTR ? errno : EAGAIN;
			done = -1;
			break;
		}
		n += (size_t)got;
		data[n] = '\0';
		errno = 0;
		done = response_parse(data, n, got == 0, out);
	}
	saved = errno;
	free(data);
	errno = saved;
	return done < 0 ? -1 : 0;
}

int
client_ask(const char *path, const char *method, const char *target, const char *body,
    int64_t patience_ms, struct response *out, char *err, size_t err_size)
{
	char *request = NULL;
	int fd = client_connect(path, patience_ms, err, err_size), n, failed;

	*out = (struct response){0};
	if (fd < 0)
		return -1;
	if (body == NULL)
		n = asprintf(&request, "%s %s HTTP/1.1\r\nHost: teal\r\nConnection: close\r\n\r\n",
		    method, target);
	else
		n = asprintf(&request,
		    "%s %s HTTP/1.1\r\nHost: teal\r\nConnection: close\r\n"
		    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		    method, target, strlen(body), body);
	if (n < 0) {
		(void)snprintf(err, err_size, "out of memory");
		(void)close(fd);
		return -1;
	}
	failed = client_send(fd, request, (size_t)n) < 0 ? -1 : receive(fd, patience_ms, out);
	if (failed < 0 && errno == 0)
		(void)snprintf(
		    err, err_size, "what answers at %s is not teal, or it stopped meanwhile", path);
	else if (failed < 0 && errno == EAGAIN)
		(void)snprintf(
		    err, err_size, "teal did not answer within %.3g s", (double)patience_ms / 1000);
	else if (failed < 0)
		(void)snprintf(err, err_size, "the connection to teal broke: %s", strerror(errno));
	free(request);
	(void)close(fd);
	return failed;
}

char *
client_segment(const char *text)
{
	char *out = malloc(3 * strlen(text) + 1), *p = out;

	if (out == NULL) {
		(void)fprintf(stderr, "tealctl: out of memory\n");
		exit(1);
	}
	for (; *text != '\0'; text++) {
		if (isalnum((unsigned char)*text) || strchr("-._~:", *text) != NULL)
			*p++ = *text;
		else
			p += sprintf(p, "%%%02X", (unsigned)(unsigned char)*text);
	}
	*p = '\0';
	return out;
}
