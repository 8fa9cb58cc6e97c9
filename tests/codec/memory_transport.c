/*
 * See memory_transport.h.  Owner: the test.  One thread.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "tests/codec/memory_transport.h"

#define PUMP_ROUNDS 1000000u /* more than any test needs: it spins */

static struct memory_transport *
open_one(struct transport *t)
{
	struct memory_transport *mt = CONTAINER_OF(t, struct memory_transport, transport);

	ENSURE(!mt->closed); /* nothing may be asked of a closed transport */
	return mt;
}

static ssize_t
memory_read(struct transport *t, void *p, size_t n)
{
	struct memory_transport *mt = open_one(t);
	size_t left = mt->n_input - mt->input_at;

	ENSURE(n > 0);
	mt->n_reads++;
	mt->unseen = false;
	if (left == 0)
		return mt->broken ? IO_ERROR : mt->input_eof ? IO_EOF : IO_AGAIN;
	if (n > left)
		n = left;
	if (n > mt->read_max)
		n = mt->read_max;
	memcpy(p, mt->input + mt->input_at, n);
	mt->input_at += n;
	return (ssize_t)n;
}

static void
collect(struct memory_transport *mt, const void *p, size_t n)
{
	mt->written = realloc(mt->written, mt->n_written + n + 1);
	ENSURE(mt->written != NULL);
	if (n > 0)
		memcpy(mt->written + mt->n_written, p, n);
	mt->n_written += n;
	mt->written[mt->n_written] = '\0';
}

static ssize_t
memory_writev(struct transport *t, const struct iovec *iov, int n)
{
	struct memory_transport *mt = open_one(t);
	size_t taken = 0;

	ENSURE(!mt->shut && n > 0);
	mt->n_writes++;
	if (mt->broken)
		return IO_ERROR;
	for (int i = 0; i < n; i++) {
		size_t part = iov[i].iov_len < mt->room ? iov[i].iov_len : mt->room;

		ENSURE(iov[i].iov_len > 0);
		collect(mt, iov[i].iov_base, part);
		taken += part;
		if (mt->room != SIZE_MAX)
			mt->room -= part;
		if (part < iov[i].iov_len)
			break;
	}
	return taken > 0 ? (ssize_t)taken : IO_AGAIN;
}

static void
memory_want(struct transport *t, bool read, bool write)
{
	struct memory_transport *mt = open_one(t);

	mt->n_wants++;
	mt->want_read = read;
	mt->want_write = write;
}

static bool
memory_pending(struct transport *t)
{
	const struct memory_transport *mt = open_one(t);

	return mt->buffered && !mt->unseen && mt->input_at < mt->n_input;
}

static void
memory_shutdown(struct transport *t)
{
	struct memory_transport *mt = open_one(t);

	ENSURE(!mt->shut); /* once */
	mt->shut = true;
}

static void
memory_close(struct transport *t)
{
	struct memory_transport *mt = open_one(t);

	mt->closed = true;
	mt->aborted = t->abort;
	mt->transport.conn = NULL;
}

static const struct transport_ops memory_ops = {
    .read = memory_read,
    .writev = memory_writev,
    .want = memory_want,
    .pending = memory_pending,
    .shutdown = memory_shutdown,
    .close = memory_close,
};

struct memory_transport *
memory_transport_new(void)
{
	struct memory_transport *mt = calloc(1, sizeof *mt);

	ENSURE(mt != NULL);
	mt->transport.ops = &memory_ops;
	mt->read_max = SIZE_MAX;
	mt->room = SIZE_MAX;
	mt->connects = true;
	collect(mt, NULL, 0);
	return mt;
}

void
memory_transport_free(struct memory_transport *mt)
{
	free(mt->input);
	free(mt->written);
	free(mt);
}

void
memory_feed(struct memory_transport *mt, const void *p, size_t n)
{
	ENSURE(!mt->input_eof && !mt->broken);
	if (n == 0)
		return;
	if (mt->input_at == mt->n_input)
		mt->n_input = mt->input_at = 0;
	mt->input = realloc(mt->input, mt->n_input + n);
	ENSURE(mt->input != NULL);
	memcpy(mt->input + mt->n_input, p, n);
	mt->n_input += n;
	mt->unseen = true;
}

