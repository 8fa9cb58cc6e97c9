/*
 * Who gets the request: shares with bounds, places never given twice, what happens when most
 * of a pool is gone, and that hashing moves as few clients as it may.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/hash.h"
#include "balancer/pick.h"

#define NOW INT64_C(1000000)

struct world {
	struct pool_config config;
	struct pool pool;
	struct member *members;
	struct backend *backends;
	_Atomic uint32_t turn;
	struct random random;
};

/* n primaries with these weights (NULL: all 1), then n_backups; all are up. */
static struct world *
world_new(enum balance_by balance, unsigned n, const unsigned *weights, unsigned n_backups)
{
	struct world *w = calloc(1, sizeof *w);
	unsigned all = n + n_backups;

	w->config.balance = balance;
	w->config.hold_down_ms = 1000;
	w->members = calloc(all + !all, sizeof *w->members);
	w->backends = calloc(all + !all, sizeof *w->backends);
	for (unsigned i = 0; i < all; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "192.0.2.%u:%u", i % 250, 8000 + i / 250);
		w->backends[i].name = strdup(name);
		w->backends[i].id = i;
		w->backends[i].state = BACKEND_UP;
		w->members[i] = (struct member){.backend = &w->backends[i],
		    .weight = weights != NULL && i < n ? weights[i] : 1,
		    .backup = i >= n};
	}
	w->pool = (struct pool){.config = &w->config,
	    .members = w->members,
	    .n_members = all,
	    .n_primary = n,
	    .turn = &w->turn};
	random_seed(&w->random, 1);
	assert_int_equal(pool_prepare(&w->pool), 0);
	return w;
}

static void
world_free(struct world *w)
{
	for (unsigned i = 0; i < w->pool.n_members; i++)
		free(w->backends[i].name);
	pool_fini(&w->pool);
	free(w->members);
	free(w->backends);
	free(w);
}

static struct pick_request
request(struct world *w)
{
	return (struct pick_request){
	    .now_ms = NOW, .random = random_next(&w->random), .key_hash = random_next(&w->random)};
}

#define NONE_UP  (-1)
#define ALL_FULL (-2)

/* The index of the picked, counted in, or why none. */
static int
pick(struct world *w, const struct pick_request *rq)
{
	const struct member *m = (const struct member *)w;
	uint32_t before = 0;

	switch (pick_member(&w->pool, rq, &m)) {
	case PICK_OK:
		before = m->backend->inflight;
		assert_true(before > 0);
		return (int)(m->backend - w->backends);
	case PICK_NONE_UP:
		assert_null(m);
		return NONE_UP;
	case PICK_ALL_FULL:
		assert_null(m);
		return ALL_FULL;
	}
	return -3;
}

static int
pick_any(struct world *w)
{
	struct pick_request rq = request(w);

	return pick(w, &rq);
}

/* One that ends before the next begins. */
static int
pick_briefly(struct world *w)
{
	int i = pick_any(w);

	if (i >= 0)
		pick_release(&w->backends[i]);
	return i;
}

static int
pick_key(struct world *w, uint64_t key)
{
	struct pick_request rq = request(w);
	int i;

	rq.key_hash = hash_mix(key);
	i = pick(w, &rq);
	if (i >= 0)
		pick_release(&w->backends[i]);
	return i;
}

static const enum balance_by policies[] = {BALANCE_LEAST, BALANCE_ROUND_ROBIN, BALANCE_HASH};

/* --- shares ---------------------------------------------------------------- */

static void
assert_shares(const unsigned *counts, const unsigned *weights, unsigned n, double tolerance)
{
	double sum = 0, all = 0;

	for (unsigned i = 0; i < n; i++) {
		sum += counts[i];
		all += weights == NULL ? 1 : weights[i];
	}
	for (unsigned i = 0; i < n; i++) {
		double expected = sum * (weights == NULL ? 1 : weights[i]) / all;
		double off = counts[i] > expected ? counts[i] - expected : expected - counts[i];

		if (off > expected * tolerance)
			fail_msg("member %u has %u, not %.0f +/- %.0f %%", i, counts[i], expected,
			    tolerance * 100);
	}
}

