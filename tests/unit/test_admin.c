/*
 * The admin server on real sockets of one process: the loop runs between the client's writes and
 * reads, so nothing waits for time to pass.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/process/admin.h"
#include "tests/unit/fake_control.h"

static struct control control;
static struct event_base *base;
static struct admin *admin;
static char directory[64], path[100], host[] = "127.0.0.1", name[] = "localhost", none[] = "";
static char answer[8 * 1024 * 1024];

/* --- events: whoever subscribes is noted, and told by fake_emit() --------------------------- */

struct subscription {
	events_listener *listener; /* NULL: free */
	void *arg;
};
#define FAKE_SUBSCRIBERS 4
static struct subscription fake_subscriptions[FAKE_SUBSCRIBERS];
static uint64_t fake_after;           /* of the last who subscribed */
static const char *fake_missed[1024]; /* what they are told at once when that is not 0 */

static unsigned
fake_subscribers(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_SUBSCRIBERS; i++)
		n += fake_subscriptions[i].listener != NULL;
	return n;
}

static void
fake_emit(const char *text)
{
	for (unsigned i = 0; i < FAKE_SUBSCRIBERS; i++)
		if (fake_subscriptions[i].listener != NULL)
			fake_subscriptions[i].listener(
			    fake_subscriptions[i].arg, text, text != NULL ? strlen(text) : 0);
}

struct subscription *
events_subscribe(struct events *e, uint64_t after, events_listener *listener, void *arg)
{
	(void)e;
	fake_after = after;
	for (unsigned i = 0; i < FAKE_SUBSCRIBERS; i++) {
		struct subscription *s = &fake_subscriptions[i];

		if (s->listener != NULL)
			continue;
		*s = (struct subscription){listener, arg};
		for (unsigned k = 0; after > 0 && fake_missed[k] != NULL; k++)
			listener(arg, fake_missed[k], strlen(fake_missed[k]));
		return s;
	}
	return NULL;
}

void
events_unsubscribe(struct subscription *s)
{
	if (s->listener == NULL)
		abort();
	s->listener = NULL;
}

void
events_counters(const struct events *e, struct events_counters *out)
{
	(void)e;
	*out = (struct events_counters){.emitted = 0};
}

/* --- a world of one admin server ----------------------------------------------------------- */

static uint16_t
free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static int
setup(void **unused)
{
	(void)unused;
	fake_control_init(&control);
	snprintf(directory, sizeof(directory), "/tmp/teal-admin-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/admin.sock", directory);
	control.config.admin = (struct admin_config){
	    .socket = path, .mode = 0640, .owner = none, .group = none, .http = {.text = none}};
	base = event_base_new();
	return base == NULL ? -1 : 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	admin_free(admin);
	admin = NULL;
	event_base_free(base);
	(void)unlink(path);
	return rmdir(directory);
}

static void
start(void)
{
	char err[256] = "";

	admin = admin_new(base, &control, &control.config, err, sizeof(err));
	if (admin == NULL)
		fail_msg("%s", err);
}

