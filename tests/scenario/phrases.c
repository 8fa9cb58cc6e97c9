/* The three tables of the language, see phrases.h: a phrase, and what it does or asks. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenario/phrases.h"

/* --- settings: what is said of the service -------------------------------- */

static unsigned
bp(double percent)
{
	return (unsigned)(percent * 100 + 0.5);
}

static struct limits_config *
limits(struct world *w)
{
	return &w->config.rollout.limits;
}

static const char *
set_steps(struct world *w, const struct values *v)
{
	static char err[256];

	free(w->config.rollout.steps);
	w->config.rollout.steps = NULL;
	return steps_parse(v->text, &w->config.rollout.steps, &w->config.rollout.n_steps, err,
		   sizeof err) < 0
		   ? err
		   : NULL;
}

static const char *
set_failure_rate(struct world *w, const struct values *v)
{
	limits(w)->failure_rate_bp = bp(v->number[0]);
	return NULL;
}

static const char *
set_p95(struct world *w, const struct values *v)
{
	limits(w)->p95_ms = v->duration_ms;
	return NULL;
}

static const char *
set_window(struct world *w, const struct values *v)
{
	limits(w)->window_ms = v->duration_ms;
	return NULL;
}

static const char *
set_min_requests(struct world *w, const struct values *v)
{
	limits(w)->min_requests = (unsigned)v->number[0];
	return NULL;
}

static const char *
set_min_failures(struct world *w, const struct values *v)
{
	limits(w)->min_failures = (unsigned)v->number[0];
	return NULL;
}

static const char *
set_relative_off(struct world *w, const struct values *v)
{
	(void)v;
	limits(w)->relative = false;
	return NULL;
}

static const char *
set_healthy_backends(struct world *w, const struct values *v)
{
	limits(w)->healthy_backends_bp = bp(v->number[0]);
	return NULL;
}

static const char *
set_auto_off(struct world *w, const struct values *v)
{
	(void)v;
	w->config.rollout.automatic = false;
	return NULL;
}

static const char *
set_max_hold(struct world *w, const struct values *v)
{
	w->config.rollout.max_hold_ms = v->duration_ms;
	return NULL;
}

static const char *
set_on_inconclusive(struct world *w, const struct values *v)
{
	bool rollback = strcmp(v->text, "rollback") == 0;

	if (!rollback && strcmp(v->text, "pause") != 0)
		return "on_inconclusive is pause or rollback";
	w->config.rollout.on_inconclusive = rollback ? INCONCLUSIVE_ROLLBACK : INCONCLUSIVE_PAUSE;
	return NULL;
}

static const char *
set_backends(struct world *w, const struct values *v)
{
	if (v->number[0] < 1 || v->number[0] > BACKENDS_MAX)
		return "too many backends";
	for (unsigned c = 0; c < N_COLORS; c++) {
		if (v->has[c])
			w->n_backends[c] = (unsigned)v->number[0];
	}
	return NULL;
}

static const char *
set_seed(struct world *w, const struct values *v)
{
	w->seed = (uint64_t)v->number[0];
	return NULL;
}

static const struct order settings[] = {
    {"steps STEPS", set_steps},
    {"failure_rate NUMBER", set_failure_rate},
    {"p95 DURATION", set_p95},
    {"window DURATION", set_window},
    {"min_requests NUMBER", set_min_requests},
    {"min_failures NUMBER", set_min_failures},
    {"relative off", set_relative_off},
    {"healthy_backends NUMBER", set_healthy_backends},
    {"auto off", set_auto_off},
    {"max_hold DURATION", set_max_hold},
    {"on_inconclusive WORD", set_on_inconclusive},
    {"COLOR has NUMBER backend(s)", set_backends},
    {"seed NUMBER", set_seed},
};
#define N_SETTINGS (sizeof settings / sizeof settings[0])

/* --- actions: what happens, and what the operator orders ------------------ */

static const char *
do_traffic(struct world *w, const struct values *v)
{
	world_traffic(w, v->number[0]);
	return NULL;
}

static const char *
do_no_traffic(struct world *w, const struct values *v)
{
	(void)v;
	world_traffic(w, 0);
	return NULL;
}

static const char *
do_wait(struct world *w, const struct values *v)
{
	w->patience_us = v->duration_ms * 1000;
	return NULL;
}

static const char *
do_fails(struct world *w, const struct values *v)
{
	for (unsigned c = 0; c < N_COLORS; c++) {
		if (v->has[c])
			w->does[c].fails = v->number[0];
	}
	return NULL;
}

static const char *
do_hangs(struct world *w, const struct values *v)
{
	for (unsigned c = 0; c < N_COLORS; c++) {
		if (v->has[c])
			w->does[c].hangs = v->number[0];
	}
	return NULL;
}