/* An idle pool shares by weight, with every policy. */
static void
idle_shares(void **state)
{
	static const unsigned sets[][6] = {
	    {1, 1, 1, 1, 1, 1}, {1, 3, 0}, {1, 2, 3, 4, 5, 6}, {256, 1, 100, 0}, {7, 7, 0}, {9, 0}};

	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		for (unsigned s = 0; s < 6; s++) {
			unsigned n = 0, counts[6] = {0};

			while (n < 6 && sets[s][n] != 0)
				n++;
			struct world *w = world_new(policies[p], n, sets[s], 0);
			for (unsigned i = 0; i < 360000; i++)
				counts[pick_briefly(w)]++;
			/* four standard deviations of the rarest, 1 of 357; Maglev is a little
			 * uneven by itself */
			assert_shares(counts, sets[s], n, sets[s][0] == 256 ? 0.2 : 0.06);
			world_free(w);
		}
	}
}

/* A busy one has requests under way by weight, whatever ends when. */
static void
busy_shares(void **state)
{
	static const unsigned weights[] = {1, 2, 4, 8, 1, 2, 4, 8, 5, 5};
	struct world *w = world_new(BALANCE_LEAST, 10, weights, 0);
	unsigned counts[10];

	(void)state;
	for (unsigned i = 0; i < 4000; i++)
		assert_true(pick_any(w) >= 0);
	for (unsigned i = 0; i < 10; i++)
		counts[i] = w->backends[i].inflight;
	assert_shares(counts, weights, 10, 0.10);
	world_free(w);
}

/* Of two, always the one with less to do. */
static void
least_of_two(void **state)
{
	struct world *w = world_new(BALANCE_LEAST, 2, NULL, 0);

	(void)state;
	w->backends[0].inflight = 5;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(pick_any(w), 1);
	for (unsigned i = 0; i < 100; i++)
		(void)pick_any(w);
	assert_int_equal(w->backends[0].inflight + w->backends[1].inflight, 110);
	assert_int_equal(w->backends[0].inflight, 55);
	world_free(w);
}

/* A slow backend of many is avoided: two choices, not one. */
static void
busy_is_avoided(void **state)
{
	struct world *w = world_new(BALANCE_LEAST, 10, NULL, 0);
	unsigned hits = 0;

	(void)state;
	w->backends[3].inflight = 100;
	for (unsigned i = 0; i < 10000; i++)
		hits += pick_briefly(w) == 3;
	/* never first of two different ones */
	assert_int_equal(hits, 0);
	world_free(w);
}

/* --- round robin ----------------------------------------------------------- */

static void
turns_are_exact(void **state)
{
	static const unsigned weights[] = {5, 1, 3, 1, 10};
	struct world *w = world_new(BALANCE_ROUND_ROBIN, 5, weights, 0);

	(void)state;
	assert_int_equal(w->pool.n_order, 20);
	for (unsigned cycle = 0; cycle < 100; cycle++) {
		unsigned counts[5] = {0};

		for (unsigned i = 0; i < 20; i++)
			counts[pick_briefly(w)]++;
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(counts[i], weights[i]);
	}
	world_free(w);
}

/* Spread, not in blocks: any part of a cycle has all members within 3 turns of their share. */
static void
assert_spread(const struct pool *p)
{
	double *counts = calloc(p->n_primary, sizeof *counts);

	for (unsigned first = 0; first < p->n_order; first++) {
		memset(counts, 0, p->n_primary * sizeof *counts);
		for (unsigned n = 1; n <= p->n_order; n++) {
			counts[p->order[(first + n - 1) % p->n_order]]++;
			for (unsigned i = 0; i < p->n_primary; i++) {
				double share = (double)p->members[i].weight / p->n_order;

				assert_true(counts[i] < n * share + 3);
				assert_true(counts[i] > n * share - 3);
			}
		}
	}
	free(counts);
}

static void
turns_are_spread(void **state)
{
	static const unsigned mixed[] = {50, 1, 30, 100, 7, 12};
	unsigned one_heavy[51] = {50};

	(void)state;
	struct world *w = world_new(BALANCE_ROUND_ROBIN, 6, mixed, 0);
	assert_int_equal(w->pool.n_order, 200);
	assert_spread(&w->pool);
	world_free(w);

	for (unsigned i = 1; i < 51; i++)
		one_heavy[i] = 1;
	w = world_new(BALANCE_ROUND_ROBIN, 51, one_heavy, 0);
	assert_int_equal(w->pool.n_order, 100);
	assert_spread(&w->pool);
	world_free(w);
}

