/*
 * The client's connection: what the exchange may know of it, and how a codec hands over a request.
 *
 * front_begin() chooses the codec: by ALPN with TLS, by preface without (RFC 9113 3.3: prior knowledge).
 * Owner: the worker that accepted it; counted there until `gone`.
 */
#ifndef TEAL_FRONT_H
#define TEAL_FRONT_H

#include <netinet/in.h>

#include "balancer/rate.h"
#include "config/config.h"
#include "proxy/codec/conn.h"
#include "proxy/message/stream.h"

struct front_conn;

struct front_handler {
	/* A complete, valid request head.  `end`: no body.  The handler sets stream->events and ->user before it returns;
	 * it may call verbs at once. head lives in stream->arena. */
	void (*request)(struct front_conn *, struct stream *, struct head *, bool end);
	/* A request that is refused before it is one: `why` has the status. The head holds what was understood (method, path, authority may be
	 * empty).  Same duties as request(): the handler answers by verbs. The codec closes the h1 connection after the answer. */
	void (*refused)(
	    struct front_conn *, struct stream *, struct head *partial, enum outcome why);
	/* The connection is gone; called once, from the graves list, before it is freed. */
	void (*gone)(struct front_conn *);
};

#define FRONT_MAGIC 0xf2027c02u

struct front_conn {
	struct conn conn; /* first */
	uint32_t magic;
	const struct front_handler *handler;
	const struct front_limits *limits;
	const struct front_timeouts *timeouts;
	uint8_t address[16]; /* client, v4 mapped; after PROXY */
	uint16_t port;
	char address_text[INET6_ADDRSTRLEN];
	bool tls;
	bool h2;
	bool draining;      /* no new requests: h1 closes after this one, h2 sent GOAWAY */
	bool resumed;       /* a TLS session was; set by front.c */
	bool glitched;      /* the budget of useless work was spent; set by front_glitch() */
	unsigned n_streams; /* requests under way */
	size_t queued;      /* the exchanges': body bytes given to its streams and not drained */
	bool pressed; /* that stood above limits->queued_bytes, and still does above half of it */
	struct budget glitches;            /* useless work, see front_glitch() */
	struct timeout timer;              /* the codec's: header, idle, drain, as its state says */
	void *owner;                       /* the worker's */
	void (*free_owner)(struct conn *); /* after `gone` */
};

/* Fills the struct (zeroed before by the caller, address etc. set after); the transport has not been started. */
void front_init(struct front_conn *, struct turn *, struct transport *,
    const struct front_handler *, const struct front_limits *, const struct front_timeouts *,
    void (*free_owner)(struct conn *));
/* Starts the transport; from here on everything comes as events.  The TLS handshake has its timeout. */
void front_begin(struct front_conn *);
/* Stop taking requests: h2 GOAWAY(2^31-1, NO_ERROR), after a PING ack or 1 s GOAWAY(last id); h1: Connection: close on the next answer, idle ones
 * close now.  The connection closes when its last stream ends. */
void front_drain(struct front_conn *);
/* Takes n of the connection's budget of useless work (bad or empty frames, resets by either side, control frames without purpose, tiny chunks).
 * false: the budget is spent, the codec must end the connection (h2: ENHANCE_YOUR_CALM). *graceful is set at three quarters. */
bool front_glitch(struct front_conn *, unsigned n, bool *graceful);

/* The two codecs: take over the conn (conn_set_codec). */
void front_h1_begin(struct front_conn *);
void front_h2_begin(struct front_conn *);
/* Behind front_drain(): `draining` is set, the codec has begun. */
void front_h1_drain(struct front_conn *);
void front_h2_drain(struct front_conn *);

#endif
