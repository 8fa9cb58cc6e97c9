#include "bench/origin/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <openssl/err.h>

#define PIECES   16             /* of one write */
#define COPY_MAX ((size_t)8192) /* bodies up to this are copied behind their heads */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define TELLING 4 /* bytes of it that no method begins with */

static void ready(struct source *, uint32_t events);

void
conn_open(struct worker *w, int fd)
{
	struct conn *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->source.ready = ready;
	c->worker = w;
	c->fd = fd;
	if (w->origin->tls) {
		c->tls = SSL_new(w->origin->tls);
		if (!c->tls || !SSL_set_fd(c->tls, fd))
			abort();
		SSL_set_accept_state(c->tls);
	}
	count(&w->counters.connections);
	count(&w->counters.open);
	LIST_INSERT_HEAD(&w->conns, c, all);
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};

	c->armed = e.events;
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e))
		conn_free(c);
}

static void
speak_no_more(struct conn *c)
{
	switch (c->speaks) {
	case SPEAKS_H1:
		h1_end(c);
		break;
	case SPEAKS_H2:
		h2_end(c);
		break;
	case SPEAKS_UNKNOWN:
	case SPEAKS_WEBSOCKET:
		break;
	}
}

void
conn_free(struct conn *c)
{
	struct worker *w = c->worker;

	speak_no_more(c);
	if (c->tls) {
		if (c->last && SSL_is_init_finished(c->tls)) {
			SSL_shutdown(c->tls); /* a close_notify: the end is meant */
		}
		SSL_free(c->tls);
	}
	close(c->fd);
	free(c->left);
	LIST_REMOVE(c, all);
	atomic_fetch_sub_explicit(&w->counters.open, 1, memory_order_relaxed);
	free(c);
}

/* --- out ---------------------------------------------------------------------- */

static void
keep(struct conn *c, const unsigned char *p, size_t n)
{
	if (c->left_at + c->n_left + n > c->room_left) {
		size_t room = c->n_left + n + 4096;
		unsigned char *grown = malloc(room);

		if (!grown)
			abort();
		if (c->n_left)
			memcpy(grown, c->left + c->left_at, c->n_left);
		free(c->left);
		c->left = grown;
		c->left_at = 0;
		c->room_left = room;
	}
	memcpy(c->left + c->left_at + c->n_left, p, n);
	c->n_left += n;
}

void
conn_put(struct conn *c, const void *data, size_t n)
{
	struct worker *w = c->worker;
	const unsigned char *p = data;

	while (n) {
		if (w->staged == STAGE_SIZE)
			conn_flush(c);
		if (c->dead)
			return;
		if (conn_blocked(c)) {
			keep(c, p, n);
			return;
		}
		size_t room = STAGE_SIZE - w->staged, some = n < room ? n : room;

		memcpy(w->stage + w->staged, p, some);
		w->staged += some;
		p += some;
		n -= some;
	}
}

void
conn_put_body(struct conn *c, size_t n)
{
	if (n <= COPY_MAX) {
		conn_put(c, pattern, n);
		return;
	}
	c->body_at = 0;
	c->n_body = n;
	conn_flush(c);
}

void
conn_reset(struct conn *c)
{
	struct linger now = {1, 0};

	conn_flush(c); /* the answers before this one */
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	c->last = false;
	c->dead = true;
}

static int
pieces(const struct conn *c, size_t from, struct iovec *iov)
{
	struct worker *w = c->worker;
	int n = 0;

	if (c->n_left)
		iov[n++] = (struct iovec){c->left + c->left_at, c->n_left};
	if (w->staged)
		iov[n++] = (struct iovec){w->stage + from, w->staged};
	size_t at = c->body_at % PATTERN, left = c->n_body;

	while (left && n < PIECES) {
		size_t some = PATTERN - at < left ? PATTERN - at : left;

		iov[n++] = (struct iovec){pattern + at, some};
		left -= some;
		at = 0;
	}
	return n;
}

/* What was written; 0: nothing can be just now, -1: the connection is broken. */
static ssize_t
write_some(struct conn *c, const struct iovec *iov, int n)
{
	ssize_t wrote;

	if (c->tls) {
		size_t done;

		ERR_clear_error();
		if (SSL_write_ex(c->tls, iov[0].iov_base, iov[0].iov_len, &done))
			return (ssize_t)done;
		switch (SSL_get_error(c->tls, 0)) {
		case SSL_ERROR_WANT_WRITE:
		case SSL_ERROR_WANT_READ:
			return 0;
		default:
			return -1;
		}
	}
	do
		wrote =
		    n == 1 ? write(c->fd, iov[0].iov_base, iov[0].iov_len) : writev(c->fd, iov, n);
	while (wrote < 0 && errno == EINTR);
	if (wrote < 0)
		return errno == EAGAIN ? 0 : -1;
	return wrote;
}

/* How much of what was written is still to be booked after `has` is. */
static size_t
booked(size_t wrote, size_t *has)
{
	size_t n = wrote < *has ? wrote : *has;

	*has -= n;
	return wrote - n;
}

