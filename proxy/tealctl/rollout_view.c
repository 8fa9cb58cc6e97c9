/* A rollout in words and bars.  See rollout_view.h. */
#include <math.h>
#include <string.h>

#include "proxy/tealctl/rollout_view.h"

#define BAR_COLUMNS      40
#define LINE_BAR_COLUMNS 20

static bool
state_is(const json_t *rollout, const char *state)
{
	return strcmp(member_text(rollout, "state"), state) == 0;
}

bool
rollout_under_way(const json_t *service)
{
	const json_t *rollout = json_object_get(service, "rollout");

	return state_is(rollout, "stepping") || state_is(rollout, "paused");
}

double
rollout_part(const json_t *rollout)
{
	const json_t *step, *steps = json_object_get(rollout, "steps");
	double all = 0, done = 0, at = member_number(rollout, "step") - 1;
	size_t i;

	if (state_is(rollout, "promoted"))
		return 1;
	if (at < 0)
		return 0;
	json_array_foreach(steps, i, step)
	{
		double hold = member_number(step, "hold_ms");

		all += hold;
		if ((double)i < at)
			done += hold;
		else if ((double)i == at && member_true(rollout, "entered"))
			done += fmin(member_number(rollout, "held_ms"), hold);
	}
	if (all > 0)
		return done / all;
	return json_array_size(steps) == 0 ? 0 : at / (double)json_array_size(steps);
}

static const json_t *
step_now(const json_t *rollout)
{
	double at = member_number(rollout, "step");

	return at < 1 ? NULL : json_array_get(json_object_get(rollout, "steps"), (size_t)at - 1);
}

/* "step 2/3, 50 % for 5m" */
static void
put_step(FILE *out, const json_t *rollout)
{
	const json_t *step = step_now(rollout);

	(void)fprintf(out, "step %.0f/%zu, %.10g %% for ", member_number(rollout, "step"),
	    json_array_size(json_object_get(rollout, "steps")), member_number(step, "weight"));
	put_safe(out, member_text(step, "hold"));
}

/* "1m 2s held" */
static void
put_held(FILE *out, const json_t *rollout)
{
	if (!member_true(rollout, "entered")) {
		(void)fputs(
		    member_true(rollout, "gate") ? "its gate is asked" : "not entered yet", out);
		return;
	}
	put_age(out, member_number(rollout, "held_ms"));
	(void)fputs(" held", out);
}

/* Until promotion, if all goes well. */
static void
put_left(FILE *out, const char *before, const json_t *rollout)
{
	const json_t *left = json_object_get(rollout, "left_ms");

	if (!json_is_number(left))
		return;
	(void)fputs(before, out);
	put_age(out, json_number_value(left));
	(void)fputs(" left", out);
}

/* "25 % for 5m, [50 % for 5m], 100 % for 10m": where it is. */
static void
put_steps_marked(FILE *out, const json_t *rollout, const struct look *look)
{
	const json_t *step, *steps = json_object_get(rollout, "steps");
	double at = member_number(rollout, "step") - 1;
	size_t i;

	json_array_foreach(steps, i, step)
	{
		bool here = (double)i == at;

		(void)fputs(i == 0 ? "" : ", ", out);
		put_style(out, look, here ? "1" : (double)i < at ? "32" : "2");
		(void)fprintf(
		    out, "%s%.10g %% for ", here ? ">" : "", member_number(step, "weight"));
		put_safe(out, member_text(step, "hold"));
		put_plain(out, look);
	}
}

static void
put_verdict(FILE *out, const json_t *rollout, const struct look *look)
{
	const json_t *verdict = json_object_get(rollout, "judgement");
	const char *word = member_text(verdict, "word");

	if (*word == '\0')
		return;
	(void)fputs("    verdict ", out);
	put_style(out, look,
	    strcmp(word, "pass") == 0   ? "32"
	    : strcmp(word, "fail") == 0 ? "31"
					: "33");
	put_safe(out, word);
	put_plain(out, look);
	if (*member_text(verdict, "reason") != '\0') {
		(void)fputs(": ", out);
		put_safe(out, member_text(verdict, "reason"));
	}
	(void)fputc('\n', out);
}

