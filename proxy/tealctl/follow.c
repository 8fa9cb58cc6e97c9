/* Following one rollout.  See follow.h. */
#include <string.h>

#include "proxy/tealctl/follow.h"
#include "proxy/tealctl/text.h"

void
follow_begin(struct follow *f, const json_t *service)
{
	const json_t *rollout = json_object_get(service, "rollout");
	enum color candidate = member_color_word(service, "candidate", GREEN);

	*f = (struct follow){.to = member_color_word(rollout, "to", candidate)};
	f->steps = json_deep_copy(json_object_get(rollout, "steps"));
}

void
follow_fini(struct follow *f)
{
	json_decref(f->steps);
	f->steps = NULL;
}

static void
put_name(FILE *out, const json_t *service)
{
	put_safe(out, member_text(service, "name"));
	(void)fputs(": ", out);
}

static void
put_reason(FILE *out, const char *before, const char *reason)
{
	if (*reason == '\0')
		return;
	(void)fputs(before, out);
	put_safe(out, reason);
}

/* --- ends ------------------------------------------------------------------------------------- */

static enum follow_end
promoted(const struct follow *f, const json_t *service, FILE *lines)
{
	put_name(lines, service);
	(void)fprintf(lines, "%s was promoted: it is live\n", color_name(f->to));
	return FOLLOW_PROMOTED;
}

static void
put_why(const json_t *service, FILE *end)
{
	(void)fputs("\n  the evidence: tealctl why ", end);
	put_safe(end, member_text(service, "name"));
	if (member_true(service, "tripped")) {
		(void)fputs("\n  no other rollout before: tealctl rearm ", end);
		put_safe(end, member_text(service, "name"));
	}
	(void)fputc('\n', end);
}

static enum follow_end
rolled_back(const struct follow *f, const json_t *service, const char *reason, FILE *end)
{
	put_name(end, service);
	(void)fprintf(end, "%s was rolled back", color_name(f->to));
	put_reason(end, ": ", reason);
	put_why(service, end);
	return FOLLOW_ROLLED_BACK;
}

static enum follow_end
undecided(const json_t *service, const char *what, const char *on, FILE *end)
{
	const json_t *rollout = json_object_get(service, "rollout");

	put_name(end, service);
	(void)fprintf(end, "the rollout %s in step %.0f/%zu, at %.10g %%", what,
	    member_number(rollout, "step"), json_array_size(json_object_get(rollout, "steps")),
	    member_number(service, "weight"));
	put_reason(end, ": ", member_text(rollout, "reason"));
	(void)fprintf(end, "\n  go on: tealctl rollout %s ", on);
	put_safe(end, member_text(service, "name"));
	(void)fputs("\n  go back: tealctl rollout abort ", end);
	put_safe(end, member_text(service, "name"));
	(void)fputc('\n', end);
	return FOLLOW_UNDECIDED;
}

/* --- what is new ------------------------------------------------------------------------------ */

static bool
same_steps(const json_t *a, const json_t *b)
{
	if (json_array_size(a) != json_array_size(b))
		return false;
	for (size_t i = 0; i < json_array_size(a); i++) {
		const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);

		if (member_number(x, "weight") != member_number(y, "weight") ||
		    member_number(x, "hold_ms") != member_number(y, "hold_ms"))
			return false;
	}
	return true;
}

/* A position before the one seen, other steps: somebody began another. */
static bool
is_another(const struct follow *f, const json_t *rollout)
{
	double step = member_number(rollout, "step");

	if (!same_steps(f->steps, json_object_get(rollout, "steps")))
		return true;
	return step < f->step ||
	       (step == f->step && f->entered && !member_true(rollout, "entered"));
}

static void
tell_position(const struct follow *f, const json_t *service, FILE *lines)
{
	const json_t *rollout = json_object_get(service, "rollout");
	const json_t *steps = json_object_get(rollout, "steps");
	double step = member_number(rollout, "step");
	bool entered = member_true(rollout, "entered"), gate = member_true(rollout, "gate");

	if (f->step == 0) {
		put_name(lines, service);
		(void)fprintf(lines, "rollout to %s: ", color_name(f->to));
		put_steps(lines, steps);
		(void)fputc('\n', lines);
	}
	if (gate && !(f->gate && f->step == step)) {
		put_name(lines, service);
		(void)fprintf(
		    lines, "step %.0f/%zu: its gate is asked\n", step, json_array_size(steps));
	}
	if (entered && !(f->entered && f->step == step)) {
		put_name(lines, service);
		(void)fprintf(lines, "step %.0f/%zu: %s has %.10g %% for ", step,
		    json_array_size(steps), color_name(f->to), member_number(service, "weight"));
		put_safe(lines, member_text(json_array_get(steps, (size_t)step - 1), "hold"));
		(void)fputc('\n', lines);
	}
}

/* Frozen, going on, held longer than planned. */
static void
tell_hold(struct follow *f, const json_t *service, FILE *lines)
{
	const json_t *rollout = json_object_get(service, "rollout");
	const char *reason = member_text(rollout, "reason");
	bool frozen = member_true(rollout, "frozen");
	bool longer = member_true(rollout, "entered") &&
		      member_number(rollout, "held_ms") > member_number(rollout, "hold_ms");

	if (frozen && (!f->frozen || strcmp(reason, f->reason) != 0)) {
		put_name(lines, service);
		(void)fputs("frozen", lines);
		put_reason(lines, ": ", reason);
		(void)fputc('\n', lines);
	} else if (!frozen && f->frozen) {
		put_name(lines, service);
		(void)fputs("goes on\n", lines);
	} else if (longer && !f->longer) {
		put_name(lines, service);
		(void)fprintf(lines, "step %.0f is held longer", member_number(rollout, "step"));
		put_reason(
		    lines, ": ", member_text(json_object_get(rollout, "judgement"), "reason"));
		(void)fputc('\n', lines);
	}
	f->frozen = frozen;
	f->longer = longer;
	(void)snprintf(f->reason, sizeof(f->reason), "%s", reason);
}

static enum follow_end
look_active(struct follow *f, const json_t *service, FILE *lines, FILE *end)
{
	const json_t *rollout = json_object_get(service, "rollout");

	tell_position(f, service, lines);
	f->step = member_number(rollout, "step");
	f->entered = member_true(rollout, "entered");
	f->gate = member_true(rollout, "gate");
	if (strcmp(member_text(rollout, "state"), "paused") == 0)
		return undecided(service, "is paused", "resume", end);
	tell_hold(f, service, lines);
	if (member_true(rollout, "waiting"))
		return undecided(service, "has held well and waits for you", "promote", end);
	return FOLLOW_ON;
}

enum follow_end
follow_look(struct follow *f, const json_t *service, FILE *lines, FILE *end)
{
	const json_t *rollout = json_object_get(service, "rollout");
	const char *state = member_text(rollout, "state");
	bool active = strcmp(state, "stepping") == 0 || strcmp(state, "paused") == 0;

	if (member_color_word(service, "live", f->to == BLUE ? GREEN : BLUE) == f->to)
		return promoted(f, service, lines);
	if (active && !is_another(f, rollout))
		return look_active(f, service, lines, end);
	if (active)
		return rolled_back(f, service, "another rollout has been started since", end);
	if (strcmp(state, "rolled_back") == 0)
		return rolled_back(f, service, member_text(rollout, "reason"), end);
	if (strcmp(state, "promoted") == 0) /* and flipped back since */
		return promoted(f, service, lines);
	return rolled_back(f, service, "teal knows no rollout any more; see tealctl history", end);
}
