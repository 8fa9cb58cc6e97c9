/* Asking teal.  See ask.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/client.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/text.h"

void
complain(const char *format, ...)
{
	char message[2048];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	(void)fflush(stdout); /* in the order in which it happened */
	(void)fprintf(stderr, "tealctl: %s\n", message);
}

char *
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

char *
print_json(json_t *json)
{
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(12));

	json_decref(json);
	if (text == NULL) {
		complain("out of memory, or an argument is not UTF-8");
		exit(EXIT_FAILED);
	}
	return text;
}

const char *
socket_path(const struct args *a)
{
	const char *path = a->socket != NULL ? a->socket : getenv("TEAL_SOCKET");

	return path == NULL || *path == '\0' ? DEFAULT_SOCKET : path;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* An error's code and sentence, or what there is instead. */
static void
read_error(struct answer *out)
{
	json_t *json = json_loads(out->raw, 0, NULL);
	const json_t *error = json_object_get(json, "error");
	FILE *f = fmemopen(out->err, sizeof(out->err) - 1, "w");

	(void)snprintf(out->code, sizeof(out->code), "%s", member_text(error, "code"));
	if (f != NULL) {
		if (*member_text(error, "message") != '\0')
			put_safe(f, member_text(error, "message"));
		else
			(void)fprintf(f, "teal answered with status %u", out->status);
		(void)fclose(f);
	}
	json_decref(json);
}

void
ask_teal(const struct args *a, const char *method, const char *target, const char *body,
    int64_t patience_ms, struct answer *out)
{
	struct response r;

	*out = (struct answer){0};
	if (client_ask(socket_path(a), method, target, body, patience_ms, &r, out->err,
		sizeof(out->err)) < 0)
		return;
	out->status = r.status;
	out->raw = r.body;
	if (r.status != 200)
		read_error(out);
	else if ((out->json = json_loadb(r.body, r.n, 0, NULL)) == NULL)
		(void)snprintf(out->err, sizeof(out->err), "teal's answer is not JSON");
}

void
answer_fini(struct answer *answer)
{
	json_decref(answer->json);
	free(answer->raw);
	*answer = (struct answer){0};
}

void
complain_answer(const struct args *a, const struct answer *answer)
{
	if (a->json && answer->raw != NULL)
		(void)fputs(answer->raw, stdout);
	complain("%s", answer->err);
}

json_t *
ask(const struct args *a, const char *method, const char *target, const char *body, char **raw)
{
	struct answer answer;
	json_t *json;

	ask_teal(a, method, target, body, PATIENCE_MS, &answer);
	if (answer.json == NULL)
		complain_answer(a, &answer);
	json = json_incref(answer.json);
	if (raw != NULL && json != NULL) {
		*raw = answer.raw;
		answer.raw = NULL;
	}
	answer_fini(&answer);
	return json;
}

/* --- which service ---------------------------------------------------------------------------- */

static const char *
name_of(const json_t *service)
{
	const char *name = member_text(service, "name");

	return *name == '\0' ? "?" : name;
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

char *
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

char *
target_below(char *target, const char *rest)
{
	char *below = print("%s/%s", target, rest);

	free(target);
	return below;
}

json_t *
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