static void
order_is_reduced(void **state)
{
	static const unsigned weights[] = {256, 128, 64};
	struct world *w = world_new(BALANCE_ROUND_ROBIN, 3, weights, 0);

	(void)state;
	assert_int_equal(w->pool.n_order, 7);
	world_free(w);
	w = world_new(BALANCE_ROUND_ROBIN, 0, NULL, 0);
	assert_int_equal(w->pool.n_order, 0);
	world_free(w);
}

/* Whose turn it is when he is down: the others keep their shares among them. */
static void
skipped_turns(void **state)
{
	static const unsigned weights[] = {4, 1, 2, 3}, left[] = {4, 2, 3};
	struct world *w = world_new(BALANCE_ROUND_ROBIN, 4, weights, 0);
	unsigned counts[4] = {0};

	(void)state;
	w->backends[1].state = BACKEND_DOWN;
	for (unsigned i = 0; i < 9000; i++)
		counts[pick_briefly(w)]++;
	assert_int_equal(counts[1], 0);
	counts[1] = counts[2];
	counts[2] = counts[3];
	assert_int_equal(counts[0] / 10 * 10, 4000);
	assert_shares(counts, left, 3, 0.001);
	world_free(w);
}

/* --- threads --------------------------------------------------------------- */

enum { THREADS = 4 };

struct picker {
	pthread_t thread;
	struct world *world;
	uint64_t seed;
	unsigned n, full, too_many;
	unsigned counts[8];
	bool keep;
};

static void *
pick_much(void *arg)
{
	struct picker *me = arg;
	struct world *w = me->world;
	struct random random;

	random_seed(&random, me->seed);
	for (unsigned i = 0; i < me->n; i++) {
		struct pick_request rq = {.now_ms = NOW,
		    .random = random_next(&random),
		    .key_hash = random_next(&random)};
		const struct member *m;

		if (pick_member(&w->pool, &rq, &m) != PICK_OK) {
			me->full++;
			continue;
		}
		me->counts[m->backend - w->backends]++;
		if (w->config.max_in_flight != 0)
			me->too_many += m->backend->inflight > w->config.max_in_flight;
		if (!me->keep)
			pick_release(m->backend);
	}
	return NULL;
}

static void
run_pickers(struct picker *pickers, struct world *w, unsigned n, bool keep)
{
	for (unsigned i = 0; i < THREADS; i++) {
		pickers[i] = (struct picker){.world = w, .seed = i, .n = n, .keep = keep};
		assert_int_equal(
		    pthread_create(&pickers[i].thread, NULL, pick_much, &pickers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(pickers[i].thread, NULL), 0);
}

static void
turns_are_exact_over_threads(void **state)
{
	static const unsigned weights[] = {5, 1, 3, 1, 10};
	struct world *w = world_new(BALANCE_ROUND_ROBIN, 5, weights, 0);
	struct picker pickers[THREADS];

	(void)state;
	run_pickers(pickers, w, 50000, false);
	for (unsigned k = 0; k < 5; k++) {
		unsigned count = 0;

		for (unsigned i = 0; i < THREADS; i++)
			count += pickers[i].counts[k];
		assert_int_equal(count, 50000 * THREADS / 20 * weights[k]);
	}
	world_free(w);
}

/* The places are taken to the last one, and none twice. */
static void
places_are_exact_over_threads(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		for (unsigned round = 0; round < 10; round++) {
			struct world *w = world_new(policies[p], 5, NULL, 0);
			struct picker pickers[THREADS];
			unsigned taken = 0;

			w->config.max_in_flight = 1000;
			run_pickers(pickers, w, 2000, true);
			for (unsigned k = 0; k < 5; k++)
				assert_int_equal(w->backends[k].inflight, 1000);
			for (unsigned i = 0; i < THREADS; i++) {
				taken += 2000 - pickers[i].full;
				assert_int_equal(pickers[i].too_many, 0);
			}
			assert_int_equal(taken, 5000);
			world_free(w);
		}
	}
}

static void
places_come_and_go_over_threads(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 2, NULL, 0);
		struct picker pickers[THREADS];

		w->config.max_in_flight = 1;
		run_pickers(pickers, w, 50000, false);
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pickers[i].too_many, 0);
		assert_int_equal(w->backends[0].inflight, 0);
		assert_int_equal(w->backends[1].inflight, 0);
		world_free(w);
	}
}