static const char *
do_answers(struct world *w, const struct values *v)
{
	for (unsigned c = 0; c < N_COLORS; c++) {
		if (v->has[c])
			w->does[c].answers_us = v->duration_ms * 1000;
	}
	return NULL;
}

static const char *
do_backends(struct world *w, const struct values *v)
{
	for (enum color c = BLUE; c <= GREEN; c++) {
		if (!v->has[c])
			continue;
		if (v->number[0] > w->n_backends[c])
			return "it has not so many backends";
		world_backends(w, c, (unsigned)v->number[0]);
	}
	return NULL;
}

static const char *
do_down(struct world *w, const struct values *v)
{
	for (enum color c = BLUE; c <= GREEN; c++) {
		if (v->has[c])
			world_backends(w, c, 0);
	}
	return NULL;
}

static const char *
do_up(struct world *w, const struct values *v)
{
	for (enum color c = BLUE; c <= GREEN; c++) {
		if (v->has[c])
			world_backends(w, c, w->n_backends[c]);
	}
	return NULL;
}

static const char *
do_gate_goes(struct world *w, const struct values *v)
{
	w->gate = GATE_GOES;
	w->gate_takes_us = v->duration_ms * 1000;
	return NULL;
}

static const char *
do_gate_refuses(struct world *w, const struct values *v)
{
	w->gate = GATE_REFUSES;
	w->gate_takes_us = v->duration_ms * 1000;
	return NULL;
}

static const char *
do_start(struct world *w, const struct values *v)
{
	const struct rollout_config *c = &w->config.rollout;
	enum color to = color_other(course_live(service_course(w->state)));

	if (v->has[BLUE] || v->has[GREEN])
		to = v->has[BLUE] ? BLUE : GREEN;
	return world_start(w, to, c->steps, (unsigned)c->n_steps);
}

static const char *
do_pause(struct world *w, const struct values *v)
{
	(void)v;
	return world_pause(w);
}

static const char *
do_resume(struct world *w, const struct values *v)
{
	(void)v;
	return world_resume(w);
}

static const char *
do_promote(struct world *w, const struct values *v)
{
	(void)v;
	return world_promote(w, false);
}

static const char *
do_promote_full(struct world *w, const struct values *v)
{
	(void)v;
	return world_promote(w, true);
}

static const char *
do_abort(struct world *w, const struct values *v)
{
	(void)v;
	return world_abort(w);
}

static const char *
do_rearm(struct world *w, const struct values *v)
{
	(void)v;
	return world_rearm(w);
}

static const char *
do_weight(struct world *w, const struct values *v)
{
	return world_weight(w, bp(v->number[0]));
}

static const char *
do_restart(struct world *w, const struct values *v)
{
	(void)v;
	world_restart(w);
	return NULL;
}

static const struct order actions[] = {
    {"traffic NUMBER /s", do_traffic},
    {"no traffic", do_no_traffic},
    {"clients wait DURATION", do_wait},
    {"COLOR fails NUMBER %", do_fails},
    {"COLOR hangs NUMBER %", do_hangs},
    {"COLOR answers in DURATION", do_answers},
    {"COLOR has NUMBER backend(s) up", do_backends},
    {"COLOR down", do_down},
    {"COLOR up", do_up},
    {"gate goes after DURATION", do_gate_goes},
    {"gate refuses after DURATION", do_gate_refuses},
    {"rollout start", do_start},
    {"rollout start --to COLOR", do_start},
    {"rollout pause", do_pause},
    {"rollout resume", do_resume},
    {"rollout promote", do_promote},
    {"rollout promote --full", do_promote_full},
    {"rollout abort", do_abort},
    {"rearm", do_rearm},
    {"weight NUMBER", do_weight},
    {"restart", do_restart},
};
#define N_ACTIONS (sizeof actions / sizeof actions[0])

/* --- conditions: what is expected ----------------------------------------- */

static bool
in_range(double is, const struct values *v)
{
	return is >= v->min - 1e-9 && is <= v->max + 1e-9;
}

/* Of the one color that the condition names; both: of their sum. */
static double
count(const struct world *w, const struct values *v, size_t offset)
{
	double n = 0;

	for (unsigned c = 0; c < N_COLORS; c++) {
		uint64_t one;

		memcpy(&one, (const char *)&w->counts[c] + offset, sizeof one);
		n += v->has[c] ? (double)one : 0;
	}
	return n;
}

static bool
is_weight(const struct world *w, const struct values *v)
{
	return course_weight(service_course(w->state)) == bp(v->number[0]);
}

static bool
is_live(const struct world *w, const struct values *v)
{
	return v->has[course_live(service_course(w->state))];
}

static bool
is_state(const struct world *w, const struct values *v)
{
	return strcmp(rollout_state_name(w->rollout.state), v->text) == 0;
}

static bool
is_step(const struct world *w, const struct values *v)
{
	return rollout_active(&w->rollout) && w->rollout.step + 1 == (unsigned)v->number[0];
}

