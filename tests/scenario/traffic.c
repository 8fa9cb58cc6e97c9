/* Clients and workers, see world.h.  What a worker's exchange does at its ends: split, tally,
 * guard. */
#include <stdlib.h>
#include <string.h>

#include "balancer/guard.h"
#include "balancer/split.h"
#include "balancer/tally.h"
#include "tests/scenario/world.h"

/* --- the heap of requests on their way ------------------------------------ */

static bool
sooner(const struct exchange *a, const struct exchange *b)
{
	return a->ends_us != b->ends_us ? a->ends_us < b->ends_us : a->number < b->number;
}

static void
push(struct world *w, const struct exchange *x)
{
	if (w->n_flying == w->max_flying) {
		w->max_flying = w->max_flying == 0 ? 1024 : 2 * w->max_flying;
		w->flying = reallocarray(w->flying, w->max_flying, sizeof *w->flying);
		if (w->flying == NULL)
			abort();
	}
	unsigned i = w->n_flying++;
	for (; i > 0 && sooner(x, &w->flying[(i - 1) / 2]); i = (i - 1) / 2)
		w->flying[i] = w->flying[(i - 1) / 2];
	w->flying[i] = *x;
}

static struct exchange
pop(struct world *w)
{
	struct exchange first = w->flying[0], last = w->flying[--w->n_flying];
	unsigned i = 0;

	for (;;) {
		unsigned child = 2 * i + 1;

		if (child >= w->n_flying)
			break;
		if (child + 1 < w->n_flying && sooner(&w->flying[child + 1], &w->flying[child]))
			child++;
		if (!sooner(&w->flying[child], &last))
			break;
		w->flying[i] = w->flying[child];
		i = child;
	}
	w->flying[i] = last;
	return first;
}

/* --- a request ------------------------------------------------------------ */

static bool
any_up(const struct world *w, enum color c)
{
	for (unsigned i = 0; i < w->n_backends[c]; i++) {
		if (atomic_load(&w->backends[c][i].state) == BACKEND_UP)
			return true;
	}
	return false;
}

/* How it is going to end is known when it begins. */
static void
foresee(struct world *w, struct exchange *x)
{
	const struct behaviour *does = &w->does[x->color];
	bool hangs = world_random(w) * 100 < does->hangs;
	bool fails = world_random(w) * 100 < does->fails;
	int64_t takes = (int64_t)((double)does->answers_us * (0.5 + world_random(w)));

	if (!any_up(w, x->color)) {
		x->status = 0;
		x->head_us = -1;
		x->ends_us = x->began_us;
	} else if (hangs || takes >= RESPONSE_TIMEOUT_US) {
		x->status = 0;
		x->head_us = -1;
		x->ends_us = x->began_us + RESPONSE_TIMEOUT_US;
	} else {
		x->status = fails ? 500 : 200;
		x->head_us = takes;
		x->ends_us = x->began_us + takes;
	}
	if (x->ends_us - x->began_us > w->patience_us) {
		x->status = 0;
		x->head_us = -1;
		x->ends_us = x->began_us + w->patience_us;
		x->left = true;
	}
}

static void
arrive(struct world *w)
{
	struct exchange x = {.began_us = w->now_us, .number = w->n_requests++};
	struct tally *tally;

	w->arrives_us += (int64_t)(1e6 / w->rate);
	x.worker = (unsigned)(x.number % N_WORKERS);
	x.color = split_next(w->state);
	tally = w->state->tally[x.color];
	x.generation = tally_generation(tally);
	foresee(w, &x);
	w->counts[x.color].got++;
	w->counts[x.color].got_since_trip++;
	w->counts[x.color].got_at_weight++;
	tally_begin(tally, x.worker);
	push(w, &x);
}

static void
end(struct world *w, const struct exchange *x)
{
	struct tally *tally = w->state->tally[x->color];
	int64_t limit_us = w->config.rollout.limits.p95_ms * 1000;
	int64_t age_us = x->ends_us - x->began_us;
	/* who left counts only when he had waited for too long already, see account.c */
	bool late = x->left && limit_us != 0 && age_us > limit_us;
	const struct tally_sample sample = {.now_ms = world_ms(w),
	    .head_us = late ? age_us : x->head_us,
	    .status = x->status,
	    .failure = x->status != 200 && !x->left,
	    .unknown = x->left && !late,
	    .generation = x->generation};
	struct verdict v;

	if (x->overdue) /* at once: it is not both */
		tally_overdue(tally, x->worker, --w->overdue[x->color][x->worker]);
	tally_add(tally, x->worker, &sample);
	tally_end(tally, x->worker);
	if (sample.failure)
		w->counts[x->color].failed++;
	/* as a worker does: nothing is asked when nothing is wrong */
	if (!sample.failure && (limit_us == 0 || sample.head_us <= limit_us))
		return;
	if (guard_saw(&w->service, x->color, sample.failure, sample.now_ms, &v))
		control_tripped(w, &v);
}

/* --- time ----------------------------------------------------------------- */

void
traffic_tick(struct world *w)
{
	int64_t limit_us = w->config.rollout.limits.p95_ms * 1000;

	memset(w->overdue, 0, sizeof w->overdue);
	for (unsigned i = 0; limit_us != 0 && i < w->n_flying; i++) {
		struct exchange *x = &w->flying[i];

		/* what began before the guard says nothing of this release */
		x->overdue = x->generation == tally_generation(w->state->tally[x->color]) &&
			     w->now_us - x->began_us > limit_us;
		w->overdue[x->color][x->worker] += x->overdue;
	}
	for (unsigned c = 0; c < N_COLORS; c++) {
		for (unsigned i = 0; i < N_WORKERS; i++)
			tally_overdue(w->state->tally[c], i, w->overdue[c][i]);
	}
}

bool
traffic_step(struct world *w, int64_t until_us)
{
	int64_t ends_us = w->n_flying == 0 ? NEVER : w->flying[0].ends_us;

	if (ends_us <= w->arrives_us && ends_us <= until_us) {
		struct exchange x = pop(w);

		w->now_us = x.ends_us;
		end(w, &x);
		return true;
	}
	if (w->arrives_us <= until_us) {
		w->now_us = w->arrives_us;
		arrive(w);
		return true;
	}
	return false;
}

void
traffic_forget(struct world *w)
{
	w->n_flying = 0;
	memset(w->overdue, 0, sizeof w->overdue);
}

void
world_traffic(struct world *w, double rate)
{
	w->rate = rate;
	w->arrives_us = rate > 0 ? w->now_us + (int64_t)(1e6 / rate) : NEVER;
}