/* --- limits, states, tries ------------------------------------------------- */

static void
full_then_free(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 3, NULL, 0);

		w->config.max_in_flight = 2;
		for (unsigned i = 0; i < 6; i++)
			assert_true(pick_any(w) >= 0);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(w->backends[i].inflight, 2);
		assert_int_equal(pick_any(w), ALL_FULL);
		pick_release(&w->backends[1]);
		assert_int_equal(pick_any(w), 1);
		assert_int_equal(pick_any(w), ALL_FULL);
		/* full and down is down */
		for (unsigned i = 0; i < 3; i++)
			w->backends[i].state = BACKEND_DOWN;
		assert_int_equal(pick_any(w), NONE_UP);
		world_free(w);
	}
}

static void
only_up_is_picked(void **state)
{
	static const enum backend_state others[] = {
	    BACKEND_STARTING, BACKEND_DRAINING, BACKEND_DOWN};

	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 4, NULL, 0);

		for (unsigned i = 0; i < 3; i++)
			w->backends[i].state = others[i];
		for (unsigned i = 0; i < 1000; i++)
			assert_int_equal(pick_briefly(w), 3);
		w->backends[3].state = BACKEND_STARTING;
		assert_int_equal(pick_any(w), NONE_UP);
		world_free(w);
	}
}

static void
tried_are_avoided(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 8, NULL, 0);

		for (unsigned round = 0; round < 200; round++) {
			struct pick_request rq = request(w);
			unsigned seen = 0;

			for (unsigned n = 0; n < 8; n++) {
				int i = pick(w, &rq);

				assert_true(i >= 0);
				pick_release(&w->backends[i]);
				assert_int_equal(seen & 1u << i, 0);
				seen |= 1u << i;
				rq.tried[rq.n_tried++] = &w->backends[i];
			}
			assert_int_equal(seen, 255);
			assert_int_equal(pick(w, &rq), NONE_UP);
		}
		/* the one left is full: wait for it */
		w->config.max_in_flight = 1;
		w->backends[7].inflight = 1;
		struct pick_request rq = request(w);
		for (unsigned i = 0; i < 7; i++)
			rq.tried[rq.n_tried++] = &w->backends[i];
		assert_int_equal(pick(w, &rq), ALL_FULL);
		world_free(w);
	}
}

static void
empty_pool(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 0, NULL, 0);

		assert_int_equal(pick_any(w), NONE_UP);
		world_free(w);
	}
}

/* 9,999 of 10,000 are down, full or tried out. */
static void
nearly_all_down(void **state)
{
	enum { N = 10000 };

	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], N, NULL, 0);

		for (unsigned i = 0; i < N; i++)
			w->backends[i].state = i == 6543 ? BACKEND_UP : BACKEND_DOWN;
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(pick_briefly(w), 6543);
		w->config.max_in_flight = 1;
		for (unsigned i = 0; i < N; i++) {
			w->backends[i].state = BACKEND_UP;
			w->backends[i].inflight = i != 6543;
		}
		assert_int_equal(pick_any(w), 6543);
		assert_int_equal(pick_any(w), ALL_FULL);
		world_free(w);
	}
}

/* When the probes fail and all are searched, the shares are still the weights'. */
static void
search_shares(void **state)
{
	enum { N = 1000 };
	static const unsigned weights[] = {1, 2, 3};

	(void)state;
	for (unsigned p = 0; p < 2; p++) {
		struct world *w = world_new(policies[p], N, NULL, 0);
		unsigned counts[3] = {0};

		pool_fini(&w->pool);
		for (unsigned i = 0; i < N; i++)
			w->backends[i].state = BACKEND_DOWN;
		for (unsigned i = 0; i < 3; i++) {
			w->backends[i].state = BACKEND_UP;
			w->members[i].weight = weights[i];
		}
		assert_int_equal(pool_prepare(&w->pool), 0);
		for (unsigned i = 0; i < 12000; i++)
			counts[pick_briefly(w)]++;
		assert_shares(counts, weights, 3, 0.08);
		world_free(w);
	}
}

