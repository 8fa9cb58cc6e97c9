/*
 * The durable state: it comes back as it went, or it is set aside whole, and never anything
 * between the two.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/process/state_json.h"

static char directory[64], file[128];

static int
setup(void **unused)
{
	(void)unused;
	snprintf(directory, sizeof(directory), "/tmp/teal-state-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/state.json", directory);
	return 0;
}

/* Removes what is in it and says how many names begin with `prefix`. */
static unsigned
sweep(const char *prefix, bool and_remove)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char path[400];

		if (e->d_name[0] == '.')
			continue;
		n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
		if (and_remove && unlink(path) < 0)
			(void)rmdir(path);
	}
	closedir(d);
	return n;
}

static int
teardown(void **unused)
{
	(void)unused;
	sweep("", true);
	return rmdir(directory);
}

static void
add(struct string_list *list, const char *text)
{
	list->items = reallocarray(list->items, list->n + 1, sizeof(char *));
	assert_non_null(list->items);
	list->items[list->n++] = strdup(text);
}

static void
example_rollout(struct state_service *s)
{
	static const struct step_config steps[] = {{1225, 300000}, {5000, 1}, {10000, 600000}};

	s->rollout = (struct rollout){.state = ROLLOUT_STEPPING,
	    .to = color_other(s->live),
	    .n_steps = 3,
	    .entered = true,
	    .waiting = true,
	    .held_ms = 123456};
	memcpy(s->rollout.steps, steps, sizeof(steps));
	strcpy(s->rollout.reason, "waits for \"promote\"\t(\xc3\xa4)");
	s->rollout_wall_ms = 1790000000123;
	s->step_wall_ms = 1790000000456;
}

static struct state *
example(void)
{
	struct state *state = calloc(1, sizeof(*state));
	struct state_service *s;

	assert_non_null(state);
	s = state_find(state, "api", true);
	assert_non_null(s);
	s->live = GREEN;
	s->weight_bp = 1225;
	s->epoch = 41;
	s->split_key[0] = 0xfedcba9876543210u;
	s->split_key[1] = 7;
	s->pools[BLUE].changed = true;
	add(&s->pools[BLUE].backends, "10.0.0.1:8080");
	add(&s->pools[BLUE].backends, "unix:/run/b.sock");
	add(&s->pools[BLUE].drained, "10.0.0.1:8080");
	add(&s->pools[GREEN].drained, "[::1]:81");
	add(&s->pools[GREEN].well, "[::1]:81");
	example_rollout(s);
	s->trips[RULE_P95] = 3;
	s = state_find(state, "web", true);
	assert_non_null(s);
	s->maintenance = true;
	s->pools[GREEN].changed = true; /* an emptied pool is not an unchanged one */
	add(&s->pools[BLUE].well, "b.example:80");
	example_rollout(s);
	s->rollout.state = ROLLOUT_ROLLED_BACK;
	s->trip = (struct state_trip){.on = true, .wall_ms = 1790000000789, .rule = RULE_RELATIVE};
	strcpy(s->trip.reason, "green fails");
	return state;
}

static void
same_list(const struct string_list *a, const struct string_list *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_string_equal(a->items[i], b->items[i]);
}

static void
same_release(const struct state_service *x, const struct state_service *y)
{
	const struct rollout *r = &x->rollout, *q = &y->rollout;

	assert_int_equal(x->trip.on, y->trip.on);
	assert_int_equal(x->trip.wall_ms, y->trip.wall_ms);
	assert_int_equal(x->trip.rule, y->trip.rule);
	assert_string_equal(x->trip.reason, y->trip.reason);
	assert_int_equal(x->rollout_wall_ms, y->rollout_wall_ms);
	assert_int_equal(x->step_wall_ms, y->step_wall_ms);
	assert_memory_equal(x->trips, y->trips, sizeof(x->trips));
	assert_int_equal(r->state, q->state);
	assert_int_equal(r->to, q->to);
	assert_int_equal(r->n_steps, q->n_steps);
	for (unsigned i = 0; i < r->n_steps; i++) {
		assert_int_equal(r->steps[i].weight_bp, q->steps[i].weight_bp);
		assert_int_equal(r->steps[i].hold_ms, q->steps[i].hold_ms);
	}
	assert_int_equal(r->step, q->step);
	assert_int_equal(r->entered, q->entered);
	assert_int_equal(r->frozen, q->frozen);
	assert_int_equal(r->waiting, q->waiting);
	assert_int_equal(r->held_ms, q->held_ms);
	assert_int_equal(q->ticked_ms, 0);
	assert_string_equal(r->reason, q->reason);
}

