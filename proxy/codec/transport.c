/*
 * Clear text over TCP and Unix sockets, and the sockets themselves (wire.h).
 *
 *   accepted:    start -> established
 *   connecting:  start -> (writable) -> SO_ERROR -> established
 *                                                  -> lost(CONNECT_REFUSED, CONNECT_FAILED, NO_SOCKET)
 *
 * A connect never reports from inside transport_start(), even when it failed at once: its event is
 * made active and comes from the loop.
 *
 * Owner: the conn.  Thread: its worker's.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/base/obj.h"
#include "proxy/codec/conn.h"
#include "proxy/codec/tls.h"
#include "proxy/codec/wire.h"

/* --- the socket ---------------------------------------------------------------- */

static int
socket_error(const struct wire *w)
{
	int error = 0;
	socklen_t n = sizeof error;

	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		return errno;
	return error;
}

/* A connect to a port of the ephemeral range nobody listens on can meet itself (simultaneous
 * open, RFC 9293 3.5): that is nobody listening. */
static bool
met_itself(const struct wire *w)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t n_here = sizeof here, n_there = sizeof there;

	if (getsockname(w->fd, (struct sockaddr *)&here, &n_here) != 0 ||
	    getpeername(w->fd, (struct sockaddr *)&there, &n_there) != 0)
		return false;
	return here.ss_family != AF_UNIX && n_here == n_there && memcmp(&here, &there, n_here) == 0;
}

/* What went wrong here says nothing against the backend: it must not be held down, nor its color tripped. */
static enum outcome
connect_outcome(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return OUTCOME_CONNECT_REFUSED;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case ENOSPC:        /* epoll's user limit */
	case EADDRNOTAVAIL: /* all local ports towards this address are taken */
		return OUTCOME_NO_SOCKET;
	default:
		return OUTCOME_CONNECT_FAILED;
	}
}

static void
connect_done(struct wire *w)
{
	int error = w->error != 0 ? w->error : socket_error(w);

	if (error == 0 && met_itself(w))
		error = ECONNREFUSED;
	if (error != 0) {
		conn_lost(w->transport.conn, connect_outcome(error));
		return;
	}
	w->connecting = false;
	w->asked = false;
	w->kind->opened(w);
	if (!w->asked)
		wire_want(w, false, false); /* nobody wants to know when it is writable */
}

static void
lost(struct wire *w)
{
	conn_lost(w->transport.conn, w->client ? OUTCOME_BACK_RESET : OUTCOME_CLIENT_GONE);
}

/* Something happened on a socket nobody reads: was it the end?  Unread bytes of a backend are
 * still worth reading, the error waits behind them. */
static void
look_for_reset(struct wire *w)
{
	unsigned char byte;
	ssize_t n = recv(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && w->client)
		return;
	if (n >= 0 && socket_error(w) == 0)
		return; /* data or FIN: the reader will find it */
	w->failed = true;
	lost(w);
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct wire *w = arg;

	(void)fd;
	(void)what;
	CHECK_MAGIC(w, WIRE_MAGIC);
	if (w->failed)
		lost(w);
	else if (w->read_watched == WATCH_EDGE)
		look_for_reset(w);
	else
		w->kind->ready(w, true, false);
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	struct wire *w = arg;

	(void)fd;
	(void)what;
	CHECK_MAGIC(w, WIRE_MAGIC);
	if (w->connecting)
		connect_done(w);
	else
		w->kind->ready(w, false, true);
}

static void
assign(struct wire *w)
{
	ENSURE(event_assign(&w->read_event, w->base, w->fd, EV_READ | EV_PERSIST, on_read, w) == 0);
	ENSURE(
	    event_assign(&w->write_event, w->base, w->fd, EV_WRITE | EV_PERSIST, on_write, w) == 0);
}