static void
search_finds_the_least(void **state)
{
	enum { N = 1000 };
	struct world *w = world_new(BALANCE_LEAST, N, NULL, 0);

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		w->backends[i].state = i % 250 == 0 ? BACKEND_UP : BACKEND_DOWN;
		w->backends[i].inflight = 4;
	}
	w->backends[500].inflight = 3;
	for (unsigned i = 0; i < 20; i++) {
		uint32_t before = w->backends[500].inflight;

		/* two draws of a thousand nearly never meet one that is up */
		if (pick_briefly(w) == 500)
			assert_int_equal(w->backends[500].inflight, before);
	}
	unsigned hits = 0;
	for (unsigned i = 0; i < 1000; i++)
		hits += pick_briefly(w) == 500;
	assert_true(hits > 900);
	world_free(w);
}

/* --- backups --------------------------------------------------------------- */

static void
backups(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 2, NULL, 2);
		unsigned seen[4] = {0};

		for (unsigned i = 0; i < 500; i++)
			assert_true(pick_briefly(w) < 2);
		/* full primaries do not wake them */
		w->config.max_in_flight = 1;
		w->backends[0].inflight = w->backends[1].inflight = 1;
		assert_int_equal(pick_any(w), ALL_FULL);
		w->backends[0].inflight = w->backends[1].inflight = 0;
		/* nor one that was tried and is up */
		struct pick_request rq = request(w);
		rq.tried[0] = &w->backends[0];
		rq.tried[1] = &w->backends[1];
		rq.n_tried = 2;
		assert_int_equal(pick(w, &rq), NONE_UP);
		/* down ones and held ones do */
		w->backends[0].state = BACKEND_DOWN;
		w->backends[1].held_until_ms = NOW + 1;
		for (unsigned i = 0; i < 500; i++)
			seen[pick_briefly(w)]++;
		assert_int_equal(seen[0] + seen[1], 0);
		assert_true(seen[2] > 100 && seen[3] > 100);
		w->backends[2].inflight = w->backends[3].inflight = 1;
		assert_int_equal(pick_any(w), ALL_FULL);
		w->backends[1].held_until_ms = NOW;
		assert_int_equal(pick_any(w), 1);
		world_free(w);
	}
}

static void
only_backups(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 0, NULL, 2);

		for (unsigned i = 0; i < 10; i++)
			assert_true(pick_briefly(w) >= 0);
		world_free(w);
	}
}

/* --- passive hold-down ----------------------------------------------------- */

static void
holds_double(void **state)
{
	static const int64_t holds[] = {1000, 2000, 4000, 8000, 16000, 32000, 32000, 32000};
	const struct pool_config config = {.hold_down_ms = 1000};
	struct backend b = {.state = BACKEND_UP};
	int64_t now = NOW;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		assert_true(backend_usable(&b, now));
		backend_connect_failed(&b, &config, now);
		assert_int_equal(b.held_until_ms, now + holds[i]);
		/* the other connects that were under way fail too */
		backend_connect_failed(&b, &config, now);
		backend_connect_failed(&b, &config, now + holds[i] - 1);
		assert_int_equal(b.held_until_ms, now + holds[i]);
		assert_int_equal(b.connect_failures, i + 1);
		assert_false(backend_usable(&b, now));
		assert_false(backend_usable(&b, now + holds[i] - 1));
		assert_true(backend_usable(&b, now + holds[i]));
		now += holds[i] + 5;
	}
	/* a success clears all of it */
	backend_connect_failed(&b, &config, now);
	backend_connected(&b);
	assert_true(backend_usable(&b, now));
	assert_int_equal(b.connect_failures, 0);
	backend_connect_failed(&b, &config, now);
	assert_int_equal(b.held_until_ms, now + 1000);
	/* a hold does not make a backend that is down usable */
	b.state = BACKEND_DOWN;
	assert_false(backend_usable(&b, now + 5000));
}

static void
no_hold_down(void **state)
{
	const struct pool_config config = {.hold_down_ms = 0};
	struct backend b = {.state = BACKEND_UP};

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		backend_connect_failed(&b, &config, NOW);
	assert_true(backend_usable(&b, NOW));
	assert_int_equal(b.connect_failures, 40);
}

