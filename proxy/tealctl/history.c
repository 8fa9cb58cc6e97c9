/* Who changed what, when and why.  See history.h. */
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/history.h"

#define WHO_MAX  24 /* columns */
#define WHAT_MAX 60

/* The user, "uid 1000", or "teal" itself. */
static const char *
who_of(const json_t *entry, char out[64])
{
	const json_t *by = json_object_get(entry, "by");

	if (json_is_string(by))
		return json_string_value(by);
	if (*member_text(by, "user") != '\0')
		return member_text(by, "user");
	if (!json_is_number(json_object_get(by, "uid")))
		return "?";
	(void)snprintf(out, 64, "uid %.0f", member_number(by, "uid"));
	return out;
}

/* "weight 0 -> 25", "rearm"; malloc'd, NULL: out of memory. */
static char *
what_of(const json_t *entry)
{
	const char *from = member_text(entry, "from"), *to = member_text(entry, "to");
	const char *action = member_text(entry, "action");
	char *text = NULL;
	int n;

	if (*from == '\0' && *to == '\0')
		return strdup(action);
	if (*from == '\0' && strncmp(to, action, strlen(action)) == 0) /* "step", "step 1, 25 %" */
		return strdup(to);
	if (*from == '\0')
		n = asprintf(&text, "%s %s", action, to);
	else
		n = asprintf(&text, "%s %s -> %s", action, from, *to == '\0' ? "nothing" : to);
	return n < 0 ? NULL : text;
}

struct widths {
	unsigned who, what, epoch;
};

static unsigned
wider(unsigned width, const char *text, unsigned most)
{
	unsigned n = text_columns(text);

	n = n > most ? most : n;
	return n > width ? n : width;
}

static struct widths
measure(const json_t *entries)
{
	struct widths w = {3, 4, 5}; /* of the headings */
	char buffer[64];

	for (size_t i = 0; i < json_array_size(entries); i++) {
		const json_t *one = json_array_get(entries, i);
		char *what = what_of(one);

		w.who = wider(w.who, who_of(one, buffer), WHO_MAX);
		w.what = wider(w.what, what == NULL ? "" : what, WHAT_MAX);
		free(what);
		(void)snprintf(buffer, sizeof(buffer), "%.0f", member_number(one, "epoch"));
		w.epoch = wider(w.epoch, buffer, 20);
	}
	return w;
}

/* What somebody gave as the reason; of teal itself the verdict too, when that says more. */
static void
render_reason(FILE *out, const json_t *entry)
{
	const char *reason = member_text(entry, "reason"), *rule = member_text(entry, "rule");
	const char *verdict = member_text(entry, "verdict");
	bool judged = *verdict != '\0' && strstr(reason, verdict) == NULL;

	if (*rule == '\0' && *reason == '\0' && !judged)
		return;
	(void)fputs("  ", out);
	put_safe(out, rule);
	(void)fputs(*rule == '\0' ? "" : ": ", out);
	put_safe(out, reason);
	if (judged) {
		(void)fputs(*reason == '\0' ? "" : " (", out);
		put_safe(out, verdict);
		(void)fputs(*reason == '\0' ? "" : ")", out);
	}
}

static void
render_entry(FILE *out, const json_t *entry, const struct widths *w, const struct look *look)
{
	char buffer[64], *what = what_of(entry);
	const char *who = who_of(entry, buffer);

	put_time(out, member_text(entry, "time"));
	(void)fputs("  ", out);
	put_style(out, look, strcmp(who, "teal") == 0 ? "36" : "0");
	put_cell(out, who, w->who);
	put_plain(out, look);
	(void)fputs("  ", out);
	/* longer than the column (a pool's backends): whole, and the rest is pushed on */
	if (what != NULL && text_columns(what) > w->what)
		put_safe(out, what);
	else
		put_cell(out, what == NULL ? "" : what, w->what);
	(void)fprintf(out, "  %*.0f", (int)w->epoch, member_number(entry, "epoch"));
	render_reason(out, entry);
	(void)fputc('\n', out);
	free(what);
}

void
history_render(FILE *out, const json_t *answer, const struct look *look)
{
	const json_t *entries = json_object_get(answer, "entries");
	struct widths w = measure(entries);

	if (json_array_size(entries) == 0) {
		put_safe(out, member_text(answer, "service"));
		(void)fputs(": nothing has been changed yet\n", out);
		return;
	}
	put_style(out, look, "1");
	(void)fprintf(out, "%-19s  %-*s  %-*s  %*s  %s\n", "time (UTC)", (int)w.who, "who",
	    (int)w.what, "what", (int)w.epoch, "epoch", "why");
	put_plain(out, look);
	for (size_t i = 0; i < json_array_size(entries); i++)
		render_entry(out, json_array_get(entries, i), &w, look);
}
