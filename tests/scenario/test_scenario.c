/*
 * Rollouts replayed with a fake clock: every tests/scenario/NAME.scn is a test.  README.md has the
 * language; words.h reads it, phrases.h knows what can be said, world.h is where it happens.  Here
 * lines are obeyed, one after the other.
 *
 *   SCENARIO_LOG=1 build/tests/scenario/test_scenario     shows what teal did in each
 */
#include <errno.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/scenario/phrases.h"

#define FOLDER      "tests/scenario/"
#define SUFFIX      ".scn"
#define LOG_SHOWN   12 /* events shown of a scenario that failed */
#define SECOND_US   1e6
#define MESSAGE_MAX 256

/* --- a line that is being obeyed ------------------------------------------ */

struct play {
	struct world *world;
	const char *file;
	unsigned line;
	bool begun;
	unsigned n_expected;    /* a scenario that expects nothing tests nothing */
	const char *refused;    /* why the last action was, and nobody has expected it yet */
	struct words words;     /* of the line */
	char said[MESSAGE_MAX]; /* the clause, for messages */
	char error[8 * MESSAGE_MAX];
};

__attribute__((format(printf, 2, 3))) static bool
wrong(struct play *p, const char *format, ...)
{
	va_list args;
	int n = snprintf(p->error, sizeof p->error, "%s:%u: ", p->file, p->line);

	va_start(args, format);
	vsnprintf(p->error + n, sizeof p->error - (size_t)n, format, args);
	va_end(args);
	return false;
}

static void
say(struct play *p, unsigned from, unsigned to)
{
	size_t n = 0;

	p->said[0] = '\0';
	for (unsigned i = from; i < to && n < sizeof p->said; i++) {
		const char *quote = p->words.quoted[i] ? "\"" : "";

		n += (size_t)snprintf(p->said + n, sizeof p->said - n, "%s%s%s%s",
		    i == from ? "" : " ", quote, p->words.word[i], quote);
	}
}

static bool
is(const struct play *p, unsigned i, const char *word)
{
	return i < p->words.n && !p->words.quoted[i] && strcmp(p->words.word[i], word) == 0;
}

static unsigned
find(const struct play *p, unsigned from, unsigned to, const char *word)
{
	while (from < to && !is(p, from, word))
		from++;
	return from;
}

/* --- settings ------------------------------------------------------------- */

static bool
set_one(struct play *p, unsigned from, unsigned to)
{
	struct values v;
	const struct order *setting = phrase_setting(&p->words, from, to, &v);
	const char *error;

	say(p, from, to);
	if (setting == NULL)
		return wrong(p, "do not know the setting '%s'", p->said);
	error = setting->obey(p->world, &v);
	return error == NULL || wrong(p, "%s: %s", p->said, error);
}

/* service NAME: SETTING, SETTING ... */
static bool
set_all(struct play *p)
{
	if (p->begun)
		return wrong(p, "settings must come before everything else");
	if (p->words.n < 4 || !is(p, 2, ":"))
		return wrong(p, "must be like 'service NAME: steps 25:1m 100:1m, p95 1s'");
	for (unsigned from = 3, to; from < p->words.n; from = to + 1) {
		to = find(p, from, p->words.n, ",");
		if (!set_one(p, from, to))
			return false;
	}
	return true;
}

/* --- actions -------------------------------------------------------------- */

static bool
act(struct play *p, unsigned from, unsigned to)
{
	struct values v;
	const struct order *action = phrase_action(&p->words, from, to, &v);

	say(p, from, to);
	if (action == NULL)
		return wrong(p, "do not know the action '%s'", p->said);
	p->refused = action->obey(p->world, &v);
	/* it is the next clause that may expect it */
	return p->refused == NULL || is(p, to + (is(p, to, ";") ? 1 : 0), "expect") ||
	       wrong(p, "'%s' was refused: %s", p->said, p->refused);
}

/* --- expectations --------------------------------------------------------- */

#define CONDITIONS_MAX 16
struct expectation {
	const struct condition *condition[CONDITIONS_MAX];
	struct values values[CONDITIONS_MAX];
	unsigned n;
	bool within, during; /* DURATION: until it holds; as long as it must hold */
	int64_t us;
};

