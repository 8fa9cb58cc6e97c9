/*
 * A ring of seconds, each one word: the second and what was taken in it.  A take adds up the
 * seconds of the window and puts its own in by compare-and-swap; who loses to another worker adds
 * up again, so the limit holds exactly.
 */
#include "balancer/budget.h"

#define TAKEN_BITS    24
#define TAKEN_MAX     ((UINT64_C(1) << TAKEN_BITS) - 1)
#define WINDOW_MIN_MS 1000
#define WINDOW_MAX_MS 60000
#define WHOLE_BP      10000u

#define GET(p) atomic_load_explicit(p, memory_order_relaxed)

/* As tally.h: the second in which the window begins counts whole. */
static uint64_t
oldest_second(int64_t now_ms, int64_t window_ms)
{
	if (window_ms < WINDOW_MIN_MS)
		window_ms = WINDOW_MIN_MS;
	if (window_ms > WINDOW_MAX_MS)
		window_ms = WINDOW_MAX_MS;
	return now_ms > window_ms ? (uint64_t)(now_ms - window_ms) / 1000 : 0;
}

static uint64_t
taken_since(const struct rescue_budget *b, uint64_t oldest)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < BUDGET_SLOTS; i++) {
		uint64_t word = GET(&b->slots[i]);

		if (word >> TAKEN_BITS >= oldest)
			sum += word & TAKEN_MAX;
	}
	return sum;
}

static uint64_t
allowed(uint64_t requests, unsigned share_bp)
{
	/* in two parts, so that nothing overflows */
	uint64_t share = requests / WHOLE_BP * share_bp + requests % WHOLE_BP * share_bp / WHOLE_BP;

	return share > BUDGET_FLOOR ? share : BUDGET_FLOOR;
}

bool
rescue_budget_take(struct rescue_budget *b, int64_t now_ms, int64_t window_ms, uint64_t requests,
    unsigned share_bp)
{
	uint64_t second = now_ms > 0 ? (uint64_t)now_ms / 1000 : 0;
	uint64_t oldest = oldest_second(now_ms, window_ms), limit = allowed(requests, share_bp);
	_Atomic uint64_t *slot = &b->slots[second % BUDGET_SLOTS];

	if (share_bp == 0)
		return false;
	for (;;) {
		uint64_t word = GET(slot), next = word + 1;

		if (taken_since(b, oldest) >= limit)
			return false;
		if (word >> TAKEN_BITS != second)
			next = second << TAKEN_BITS | 1;
		else if ((word & TAKEN_MAX) == TAKEN_MAX)
			return false;
		if (atomic_compare_exchange_weak_explicit(
			slot, &word, next, memory_order_relaxed, memory_order_relaxed))
			return true;
	}
}
