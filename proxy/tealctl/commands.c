/*
 * The commands: each finds its service, asks teal, and prints what teal answers.
 *
 * What goes wrong goes to stderr in one sentence; stdout holds only what was asked for.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/client.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/history.h"
#include "proxy/tealctl/progress.h"
#include "proxy/tealctl/status.h"
#include "proxy/tealctl/terminal.h"
#include "proxy/tealctl/watch.h"
#include "proxy/tealctl/why.h"

/* --- changing --------------------------------------------------------------------------------- */

void
show_change(const struct args *a, const json_t *service, const char *raw, const enum color *pool)
{
	struct look look = {.color = false};

	if (a->json) {
		(void)fputs(raw, stdout);
		return;
	}
	status_line(stdout, service);
	if (pool != NULL)
		status_pool(stdout, service, *pool, &look);
}

/* One change, METHOD SERVICE/REST; takes target and body. */
static int
change(const struct args *a, const char *method, char *target, json_t *body, const enum color *pool)
{
	char *text = print_json(with_change(a, body)), *raw = NULL;
	json_t *answer = ask(a, method, target, text, &raw);

	if (answer != NULL)
		show_change(a, answer, raw, pool);
	json_decref(answer);
	free(raw);
	free(text);
	free(target);
	return answer == NULL ? EXIT_FAILED : EXIT_DONE;
}

int
change_service(
    const struct args *a, const char *named, const char *method, const char *rest, json_t *body)
{
	int code;
	char *target = service_target(a, named, &code);

	if (target == NULL) {
		json_decref(body);
		return code;
	}
	return change(a, method, target_below(target, rest), body, NULL);
}

int
run_weight(const struct args *a)
{
	const char *percent = a->words[a->n_words - 1];
	unsigned bp;

	if (percent_parse(percent, &bp) < 0) {
		complain("PERCENT must be 0 to 100 with at most two decimals, not \"%s\"", percent);
		return EXIT_USAGE;
	}
	return change_service(a, a->n_words == 2 ? a->words[0] : NULL, "PUT", "weight",
	    json_pack("{s:f}", "weight", bp / 100.0));
}

int
run_flip(const struct args *a)
{
	const char *word = a->words[a->n_words - 1];
	enum color color;

	if (color_parse(word, &color) < 0) {
		complain("COLOR must be blue or green, not \"%s\"", word);
		return EXIT_USAGE;
	}
	return change_service(a, a->n_words == 2 ? a->words[0] : NULL, "POST", "flip",
	    json_pack("{s:s}", "color", color_name(color)));
}

int
run_maintenance(const struct args *a)
{
	bool on = strcmp(a->words[0], "on") == 0;

	if (!on && strcmp(a->words[0], "off") != 0) {
		complain("maintenance is \"on\" or \"off\", not \"%s\"", a->words[0]);
		return EXIT_USAGE;
	}
	return change_service(a, a->n_words == 2 ? a->words[1] : NULL, "PUT", "maintenance",
	    json_pack("{s:b}", "on", on));
}

/* --- backends --------------------------------------------------------------------------------- */

/* "/v1/services/NAME/pools/COLOR"; NULL: told. */
static char *
pool_target(const struct args *a, struct target *t, int *code)
{
	char err[512], *base, *target;

	*code = EXIT_USAGE;
	if (args_target(a, t, err, sizeof(err)) < 0) {
		complain("%s", err);
		return NULL;
	}
	if ((base = service_target(a, t->service, code)) == NULL)
		return NULL;
	target = print("%s/pools/%s", base, color_name(t->color));
	free(base);
	return target;
}

static int
change_pool(const struct args *a, const char *method, const char *rest)
{
	struct target t;
	int code;
	char *pool = pool_target(a, &t, &code), *target;
	json_t *list;

	if (pool == NULL)
		return code;
	list = json_array();
	for (unsigned i = 0; i < t.n; i++)
		(void)json_array_append_new(list, json_string(t.addresses[i]));
	target = print("%s%s", pool, rest);
	free(pool);
	return change(a, method, target, json_pack("{s:o}", "backends", list), &t.color);
}

int
run_backend_add(const struct args *a)
{
	return change_pool(a, "POST", "/backends");
}

int
run_backend_set(const struct args *a)
{
	return change_pool(a, "PUT", "");
}

/* The query of a DELETE, which has no body. */
static char *
change_query(const struct args *a)
{
	char *reason = a->reason == NULL ? NULL : client_segment(a->reason), *query;

	if (a->has_epoch)
		query = print("?if_epoch=%llu%s%s", (unsigned long long)a->if_epoch,
		    reason == NULL ? "" : "&reason=", reason == NULL ? "" : reason);
	else
		query =
		    print("%s%s", reason == NULL ? "" : "?reason=", reason == NULL ? "" : reason);
	free(reason);
	return query;
}

