/*
 * The commands: each finds its service, asks teal, and prints what teal answers.
 *
 * What goes wrong goes to stderr in one sentence; stdout holds only what was asked for.
 */
#include <jansson.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "proxy/tealctl/client.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/status.h"

__attribute__((format(printf, 1, 2))) static void
complain(const char *format, ...)
{
	char message[1024];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	(void)fprintf(stderr, "tealctl: %s\n", message);
}

static const char *
socket_path(const struct args *a)
{
	const char *path = a->socket != NULL ? a->socket : getenv("TEAL_SOCKET");

	return path == NULL || *path == '\0' ? DEFAULT_SOCKET : path;
}

/* Takes the reference. */
static char *
print_json(json_t *json)
{
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);

	json_decref(json);
	if (text == NULL) {
		complain("out of memory, or an argument is not UTF-8");
		exit(EXIT_FAILED);
	}
	return text;
}

__attribute__((format(printf, 1, 2))) static char *
print(const char *format, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		complain("out of memory");
		exit(EXIT_FAILED);
	}
	return text;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* An error's sentence, or what there is instead. */
static void
complain_answer(const struct args *a, const struct response *r)
{
	json_t *json = json_loadb(r->body, r->n, 0, NULL);
	json_t *error = json_object_get(json, "error");
	const char *message = json_string_value(json_object_get(error, "message"));

	if (a->json)
		(void)fputs(r->body, stdout);
	if (message != NULL) {
		(void)fputs("tealctl: ", stderr);
		put_safe(stderr, message);
		(void)fputc('\n', stderr);
	} else {
		complain("teal answered with status %u", r->status);
	}
	json_decref(json);
}

/* The answer's JSON; NULL: failed, and told. */
static json_t *
ask(const struct args *a, const char *method, const char *target, const char *body, char **raw)
{
	struct response r;
	char err[1024];
	json_t *json = NULL;

	if (client_ask(socket_path(a), method, target, body, &r, err, sizeof(err)) < 0) {
		complain("%s", err);
		return NULL;
	}
	if (r.status != 200)
		complain_answer(a, &r);
	else if ((json = json_loadb(r.body, r.n, 0, NULL)) == NULL)
		complain("teal's answer is not JSON");
	if (raw != NULL && json != NULL)
		*raw = r.body;
	else
		free(r.body);
	return json;
}

static const char *
name_of(const json_t *service)
{
	const char *name = json_string_value(json_object_get(service, "name"));

	return name == NULL ? "?" : name;
}

/* The one service there is, malloc'd; NULL: told, with the exit code in *code. */
static char *
only_service(const struct args *a, int *code)
{
	json_t *status = ask(a, "GET", "/v1/status", NULL, NULL), *services, *one;
	char *name = NULL;
	size_t i;

	*code = EXIT_FAILED;
	if (status == NULL)
		return NULL;
	services = json_object_get(status, "services");
	if (json_array_size(services) == 1) {
		name = print("%s", name_of(json_array_get(services, 0)));
	} else if (json_array_size(services) == 0) {
		complain("teal has no services");
	} else {
		*code = EXIT_USAGE;
		(void)fprintf(
		    stderr, "tealctl: teal has %zu services, name one:", json_array_size(services));
		json_array_foreach(services, i, one)
		{
			(void)fputc(' ', stderr);
			put_safe(stderr, name_of(one));
		}
		(void)fputc('\n', stderr);
	}
	json_decref(status);
	return name;
}

/* "/v1/services/NAME" with the service named or the only one; NULL as above. */
static char *
service_target(const struct args *a, const char *named, int *code)
{
	char *name = named != NULL ? print("%s", named) : only_service(a, code), *segment, *target;

	if (name == NULL)
		return NULL;
	segment = client_segment(name);
	target = print("/v1/services/%s", segment);
	free(segment);
	free(name);
	return target;
}

/* --- changing --------------------------------------------------------------------------------- */