static void
describe(const struct world *w, char *out, size_t size)
{
	const struct rollout *r = &w->rollout;
	uint32_t course = service_course(w->state);

	snprintf(out, size,
	    "at %.3fs: live %s, weight %g, %s, step %u of %u, held %.1fs%s%s%s; blue got %llu "
	    "failed "
	    "%llu, green got %llu failed %llu; verdict: %s; reason: \"%s\"",
	    (double)w->now_us / SECOND_US, color_name(course_live(course)),
	    course_weight(course) / 100.0, rollout_state_name(r->state), r->step + 1, r->n_steps,
	    (double)r->held_ms / 1000, r->frozen ? ", frozen" : "", r->waiting ? ", waiting" : "",
	    w->tripped ? ", tripped" : "", (unsigned long long)w->counts[BLUE].got,
	    (unsigned long long)w->counts[BLUE].failed, (unsigned long long)w->counts[GREEN].got,
	    (unsigned long long)w->counts[GREEN].failed, w->verdict.reason, r->reason);
}

static bool
parse_condition(struct play *p, unsigned from, unsigned to, struct expectation *e)
{
	say(p, from, to);
	if (e->n == CONDITIONS_MAX)
		return wrong(p, "too many conditions");
	e->condition[e->n] = phrase_condition(&p->words, from, to, &e->values[e->n]);
	if (e->condition[e->n] == NULL)
		return wrong(p, "do not know the condition '%s'", p->said);
	e->n++;
	return true;
}

/* CONDITION, CONDITION ... [within DURATION | for DURATION] */
static bool
parse_expectation(struct play *p, unsigned from, unsigned to, struct expectation *e)
{
	int64_t ms;

	memset(e, 0, sizeof *e);
	if (to - from > 2 && (is(p, to - 2, "within") || is(p, to - 2, "for"))) {
		if (!words_duration(p->words.word[to - 1], &ms))
			return wrong(p, "'%s' is no duration", p->words.word[to - 1]);
		e->within = is(p, to - 2, "within");
		e->during = !e->within;
		e->us = ms * 1000;
		to -= 2;
	}
	for (unsigned end; from <= to; from = end + 1) {
		end = find(p, from, to, ",");
		if (!parse_condition(p, from, end, e))
			return false;
	}
	return true;
}

/* The first condition that does not hold; NULL: all do. */
static const struct condition *
broken(const struct expectation *e, const struct world *w)
{
	for (unsigned i = 0; i < e->n; i++) {
		if (!e->condition[i]->holds(w, &e->values[i]))
			return e->condition[i];
	}
	return NULL;
}

static bool
disappointed(struct play *p, const struct condition *broken_one, const char *how)
{
	char now[6 * MESSAGE_MAX];

	describe(p->world, now, sizeof now);
	return wrong(p, "expected %s; '%s' %s\n    %s", p->said, broken_one->phrase, how, now);
}

static bool
expect_later(struct play *p, const struct expectation *e)
{
	int64_t until_us = p->world->now_us + e->us;

	while (broken(e, p->world) != NULL) {
		if (!world_step(p->world, until_us) && broken(e, p->world) != NULL)
			return disappointed(p, broken(e, p->world), "did not come in time");
	}
	return true;
}

static bool
expect_all_along(struct play *p, const struct expectation *e)
{
	int64_t until_us = p->world->now_us + e->us;

	do {
		if (broken(e, p->world) != NULL)
			return disappointed(p, broken(e, p->world), "did not hold that long");
	} while (world_step(p->world, until_us));
	return true;
}

static bool
expect_refused(struct play *p, unsigned at)
{
	if (!p->words.quoted[at])
		return wrong(p, "must be like 'expect refused \"the reason\"'");
	if (p->refused == NULL)
		return wrong(p, "was not refused");
	if (strstr(p->refused, p->words.word[at]) == NULL)
		return wrong(p, "was refused otherwise: %s", p->refused);
	p->refused = NULL;
	return true;
}

static bool
expect(struct play *p, unsigned from, unsigned to)
{
	struct expectation e;

	p->n_expected++;
	if (is(p, from, "refused") && to - from == 2)
		return expect_refused(p, from + 1);
	if (p->refused != NULL)
		return wrong(p, "was refused: %s", p->refused);
	if (!parse_expectation(p, from, to, &e))
		return false;
	say(p, from, to);
	if (e.within)
		return expect_later(p, &e);
	if (e.during)
		return expect_all_along(p, &e);
	return broken(&e, p->world) == NULL ||
	       disappointed(p, broken(&e, p->world), "does not hold");
}

