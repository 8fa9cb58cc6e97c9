/* The statistics against known values, each rule at both sides of its border, each sentence word for word. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/verdict.h"

static const struct limits_config limits = {.failure_rate_bp = 100,
    .p95_ms = 1000,
    .window_ms = 30000,
    .min_requests = 20,
    .min_failures = 3,
    .relative = true,
    .healthy_backends_bp = 5000,
    .confidence_bp = 9990};

/* `failed` of n, with backends. */
static struct seen
some(uint64_t failed, uint64_t n)
{
	return (struct seen){
	    .requests = n, .failures = failed, .p95_ms = 12, .backends = 4, .backends_up = 4};
}

static struct verdict
judge_by(const struct limits_config *l, struct seen candidate, struct seen live, double wealth)
{
	struct verdict v;

	verdict(&v, l, GREEN, &candidate, &live, wealth);
	return v;
}

static struct verdict
judge(struct seen candidate, struct seen live)
{
	return judge_by(&limits, candidate, live, 1);
}

static void
assert_about(double is, double expected, double error)
{
	if (!(fabs(is - expected) <= error))
		fail_msg("%.12f is not %.12f within %g", is, expected, error);
}

static void
assert_verdict(const struct verdict *v, enum verdict_word word, enum rule rule, bool frozen)
{
	if (v->word != word || v->rule != rule || v->frozen != frozen)
		fail_msg("%s %s%s: %s", verdict_word_name(v->word), rule_name(v->rule),
		    v->frozen ? " frozen" : "", v->reason);
}

/* --- statistics ---------------------------------------------------------------- */

static void
quantiles_of_the_normal(void **state)
{
	(void)state;
	assert_about(normal_quantile(0.5), 0, 0);
	assert_about(normal_quantile(0.51), 0.025068908258711, 1e-9);
	assert_about(normal_quantile(0.75), 0.674489750196082, 1e-9);
	assert_about(normal_quantile(0.95), 1.644853626951473, 1e-9);
	assert_about(normal_quantile(0.999), 3.090232306167814, 1e-9);
	assert_about(normal_quantile(0.9999), 3.719016485455709, 1e-9);
	assert_about(normal_quantile(0.999999999), 5.997807015007687, 1e-6);
}

static void
wilson_bounds(void **state)
{
	const double z = 3.090232306167814;

	(void)state;
	/* by the formula, in 40 decimal digits */
	assert_about(wilson_lower(7, 31, z), 0.077448269226, 1e-11);
	assert_about(wilson_upper(7, 31, z), 0.503311418795, 1e-11);
	assert_about(wilson_lower(3, 3, z), 3 / (3 + z * z), 1e-12);
	assert_about(wilson_upper(0, 9, z), z * z / (9 + z * z), 1e-12);
	/* nothing seen says nothing; no rounding at the ends */
	assert_true(wilson_lower(0, 0, z) == 0 && wilson_upper(0, 0, z) == 1);
	assert_true(wilson_lower(0, 1000, z) == 0 && wilson_upper(1000, 1000, z) == 1);
	/* more seen, closer bounds; and they keep their order */
	for (uint64_t n = 10; n < 100000000; n *= 10) {
		assert_true(wilson_lower(n / 10, n, z) < wilson_lower(n, n * 10, z));
		assert_true(wilson_upper(n / 10, n, z) > wilson_upper(n, n * 10, z));
		assert_true(wilson_lower(n / 10, n, z) < 0.1 && wilson_upper(n / 10, n, z) > 0.1);
	}
	/* a sum that is one exchange apart */
	assert_true(wilson_lower(4, 3, z) == wilson_lower(3, 3, z));
}

static void
martingale(void **state)
{
	static const double shares[] = {0.0001, 0.01, 0.25, 0.5, 0.75, 0.9999};
	static const double ratios[N_RATIOS] = {2, 5, 20};
	const double even[N_RATIOS] = {0};
	double failed[N_RATIOS], fine[N_RATIOS];

	(void)state;
	assert_about(martingale_wealth(even), 1, 1e-12);
	for (unsigned s = 0; s < 6; s++) {
		double w = shares[s];

		martingale_step(failed, true, w);
		martingale_step(fine, false, w);
		for (unsigned i = 0; i < N_RATIOS; i++) {
			double q = w * ratios[i] / (w * ratios[i] + 1 - w);

			assert_about(failed[i], log(q / w), 1e-9);
			assert_about(fine[i], log((1 - q) / (1 - w)), 1e-9);
			/* a fair game: under equal quality nothing is won on average */
			assert_about(w * exp(failed[i]) + (1 - w) * exp(fine[i]), 1, 1e-9);
		}
	}
	/* a wealth beyond all numbers stays a number */
	double rich[N_RATIOS] = {1e6, -1e6, 0}, poor[N_RATIOS] = {-1e6, -1e6, -1e6};
	assert_true(isfinite(martingale_wealth(rich)) && martingale_wealth(rich) > WEALTH_TRIPS);
	assert_true(martingale_wealth(poor) == 0);
}

