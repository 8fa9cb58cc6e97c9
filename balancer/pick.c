/*
 * Which backend of a pool.  Two ways, the first nearly always enough:
 *
 *   quick    a few array reads: probes into pool->order (or the hash table), at most
 *            PROBES, until one meets a backend that may take the request
 *   search   all members, when the probes met none: most of the pool is down or full, or
 *            it is the backups' turn, or everybody is held down.  Linear, allocates nothing.
 *
 * Request path, any worker.  All that is shared is atomic: what a worker reads may be old by
 * the time it acts, so only count_in() decides, and it never lets in one too many.
 */
#include <assert.h>

#include "balancer/hash.h"
#include "balancer/pick.h"
#include "health/hold.h"

#define PROBES     16u
#define WARM       1000u /* thousandths of its weight a backend counts with */
#define WARM_LEAST 100u

/* --- questions about one backend ------------------------------------------- */

bool
backend_usable(const struct backend *b, int64_t now_ms)
{
	return atomic_load_explicit(&b->state, memory_order_relaxed) == BACKEND_UP &&
	       atomic_load_explicit(&b->held_until_ms, memory_order_relaxed) <= now_ms;
}

static bool
tried(const struct pick_request *rq, const struct backend *b)
{
	for (unsigned i = 0; i < rq->n_tried; i++) {
		if (rq->tried[i] == b)
			return true;
	}
	return false;
}

static uint32_t
inflight(const struct backend *b)
{
	return atomic_load_explicit(&b->inflight, memory_order_relaxed);
}

static bool
full(const struct pool *p, const struct backend *b)
{
	return p->config->max_in_flight != 0 && inflight(b) >= p->config->max_in_flight;
}

/* Slow start: how much of its weight a backend has by now, WARM_LEAST..WARM. */
static unsigned
warmth(const struct pool *p, const struct backend *b, int64_t now_ms)
{
	int64_t whole = p->config->slow_start_ms;

	if (whole <= 0)
		return WARM;
	int64_t since = atomic_load_explicit(&b->up_since_ms, memory_order_relaxed);
	int64_t age = now_ms - since;
	if (since == 0 || age >= whole)
		return WARM;
	if (age <= whole / (WARM / WARM_LEAST))
		return WARM_LEAST;
	return (unsigned)(age * WARM / whole);
}

static uint64_t
weight(const struct pool *p, const struct pick_request *rq, const struct member *m)
{
	return (uint64_t)m->weight * warmth(p, m->backend, rq->now_ms);
}

/* Turns come by configured weight; one who is warming up passes a part of them on. */
static bool
passes(const struct pool *p, const struct pick_request *rq, const struct member *m, uint64_t dice)
{
	unsigned warm = warmth(p, m->backend, rq->now_ms);

	return warm < WARM && hash_mix(dice ^ hash_mix(m->backend->id)) % WARM >= warm;
}

/* The member if it may take the request now, or NULL. */
static const struct member *
probe(const struct pool *p, const struct pick_request *rq, uint32_t index, uint64_t dice)
{
	const struct member *m = &p->members[index];

	if (!backend_usable(m->backend, rq->now_ms) || full(p, m->backend) ||
	    tried(rq, m->backend) || passes(p, rq, m, dice))
		return NULL;
	return m;
}

