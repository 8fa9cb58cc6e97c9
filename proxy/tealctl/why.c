/* The evidence of a rollback.  See why.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/why.h"

#define REQUEST_MAX 60 /* columns of method and path in the table */
#define BAR_COLUMNS 20

static void
heading(FILE *out, const char *text, const struct look *look)
{
	(void)fputc('\n', out);
	put_style(out, look, "1");
	(void)fputs(text, out);
	put_plain(out, look);
	(void)fputc('\n', out);
}

/* "api: green was rolled back 2m 3s ago (2026-11-21 06:21:35 UTC) by failure_rate: green failed 3
 * of 3 ..." */
static void
render_headline(FILE *out, const json_t *e, const struct look *look)
{
	const char *action = member_text(e, "action"), *rule = member_text(e, "rule");
	bool aborted = strcmp(action, "abort") == 0, knows = look->now_ms != 0;

	put_style(out, look, "1");
	put_safe(out, member_text(e, "service"));
	(void)fputs(": ", out);
	put_style(out, look, aborted ? "33;1" : "31;1");
	put_safe(out, member_text(e, "candidate"));
	(void)fputs(aborted ? " was taken back by hand" : " was rolled back", out);
	put_plain(out, look);
	if (time_parse(member_text(e, "time")) >= 0) {
		(void)fputc(' ', out);
		put_ago(out, member_text(e, "time"), look);
		(void)fputs(knows ? " (" : "at ", out);
		put_time(out, member_text(e, "time"));
		(void)fputs(knows ? " UTC)" : " UTC", out);
	}
	if (strcmp(action, "inconclusive") == 0)
		(void)fputs(" as inconclusive", out);
	else if (*rule != '\0') {
		(void)fputs(" by ", out);
		put_safe(out, rule);
	}
	if (*member_text(e, "reason") != '\0') {
		(void)fputs(": ", out);
		put_safe(out, member_text(e, "reason"));
	}
	(void)fputc('\n', out);
}

/* What brought it its share. */
static void
render_cause(FILE *out, const json_t *e)
{
	const json_t *rollout = json_object_get(e, "rollout");

	(void)fputs("  it had ", out);
	(void)fprintf(out, "%.10g %% of the requests", member_number(e, "weight"));
	if (json_is_object(rollout)) {
		(void)fprintf(
		    out, " in step %.0f of its rollout: ", member_number(rollout, "step"));
		put_steps(out, json_object_get(rollout, "steps"));
	} else {
		(void)fputs(", set by hand", out);
	}
	(void)fprintf(out, "; epoch %.0f\n", member_number(e, "epoch"));
}

static void
render_row(FILE *out, const char *name, const json_t *n, const struct look *look)
{
	enum color c;
	char p95[MS_TEXT_SIZE];

	print_ms(p95, member_number(n, "p95_ms"));
	(void)fputs("  ", out);
	put_style(out, look, color_parse(name, &c) == 0 ? color_code(c) : "0");
	put_cell(out, name, 6);
	put_plain(out, look);
	(void)fprintf(
	    out, " %8.0f %8.0f ", member_number(n, "requests"), member_number(n, "failures"));
	if (member_number(n, "failures") > 0)
		put_style(out, look, "31");
	(void)fprintf(out, "%8.2f %%", member_number(n, "failure_rate"));
	put_plain(out, look);
	(void)fprintf(out, " %8s   %.0f of %.0f\n", p95, member_number(n, "backends_up"),
	    member_number(n, "backends"));
}

static void
render_numbers(FILE *out, const json_t *e, const struct look *look)
{
	const json_t *n = json_object_get(e, "numbers");
	bool slow = strcmp(member_text(e, "rule"), "p95") == 0;

	if (!json_is_object(n))
		return;
	heading(out, "  color  requests   failed       rate      p95   backends up", look);
	render_row(out, member_text(e, "candidate"), n, look);
	render_row(out, member_text(e, "live"), json_object_get(n, "live"), look);
	(void)fputs("  ", out);
	if (member_number(n, "limit") > 0)
		(void)fprintf(
		    out, slow ? "limit %.10g ms, " : "limit %.10g %%, ", member_number(n, "limit"));
	if (member_number(n, "beyond_chance") > 0)
		(void)fprintf(
		    out, "at least %.4g %% beyond chance, ", member_number(n, "beyond_chance"));
	(void)fprintf(
	    out, "%.0f slow, %.0f overdue", member_number(n, "slow"), member_number(n, "overdue"));
	if (member_number(n, "wealth") > 0)
		(void)fprintf(out, ", wealth %.4g (10000 trips)", member_number(n, "wealth"));
	(void)fputc('\n', out);
}

/* --- the failing exchanges -------------------------------------------------------------------- */

/* "GET /path"; malloc'd, NULL: out of memory. */
static char *
request_of(const json_t *failure)
{
	char *text = NULL;

	if (asprintf(&text, "%s %s", member_text(failure, "method"), member_text(failure, "path")) <
	    0)
		return NULL;
	return text;
}

struct widths {
	unsigned request, result, backend;
};

static void
widen(unsigned *width, const char *text, unsigned most)
{
	unsigned n = text_columns(text);

	n = n > most ? most : n;
	*width = n > *width ? n : *width;
}

