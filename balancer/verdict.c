/*
 * The rules, in the order they are asked; the first that fails wins.  Pure.
 *
 * "Beyond chance" is a score interval everywhere: Wilson (1927) for one color, Newcombe's hybrid of
 * two of them (1998, method 10) for the difference of two colors.  Unlike p +- z s they hold at 3
 * of 3 and at 0 of 9, and that is where a release is judged.
 */
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "balancer/verdict.h"
#include "config/parse.h"

#define SLOW_SHARE 0.05 /* a p95 is within its limit when at most these are slower */
#define BP         10000.0
#define WEALTH_MAX 1e15 /* enough to know; a number that can be printed */

const char *
verdict_word_name(enum verdict_word word)
{
	switch (word) {
	case VERDICT_WAIT:
		return "wait";
	case VERDICT_PASS:
		return "pass";
	case VERDICT_FAIL:
		return "fail";
	}
	return "";
}

const char *
rule_name(enum rule rule)
{
	switch (rule) {
	case RULE_NONE:
		return "";
	case RULE_FAILURE_RATE:
		return "failure_rate";
	case RULE_P95:
		return "p95";
	case RULE_RELATIVE:
		return "relative";
	case RULE_HEALTHY_BACKENDS:
		return "healthy_backends";
	}
	return "";
}

int
rule_parse(const char *word, enum rule *out)
{
	for (int i = 0; i < N_RULES; i++) {
		if (strcmp(word, rule_name((enum rule)i)) != 0)
			continue;
		*out = (enum rule)i;
		return 0;
	}
	return -1;
}

/* --- statistics -------------------------------------------------------------- */

/* Abramowitz and Stegun 26.2.23 (good to 4.5e-4), then Newton's method, which squares the error
 * each time. */
