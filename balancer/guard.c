/*
 * From what was counted to the flip.  The path a request takes when nothing fails is the first
 * comparison of guard_saw().
 *
 * What is asked grows with what was found: the candidate's window, then the live color's, and the
 * backends (there may be 10,000, and they fail often then) only when a rule has failed.
 */
#include <math.h>

#include "balancer/guard.h"
#include "balancer/tally.h"

#define WHOLE_BP      10000u
#define PRIOR         20.0 /* exchanges that the set weight is worth against the counted ones */
#define SHARE_MIN     0.0001
#define LOG_ONE       16777216.0 /* fixed point: 2^24; 10^11 failures fit */
#define HELD_FOR_SURE 2          /* connects that failed in a row: one alone is an accident */

#define GET(p)    atomic_load_explicit(p, memory_order_relaxed)
#define SET(p, v) atomic_store_explicit(p, v, memory_order_relaxed)

void
guard_weight(struct service_state *s, bool begins, uint32_t new_bp, int64_t now_ms)
{
	if (new_bp != 0 && begins) {
		for (unsigned c = 0; c < N_COLORS; c++)
			tally_restart(s->tally[c], now_ms);
		for (unsigned i = 0; i < N_RATIOS; i++) {
			SET(&s->wealth[i], (int64_t)llround(MARTINGALE_START * LOG_ONE));
			s->stakes[i] = 0;
		}
	}
	for (unsigned c = 0; c < N_COLORS; c++)
		SET(&s->weight_base[c], tally_requests(s->tally[c]));
	if (new_bp == 0)
		SET(&s->guarded_since_ms, 0);
	else if (begins || GET(&s->guarded_since_ms) == 0)
		SET(&s->guarded_since_ms, now_ms);
}

/* --- the martingale ------------------------------------------------------------ */

static double
requests_since_weight(const struct service_state *s, enum color c)
{
	uint64_t now = tally_requests(s->tally[c]), base = GET(&s->weight_base[c]);

	return now > base ? (double)(now - base) : 0;
}

/* The candidate's share of answered exchanges.  Counted, for what is forced, sticky or slow is not
 * split by the weight; but the first few say little, so the weight counts as PRIOR of them. */
static double
share_of_candidate(const struct service_state *s, uint32_t course)
{
	enum color live = course_live(course);
	double weight = course_weight(course) / (double)WHOLE_BP;
	double c = requests_since_weight(s, color_other(live)), l = requests_since_weight(s, live);
	double share = (PRIOR * weight + c) / (PRIOR + c + l);

	return fmin(fmax(share, SHARE_MIN), 1 - SHARE_MIN);
}

static void
learn(struct service_state *s, uint32_t course, bool candidate_failed)
{
	double steps[N_RATIOS];

	/* nothing to compare with */
	if (course_weight(course) >= WHOLE_BP)
		return;
	martingale_step(steps, candidate_failed, share_of_candidate(s, course));
	for (unsigned i = 0; i < N_RATIOS; i++)
		(void)atomic_fetch_add_explicit(
		    &s->wealth[i], (int64_t)llround(steps[i] * LOG_ONE), memory_order_relaxed);
}

void
guard_restake(struct service_state *s)
{
	for (unsigned i = 0; i < N_RATIOS; i++) {
		double old = (double)GET(&s->wealth[i]) / LOG_ONE;
		double now = martingale_restake(old, &s->stakes[i]);

		/* added, not stored: a worker may learn something at this moment */
		if (now > old)
			(void)atomic_fetch_add_explicit(&s->wealth[i],
			    (int64_t)llround((now - old) * LOG_ONE), memory_order_relaxed);
	}
}

static double
wealth(const struct service_state *s)
{
	double logs[N_RATIOS];

	for (unsigned i = 0; i < N_RATIOS; i++)
		logs[i] = (double)GET(&s->wealth[i]) / LOG_ONE;
	return martingale_wealth(logs);
}

/* --- what is seen ---------------------------------------------------------------- */

static const struct limits_config *
limits_of(const struct service *s)
{
	return &s->config->rollout.limits;
}

/* Both colors' windows began together, so they are compared over the same time. */
static struct seen
see(const struct service *s, enum color c, int64_t now_ms)
{
	const struct limits_config *limits = limits_of(s);
	struct tally_look look;

	tally_look(s->state->tally[c], now_ms, limits->window_ms, limits->p95_ms * 1000, &look);
	return (struct seen){.requests = look.requests,
	    .failures = look.failures,
	    .slow = look.slow,
	    .overdue = look.overdue,
	    .p95_ms = look.p95_ms};
}

static bool
held_for_sure(const struct backend *b, int64_t now_ms)
{
	return GET(&b->held_until_ms) > now_ms && GET(&b->connect_failures) >= HELD_FOR_SURE;
}

