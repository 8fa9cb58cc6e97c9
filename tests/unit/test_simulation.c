/*
 * What the verdict costs a good release and how soon it finds a bad one: many simulated rollouts, asked as the guard
 * asks, at every failure.  Deterministic.
 *
 * 1,000 requests a second for service and split; only failures are simulated one by one, what lies between two is skipped by
 * a geometric draw, and the requests of a color in a window are counted by the split's own sequence, exactly.
 *
 * TEAL_SIMULATE=full (make simulate): 10,000 runs a cell instead of 200, with tables in Markdown.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/hash.h"
#include "balancer/split.h"
#include "balancer/verdict.h"

#define PERIOD         10000u /* of the split's sequence */
#define REQUESTS       200000u
#define PER_SECOND     1000u
#define WINDOW_SECONDS 30u
#define SLOTS          64u
#define PRIOR          20.0 /* guard.c's */
#define GIVE_UP        2000000u
#define AFTER          60000u /* a good minute */

struct color_sums {
	unsigned failures[SLOTS]; /* by second */
	unsigned in_window;
};

struct run {
	struct random random;
	struct limits_config limits;
	const unsigned *below; /* candidate's of the first 0..PERIOD points */
	unsigned weight_bp;
	uint64_t n; /* requests so far: the next one's number, and milliseconds */
	uint64_t second;
	struct color_sums colors[N_COLORS];
	double logs[N_RATIOS];
	uint32_t stakes[N_RATIOS];
};

static bool
full(void)
{
	const char *how = getenv("TEAL_SIMULATE");

	return how != NULL && strcmp(how, "full") == 0;
}

static void
run_begin(
    struct run *r, uint64_t seed, unsigned weight_bp, unsigned limit_bp, const unsigned *below)
{
	*r = (struct run){.below = below,
	    .weight_bp = weight_bp,
	    .limits = {.failure_rate_bp = limit_bp,
		.window_ms = WINDOW_SECONDS * 1000,
		.min_requests = 20,
		.min_failures = 3,
		.confidence_bp = 9990}};
	random_seed(&r->random, seed);
	for (unsigned i = 0; i < N_RATIOS; i++)
		r->logs[i] = MARTINGALE_START;
}

static double
dice(struct run *r)
{
	return ((double)(random_next(&r->random) >> 11) + 0.5) / 9007199254740992.0;
}

static void
count_below(unsigned weight_bp, unsigned below[PERIOD + 1])
{
	below[0] = 0;
	for (unsigned i = 0; i < PERIOD; i++)
		below[i + 1] = below[i] + split_takes(i, weight_bp);
}

static uint64_t
candidates_of_first(const struct run *r, uint64_t n)
{
	return n / PERIOD * r->weight_bp + r->below[n % PERIOD];
}

/* The window slides by whole seconds, as the tally's. */
static void
slide_to(struct run *r, uint64_t second)
{
	for (; r->second < second; r->second++) {
		uint64_t leaves = r->second + 1 + SLOTS - WINDOW_SECONDS - 1;

		for (unsigned c = 0; c < N_COLORS; c++) {
			struct color_sums *sums = &r->colors[c];

			sums->in_window -= sums->failures[leaves % SLOTS];
			sums->failures[leaves % SLOTS] = 0;
		}
	}
}

static void
see(const struct run *r, struct seen *candidate, struct seen *live)
{
	uint64_t oldest =
	    r->second > WINDOW_SECONDS ? (r->second - WINDOW_SECONDS) * PER_SECOND : 0;
	uint64_t requests = candidates_of_first(r, r->n) - candidates_of_first(r, oldest);

	*candidate = (struct seen){.requests = requests,
	    .failures = r->colors[GREEN].in_window,
	    .backends = 1,
	    .backends_up = 1};
	*live = (struct seen){.requests = r->n - oldest - requests,
	    .failures = r->colors[BLUE].in_window,
	    .backends = 1,
	    .backends_up = 1};
}

static void
learn(struct run *r, enum color failed)
{
	double steps[N_RATIOS], w = r->weight_bp / 10000.0;
	double share = (PRIOR * w + (double)candidates_of_first(r, r->n)) / (PRIOR + (double)r->n);

	martingale_step(steps, failed == GREEN, share);
	for (unsigned i = 0; i < N_RATIOS; i++)
		r->logs[i] = martingale_restake(r->logs[i] + steps[i], &r->stakes[i]);
}

/*
 * Goes on to the next failure before request `end`; the candidate fails with p, the live color with q.  false: there was
 * none.
 */
static bool
next_failure(struct run *r, double p, double q, uint64_t end, enum color *failed)
{
	double most = p > q ? p : q;

	for (;;) {
		double skip = most >= 1 ? 0 : floor(log(dice(r)) / log1p(-most));

		if (skip >= (double)(end - r->n)) {
			r->n = end;
			return false;
		}
		uint64_t which = r->n + (uint64_t)skip;
		*failed = split_takes(which, r->weight_bp) ? GREEN : BLUE;
		r->n = which + 1;
		slide_to(r, which / PER_SECOND);
		if (dice(r) * most < (*failed == GREEN ? p : q))
			break;
	}
	r->colors[*failed].failures[r->second % SLOTS]++;
	r->colors[*failed].in_window++;
	learn(r, *failed);
	return true;
}

static bool
trips(const struct run *r, bool relative)
{
	struct limits_config limits = r->limits;
	struct seen candidate, live;
	struct verdict v;

	limits.relative = relative;
	see(r, &candidate, &live);
	verdict(&v, &limits, GREEN, &candidate, &live, martingale_wealth(r->logs));
	return v.word == VERDICT_FAIL && !v.frozen;
}

