/*
 * Asks one backend one probe, over its pool's own protocol and TLS, through the codecs that
 * requests go through.
 *
 *   probe_begin -> kept connection | new one (each address of its name in turn)
 *               -> head, at most PROBE_BODY_MAX of body
 *               -> done(what it saw), once, never within probe_begin
 *
 * One connection to each backend is kept between its probes: a thousand backends are asked 700
 * times a second.  A kept one that proves stale is replaced and the probe asked again; only the
 * second answer counts.
 *
 * Runs on control's loop with a turn of its own: the first callback that wakes the turn also
 * activates an event that ends it, behind all callbacks of the same poll; libevent delivers what
 * sockets have before its timers.  Nothing wakes an idle one.
 *
 * Control thread.
 */
#ifndef TEAL_PROBE_IO_H
#define TEAL_PROBE_IO_H

#include "health/health.h"
#include "proxy/exchange/engine.h"
#include "proxy/message/stream.h"

#define PROBE_BODY_MAX 4096

struct probe_io;
struct probe_line; /* to one backend */
struct line_conn;

struct probe_result {
	bool ok;
	char saw[HEALTH_SAW_MAX]; /* printable ASCII */
	char version[64];         /* the body's member "version"; "" */
};

/* One probe; embedded in what waits for it, zeroed before its first use.  Its owner reads nothing
 * of it. */
struct probe {
	struct probe_line *line; /* NULL: not under way */
	const struct probe_config *config;
	/* result NULL: nobody could be asked, for want of a descriptor or port.  The probe may be
	 * begun again from within. */
	void (*done)(struct probe *, const struct probe_result *);
	LIST_ENTRY(probe) link;
	struct line_conn *conn; /* while stream is there */
	struct stream *stream;
	unsigned tried; /* addresses, a bit each */
	bool reused;    /* the connection had been kept */
	bool fresh;     /* it must not be */
	unsigned status;
	char grpc_status[4];
	char grpc_message[64];
	unsigned char *body;
	size_t n_body;
	/* The last complete answer and what it meant: most are the same as the one before. */
	struct {
		unsigned status; /* 0: none */
		unsigned char *body;
		size_t n;
		struct probe_result result;
	} last;
};

/* turned: called at the end of each turn, when all that happened has been told. */
struct probe_io *probe_io_new(
    struct event_base *, const struct config *, void (*turned)(void *), void *arg);
void probe_io_free(struct probe_io *); /* no line may be left */
/* CLOCK_MONOTONIC, read once a turn; this begins one. */
int64_t probe_io_now(struct probe_io *);

/* target: where it is now; outlives the line.  host: for Host and :authority, copied. */
struct probe_line *probe_line_new(struct probe_io *, const struct target *, const char *host);
/* Probes under way end without done(). */
void probe_line_free(struct probe_line *);
/* Its addresses have changed: what is kept is let go. */
void probe_line_moved(struct probe_line *);

/* Would a probe need another connection only because another probe is under way on the one there
 * is? */
bool probe_line_busy(const struct probe_line *);
void probe_begin(struct probe *, struct probe_line *, const struct probe_config *);
/* Its time is over: ends it with done(). */
void probe_expire(struct probe *);
/* Of one that is not under way: frees what it remembers. */
void probe_fini(struct probe *);

#endif