static void
same(const struct state *a, const struct state *b)
{
	assert_int_equal(a->n_services, b->n_services);
	for (unsigned i = 0; i < a->n_services; i++) {
		const struct state_service *x = &a->services[i], *y = &b->services[i];

		assert_string_equal(x->name, y->name);
		assert_int_equal(x->live, y->live);
		assert_int_equal(x->weight_bp, y->weight_bp);
		assert_int_equal(x->maintenance, y->maintenance);
		assert_int_equal(x->epoch, y->epoch);
		assert_memory_equal(x->split_key, y->split_key, sizeof(x->split_key));
		for (int c = 0; c < N_COLORS; c++) {
			assert_int_equal(x->pools[c].changed, y->pools[c].changed);
			same_list(&x->pools[c].backends, &y->pools[c].backends);
			same_list(&x->pools[c].drained, &y->pools[c].drained);
			same_list(&x->pools[c].well, &y->pools[c].well);
		}
		same_release(x, y);
	}
}

static struct state *
load(char warning[512])
{
	memset(warning, 'x', 511);
	warning[511] = '\0';
	return state_load(directory, warning, 512);
}

static void
save(const struct state *state)
{
	char err[512] = "";

	if (state_save(directory, state, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void
write_file(const char *text, size_t n)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static size_t
read_whole(char *text, size_t size)
{
	FILE *f = fopen(file, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, size, f);
	assert_true(n < size);
	text[n] = '\0';
	fclose(f);
	return n;
}

static void
comes_back(void **unused)
{
	struct state *before = example(), *after;
	char warning[512];

	(void)unused;
	after = load(warning);
	assert_non_null(after);
	assert_int_equal(after->n_services, 0);
	assert_string_equal(warning, "");
	state_free(after);
	save(before);
	after = load(warning);
	assert_non_null(after);
	assert_string_equal(warning, "");
	same(before, after);
	/* a second time over the first */
	state_find(before, "api", false)->weight_bp = 1;
	save(before);
	state_free(after);
	after = load(warning);
	assert_non_null(after);
	same(before, after);
	assert_int_equal(sweep("", false), 1);
	state_free(after);
	state_free(before);
}

static void
private_to_its_owner(void **unused)
{
	struct state *state = example();
	struct stat st;

	(void)unused;
	save(state);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	state_free(state);
}

static void
finds_or_makes(void **unused)
{
	struct state *state = calloc(1, sizeof(*state));

	(void)unused;
	assert_null(state_find(state, "a", false));
	assert_non_null(state_find(state, "a", true));
	assert_ptr_equal(state_find(state, "a", true), state_find(state, "a", false));
	assert_int_equal(state->n_services, 1);
	assert_int_equal(state->services[0].live, BLUE);
	state_free(state);
	state_free(NULL);
}

/* Every byte damaged, and the file cut after every byte: either nothing is lost or it is told. */
static void
damage_is_noticed(void **unused)
{
	static char good[16384], bad[16384];
	struct state *before = example(), *after;
	char warning[512];
	size_t n, i;

	(void)unused;
	save(before);
	n = read_whole(good, sizeof(good));
	assert_true(n > 500);
	for (i = 0; i < 2 * n; i++) {
		memcpy(bad, good, n);
		if (i < n)
			bad[i] = (char)(bad[i] ^ (i % 2 ? 0x01 : 0x10));
		write_file(bad, i < n ? n : i - n);
		after = load(warning);
		assert_non_null(after);
		if (*warning == '\0') {
			/* white space may be other white space */
			same(before, after);
		} else {
			assert_int_equal(after->n_services, 0);
			assert_non_null(strstr(warning, "state.json.damaged-"));
			assert_int_equal(sweep("state.json.damaged-", true), 1);
		}
		state_free(after);
	}
	state_free(before);
}

static void
foreign_files_are_set_aside(void **unused)
{
	static const char *const texts[] = {"", "[]", "{}", "hello", "{\"teal_state\": 3}",
	    "{\"teal_state\": 0}", "{\"teal_state\": 4294967297}", "{\"teal_state\": 2}",
	    "{\"teal_state\": \"1\"}", "{\"teal_state\": 1, \"services\": []}",
	    "{\"teal_state\": 1, \"checksum\": \"0000000000000000\", \"services\": []}",
	    "{\"teal_state\": 1, \"checksum\": 5, \"services\": []}"};
	char warning[512];

	(void)unused;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct state *state;

		write_file(texts[i], strlen(texts[i]));
		state = load(warning);
		assert_non_null(state);
		assert_int_equal(state->n_services, 0);
		assert_non_null(strstr(warning, "cannot be used"));
		/* all of them kept, although made within one second */
		assert_int_equal(sweep("state.json.damaged-", false), i + 1);
		assert_int_equal(access(file, F_OK), -1);
		state_free(state);
	}
}

static void
odd_files_are_set_aside(void **unused)
{
	struct state *state;
	char warning[512];

	(void)unused;
	assert_int_equal(symlink("/etc/hostname", file), 0);
	state = load(warning);
	assert_non_null(state);
	assert_non_null(strstr(warning, "regular file"));
	state_free(state);
	assert_int_equal(mkdir(file, 0700), 0);
	state = load(warning);
	assert_non_null(state);
	assert_non_null(strstr(warning, "regular file"));
	state_free(state);
	assert_int_equal(mkfifo(file, 0600), 0);
	state = load(warning);
	assert_non_null(state);
	assert_non_null(strstr(warning, "regular file"));
	state_free(state);
}

static void
unusable_directories_are_told(void **unused)
{
	struct state *state = example();
	char err[512], below[200];

	(void)unused;
	write_file("x", 1);
	assert_null(state_load(file, err, sizeof(err)));
	assert_non_null(strstr(err, "Not a directory"));
	assert_int_equal(state_save(file, state, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "Not a directory"));
	snprintf(below, sizeof(below), "%s/no/such", directory);
	assert_null(state_load(below, err, sizeof(err)));
	assert_non_null(strstr(err, "No such file"));
	state_free(state);
}

static void
makes_its_directory(void **unused)
{
	char below[200], err[512];
	struct state *state;

	(void)unused;
	snprintf(below, sizeof(below), "%s/state", directory);
	state = state_load(below, err, sizeof(err));
	assert_non_null(state);
	assert_string_equal(err, "");
	state_free(state);
}

/* A full disk, as a limit on the size of files: the old state stays and nothing is left over. */
static void
failed_saves_change_nothing(void **unused)
{
	struct state *before = example(), *after;
	struct rlimit old, tiny;
	char err[512], warning[512];

	(void)unused;
	save(before);
	state_find(before, "api", false)->weight_bp = 1;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tiny = old;
	tiny.rlim_cur = 100;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	assert_int_equal(state_save(directory, before, err, sizeof(err)), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(err, "File too large"));
	assert_int_equal(sweep("", false), 1);
	after = load(warning);
	assert_non_null(after);
	assert_string_equal(warning, "");
	assert_int_equal(state_find(after, "api", false)->weight_bp, 1225);
	state_free(after);
	/* the way is blocked: a directory in the place of the temporary file */
	snprintf(warning, sizeof(warning), "%s.new", file);
	assert_int_equal(mkdir(warning, 0700), 0);
	assert_int_equal(state_save(directory, before, err, sizeof(err)), -1);
	assert_int_equal(rmdir(warning), 0);
	save(before);
	state_free(before);
}

/* What cannot be written as JSON is not half written. */
static void
bytes_that_are_no_text(void **unused)
{
	struct state *state = example();
	char err[512];

	(void)unused;
	add(&state->services[0].pools[BLUE].backends, "unix:/\xff");
	assert_int_equal(state_save(directory, state, err, sizeof(err)), -1);
	assert_int_equal(access(file, F_OK), -1);
	state_free(state);
}

/* A reader that opened the old file keeps it whole: the new one is another file. */
static void
replaced_not_rewritten(void **unused)
{
	struct state *state = example();
	struct stat old, new;
	FILE *f;

	(void)unused;
	save(state);
	f = fopen(file, "r");
	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &old), 0);
	state_find(state, "api", false)->epoch++;
	save(state);
	assert_int_equal(stat(file, &new), 0);
	assert_int_not_equal(old.st_ino, new.st_ino);
	fclose(f);
	state_free(state);
}

