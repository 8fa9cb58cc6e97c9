/* See loop.h. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/base/obj.h"
#include "proxy/codec/tls.h"
#include "tests/codec/loop.h"

static int64_t
now_us(void)
{
	struct timespec t;

	ENSURE(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
loop_now_ms(void)
{
	return now_us() / 1000;
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void
loop_init(struct loop *l)
{
	struct event_config *config = event_config_new();
	struct timeval every = {0, 20000};

	memset(l, 0, sizeof *l);
	ENSURE(config != NULL);
	/* as the workers do */
	ENSURE(event_config_set_flag(
		   config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0);
	l->base = event_base_new_with_config(config);
	event_config_free(config);
	ENSURE(l->base != NULL);
	turn_init(&l->turn, now_us(), 0);
	l->tick = event_new(l->base, -1, EV_PERSIST, on_tick, NULL);
	ENSURE(l->tick != NULL && event_add(l->tick, &every) == 0);
}

void
loop_fini(struct loop *l)
{
	event_free(l->tick);
	event_base_free(l->base);
	turn_fini(&l->turn);
}

void
loop_once(struct loop *l)
{
	ENSURE(event_base_loop(l->base, EVLOOP_ONCE | (l->busy ? EVLOOP_NONBLOCK : 0)) >= 0);
	turn_clock(&l->turn, now_us(), 0);
	wheel_advance(&l->turn.wheel, l->turn.now_ms);
	l->busy = turn_end(&l->turn);
	l->rounds++;
}

unsigned long
loop_idle_rounds(struct loop *l)
{
	int64_t end = loop_now_ms() + 100;
	unsigned long before = l->rounds;

	while (loop_now_ms() < end)
		loop_once(l);
	return l->rounds - before;
}

/* --- a side --------------------------------------------------------------------- */

static struct side *
side_of(struct conn *c)
{
	return CONTAINER_OF(c, struct side, conn);
}

static size_t
input(struct conn *c, struct slice in)
{
	struct side *s = side_of(c);

	if (s->keep) {
		conn_pause(c, PAUSE_CODEC);
		return 0;
	}
	s->received = realloc(s->received, s->n_received + in.n + 1);
	ENSURE(s->received != NULL);
	memcpy(s->received + s->n_received, in.p, in.n);
	s->n_received += in.n;
	s->received[s->n_received] = '\0';
	if (s->echo)
		side_send(s, in.p, in.n);
	return in.n;
}

static void
eof(struct conn *c)
{
	side_of(c)->n_eof++;
}

static void
established(struct conn *c)
{
	side_of(c)->n_established++;
}

static void
lost(struct conn *c, enum outcome why)
{
	side_of(c)->n_lost++;
	side_of(c)->why = why;
}

static const struct codec_ops codec = {
    .input = input,
    .eof = eof,
    .established = established,
    .lost = lost,
};

static void
gone(struct conn *c)
{
	side_of(c)->gone = true;
}

struct side *
side_new(struct loop *l, struct transport *t, bool front)
{
	struct side *s = calloc(1, sizeof *s);

	ENSURE(s != NULL);
	s->loop = l;
	s->received = calloc(1, 1);
	ENSURE(s->received != NULL);
	conn_init(&s->conn, &l->turn, t, gone);
	s->conn.front = front;
	conn_set_codec(&s->conn, &codec, NULL);
	transport_start(t, &s->conn);
	return s;
}

void
side_free(struct side *s)
{
	if (!s->gone) {
		conn_close(&s->conn, false);
		(void)turn_end(&s->loop->turn);
	}
	ENSURE(s->gone);
	free(s->received);
	free(s);
}

void
side_send(struct side *s, const void *p, size_t n)
{
	buf_append(&s->conn.out, p, n);
	conn_output(&s->conn);
}

/* --- sockets ---------------------------------------------------------------------- */

int
tcp_listen(struct sockaddr_storage *address, unsigned *len)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof any;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ENSURE(fd >= 0 && bind(fd, (struct sockaddr *)&any, n) == 0 && listen(fd, 16) == 0);
	ENSURE(getsockname(fd, (struct sockaddr *)&any, &n) == 0);
	memset(address, 0, sizeof *address);
	memcpy(address, &any, sizeof any);
	*len = n;
	return fd;
}

int
tcp_accept(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int accepted;

	ENSURE(poll(&p, 1, 10000) == 1);
	accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ENSURE(accepted >= 0);
	return accepted;
}

void
tcp_pair(int fd[2])
{
	struct sockaddr_storage address;
	unsigned len;
	int listener = tcp_listen(&address, &len);

	fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ENSURE(fd[1] >= 0 && connect(fd[1], (struct sockaddr *)&address, len) == 0);
	ENSURE(fcntl(fd[1], F_SETFL, O_NONBLOCK) == 0);
	fd[0] = tcp_accept(listener);
	ENSURE(close(listener) == 0);
}
