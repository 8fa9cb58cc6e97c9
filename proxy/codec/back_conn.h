/*
 * A connection to a backend: HTTP/1.1 with one exchange at a time, or HTTP/2 with many streams.
 *
 * Owner: exchange/back.c, the worker's pools, told of every change by struct back_owner.
 */
#ifndef TEAL_BACK_CONN_H
#define TEAL_BACK_CONN_H

#include "config/config.h"
#include "proxy/codec/conn.h"
#include "proxy/message/stream.h"

struct back_conn;

struct back_owner {
	/* Connect and handshake done (h2: SETTINGS need not have come yet). */
	void (*connected)(struct back_conn *);
	/* A stream ended (or the peer's MAX_CONCURRENT_STREAMS changed) and the connection can take a new one now: back_slots() > 0.  Never
	 * inside a verb but reset(): from reset() it may come at once. */
	void (*available)(struct back_conn *);
	/* No new streams (GOAWAY, close announced, error): out of the pool; streams under way go on. At most once. */
	void (*retired)(struct back_conn *);
	/* Dead; called once, from the graves list, before it is freed.  `why` tells a failed connect (lost_why) when `connected` never came. */
	void (*gone)(struct back_conn *);
};

#define BACK_MAGIC 0xbac4c022u

struct back_conn {
	struct conn conn; /* first */
	uint32_t magic;
	const struct back_owner *owner;
	void *owner_data; /* the pool's */
	enum back_protocol protocol;
	unsigned max_streams; /* configured; h2: the lesser of this and the peer's */
	unsigned n_streams;   /* open now */
	uint64_t served;      /* streams ever opened: > 0 makes the next one "reused" */
	bool retired;
	size_t header_bytes; /* limits for response heads, decoded */
	unsigned header_count;
	struct timeout timer;              /* owner's (connect, idle) */
	void *link[2];                     /* owner's list links */
	void (*free_owner)(struct conn *); /* after `gone` */
};

/* Fills the struct (zeroed before).  Transport not started; back_begin() starts it and installs the codec, so streams may
 * be opened at once: what is sent waits for the connect. */
void back_init(struct back_conn *, struct turn *, struct transport *, enum back_protocol,
    const struct back_owner *, void (*free_owner)(struct conn *));
void back_begin(struct back_conn *);
/* How many more streams may be opened now (h1: 1 or 0).  A connecting h2 connection gives at most max_streams. */
unsigned back_slots(const struct back_conn *);
/* Opens a stream; back_slots() > 0 is required.  events/user may be set by the caller right after. */
struct stream *back_open(struct back_conn *);
/* It will be opened: what that touches is fetched. */
void back_warm(const struct back_conn *);
/* Close when the streams under way have ended; at once when there are none. */
void back_retire(struct back_conn *);

/* The two codecs. */
void back_h1_begin(struct back_conn *);
unsigned back_h1_slots(const struct back_conn *);
struct stream *back_h1_open(struct back_conn *);
void back_h2_begin(struct back_conn *);
unsigned back_h2_slots(const struct back_conn *);
struct stream *back_h2_open(struct back_conn *);
void back_h2_retire(struct back_conn *);

#endif
