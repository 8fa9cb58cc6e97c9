/*
 * Is the candidate well?  Pure: numbers in, pass / fail / wait with its sentence out.
 *
 *   failure_rate  the lower end of a one-sided Wilson interval (Wilson 1927) of the candidate's
 *                 failure rate, at limits.confidence, is above the limit, and there are at least
 *                 min_failures
 *   p95           the same for the share of exchanges slower than limits.p95 to the response head,
 *                 against 5 %; exchanges still unanswered that are older than the limit are slow
 *                 ones: a hang is seen by its age
 *   relative      a test martingale (Ville 1939; Shafer and Vovk) on the order of failures: its
 *                 wealth is 1/alpha = 10,000 or more
 *   healthy_backends  fewer of the candidate's backends are up than the limit says
 *
 * Nothing trips when going back would not help: the verdict is then `frozen`, whatever its word;
 * with no backend of the live color up it always is.
 */
#ifndef TEAL_VERDICT_H
#define TEAL_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "balancer/fleet.h"
#include "config/config.h"

enum verdict_word { VERDICT_WAIT, VERDICT_PASS, VERDICT_FAIL };
enum rule { RULE_NONE, RULE_FAILURE_RATE, RULE_P95, RULE_RELATIVE, RULE_HEALTHY_BACKENDS };
#define N_RULES 5
const char *verdict_word_name(enum verdict_word); /* "wait", "pass", "fail" */
const char *rule_name(enum rule); /* "", "failure_rate", "p95", "relative", "healthy_backends" */
/* 0, or -1 when the word is no rule. */
int rule_parse(const char *word, enum rule *);

/* What was seen of one color within the window, since the guard began. */
struct seen {
	uint64_t requests,
	    failures;     /* ended exchanges; a rescued one is a failure of the candidate */
	uint64_t slow;    /* of requests: slower than limits.p95; 0 when that is off */
	uint64_t overdue; /* unanswered, older than limits.p95 */
	double p95_ms;    /* of those that were answered */
	unsigned backends, backends_up;
};

#define VERDICT_REASON_MAX 256
struct verdict {
	enum verdict_word word;
	enum rule rule; /* that failed */
	bool frozen;    /* the live color could not take the traffic */
	double lower;   /* percent: of failures or slow ones, what is beyond chance */
	double limit;   /* of the rule: percent; ms for p95 */
	double wealth;
	struct seen candidate, live;
	/* "green failed 7 of 31 (22.6 %, at least 9.1 % beyond chance), limit 1 %" */
	char reason[VERDICT_REASON_MAX];
};

/* `color`: the candidate's, for the sentence.  Any thread; some hundred ns. */
void verdict(struct verdict *out, const struct limits_config *, enum color color,
    const struct seen *candidate, const struct seen *live, double wealth);

/* One-sided Wilson score bounds of k of n, 0..1; n == 0: 0 and 1.  z: of the confidence. */
double wilson_lower(uint64_t k, uint64_t n, double z);
double wilson_upper(uint64_t k, uint64_t n, double z);
/* The standard normal quantile of p, 0.5 <= p < 1. */
double normal_quantile(double p);

/*
 * The relative rule: of every failure it is asked whether it was the candidate's.  Under equal
 * quality it is with probability `share`, the candidate's share of answered exchanges.  What the
 * logarithms of the wealth grow by, for r = 2, 5, 20: log(q/share) or log((1-q)/(1-share)), q =
 * share*r / (share*r + 1 - share).
 */
void martingale_step(double out[N_RATIOS], bool candidate_failed, double share);
/*
 * Where nothing was wrong for long, a bet on a bad release has lost nearly all of its stake, and
 * would take long to see it turn bad.  So it gets a new stake whenever it has fallen below one:
 * half of all that may ever be staked at the beginning, then 1 / (2 j (j + 1)) for the j-th time.
 * All stakes together are 1, so Ville's bound stays what it is.
 */
#define MARTINGALE_START (-0.69314718055994531) /* log 1/2 */
/* The logarithm to go on with; *stakes is how many there were after the first. */
double martingale_restake(double log, uint32_t *stakes);
/* The mean of their exponentials. */
double martingale_wealth(const double logs[N_RATIOS]);
#define WEALTH_TRIPS 1e4

#endif
