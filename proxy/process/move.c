/*
 * One move of a rollout, teal's own or an operator's: written to disk, obeyed by the workers, told;
 * and the gate that is asked before a step.  See release_private.h.
 *
 *      move_begin() -> move_on() -> gate? -> asked -> on_gate(): yes -> enter()
 *                   |                |                           no  -> "gate refused"
 *                   |                +-> enter()
 *                   +-> move_promote(), move_back(), move_say()
 *
 * What the disk refuses does not happen.  Control thread.
 */
#include <stdio.h>
#include <string.h>

#include "proxy/process/release_private.h"

void
move_step_text(char out[48], const struct rollout *o)
{
	unsigned bp = o->steps[o->step].weight_bp;

	snprintf(out, 48, bp % 100 == 0 ? "step %u, %u %%" : "step %u, %u.%02u %%", o->step + 1,
	    bp / 100, bp % 100);
}

void
move_begin(struct move *m, struct release *r, const struct rollout *next, const struct change *by,
    struct round *round)
{
	memset(m, 0, sizeof(*m));
	m->r = r;
	m->by = by;
	m->round = round;
	m->seen = release_course(r);
	want_now(&m->want, r->control, release_service(r), m->seen);
	if (next->state != r->rollout.state)
		m->want.rollout_wall_ms = control_wall_ms();
	m->want.rollout = *next;
}

bool
move_make(struct move *m, const char *why)
{
	struct release *r = m->r;
	struct control *c = r->control;
	struct service *s = release_service(r);

	if (course_tripped(m->seen) && !r->trip.on)
		return false; /* the letter of the trip is on its way */
	if (control_save(c, s, &m->want, m->err, sizeof(m->err)) == -1) {
		r->again_ms = control_now_ms() + RELEASE_AGAIN_MS;
		snprintf(r->refusal, sizeof(r->refusal), "state not written: %s", m->err);
		return false;
	}
	return control_obey(c, s, &m->want, m->seen, why, m->round) == 0;
}

static void
record(const struct move *m, const char *action, const char *from, const char *to,
    const char *reason, const struct verdict *v)
{
	control_record(m->r->control, release_service(m->r), m->by, action, from, to, reason, v);
}

/* What teal's own move is founded on. */
static const struct verdict *
founded_on(const struct move *m)
{
	return m->r->looked && m->by == NULL ? &m->r->verdict : NULL;
}

/* The step's gate has let it pass, or there is none. */
static bool
enter(struct move *m)
{
	char why[48], from[16];

	rollout_entered(&m->want.rollout, control_now_ms());
	m->want.weight_bp = rollout_weight(&m->want.rollout);
	m->want.step_wall_ms = control_wall_ms();
	move_step_text(why, &m->want.rollout);
	snprintf(from, sizeof(from), "%u.%02u %%", course_weight(m->seen) / 100,
	    course_weight(m->seen) % 100);
	if (!move_make(m, why))
		return false;
	record(m, "step", from, why, "", founded_on(m));
	release_announce(m->r, "step", "");
	return true;
}

bool
move_on(struct move *m)
{
	char why[48];

	gate_stop(m->r);
	/* entered: an operator promoted over the gate */
	if (release_config(m->r)->gate.command.n == 0 || m->want.rollout.entered)
		return enter(m);
	if (!move_make(m, "gate"))
		return false;
	if (m->by != NULL) {
		move_step_text(why, &m->want.rollout);
		record(m, "gate asked", "", why, "", NULL);
	}
	gate_ask(m->r);
	return true;
}

bool
move_promote(struct move *m)
{
	enum color to = m->want.rollout.to;

	gate_stop(m->r);
	m->want.live = to;
	m->want.weight_bp = 0;
	if (!move_make(m, "promoted"))
		return false;
	record(m, "promote", color_name(course_live(m->seen)), color_name(to), "", founded_on(m));
	release_announce(m->r, "promoted", "");
	return true;
}

bool
move_back(struct move *m, const char *action)
{
	struct release *r = m->r;
	struct rollout before = r->rollout;
	struct verdict last = r->verdict;
	const struct verdict *v = r->looked ? &last : NULL;
	const char *reason = m->want.rollout.reason;
	enum color live = course_live(m->seen);

	gate_stop(r);
	m->want.weight_bp = 0;
	if (!move_make(m, action))
		return false;
	record(m, action, color_name(before.to), color_name(live), reason, v);
	release_keep_evidence(r, action, reason, v, &before, live, course_weight(m->seen));
	release_announce(r, "rolled_back", reason);
	return true;
}

bool
move_say(struct move *m, const char *action, const char *type)
{
	if (!move_make(m, action))
		return false;
	record(m, action, "", "", m->want.rollout.reason, NULL);
	release_announce(m->r, type, m->want.rollout.reason);
	return true;
}

/* --- gates ------------------------------------------------------------------------------- */

bool
release_no_way_back(const struct release *r)
{
	return r->looked && r->verdict.frozen && course_weight(release_course(r)) != 0;
}

void
gate_stop(struct release *r)
{
	if (r->gate != NULL)
		run_cancel(r->gate);
	r->gate = NULL;
}

static void
on_gate(void *arg, const struct run_result *result)
{
	struct release *r = arg;
	struct rollout next = r->rollout;
	char reason[ROLLOUT_REASON_MAX];
	struct move m;
	size_t line;

	r->gate = NULL;
	if (next.state != ROLLOUT_STEPPING || next.entered)
		return;
	if (result->end == RUN_EXITED && result->code == 0) {
		if (release_no_way_back(r))
			return; /* the beat asks again when there is one */
		move_begin(&m, r, &next, NULL, NULL);
		(void)enter(&m);
		return;
	}
	line = strcspn(result->output, "\n");
	snprintf(reason, sizeof(reason), "the gate refused step %u (%u %%): %s%s%.*s",
	    next.step + 1, next.steps[next.step].weight_bp / 100, result->sentence,
	    line > 0 ? ": " : "", line < 160 ? (int)line : 160, result->output);
	(void)rollout_refused(&next, reason);
	move_begin(&m, r, &next, NULL, NULL);
	(void)move_say(&m, "gate refused", "gate_refused");
}

void
gate_ask(struct release *r)
{
	const struct rollout *o = &r->rollout;
	const struct step_config *step = &o->steps[o->step];
	const struct gate_config *gate = &release_config(r)->gate;
	char text[5][96];
	const char *environment[6] = {text[0], text[1], text[2], text[3], text[4], NULL};

	snprintf(text[0], sizeof(text[0]), "TEAL_SERVICE=%s", release_name(r));
	snprintf(text[1], sizeof(text[1]), "TEAL_COLOR=%s", color_name(o->to));
	snprintf(text[2], sizeof(text[2]), "TEAL_STEP=%u", o->step + 1);
	snprintf(text[3], sizeof(text[3]), "TEAL_STEPS=%u", o->n_steps);
	snprintf(text[4], sizeof(text[4]), "TEAL_WEIGHT=%u.%02u", step->weight_bp / 100,
	    step->weight_bp % 100);
	r->gate = run_start(
	    r->control->base, &gate->command, environment, "", 0, gate->timeout_ms, on_gate, r);
}
