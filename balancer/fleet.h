/*
 * The fleet: live service > color > backend, as the request path sees it.
 *
 * Two kinds of data, and the difference is the point:
 *   - struct fleet, service, pool, member: an immutable snapshot.  Control makes a
 *     new one when backends come, go or resolve anew; workers adopt it between
 *     events; an exchange keeps the one it began with.
 *   - struct service_state, struct backend: identity.  They outlive snapshots and
 *     hold what happens, in atomics (C11, relaxed unless said otherwise).
 *
 * Who may write: `course`: control, and, downwards only, whoever trips (guard.h), both by
 * compare-and-swap; `wealth`: control sets it when a guard begins and adds new stakes, any worker
 * adds; `up_since_ms`: control, and a worker whose connect ended a hold; counts, holds, ejections,
 * `sequence`, `turn`, `rescued`: any worker; the rest: control.  README.md has it row by row.
 */
#ifndef TEAL_FLEET_H
#define TEAL_FLEET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "balancer/budget.h"
#include "config/config.h"

struct tally;

#define N_RATIOS 3 /* of failure rates the relative rule bets on, see verdict.h */

enum backend_state { BACKEND_STARTING, BACKEND_UP, BACKEND_DRAINING, BACKEND_DOWN };
const char *backend_state_name(enum backend_state);

/* One address of one pool, for as long as any snapshot names it.  Reference counted by
 * control (`refs` is touched by the control thread only). */
struct backend {
	char *name;  /* the address as the user wrote it */
	unsigned id; /* small and dense; workers index their pools by it */
	enum color color;
	unsigned refs;
	_Atomic int state;                 /* enum backend_state */
	_Atomic uint32_t inflight;         /* exchanges and tunnels, all workers */
	_Atomic uint32_t connections;      /* open or connecting, all workers */
	_Atomic int64_t held_until_ms;     /* passive hold-down: no new request before this */
	_Atomic uint32_t connect_failures; /* in a row */
	_Atomic uint32_t failed_in_a_row;  /* exchanges, any worker; 0 after one that went well */
	_Atomic uint32_t ejections;        /* in a row: the next hold is longer */
	_Atomic int64_t
	    ejected_until_ms;        /* the part of the hold that is an ejection, see eject.h */
	_Atomic int64_t up_since_ms; /* slow start counts from here; 0 = long ago */
	_Atomic uint64_t requests, failures; /* counters for status and metrics */
};

/* A backend's place in one snapshot's pool. */
struct member {
	struct backend *backend;
	const void *addresses; /* proxy's: where to connect; pure code passes it on */
	unsigned weight;       /* 1..256 */
	bool backup;
};

struct pool {
	const struct pool_config *config;
	enum color color;
	struct member *members;
	unsigned n_members;
	unsigned n_primary; /* members that are no backup; they come first */
	/* tables computed once per snapshot by pool_prepare(), see pick.h */
	uint32_t *order; /* primary member indices, each weight / gcd times, spread */
	unsigned n_order;
	uint32_t *maglev; /* consistent hash table, only for BALANCE_HASH */
	unsigned n_maglev;
	_Atomic uint32_t *turn; /* the pool's round-robin counter; identity, not snapshot */
};

/* What happens to a service; identity, one per service name. */
struct service_state {
	_Atomic uint32_t
	    course; /* who is live and the candidate's weight: one word, see course_of() */
	_Atomic bool maintenance;
	_Atomic uint64_t epoch;        /* grows with every change; --if-epoch */
	_Atomic uint64_t sequence;     /* the split's position: one for all workers */
	_Atomic uint64_t split_key[2]; /* SipHash key of the buckets; new with every rollout */
	_Atomic uint32_t turn[N_COLORS];
	_Atomic uint32_t waiting[N_COLORS];          /* exchanges queued, all workers */
	_Atomic uint64_t retries_ok, retries_failed; /* exchanges that took more than one try */
	/* The guard's, see guard.h. */
	_Atomic int64_t
	    guarded_since_ms; /* the candidate has had weight since then; 0: it has none */
	_Atomic uint64_t
	    weight_base[N_COLORS]; /* requests each color had seen when the weight was last set */
	_Atomic int64_t wealth[N_RATIOS]; /* logarithms of the test martingale, fixed point */
	uint32_t stakes[N_RATIOS];        /* control's: how often each was given a new stake */
	struct rescue_budget rescued;     /* rescues of the last minute */
	_Atomic uint64_t rescues_ok, rescues_failed; /* by what the client got */
	_Atomic uint64_t rescues_refused;            /* the budget was used up */
	struct tally *tally[N_COLORS];
};

struct service {
	const struct service_config *config;
	struct service_state *state;
	unsigned index; /* in fleet->services */
	struct pool pools[N_COLORS];
};

struct route_table;

struct fleet {
	const struct config *config;
	struct service *services;
	unsigned n_services;
	struct route_table *routes;
};

/* Computes order and maglev from members (primary first; the caller sorted them) in time and
 * memory of the sum of their weights and of the hash table.  0, or -1 when out of memory. */
int pool_prepare(struct pool *);
void pool_fini(struct pool *); /* frees the tables, not the members */

/*
 * Live color and weight are one word, so that no request ever sees one half of a flip.
 * weight_bp: the candidate's share of new requests, 0..10,000.  A tripped course has weight 0
 * until control re-arms it.
 */
#define COURSE_TRIPPED (1u << 17)
static inline uint32_t
course_of(enum color live, uint32_t weight_bp)
{
	return (uint32_t)live << 16 | weight_bp;
}
static inline enum color
course_live(uint32_t course)
{
	return (enum color)(course >> 16 & 1);
}
static inline bool
course_tripped(uint32_t course)
{
	return (course & COURSE_TRIPPED) != 0;
}
static inline uint32_t
course_weight(uint32_t course)
{
	return course & 0xffff;
}
static inline uint32_t
service_course(const struct service_state *s)
{
	return atomic_load_explicit(&s->course, memory_order_relaxed);
}
static inline enum color
service_live(const struct service *s)
{
	return course_live(service_course(s->state));
}
static inline enum color
service_candidate(const struct service *s)
{
	return color_other(service_live(s));
}
static inline uint32_t
service_weight(const struct service *s)
{
	return course_weight(service_course(s->state));
}

#endif