/* Adds --reason and --if-epoch to a body; takes and gives the reference. */
static json_t *
with_change(const struct args *a, json_t *body)
{
	json_t *reason = a->reason == NULL ? NULL : json_string(a->reason);

	if (a->reason != NULL && reason == NULL) {
		complain("--reason is not UTF-8");
		exit(EXIT_USAGE);
	}
	if (reason != NULL)
		(void)json_object_set_new(body, "reason", reason);
	if (a->has_epoch)
		(void)json_object_set_new(body, "if_epoch", json_integer((json_int_t)a->if_epoch));
	return body;
}

/* What the last change led to. */
static void
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

static int
change_service(
    const struct args *a, const char *named, const char *method, const char *rest, json_t *body)
{
	int code;
	char *base = service_target(a, named, &code), *target;

	if (base == NULL) {
		json_decref(body);
		return code;
	}
	target = print("%s/%s", base, rest);
	free(base);
	return change(a, method, target, body, NULL);
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

/* What the terminal can show, if it is one. */
static struct look
look_at(FILE *out)
{
	bool terminal = isatty(fileno(out)) == 1;
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
	const char *columns = getenv("COLUMNS");
	struct look look = {.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0};
	struct winsize size;

	/* no-color.org: set and not empty */
	look.color = terminal && (no_color == NULL || *no_color == '\0') &&
		     (term == NULL || strcmp(term, "dumb") != 0);
	if (!terminal)
		return look;
	if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		look.width = size.ws_col;
	else if (columns != NULL)
		look.width = (unsigned)strtoul(columns, NULL, 10);
	return look;
}

static void
show_watched(json_t *answer, struct history *history)
{
	struct look look = look_at(stdout);
	bool terminal = isatty(STDOUT_FILENO) == 1;
	json_t *services = status_services(answer);
	char *screen = NULL, *line, *rest;
	size_t n = 0;
	FILE *memory = open_memstream(&screen, &n);

	history_add(history, services);
	json_decref(services);
	look.history = history;
	if (memory == NULL)
		return;
	status_render(memory, answer, &look);
	if (fclose(memory) == 0) {
		/* home, each line to its end, then what is left below: no flicker */
		if (terminal)
			(void)fputs("\033[H", stdout);
		for (rest = screen; (line = strsep(&rest, "\n")) != NULL && rest != NULL;)
			(void)printf("%s%s\n", line, terminal ? "\033[K" : "");
		(void)fputs(terminal ? "\033[J" : "\n", stdout);
	}
	free(screen);
}

static void
wait_second(struct timespec *next)
{
	next->tv_sec++;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) != 0)
		;
}

/* Until ^C.  When teal goes away for a moment, a restart say, it is waited for. */
static int
watch(const struct args *a, const char *target)
{
	static struct history history;
	struct timespec next;
	bool ever = false;

	(void)clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		json_t *answer = ask(a, "GET", target, NULL, NULL);

		if (answer == NULL && !ever)
			return EXIT_FAILED;
		if (answer != NULL && !ever && isatty(STDOUT_FILENO) == 1)
			(void)fputs("\033[2J", stdout);
		ever = true;
		if (answer != NULL && a->json) {
			(void)json_dumpf(answer, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
			(void)fputc('\n', stdout);
		} else if (answer != NULL) {
			show_watched(answer, &history);
		}
		json_decref(answer);
		if (fflush(stdout) != 0)
			return EXIT_FAILED;
		wait_second(&next);
	}
}

int
run_status(const struct args *a)
{
	int code = EXIT_FAILED;
	char *raw = NULL;
	char *target =
	    a->n_words == 1 ? service_target(a, a->words[0], &code) : print("/v1/status");
	struct look look = look_at(stdout);
	json_t *answer;

	if (target == NULL)
		return code;
	if (a->watch) {
		code = watch(a, target);
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

int
run_metrics(const struct args *a)
{
	struct response r;
	char err[1024];
	int code = EXIT_DONE;

	if (client_ask(socket_path(a), "GET", "/metrics", NULL, &r, err, sizeof(err)) < 0) {
		complain("%s", err);
		return EXIT_FAILED;
	}
	if (r.status != 200) {
		complain_answer(a, &r);
		code = EXIT_FAILED;
	} else if (a->json) {
		char *text = print_json(json_pack("{s:s}", "metrics", r.body));

		(void)puts(text);
		free(text);
	} else {
		(void)fwrite(r.body, 1, r.n, stdout);
	}
	free(r.body);
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
