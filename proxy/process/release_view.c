/*
 * A service's rollout and trip as JSON, for status.  Control thread.
 */
#include <jansson.h>

#include "proxy/process/note.h"
#include "proxy/process/release_view.h"

static void
put(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

static json_t *
time_or_null(int64_t wall_ms)
{
	return wall_ms == 0 ? json_null() : view_time(wall_ms / 1000);
}

static json_t *
verdict_json(const struct verdict *v)
{
	json_t *o = json_object();

	put(o, "word", json_string(verdict_word_name(v->word)));
	put(o, "rule", json_string(rule_name(v->rule)));
	put(o, "frozen", json_boolean(v->frozen));
	put(o, "reason", view_text(v->reason));
	return o;
}

/* What an operator wants to know first: what the disk refused, why it is in its state, how it is
 * going. */
static const char *
reason(const struct release *r)
{
	if (r->refusal[0] != '\0')
		return r->refusal;
	if (r->rollout.reason[0] != '\0' || !r->looked || !rollout_active(&r->rollout))
		return r->rollout.reason;
	return r->verdict.reason;
}

json_t *
view_rollout(const struct release *r, const struct rollout_config *config)
{
	const struct rollout *o = &r->rollout;
	bool ever = o->state != ROLLOUT_IDLE;
	bool at_step = o->state == ROLLOUT_STEPPING || o->state == ROLLOUT_PAUSED ||
		       o->state == ROLLOUT_ROLLED_BACK;
	int64_t left = rollout_left_ms(o);
	json_t *j = json_object();

	put(j, "state", json_string(rollout_state_name(o->state)));
	put(j, "to", ever ? json_string(color_name(o->to)) : json_null());
	put(j, "from", ever ? json_string(color_name(color_other(o->to))) : json_null());
	put(j, "step", at_step ? json_integer((json_int_t)o->step + 1) : json_null());
	put(j, "entered", json_boolean(o->entered));
	put(j, "steps",
	    ever ? note_steps(o->steps, o->n_steps) : note_steps(config->steps, config->n_steps));
	put(j, "since", time_or_null(r->rollout_wall_ms));
	put(j, "step_since", time_or_null(r->step_wall_ms));
	put(j, "held_ms", json_integer(ever ? o->held_ms : 0));
	put(j, "hold_ms", json_integer(at_step ? o->steps[o->step].hold_ms : 0));
	put(j, "left_ms", left < 0 ? json_null() : json_integer(left));
	put(j, "frozen", json_boolean(o->frozen));
	put(j, "waiting", json_boolean(o->waiting));
	put(j, "gate", json_boolean(r->gate != NULL));
	put(j, "reason", view_text(reason(r)));
	put(j, "verdict",
	    r->looked ? json_string(verdict_word_name(r->verdict.word)) : json_null());
	put(j, "judgement", r->looked ? verdict_json(&r->verdict) : json_null());
	return j;
}

json_t *
view_trip(const struct release *r, uint32_t course)
{
	json_t *o;

	if (!r->trip.on)
		return json_null();
	o = json_object();
	put(o, "time", time_or_null(r->trip.wall_ms));
	put(o, "rule", json_string(rule_name(r->trip.rule)));
	put(o, "reason", view_text(r->trip.reason));
	put(o, "color", json_string(color_name(color_other(course_live(course)))));
	return o;
}
