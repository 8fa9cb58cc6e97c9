/*
 * The admin API: a table of routes, and a handler for each that reads its arguments strictly,
 * asks control, and answers when control is done.
 *
 * Control thread.  Nonsense never reaches control: unknown members, wrong types, values out of
 * range and addresses that are none are answered 400 with the member's name.
 */
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/process/admin_call.h"
#include "proxy/process/metrics.h"

#define TYPE_JSON    "application/json"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"

/* --- answers ------------------------------------------------------------------------------- */

static void
reply_text(const struct call *c, unsigned status, const char *type, const char *text, size_t n)
{
	struct api_answer answer = {.status = status, .type = type, .body = text, .body_n = n};

	c->reply(c->arg, &answer);
}

static char *
print_json(json_t *json)
{
	char *text =
	    json == NULL ? NULL : json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	char *line = NULL;

	/* a line feed at the end: people read this with curl */
	if (text != NULL && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(json);
	return line;
}

/* Takes the reference. */
static void
reply_json_to(api_reply *reply, void *arg, unsigned status, const char *allow, json_t *json)
{
	static const char sorry[] =
	    "{\"error\": {\"code\": \"out-of-memory\", \"message\": \"out of memory\"}}\n";
	char *text = print_json(json);
	struct api_answer answer = {.status = text == NULL ? 500 : status,
	    .type = TYPE_JSON,
	    .allow = allow,
	    .body = text == NULL ? sorry : text};

	answer.body_n = strlen(answer.body);
	reply(arg, &answer);
	free(text);
}

static void
reply_json(const struct call *c, json_t *json)
{
	reply_json_to(c->reply, c->arg, 200, NULL, json);
}

static void
error_with(api_reply *reply, void *arg, unsigned status, const char *allow, const char *code,
    const char *message)
{
	json_t *json = json_object(), *error = json_object();

	(void)json_object_set_new(error, "code", view_text(code));
	(void)json_object_set_new(error, "message", view_text(message));
	(void)json_object_set_new(json, "error", error);
	reply_json_to(reply, arg, status, allow, json);
}

void
api_error(api_reply *reply, void *arg, unsigned status, const char *code, const char *message)
{
	error_with(reply, arg, status, NULL, code, message);
}

__attribute__((format(printf, 4, 5))) static void
reply_error(const struct call *c, unsigned status, const char *code, const char *format, ...)
{
	char message[512];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	api_error(c->reply, c->arg, status, code, message);
}

/* --- answers to changes -------------------------------------------------------------------- */

/* Lives from the question to control until its answer. */
struct pending {
	struct control *control;
	api_reply *reply;
	void *arg;
	char service[];
};

static void
change_ended(void *arg, const struct change_result *result)
{
	struct pending *p = arg;
	struct service *s;

	if (result->http_status != 200) {
		api_error(p->reply, p->arg, result->http_status,
		    result->code == NULL ? "failed" : result->code, result->message);
	} else {
		/* by name: the change may have made a new snapshot */
		s = control_service(p->control, p->service);
		reply_json_to(p->reply, p->arg, 200, NULL,
		    s == NULL ? json_object() : view_service(p->control, s));
	}
	free(p);
}

/* NULL and answered when out of memory. */
static struct pending *
change_begin(const struct call *c)
{
	const char *name = c->service->config->name;
	struct pending *p = calloc(1, sizeof(*p) + strlen(name) + 1);

	if (p == NULL) {
		reply_error(c, 500, "out-of-memory", "out of memory");
		return NULL;
	}
	p->control = c->request->control;
	p->reply = c->reply;
	p->arg = c->arg;
	memcpy(p->service, name, strlen(name) + 1);
	return p;
}

/* --- what the path names -------------------------------------------------------------------- */

/* v1/services/NAME/... */
static int
find_service(struct call *c)
{
	c->service = control_service(c->request->control, c->segments[2]);
	if (c->service != NULL)
		return 0;
	reply_error(c, 404, "unknown-service", "there is no service \"%.64s\"", c->segments[2]);
	return -1;
}

/* v1/services/NAME/pools/COLOR/... */
static int
find_pool(struct call *c)
{
	if (find_service(c) < 0)
		return -1;
	if (color_parse(c->segments[4], &c->color) == 0)
		return 0;
	reply_error(c, 404, "unknown-color", "a pool is \"blue\" or \"green\", not \"%.64s\"",
	    c->segments[4]);
	return -1;
}

/* v1/services/NAME/pools/COLOR/backends/ADDRESS */
static int
find_backend(struct call *c)
{
	if (find_pool(c) < 0)
		return -1;
	c->address = c->segments[6];
	return call_check_address(c, "address", c->address);
}

/* --- handlers: reading ---------------------------------------------------------------------- */

static void
get_status(struct call *c)
{
	reply_json(c, view_status(c->request->control));
}

static void
get_service(struct call *c)
{
	if (find_service(c) == 0)
		reply_json(c, view_service(c->request->control, c->service));
}

static void
get_version(struct call *c)
{
	reply_json(c, json_pack("{s:s}", "version", TEAL_VERSION));
}

static void
get_metrics(struct call *c)
{
	size_t n;
	char *text = metrics_text(c->request->control, &n);

	if (text == NULL)
		reply_error(c, 500, "out-of-memory", "out of memory");
	else
		reply_text(c, 200, TYPE_METRICS, text, n);
	free(text);
}

/* The process runs and its control thread answers. */
static void
get_healthz(struct call *c)
{
	reply_json(c, json_pack("{s:s}", "status", "ok"));
}

/* New connections are welcome. */
static void
get_readyz(struct call *c)
{
	if (control_draining(c->request->control))
		reply_error(c, 503, "draining", "teal is stopping and takes no new connections");
	else
		reply_json(c, json_pack("{s:s}", "status", "ready"));
}

static void
not_implemented(struct call *c)
{
	reply_error(c, 501, "not-implemented", "this version of teal cannot do that yet");
}

static void
get_evidence(struct call *c)
{
	json_t *evidence;

	if (find_service(c) < 0)
		return;
	evidence = control_evidence(c->request->control, c->service);
	if (evidence == NULL)
		reply_error(
		    c, 404, "no-evidence", "%.64s was never rolled back", c->service->config->name);
	else
		reply_json(c, evidence);
}

static void
get_history(struct call *c)
{
	if (find_service(c) == 0)
		reply_json(
		    c, json_pack("{s:o, s:o}", "service", view_text(c->service->config->name),
			   "entries", control_history(c->request->control, c->service)));
}

/* admin.c streams events; who arrives here did so by another way. */
static void
get_events(struct call *c)
{
	reply_error(c, 406, "not-streamed", "events are streamed by GET only");
}

/* --- handlers: changes ---------------------------------------------------------------------- */

static void
put_weight(struct call *c)
{
	static const char *const names[] = {"weight", NULL};
	struct pending *p;
	unsigned bp = 0;

	if (find_service(c) < 0 || call_read_body(c, names) < 0 ||
	    call_read_weight(c, "weight", &bp) < 0)
		return;
	if ((p = change_begin(c)) != NULL)
		control_weight(c->request->control, c->service, bp, &c->change, change_ended, p);
}

static void
post_flip(struct call *c)
{
	static const char *const names[] = {"color", NULL};
	const char *word;
	struct pending *p;

	if (find_service(c) < 0 || call_read_body(c, names) < 0)
		return;
	word = json_string_value(json_object_get(c->body, "color"));
	if (word == NULL || color_parse(word, &c->color) < 0) {
		(void)call_refuse(c, "color: must be \"blue\" or \"green\"");
		return;
	}
	if ((p = change_begin(c)) != NULL)
		control_flip(
		    c->request->control, c->service, c->color, &c->change, change_ended, p);
}

static void
put_maintenance(struct call *c)
{
	static const char *const names[] = {"on", NULL};
	struct pending *p;
	json_t *on;

	if (find_service(c) < 0 || call_read_body(c, names) < 0)
		return;
	on = json_object_get(c->body, "on");
	if (!json_is_boolean(on)) {
		(void)call_refuse(c, "on: must be true or false");
		return;
	}
	if ((p = change_begin(c)) != NULL)
		control_maintenance(
		    c->request->control, c->service, json_is_true(on), &c->change, change_ended, p);
}

typedef void change_pool(struct control *, struct service *, enum color, const char *const *,
    unsigned, const struct change *, change_done *, void *);

static void
change_backends(struct call *c, change_pool *ask, unsigned at_least)
{
	static const char *const names[] = {"backends", NULL};
	const char *addresses[API_ADDRESSES_MAX];
	struct pending *p;
	unsigned n = 0;

	if (find_pool(c) < 0 || call_read_body(c, names) < 0 ||
	    call_read_backends(c, addresses, &n) < 0)
		return;
	if (n < at_least) {
		(void)call_refuse(c, "backends: must have at least %u address", at_least);
		return;
	}
	if ((p = change_begin(c)) != NULL)
		ask(c->request->control, c->service, c->color, addresses, n, &c->change,
		    change_ended, p);
}

static void
put_pool(struct call *c)
{
	change_backends(c, control_pool_set, 0);
}

static void
post_backends(struct call *c)
{
	change_backends(c, control_backend_add, 1);
}

static void
delete_backend(struct call *c)
{
	struct pending *p;

	if (find_backend(c) == 0 && call_read_query(c) == 0 && (p = change_begin(c)) != NULL)
		control_backend_remove(c->request->control, c->service, c->color, &c->address, 1,
		    &c->change, change_ended, p);
}

static void
patch_backend(struct call *c)
{
	static const char *const names[] = {"state", NULL};
	const char *word;
	struct pending *p;

	if (find_backend(c) < 0 || call_read_body(c, names) < 0)
		return;
	word = json_string_value(json_object_get(c->body, "state"));
	if (word == NULL || (strcmp(word, "drain") != 0 && strcmp(word, "active") != 0)) {
		(void)call_refuse(c, "state: must be \"drain\" or \"active\"");
		return;
	}
	if ((p = change_begin(c)) != NULL)
		control_backend_drain(c->request->control, c->service, c->color, c->address,
		    strcmp(word, "drain") == 0, &c->change, change_ended, p);
}

static void
post_rearm(struct call *c)
{
	static const char *const names[] = {NULL};
	struct pending *p;

	if (find_service(c) < 0 || call_read_body(c, names) < 0)
		return;
	if ((p = change_begin(c)) != NULL)
		control_rearm(c->request->control, c->service, &c->change, change_ended, p);
}

static void
post_rollout(struct call *c)
{
	static const char *const names[] = {"action", "to", "steps", "full", "rearm", NULL};
	struct step_config steps[STEPS_MAX];
	struct rollout_request q = {.steps = steps};
	struct pending *p;

	if (find_service(c) < 0 || call_read_body(c, names) < 0 ||
	    call_read_rollout(c, &q, steps) < 0)
		return;
	if ((p = change_begin(c)) != NULL)
		control_rollout(c->request->control, c->service, &q, &c->change, change_ended, p);
}

/* --- routes ---------------------------------------------------------------------------------- */

static const struct route {
	const char *method;
	const char *pattern; /* segments; '*' is any one */
	void (*run)(struct call *);
	bool writes;
} routes[] = {
    {"GET", "v1/status", get_status, false},
    {"GET", "v1/version", get_version, false},
    {"GET", "metrics", get_metrics, false},
    {"GET", "healthz", get_healthz, false},
    {"GET", "readyz", get_readyz, false},
    {"GET", "v1/services/*", get_service, false},
    {"PUT", "v1/services/*/weight", put_weight, true},
    {"POST", "v1/services/*/flip", post_flip, true},
    {"PUT", "v1/services/*/maintenance", put_maintenance, true},
    {"PUT", "v1/services/*/pools/*", put_pool, true},
    {"POST", "v1/services/*/pools/*/backends", post_backends, true},
    {"PATCH", "v1/services/*/pools/*/backends/*", patch_backend, true},
    {"DELETE", "v1/services/*/pools/*/backends/*", delete_backend, true},
    {"POST", "v1/services/*/rollout", post_rollout, true},
    {"POST", "v1/services/*/rearm", post_rearm, true},
    {"GET", "v1/services/*/evidence", get_evidence, false},
    {"GET", "v1/services/*/history", get_history, false},
    {"GET", "v1/events", get_events, false},
    {"POST", "v1/reload", not_implemented, true},
};
#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))

static bool
pattern_fits(const char *pattern, const struct call *c)
{
	for (unsigned i = 0; i < c->n_segments; i++) {
		size_t n = strcspn(pattern, "/");
		const char *segment = c->segments[i];

		if (n == 0 || *segment == '\0')
			return false;
		if (*pattern != '*' && (strlen(segment) != n || memcmp(segment, pattern, n) != 0))
			return false;
		pattern += n;
		if (*pattern == '/')
			pattern++;
		else
			return i + 1 == c->n_segments;
	}
	return false;
}

/* Cuts the target into decoded segments and the query.  -1: not a path of ours. */
static int
cut_target(struct call *c)
{
	const char *target = c->request->target;
	size_t n = strcspn(target, "?#");
	char *rest = c->path, *segment;

	if (*target != '/' || strlen(target) >= CALL_TARGET_MAX)
		return -1;
	memcpy(c->path, target + 1, n - 1);
	c->path[n - 1] = '\0';
	if (target[n] == '?')
		memcpy(c->query, target + n + 1, strlen(target + n + 1) + 1);
	while ((segment = strsep(&rest, "/")) != NULL) {
		/* decoded after the cut, so that %2F can be part of an address */
		if (c->n_segments == CALL_SEGMENTS_MAX || call_decode(segment) < 0)
			return -1;
		c->segments[c->n_segments++] = segment;
	}
	return 0;
}

/* The methods that fit the path: "GET, HEAD"; "" when the path is unknown. */
static void
allowed(const struct call *c, char *out, size_t size)
{
	size_t n = 0;

	*out = '\0';
	for (size_t i = 0; i < N_ROUTES; i++) {
		const struct route *r = &routes[i];

		if (!pattern_fits(r->pattern, c) || (c->request->read_only && r->writes) ||
		    n >= size)
			continue;
		n += (size_t)snprintf(out + n, size - n, "%s%s", n == 0 ? "" : ", ",
		    strcmp(r->method, "GET") == 0 ? "GET, HEAD" : r->method);
	}
}

static void
dispatch(struct call *c)
{
	const char *method = c->request->method;
	bool known = false, read_only = false;
	char allow[64], message[256];

	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (size_t i = 0; i < N_ROUTES; i++) {
		const struct route *r = &routes[i];

		if (!pattern_fits(r->pattern, c))
			continue;
		known = true;
		if (strcmp(r->method, method) != 0)
			continue;
		if (!r->writes || !c->request->read_only) {
			r->run(c);
			return;
		}
		read_only = true;
	}
	if (!known) {
		reply_error(c, 404, "not-found", "there is nothing at this path");
		return;
	}
	allowed(c, allow, sizeof(allow));
	if (read_only)
		(void)snprintf(message, sizeof(message),
		    "this listener is read-only: use the admin socket for changes");
	else
		(void)snprintf(
		    message, sizeof(message), "%.16s is not understood at this path", method);
	error_with(
	    c->reply, c->arg, 405, allow, read_only ? "read-only" : "method-not-allowed", message);
}

void
api_handle(const struct api_request *request, api_reply *reply, void *arg)
{
	struct call c = {.request = request,
	    .reply = reply,
	    .arg = arg,
	    .change = {
		.reason = "", .uid = request->uid, .gid = request->gid, .pid = request->pid}};

	if (cut_target(&c) < 0)
		reply_error(&c, 404, "not-found", "there is nothing at this path");
	else
		dispatch(&c);
	json_decref(c.body);
}
