/*
 * The socket under a transport: its descriptor and what is asked of libevent about it. transport.c
 * moves clear text over it, tls_transport.c records.
 *
 * Reading is watched level-triggered.  Without interest in reading or writing the socket is
 * watched edge-triggered instead, so that a reset is still noticed, once, and a peer that
 * half-closed or keeps sending costs nothing (libevent allows only one of the two per descriptor;
 * while writing is watched, errors come that way).
 *
 * Owner: the transport it is embedded in.  Thread: that worker's.
 */
#ifndef TEAL_WIRE_H
#define TEAL_WIRE_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdint.h>

#include "proxy/codec/transport.h"

#define WIRE_MAGIC 0x3172e001u

struct wire;
struct sockaddr;

struct wire_kind {
	void (*opened)(struct wire *); /* the socket is connected; conn is set */
	void (*ready)(struct wire *, bool readable, bool writable);
};

enum watch { WATCH_NOTHING, WATCH_LEVEL, WATCH_EDGE };

struct wire {
	struct transport transport; /* first */
	uint32_t magic;
	int fd;
	int error;   /* errno of a connect that failed at once */
	bool client; /* we connected: the peer is a backend */
	bool connecting;
	bool write_watched;
	bool asked;  /* wire_want() was called */
	bool failed; /* the socket cannot be watched: reads and writes fail */
	enum watch read_watched;
	const struct wire_kind *kind;
	struct event_base *base;
	struct event read_event, write_event;
};

/* Embeds an accepted socket, which it now owns. */
void wire_accepted(struct wire *, const struct wire_kind *, struct event_base *, int fd);
/* Creates a socket and begins to connect; whatever comes of it is told after wire_start(). */
void wire_connect(struct wire *, const struct wire_kind *, struct event_base *,
    const struct sockaddr *, unsigned len);
void wire_start(struct wire *);
void wire_want(struct wire *, bool read, bool write);
/* recv() and send() with errno as words: > 0, IO_EOF, IO_AGAIN, IO_ERROR.  Never SIGPIPE. */
ssize_t wire_read(struct wire *, void *, size_t);
/* more: other bytes follow at once, packets may wait for them. */
ssize_t wire_write(struct wire *, const struct iovec *, int n, bool more);
void wire_shutdown(struct wire *);
/* Forgets the events and closes the socket; with transport.abort by RST. */
void wire_fini(struct wire *);

/* tls_transport.c */
struct tls_server;
struct tls_client;
extern const struct wire_kind tls_wire_kind;
extern const struct transport_ops tls_transport_ops;
struct wire *tls_transport_accepted(struct tls_server *);
struct wire *tls_transport_connecting(struct tls_client *, const char *name);

#endif
