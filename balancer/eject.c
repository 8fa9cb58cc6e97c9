/*
 * Passive ejection of a single backend.  See eject.h.
 *
 * Request path, any worker.  What a worker reads of the neighbours may be old by the time it acts:
 * only ejected_until_ms decides who ejects, by compare-and-swap.
 */
#include "balancer/eject.h"
#include "balancer/pick.h"
#include "health/hold.h"

static bool
held(const struct backend *b, int64_t now_ms)
{
	return atomic_load_explicit(&b->held_until_ms, memory_order_relaxed) > now_ms;
}

bool
backend_ejected(const struct backend *b, int64_t now_ms)
{
	return atomic_load_explicit(&b->ejected_until_ms, memory_order_relaxed) > now_ms;
}

/* Has it last answered well, and would it take a request? */
static bool
well(const struct backend *b, int64_t now_ms)
{
	return backend_usable(b, now_ms) &&
	       atomic_load_explicit(&b->failed_in_a_row, memory_order_relaxed) == 0;
}

/* The members of b's kind: backups answer only when no primary does, so that they are nobody's
 * neighbours but their own. */
static void
kind_of(const struct pool *p, const struct backend *b, unsigned *from, unsigned *to)
{
	*from = p->n_primary;
	*to = p->n_members;
	for (unsigned i = 0; i < p->n_primary; i++) {
		if (p->members[i].backend == b) {
			*from = 0;
			*to = p->n_primary;
		}
	}
}

/* Do the neighbours do without it? */
static bool
may_go(
    const struct pool *p, const struct backend *b, const struct passive_config *c, int64_t now_ms)
{
	unsigned from, to, n_held = 1;
	bool neighbour = false;

	kind_of(p, b, &from, &to);
	for (unsigned i = from; i < to; i++) {
		const struct backend *other = p->members[i].backend;

		if (other == b)
			continue;
		if (held(other, now_ms))
			n_held++;
		else if (!neighbour)
			neighbour = well(other, now_ms);
	}
	return neighbour && (uint64_t)n_held * 10000 <= (uint64_t)c->max_ejected_bp * (to - from);
}

/* How many ejections before this one still count; last: when the last one ended, 0 for never. */
static uint32_t
remembered(struct backend *b, const struct passive_config *c, int64_t last, int64_t now_ms)
{
	if (last == 0 || now_ms - last >= EJECT_FORGET * c->hold_ms)
		return 0;
	return atomic_load_explicit(&b->ejections, memory_order_relaxed);
}

static bool
eject(struct backend *b, const struct passive_config *c, int64_t now_ms)
{
	int64_t last = atomic_load_explicit(&b->ejected_until_ms, memory_order_relaxed);
	uint32_t before = remembered(b, c, last, now_ms);
	int64_t until = hold_until(now_ms, c->hold_ms, before);

	if (last > now_ms || !atomic_compare_exchange_strong_explicit(&b->ejected_until_ms, &last,
				 until, memory_order_relaxed, memory_order_relaxed))
		return false;
	atomic_store_explicit(&b->ejections, before + 1, memory_order_relaxed);
	atomic_store_explicit(&b->held_until_ms, until, memory_order_relaxed);
	atomic_store_explicit(&b->failed_in_a_row, 0, memory_order_relaxed);
	return true;
}

bool
backend_failed(
    const struct pool *p, struct backend *b, const struct passive_config *c, int64_t now_ms)
{
	uint32_t n;

	if (c->failures == 0 || held(b, now_ms))
		return false;
	n = atomic_fetch_add_explicit(&b->failed_in_a_row, 1, memory_order_relaxed) + 1;
	if (n % c->failures != 0 || !may_go(p, b, c, now_ms))
		return false;
	return eject(b, c, now_ms);
}