/* --- what is possible, and what is not ------------------------------------------------------- */

/* Written by version 0.1: nothing of it is lost, there is no rollout and no trip. */
static void
version_1_migrates(void **unused)
{
	static const char old[] =
	    "{\"teal_state\":1,\"checksum\":\"ab413f63f4d56f2f\",\"services\":["
	    "{\"name\":\"api\",\"live\":\"green\",\"weight_bp\":1225,\"maintenance\":false,"
	    "\"epoch\":41,\"split_key\":[\"fedcba9876543210\",\"0000000000000007\"],\"pools\":{"
	    "\"blue\":{\"changed\":true,\"backends\":[\"10.0.0.1:8080\",\"unix:/run/b.sock\"],"
	    "\"drained\":[\"10.0.0.1:8080\"]},"
	    "\"green\":{\"changed\":false,\"backends\":[],\"drained\":[\"[::1]:81\"]}}},"
	    "{\"name\":\"web\",\"live\":\"blue\",\"weight_bp\":0,\"maintenance\":true,\"epoch\":0,"
	    "\"split_key\":[\"0000000000000000\",\"0000000000000000\"],\"pools\":{\"blue\":null,"
	    "\"green\":{\"changed\":true,\"backends\":[],\"drained\":[]}}}]}";
	struct state *before = example(), *after;
	char warning[512], text[16384];

	(void)unused;
	write_file(old, strlen(old));
	after = load(warning);
	assert_non_null(after);
	assert_string_equal(warning, "");
	/* as the example, less what version 1 did not know */
	for (unsigned i = 0; i < before->n_services; i++) {
		struct state_service *s = &before->services[i];

		s->rollout = (struct rollout){0};
		s->trip = (struct state_trip){0};
		memset(s->trips, 0, sizeof(s->trips));
		s->rollout_wall_ms = s->step_wall_ms = 0;
		for (int c = 0; c < N_COLORS; c++)
			while (s->pools[c].well.n > 0)
				free(s->pools[c].well.items[--s->pools[c].well.n]);
	}
	same(before, after);
	/* and is written as version 2 */
	save(after);
	(void)read_whole(text, sizeof(text));
	assert_non_null(strstr(text, "\"teal_state\": 2"));
	state_free(after);
	after = load(warning);
	assert_string_equal(warning, "");
	same(before, after);
	state_free(after);
	state_free(before);
}

