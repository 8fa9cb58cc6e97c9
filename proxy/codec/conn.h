/*
 * A connection: a transport, a codec, and the bytes between them.
 *
 *   transport --read--> in (one contiguous chunk) --codec->input--> events
 *   verbs --> codec --produce--> out --written once per turn--> transport
 *
 * Knows no protocol, no libevent, no OpenSSL.  Reads at most CONN_TURN_BYTES per wake-up so that
 * one peer cannot starve the rest.  Pauses reading by named reasons (a bitmask).  A connection
 * whose output stands above CONN_OUT_HIGH is not read from (PAUSE_OUTPUT, by conn itself): what
 * floods can make it produce stays bounded.
 *
 * Owner: embedded in front_conn or back_conn; freed by its `free` hook from the graves list.
 * One thread.
 */
#ifndef TEAL_CONN_H
#define TEAL_CONN_H

#include "balancer/outcome.h"
#include "proxy/base/buf.h"
#include "proxy/base/turn.h"
#include "proxy/codec/transport.h"

#define CONN_TURN_BYTES  ((size_t)65536)  /* read per wake-up, then the others have their turn */
#define CONN_FLUSH_BYTES ((size_t)262144) /* written per turn, the same */
#define CONN_IN_MAX      ((size_t)131072) /* in_max unless the codec sets another */
#define CONN_OUT_HIGH    ((size_t)65536)  /* produce() stops filling, reading pauses */
#define CONN_OUT_LOW     ((size_t)16384)  /* reading goes on */
#define WARM_CODEC       ((size_t)384)    /* the part of codec_state that each message touches */
#define CONN_LINGER_MS   1000
#define CONN_LINGER_BYTES                                                                          \
	((size_t)16 << 20) /* what an uploader may have on its way before it reads */

enum {
	PAUSE_OUTPUT = 1, /* the output queue is above its mark; front only */
	PAUSE_CREDIT = 2, /* an exchange holds STREAM_CREDIT unconsumed (h1) */
	PAUSE_CODEC = 4,  /* the codec wants no more for now: pipelining, before 101 */
	PAUSE_EOF = 8,    /* the peer has sent FIN */
	PAUSE_CLOSING = 16
};

struct codec_ops {
	/* Takes from the unread input; returns how many bytes were used.  Fewer than n means: paused (a
	 * pause bit is set), or incomplete: call again when more is there (in.p then points at the same
	 * first unused byte, contiguous).  Called with n > 0 only, never while a pause bit but PAUSE_EOF
	 * is set.  When it has set another codec, that one is given what is unused. */
	size_t (*input)(struct conn *, struct slice in);
	/* The peer has sent FIN.  Unused input, if any, will not grow.  Once, and never while paused. */
	void (*eof)(struct conn *);
	/* Output time: append to conn->out what is ready, up to CONN_OUT_HIGH.  Called before each write
	 * of a turn's flush and once more after the last; not after FIN was sent.  May be NULL. */
	void (*produce)(struct conn *);
	/* n bytes of conn->out have gone to the transport.  May be NULL. */
	void (*sent)(struct conn *, size_t n);
	/* Back connections: connect and handshake are done. May be NULL. */
	void (*established)(struct conn *);
	/* The connection is dead (`why`: CLIENT_GONE, CLIENT_SLOW or STOPPED at the front; CONNECT_*,
	 * BACK_TLS_FAILED or BACK_RESET at the back).  Fires closed() on all streams.  The codec must not
	 * touch the transport any more; conn buries itself afterwards.  Not called after conn_close(), nor
	 * when an orderly close had everything out. */
	void (*lost)(struct conn *, enum outcome why);
	/* From the graves list, last: free the codec's own memory.  May be NULL. */
	void (*fini)(struct conn *);
};

#define CONN_MAGIC 0xc0221ec7u

struct conn {
	uint32_t magic;
	struct turn *turn;
	struct transport *transport;   /* NULL once closed */
	const struct codec_ops *codec; /* NULL: not chosen yet (before ALPN or the preface) */
	void *codec_state;
	const void
	    *reader; /* whom the next input will concern, or NULL: only to be fetched ahead */
	struct buf out;
	struct chunk *in;     /* NULL when nothing unread: idle connections hold no chunk */
	size_t in_at, in_end; /* unread part of in->data */
	size_t in_max;        /* largest contiguous unread input; the codec must refuse before */
	unsigned pauses;
	bool established, eof, closing, dead;
	bool front;            /* which side: decides the outcome words */
	bool reading, writing; /* interest as the transport has it */
	bool blocked;          /* IO_AGAIN came and readiness to write not since */
	bool eof_told;         /* codec->eof was called */
	bool shut, shut_done;  /* half-close wanted, done */
	bool in_small;         /* the codec: read into small chunks, what comes may lie for long */
	bool lingering;        /* all is out, FIN is sent; reading away what still comes */
	size_t lingered;       /* bytes read away */
	enum outcome lost_why;
	int64_t send_timeout_ms;   /* nothing written for so long: lost(CLIENT_SLOW, BACK_RESET) */
	struct timeout send_timer; /* also the lingering's */
	struct task run_task, flush_task, grave_task;
	uint64_t bytes_in, bytes_out;
	void (*free)(struct conn *); /* owner's: frees the embedding object, from the graves list */
};

/* `free` is called once, from turn_end(), after the codec's fini. */
void conn_init(struct conn *, struct turn *, struct transport *, void (*free_owner)(struct conn *));

/* --- called by transports ------------------------------------------------ */
void conn_established(struct conn *);
void conn_ready(struct conn *, bool readable, bool writable);
void conn_lost(struct conn *, enum outcome why);

/* --- called by codecs and owners ----------------------------------------- */
void conn_set_codec(struct conn *, const struct codec_ops *, void *state);
void conn_pause(struct conn *, unsigned reason);
/* Unread input is gone on with from the run list, not inside this call. */
void conn_resume(struct conn *, unsigned reason);
/* There is something to produce: flush at the end of the turn. */
void conn_output(struct conn *);
/* Orderly: what is queued and what produce() has yet goes out first (sent() is called for
 * it), then FIN.  Input is discarded.  A front conn lingers, up to CONN_LINGER_MS or _BYTES, so
 * that the answer is not destroyed by a RST (RFC 9112 9.6); a back conn closes at once. */
void conn_close_after_flush(struct conn *);
/* Half-close once the output is out. */
void conn_shutdown_write(struct conn *);
/* Now; no codec callback follows but fini.  The transport is closed with the grave, at the end of
 * the turn.  Idempotent. */
void conn_close(struct conn *, bool abort);
static inline bool
conn_usable(const struct conn *c)
{
	return !c->dead && !c->closing;
}

#endif