double
normal_quantile(double p)
{
	const double sqrt_2 = 1.4142135623730951, sqrt_2_pi = 2.5066282746310002;
	double tail = 1 - p;

	if (p <= 0.5)
		return 0;
	double t = sqrt(-2 * log(tail));
	double z = t - (2.515517 + t * (0.802853 + t * 0.010328)) /
			   (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
	for (int i = 0; i < 2; i++) {
		double error = erfc(z / sqrt_2) / 2 - tail;

		z += error * sqrt_2_pi * exp(z * z / 2);
	}
	return z;
}

static double
wilson(uint64_t k, uint64_t n, double z, double side)
{
	double of = (double)n, p = (double)(k < n ? k : n) / of, zz = z * z;
	double half = z * sqrt(p * (1 - p) / of + zz / (4 * of * of));
	double bound = (p + zz / (2 * of) + side * half) / (1 + zz / of);

	return bound < 0 ? 0 : bound > 1 ? 1 : bound;
}

double
wilson_lower(uint64_t k, uint64_t n, double z)
{
	/* 0 of n exactly: no rounding may say that nothing is something */
	return n == 0 || k == 0 ? 0 : wilson(k, n, z, -1);
}

double
wilson_upper(uint64_t k, uint64_t n, double z)
{
	return n == 0 || k >= n ? 1 : wilson(k, n, z, 1);
}

void
martingale_step(double out[N_RATIOS], bool candidate_failed, double share)
{
	static const double ratios[N_RATIOS] = {2, 5, 20};

	assert(share > 0 && share < 1);
	for (unsigned i = 0; i < N_RATIOS; i++) {
		double all = share * ratios[i] + 1 - share;

		/* q / share = r / all, (1 - q) / (1 - share) = 1 / all */
		out[i] = candidate_failed ? log(ratios[i] / all) : -log(all);
	}
}

double
martingale_restake(double logarithm, uint32_t *stakes)
{
	double j = *stakes + 1.0, stake = -log(2 * j * (j + 1));

	if (logarithm >= stake)
		return logarithm;
	++*stakes;
	/* what is left of the old stakes is put to it */
	return stake + log1p(exp(logarithm - stake));
}

double
martingale_wealth(const double logs[N_RATIOS])
{
	double sum = 0;

	for (unsigned i = 0; i < N_RATIOS; i++)
		sum += exp(fmin(logs[i], log(WEALTH_MAX)));
	return sum / N_RATIOS;
}

/* --- numbers in words -------------------------------------------------------- */

static void __attribute__((format(printf, 2, 3))) say(struct verdict *v, const char *format, ...)
{
	size_t used = strlen(v->reason);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(v->reason + used, sizeof v->reason - used, format, args);
	va_end(args);
}

struct text {
	char s[48];
};

/* "22.6", "9.12", "1": three digits or so, no zeros at the end. */
static struct text
number(double x)
{
	struct text t;

	(void)snprintf(t.s, sizeof t.s, "%.*f", x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x);
	if (strchr(t.s, '.') != NULL) {
		size_t n = strlen(t.s);

		while (t.s[n - 1] == '0')
			t.s[--n] = '\0';
		if (t.s[n - 1] == '.')
			t.s[n - 1] = '\0';
	}
	return t;
}

static struct text
percent_of(uint64_t k, uint64_t n)
{
	return number(n == 0 ? 0 : 100 * (double)k / (double)n);
}

static struct text
limit_bp(unsigned bp)
{
	return number(bp / 100.0);
}

static struct text
duration(int64_t ms)
{
	struct text t;
	char out[UNIT_TEXT_SIZE];

	duration_print(ms, out);
	(void)snprintf(t.s, sizeof t.s, "%s", out);
	return t;
}

/* What was measured, not what was configured: "12 ms", "2.3 s". */
static struct text
latency(double ms)
{
	struct text t = number(ms < 1000 ? ms : ms / 1000);
	size_t n = strlen(t.s);

	(void)snprintf(t.s + n, sizeof t.s - n, ms < 1000 ? " ms" : " s");
	return t;
}

/* --- what is compared -------------------------------------------------------- */

/* k bad of n. */
struct part {
	uint64_t k, n;
};

static struct part
failed_of(const struct seen *s)
{
	return (struct part){s->failures < s->requests ? s->failures : s->requests, s->requests};
}

/* Whoever still waits for longer than the limit is slow already: a hang is seen by its age. */
static struct part
slow_of(const struct seen *s)
{
	uint64_t slow = s->slow < s->requests ? s->slow : s->requests;

	return (struct part){slow + s->overdue, s->requests + s->overdue};
}

static double
rate(struct part p)
{
	return p.n == 0 ? 0 : (double)p.k / (double)p.n;
}

struct question {
	const struct limits_config *limits;
	const struct seen *candidate, *live;
	const char *name, *live_name;
	double z;
};

static bool
beyond(struct part p, double limit, const struct question *q)
{
	return p.k >= q->limits->min_failures && wilson_lower(p.k, p.n, q->z) > limit;
}

/* Is the candidate worse than the live color beyond chance?  The lower end of Newcombe's interval
 * of the difference. */
static bool
clearly_worse(struct part candidate, struct part live, double z)
{
	double c = rate(candidate), l = rate(live);
	double below = c - wilson_lower(candidate.k, candidate.n, z);
	double above = wilson_upper(live.k, live.n, z) - l;

	return c - l > sqrt(below * below + above * above);
}

/*
 * Does the live color do as badly?  It is above the limit as far as is seen, and the candidate is
 * not clearly worse. The live color's own excess need not be beyond chance: in an outage that both
 * share, whoever has more traffic knows first, and the other's few failures are all there is to
 * see.
 */
static bool
fails_as_much(struct part candidate, struct part live, double limit, const struct question *q)
{
	return rate(live) > limit && !clearly_worse(candidate, live, q->z);
}

/* --- the rules: true and the sentence when it fails ---------------------------- */

static bool
fails_failure_rate(const struct question *q, struct verdict *out)
{
	struct part p = failed_of(q->candidate);
	double limit = q->limits->failure_rate_bp / BP;

	if (!beyond(p, limit, q))
		return false;
	out->rule = RULE_FAILURE_RATE;
	out->lower = 100 * wilson_lower(p.k, p.n, q->z);
	out->limit = 100 * limit;
	say(out, "%s failed %llu of %llu (%s %%, at least %s %% beyond chance), limit %s %%",
	    q->name, (unsigned long long)p.k, (unsigned long long)p.n, percent_of(p.k, p.n).s,
	    number(out->lower).s, limit_bp(q->limits->failure_rate_bp).s);
	return true;
}

static void
say_slow(const struct seen *s, const char *whose, const struct question *q, struct verdict *out)
{
	const char *limit = q->limits->p95_ms == 0 ? "" : " for longer than ";

	if (s->requests != 0)
		say(out, "%llu of %llu of %s answers took longer than %s",
		    (unsigned long long)s->slow, (unsigned long long)s->requests, whose,
		    duration(q->limits->p95_ms).s);
	if (s->overdue != 0 && s->requests != 0)
		say(out, ", %llu unanswered%s%s", (unsigned long long)s->overdue, limit,
		    duration(q->limits->p95_ms).s);
	else if (s->overdue != 0)
		say(out, "%llu of %s requests are unanswered%s%s", (unsigned long long)s->overdue,
		    whose, limit, duration(q->limits->p95_ms).s);
}

static void
say_candidate_slow(const struct question *q, struct verdict *out)
{
	char whose[16];

	(void)snprintf(whose, sizeof whose, "%s's", q->name);
	say_slow(q->candidate, whose, q, out);
}

static bool
fails_p95(const struct question *q, struct verdict *out)
{
	struct part p = slow_of(q->candidate);

	if (q->limits->p95_ms == 0 || !beyond(p, SLOW_SHARE, q))
		return false;
	out->rule = RULE_P95;
	out->lower = 100 * wilson_lower(p.k, p.n, q->z);
	out->limit = (double)q->limits->p95_ms;
	say_candidate_slow(q, out);
	say(out, " (p95 %s; %s %%, at least %s %% beyond chance, limit %s %%)",
	    latency(q->candidate->p95_ms).s, percent_of(p.k, p.n).s, number(out->lower).s,
	    number(100 * SLOW_SHARE).s);
	return true;
}

static bool
fails_relative(const struct question *q, struct verdict *out)
{
	struct part c = failed_of(q->candidate), l = failed_of(q->live);

	if (!q->limits->relative || out->wealth < WEALTH_TRIPS)
		return false;
	out->rule = RULE_RELATIVE;
	out->lower = 100 * wilson_lower(c.k, c.n, q->z);
	say(out, "%s failed %llu of %llu, %s %llu of %llu: worse beyond chance (1 in %.0f)",
	    q->name, (unsigned long long)c.k, (unsigned long long)c.n, q->live_name,
	    (unsigned long long)l.k, (unsigned long long)l.n, out->wealth);
	return true;
}

static bool
fails_healthy_backends(const struct question *q, struct verdict *out)
{
	const struct seen *c = q->candidate;
	unsigned limit_of = q->limits->healthy_backends_bp;

	if (limit_of == 0)
		return false;
	if (c->backends != 0 && c->backends_up * BP >= (double)c->backends * limit_of)
		return false;
	out->rule = RULE_HEALTHY_BACKENDS;
	out->limit = limit_of / 100.0;
	if (c->backends == 0)
		say(out, "%s has no backend, limit %s %%", q->name, limit_bp(limit_of).s);
	else
		say(out, "%u of %u %s of %s %s up, limit %s %%", c->backends_up, c->backends,
		    c->backends == 1 ? "backend" : "backends", q->name,
		    c->backends_up == 1 ? "is" : "are", limit_bp(limit_of).s);
	return true;
}

/* --- would going back help? ---------------------------------------------------- */

static void
freeze(const struct question *q, struct verdict *out)
{
	out->frozen = true;
	say(out, "; but %s could not take the traffic: ", q->live_name);
}

static bool
freeze_by_failures(const struct question *q, struct verdict *out)
{
	struct part c = failed_of(q->candidate), l = failed_of(q->live);
	double limit = q->limits->failure_rate_bp / BP;

	if (!fails_as_much(c, l, limit, q))
		return false;
	/* a candidate blamed for something else: that the live color fails must be no accident
	 * either */
	if (out->rule != RULE_FAILURE_RATE && out->rule != RULE_RELATIVE && !beyond(l, limit, q))
		return false;
	freeze(q, out);
	say(out, "it failed %llu of %llu (%s %%)", (unsigned long long)l.k, (unsigned long long)l.n,
	    percent_of(l.k, l.n).s);
	return true;
}

static bool
freeze_by_latency(const struct question *q, struct verdict *out)
{
	if (out->rule != RULE_P95)
		return false;
	if (!fails_as_much(slow_of(q->candidate), slow_of(q->live), SLOW_SHARE, q))
		return false;
	freeze(q, out);
	say_slow(q->live, "its", q, out);
	return true;
}

/* Nothing trips when the live color could not take the traffic: no backend up, or failing as
 * much. */
static void
ask_live(const struct question *q, struct verdict *out)
{
	if (q->live->backends_up == 0) {
		freeze(q, out);
		say(out, "no backend of it is up");
		return;
	}
	if (!freeze_by_latency(q, out))
		(void)freeze_by_failures(q, out);
}

/* --- nothing failed: is it enough? --------------------------------------------- */

/* Above the limit, and no rule failed: because of which of the two conditions. */
static void
say_above(struct part p, double percent, const struct question *q, struct verdict *out)
{
	say(out, " (%s %%): above the limit of %s %%, but ", percent_of(p.k, p.n).s,
	    number(percent).s);
	if (p.k < q->limits->min_failures)
		say(out, "fewer than %u", q->limits->min_failures);
	else
		say(out, "not beyond chance");
}

static void
pass_or_wait(const struct question *q, struct verdict *out)
{
	const struct limits_config *l = q->limits;
	const struct seen *c = q->candidate;
	struct part failed = failed_of(c), slow = slow_of(c);

	out->word = VERDICT_WAIT;
	out->lower = 100 * wilson_lower(failed.k, failed.n, q->z);
	out->limit = l->failure_rate_bp / 100.0;
	if (c->requests < l->min_requests) {
		say(out, "too few requests: %llu of %u in %s", (unsigned long long)c->requests,
		    l->min_requests, duration(l->window_ms).s);
		return;
	}
	if (rate(failed) > l->failure_rate_bp / BP) {
		say(out, "%s failed %llu of %llu", q->name, (unsigned long long)failed.k,
		    (unsigned long long)failed.n);
		say_above(failed, out->limit, q, out);
		return;
	}
	if (l->p95_ms != 0 && rate(slow) > SLOW_SHARE) {
		say_candidate_slow(q, out);
		say_above(slow, 100 * SLOW_SHARE, q, out);
		return;
	}
	out->word = VERDICT_PASS;
	say(out, "%s failed %llu of %llu (%s %%), limit %s %%; p95 %s", q->name,
	    (unsigned long long)failed.k, (unsigned long long)failed.n,
	    percent_of(failed.k, failed.n).s, limit_bp(l->failure_rate_bp).s, latency(c->p95_ms).s);
	if (l->p95_ms != 0)
		say(out, ", limit %s", duration(l->p95_ms).s);
}

void
verdict(struct verdict *out, const struct limits_config *limits, enum color color,
    const struct seen *candidate, const struct seen *live, double wealth)
{
	const struct question q = {.limits = limits,
	    .candidate = candidate,
	    .live = live,
	    .name = color_name(color),
	    .live_name = color_name(color_other(color)),
	    .z = normal_quantile(limits->confidence_bp / BP)};

	*out = (struct verdict){.word = VERDICT_FAIL,
	    .rule = RULE_NONE,
	    .wealth = wealth,
	    .candidate = *candidate,
	    .live = *live};
	if (fails_failure_rate(&q, out) || fails_p95(&q, out) || fails_relative(&q, out) ||
	    fails_healthy_backends(&q, out))
		ask_live(&q, out);
	else
		pass_or_wait(&q, out);
	/* however well it goes: with no way back there is no going on */
	if (!out->frozen && live->backends != 0 && live->backends_up == 0)
		ask_live(&q, out);
}