/* What one change makes of the example's "api": refused, with this among the words, or not ("").
 * Saving says the same as reading, and a refused save leaves the file alone. */
static void
try_one(const struct state *state, const char *words)
{
	char err[512] = "", why[256] = "";
	json_t *services = state_services_json(state);
	struct state *again = calloc(1, sizeof(*again));
	int saved = state_save(directory, state, err, sizeof(err));
	int was_read = state_services_read(again, services, 2, why, sizeof(why));

	assert_non_null(services);
	if (*words == '\0') {
		if (saved != 0 || was_read != 0)
			fail_msg("refused: %s %s", err, why);
		same(state, again);
	} else {
		assert_int_equal(saved, -1);
		assert_int_equal(was_read, -1);
		if (strstr(err, words) == NULL || strstr(why, words) == NULL)
			fail_msg("\"%s\" is not in \"%s\" or \"%s\"", words, err, why);
		assert_non_null(strstr(err, "service api"));
	}
	json_decref(services);
	state_free(again);
}

#define TRY(words, ...)                                                                            \
	do {                                                                                       \
		struct state *state = example();                                                   \
		struct state_service *s = &state->services[0];                                     \
		struct rollout *r = &s->rollout;                                                   \
		(void)r;                                                                           \
		__VA_ARGS__;                                                                       \
		try_one(state, words);                                                             \
		state_free(state);                                                                 \
	} while (0)

static void
impossible_numbers(void **unused)
{
	(void)unused;
	TRY("", s->weight_bp = 0);
	TRY("weight", s->weight_bp = 10001, r->state = ROLLOUT_PROMOTED);
	TRY("", s->weight_bp = 10000, r->state = ROLLOUT_PROMOTED);
	TRY("", s->epoch = INT64_MAX);
	TRY("time", s->rollout_wall_ms = -1);
	TRY("", s->rollout_wall_ms = 0);
	TRY("time", s->step_wall_ms = INT64_MAX);
	TRY("", s->step_wall_ms = 253402300799999);
	TRY("trips", s->trips[RULE_NONE] = 1ull << 63);
	TRY("", s->trips[N_RULES - 1] = INT64_MAX);
}