static void
held_are_avoided_then_used(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 3, NULL, 1);

		w->backends[0].held_until_ms = NOW + 500;
		w->backends[2].state = BACKEND_DOWN;
		for (unsigned i = 0; i < 200; i++)
			assert_int_equal(pick_briefly(w), 1);
		/* all that are up are held: the one whose hold ends first */
		w->backends[1].held_until_ms = NOW + 400;
		w->backends[3].held_until_ms = NOW + 450;
		assert_int_equal(pick_briefly(w), 1);
		/* then the next one, and nobody twice */
		struct pick_request rq = request(w);
		rq.tried[rq.n_tried++] = &w->backends[1];
		assert_int_equal(pick(w, &rq), 3);
		rq.tried[rq.n_tried++] = &w->backends[3];
		assert_int_equal(pick(w, &rq), 0);
		rq.tried[rq.n_tried++] = &w->backends[0];
		assert_int_equal(pick(w, &rq), NONE_UP);
		/* its places are counted all the same */
		w->config.max_in_flight = 1;
		rq.n_tried = 0;
		assert_int_equal(pick(w, &rq), 1);
		assert_int_equal(pick(w, &rq), ALL_FULL);
		/* down is down */
		w->backends[0].state = w->backends[1].state = BACKEND_DRAINING;
		w->backends[3].state = BACKEND_STARTING;
		assert_int_equal(pick(w, &rq), NONE_UP);
		world_free(w);
	}
}

/* --- slow start ------------------------------------------------------------ */

static void
slow_start(void **state)
{
	/* age in percent of slow start -> thousandths of a full share */
	static const struct {
		int64_t age;
		unsigned warm;
	} table[] = {{0, 100}, {-5, 100}, {5, 100}, {10, 100}, {25, 250}, {50, 500}, {90, 900},
	    {100, 1000}, {500, 1000}};

	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		for (unsigned k = 0; k < sizeof table / sizeof table[0]; k++) {
			struct world *w = world_new(policies[p], 4, NULL, 0);
			unsigned counts[4] = {0};

			w->config.slow_start_ms = 10000;
			w->backends[2].up_since_ms = NOW - table[k].age * 100;
			for (unsigned i = 0; i < 60000; i++)
				counts[pick_briefly(w)]++;
			/* a hash gives what is missing to the others, and takes nothing of theirs */
			unsigned other =
			    policies[p] == BALANCE_HASH ? 1000 + (1000 - table[k].warm) / 3 : 1000;
			const unsigned shares[4] = {other, other, table[k].warm, other};
			assert_shares(counts, shares, 4, 0.10);
			world_free(w);
		}
	}
}

/* When all are new they share evenly: somebody must take it. */
static void
all_are_new(void **state)
{
	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		struct world *w = world_new(policies[p], 5, NULL, 0);
		unsigned counts[5] = {0};

		w->config.slow_start_ms = 10000;
		for (unsigned i = 0; i < 5; i++)
			w->backends[i].up_since_ms = NOW;
		for (unsigned i = 0; i < 50000; i++)
			counts[pick_briefly(w)]++;
		assert_shares(counts, NULL, 5, 0.06);
		world_free(w);
	}
}

/* Under load too: as many under way as its part of the weight. */
static void
slow_start_under_load(void **state)
{
	struct world *w = world_new(BALANCE_LEAST, 2, NULL, 0);

	(void)state;
	w->config.slow_start_ms = 10000;
	w->backends[0].up_since_ms = NOW - 2500;
	for (unsigned i = 0; i < 1000; i++)
		assert_true(pick_any(w) >= 0);
	assert_in_range(w->backends[0].inflight, 120, 220);
	world_free(w);
}

/* --- hash ------------------------------------------------------------------ */

enum { KEYS = 20000 };

static void
hash_is_even(void **state)
{
	static const unsigned sizes[] = {1, 2, 3, 10, 41, 100, 1000};

	(void)state;
	for (unsigned s = 0; s < 7; s++) {
		struct world *w = world_new(BALANCE_HASH, sizes[s], NULL, 0);
		unsigned *entries = calloc(sizes[s], sizeof *entries), least = UINT32_MAX, most = 0;

		assert_true(w->pool.n_maglev >= 100 * sizes[s] || w->pool.n_maglev == 65537);
		for (unsigned d = 2; d * d <= w->pool.n_maglev; d++)
			assert_true(w->pool.n_maglev % d != 0);
		for (unsigned i = 0; i < w->pool.n_maglev; i++)
			entries[w->pool.maglev[i]]++;
		for (unsigned i = 0; i < sizes[s]; i++) {
			least = entries[i] < least ? entries[i] : least;
			most = entries[i] > most ? entries[i] : most;
		}
		assert_true(most - least <= 1);
		free(entries);
		world_free(w);
	}
}