/* All stakes together are never more than 1: that is what the bound of one in 10,000 rests on. */
static void
stakes_are_bounded(void **state)
{
	double log_wealth = MARTINGALE_START, staked = exp(MARTINGALE_START), all;
	uint32_t stakes = 0;

	(void)state;
	assert_true(martingale_restake(log_wealth, &stakes) == log_wealth && stakes == 0);
	for (unsigned i = 0; i < 100000; i++) {
		double before = log_wealth - 3; /* lost most of it */

		log_wealth = martingale_restake(before, &stakes);
		staked += exp(log_wealth) - exp(before);
	}
	assert_true(stakes > 10);
	assert_true(staked <= 1 + 1e-9);
	/* a rich one gets nothing */
	all = martingale_restake(5, &stakes);
	assert_true(all == 5);
}

/* A candidate that is well does not go on while the live color has no backend. */
static void
no_way_back_freezes(void **state)
{
	struct seen candidate = {.requests = 1000, .backends = 1, .backends_up = 1};
	struct seen live = {.requests = 1000, .backends = 2, .backends_up = 0};
	struct verdict v;

	(void)state;
	verdict(&v, &limits, GREEN, &candidate, &live, 1);
	assert_int_equal(v.word, VERDICT_PASS);
	assert_true(v.frozen);
	assert_non_null(
	    strstr(v.reason, "blue could not take the traffic: no backend of it is up"));
	live.backends_up = 1;
	verdict(&v, &limits, GREEN, &candidate, &live, 1);
	assert_false(v.frozen);
}

static void
words(void **state)
{
	enum rule rule = RULE_NONE;

	(void)state;
	assert_string_equal(verdict_word_name(VERDICT_WAIT), "wait");
	assert_string_equal(verdict_word_name(VERDICT_PASS), "pass");
	assert_string_equal(verdict_word_name(VERDICT_FAIL), "fail");
	for (int i = 0; i < N_RULES; i++) {
		assert_int_equal(rule_parse(rule_name((enum rule)i), &rule), 0);
		assert_int_equal(rule, i);
	}
	assert_string_equal(rule_name(RULE_HEALTHY_BACKENDS), "healthy_backends");
	assert_int_equal(rule_parse("failures", &rule), -1);
}

/* --- failure rate ---------------------------------------------------------------- */

static void
dead_release_fails_at_its_third(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 3; n++) {
		struct verdict v = judge(some(n, n), some(0, 3 * n));

		assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	}
	struct verdict v = judge(some(3, 3), some(0, 9));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	assert_string_equal(
	    v.reason, "green failed 3 of 3 (100 %, at least 23.9 % beyond chance), limit 1 %");
	assert_about(v.lower, 23.9, 0.05);
	assert_about(v.limit, 1, 1e-12);
	assert_int_equal(v.candidate.failures, 3);
	assert_int_equal(v.live.requests, 9);
	/* with nothing seen of the live color at all, too */
	v = judge(some(3, 3), some(0, 0));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
}