static void
impossible_rollouts(void **unused)
{
	(void)unused;
	TRY("", r->state = ROLLOUT_PAUSED);
	TRY("do not grow", r->steps[0].weight_bp = 0);
	TRY("do not grow", r->steps[1].weight_bp = 1225);
	TRY("do not grow", r->steps[1].weight_bp = 10000);
	TRY("100 %", r->steps[2].weight_bp = 9999);
	TRY("100 %", r->n_steps = 2);
	TRY("hold", r->steps[1].hold_ms = -1);
	TRY("", r->steps[1].hold_ms = 0);
	TRY("no steps", r->n_steps = 0);
	TRY("no steps", r->n_steps = 0, r->state = ROLLOUT_PROMOTED);
	TRY("no steps", r->n_steps = 0, r->state = ROLLOUT_IDLE, r->step = 1);
	TRY("", r->n_steps = 0, r->state = ROLLOUT_IDLE);
	TRY("step it does not have", r->step = 3);
	TRY("", r->step = 2);
	TRY("held", r->held_ms = -1);
	TRY("held", r->held_ms = INT64_MAX);
}

/* All 64 steps fit, and no 65th. */
static void
as_many_steps_as_there_may_be(void **unused)
{
	struct state *state = example(), *again = calloc(1, sizeof(*again));
	struct rollout *r = &state->services[0].rollout;
	char why[256] = "";
	json_t *services, *steps;

	(void)unused;
	r->n_steps = STEPS_MAX + 1;
	assert_string_equal(state_check(&state->services[0]), "its rollout has too many steps");
	for (unsigned i = 0; i < STEPS_MAX; i++)
		r->steps[i] = (struct step_config){1225 + i, i};
	r->steps[STEPS_MAX - 1].weight_bp = 10000;
	r->n_steps = STEPS_MAX;
	r->step = STEPS_MAX - 1;
	try_one(state, "");
	services = state_services_json(state);
	steps = json_object_get(json_object_get(json_array_get(services, 0), "rollout"), "steps");
	json_array_insert_new(steps, 0, json_pack("[i, i]", 1, 1));
	assert_int_equal(state_services_read(again, services, 2, why, sizeof(why)), -1);
	assert_non_null(strstr(why, "rollout is malformed"));
	json_decref(services);
	state_free(again);
	state_free(state);
}

/* A rollout that goes on must fit to the rest: it decides where traffic goes. */
static void
rollouts_that_do_not_fit(void **unused)
{
	(void)unused;
	TRY("the live color", r->to = s->live);
	TRY("the live color", r->to = s->live, r->state = ROLLOUT_PAUSED);
	TRY("", r->to = s->live, r->state = ROLLOUT_PROMOTED);
	TRY("above that of its rollout's step", s->weight_bp = 1226);
	TRY("", s->weight_bp = 1226, r->step = 1);
	TRY("above that of its rollout's step", s->weight_bp = 5001, r->step = 1,
	    r->entered = false);
	TRY("", s->weight_bp = 9999, r->entered = false); /* by hand, before its first step */
	TRY("has tripped and has weight", s->trip.on = true, r->state = ROLLOUT_ROLLED_BACK);
	TRY("after a trip", s->trip.on = true, s->weight_bp = 0);
	TRY("", s->trip.on = true, s->weight_bp = 0, r->state = ROLLOUT_ROLLED_BACK);
	TRY("time", s->trip.on = true, s->trip.wall_ms = -1, s->weight_bp = 0,
	    r->state = ROLLOUT_ROLLED_BACK);
}

/* Nobody but another version may read what another version wrote. */
static void
other_versions_are_foreign(void **unused)
{
	struct state *state = example(), *after;
	char text[16384], warning[512], *version;

	(void)unused;
	for (const char *other = "0139"; *other != '\0'; other++) {
		save(state);
		(void)read_whole(text, sizeof(text));
		version = strstr(text, "\"teal_state\": 2");
		assert_non_null(version);
		version[strlen("\"teal_state\": ")] = *other;
		write_file(text, strlen(text));
		after = load(warning);
		assert_non_null(after);
		assert_int_equal(after->n_services, 0);
		assert_non_null(strstr(
		    warning, *other == '1' ? "malformed" : "another version of teal wrote it"));
		state_free(after);
	}
	state_free(state);
}