/* Those that start or drain are no sign of anything: an operator adds and takes away backends.  A
 * backend held down is up for the rule, which is the probes' matter; but it is none that traffic
 * could be given back to. */
static void
count_backends(const struct pool *pool, bool live, int64_t now_ms, struct seen *out)
{
	out->backends = out->backends_up = 0;
	for (unsigned i = 0; i < pool->n_members; i++) {
		const struct backend *b = pool->members[i].backend;

		switch ((enum backend_state)GET(&b->state)) {
		case BACKEND_STARTING:
		case BACKEND_DRAINING:
			break;
		case BACKEND_UP:
			out->backends++;
			out->backends_up += !(live && held_for_sure(b, now_ms));
			break;
		case BACKEND_DOWN:
			out->backends++;
			break;
		}
	}
}

static void
nothing_asked(struct verdict *out)
{
	out->word = VERDICT_WAIT;
	out->rule = RULE_NONE;
	out->frozen = false;
	out->reason[0] = '\0';
}

static void
ask(const struct service *s, uint32_t course, int64_t now_ms, struct verdict *out)
{
	enum color live = course_live(course), candidate = color_other(live);
	struct seen c = see(s, candidate, now_ms), l = see(s, live, now_ms);

	count_backends(&s->pools[candidate], false, now_ms, &c);
	count_backends(&s->pools[live], true, now_ms, &l);
	verdict(out, limits_of(s), candidate, &c, &l, wealth(s->state));
}

/* After a failure or a slow answer: the same without the backends as long as no rule fails, or it
 * is frozen anyhow. */
static void
ask_quickly(const struct service *s, uint32_t course, int64_t now_ms, struct verdict *out)
{
	enum color live = course_live(course), candidate = color_other(live);
	struct limits_config limits = *limits_of(s);
	struct seen c = see(s, candidate, now_ms), l;
	double w = wealth(s->state);

	if (c.failures < limits.min_failures && c.slow + c.overdue < limits.min_failures &&
	    w < WEALTH_TRIPS) {
		nothing_asked(out);
		return;
	}
	l = see(s, live, now_ms);
	limits.healthy_backends_bp = 0;
	l.backends = l.backends_up = 1;
	verdict(out, &limits, candidate, &c, &l, w);
	out->live.backends = out->live.backends_up = 0;
	if (out->word == VERDICT_FAIL && !out->frozen)
		ask(s, course, now_ms, out);
}

/* --- the trip --------------------------------------------------------------------- */

static bool
guarded(uint32_t course)
{
	return course_weight(course) != 0 && !course_tripped(course);
}

bool
guard_trip(struct service_state *s, uint32_t seen)
{
	uint32_t tripped = course_of(course_live(seen), 0) | COURSE_TRIPPED;

	return atomic_compare_exchange_strong_explicit(
	    &s->course, &seen, tripped, memory_order_acq_rel, memory_order_relaxed);
}

/* The weight may move while the verdict is found; it is the candidate's all the same. */
static bool
act(struct service_state *s, uint32_t course, const struct verdict *v)
{
	enum color live = course_live(course);

	if (v->word != VERDICT_FAIL || v->frozen)
		return false;
	while (guarded(course) && course_live(course) == live) {
		if (guard_trip(s, course))
			return true;
		course = service_course(s);
	}
	return false;
}

/* Not inlined: what it keeps on the stack is no business of the requests that go well. */
static __attribute__((noinline)) bool
saw(const struct service *s, uint32_t course, enum color color, bool failed, int64_t now_ms,
    struct verdict *out)
{
	bool is_candidate = color != course_live(course);

	if (failed)
		learn(s->state, course, is_candidate);
	/* what the live color does wrong makes the candidate no worse */
	if (!is_candidate) {
		nothing_asked(out);
		return false;
	}
	ask_quickly(s, course, now_ms, out);
	return act(s->state, course, out);
}

bool
guard_saw(
    const struct service *s, enum color color, bool failed, int64_t now_ms, struct verdict *out)
{
	uint32_t course = service_course(s->state);

	if (guarded(course))
		return saw(s, course, color, failed, now_ms, out);
	out->word = VERDICT_WAIT;
	return false;
}

static void
ask_whole(const struct service *s, uint32_t course, int64_t now_ms, struct verdict *out)
{
	if (guarded(course))
		ask(s, course, now_ms, out);
	else
		*out = (struct verdict){.word = VERDICT_WAIT, .reason = "no traffic"};
}

bool
guard_look(const struct service *s, int64_t now_ms, struct verdict *out)
{
	uint32_t course = service_course(s->state);

	ask_whole(s, course, now_ms, out);
	return act(s->state, course, out);
}