static void
failure_rate_border(void **state)
{
	const double z = normal_quantile(0.999);

	(void)state;
	for (uint64_t n = 20; n <= 200000; n *= 10) {
		uint64_t k = 3;

		while (wilson_lower(k, n, z) <= 0.01)
			k++;
		struct verdict over = judge(some(k, n), some(0, 3 * n));
		assert_verdict(&over, VERDICT_FAIL, RULE_FAILURE_RATE, false);
		struct verdict under = judge(some(k - 1, n), some(0, 3 * n));
		assert_verdict(&under, VERDICT_WAIT, RULE_NONE, false);
	}
	struct verdict v = judge(some(7, 31), some(0, 90));
	assert_string_equal(
	    v.reason, "green failed 7 of 31 (22.6 %, at least 7.74 % beyond chance), limit 1 %");
	/* a limit of 0 still wants min_failures; one of 100 % is never passed */
	struct limits_config l = limits;
	l.failure_rate_bp = 0;
	v = judge_by(&l, some(2, 1000), some(0, 1000), 1);
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	v = judge_by(&l, some(3, 1000), some(0, 1000), 1);
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	l.failure_rate_bp = 10000;
	v = judge_by(&l, some(100000, 100000), some(0, 1000), 1);
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	/* min_failures and confidence are the operator's */
	l = limits;
	l.min_failures = 5;
	v = judge_by(&l, some(4, 4), some(0, 12), 1);
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	v = judge_by(&l, some(5, 5), some(0, 15), 1);
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	l = limits;
	l.confidence_bp = 9500;
	v = judge_by(&l, some(15, 1000), some(0, 3000), 1);
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	v = judge_by(&l, some(17, 1000), some(0, 3000), 1);
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
}

static void
pass_and_wait(void **state)
{
	struct seen c = some(1, 400);
	struct verdict v = judge(c, some(0, 1200));

	(void)state;
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	assert_string_equal(
	    v.reason, "green failed 1 of 400 (0.25 %), limit 1 %; p95 12 ms, limit 1s");
	c.p95_ms = 0.4567;
	struct limits_config l = limits;
	l.p95_ms = 0;
	l.failure_rate_bp = 125;
	v = judge_by(&l, c, some(0, 1200), 1);
	assert_string_equal(v.reason, "green failed 1 of 400 (0.25 %), limit 1.25 %; p95 0.46 ms");
	/* silence is no pass */
	v = judge(some(0, 0), some(0, 1200));
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	assert_string_equal(v.reason, "too few requests: 0 of 20 in 30s");
	v = judge(some(0, 19), some(0, 1200));
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	v = judge(some(0, 20), some(0, 1200));
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	/* at the limit is within it; above, but not for sure, is neither */
	v = judge(some(1, 100), some(0, 1200));
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	v = judge(some(4, 200), some(0, 1200));
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	assert_string_equal(
	    v.reason, "green failed 4 of 200 (2 %): above the limit of 1 %, but not beyond chance");
	v = judge(some(2, 20), some(0, 1200));
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	assert_string_equal(
	    v.reason, "green failed 2 of 20 (10 %): above the limit of 1 %, but fewer than 3");
	/* the live color's failures are no hindrance */
	v = judge(some(0, 100), some(900, 1200));
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
}

/* --- p95 --------------------------------------------------------------------------- */

static void
p95_rule(void **state)
{
	struct seen c = some(0, 40);

	(void)state;
	c.slow = 12;
	c.p95_ms = 2345;
	struct verdict v = judge(c, some(0, 120));
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, false);
	assert_string_equal(v.reason,
	    "12 of 40 of green's answers took longer than 1s (p95 2.35 s; "
	    "30 %, at least 13.4 % beyond chance, limit 5 %)");
	assert_about(v.limit, 1000, 0);
	assert_about(v.lower, 100 * wilson_lower(12, 40, normal_quantile(0.999)), 1e-9);
	/* off */
	struct limits_config l = limits;
	l.p95_ms = 0;
	v = judge_by(&l, c, some(0, 120), 1);
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	/* above, but not for sure; at the limit */
	c = some(0, 100);
	c.slow = 6;
	v = judge(c, some(0, 300));
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	assert_string_equal(v.reason,
	    "6 of 100 of green's answers took longer than 1s (6 %): above "
	    "the limit of 5 %, but not beyond chance");
	c.slow = 5;
	v = judge(c, some(0, 300));
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	/* failures are said first */
	c = some(40, 40);
	c.slow = 40;
	v = judge(c, some(0, 120));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
}

static void
hang_is_seen_by_its_age(void **state)
{
	struct seen c = {.overdue = 2, .backends = 1, .backends_up = 1};
	struct verdict v = judge(c, some(0, 30));

	(void)state;
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
	/* nothing was answered, and it is enough */
	c.overdue = 3;
	v = judge(c, some(0, 30));
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, false);
	c = some(0, 32);
	c.slow = 4;
	c.overdue = 8;
	c.p95_ms = 1100;
	v = judge(c, some(0, 120));
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, false);
	assert_string_equal(v.reason,
	    "4 of 32 of green's answers took longer than 1s, 8 unanswered for longer than 1s "
	    "(p95 1.1 s; 30 %, at least 13.4 % beyond chance, limit 5 %)");
	c = some(0, 97);
	c.overdue = 6;
	v = judge(c, some(0, 300));
	assert_verdict(&v, VERDICT_WAIT, RULE_NONE, false);
}