void
memory_feed_text(struct memory_transport *mt, const char *text)
{
	memory_feed(mt, text, strlen(text));
}

void
memory_feed_eof(struct memory_transport *mt)
{
	mt->input_eof = true;
	mt->unseen = true;
}

void
memory_break(struct memory_transport *mt)
{
	mt->broken = true;
	mt->unseen = true;
}

void
memory_set_room(struct memory_transport *mt, size_t n)
{
	mt->room = n;
}

void
memory_set_read_max(struct memory_transport *mt, size_t n)
{
	ENSURE(n > 0);
	mt->read_max = n;
}

char *
memory_take(struct memory_transport *mt, size_t *n)
{
	char *p = mt->written;

	if (n != NULL)
		*n = mt->n_written;
	mt->written = NULL;
	mt->n_written = 0;
	collect(mt, NULL, 0);
	return p;
}

enum readiness { NOTHING, CONNECTED, RESET, READY };

static enum readiness
readiness(const struct memory_transport *mt, bool *readable, bool *writable)
{
	const struct conn *c = mt->transport.conn;
	bool something = mt->input_at < mt->n_input || mt->input_eof || mt->broken;

	*readable = *writable = false;
	if (mt->closed || c == NULL || c->dead)
		return NOTHING;
	if (!c->established)
		return mt->connects ? CONNECTED : NOTHING;
	if (mt->broken && !mt->want_read && mt->unseen)
		return RESET;
	*readable = mt->want_read && (mt->buffered ? mt->unseen : something);
	*writable = mt->want_write && (mt->room > 0 || mt->broken);
	return *readable || *writable ? READY : NOTHING;
}

static bool
poke(struct memory_transport *mt)
{
	struct conn *c = mt->transport.conn;
	bool readable, writable;

	switch (readiness(mt, &readable, &writable)) {
	case NOTHING:
		return false;
	case CONNECTED:
		conn_established(c);
		return true;
	case RESET:
		mt->unseen = false;
		conn_lost(c, c->front ? OUTCOME_CLIENT_GONE : OUTCOME_BACK_RESET);
		return true;
	case READY:
		conn_ready(c, readable, writable);
		return true;
	}
	return false;
}

bool
memory_pump_once(struct turn *turn, struct memory_transport **mts, size_t n)
{
	bool moved = false, readable, writable;

	for (size_t i = 0; i < n; i++) {
		if (mts[i] != NULL && poke(mts[i]))
			moved = true;
	}
	if (turn_end(turn))
		moved = true;
	for (size_t i = 0; i < n; i++) {
		if (mts[i] != NULL && readiness(mts[i], &readable, &writable) != NOTHING)
			moved = true; /* interest came up with the turn's end */
	}
	return moved;
}

void
memory_pump(struct turn *turn, struct memory_transport **mts, size_t n)
{
	unsigned rounds = 0;

	while (memory_pump_once(turn, mts, n))
		ENSURE(++rounds < PUMP_ROUNDS);
}

void
memory_pump_one(struct turn *turn, struct memory_transport *mt)
{
	memory_pump(turn, &mt, 1);
}

struct turn *
test_turn_new(void)
{
	struct turn *turn = calloc(1, sizeof *turn);

	ENSURE(turn != NULL);
	turn_init(turn, 1000000000, 1700000000000);
	return turn;
}

void
test_turn_free(struct turn *turn)
{
	turn_fini(turn);
	free(turn);
}

void
test_advance(struct turn *turn, int64_t ms)
{
	while (ms > 0) {
		int64_t step = ms < WHEEL_TICK_MS ? ms : WHEEL_TICK_MS;

		turn_clock(turn, turn->now_us + step * 1000, turn->wall_ms + step);
		wheel_advance(&turn->wheel, turn->now_ms);
		turn_end(turn);
		ms -= step;
	}
}
