/*
 * bench/client: the loads that h2load and wrk cannot make.  TLS 1.3, one thread, one epoll loop.
 *
 *   client full|resume|echo|idle --to ADDR:PORT --connections N [--seconds S] [--warm S]
 *                                [--body BYTES] [--h2]
 *
 * full     a new connection for each request, a full handshake every time
 * resume   the same, every handshake but a connection's first resumes a session
 * echo     WebSocket messages of BYTES there and back, one at a time on each connection
 * idle     N connections that make a request each and then wait; until stdin ends
 *
 * Prints "begin" when the warm-up is over and "end" when the time is up (idle: "open" when all are
 * open), then one line of JSON.  An answer that is not whole, not a 200 (101) or not what was sent
 * is a failure, and so is a handshake of the wrong kind.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bench/client/client.h"

/* Closed connections leave their ports busy for a minute: they come from many addresses. */
#define SOURCES 200
/* This many failures end the run: it has no figure anyway. */
#define FAILURES_MAX 1000
/* idle: so many connections are being opened at a time. */
#define OPENING_MAX      64
#define CONNECTIONS_LAST 20000

static const char usage[] = "client full|resume|echo|idle --to ADDR:PORT --connections N "
			    "[--seconds S] [--warm S] [--body BYTES] [--h2]\n";

uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- what was seen ---------------------------------------------------------------------------- */
static void
samples_add(struct samples *s, uint64_t ns)
{
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 65536;
		s->us = realloc(s->us, s->room * sizeof(*s->us));
		if (!s->us)
			abort();
	}
	s->us[s->n++] = (float)ns / 1000.0f;
}

static int
ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* us->n > 0, sorted */
static double
percentile(const struct samples *s, double p)
{
	size_t i = (size_t)(p * (double)s->n);

	return (double)s->us[i < s->n ? i : s->n - 1];
}

void
client_done(struct client *c, struct conn *conn)
{
	uint64_t now = now_ns();

	if (conn->resumed)
		c->resumed++;
	samples_add(&c->samples, now - conn->begun_ns);
	conn->begun_ns = now;
}

/* --- connections ------------------------------------------------------------------------------ */
static void
conn_close(struct conn *conn)
{
	if (conn->ssl) {
		if (conn->state > CONN_TLS)
			SSL_shutdown(conn->ssl);
		ERR_clear_error();
		SSL_free(conn->ssl);
	}
	if (conn->fd >= 0)
		close(conn->fd);
	conn->ssl = NULL;
	conn->fd = -1;
	conn->state = CONN_CLOSED;
}

static bool
conn_open(struct client *c, struct conn *conn)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = conn};
	int one = 1;

	conn->begun_ns = now_ns();
	conn->state = CONN_CONNECTING;
	conn->resumed = false;
	conn->n_in = 0;
	conn->ssl = NULL;
	conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		return false;
	setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + c->opened++ % SOURCES);
	if (bind(conn->fd, (struct sockaddr *)&from, sizeof(from)) ||
	    (connect(conn->fd, (struct sockaddr *)&c->to, sizeof(c->to)) && errno != EINPROGRESS) ||
	    epoll_ctl(c->epoll, EPOLL_CTL_ADD, conn->fd, &event))
		return false;
	conn->ssl = SSL_new(c->tls);
	SSL_set_fd(conn->ssl, conn->fd);
	SSL_set_app_data(conn->ssl, conn);
	if (c->kind == KIND_RESUME && conn->session)
		SSL_set_session(conn->ssl, conn->session);
	return true;
}

static void
conn_again(struct client *c, struct conn *conn)
{
	conn_close(conn);
	while (!conn_open(c, conn)) {
		conn_close(conn);
		if (++c->failed >= FAILURES_MAX)
			return;
	}
}

/*
 * Keeps the newest ticket.  Not by OpenSSL's callback: with a cache of its own it makes a TLS 1.3
 * session useless once it was resumed.
 */
static void
session_keep(struct conn *conn)
{
	SSL_SESSION_free(conn->session);
	conn->session = SSL_get1_session(conn->ssl);
}

