/*
 * What a worker gives its exchanges: the time, the fleet, the pools of connections, randomness,
 * counters, the log.  One per worker, embedded in it; the exchange shelf knows the worker only as
 * this.
 */
#ifndef TEAL_ENGINE_H
#define TEAL_ENGINE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "balancer/fleet.h"
#include "balancer/hash.h"
#include "balancer/outcome.h"
#include "balancer/rate.h"
#include "proxy/base/buf.h"
#include "proxy/base/ring.h"
#include "proxy/base/turn.h"
#include "proxy/message/http.h"

struct event_base;
struct tls_client;
struct back_group;
struct exchange;
struct front_conn;
struct verdict;
TAILQ_HEAD(exchange_list, exchange);

/* Where a member's connections go; member->addresses points to one.  Immutable, part of a
 * snapshot. */
#define TARGET_ADDRESSES 8
struct target {
	const struct service_config *service;
	const struct pool_config *pool;
	const char *host;       /* for SNI and verification; "" for unix sockets */
	struct tls_client *tls; /* NULL: clear text */
	unsigned
	    generation; /* grows when the name resolves anew: connections to where it was are let go */
	unsigned n;     /* 0: the name could not be resolved */
	struct {
		struct sockaddr_storage address;
		socklen_t length;
	} at[TARGET_ADDRESSES];
};

/* A fleet as one worker holds it: an exchange keeps the one its backend was picked from until it
 * needs another backend. */
struct fleet_ref {
	const struct fleet *fleet;
	unsigned refs; /* exchanges, + 1 while current; this worker's thread only */
	void (*release)(struct fleet_ref *);
};

/* Written by one worker, read by control: plain atomic loads and stores. */
struct counters {
	_Atomic uint64_t outcomes[N_OUTCOMES];
	_Atomic uint64_t rate_limited;
};
static inline void
count(_Atomic uint64_t *c)
{
	atomic_store_explicit(
	    c, atomic_load_explicit(c, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* The exchanges of one pool that wait because every backend is full. */
struct wait_queue {
	struct exchange_list list;
	struct engine *engine;
	_Atomic uint32_t *waiting; /* the pool's count over all workers */
	struct timeout timer;      /* looks again: a place may have been freed on another worker */
	struct task task;          /* looks again at the end of this turn */
};

struct crowd;

struct engine {
	struct turn *turn;
	unsigned index;     /* of the worker */
	unsigned n_workers; /* that pace what is closed between them; 0 counts as 1 */
	const struct config *config;
	struct event_base *base; /* for connecting; the exchange shelf only passes it on */
	struct fleet_ref *fleet;
	struct random random;
	struct rate_table *rates;   /* shared by all workers */
	struct back_group **groups; /* by backend id; NULL: never used here */
	unsigned n_groups;
	struct wait_queue *queues; /* service index * N_COLORS + color */
	struct crowd *crowds;      /* by service index */
	struct slab exchanges;
	struct fields scratch; /* response fields while they are rewritten */
	struct arena scratch_arena;
	struct ring *access; /* NULL: access log off */
	enum log_format access_format;
	char *line;         /* RING_LINE_MAX bytes to format into */
	char wall_text[40]; /* of wall_second */
	int64_t wall_second;
	struct counters counters;
	const char *const *maintenance_pages; /* by service index: page text or NULL */
	unsigned n_exchanges;                 /* under way */
	/* The worker's; NULL in tests that do not look. */
	void (*client_gone)(struct engine *, struct front_conn *);
	/* A candidate's exchange failed while the guard watches (for the evidence); called before
	 * tripped(). x->color is still the candidate's. */
	void (*failed)(struct engine *, const struct exchange *, enum outcome);
	/* This worker took the weight from the service's candidate, at this verdict. */
	void (*tripped)(struct engine *, const struct service *, const struct verdict *);
};

#endif