/* --- relative, backends ----------------------------------------------------------- */

static void
relative_rule(void **state)
{
	struct verdict v = judge_by(&limits, some(9, 2400), some(2, 7190), 12000.4);

	(void)state;
	assert_verdict(&v, VERDICT_FAIL, RULE_RELATIVE, false);
	assert_string_equal(
	    v.reason, "green failed 9 of 2400, blue 2 of 7190: worse beyond chance (1 in 12000)");
	assert_about(v.wealth, 12000.4, 0);
	v = judge_by(&limits, some(9, 2400), some(2, 7190), 9999);
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	struct limits_config l = limits;
	l.relative = false;
	v = judge_by(&l, some(9, 2400), some(2, 7190), 1e15);
	assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
}

static void
healthy_backends_rule(void **state)
{
	static const struct {
		unsigned up, of, limit_bp;
		bool fails;
	} cases[] = {{1, 4, 5000, true}, {2, 4, 5000, false}, {0, 1, 5000, true},
	    {0, 0, 5000, true}, {0, 0, 0, false}, {0, 4, 0, false}, {4, 4, 10000, false},
	    {3, 4, 10000, true}, {1, 3, 3334, true}, {1, 3, 3333, false}};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct limits_config l = limits;
		struct seen c = some(0, 100);

		l.healthy_backends_bp = cases[i].limit_bp;
		c.backends = cases[i].of;
		c.backends_up = cases[i].up;
		struct verdict v = judge_by(&l, c, some(0, 300), 1);
		if (cases[i].fails)
			assert_verdict(&v, VERDICT_FAIL, RULE_HEALTHY_BACKENDS, false);
		else
			assert_verdict(&v, VERDICT_PASS, RULE_NONE, false);
	}
	struct seen c = some(0, 100);
	c.backends_up = 1;
	struct verdict v = judge(c, some(0, 300));
	assert_string_equal(v.reason, "1 of 4 backends of green is up, limit 50 %");
	assert_about(v.limit, 50, 0);
	c.backends_up = 0;
	v = judge(c, some(0, 300));
	assert_string_equal(v.reason, "0 of 4 backends of green are up, limit 50 %");
	c.backends = 0;
	v = judge(c, some(0, 300));
	assert_string_equal(v.reason, "green has no backend, limit 50 %");
}

/* --- frozen ------------------------------------------------------------------------ */

static void
live_without_backends_freezes(void **state)
{
	struct seen c = some(30, 30), l = some(0, 0);

	(void)state;
	l.backends_up = 0;
	struct verdict v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, true);
	assert_non_null(
	    strstr(v.reason, "; but blue could not take the traffic: no backend of it is up"));
	l.backends = 0;
	v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, true);
	/* whatever the rule */
	c = some(0, 100);
	c.backends_up = 0;
	v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_HEALTHY_BACKENDS, true);
	v = judge_by(&limits, some(9, 4000), l, 1e5);
	assert_verdict(&v, VERDICT_FAIL, RULE_RELATIVE, true);
	l.backends = 2;
	l.backends_up = 1;
	v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_HEALTHY_BACKENDS, false);
}

/* Both began to fail `outage` requests ago, after `before` good ones; w of 100 are the candidate's, as the split has them. */
static struct verdict
outage(unsigned w, uint64_t before, uint64_t outage)
{
	struct seen c = some(outage * w / 100, (before + outage) * w / 100);
	struct seen l = some(outage - c.failures, before + outage - c.requests);

	return judge(c, l);
}

static void
shared_outage_freezes(void **state)
{
	static const unsigned weights[] = {5, 25, 50, 75, 90};
	static const uint64_t befores[] = {0, 100, 1000, 30000};

	(void)state;
	for (unsigned w = 0; w < 5; w++) {
		for (unsigned b = 0; b < 4; b++) {
			bool failed = false;

			/* at no moment of it does it trip; from some moment on it is frozen */
			for (uint64_t n = 1; n < 2000; n++) {
				struct verdict v = outage(weights[w], befores[b], n);

				/* until the live color has had its first failure nothing can be known */
				if (v.live.failures == 0)
					continue;
				if (v.word == VERDICT_FAIL && !v.frozen)
					fail_msg("weight %u, %u before, %u in the outage: %s",
					    weights[w], (unsigned)befores[b], (unsigned)n,
					    v.reason);
				failed = v.word == VERDICT_FAIL;
			}
			assert_true(failed);
		}
	}
	struct verdict v = outage(25, 0, 40);
	assert_string_equal(v.reason, "green failed 10 of 10 (100 %, at least 51.2 % beyond "
				      "chance), limit 1 %; but blue could "
				      "not take the traffic: it failed 30 of 30 (100 %)");
}