/* "500", "timeout", "502 reset": the status, and how it ended when that says more. */
static void
print_result(char out[64], const json_t *failure)
{
	double status = member_number(failure, "status");
	const char *outcome = member_text(failure, "outcome");

	if (status > 0)
		(void)snprintf(out, 64, "%.0f %s", status, outcome);
	else
		(void)snprintf(out, 64, "%s", *outcome == '\0' ? "no answer" : outcome);
}

static struct widths
measure(const json_t *failures)
{
	struct widths w = {7, 6, 7}; /* of the headings */
	char result[64];

	for (size_t i = 0; i < json_array_size(failures); i++) {
		const json_t *one = json_array_get(failures, i);
		char *request = request_of(one);

		widen(&w.request, request == NULL ? "" : request, REQUEST_MAX);
		free(request);
		print_result(result, one);
		widen(&w.result, result, 40);
		widen(&w.backend, member_text(one, "backend"), 60);
	}
	return w;
}

static void
render_failure(FILE *out, const json_t *one, const struct widths *w)
{
	const char *time = member_text(one, "time");
	char *request = request_of(one), result[64], age[MS_TEXT_SIZE];

	print_result(result, one);
	print_ms(age, member_number(one, "age_ms"));
	(void)fputs("  ", out);
	put_cell(out, time_parse(time) < 0 ? time : time + 11, 12);
	(void)fputs("  ", out);
	put_cell(out, request == NULL ? "" : request, w->request);
	(void)fputs("  ", out);
	put_cell(out, result, w->result);
	(void)fprintf(out, "  %8s  ", age);
	put_cell(out, member_text(one, "backend"), w->backend);
	(void)fputs("  ", out);
	put_safe(out, member_text(one, "id"));
	(void)fputc('\n', out);
	free(request);
}

static void
render_failures(FILE *out, const json_t *e, const struct look *look)
{
	const json_t *failures = json_object_get(e, "failures");
	struct widths w = measure(failures);

	if (json_array_size(failures) == 0)
		return;
	heading(out, "The first failing exchanges", look);
	put_style(out, look, "2");
	(void)fputs("  ", out);
	put_cell(out, "time (UTC)", 12);
	(void)fputs("  ", out);
	put_cell(out, "request", w.request);
	(void)fputs("  ", out);
	put_cell(out, "result", w.result);
	(void)fprintf(out, "  %8s  ", "after");
	put_cell(out, "backend", w.backend);
	(void)fputs("  id\n", out);
	put_plain(out, look);
	for (size_t i = 0; i < json_array_size(failures); i++)
		render_failure(out, json_array_get(failures, i), &w);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void
render_timeline(FILE *out, const json_t *e, const struct look *look)
{
	const json_t *timeline = json_object_get(e, "timeline");

	if (json_array_size(timeline) == 0)
		return;
	heading(out, "The weight", look);
	for (size_t i = 0; i < json_array_size(timeline); i++) {
		const json_t *one = json_array_get(timeline, i);

		(void)fputs("  ", out);
		put_time(out, member_text(one, "time"));
		(void)fprintf(out, " %6.10g %%  ", member_number(one, "weight"));
		put_bar(out, member_number(one, "weight") / 100, BAR_COLUMNS);
		(void)fputs("  ", out);
		put_safe(out, member_text(one, "why"));
		(void)fputc('\n', out);
	}
}

static void
render_backends(FILE *out, const json_t *e, const struct look *look)
{
	const json_t *backends = json_object_get(e, "backends");
	unsigned width = 8;

	if (json_array_size(backends) == 0)
		return;
	heading(out, "The backends then", look);
	for (size_t i = 0; i < json_array_size(backends); i++)
		widen(&width, member_text(json_array_get(backends, i), "address"), 60);
	for (size_t i = 0; i < json_array_size(backends); i++) {
		const json_t *one = json_array_get(backends, i);

		(void)fputs("  ", out);
		put_style(out, look, color_code(member_color_word(one, "color", BLUE)));
		put_cell(out, member_text(one, "color"), 5);
		put_plain(out, look);
		(void)fputs("  ", out);
		put_cell(out, member_text(one, "address"), width);
		(void)fputs("  ", out);
		put_style(out, look, state_code(member_text(one, "state")));
		put_safe(out, member_text(one, "state"));
		put_plain(out, look);
		if (*member_text(one, "reason") != '\0') {
			(void)fputs(": ", out);
			put_safe(out, member_text(one, "reason"));
		}
		(void)fputc('\n', out);
	}
}

static void
render_next(FILE *out, const json_t *service)
{
	if (!member_true(service, "tripped"))
		return;
	(void)fputc('\n', out);
	put_safe(out, member_text(service, "candidate"));
	(void)fputs(" gets nothing until: tealctl rearm ", out);
	put_safe(out, member_text(service, "name"));
	(void)fputc('\n', out);
}

void
why_render(FILE *out, const json_t *e, const json_t *service, const struct look *look)
{
	render_headline(out, e, look);
	render_cause(out, e);
	render_numbers(out, e, look);
	render_failures(out, e, look);
	render_timeline(out, e, look);
	render_backends(out, e, look);
	render_next(out, service);
}