static bool
is_frozen(const struct world *w, const struct values *v)
{
	(void)v;
	return w->rollout.frozen;
}

static bool
is_not_frozen(const struct world *w, const struct values *v)
{
	return !is_frozen(w, v);
}

static bool
is_waiting(const struct world *w, const struct values *v)
{
	(void)v;
	return w->rollout.waiting;
}

static bool
is_gate_asked(const struct world *w, const struct values *v)
{
	(void)v;
	return w->gate_answers_us != NEVER;
}

static bool
is_gate_asked_times(const struct world *w, const struct values *v)
{
	return in_range(w->n_gates, v);
}

static bool
is_held(const struct world *w, const struct values *v)
{
	return in_range((double)w->rollout.held_ms, v);
}

static bool
is_left(const struct world *w, const struct values *v)
{
	return in_range((double)rollout_left_ms(&w->rollout), v);
}

static bool
is_trip(const struct world *w, const struct values *v)
{
	return w->n_trips > 0 && strcmp(rule_name(w->trip.rule), v->text) == 0;
}

static bool
is_no_trip(const struct world *w, const struct values *v)
{
	(void)v;
	return w->n_trips == 0;
}

static bool
is_tripped(const struct world *w, const struct values *v)
{
	(void)v;
	return w->tripped && course_tripped(service_course(w->state));
}

static bool
is_not_tripped(const struct world *w, const struct values *v)
{
	(void)v;
	return !w->tripped && !course_tripped(service_course(w->state));
}

static bool
is_verdict(const struct world *w, const struct values *v)
{
	return strcmp(verdict_word_name(w->verdict.word), v->text) == 0;
}

static bool
has_got(const struct world *w, const struct values *v)
{
	return in_range(count(w, v, offsetof(struct counts, got)), v);
}

static bool
has_got_since_trip(const struct world *w, const struct values *v)
{
	return w->n_trips > 0 && in_range(count(w, v, offsetof(struct counts, got_since_trip)), v);
}

static bool
has_failed(const struct world *w, const struct values *v)
{
	return in_range(count(w, v, offsetof(struct counts, failed)), v);
}

/* Of the requests since the weight last changed, percent. */
static bool
takes(const struct world *w, const struct values *v)
{
	uint64_t all = w->counts[BLUE].got_at_weight + w->counts[GREEN].got_at_weight;

	return all != 0 &&
	       in_range(count(w, v, offsetof(struct counts, got_at_weight)) * 100 / (double)all, v);
}

static bool
is_reason(const struct world *w, const struct values *v)
{
	return strstr(w->rollout.reason, v->text) != NULL;
}

static bool
was_said(const struct world *w, const struct values *v)
{
	double n = 0;

	for (unsigned i = 0; i < w->n_events; i++)
		n += strstr(w->events[i].text, v->text) != NULL;
	return in_range(n, v);
}

static const struct condition conditions[] = {
    {"weight NUMBER", is_weight},
    {"live COLOR", is_live},
    {"state WORD", is_state},
    {"step NUMBER", is_step},
    {"held SPAN", is_held},
    {"left SPAN", is_left},
    {"frozen", is_frozen},
    {"not frozen", is_not_frozen},
    {"waiting", is_waiting},
    {"gate asked", is_gate_asked},
    {"gate asked RANGE time(s)", is_gate_asked_times},
    {"trip by WORD", is_trip},
    {"no trip", is_no_trip},
    {"tripped", is_tripped},
    {"not tripped", is_not_tripped},
    {"verdict WORD", is_verdict},
    {"COLOR got RANGE request(s)", has_got},
    {"COLOR got RANGE request(s) since the trip", has_got_since_trip},
    {"COLOR failed RANGE request(s)", has_failed},
    {"COLOR takes RANGE %", takes},
    {"reason TEXT", is_reason},
    {"told TEXT RANGE time(s)", was_said},
};
#define N_CONDITIONS (sizeof conditions / sizeof conditions[0])

/* --- which one is it? ----------------------------------------------------- */

const struct order *
phrase_setting(const struct words *words, unsigned from, unsigned to, struct values *v)
{
	for (size_t i = 0; i < N_SETTINGS; i++) {
		if (words_match(words, from, to, settings[i].phrase, v))
			return &settings[i];
	}
	return NULL;
}

const struct order *
phrase_action(const struct words *words, unsigned from, unsigned to, struct values *v)
{
	for (size_t i = 0; i < N_ACTIONS; i++) {
		if (words_match(words, from, to, actions[i].phrase, v))
			return &actions[i];
	}
	return NULL;
}

const struct condition *
phrase_condition(const struct words *words, unsigned from, unsigned to, struct values *v)
{
	for (size_t i = 0; i < N_CONDITIONS; i++) {
		if (words_match(words, from, to, conditions[i].phrase, v))
			return &conditions[i];
	}
	return NULL;
}