/* The connection said something or may be written to. */
static void
conn_event(struct client *c, struct conn *conn)
{
	switch (conn_drive(c, conn)) {
	case DRIVE_WAIT:
		break;
	case DRIVE_DONE: /* full, resume: one request, one connection */
		client_done(c, conn);
		if (c->kind == KIND_RESUME)
			session_keep(conn);
		conn_again(c, conn);
		break;
	case DRIVE_IDLE:
		c->idle++;
		break;
	case DRIVE_FAILED:
		c->failed++;
		if (conn->state == CONN_IDLE) {
			c->idle--;
			c->lost++;
			conn_close(conn);
		} else if (c->failed < FAILURES_MAX) {
			conn_again(c, conn);
		}
		break;
	}
}

static void
events_wait(struct client *c, uint64_t until_ns)
{
	struct epoll_event events[256];
	uint64_t now = now_ns();
	int n, ms = now >= until_ns ? 0 : (int)((until_ns - now) / 1000000u) + 1;

	n = epoll_wait(c->epoll, events, 256, ms);
	for (int i = 0; i < n; i++)
		if (events[i].data.ptr)
			conn_event(c, events[i].data.ptr);
		else
			c->told_to_end = true;
}

static void
events_until(struct client *c, uint64_t until_ns)
{
	while (now_ns() < until_ns && c->failed < FAILURES_MAX)
		events_wait(c, until_ns);
}

/* --- the kinds -------------------------------------------------------------------------------- */
static void
say(const char *word)
{
	puts(word);
	fflush(stdout);
}

static void
report(struct client *c, double seconds)
{
	struct samples *s = &c->samples;

	qsort(s->us, s->n, sizeof(*s->us), ascending);
	printf("{\"requests\": %zu, \"failed\": %llu, \"resumed\": %llu, \"seconds\": %.6f", s->n,
	    (unsigned long long)c->failed, (unsigned long long)c->resumed, seconds);
	if (s->n)
		printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f",
		    percentile(s, 0.5), percentile(s, 0.99), percentile(s, 0.999));
	printf("}\n");
}

static void
run_timed(struct client *c)
{
	uint64_t begin, end;

	for (unsigned i = 0; i < c->n_conns; i++)
		conn_again(c, &c->conns[i]);
	events_until(c, now_ns() + (uint64_t)(c->warm * 1e9));
	c->samples.n = 0;
	c->resumed = 0;
	say("begin");
	begin = now_ns();
	events_until(c, begin + (uint64_t)(c->seconds * 1e9));
	end = now_ns();
	say("end");
	/* who has waited since before the beginning was never answered */
	for (unsigned i = 0; i < c->n_conns; i++)
		if (c->conns[i].begun_ns < begin)
			c->failed++;
	report(c, (double)(end - begin) / 1e9);
}

static void
run_idle(struct client *c)
{
	uint64_t end = now_ns() + (uint64_t)(c->seconds * 1e9);
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = NULL};
	unsigned begun = 0;

	while (c->idle < c->n_conns && now_ns() < end && c->failed < FAILURES_MAX) {
		while (begun < c->n_conns && begun < c->idle + OPENING_MAX)
			conn_again(c, &c->conns[begun++]);
		events_wait(c, end);
	}
	say("open");
	if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event))
		c->told_to_end = true;
	while (!c->told_to_end)
		events_wait(c, now_ns() + 1000000000u);
	printf("{\"requests\": %u, \"failed\": %llu, \"lost\": %llu}\n", c->idle,
	    (unsigned long long)c->failed + (c->n_conns - c->idle), (unsigned long long)c->lost);
}

/* --- options ---------------------------------------------------------------------------------- */
static void
misused(const char *what)
{
	fprintf(stderr, "client: %s\n%s", what, usage);
	exit(2);
}