static void
worse_than_a_bad_live_color_trips(void **state)
{
	(void)state;
	/* 2 % against 60 % */
	struct verdict v = judge(some(60, 100), some(6, 300));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	v = judge(some(9, 15), some(1, 45));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	/* 5 % and 5 %: the same */
	v = judge(some(50, 1000), some(150, 3000));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, true);
	/* the live color within its limit is no excuse, however near */
	v = judge(some(60, 3000), some(89, 9000));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	/* one accident of the live color does not save a dead release for long */
	v = judge(some(5, 5), some(1, 15));
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, false);
	/* relative: live is fine by the limit */
	v = judge_by(&limits, some(20, 2400), some(60, 9000), 1e5);
	assert_verdict(&v, VERDICT_FAIL, RULE_RELATIVE, false);
}

static void
shared_slowness_freezes(void **state)
{
	struct seen c = some(0, 40), l = some(0, 100);

	(void)state;
	c.slow = 12;
	c.p95_ms = 2000;
	l.slow = 20;
	l.overdue = 20;
	struct verdict v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, true);
	assert_non_null(
	    strstr(v.reason, "; but blue could not take the traffic: 20 of 100 of its "
			     "answers took longer than 1s, 20 unanswered for longer than 1s"));
	assert_true(strlen(v.reason) < VERDICT_REASON_MAX - 1);
	/* a little slow against much slower */
	c = some(0, 40);
	c.slow = 36;
	l = some(0, 120);
	l.slow = 8;
	v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, false);
	/* slow, but going back would be to failures; one failure is an accident */
	v = judge(c, some(60, 120));
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, true);
	v = judge(c, some(2, 120));
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, false);
	c = some(0, 40);
	c.backends_up = 1;
	v = judge(c, some(60, 120));
	assert_verdict(&v, VERDICT_FAIL, RULE_HEALTHY_BACKENDS, true);
}

static void
longest_sentence_fits(void **state)
{
	const uint64_t many = UINT64_C(100000000000);
	struct seen c = {.requests = many,
	    .failures = many,
	    .slow = many,
	    .overdue = many,
	    .p95_ms = 123456.7,
	    .backends = 10000,
	    .backends_up = 10000};
	struct seen l = c;
	struct limits_config p95_only = limits;

	(void)state;
	struct verdict v = judge(c, l);
	assert_verdict(&v, VERDICT_FAIL, RULE_FAILURE_RATE, true);
	assert_true(strlen(v.reason) < VERDICT_REASON_MAX - 1);
	p95_only.failure_rate_bp = 10000;
	p95_only.p95_ms = 59999;
	v = judge_by(&p95_only, c, l, 1);
	assert_verdict(&v, VERDICT_FAIL, RULE_P95, true);
	/* cut, not overrun */
	assert_true(strlen(v.reason) < VERDICT_REASON_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(quantiles_of_the_normal),
	    cmocka_unit_test(wilson_bounds),
	    cmocka_unit_test(martingale),
	    cmocka_unit_test(stakes_are_bounded),
	    cmocka_unit_test(no_way_back_freezes),
	    cmocka_unit_test(words),
	    cmocka_unit_test(dead_release_fails_at_its_third),
	    cmocka_unit_test(failure_rate_border),
	    cmocka_unit_test(pass_and_wait),
	    cmocka_unit_test(p95_rule),
	    cmocka_unit_test(hang_is_seen_by_its_age),
	    cmocka_unit_test(relative_rule),
	    cmocka_unit_test(healthy_backends_rule),
	    cmocka_unit_test(live_without_backends_freezes),
	    cmocka_unit_test(shared_outage_freezes),
	    cmocka_unit_test(worse_than_a_bad_live_color_trips),
	    cmocka_unit_test(shared_slowness_freezes),
	    cmocka_unit_test(longest_sentence_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