/* The same service twice: which of the two is it? */
static void
names_are_unique(void **unused)
{
	struct state *state = example(), *again = calloc(1, sizeof(*again));
	json_t *services = state_services_json(state);
	char why[256] = "";

	(void)unused;
	json_array_append(services, json_array_get(services, 0));
	assert_int_equal(state_services_read(again, services, 2, why, sizeof(why)), -1);
	assert_string_equal(why, "service api is in it twice");
	json_decref(services);
	state_free(again);
	state_free(state);
}

/* Texts as long as they may be, and one byte longer. */
static void
long_sentences(void **unused)
{
	static const struct {
		const char *member;
		size_t size;
	} texts[] = {{"rollout", ROLLOUT_REASON_MAX}, {"trip", VERDICT_REASON_MAX}};
	struct state *state = example();
	char text[512], why[256];

	(void)unused;
	for (int i = 0; i < 4; i++) {
		struct state *again = calloc(1, sizeof(*again));
		json_t *services = state_services_json(state);
		size_t n = texts[i / 2].size - 1 + (size_t)(i % 2);

		memset(text, 'a', n);
		text[n] = '\0';
		json_object_set_new(
		    json_object_get(json_array_get(services, 1), texts[i / 2].member), "reason",
		    json_string(text));
		assert_int_equal(
		    state_services_read(again, services, 2, why, sizeof(why)), i % 2 ? -1 : 0);
		json_decref(services);
		state_free(again);
	}
	state_free(state);
}

/* Every word of every enum comes back. */
static void
every_word(void **unused)
{
	(void)unused;
	for (int i = 0; i < N_ROLLOUT_STATES; i++)
		TRY("", r->state = (enum rollout_state)i);
	for (int i = 0; i < N_RULES; i++)
		TRY("", s->trip.on = true, s->trip.rule = (enum rule)i, s->weight_bp = 0,
		    r->state = ROLLOUT_ROLLED_BACK);
}

/* A sentence that was cut within a character does not make the state unwritable, nor longer. */
static void
cut_sentences_are_kept(void **unused)
{
	struct state *state = example(), *after;
	struct rollout *r = &state->services[0].rollout;
	char warning[512];

	(void)unused;
	memset(r->reason, 'a', sizeof(r->reason) - 1);
	r->reason[sizeof(r->reason) - 2] = '\xc3';
	r->reason[sizeof(r->reason) - 1] = '\0';
	save(state);
	after = load(warning);
	assert_string_equal(warning, "");
	r->reason[sizeof(r->reason) - 2] = '?';
	same(state, after);
	state_free(after);
	state_free(state);
}

/* 1: these services are taken, and written again they say exactly what was read; 0: refused with a
 * word why. */
static unsigned
taken_exactly(const json_t *services)
{
	struct state *state = calloc(1, sizeof(*state));
	char why[256] = "";
	unsigned taken = 0;

	assert_non_null(state);
	if (state_services_read(state, services, 2, why, sizeof(why)) == 0) {
		json_t *again = state_services_json(state);

		if (!json_equal(services, again)) {
			char *text = json_dumps(services, JSON_COMPACT | JSON_ENCODE_ANY);

			fail_msg("taken, but as something else: %s", text);
		}
		json_decref(again);
		taken = 1;
	} else {
		assert_string_not_equal(why, "");
	}
	state_free(state);
	return taken;
}