/* One backend after the other; state NULL: remove it. */
static int
change_each(const struct args *given, const char *state)
{
	struct args a = *given;
	struct target t;
	int code;
	char *pool = pool_target(&a, &t, &code), *raw = NULL;
	json_t *answer = NULL;

	if (pool == NULL)
		return code;
	for (unsigned i = 0; i < t.n; i++) {
		char *address = client_segment(t.addresses[i]), *query = change_query(&a);
		char *target = print("%s/backends/%s%s", pool, address, state == NULL ? query : "");
		char *body = state == NULL
				 ? NULL
				 : print_json(with_change(&a, json_pack("{s:s}", "state", state)));

		free(raw);
		raw = NULL;
		json_decref(answer);
		answer = ask(&a, state == NULL ? "DELETE" : "PATCH", target, body, &raw);
		free(address);
		free(query);
		free(target);
		free(body);
		if (answer == NULL) {
			if (i > 0)
				complain("done before that: %u of %u", i, t.n);
			break;
		}
		/* the epoch asked for was that before the first; the next sees ours */
		a.if_epoch = (uint64_t)json_integer_value(json_object_get(answer, "epoch"));
	}
	if (answer != NULL)
		show_change(&a, answer, raw, &t.color);
	code = answer == NULL ? EXIT_FAILED : EXIT_DONE;
	json_decref(answer);
	free(raw);
	free(pool);
	return code;
}

int
run_backend_remove(const struct args *a)
{
	return change_each(a, NULL);
}

int
run_backend_drain(const struct args *a)
{
	return change_each(a, "drain");
}

int
run_backend_undrain(const struct args *a)
{
	return change_each(a, "active");
}

/* --- looking ---------------------------------------------------------------------------------- */

int
run_status(const struct args *a)
{
	int code = EXIT_FAILED;
	char *raw = NULL;
	char *target =
	    a->n_words == 1 ? service_target(a, a->words[0], &code) : print("/v1/status");
	struct look look = terminal_look(stdout);
	json_t *answer;

	if (target == NULL)
		return code;
	if (a->watch) {
		code = watch_status(a, target);
		free(target);
		return code;
	}
	answer = ask(a, "GET", target, NULL, &raw);
	if (answer != NULL && a->json)
		(void)fputs(raw, stdout);
	else if (answer != NULL)
		status_render(stdout, answer, &look);
	code = answer == NULL ? EXIT_FAILED : EXIT_DONE;
	json_decref(answer);
	free(raw);
	free(target);
	return code;
}

/* GET TARGET/REST of a service: its JSON with --json, else shown by `render`. */
static int
show_part(const struct args *a, const char *rest,
    void (*render)(const struct args *, const char *target, const json_t *))
{
	int code;
	char *target = service_target(a, a->n_words == 1 ? a->words[0] : NULL, &code), *part;
	char *raw = NULL;
	json_t *answer;

	if (target == NULL)
		return code;
	part = print("%s/%s", target, rest);
	answer = ask(a, "GET", part, NULL, &raw);
	if (answer != NULL && a->json)
		(void)fputs(raw, stdout);
	else if (answer != NULL)
		render(a, target, answer);
	code = answer == NULL ? EXIT_FAILED : EXIT_DONE;
	json_decref(answer);
	free(raw);
	free(part);
	free(target);
	return code;
}

static void
show_why(const struct args *a, const char *target, const json_t *evidence)
{
	const struct look look = terminal_look(stdout);
	struct answer service; /* what to do now; not having it is no failure */
	struct memory m;
	char *text;

	ask_teal(a, "GET", target, NULL, PATIENCE_MS, &service);
	memory_begin(&m);
	why_render(m.f, evidence, service.json, &look);
	text = memory_end(&m);
	(void)fputs(text, stdout); /* whole lines: nothing of the evidence is cut */
	free(text);
	answer_fini(&service);
}

static void
show_history(const struct args *a, const char *target, const json_t *answer)
{
	const struct look look = terminal_look(stdout);

	(void)a;
	(void)target;
	history_render(stdout, answer, &look);
}

int
run_why(const struct args *a)
{
	return show_part(a, "evidence", show_why);
}

int
run_history(const struct args *a)
{
	return show_part(a, "history", show_history);
}

int
run_metrics(const struct args *a)
{
	struct answer answer;
	int code = EXIT_DONE;

	/* text, not JSON */
	ask_teal(a, "GET", "/metrics", NULL, PATIENCE_MS, &answer);
	if (answer.status != 200) {
		complain_answer(a, &answer);
		code = EXIT_FAILED;
	} else if (a->json) {
		char *text = print_json(json_pack("{s:s}", "metrics", answer.raw));

		(void)puts(text);
		free(text);
	} else {
		(void)fputs(answer.raw, stdout);
	}
	answer_fini(&answer);
	return code;
}

/* Both versions: they may differ during an upgrade. */
int
run_version(const struct args *a)
{
	json_t *answer = ask(a, "GET", "/v1/version", NULL, NULL);
	const char *teal = json_string_value(json_object_get(answer, "version"));

	if (a->json) {
		char *text =
		    print_json(json_pack("{s:s, s:s?}", "tealctl", TEAL_VERSION, "teal", teal));

		(void)puts(text);
		free(text);
	} else {
		(void)printf("tealctl %s\n", TEAL_VERSION);
		if (teal != NULL)
			(void)printf("teal %s\n", teal);
	}
	json_decref(answer);
	return teal == NULL ? EXIT_FAILED : EXIT_DONE;
}
