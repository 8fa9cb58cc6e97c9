/*
 * events: what happens in teal, a line each, until Ctrl-C.
 *
 * When the connection ends, teal being restarted say, it is made again, and what was missed is
 * asked for by Last-Event-ID.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/client.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/event_line.h"
#include "proxy/tealctl/stream.h"
#include "proxy/tealctl/terminal.h"

#define AGAIN_MS 1000 /* between two connections */

struct listener {
	const struct args *args;
	struct look look;
	char last[64]; /* the id of the last event; "" */
};

static void
show(void *arg, const char *id, const char *type, const char *data)
{
	struct listener *l = arg;
	json_t *event = json_loads(data, 0, NULL);

	(void)type;
	if (strlen(id) < sizeof(l->last) && strpbrk(id, "\r\n") == NULL)
		memcpy(l->last, id, strlen(id) + 1);
	if (l->args->json)
		(void)puts(data);
	else if (event != NULL)
		event_line(stdout, event, &l->look);
	(void)fflush(stdout);
	json_decref(event);
}

/* Nobody reads stdout any more: a quiet stream would never find out by writing. */
static bool
reader_gone(void)
{
	struct pollfd fd = {.fd = STDOUT_FILENO};

	return ferror(stdout) || (poll(&fd, 1, 0) == 1 && (fd.revents & (POLLERR | POLLNVAL)) != 0);
}

/* Waits until the socket has bytes: false when the reader of stdout has gone. */
static bool
wait_bytes(int fd)
{
	struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDOUT_FILENO}};

	while (both[0].revents == 0) {
		if (poll(both, 2, -1) < 0 && errno != EINTR)
			return true;
		if (both[1].revents & (POLLERR | POLLNVAL))
			return false;
	}
	return true;
}

/* Until the stream ends: an exit code, or -1 when it may be tried again (and err says why). */
static int
read_stream(int fd, struct listener *l, char *err, size_t err_size)
{
	struct stream s;
	char bytes[16384];
	int rc = 0, code = -1;

	stream_begin(&s, show, l);
	(void)snprintf(err, err_size, "the stream of events ended");
	while (rc == 0) {
		ssize_t n;

		if (!wait_bytes(fd) || reader_gone()) {
			code = EXIT_DONE;
			break;
		}
		if ((n = recv(fd, bytes, sizeof(bytes), 0)) < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		rc = stream_feed(&s, bytes, (size_t)n);
	}
	if (rc < 0) {
		complain("what answers is not a stream of events");
		code = EXIT_FAILED;
	} else if (s.status != 0 && s.status != 200 && s.status < 500) {
		complain("teal answered with status %u: it tells no events", s.status);
		code = EXIT_FAILED;
	} else if (s.status != 0 && s.status != 200) {
		(void)snprintf(err, err_size, "teal answered with status %u", s.status);
	}
	stream_fini(&s);
	return code;
}

static int
listen_once(struct listener *l, char *err, size_t err_size)
{
	char *request;
	int fd = client_connect(socket_path(l->args), PATIENCE_MS, err, err_size), code = -1;

	if (fd < 0)
		return -1;
	request = print("GET /v1/events HTTP/1.1\r\nHost: teal\r\nAccept: text/event-stream\r\n"
			"%s%s%s\r\n",
	    *l->last == '\0' ? "" : "Last-Event-ID: ", l->last, *l->last == '\0' ? "" : "\r\n");
	if (client_send(fd, request, strlen(request)) < 0)
		(void)snprintf(err, err_size, "the connection to teal broke: %s", strerror(errno));
	else
		code = read_stream(fd, l, err, err_size);
	free(request);
	(void)close(fd);
	return code;
}

int
run_events(const struct args *a)
{
	struct listener l = {.args = a, .look = terminal_look(stdout)};
	const struct timespec again = {.tv_sec = AGAIN_MS / 1000};
	char err[1024];
	bool told = false;
	int code;

	for (bool first = true;; first = false) {
		char last[64];

		memcpy(last, l.last, sizeof(last));
		code = listen_once(&l, err, sizeof(err));
		if (code >= 0)
			return code;
		if (first && *l.last == '\0' && strcmp(err, "the stream of events ended") != 0) {
			complain("%s", err);
			return EXIT_FAILED;
		}
		if (strcmp(last, l.last) != 0) /* it has worked since */
			told = false;
		if (!told)
			complain("%.*s; trying again", (int)strcspn(err, "\n"), err);
		told = true;
		(void)nanosleep(&again, NULL);
		if (reader_gone())
			return EXIT_DONE;
	}
}
