/*
 * The tables a pool computes once per snapshot, so that a pick is a few array reads: the
 * weighted order for random choice and round robin, and the Maglev table for hashing.
 *
 * Control thread, when it makes a snapshot; never on the request path.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/fleet.h"
#include "balancer/hash.h"

#define WEIGHT_MAX 256u

/* Entries of the Maglev table per member: the paper's M >= 100 N, for shares within 1 % of
 * the weights and as few keys moved when a member leaves. */
#define MAGLEV_PER_MEMBER 100u
#define MAGLEV_MIN        4099u  /* a prime; small pools get more for 16 KiB */
#define MAGLEV_MAX        65537u /* a prime */
#define NOBODY            UINT32_MAX

const char *
backend_state_name(enum backend_state state)
{
	switch (state) {
	case BACKEND_STARTING:
		return "starting";
	case BACKEND_UP:
		return "up";
	case BACKEND_DRAINING:
		return "draining";
	case BACKEND_DOWN:
		return "down";
	}
	return "?";
}

/* --- the weighted order ---------------------------------------------------- */

static unsigned
common_divisor(const struct pool *p)
{
	unsigned divisor = 0;

	for (unsigned i = 0; i < p->n_primary; i++) {
		unsigned a = p->members[i].weight, b = divisor;

		assert(a >= 1 && a <= WEIGHT_MAX);
		while (b != 0) {
			unsigned rest = a % b;

			a = b;
			b = rest;
		}
		divisor = a;
	}
	return divisor;
}

/*
 * Where in a cycle of n member i of weight w has its k-th turn: w turns evenly spread from
 * a start of its own (multiples of the golden ratio again), so that members of the same
 * weight do not take theirs all at once.  2^8 * 2^32 * n stays below 2^64 for n < 2^24.
 */
static size_t
turn_position(unsigned i, unsigned w, unsigned k, size_t n)
{
	uint64_t start = (uint32_t)(i * 2654435769u);
	uint64_t turn = ((uint64_t)k << 32 | start) / w;

	return (size_t)((turn * n) >> 32);
}

/* A counting sort of all turns by position: linear in the sum of the weights. */
static int
prepare_order(struct pool *p)
{
	unsigned divisor = common_divisor(p);
	size_t n = 0;

	for (unsigned i = 0; i < p->n_primary; i++)
		n += p->members[i].weight / divisor;
	assert(n < 1u << 24);
	if (n == 0)
		return 0;

	uint32_t *order = malloc(n * sizeof *order);
	uint32_t *begins = calloc(n + 1, sizeof *begins);
	if (order == NULL || begins == NULL) {
		free(order);
		free(begins);
		return -1;
	}
	for (unsigned i = 0; i < p->n_primary; i++) {
		unsigned w = p->members[i].weight / divisor;

		for (unsigned k = 0; k < w; k++)
			begins[turn_position(i, w, k, n) + 1]++;
	}
	for (size_t at = 0; at < n; at++)
		begins[at + 1] += begins[at];
	for (unsigned i = 0; i < p->n_primary; i++) {
		unsigned w = p->members[i].weight / divisor;

		for (unsigned k = 0; k < w; k++)
			order[begins[turn_position(i, w, k, n)]++] = i;
	}
	free(begins);
	p->order = order;
	p->n_order = (unsigned)n;
	return 0;
}

/* --- the Maglev table ------------------------------------------------------ */

/* A member's walk through the table: a permutation of its own. */
struct walk {
	uint64_t name; /* hash: the same after a restart and in every order of members */
	uint32_t member;
	uint32_t at, skip; /* the next entry it would like, and the step to the one after */
	uint32_t weight, credit;
};

static bool
is_prime(unsigned n)
{
	for (unsigned d = 3; d * d <= n; d += 2) {
		if (n % d == 0)
			return false;
	}
	return n % 2 != 0;
}

static unsigned
maglev_size(unsigned n_members)
{
	if (n_members >= MAGLEV_MAX / MAGLEV_PER_MEMBER)
		return MAGLEV_MAX;
	unsigned n = n_members * MAGLEV_PER_MEMBER | 1;
	if (n < MAGLEV_MIN)
		return MAGLEV_MIN;
	while (!is_prime(n))
		n += 2;
	return n;
}

static int
walk_compare(const void *a, const void *b)
{
	const struct walk *x = a, *y = b;

	if (x->name != y->name)
		return x->name < y->name ? -1 : 1;
	return x->member < y->member ? -1 : x->member > y->member;
}

static uint32_t
walks_begin(struct walk *walks, const struct pool *p, unsigned size)
{
	static const uint64_t public_key[2] = {0, 0}; /* names are the operator's, not a client's */
	uint32_t heaviest = 1;

	assert(size > 1);
	for (unsigned i = 0; i < p->n_primary; i++) {
		const char *name = p->members[i].backend->name;
		uint64_t h = hash_sip(public_key, name, strlen(name));
		uint32_t weight = p->members[i].weight;

		walks[i] = (struct walk){.name = h,
		    .member = i,
		    .at = (uint32_t)((h >> 32) % size),
		    .skip = (uint32_t)((h & UINT32_MAX) % (size - 1) + 1),
		    .weight = weight};
		if (weight > heaviest)
			heaviest = weight;
	}
	/* turns in the order of names: sorting the file anew must not move clients */
	qsort(walks, p->n_primary, sizeof *walks, walk_compare);
	return heaviest;
}

static void
walk_take(struct walk *w, uint32_t *table, unsigned size)
{
	while (table[w->at] != NOBODY)
		w->at = (w->at + w->skip) % size;
	table[w->at] = w->member;
}

/* Maglev's populate (section 3.4): in turns, each takes the next free entry of its walk; the
 * heaviest has a turn in every round, the others as often as their weight allows.  Expected
 * size * log(size) steps whatever the number of members, and size * heaviest / average
 * weight turns that are passed. */
static int
prepare_maglev(struct pool *p)
{
	unsigned size = maglev_size(p->n_primary), filled = 0;
	uint32_t *table = malloc(size * sizeof *table);
	struct walk *walks = calloc(p->n_primary, sizeof *walks);

	if (table == NULL || walks == NULL) {
		free(table);
		free(walks);
		return -1;
	}
	memset(table, 0xff, size * sizeof *table);
	uint32_t heaviest = walks_begin(walks, p, size);
	while (filled < size) {
		for (unsigned i = 0; i < p->n_primary && filled < size; i++) {
			walks[i].credit += walks[i].weight;
			if (walks[i].credit < heaviest)
				continue;
			walks[i].credit -= heaviest;
			walk_take(&walks[i], table, size);
			filled++;
		}
	}
	free(walks);
	p->maglev = table;
	p->n_maglev = size;
	return 0;
}

int
pool_prepare(struct pool *p)
{
	p->order = NULL;
	p->maglev = NULL;
	p->n_order = p->n_maglev = 0;
	if (p->n_primary == 0)
		return 0;
	if (prepare_order(p) < 0)
		return -1;
	if (p->config->balance == BALANCE_HASH && prepare_maglev(p) < 0) {
		pool_fini(p);
		return -1;
	}
	return 0;
}

void
pool_fini(struct pool *p)
{
	free(p->order);
	free(p->maglev);
	p->order = NULL;
	p->maglev = NULL;
	p->n_order = p->n_maglev = 0;
}
