/*
 * A client's connection until its protocol is known.
 *
 *   begin -> [TLS handshake] -> ALPN ---------------> front_h2 | front_h1
 *                     clear text -> first bytes ----> front_h2 (RFC 9113 3.4) | front_h1
 *
 * Until then this file is the codec, and its timer bounds the handshake and the first bytes. h2
 * over TLS is chosen by ALPN alone (RFC 9113 3.2): a preface without it is a malformed HTTP/1
 * request.
 *
 * Owner: the worker.  Thread: the worker's.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/front.h"
#include "proxy/codec/tls.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE (sizeof preface - 1)

static const struct codec_ops sniffer;

static struct front_conn *
self(struct conn *c)
{
	struct front_conn *f = CONTAINER_OF(c, struct front_conn, conn);

	CHECK_MAGIC(f, FRONT_MAGIC);
	return f;
}

static void
set_timer(struct front_conn *f, int64_t ms)
{
	struct turn *turn = f->conn.turn;

	timeout_set(&turn->wheel, &f->timer, turn->now_ms, ms);
}

static void
stop_timer(struct front_conn *f)
{
	timeout_cancel(&f->conn.turn->wheel, &f->timer);
}

/* Silent, or too slow: there is no request yet to answer. */
static void
too_slow(struct timeout *t)
{
	struct front_conn *f = CONTAINER_OF(t, struct front_conn, timer);

	CHECK_MAGIC(f, FRONT_MAGIC);
	conn_close(&f->conn, false);
}

static void
begin_h1(struct front_conn *f)
{
	stop_timer(f);
	front_h1_begin(f); /* with `draining` set its first answer is its last */
}

static void
begin_h2(struct front_conn *f)
{
	stop_timer(f);
	f->h2 = true;
	front_h2_begin(f);
	if (f->draining && conn_usable(&f->conn))
		front_h2_drain(f);
}

/* --- the sniffing codec ------------------------------------------------------------- */

static void
established(struct conn *c)
{
	struct front_conn *f = self(c);

	f->resumed = c->transport->resumed;
	if (!f->tls)
		set_timer(f, f->timeouts->header_ms);
	else if (c->transport->alpn_h2)
		begin_h2(f);
	else
		begin_h1(f);
}

/* Uses nothing: conn gives the same bytes to the codec that was set. */
static size_t
input(struct conn *c, struct slice in)
{
	struct front_conn *f = self(c);
	size_t n = in.n < PREFACE ? in.n : PREFACE;

	if (memcmp(in.p, preface, n) != 0)
		begin_h1(f);
	else if (n == PREFACE)
		begin_h2(f);
	return 0;
}

static void
eof(struct conn *c)
{
	conn_close(c, false);
}

static void
lost(struct conn *c, enum outcome why)
{
	(void)why;
	stop_timer(self(c));
}

static const struct codec_ops sniffer = {
    .established = established,
    .input = input,
    .eof = eof,
    .lost = lost,
};

/* --- from outside -------------------------------------------------------------------- */

static void
free_front(struct conn *c)
{
	struct front_conn *f = self(c);

	stop_timer(f);
	if (f->handler->gone != NULL)
		f->handler->gone(f);
	f->magic = 0;
	f->free_owner(c);
}

void
front_init(struct front_conn *f, struct turn *turn, struct transport *transport,
    const struct front_handler *handler, const struct front_limits *limits,
    const struct front_timeouts *timeouts, void (*free_owner)(struct conn *))
{
	f->magic = FRONT_MAGIC;
	f->handler = handler;
	f->limits = limits;
	f->timeouts = timeouts;
	f->free_owner = free_owner;
	f->tls = transport->tls;
	conn_init(&f->conn, turn, transport, free_front);
	f->conn.front = true;
	f->conn.send_timeout_ms = timeouts->send_ms;
	budget_init(&f->glitches, limits->glitches, turn->now_ms);
	timeout_init(&f->timer, too_slow);
}

void
front_begin(struct front_conn *f)
{
	conn_set_codec(&f->conn, &sniffer, NULL);
	if (f->tls)
		set_timer(f, f->timeouts->tls_handshake_ms);
	transport_start(f->conn.transport, &f->conn);
}

/* A connection that has not said anything yet may have a request on its way: it is still
 * answered, once. */
void
front_drain(struct front_conn *f)
{
	if (f->draining)
		return;
	f->draining = true;
	if (!conn_usable(&f->conn) || f->conn.codec == &sniffer)
		return;
	if (f->h2)
		front_h2_drain(f);
	else
		front_h1_drain(f);
}

bool
front_glitch(struct front_conn *f, unsigned n, bool *graceful)
{
	unsigned used = budget_take(&f->glitches, n, f->limits->glitches,
	    f->limits->glitches_per_second, f->conn.turn->now_ms);

	if (used >= 75)
		*graceful = true;
	f->glitched = f->glitched || used > 100;
	return used <= 100;
}