void
conn_flush(struct conn *c)
{
	struct worker *w = c->worker;
	struct iovec iov[PIECES];
	size_t from = 0; /* of the stage */
	int n;

	while (!c->dead && (n = pieces(c, from, iov)) > 0) {
		ssize_t wrote = write_some(c, iov, n);

		if (wrote == 0)
			break;
		if (wrote < 0) {
			c->dead = true;
			break;
		}
		size_t rest = (size_t)wrote, before = c->n_left;

		rest = booked(rest, &c->n_left);
		c->left_at += before - c->n_left;
		before = w->staged;
		rest = booked(rest, &w->staged);
		from += before - w->staged;
		c->n_body -= rest;
		c->body_at += rest;
	}
	if (w->staged && !c->dead)
		keep(c, w->stage + from, w->staged);
	w->staged = 0;
	if (c->n_left == 0 && c->left) {
		free(c->left);
		c->left = NULL;
		c->left_at = c->room_left = 0;
	}
}

/* --- in ----------------------------------------------------------------------- */

static void input(struct conn *, unsigned char *, size_t);

/* Nothing is kept of the beginning but how much there was: it is known what it was. */
static void
sniff(struct conn *c, unsigned char *p, size_t n)
{
	size_t had = c->sniffed, i = 0;

	while (had + i < TELLING && i < n && p[i] == (unsigned char)preface[had + i])
		i++;
	if (had + i < TELLING && i == n) {
		c->sniffed += (unsigned)n;
		return;
	}
	if (had + i < TELLING) {
		c->speaks = SPEAKS_H1;
		h1_begin(c);
	} else if (h2_begin(c)) {
		c->dead = true;
		return;
	} else {
		c->speaks = SPEAKS_H2;
	}
	if (had) {
		unsigned char before[TELLING];

		memcpy(before, preface, had);
		input(c, before, had);
	}
	input(c, p, n);
}

static void
input(struct conn *c, unsigned char *p, size_t n)
{
	switch (c->speaks) {
	case SPEAKS_UNKNOWN:
		sniff(c, p, n);
		break;
	case SPEAKS_H1:
		h1_input(c, p, n);
		break;
	case SPEAKS_H2:
		h2_input(c, p, n);
		break;
	case SPEAKS_WEBSOCKET:
		websocket_input(c, p, n);
		break;
	}
}

/* -1: the end, or broken; 0: nothing more for now */
static ssize_t
read_some(struct conn *c, unsigned char *p, size_t n)
{
	ssize_t got;

	if (c->tls) {
		size_t done;

		ERR_clear_error();
		if (SSL_read_ex(c->tls, p, n, &done))
			return (ssize_t)done;
		switch (SSL_get_error(c->tls, 0)) {
		case SSL_ERROR_WANT_WRITE:
		case SSL_ERROR_WANT_READ:
			return 0;
		default:
			return -1;
		}
	}
	do
		got = recv(c->fd, p, n, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -1;
	return got ? got : -1;
}

/* Reads until there is no more; of clear connections that is known from a short read. */
static void
take_input(struct conn *c)
{
	struct worker *w = c->worker;

	while (!c->dead && !c->deaf && !c->last) {
		ssize_t got = read_some(c, w->input, INPUT_SIZE);

		if (got < 0)
			c->dead = true;
		if (got <= 0)
			return;
		input(c, w->input, (size_t)got);
		if (!c->tls && (size_t)got < INPUT_SIZE)
			return;
	}
}

static void
ready(struct source *source, uint32_t events)
{
	struct conn *c = (struct conn *)source;

	if (events & EPOLLOUT)
		conn_flush(c);
	if (events & EPOLLIN)
		take_input(c);
	else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->dead = true;
	conn_settle(c);
}

static void
arm(struct conn *c)
{
	uint32_t in = c->last ? 0 : EPOLLRDHUP | (c->deaf ? 0 : EPOLLIN);
	uint32_t wanted = in | (conn_blocked(c) ? EPOLLOUT : 0);
	struct epoll_event e = {.events = wanted, .data.ptr = c};

	if (wanted == c->armed)
		return;
	c->armed = wanted;
	epoll_ctl(c->worker->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

/* What waited for room to write in; false: nothing did. */
static bool
go_on(struct conn *c)
{
	if (conn_blocked(c))
		return false;
	bool was_deaf = c->deaf;

	if (c->speaks == SPEAKS_H1 && !h1_resume(c))
		return false;
	if (!was_deaf)
		return c->speaks == SPEAKS_H1;
	if (c->speaks != SPEAKS_H1)
		c->deaf = false;
	take_input(c); /* of TLS there may be some that epoll knows nothing of */
	return true;
}

void
conn_settle(struct conn *c)
{
	do {
		if (c->speaks == SPEAKS_H2 && !c->dead)
			h2_output(c);
		conn_flush(c);
	} while (!c->dead && go_on(c));
	if (c->last && !conn_blocked(c))
		c->dead = true;
	if (!c->dead && c->worker->script.refuse)
		conn_refuse(c);
	if (c->dead)
		conn_free(c);
	else
		arm(c);
}

void
conn_refuse(struct conn *c)
{
	if (c->speaks == SPEAKS_H2)
		h2_refuse(c);
	if (c->speaks != SPEAKS_WEBSOCKET && c->active == 0 && !conn_blocked(c))
		c->dead = true;
}
