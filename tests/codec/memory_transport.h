/*
 * A transport in memory and a pump for it: codec tests say what the peer sends, how much the
 * socket takes and how it is cut up, and look at what was written.  A fake clock; nothing sleeps.
 *
 * The test owns it: close() only marks it closed.  Every call after that ends the test.
 */
#ifndef TEAL_MEMORY_TRANSPORT_H
#define TEAL_MEMORY_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/base/turn.h"
#include "proxy/codec/conn.h"
#include "proxy/codec/transport.h"

struct memory_transport {
	struct transport transport; /* first */

	/* from the peer */
	unsigned char *input;
	size_t n_input, input_at;
	bool input_eof, broken;
	size_t read_max; /* at most so many bytes per read() */
	bool buffered;   /* as TLS: readiness once per feed, the rest by pending() */
	bool unseen;     /* buffered: fed and not told yet */

	/* to the peer */
	char *written; /* always NUL-terminated, never NULL */
	size_t n_written;
	size_t room; /* bytes writev() takes before IO_AGAIN; SIZE_MAX: any */

	/* what was asked of it */
	bool want_read, want_write;
	bool shut, closed, aborted;
	unsigned n_reads, n_writes, n_wants;

	bool connects; /* the pump calls conn_established(); true by default */
};

struct memory_transport *memory_transport_new(void);
void memory_transport_free(struct memory_transport *);

/* The peer sends; delivered by the pump. */
void memory_feed(struct memory_transport *, const void *, size_t);
void memory_feed_text(struct memory_transport *, const char *);
void memory_feed_eof(struct memory_transport *);
/* A reset: after what is still to be read, reads and writes fail. */
void memory_break(struct memory_transport *);

void memory_set_room(struct memory_transport *, size_t);
void memory_set_read_max(struct memory_transport *, size_t);

/* What was written so far, NUL-terminated, and forgets it.  free() it. n may be NULL. */
char *memory_take(struct memory_transport *, size_t *n);

/* Delivers readiness as `want` allows and ends turns until nothing moves.  A connection that
 * spins ends the test. */
void memory_pump(struct turn *, struct memory_transport **, size_t n);
void memory_pump_one(struct turn *, struct memory_transport *);
/* One round only: readiness to each once, one turn_end(). true: something moved. */
bool memory_pump_once(struct turn *, struct memory_transport **, size_t n);

struct turn *test_turn_new(void);
void test_turn_free(struct turn *);
/* Fake clock: forward by ms, tick by tick, then turn_end(). */
void test_advance(struct turn *, int64_t ms);

#endif