/* --- a line --------------------------------------------------------------- */

/* "at 1m30s": the clock goes there. */
static bool
go_to(struct play *p, unsigned i)
{
	struct world *w = p->world;
	int64_t ms;

	if (i >= p->words.n || !words_duration(p->words.word[i], &ms))
		return wrong(p, "'at' wants a time, such as 90s or 1m30s");
	if (ms * 1000 < w->now_us)
		return wrong(p, "at %s: the clock is at %.3fs already", p->words.word[i],
		    (double)w->now_us / SECOND_US);
	while (world_step(w, ms * 1000))
		;
	return true;
}

/* Where the clause that begins at `from` ends: at a ';', or before an "expect". */
static unsigned
clause_end(const struct play *p, unsigned from)
{
	unsigned semicolon = find(p, from, p->words.n, ";");

	return find(p, from + 1, semicolon, "expect");
}

/* [at TIME] ACTION; ACTION ... [expect ...] */
static bool
obey(struct play *p)
{
	unsigned from = 0, to;

	if (!p->begun)
		world_begin(p->world);
	p->begun = true;
	if (is(p, 0, "at")) {
		if (!go_to(p, 1))
			return false;
		from = 2;
	}
	for (; from < p->words.n; from = to + (is(p, to, ";") ? 1 : 0)) {
		to = clause_end(p, from);
		if (is(p, from, "expect") ? !expect(p, from + 1, to) : !act(p, from, to))
			return false;
	}
	return true;
}

static bool
play_line(struct play *p, const char *line)
{
	const char *error = words_split(&p->words, line);

	if (error != NULL)
		return wrong(p, "%s", error);
	if (p->words.n == 0)
		return true;
	return is(p, 0, "service") ? set_all(p) : obey(p);
}

static bool
play_file(struct play *p, FILE *f)
{
	char line[WORD_LINE_MAX + 2];

	while (fgets(line, sizeof line, f) != NULL) {
		p->line++;
		if (!play_line(p, line))
			return false;
	}
	return p->n_expected > 0 || wrong(p, "expects nothing");
}

/* --- the tests ------------------------------------------------------------ */

static void
show_log(const struct play *p, unsigned most)
{
	const struct world *w = p->world;
	unsigned first = w->n_events > most ? w->n_events - most : 0;

	for (unsigned i = first; i < w->n_events; i++)
		print_message(
		    "    %10.3fs  %s\n", (double)w->events[i].at_us / SECOND_US, w->events[i].text);
}

static void
scenario(void **state)
{
	struct play p = {.file = *state, .world = world_new()};
	FILE *f = fopen(p.file, "r");
	char error[sizeof p.error];
	bool ok;

	if (f == NULL)
		wrong(&p, "%s", strerror(errno));
	ok = f != NULL && play_file(&p, f);
	if (f != NULL)
		fclose(f);
	if (getenv("SCENARIO_LOG") != NULL)
		show_log(&p, p.world->n_events);
	else if (!ok)
		show_log(&p, LOG_SHOWN);
	memcpy(error, p.error, sizeof error);
	world_free(p.world);
	if (!ok)
		fail_msg("%s", error);
}

/* "tests/scenario/dead_release.scn" -> "dead_release" */
static char *
test_name(const char *path)
{
	return strndup(path + strlen(FOLDER), strlen(path) - strlen(FOLDER) - strlen(SUFFIX));
}

int
main(void)
{
	struct CMUnitTest *tests;
	glob_t files;
	int failed;

	if (glob(FOLDER "*" SUFFIX, 0, NULL, &files) != 0) {
		fprintf(stderr, "no " FOLDER "*" SUFFIX ": run it in the root of the repository\n");
		return 1;
	}
	tests = calloc(files.gl_pathc, sizeof *tests);
	if (tests == NULL)
		abort();
	for (size_t i = 0; i < files.gl_pathc; i++)
		tests[i] = (struct CMUnitTest){.name = test_name(files.gl_pathv[i]),
		    .test_func = scenario,
		    .initial_state = files.gl_pathv[i]};
	failed = _cmocka_run_group_tests("scenarios", tests, files.gl_pathc, NULL, NULL);
	for (size_t i = 0; i < files.gl_pathc; i++)
		free((void *)(uintptr_t)tests[i].name);
	free(tests);
	globfree(&files);
	return failed;
}