static void
hash_is_weighted(void **state)
{
	static const unsigned weights[] = {1, 2, 3, 4, 100};
	struct world *w = world_new(BALANCE_HASH, 5, weights, 0);
	unsigned entries[5] = {0};

	(void)state;
	for (unsigned i = 0; i < w->pool.n_maglev; i++)
		entries[w->pool.maglev[i]]++;
	assert_shares(entries, weights, 5, 0.03);
	world_free(w);
}

static int homes[KEYS];

static void
hash_remember(struct world *w)
{
	for (unsigned k = 0; k < KEYS; k++)
		homes[k] = pick_key(w, k);
}

/* One of ten leaves the snapshot: of the others' keys less than 2 % move. */
static void
hash_survives_removal(void **state)
{
	(void)state;
	for (unsigned gone = 0; gone < 10; gone++) {
		struct world *w = world_new(BALANCE_HASH, 10, NULL, 0);
		unsigned others = 0, moved = 0;

		hash_remember(w);
		pool_fini(&w->pool);
		memmove(&w->members[gone], &w->members[gone + 1], (9 - gone) * sizeof *w->members);
		w->pool.n_members = w->pool.n_primary = 9;
		assert_int_equal(pool_prepare(&w->pool), 0);
		for (unsigned k = 0; k < KEYS; k++) {
			if (homes[k] == (int)gone)
				continue;
			others++;
			moved += pick_key(w, k) != homes[k];
		}
		if (moved * 50 >= others)
			fail_msg("%u of %u moved", moved, others);
		w->pool.n_members = 10;
		world_free(w);
	}
}

/* One is down for a while: nobody else's key moves at all, its own go to all others, each
 * always to the same, and come back. */
static void
hash_survives_down(void **state)
{
	struct world *w = world_new(BALANCE_HASH, 10, NULL, 0);
	unsigned counts[10] = {0};

	(void)state;
	hash_remember(w);
	w->backends[4].state = BACKEND_DOWN;
	for (unsigned k = 0; k < KEYS; k++) {
		int now = pick_key(w, k);

		assert_int_equal(pick_key(w, k), now);
		if (homes[k] == 4)
			counts[now]++;
		else
			assert_int_equal(now, homes[k]);
	}
	assert_int_equal(counts[4], 0);
	counts[4] = counts[5];
	counts[5] = counts[6];
	counts[6] = counts[7];
	counts[7] = counts[8];
	counts[8] = counts[9];
	assert_shares(counts, NULL, 9, 0.30);
	w->backends[4].state = BACKEND_UP;
	for (unsigned k = 0; k < KEYS; k++)
		assert_int_equal(pick_key(w, k), homes[k]);
	world_free(w);
}

/* Nearly all are down: those that are left have their keys still, and the rest is spread. */
static void
hash_survives_disaster(void **state)
{
	enum { N = 200 };
	struct world *w = world_new(BALANCE_HASH, N, NULL, 0);
	unsigned counts[2] = {0};

	(void)state;
	hash_remember(w);
	for (unsigned i = 0; i < N; i++)
		w->backends[i].state = i == 17 || i == 18 ? BACKEND_UP : BACKEND_DOWN;
	for (unsigned k = 0; k < KEYS; k++) {
		int now = pick_key(w, k);

		assert_int_equal(pick_key(w, k), now);
		if (homes[k] == 17 || homes[k] == 18)
			assert_int_equal(now, homes[k]);
		counts[now - 17]++;
	}
	assert_shares(counts, NULL, 2, 0.06);
	world_free(w);
}

/* The order in the file, a restart, ids: none of them moves a client. */
static void
hash_knows_names_only(void **state)
{
	struct world *w = world_new(BALANCE_HASH, 10, NULL, 0);

	(void)state;
	hash_remember(w);
	pool_fini(&w->pool);
	for (unsigned i = 0; i < 5; i++) {
		struct member m = w->members[i];

		w->members[i] = w->members[9 - i];
		w->members[9 - i] = m;
	}
	for (unsigned i = 0; i < 10; i++)
		w->backends[i].id += 77;
	assert_int_equal(pool_prepare(&w->pool), 0);
	for (unsigned k = 0; k < KEYS; k++)
		assert_int_equal(pick_key(w, k), homes[k]);
	world_free(w);
}

