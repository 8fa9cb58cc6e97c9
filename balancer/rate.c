/*
 * The table is buckets of eight slots, one cache line each; a client's hash says which
 * bucket, and a slot is one atomic word: 24 more bits of the hash (the tag) and 40 bits of
 * theoretical arrival time (TAT) in microseconds.  One word, so one compare-and-swap moves
 * a client or replaces one, and no reader ever sees half of each.
 *
 * Why two workers that see a new client at once do not enter it twice: the TATs of a slot
 * only grow, the victim is the first slot with the oldest TAT, and it is taken only if it
 * still is what was seen.  Suppose A took slot a and B slot b: what A saw in b is no newer
 * than what B found there when it took it, and the reverse; A found a no newer than b, B
 * found b no newer than a; so all four are equal, and then both choose the first.  (Not so
 * when the oldest is in debt: the newcomer starts afresh, with a smaller TAT.  Then debt is
 * being forgotten anyway.)
 *
 * 40 bits of microseconds come round every 12.7 days.  A TAT is read as being ahead of now
 * only up to DEBT_MAX, else as behind; a client that comes back after 12.7 days to the
 * minute, to a slot nobody wanted meanwhile, may find a little debt.  Two clients with the
 * same bucket and tag share their tokens: one pair in two million in a full table.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/hash.h"
#include "balancer/rate.h"

#define WAYS      8u
#define SLOTS_MAX (1u << 26)
#define TAT_BITS  40
#define TAT_MASK  ((UINT64_C(1) << TAT_BITS) - 1)
#define DEBT_MAX  (UINT64_C(1) << 37) /* us: 38 hours */

struct bucket {
	_Alignas(64) _Atomic uint64_t slots[WAYS];
};

struct rate_table {
	struct bucket *buckets;
	uint64_t mask;
};

struct rate_table *
rate_new(unsigned slots)
{
	size_t n = WAYS;
	struct rate_table *t = malloc(sizeof *t);

	if (t == NULL)
		return NULL;
	while (n < slots && n < SLOTS_MAX)
		n *= 2;
	n /= WAYS;
	t->mask = n - 1;
	t->buckets = aligned_alloc(_Alignof(struct bucket), n * sizeof *t->buckets);
	if (t->buckets == NULL) {
		free(t);
		return NULL;
	}
	memset(t->buckets, 0, n * sizeof *t->buckets);
	return t;
}

void
rate_free(struct rate_table *t)
{
	if (t == NULL)
		return;
	free(t->buckets);
	free(t);
}

/* How far the word's TAT is ahead of now, us; 0 when it is not, or the slot is empty. */
static uint64_t
debt(uint64_t word, uint64_t now)
{
	uint64_t ahead = ((word & TAT_MASK) - now) & TAT_MASK;

	return word != 0 && ahead <= DEBT_MAX ? ahead : 0;
}

/* The older the TAT, the greater; an empty slot before all others. */
static uint64_t
age(uint64_t word, uint64_t now)
{
	return word == 0 ? UINT64_MAX : (now + DEBT_MAX - (word & TAT_MASK)) & TAT_MASK;
}

/* The client's slot, or else the one to be given up for it; *word is what was seen there. */
static _Atomic uint64_t *
find(struct bucket *b, uint64_t tag, uint64_t now, uint64_t *word)
{
	_Atomic uint64_t *victim = NULL;
	uint64_t oldest = 0;

	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t seen = atomic_load_explicit(&b->slots[i], memory_order_relaxed);
		uint64_t years = age(seen, now);

		if (seen >> TAT_BITS == tag) {
			*word = seen;
			return &b->slots[i];
		}
		if (victim == NULL || years > oldest) {
			victim = &b->slots[i];
			oldest = years;
			*word = seen;
		}
	}
	return victim;
}

bool
rate_take(struct rate_table *t, uint64_t key, int64_t now_us, unsigned per_second, unsigned burst,
    int64_t *retry_after_ms)
{
	if (per_second == 0) {
		*retry_after_ms = 1000;
		return false;
	}
	/* the key's quality is the caller's, its spread over buckets is ours */
	uint64_t hash = hash_mix(key);
	struct bucket *b = &t->buckets[hash & t->mask];
	/* the top bits, which no table is large enough to use; 0 is an empty slot's */
	uint64_t tag = hash >> TAT_BITS == 0 ? 1 : hash >> TAT_BITS;
	uint64_t now = (uint64_t)now_us & TAT_MASK;
	/* rounded up: never more than what is configured */
	uint64_t step = (UINT64_C(1000000) + per_second - 1) / per_second;
	uint64_t depth = (burst == 0 ? 1 : burst) * step;

	if (depth > DEBT_MAX)
		depth = DEBT_MAX;
	for (;;) {
		uint64_t word = 0;
		_Atomic uint64_t *slot = find(b, tag, now, &word);
		uint64_t owed = (word >> TAT_BITS == tag ? debt(word, now) : 0) + step;

		if (owed > depth) {
			*retry_after_ms = (int64_t)((owed - depth + 999) / 1000);
			return false;
		}
		uint64_t next = tag << TAT_BITS | ((now + owed) & TAT_MASK);
		if (atomic_compare_exchange_weak_explicit(
			slot, &word, next, memory_order_relaxed, memory_order_relaxed))
			return true;
	}
}

void
budget_init(struct budget *b, unsigned burst, int64_t now_ms)
{
	b->level_milli = (int64_t)burst * 1000;
	b->last_ms = now_ms;
}

unsigned
budget_take(struct budget *b, unsigned n, unsigned burst, unsigned per_second, int64_t now_ms)
{
	int64_t whole = (int64_t)burst * 1000;
	int64_t elapsed = now_ms - b->last_ms;

	if (elapsed > 0) {
		/* twelve days are for ever, and keep the product in range */
		int64_t bounded = elapsed < (1 << 30) ? elapsed : 1 << 30;

		b->level_milli += bounded * per_second;
		if (b->level_milli > whole)
			b->level_milli = whole;
		b->last_ms = now_ms;
	}
	b->level_milli -= (int64_t)n * 1000;
	/* no deeper than once the burst: who was let off comes back in finite time */
	if (b->level_milli < -whole - 1000)
		b->level_milli = -whole - 1000;
	if (b->level_milli < 0 && whole == 0)
		return 101;
	if (whole == 0)
		return 0;
	/* rounded up, so that the first token too many says more than 100 */
	return (unsigned)(((whole - b->level_milli) * 100 + whole - 1) / whole);
}
