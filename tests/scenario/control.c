/*
 * The control thread and its operator, see world.h.
 *
 * As in the daemon: a copy of the rollout is asked, the copy becomes the state, then its act is
 * obeyed.
 */
#include <stdio.h>
#include <string.h>

#include "balancer/guard.h"
#include "tests/scenario/world.h"

#define ALL_BP 10000u

/* --- the course ----------------------------------------------------------- */

static void
set_course(struct world *w, enum color live, unsigned weight_bp)
{
	uint32_t old = service_course(w->state);
	bool flips = course_live(old) != live;
	bool begins = flips || (course_weight(old) == 0 && weight_bp != 0);

	if (!flips && course_weight(old) == weight_bp)
		return;
	guard_weight(w->state, begins, weight_bp, world_ms(w));
	atomic_store(
	    &w->state->course, course_of(live, weight_bp) | (w->tripped ? COURSE_TRIPPED : 0));
	for (unsigned c = 0; c < N_COLORS; c++)
		w->counts[c].got_at_weight = 0;
	if (flips)
		world_tell(w, "%s is live", color_name(live));
	else
		world_tell(w, "weight %g", weight_bp / 100.0);
}

static enum color
live(const struct world *w)
{
	return course_live(service_course(w->state));
}

/* --- gates, acts ---------------------------------------------------------- */

static void
ask_gate(struct world *w)
{
	w->gate_answers_us = w->now_us + w->gate_takes_us;
	w->n_gates++;
	world_tell(w, "asks the gate of step %u", w->rollout.step + 1);
}

static void
enter(struct world *w)
{
	rollout_entered(&w->rollout, world_ms(w));
	set_course(w, live(w), rollout_weight(&w->rollout));
}

static void
next(struct world *w)
{
	set_course(w, live(w), rollout_weight(&w->rollout));
	if (w->rollout.entered)
		return;
	if (w->gate == GATE_NONE)
		enter(w);
	else
		ask_gate(w);
}

static void
obey(struct world *w, const struct rollout *rollout, enum rollout_act act)
{
	w->rollout = *rollout;
	if (act == ROLLOUT_STAY)
		return;
	w->gate_answers_us = NEVER; /* whatever it is now, no gate is asked any more */
	if (rollout->state == ROLLOUT_STEPPING && rollout->reason[0] == '\0')
		world_tell(w, "stepping: step %u of %u", rollout->step + 1, rollout->n_steps);
	else
		world_tell(w, "%s: %s", rollout_state_name(rollout->state), rollout->reason);
	switch (act) {
	case ROLLOUT_STAY:
	case ROLLOUT_SAY:
		break;
	case ROLLOUT_NEXT:
		next(w);
		break;
	case ROLLOUT_PROMOTE:
		set_course(w, rollout->to, 0);
		break;
	case ROLLOUT_GIVE_UP:
		set_course(w, live(w), 0);
		break;
	}
}

static void
gate_answers(struct world *w)
{
	struct rollout rollout = w->rollout;

	w->gate_answers_us = NEVER;
	if (w->gate == GATE_REFUSES)
		obey(w, &rollout, rollout_refused(&rollout, "gate: exit code 1"));
	else
		enter(w);
}

/* --- the tick ------------------------------------------------------------- */

/* The worker has set the weight to 0; what is left is to say so and to lock the candidate out. */
void
control_tripped(struct world *w, const struct verdict *v)
{
	struct rollout rollout = w->rollout;

	w->tripped = true;
	w->trip = *v;
	w->n_trips++;
	w->gate_answers_us = NEVER;
	for (unsigned c = 0; c < N_COLORS; c++)
		w->counts[c].got_since_trip = w->counts[c].got_at_weight = 0;
	guard_weight(w->state, false, 0, world_ms(w));
	world_tell(w, "tripped by %s: %s", rule_name(v->rule), v->reason);
	rollout_tripped(&rollout, v->reason);
	w->rollout = rollout;
}

void
control_tick(struct world *w)
{
	struct rollout rollout;
	enum rollout_act act;

	if (w->gate_answers_us <= w->now_us)
		gate_answers(w);
	guard_restake(w->service.state);
	if (guard_look(&w->service, world_ms(w), &w->verdict))
		control_tripped(w, &w->verdict);
	rollout = w->rollout;
	act = rollout_tick(&rollout, &w->config.rollout, &w->verdict, world_ms(w));
	obey(w, &rollout, act);
}

/* --- orders --------------------------------------------------------------- */

/* What is counted for the scenario begins anew with every candidate. */
static void
count_anew(struct world *w)
{
	memset(w->counts, 0, sizeof w->counts);
	w->n_trips = 0;
	w->n_gates = 0;
}

const char *
world_start(struct world *w, enum color to, const struct step_config *steps, unsigned n)
{
	struct rollout rollout = w->rollout;

	if (w->tripped)
		return "the service is tripped: rearm it first";
	if (rollout_active(&rollout))
		return "a rollout is under way";
	if (to == live(w))
		return "this color is live already";
	count_anew(w);
	obey(w, &rollout, rollout_begin(&rollout, to, steps, n));
	return NULL;
}

const char *
world_pause(struct world *w)
{
	struct rollout rollout = w->rollout;
	enum rollout_act act = ROLLOUT_STAY;
	const char *refused = rollout_pause(&rollout, "", &act);

	obey(w, &rollout, act);
	return refused;
}

const char *
world_resume(struct world *w)
{
	struct rollout rollout = w->rollout;
	enum rollout_act act = ROLLOUT_STAY;
	const char *refused = rollout_resume(&rollout, &act);

	obey(w, &rollout, act);
	return refused;
}

const char *
world_promote(struct world *w, bool full)
{
	struct rollout rollout = w->rollout;
	enum rollout_act act = ROLLOUT_STAY;
	const char *refused = rollout_promote(&rollout, full, &act);

	obey(w, &rollout, act);
	return refused;
}

const char *
world_abort(struct world *w)
{
	struct rollout rollout = w->rollout;
	enum rollout_act act = ROLLOUT_STAY;
	const char *refused = rollout_abort(&rollout, "", &act);

	obey(w, &rollout, act);
	return refused;
}

const char *
world_rearm(struct world *w)
{
	if (!w->tripped)
		return "nothing has tripped";
	w->tripped = false;
	atomic_store(&w->state->course, course_of(live(w), 0));
	world_tell(w, "rearmed");
	return NULL;
}

const char *
world_weight(struct world *w, unsigned weight_bp)
{
	if (w->tripped)
		return "the service is tripped: rearm it first";
	if (rollout_active(&w->rollout))
		return "a rollout is under way";
	if (course_weight(service_course(w->state)) == 0)
		count_anew(w);
	set_course(w, live(w), weight_bp);
	return NULL;
}

/* --- start and restart ---------------------------------------------------- */

/* From what the state file keeps: the course, the trip, the rollout. */
void
control_begin(struct world *w)
{
	unsigned weight_bp = course_weight(service_course(w->state));

	w->gate_answers_us = NEVER;
	if (weight_bp != 0)
		guard_weight(w->state, true, weight_bp, world_ms(w));
	/* a gate whose answer nobody heard is asked again */
	if (w->rollout.state == ROLLOUT_STEPPING && !w->rollout.entered)
		next(w);
}
