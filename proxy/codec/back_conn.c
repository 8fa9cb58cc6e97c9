/*
 * A connection to a backend, whichever protocol it speaks.
 *
 *   init -> begin -> connecting -> connected -> (retired) -> gone
 *
 * Owner: the worker's pools (exchange/back.c).  Thread: that worker's.
 */
#include "proxy/base/obj.h"
#include "proxy/base/warm.h"
#include "proxy/codec/back_conn.h"
#include "proxy/codec/tls.h"

static void
free_back(struct conn *c)
{
	struct back_conn *b = CONTAINER_OF(c, struct back_conn, conn);

	CHECK_MAGIC(b, BACK_MAGIC);
	b->owner->gone(b);
	b->magic = 0;
	b->free_owner(c);
}

void
back_init(struct back_conn *b, struct turn *turn, struct transport *transport,
    enum back_protocol protocol, const struct back_owner *owner, void (*free_owner)(struct conn *))
{
	b->magic = BACK_MAGIC;
	b->protocol = protocol;
	b->owner = owner;
	b->free_owner = free_owner;
	b->max_streams = 1;
	conn_init(&b->conn, turn, transport, free_back);
}

void
back_begin(struct back_conn *b)
{
	CHECK_MAGIC(b, BACK_MAGIC);
	switch (b->protocol) {
	case BACK_H1:
		back_h1_begin(b);
		break;
	case BACK_H2:
		back_h2_begin(b);
		break;
	}
	transport_start(b->conn.transport, &b->conn);
}

unsigned
back_slots(const struct back_conn *b)
{
	CHECK_MAGIC(b, BACK_MAGIC);
	if (b->retired || !conn_usable(&b->conn))
		return 0;
	return b->protocol == BACK_H1 ? back_h1_slots(b) : back_h2_slots(b);
}

void
back_warm(const struct back_conn *b)
{
	warm(b->conn.codec_state, WARM_CODEC);
	warm(b->conn.transport, sizeof(struct transport) + 2 * WARM_LINE);
}

struct stream *
back_open(struct back_conn *b)
{
	ENSURE(back_slots(b) > 0);
	return b->protocol == BACK_H1 ? back_h1_open(b) : back_h2_open(b);
}

/* A retired h1 connection with a stream is closed by its codec when that ends. */
static void
retire_h1(struct back_conn *b)
{
	if (!b->retired) {
		b->retired = true;
		b->owner->retired(b);
	}
	if (b->n_streams == 0)
		conn_close(&b->conn, false);
}

void
back_retire(struct back_conn *b)
{
	CHECK_MAGIC(b, BACK_MAGIC);
	if (!conn_usable(&b->conn))
		return;
	if (b->protocol == BACK_H1)
		retire_h1(b);
	else
		back_h2_retire(b);
}