/* Members of another type, of another range, missing, and one too many. */
static void
members_of_other_types(void **unused)
{
	static const char *const paths[][2] = {{"rollout", "state"}, {"rollout", "to"},
	    {"rollout", "steps"}, {"rollout", "step"}, {"rollout", "entered"},
	    {"rollout", "frozen"}, {"rollout", "waiting"}, {"rollout", "held_ms"},
	    {"rollout", "reason"}, {"rollout", "since_ms"}, {"rollout", "step_since_ms"},
	    {"trip", "time_ms"}, {"trip", "rule"}, {"trip", "reason"}, {"trips", "p95"},
	    {"trips", ""}, {"pools", "blue"}, {NULL, "split_key"}, {NULL, "weight_bp"},
	    {NULL, "epoch"}, {NULL, "name"}, {NULL, "live"}, {NULL, "maintenance"}, {NULL, "trip"},
	    {NULL, "rollout"}, {NULL, "trips"}, {NULL, "pools"}};
	static const char *const values[] = {"\"x\"", "1.5", "[]", "{}", "-1", "4294967296",
	    "9223372036854775807", "-9223372036854775808", "null", "true",
	    "[[1225, 1, 1], [10000, 1]]", "[[4294967297, 1], [10000, 1]]", "[1225]", "\"Green\"",
	    "\"idle \"", "too long", "removed", "one more"};
	enum {
		N_PATHS = sizeof(paths) / sizeof(paths[0]),
		N_VALUES = sizeof(values) / sizeof(values[0])
	};
	struct state *good = example();
	unsigned taken = 0;
	char longest[513];

	(void)unused;
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i < (size_t)N_PATHS * N_VALUES; i++) {
		const char *const *path = paths[i / N_VALUES], *value = values[i % N_VALUES];
		json_t *services = state_services_json(good), *at = json_array_get(services, 1);

		if (path[0] != NULL)
			at = json_object_get(at, path[0]);
		if (strcmp(value, "removed") == 0)
			assert_int_equal(json_object_del(at, path[1]), 0);
		else if (strcmp(value, "one more") == 0)
			assert_int_equal(json_object_set_new(at, "more", json_true()), 0);
		else if (strcmp(value, "too long") == 0)
			assert_int_equal(json_object_set_new(at, path[1], json_string(longest)), 0);
		else
			assert_int_equal(json_object_set_new(
					     at, path[1], json_loads(value, JSON_DECODE_ANY, NULL)),
			    0);
		taken += taken_exactly(services);
		json_decref(services);
	}
	/* names and reasons may be other ones, times later, counters higher, bools true */
	assert_in_range(taken, 10, 40);
	state_free(good);
}

/* The checksum would hide what is behind it: the services alone, every byte replaced, removed and
 * doubled, and the text cut after it. */
static void
no_half_state(void **unused)
{
	static const char bytes[] =
	    "09-.1eaztn \"\\{}[]:,/\xc3"; /* the NUL is one of them: it cuts */
	struct state *before = example();
	json_t *services = state_services_json(before);
	char *good = json_dumps(services, JSON_COMPACT), *bad;
	size_t n = strlen(good), taken = 0, parsed = 0;

	(void)unused;
	bad = malloc(n + 2);
	assert_non_null(bad);
	for (size_t i = 0; i < n; i++)
		for (size_t b = 0; b < sizeof(bytes) + 2; b++) {
			/* the last two: removed, doubled */
			size_t keep = b < sizeof(bytes) ? 1 : 2 * (b - sizeof(bytes));
			json_t *read;

			memcpy(bad, good, i);
			memset(bad + i, b < sizeof(bytes) ? bytes[b] : good[i], keep);
			memcpy(bad + i + keep, good + i + 1, n - i);
			if ((read = json_loads(bad, JSON_REJECT_DUPLICATES, NULL)) == NULL)
				continue;
			parsed++;
			taken += taken_exactly(read);
			json_decref(read);
		}
	assert_true(parsed > 4 * n); /* most of it was seen by more than the JSON parser */
	assert_in_range(taken, n / 10, parsed / 2);
	free(bad);
	free(good);
	json_decref(services);
	state_free(before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(comes_back),
	    TEST(private_to_its_owner),
	    TEST(finds_or_makes),
	    TEST(damage_is_noticed),
	    TEST(foreign_files_are_set_aside),
	    TEST(odd_files_are_set_aside),
	    TEST(unusable_directories_are_told),
	    TEST(makes_its_directory),
	    TEST(failed_saves_change_nothing),
	    TEST(bytes_that_are_no_text),
	    TEST(replaced_not_rewritten),
	    TEST(version_1_migrates),
	    TEST(impossible_numbers),
	    TEST(impossible_rollouts),
	    TEST(as_many_steps_as_there_may_be),
	    TEST(rollouts_that_do_not_fit),
	    TEST(other_versions_are_foreign),
	    TEST(names_are_unique),
	    TEST(long_sentences),
	    TEST(every_word),
	    TEST(cut_sentences_are_kept),
	    TEST(members_of_other_types),
	    TEST(no_half_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