/* A word that stands out, and the reason behind it. */
static void
put_flag(FILE *out, const char *word, const json_t *rollout, const struct look *look)
{
	(void)fputs("    ", out);
	put_style(out, look, "33;1");
	(void)fputs(word, out);
	put_plain(out, look);
	if (*member_text(rollout, "reason") != '\0') {
		(void)fputs(": ", out);
		put_safe(out, member_text(rollout, "reason"));
	}
	(void)fputc('\n', out);
}

/* "    go on: tealctl rollout resume api   go back: tealctl rollout abort api" */
static void
put_ways_out(FILE *out, const char *on, const char *name)
{
	(void)fprintf(out, "    go on: tealctl rollout %s ", on);
	put_safe(out, name);
	(void)fputs("   go back: tealctl rollout abort ", out);
	put_safe(out, name);
	(void)fputc('\n', out);
}

/* What keeps it from going on, or what it has to say. */
static void
view_obstacle(FILE *out, const json_t *service, const json_t *rollout, const struct look *look)
{
	const char *reason = member_text(rollout, "reason");
	const char *judged = member_text(json_object_get(rollout, "judgement"), "reason");

	if (state_is(rollout, "paused")) {
		put_flag(out, "PAUSED", rollout, look);
		put_ways_out(out, "resume", member_text(service, "name"));
	} else if (member_true(rollout, "waiting")) {
		put_flag(out, "WAITING for promote", rollout, look);
		put_ways_out(out, "promote", member_text(service, "name"));
	} else if (member_true(rollout, "frozen")) {
		put_flag(out, "FROZEN", rollout, look);
	} else if (*reason != '\0' && strcmp(reason, judged) != 0) {
		(void)fputs("    ", out);
		put_safe(out, member_text(rollout, "reason"));
		(void)fputc('\n', out);
	}
}

static void
view_active(FILE *out, const json_t *service, const json_t *rollout, const struct look *look)
{
	(void)fputs("  rollout to ", out);
	put_safe(out, member_text(rollout, "to"));
	(void)fputs(": ", out);
	put_step(out, rollout);
	(void)fputs(", ", out);
	put_held(out, rollout);
	(void)fputs("\n    ", out);
	put_style(out, look, color_code(member_color_word(rollout, "to", GREEN)));
	put_bar(out, rollout_part(rollout), BAR_COLUMNS);
	put_plain(out, look);
	(void)fputs("  ", out);
	put_steps_marked(out, rollout, look);
	put_left(out, "   ", rollout);
	(void)fputc('\n', out);
	put_verdict(out, rollout, look);
	view_obstacle(out, service, rollout, look);
}

/* "rollout of green rolled back 2m ago: reason" */
static void
view_ended(FILE *out, const json_t *service, const json_t *rollout, const struct look *look)
{
	const char *reason = member_text(rollout, "reason"), *since = member_text(rollout, "since");
	const char *trip = member_text(json_object_get(service, "trip"), "reason");
	bool back = state_is(rollout, "rolled_back");

	(void)fputs("  rollout of ", out);
	put_safe(out, member_text(rollout, "to"));
	(void)fputc(' ', out);
	put_style(out, look, back ? "31" : "32");
	(void)fputs(back ? "rolled back" : "promoted", out);
	put_plain(out, look);
	if (time_parse(since) >= 0 && look->now_ms != 0) {
		(void)fputc(' ', out);
		put_ago(out, since, look);
	}
	/* the trip has just been told */
	if (*reason != '\0' && !(member_true(service, "tripped") && strcmp(reason, trip) == 0)) {
		(void)fputs(": ", out);
		put_safe(out, reason);
	}
	(void)fputc('\n', out);
}