/* --- both colors are the same ------------------------------------------------------- */

struct false_trips {
	unsigned absolute, relative; /* runs with one */
};

static void
one_same(struct run *r, double p, struct false_trips *out)
{
	bool absolute = false, relative = false;
	enum color failed;

	while (next_failure(r, p, p, REQUESTS, &failed)) {
		if (failed != GREEN)
			continue;
		/* each rule for itself, and the other's trip ends nothing */
		absolute = absolute || trips(r, false);
		if (!relative && martingale_wealth(r->logs) >= WEALTH_TRIPS) {
			unsigned limit = r->limits.failure_rate_bp;

			r->limits.failure_rate_bp = 10000;
			relative = trips(r, true);
			r->limits.failure_rate_bp = limit;
		}
	}
	out->absolute += absolute;
	out->relative += relative;
}

static void
same_quality_trips_by_accident_only(void **state)
{
	static const struct {
		double p;
		unsigned limit_bp;
	} rates[] = {{0.001, 100}, {0.005, 100}, {0.01, 200}};
	static const unsigned weights[] = {100, 2500, 5000};
	static unsigned below[PERIOD + 1];
	unsigned runs = full() ? 10000 : 200;
	struct false_trips sum = {0};

	(void)state;
	if (full())
		(void)printf(
		    "\nBoth colors fail alike: runs of %u requests (%u a second) with a false "
		    "trip, of %u.\n\n"
		    "| both fail | limit | weight | absolute rule | relative rule |\n"
		    "|---|---|---|---|---|\n",
		    REQUESTS, PER_SECOND, runs);
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned j = 0; j < 3; j++) {
			struct false_trips cell = {0};

			count_below(weights[j], below);
			for (unsigned seed = 1; seed <= runs; seed++) {
				struct run r;

				run_begin(
				    &r, seed * 9 + i * 3 + j, weights[j], rates[i].limit_bp, below);
				one_same(&r, rates[i].p, &cell);
			}
			if (full())
				(void)printf("| %g %% | %g %% | %g %% | %u (%.2f %%) | %u |\n",
				    rates[i].p * 100, rates[i].limit_bp / 100.0, weights[j] / 100.0,
				    cell.absolute, 100.0 * cell.absolute / runs, cell.relative);
			sum.absolute += cell.absolute;
			sum.relative += cell.relative;
		}
	}
	/* Ville: at most one in 10,000 */
	assert_true(sum.relative <= 9 * runs / 10000);
	/* it has no such bound, for a short run of bad luck looks like a bad release; but it is rare */
	assert_true(sum.absolute <= 9 * runs / 50);
}

/* --- the candidate is worse --------------------------------------------------------- */

struct delay {
	uint64_t median, p95;
};

static int
compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The candidate's requests from number `onset` on until the trip; both fail with q before. */
static uint64_t
one_delay(struct run *r, double p, double q, uint64_t onset)
{
	enum color failed;

	while (next_failure(r, q, q, onset, &failed))
		;
	slide_to(r, onset / PER_SECOND);
	while (next_failure(r, p, q, GIVE_UP, &failed))
		if (failed == GREEN && trips(r, true))
			break;
	return candidates_of_first(r, r->n) - candidates_of_first(r, onset);
}

static struct delay
delays(double p, double q, uint64_t onset, unsigned runs)
{
	static unsigned below[PERIOD + 1];
	uint64_t *all = calloc(runs, sizeof *all);

	count_below(2500, below);
	for (unsigned i = 0; i < runs; i++) {
		struct run r;

		run_begin(&r, i + 1, 2500, 100, below);
		all[i] = one_delay(&r, p, q, onset);
	}
	qsort(all, runs, sizeof *all, compare);
	struct delay d = {all[runs / 2], all[runs * 95 / 100]};
	free(all);
	return d;
}

static void
bad_release_is_found_soon(void **state)
{
	static const struct {
		double p;
		uint64_t fresh_p95, later_p95; /* at most */
	} cases[] = {{0.02, 3000, 7000}, {0.05, 400, 2200}, {0.2, 45, 600}, {1, 5, 150}};
	const double live = 0.005;
	unsigned runs = full() ? 10000 : 200;

	(void)state;
	if (full())
		(void)printf(
		    "\nThe live color fails %g %%, limit 1 %%, weight 25 %%, %u requests a second "
		    "(%u of "
		    "them the candidate's): the candidate's requests until the trip, %u runs.\n\n"
		    "| candidate fails | from the start: median | 95th percentile "
		    "| after a good minute: median | 95th percentile |\n"
		    "|---|---|---|---|---|\n",
		    live * 100, PER_SECOND, PER_SECOND / 4, runs);
	for (unsigned i = 0; i < 4; i++) {
		struct delay fresh = delays(cases[i].p, live, 0, runs);
		struct delay later = delays(cases[i].p, live, AFTER, runs);

		if (full())
			(void)printf("| %g %% | %llu | %llu | %llu | %llu |\n", cases[i].p * 100,
			    (unsigned long long)fresh.median, (unsigned long long)fresh.p95,
			    (unsigned long long)later.median, (unsigned long long)later.p95);
		if (fresh.p95 > cases[i].fresh_p95 || later.p95 > cases[i].later_p95)
			fail_msg("%g %%: %u from the start, %u after a minute", cases[i].p * 100,
			    (unsigned)fresh.p95, (unsigned)later.p95);
	}
	assert_int_equal(delays(1, live, 0, runs).median, 3);
	assert_true(delays(0.2, live, 0, runs).median <= 30);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(same_quality_trips_by_accident_only),
	    cmocka_unit_test(bad_release_is_found_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