static void
address_parse(struct client *c, char *text)
{
	char *colon = strrchr(text, ':');

	c->to.sin_family = AF_INET;
	if (!colon)
		misused("--to ADDR:PORT");
	*colon = '\0';
	c->to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, text, &c->to.sin_addr) != 1)
		misused("--to ADDR:PORT");
	*colon = ':';
	c->host = text;
}

static void
options_read(struct client *c, int argc, char **argv)
{
	static const char *const kinds[] = {"full", "resume", "echo", "idle"};
	static const struct option options[] = {
	    {"to", required_argument, NULL, 't'},
	    {"connections", required_argument, NULL, 'c'},
	    {"seconds", required_argument, NULL, 's'},
	    {"warm", required_argument, NULL, 'w'},
	    {"body", required_argument, NULL, 'b'},
	    {"h2", no_argument, NULL, '2'},
	    {NULL, 0, NULL, 0},
	};
	unsigned kind = 0;
	int o;

	while (argc > 1 && kind < KINDS && strcmp(argv[1], kinds[kind]) != 0)
		kind++;
	if (argc < 2 || kind == KINDS)
		misused("which load?");
	c->kind = (enum kind)kind;
	while ((o = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1) {
		if (o == 't')
			address_parse(c, optarg);
		else if (o == 'c')
			c->n_conns = (unsigned)strtoul(optarg, NULL, 10);
		else if (o == 's')
			c->seconds = strtod(optarg, NULL);
		else if (o == 'w')
			c->warm = strtod(optarg, NULL);
		else if (o == 'b')
			c->body = strtoul(optarg, NULL, 10);
		else if (o == '2')
			c->h2 = true;
		else
			misused("no such option");
	}
	if (!c->host || c->n_conns < 1 || c->n_conns > CONNECTIONS_LAST || c->body > ECHO_MAX)
		misused("--to and --connections (1 to 20000) must be said; --body is 4000 at most");
}

static void
descriptors_raise(unsigned wanted)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < wanted) {
		fprintf(stderr, "client: open files are limited to %llu, %u are wanted\n",
		    (unsigned long long)limit.rlim_cur, wanted);
		exit(1);
	}
}

static bool
tls_init(struct client *c)
{
	static const unsigned char h1[] = "\x08http/1.1", h2[] = "\x02h2";

	c->tls = SSL_CTX_new(TLS_client_method());
	if (!c->tls || !SSL_CTX_set_min_proto_version(c->tls, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(c->tls, "TLS_AES_128_GCM_SHA256") ||
	    !SSL_CTX_set1_groups_list(c->tls, "X25519"))
		return false;
	SSL_CTX_set_verify(c->tls, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_mode(c->tls, SSL_MODE_RELEASE_BUFFERS);
	if (c->h2)
		SSL_CTX_set_alpn_protos(c->tls, h2, sizeof(h2) - 1);
	else
		SSL_CTX_set_alpn_protos(c->tls, h1, sizeof(h1) - 1);
	SSL_CTX_set_session_cache_mode(c->tls, SSL_SESS_CACHE_OFF);
	return true;
}

int
main(int argc, char **argv)
{
	struct client c = {.seconds = 3, .body = 1024};

	signal(SIGPIPE, SIG_IGN);
	options_read(&c, argc, argv);
	descriptors_raise(c.n_conns + 16);
	c.epoll = epoll_create1(EPOLL_CLOEXEC);
	c.conns = calloc(c.n_conns, sizeof(*c.conns));
	if (!c.conns || c.epoll < 0 || !tls_init(&c)) {
		fprintf(stderr, "client: cannot start\n");
		free(c.conns);
		return 1;
	}
	for (unsigned i = 0; i < c.n_conns; i++)
		c.conns[i].fd = -1;
	talk_init(&c);
	if (c.kind == KIND_IDLE)
		run_idle(&c);
	else
		run_timed(&c);
	for (unsigned i = 0; i < c.n_conns; i++) {
		conn_close(&c.conns[i]);
		SSL_SESSION_free(c.conns[i].session);
	}
	SSL_CTX_free(c.tls);
	free(c.samples.us);
	free(c.conns);
	return c.failed ? 1 : 0;
}