/* Takes a place; false when the last one has just gone. */
static bool
count_in(const struct pool *p, struct backend *b)
{
	const uint32_t max = p->config->max_in_flight;

	if (max == 0) {
		atomic_fetch_add_explicit(&b->inflight, 1, memory_order_relaxed);
		return true;
	}
	uint32_t n = inflight(b);
	do {
		if (n >= max)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &b->inflight, &n, n + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* --- quick: one function a policy ------------------------------------------ */

/*
 * Compared is inflight / weight; the first one drawn wins a tie.  As they are drawn by
 * weight, an idle pool then shares by weight too ((inflight + 1) / weight would give every
 * tie to the heavier one: weights 1 and 3 would share 1 : 15).
 */
static const struct member *
lighter(const struct pool *p, const struct pick_request *rq, const struct member *a,
    const struct member *b)
{
	if (a == NULL || b == NULL)
		return a == NULL ? b : a;
	return inflight(a->backend) * weight(p, rq, b) <= inflight(b->backend) * weight(p, rq, a)
		   ? a
		   : b;
}

/* One of n, evenly, from 32 random bits (Lemire 2019; the bias is n / 2^32). */
static uint32_t
draw(uint64_t random32, uint32_t n)
{
	return (uint32_t)((random32 * n) >> 32);
}

static const struct member *
quick_least(const struct pool *p, const struct pick_request *rq)
{
	uint64_t random = rq->random;

	for (unsigned i = 0; i < PROBES / 2; i++, random = hash_mix(random)) {
		uint32_t a = p->order[draw(random >> 32, p->n_order)];
		uint32_t b = p->order[draw(random & UINT32_MAX, p->n_order)];
		/* of many backends neither is in the near caches */
		__builtin_prefetch(p->members[b].backend);
		const struct member *m = probe(p, rq, a, random);

		/* the same twice: compare it to any other, or in a pool of two the load would
		 * count every other time only; but only compare: one that takes requests by
		 * being not the first would take them whatever its weight */
		if (a == b && m != NULL && p->n_primary > 1)
			b = (a + 1 + draw(hash_mix(random) >> 32, p->n_primary - 1)) % p->n_primary;
		m = lighter(p, rq, m, probe(p, rq, b, ~random));
		if (m != NULL && count_in(p, m->backend))
			return m;
	}
	return NULL;
}

/* Every turn goes to one request of one worker, so a cycle has each member exactly as often
 * as it weighs; a turn nobody can take is skipped, and the others keep their shares. */
static const struct member *
quick_round_robin(const struct pool *p, const struct pick_request *rq)
{
	for (unsigned i = 0; i < PROBES; i++) {
		uint32_t turn = atomic_fetch_add_explicit(p->turn, 1, memory_order_relaxed);
		const struct member *m =
		    probe(p, rq, p->order[turn % p->n_order], rq->random ^ turn);

		if (m != NULL && count_in(p, m->backend))
			return m;
	}
	return NULL;
}

/* The key alone says who is first, second, third, so its clients move together and come
 * back; the dice of slow start are the key's too. */
static const struct member *
quick_hash(const struct pool *p, const struct pick_request *rq)
{
	uint64_t candidate = rq->key_hash;

	for (unsigned i = 0; i < PROBES; i++, candidate = hash_mix(candidate)) {
		uint32_t index = p->maglev[candidate % p->n_maglev];
		const struct member *m = probe(p, rq, index, rq->key_hash);

		if (m != NULL && count_in(p, m->backend))
			return m;
	}
	return NULL;
}

static const struct member *
quick(const struct pool *p, const struct pick_request *rq)
{
	if (p->n_order == 0)
		return NULL;
	switch (p->config->balance) {
	case BALANCE_LEAST:
		return quick_least(p, rq);
	case BALANCE_ROUND_ROBIN:
		return quick_round_robin(p, rq);
	case BALANCE_HASH:
		return quick_hash(p, rq);
	}
	return NULL;
}

/* --- search ---------------------------------------------------------------- */

struct search {
	const struct member *best;
	uint64_t weight;  /* of best */
	uint64_t lottery; /* sum of the weights that were equally good */
	uint64_t score;   /* of best, BALANCE_HASH */
	uint64_t random;
	bool usable; /* somebody is up */
	bool left;   /* and was not tried yet */
};

/* Of those drawn so far each stays with a chance of its share of the weights. */
static bool
wins_lottery(struct search *s, uint64_t w)
{
	s->random = hash_mix(s->random);
	s->lottery += w;
	return s->random % s->lottery < w;
}

static void
consider(
    struct search *s, const struct pool *p, const struct pick_request *rq, const struct member *m)
{
	uint64_t w = weight(p, rq, m);
	bool better = false;

	switch (p->config->balance) {
	case BALANCE_LEAST: {
		uint64_t mine = s->best == NULL ? 0 : inflight(m->backend) * s->weight;
		uint64_t theirs = s->best == NULL ? 1 : inflight(s->best->backend) * w;

		if (mine < theirs)
			s->lottery = 0;
		better = mine <= theirs && wins_lottery(s, w);
		break;
	}
	case BALANCE_ROUND_ROBIN:
		better = wins_lottery(s, w);
		break;
	case BALANCE_HASH: {
		/* rendezvous (Thaler, Ravishankar 1998): the key's own order of all backends */
		uint64_t score = hash_mix(rq->key_hash ^ hash_mix(m->backend->id));

		better = s->best == NULL || score > s->score;
		if (better)
			s->score = score;
		break;
	}
	}
	if (better) {
		s->best = m;
		s->weight = w;
	}
}

/* Among members [from, to).  NULL: s says why. */
static const struct member *
search(const struct pool *p, const struct pick_request *rq, unsigned from, unsigned to,
    struct search *s)
{
	do {
		*s = (struct search){.random = ~rq->random};
		for (unsigned i = from; i < to; i++) {
			const struct member *m = &p->members[i];

			if (!backend_usable(m->backend, rq->now_ms))
				continue;
			s->usable = true;
			if (tried(rq, m->backend))
				continue;
			s->left = true;
			if (!full(p, m->backend))
				consider(s, p, rq, m);
		}
		/* lost the place to another worker: then that one got on, and this one looks
		 * again */
	} while (s->best != NULL && !count_in(p, s->best->backend));
	return s->best;
}

/* Nobody is usable: those that are up are all held down.  The one whose hold ends first. */
static enum pick_result
search_held(const struct pool *p, const struct pick_request *rq, const struct member **out)
{
	const struct member *best;
	bool left;

	do {
		int64_t soonest = INT64_MAX;

		best = NULL;
		left = false;
		for (unsigned i = 0; i < p->n_members; i++) {
			const struct member *m = &p->members[i];
			struct backend *b = m->backend;
			int64_t until =
			    atomic_load_explicit(&b->held_until_ms, memory_order_relaxed);

			if (atomic_load_explicit(&b->state, memory_order_relaxed) != BACKEND_UP ||
			    tried(rq, b))
				continue;
			left = true;
			if (until < soonest && !full(p, b)) {
				soonest = until;
				best = m;
			}
		}
	} while (best != NULL && !count_in(p, best->backend));
	*out = best;
	if (best != NULL)
		return PICK_OK;
	return left ? PICK_ALL_FULL : PICK_NONE_UP;
}

enum pick_result
pick_member(const struct pool *p, const struct pick_request *rq, const struct member **out)
{
	struct search s;

	assert(rq->n_tried <= PICK_TRIED_MAX);
	*out = quick(p, rq);
	if (*out != NULL)
		return PICK_OK;
	*out = search(p, rq, 0, p->n_primary, &s);
	if (*out == NULL && !s.usable)
		*out = search(p, rq, p->n_primary, p->n_members, &s);
	if (*out != NULL)
		return PICK_OK;
	if (s.usable)
		return s.left ? PICK_ALL_FULL : PICK_NONE_UP;
	return search_held(p, rq, out);
}

void
pick_release(struct backend *b)
{
	uint32_t before = atomic_fetch_sub_explicit(&b->inflight, 1, memory_order_relaxed);

	assert(before != 0);
	(void)before; /* with NDEBUG */
}

/* --- passive hold-down ----------------------------------------------------- */

void
backend_connected(struct backend *b)
{
	/* read first: the line is shared, and there is nearly always nothing to clear */
	if (atomic_load_explicit(&b->connect_failures, memory_order_relaxed) != 0)
		atomic_store_explicit(&b->connect_failures, 0, memory_order_relaxed);
	/* an ejection is about its answers: that it can be connected to does not end it
	 * (eject.h) */
	int64_t ejected = atomic_load_explicit(&b->ejected_until_ms, memory_order_relaxed);
	if (atomic_load_explicit(&b->held_until_ms, memory_order_relaxed) != ejected)
		atomic_store_explicit(&b->held_until_ms, ejected, memory_order_relaxed);
}

void
backend_connect_failed(struct backend *b, const struct pool_config *config, int64_t now_ms)
{
	int64_t held = atomic_load_explicit(&b->held_until_ms, memory_order_relaxed);
	int64_t until;

	do {
		if (held > now_ms)
			return; /* somebody else's failure began this hold already */
		uint32_t before = atomic_load_explicit(&b->connect_failures, memory_order_relaxed);
		until = hold_until(now_ms, config->hold_down_ms, before);
	} while (!atomic_compare_exchange_weak_explicit(
	    &b->held_until_ms, &held, until, memory_order_relaxed, memory_order_relaxed));
	atomic_fetch_add_explicit(&b->connect_failures, 1, memory_order_relaxed);
}