static void
no_delay(int fd)
{
	int on = 1;

	/* fails on a Unix socket, which has no such delay */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void
wire_accepted(struct wire *w, const struct wire_kind *kind, struct event_base *base, int fd)
{
	w->magic = WIRE_MAGIC;
	w->kind = kind;
	w->base = base;
	w->fd = fd;
	no_delay(fd);
	assign(w);
}

void
wire_connect(struct wire *w, const struct wire_kind *kind, struct event_base *base,
    const struct sockaddr *to, unsigned len)
{
	w->magic = WIRE_MAGIC;
	w->kind = kind;
	w->base = base;
	w->client = true;
	w->connecting = true;
	w->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (w->fd < 0) {
		w->error = errno;
	} else {
		if (to->sa_family != AF_UNIX)
			no_delay(w->fd);
		if (connect(w->fd, to, len) != 0 && errno != EINPROGRESS && errno != EINTR)
			w->error = errno;
	}
	assign(w);
}

/* epoll refuses (ENOSPC, ENOMEM): the connection ends, from the loop. */
static void
fail(struct wire *w)
{
	w->failed = true;
	event_active(&w->read_event, EV_READ, 1);
}

void
wire_start(struct wire *w)
{
	if (!w->connecting) {
		w->kind->opened(w);
		return;
	}
	if (w->error == 0 && event_add(&w->write_event, NULL) == 0)
		w->write_watched = true;
	else {
		if (w->error == 0)
			w->error = ENOMEM;
		event_active(&w->write_event, EV_WRITE, 1);
	}
}

static void
watch_read(struct wire *w, enum watch mode)
{
	short edge = mode == WATCH_EDGE ? EV_ET : 0;

	if (w->read_watched == mode)
		return;
	if (w->read_watched != WATCH_NOTHING)
		(void)event_del(&w->read_event);
	w->read_watched = WATCH_NOTHING;
	if (mode == WATCH_NOTHING)
		return;
	ENSURE(event_assign(&w->read_event, w->base, w->fd, (short)(EV_READ | EV_PERSIST | edge),
		   on_read, w) == 0);
	if (event_add(&w->read_event, NULL) == 0)
		w->read_watched = mode;
	else
		fail(w);
}

void
wire_want(struct wire *w, bool read, bool write)
{
	enum watch mode = read ? WATCH_LEVEL : write ? WATCH_NOTHING : WATCH_EDGE;

	w->asked = true;
	if (w->connecting || w->failed)
		return;
	if (w->write_watched && !write) {
		(void)event_del(&w->write_event);
		w->write_watched = false;
	}
	watch_read(w, mode);
	if (write && !w->write_watched) {
		if (event_add(&w->write_event, NULL) == 0)
			w->write_watched = true;
		else
			fail(w);
	}
}

ssize_t
wire_read(struct wire *w, void *to, size_t n)
{
	ssize_t got;

	if (w->failed)
		return IO_ERROR;
	do
		got = recv(w->fd, to, n, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return got;
	if (got == 0)
		return IO_EOF;
	return errno == EAGAIN ? IO_AGAIN : IO_ERROR;
}

ssize_t
wire_write(struct wire *w, const struct iovec *iov, int n, bool more)
{
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0);
	struct msghdr message = {
	    .msg_iov = (struct iovec *)(uintptr_t)iov,
	    .msg_iovlen = (size_t)n,
	};
	ssize_t put;

	if (w->failed)
		return IO_ERROR;
	do /* one piece is the usual case, and cheaper without a vector to check and copy */
		put = n == 1 ? send(w->fd, iov->iov_base, iov->iov_len, flags)
			     : sendmsg(w->fd, &message, flags);
	while (put < 0 && errno == EINTR);
	if (put >= 0)
		return put;
	return errno == EAGAIN ? IO_AGAIN : IO_ERROR;
}

void
wire_shutdown(struct wire *w)
{
	(void)shutdown(w->fd, SHUT_WR); /* ENOTCONN: the peer was faster */
}

void
wire_fini(struct wire *w)
{
	struct linger reset = {.l_onoff = 1, .l_linger = 0};

	(void)event_del(&w->read_event);
	(void)event_del(&w->write_event);
	if (w->fd >= 0) {
		if (w->transport.abort)
			(void)setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		(void)close(w->fd);
	}
	w->fd = -1;
	w->magic = 0;
}

/* --- clear text ----------------------------------------------------------------- */

static struct wire *
wire_of(struct transport *t)
{
	struct wire *w = CONTAINER_OF(t, struct wire, transport);

	CHECK_MAGIC(w, WIRE_MAGIC);
	return w;
}

static ssize_t
clear_read(struct transport *t, void *to, size_t n)
{
	return wire_read(wire_of(t), to, n);
}

static ssize_t
clear_writev(struct transport *t, const struct iovec *iov, int n)
{
	return wire_write(wire_of(t), iov, n, false);
}

static void
clear_want(struct transport *t, bool read, bool write)
{
	wire_want(wire_of(t), read, write);
}

static bool
clear_pending(struct transport *t)
{
	(void)t;
	return false;
}

static void
clear_shutdown(struct transport *t)
{
	wire_shutdown(wire_of(t));
}

static void
clear_close(struct transport *t)
{
	struct wire *w = wire_of(t);

	wire_fini(w);
	free(w);
}

static const struct transport_ops clear_ops = {
    .read = clear_read,
    .writev = clear_writev,
    .want = clear_want,
    .pending = clear_pending,
    .shutdown = clear_shutdown,
    .close = clear_close,
};

static void
clear_opened(struct wire *w)
{
	conn_established(w->transport.conn);
}

static void
clear_ready(struct wire *w, bool readable, bool writable)
{
	conn_ready(w->transport.conn, readable, writable);
}

static const struct wire_kind clear_wire_kind = {
    .opened = clear_opened,
    .ready = clear_ready,
};

static struct wire *
clear_new(void)
{
	struct wire *w = calloc(1, sizeof *w);

	ENSURE(w != NULL);
	w->transport.ops = &clear_ops;
	return w;
}

/* --- for everybody ---------------------------------------------------------------- */

struct transport *
transport_accepted(struct event_base *base, int fd, struct tls_server *tls)
{
	struct wire *w = tls != NULL ? tls_transport_accepted(tls) : clear_new();

	wire_accepted(w, tls != NULL ? &tls_wire_kind : &clear_wire_kind, base, fd);
	return &w->transport;
}

struct transport *
transport_connect(struct event_base *base, const struct sockaddr *to, unsigned len,
    struct tls_client *tls, const char *name)
{
	struct wire *w = tls != NULL ? tls_transport_connecting(tls, name) : clear_new();

	wire_connect(w, tls != NULL ? &tls_wire_kind : &clear_wire_kind, base, to, len);
	return &w->transport;
}

void
transport_start(struct transport *t, struct conn *c)
{
	t->conn = c;
	if (t->ops == &clear_ops || t->ops == &tls_transport_ops)
		wire_start(wire_of(t)); /* any other is a test's, which tells its conn by itself */
}