void
rollout_view(FILE *out, const json_t *service, const struct look *look)
{
	const json_t *rollout = json_object_get(service, "rollout");

	if (rollout_under_way(service)) {
		view_active(out, service, rollout, look);
		return;
	}
	if (state_is(rollout, "promoted") || state_is(rollout, "rolled_back")) {
		view_ended(out, service, rollout, look);
		return;
	}
	(void)fputs("  rollout ", out);
	put_safe(out, member_text(rollout, "state"));
	if (*member_text(rollout, "reason") != '\0') {
		(void)fputs(": ", out);
		put_safe(out, member_text(rollout, "reason"));
	}
	if (json_array_size(json_object_get(rollout, "steps")) > 0) {
		(void)fputs("   steps ", out);
		put_steps(out, json_object_get(rollout, "steps"));
	}
	(void)fputc('\n', out);
}

void
trip_view(FILE *out, const json_t *service, const struct look *look)
{
	const json_t *trip = json_object_get(service, "trip");

	if (!member_true(service, "tripped"))
		return;
	(void)fputs("  ", out);
	put_style(out, look, "31;1");
	(void)fputs("TRIPPED", out);
	put_plain(out, look);
	if (time_parse(member_text(trip, "time")) >= 0 && look->now_ms != 0) {
		(void)fputc(' ', out);
		put_ago(out, member_text(trip, "time"), look);
	}
	if (*member_text(trip, "rule") != '\0') {
		(void)fputs(" by ", out);
		put_safe(out, member_text(trip, "rule"));
	}
	if (*member_text(trip, "reason") != '\0') {
		(void)fputs(": ", out);
		put_safe(out, member_text(trip, "reason"));
	}
	(void)fputs("\n    ", out);
	put_safe(out, *member_text(trip, "color") == '\0' ? member_text(service, "candidate")
							  : member_text(trip, "color"));
	(void)fputs(" gets nothing until \"tealctl rearm ", out);
	put_safe(out, member_text(service, "name"));
	(void)fputs("\"; \"tealctl why ", out);
	put_safe(out, member_text(service, "name"));
	(void)fputs("\" shows the evidence\n", out);
}

/* "green 120.0 req/s, 0.00 % failed" */
static void
put_rates(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	const json_t *color = member_color(service, c);

	put_style(out, look, color_code(c));
	(void)fputs(color_name(c), out);
	put_plain(out, look);
	(void)fprintf(out, " %.1f req/s, ", member_number(color, "rps"));
	if (member_number(color, "failure_rate") > 0)
		put_style(out, look, "31");
	(void)fprintf(out, "%.2f %% failed", member_number(color, "failure_rate"));
	put_plain(out, look);
}

void
rollout_line(FILE *out, const json_t *service, const struct look *look)
{
	const json_t *rollout = json_object_get(service, "rollout");
	enum color to = member_color_word(rollout, "to", GREEN);

	put_safe(out, member_text(service, "name"));
	(void)fprintf(out, " step %.0f/%zu %.10g %% ", member_number(rollout, "step"),
	    json_array_size(json_object_get(rollout, "steps")), member_number(service, "weight"));
	put_style(out, look, color_code(to));
	put_bar(out, rollout_part(rollout), LINE_BAR_COLUMNS);
	put_plain(out, look);
	(void)fputc(' ', out);
	if (member_true(rollout, "frozen")) {
		put_style(out, look, "33;1");
		(void)fputs("frozen", out);
		put_plain(out, look);
	} else if (!member_true(rollout, "entered")) {
		put_held(out, rollout);
	} else {
		put_left(out, "", rollout);
	}
	(void)fputs("   ", out);
	put_rates(out, service, to, look);
	(void)fputs("   ", out);
	put_rates(out, service, to == BLUE ? GREEN : BLUE, look);
}