static void
assert_refused(const char *why)
{
	char err[256] = "";

	assert_null(admin_new(base, &control, &control.config, err, sizeof(err)));
	if (strstr(err, why) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", why, err);
}

static int
connect_local(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(a.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void
put(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Turns the loop until `fd` has something to read; false: nothing in 5 s. */
static bool
readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (int i = 0; i < 5000; i++) {
		turn();
		if (poll(&p, 1, 1) > 0)
			return true;
	}
	return false;
}

/* One whole answer by its Content-Length (none with HEAD); the status, 0: closed without one. */
static int
get_answer(int fd, bool head)
{
	size_t n = 0;

	for (;;) {
		const char *end, *length;
		ssize_t got;

		answer[n] = '\0';
		if ((end = strstr(answer, "\r\n\r\n")) != NULL) {
			length = strcasestr(answer, "\r\nContent-Length: ");
			assert_non_null(length);
			if (head ||
			    n >= (size_t)(end - answer) + 4 + strtoul(length + 18, NULL, 10))
				break;
		}
		assert_true(readable(fd));
		got = recv(fd, answer + n, sizeof(answer) - 1 - n, 0);
		if (got <= 0)
			return 0;
		n += (size_t)got;
	}
	return atoi(answer + 9);
}

static bool
closed(int fd)
{
	char c;

	return readable(fd) && recv(fd, &c, 1, 0) <= 0;
}

static const char get_health[] = "GET /healthz HTTP/1.1\r\nHost: teal\r\n\r\n";
static const char put_weight[] = "PUT /v1/services/api/weight HTTP/1.1\r\nHost: teal\r\n"
				 "Content-Length: 14\r\n\r\n{\"weight\": 50}";

/* --- the Unix socket -------------------------------------------------------------------------- */

static void
answers_on_one_connection(void **unused)
{
	int fd;

	(void)unused;
	start();
	fd = connect_local();
	put(fd, get_health);
	assert_int_equal(get_answer(fd, false), 200);
	assert_non_null(strstr(answer, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(answer, "Cache-Control: no-store\r\n"));
	put(fd, put_weight);
	assert_int_equal(get_answer(fd, false), 200);
	assert_string_equal(control.text, "api 5000");
	assert_int_equal(control.change.uid, getuid());
	assert_int_equal(control.change.gid, getgid());
	assert_int_equal(control.change.pid, getpid());
	put(fd, "PATCH /v1/services/api/pools/green/backends/%5B::1%5D:81 HTTP/1.1\r\n"
		"Host: teal\r\nContent-Length: 18\r\n\r\n{\"state\": \"drain\"}");
	assert_int_equal(get_answer(fd, false), 200);
	assert_string_equal(control.text, "api green [::1]:81");
	put(fd, "DELETE /v1/services/api/pools/green/backends/a:1?reason=x HTTP/1.1\r\nHost: "
		"t\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 200);
	assert_string_equal(control.what, "remove");
	put(fd, "OPTIONS /v1/status HTTP/1.1\r\nHost: teal\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 405);
	assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
	put(fd, "HEAD /v1/status HTTP/1.1\r\nHost: teal\r\n\r\n");
	assert_int_equal(get_answer(fd, true), 200);
	assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
	/* evhttp takes the absolute form for a proxy's and closes after it */
	put(fd, "GET http://teal/v1/status?x HTTP/1.1\r\nHost: teal\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 200);
	close(fd);
}

static void
cut_at_every_byte(void **unused)
{
	(void)unused;
	start();
	for (size_t i = 1; i < sizeof(put_weight) - 1; i++) {
		int fd = connect_local();

		assert_int_equal(send(fd, put_weight, i, MSG_NOSIGNAL), i);
		turn();
		put(fd, put_weight + i);
		assert_int_equal(get_answer(fd, false), 200);
		close(fd);
		turn();
	}
	assert_int_equal(control.asked, sizeof(put_weight) - 2);
}

static void
file_mode_and_removal(void **unused)
{
	struct stat st;

	(void)unused;
	start();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_true(S_ISSOCK(st.st_mode));
	admin_free(admin);
	admin = NULL;
	assert_int_equal(access(path, F_OK), -1);
}

static void
stale_live_and_foreign_files(void **unused)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FILE *f;

	(void)unused;
	/* stale: bound once, nobody listens */
	memcpy(a.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	start();
	/* live */
	assert_refused("is teal running already?");
	fd = connect_local();
	put(fd, get_health);
	assert_int_equal(get_answer(fd, false), 200);
	close(fd);
	admin_free(admin);
	admin = NULL;
	/* not a socket: left alone */
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	assert_refused("is not a socket");
	assert_int_equal(access(path, F_OK), 0);
}

/* A successor has put its own socket there: it stays. */
static void
leaves_a_successors_file(void **unused)
{
	struct admin *first;
	int fd;

	(void)unused;
	start();
	first = admin;
	assert_int_equal(unlink(path), 0);
	start();
	admin_free(first);
	fd = connect_local();
	assert_true(fd >= 0);
	close(fd);
}

static void
bad_settings(void **unused)
{
	static char nobody[] = "no-such-user-here", below[] = "/tmp/no/such/dir/admin.sock";

	(void)unused;
	control.config.admin.owner = nobody;
	assert_refused("no user \"no-such-user-here\"");
	assert_int_equal(access(path, F_OK), -1);
	control.config.admin.owner = none;
	control.config.admin.group = nobody;
	assert_refused("no group");
	control.config.admin.group = none;
	control.config.admin.socket = below;
	assert_refused("directory must exist");
	control.config.admin.socket = none;
	start(); /* neither: nothing to serve, no error */
}

/* --- answers that come later -------------------------------------------------------------- */

static void
late_answer(void **unused)
{
	int fd;

	(void)unused;
	start();
	control.later = true;
	fd = connect_local();
	put(fd, put_weight);
	while (control.asked == 0)
		turn();
	turn();
	fake_finish(&control);
	assert_int_equal(get_answer(fd, false), 200);
	/* the connection can be used again */
	put(fd, get_health);
	assert_int_equal(get_answer(fd, false), 200);
	close(fd);
}

static void
asker_leaves(void **unused)
{
	(void)unused;
	start();
	control.later = true;
	for (unsigned i = 0; i < 3; i++) {
		struct linger now = {.l_onoff = 1, .l_linger = 0};
		int fd = connect_local(), other;

		put(fd, put_weight);
		while (control.asked == i)
			turn();
		if (i == 1)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		if (i == 2)
			shutdown(fd, SHUT_WR); /* half closed: still listens */
		else
			close(fd);
		turn();
		turn();
		fake_finish(&control);
		if (i == 2) {
			assert_int_equal(get_answer(fd, false), 200);
			close(fd);
		}
		turn();
		other = connect_local();
		put(other, get_health);
		assert_int_equal(get_answer(other, false), 200);
		close(other);
	}
}

/* The server ends first; control calls back all the same. */
static void
server_leaves(void **unused)
{
	int fd;

	(void)unused;
	start();
	control.later = true;
	fd = connect_local();
	put(fd, put_weight);
	while (control.asked == 0)
		turn();
	admin_free(admin);
	admin = NULL;
	assert_true(closed(fd));
	fake_finish(&control);
	close(fd);
}

/* The server ends while connections have only just arrived. */
static void
server_leaves_at_once(void **unused)
{
	int a, b;

	(void)unused;
	start();
	a = connect_local();
	b = connect_local();
	put(b, get_health);
	admin_free(admin);
	admin = NULL;
	turn();
	close(a);
	close(b);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* 64 connections; the next waits until one goes. */
static void
connection_limit(void **unused)
{
	int fds[64], last;
	struct pollfd p = {.events = POLLIN};

	(void)unused;
	start();
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 64; i++) {
			fds[i] = connect_local();
			if (i % 2)
				put(fds[i], get_health);
			if (i % 3)
				turn();
		}
		for (int i = 1; i < 64; i += 2)
			assert_int_equal(get_answer(fds[i], false), 200);
		last = connect_local();
		assert_true(last >= 0);
		put(last, get_health);
		for (int i = 0; i < 20; i++)
			turn();
		p.fd = last;
		assert_int_equal(poll(&p, 1, 0), 0);
		close(fds[round]); /* one that has asked nothing, then one that has */
		assert_int_equal(get_answer(last, false), 200);
		close(last);
		for (int i = 0; i < 64; i++)
			if (i != round)
				close(fds[i]);
		for (int i = 0; i < 20; i++)
			turn();
	}
}

/* No descriptor is left for the connection: it is accepted when there is one again. */
static void
no_descriptors(void **unused)
{
	struct rlimit old, none_left;
	int fd, next;

	(void)unused;
	start();
	fd = connect_local();
	put(fd, get_health);
	next = dup(fd);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none_left = old;
	none_left.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none_left), 0);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(get_answer(fd, false), 200);
	close(fd);
}

static void
header_and_body_limits(void **unused)
{
	static char big[1200 * 1024];
	int fd;

	(void)unused;
	start();
	memset(big, 'a', sizeof(big) - 1);
	fd = connect_local();
	put(fd,
	    "PUT /v1/services/api/weight HTTP/1.1\r\nHost: t\r\nContent-Length: 1048577\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 413);
	close(fd);
	fd = connect_local();
	put(fd, "GET /healthz HTTP/1.1\r\nHost: t\r\nX: ");
	(void)send(fd, big, 20000, MSG_NOSIGNAL);
	turn();
	(void)send(fd, "\r\n\r\n", 4, MSG_NOSIGNAL);
	assert_int_not_equal(get_answer(fd, false), 200);
	close(fd);
	/* a body with a method that has none must not become the next request */
	fd = connect_local();
	put(fd, "GET /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 37\r\n\r\n");
	put(fd, get_health);
	assert_int_equal(get_answer(fd, false), 400);
	assert_non_null(strstr(answer, "takes no body"));
	assert_true(closed(fd));
	close(fd);
	assert_int_equal(control.asked, 0);
}

static void
not_http(void **unused)
{
	static const char *const texts[] = {"hello\r\n\r\n", "GET\r\n\r\n", "\r\n\r\n\r\n",
	    "FOO / HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00",
	    "PUT / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};

	(void)unused;
	start();
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = connect_local();

		put(fd, texts[i]);
		shutdown(fd, SHUT_WR);
		assert_true(readable(fd));
		(void)recv(fd, answer, sizeof(answer), 0);
		assert_int_not_equal(memcmp(answer, "HTTP/1.1 200", 12), 0);
		close(fd);
		turn();
	}
}

/* --- the TCP listener -------------------------------------------------------------------------- */

static int
connect_tcp(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void
tcp_reads_only(void **unused)
{
	static const struct {
		const char *host;
		int status;
	} hosts[] = {{"Host: 127.0.0.1", 200}, {"Host: 127.0.0.1:9900", 200},
	    {"Host: [::1]:9900", 200}, {"Host: [::1]", 200}, {"Host: LOCALHOST:1", 200},
	    {"Host: localhost", 200}, {"Host: evil.example", 403}, {"Host: evil.example:9900", 403},
	    {"Host: localhost.evil", 403}, {"Host: 127.0.0.1.evil", 403}, {"Host: [::1", 403},
	    {"Host: []", 403}, {"Host:", 403}, {"X: y", 403},
	    {"Host: localhost\r\nHost: evil.example", 403}};
	char request[256];
	uint16_t port = free_port();
	int fd;

	(void)unused;
	control.config.admin.http = (struct address){.text = host, .host = host, .port = port};
	start();
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		fd = connect_tcp(port);
		snprintf(
		    request, sizeof(request), "GET /metrics HTTP/1.1\r\n%s\r\n\r\n", hosts[i].host);
		put(fd, request);
		if (get_answer(fd, false) != hosts[i].status)
			fail_msg("%s: %.60s", hosts[i].host, answer);
		close(fd);
	}
	fd = connect_tcp(port);
	put(fd, "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 403);
	close(fd);
	fd = connect_tcp(port);
	put(fd, "PUT /v1/services/api/weight HTTP/1.1\r\nHost: localhost\r\n"
		"Content-Length: 14\r\n\r\n{\"weight\": 50}");
	assert_int_equal(get_answer(fd, false), 405);
	assert_non_null(strstr(answer, "\"read-only\""));
	assert_non_null(strstr(answer, "Allow:"));
	assert_int_equal(control.asked, 0);
	close(fd);
	/* the port is taken */
	control.config.admin.socket = none;
	assert_refused("admin.http: cannot bind");
}

static void
tcp_by_name(void **unused)
{
	uint16_t port = free_port();
	int fd;

	(void)unused;
	control.config.admin.http = (struct address){.text = name, .host = name, .port = port};
	control.config.admin.socket = none;
	start();
	assert_true(access(path, F_OK) < 0);
	fd = connect_local();
	assert_int_equal(fd, -1);
}

/* --- events ------------------------------------------------------------------------------------ */

static const char get_events[] = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";

/* Reads until `text` is there; what came is in answer. */
static size_t seen;
static void
read_until(int fd, const char *text)
{
	for (answer[seen] = '\0'; strstr(answer, text) == NULL; answer[seen] = '\0') {
		ssize_t n;

		assert_true(readable(fd));
		n = recv(fd, answer + seen, sizeof(answer) - 1 - seen, 0);
		if (n <= 0)
			fail_msg("closed before \"%s\": %s", text, answer);
		seen += (size_t)n;
	}
}

static int
listen_with(const char *request)
{
	int fd = connect_local();

	seen = 0;
	put(fd, request);
	read_until(fd, "\r\n\r\n");
	return fd;
}

static void
turn_until_subscribers(unsigned n)
{
	for (int i = 0; fake_subscribers() != n; i++) {
		assert_true(i < 5000);
		turn();
		(void)poll(NULL, 0, 1);
	}
}

static void
events_come(void **unused)
{
	int fd;

	(void)unused;
	start();
	fd = listen_with(get_events);
	assert_int_equal(atoi(answer + 9), 200);
	assert_non_null(strstr(answer, "Content-Type: text/event-stream\r\n"));
	assert_non_null(strstr(answer, "Cache-Control: no-store\r\n"));
	assert_non_null(strstr(answer, "Transfer-Encoding: chunked\r\n"));
	assert_int_equal(fake_after, 0);
	fake_emit("id: 1\nevent: a\ndata: {}\n\n");
	fake_emit("id: 2\nevent: b\ndata: {}\n\n");
	/* whole chunks, one by one */
	read_until(fd, "\r\n\r\n3\r\n:\n\n\r\n19\r\nid: 1\nevent: a\ndata: {}\n\n\r\n");
	read_until(fd, "19\r\nid: 2\nevent: b\ndata: {}\n\n\r\n");
	assert_int_equal(fake_subscribers(), 1);
	close(fd);
	turn_until_subscribers(0);
	fake_emit("id: 3\n\n");
	/* the next on another connection */
	fd = listen_with(get_events);
	assert_int_equal(fake_subscribers(), 1);
	close(fd);
	turn_until_subscribers(0);
}

static void
events_without_chunks(void **unused)
{
	int fd;

	(void)unused;
	start();
	fd = listen_with("GET /v1/events HTTP/1.0\r\n\r\n");
	assert_null(strstr(answer, "chunked"));
	fake_emit("id: 1\n\n");
	read_until(fd, "\r\n\r\n:\n\nid: 1\n\n");
	close(fd);
	turn_until_subscribers(0);
}

static void
events_missed(void **unused)
{
	static const struct {
		const char *request;
		int status;
		uint64_t after;
	} rows[] = {
	    {"GET /v1/events HTTP/1.1\r\nHost: t\r\nLast-Event-ID: 7\r\n\r\n", 200, 7},
	    {"GET /v1/events?last_event_id=8 HTTP/1.1\r\nHost: t\r\n\r\n", 200, 8},
	    {"GET /v1/events?last_event_id=8 HTTP/1.1\r\nHost: t\r\nLast-Event-ID: 9\r\n\r\n", 200,
		9},
	    {"GET /v1/events?last_event_id=0 HTTP/1.1\r\nHost: t\r\n\r\n", 200, 0},
	    {"GET /v1/events?other=8 HTTP/1.1\r\nHost: t\r\n\r\n", 200, 0},
	    {"GET /v1/events? HTTP/1.1\r\nHost: t\r\n\r\n", 200, 0},
	    {"GET /v1/events?last_event_id=18446744073709551615 HTTP/1.1\r\nHost: t\r\n\r\n", 200,
		UINT64_MAX},
	    {"GET /v1/events?last_event_id=18446744073709551616 HTTP/1.1\r\nHost: t\r\n\r\n", 400,
		0},
	    {"GET /v1/events?last_event_id=x HTTP/1.1\r\nHost: t\r\n\r\n", 400, 0},
	    {"GET /v1/events?last_event_id=-1 HTTP/1.1\r\nHost: t\r\n\r\n", 400, 0},
	    {"GET /v1/events HTTP/1.1\r\nHost: t\r\nLast-Event-ID:\r\n\r\n", 400, 0},
	};

	(void)unused;
	start();
	fake_missed[0] = "id: 8\n\n";
	fake_missed[1] = "id: 9\n\n";
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd = listen_with(rows[i].request);

		if (atoi(answer + 9) != rows[i].status)
			fail_msg("%s: %s", rows[i].request, answer);
		if (rows[i].status == 200)
			assert_int_equal(fake_after, rows[i].after);
		if (rows[i].after > 0)
			read_until(fd, "id: 8\n\nid: 9\n\n");
		close(fd);
		turn_until_subscribers(0);
	}
	fake_missed[0] = NULL;
}

static void
events_too_many(void **unused)
{
	int fds[FAKE_SUBSCRIBERS], fd;

	(void)unused;
	start();
	for (unsigned i = 0; i < FAKE_SUBSCRIBERS; i++)
		fds[i] = listen_with(get_events);
	fd = connect_local();
	put(fd, get_events);
	assert_int_equal(get_answer(fd, false), 503);
	assert_non_null(strstr(answer, "\"too-many-subscribers\""));
	/* the connection that was told so can be used on */
	put(fd, get_health);
	assert_int_equal(get_answer(fd, false), 200);
	close(fds[1]);
	turn_until_subscribers(FAKE_SUBSCRIBERS - 1);
	seen = 0;
	put(fd, get_events);
	read_until(fd, "text/event-stream");
	close(fd);
	for (unsigned i = 0; i < FAKE_SUBSCRIBERS; i++)
		if (i != 1)
			close(fds[i]);
	turn_until_subscribers(0);
}

/* A reset while something is written to it. */
static void
events_reset(void **unused)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)unused;
	start();
	for (int i = 0; i < 3; i++) {
		int fd = listen_with(get_events);

		if (i > 0)
			fake_emit("id: 1\n\n");
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(fd);
		if (i > 1)
			fake_emit("id: 2\n\n");
		turn_until_subscribers(0);
		fake_emit("id: 3\n\n");
	}
}

static void
events_slow_reader(void **unused)
{
	static char big[60001];
	int fd, other, n_small = 4096;
	unsigned n = 0;

	(void)unused;
	start();
	memset(big, 'x', sizeof(big) - 1);
	fd = listen_with(get_events);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n_small, sizeof(n_small));
	other = connect_local();
	while (fake_subscribers() == 1) {
		fake_emit(big);
		turn();
		assert_true(++n < 100);
	}
	/* what the kernel took, and 256 KiB */
	assert_true(n * (sizeof(big) - 1) > 256 * 1024);
	/* nobody else notices */
	put(other, get_health);
	assert_int_equal(get_answer(other, false), 200);
	/* cut in the middle: no end of the chunks */
	do
		assert_true(readable(fd));
	while (recv(fd, answer, sizeof(answer), 0) > 0);
	close(fd);
	close(other);
}

/* What was missed is more than a slow reader may have waiting, and no reason to cut. */
static void
events_missed_much(void **unused)
{
	static char big[40001];
	size_t n = 0;
	int fd;

	(void)unused;
	start();
	memset(big, 'x', sizeof(big) - 1);
	for (unsigned i = 0; i < 50; i++)
		fake_missed[i] = big;
	fake_missed[50] = "last\n\n";
	fd = listen_with("GET /v1/events?last_event_id=1 HTTP/1.1\r\nHost: t\r\n\r\n");
	fake_emit("id: 2\n\n");
	assert_int_equal(fake_subscribers(), 1);
	read_until(fd, "id: 2\n\n");
	for (const char *p = answer; *p != '\0'; p++)
		n += *p == 'x';
	assert_true(n >= 50 * (sizeof(big) - 1));
	/* now that it has read that, it may have no more waiting than others */
	for (n = 0; fake_subscribers() == 1; n++) {
		fake_emit(big);
		turn();
		assert_true(n < 30);
	}
	close(fd);
	memset(fake_missed, 0, sizeof(fake_missed));
}

/* What a listener sends is not kept without end; its connection is not for other requests. */
static void
events_only_listen(void **unused)
{
	static char big[65536];
	size_t sent = 0;
	ssize_t n;
	int fd;

	(void)unused;
	start();
	memset(big, 'x', sizeof(big));
	fd = listen_with(get_events);
	put(fd, put_weight);
	for (int i = 0; i < 200; i++) {
		if ((n = send(fd, big, sizeof(big), MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
			sent += (size_t)n;
		turn();
	}
	assert_true(sent < 4 * 1024 * 1024); /* of 13 MB */
	assert_int_equal(control.asked, 0);
	fake_emit("id: 1\n\n");
	read_until(fd, "id: 1\n\n");
	close(fd);
	/* its end is seen by the next write */
	for (int i = 0; fake_subscribers() != 0; i++) {
		assert_true(i < 5000);
		fake_emit("id: 2\n\n");
		turn();
	}
}

static void
events_other_methods(void **unused)
{
	int fd;

	(void)unused;
	start();
	fd = connect_local();
	put(fd, "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 405);
	put(fd, "GET /v1/events/ HTTP/1.1\r\nHost: t\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 404);
	assert_int_equal(fake_subscribers(), 0);
	close(fd);
}

/* The server ends first; or the events do. */
static void
events_server_leaves(void **unused)
{
	int a, b;

	(void)unused;
	start();
	a = listen_with(get_events);
	b = listen_with(get_events);
	fake_emit("id: 1\n\n");
	admin_free(admin);
	admin = NULL;
	assert_int_equal(fake_subscribers(), 0);
	assert_true(readable(a));
	close(a);
	close(b);

	start();
	a = listen_with(get_events);
	fake_emit(NULL);
	memset(fake_subscriptions, 0, sizeof(fake_subscriptions)); /* they are gone with it */
	assert_true(closed(a));
	close(a);
	/* the same, and no turn in between */
	a = listen_with(get_events);
	fake_emit(NULL);
	memset(fake_subscriptions, 0, sizeof(fake_subscriptions));
	admin_free(admin);
	admin = NULL;
	close(a);
}

static void
events_by_tcp(void **unused)
{
	uint16_t port = free_port();
	int fd;

	(void)unused;
	control.config.admin.http = (struct address){.text = host, .host = host, .port = port};
	start();
	fd = connect_tcp(port);
	seen = 0;
	put(fd, get_events);
	read_until(fd, "text/event-stream");
	fake_emit("id: 1\n\n");
	read_until(fd, "id: 1\n\n");
	close(fd);
	turn_until_subscribers(0);
	/* not for a page that points its own name here */
	fd = connect_tcp(port);
	put(fd, "GET /v1/events HTTP/1.1\r\nHost: evil.example\r\n\r\n");
	assert_int_equal(get_answer(fd, false), 403);
	assert_int_equal(fake_subscribers(), 0);
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(answers_on_one_connection),
	    TEST(cut_at_every_byte),
	    TEST(file_mode_and_removal),
	    TEST(stale_live_and_foreign_files),
	    TEST(leaves_a_successors_file),
	    TEST(bad_settings),
	    TEST(late_answer),
	    TEST(asker_leaves),
	    TEST(server_leaves),
	    TEST(server_leaves_at_once),
	    TEST(connection_limit),
	    TEST(no_descriptors),
	    TEST(header_and_body_limits),
	    TEST(not_http),
	    TEST(tcp_reads_only),
	    TEST(tcp_by_name),
	    TEST(events_come),
	    TEST(events_without_chunks),
	    TEST(events_missed),
	    TEST(events_too_many),
	    TEST(events_reset),
	    TEST(events_slow_reader),
	    TEST(events_missed_much),
	    TEST(events_only_listen),
	    TEST(events_other_methods),
	    TEST(events_server_leaves),
	    TEST(events_by_tcp),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as main() does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