static void
full_hash_spills(void **state)
{
	struct world *w = world_new(BALANCE_HASH, 5, NULL, 0);
	struct pick_request rq = request(w);
	int first, second;

	(void)state;
	w->config.max_in_flight = 3;
	first = pick(w, &rq);
	assert_int_equal(pick(w, &rq), first);
	assert_int_equal(pick(w, &rq), first);
	second = pick(w, &rq);
	assert_true(second >= 0 && second != first);
	assert_int_equal(pick(w, &rq), second);
	pick_release(&w->backends[first]);
	assert_int_equal(pick(w, &rq), first);
	world_free(w);
}

/* Warming up, a backend gets the same keys back one after another, and keeps them. */
static void
hash_warms_up_one_way(void **state)
{
	struct world *w = world_new(BALANCE_HASH, 4, NULL, 0);
	bool has[KEYS] = {false};

	(void)state;
	w->config.slow_start_ms = 1000;
	for (int64_t age = 0; age <= 1000; age += 100) {
		w->backends[1].up_since_ms = NOW - age;
		for (unsigned k = 0; k < KEYS; k++) {
			bool mine = pick_key(w, k) == 1;

			assert_true(mine || !has[k]);
			has[k] = mine;
		}
	}
	world_free(w);
}

/* --- the rest -------------------------------------------------------------- */

/* The largest pool with the most awkward weights is made, and every member gets its turn. */
static void
large_pool(void **state)
{
	enum { N = 10000 };
	unsigned *weights = calloc(N, sizeof *weights), *turns = calloc(N, sizeof *turns);

	(void)state;
	for (unsigned i = 0; i < N; i++)
		weights[i] = i % 256 + 1;
	struct world *w = world_new(BALANCE_HASH, N, weights, 0);
	for (unsigned i = 0; i < w->pool.n_order; i++)
		turns[w->pool.order[i]]++;
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(turns[i], weights[i]);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(pick_briefly(w) >= 0);
	world_free(w);
	free(weights);
	free(turns);
}

static void
state_names(void **state)
{
	(void)state;
	assert_string_equal(backend_state_name(BACKEND_STARTING), "starting");
	assert_string_equal(backend_state_name(BACKEND_UP), "up");
	assert_string_equal(backend_state_name(BACKEND_DRAINING), "draining");
	assert_string_equal(backend_state_name(BACKEND_DOWN), "down");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(idle_shares),
	    cmocka_unit_test(busy_shares),
	    cmocka_unit_test(least_of_two),
	    cmocka_unit_test(busy_is_avoided),
	    cmocka_unit_test(turns_are_exact),
	    cmocka_unit_test(turns_are_spread),
	    cmocka_unit_test(order_is_reduced),
	    cmocka_unit_test(skipped_turns),
	    cmocka_unit_test(turns_are_exact_over_threads),
	    cmocka_unit_test(places_are_exact_over_threads),
	    cmocka_unit_test(places_come_and_go_over_threads),
	    cmocka_unit_test(full_then_free),
	    cmocka_unit_test(only_up_is_picked),
	    cmocka_unit_test(tried_are_avoided),
	    cmocka_unit_test(empty_pool),
	    cmocka_unit_test(nearly_all_down),
	    cmocka_unit_test(search_shares),
	    cmocka_unit_test(search_finds_the_least),
	    cmocka_unit_test(backups),
	    cmocka_unit_test(only_backups),
	    cmocka_unit_test(holds_double),
	    cmocka_unit_test(no_hold_down),
	    cmocka_unit_test(held_are_avoided_then_used),
	    cmocka_unit_test(slow_start),
	    cmocka_unit_test(all_are_new),
	    cmocka_unit_test(slow_start_under_load),
	    cmocka_unit_test(hash_is_even),
	    cmocka_unit_test(hash_is_weighted),
	    cmocka_unit_test(hash_survives_removal),
	    cmocka_unit_test(hash_survives_down),
	    cmocka_unit_test(hash_survives_disaster),
	    cmocka_unit_test(hash_knows_names_only),
	    cmocka_unit_test(full_hash_spills),
	    cmocka_unit_test(hash_warms_up_one_way),
	    cmocka_unit_test(large_pool),
	    cmocka_unit_test(state_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
