/*
 * The admin API on a fake control: what reaches control, what is refused, what is answered.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>

#include "proxy/process/admin_api.h"
#include "tests/unit/fake_control.h"

static struct control control;
static unsigned n_answers;
static unsigned status;
static char type[64], allow[64];
static char *text;
static json_t *json;

static void
note(void *arg, const struct api_answer *a)
{
	assert_ptr_equal(arg, &control);
	n_answers++;
	status = a->status;
	snprintf(type, sizeof(type), "%s", a->type);
	snprintf(allow, sizeof(allow), "%s", a->allow == NULL ? "-" : a->allow);
	free(text);
	text = strndup(a->body, a->body_n);
	json_decref(json);
	json = json_loads(text, 0, NULL);
}

static int
setup(void **unused)
{
	(void)unused;
	fake_control_init(&control);
	control.events = events_new(NULL, &control.config);
	n_answers = 0;
	return 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	events_free(control.events);
	free(text);
	json_decref(json);
	text = NULL;
	json = NULL;
	return 0;
}

static void
ask_as(bool read_only, const char *method, const char *target, const char *body)
{
	struct api_request r = {.control = &control,
	    .method = method,
	    .target = target,
	    .body = body,
	    .body_n = strlen(body),
	    .read_only = read_only,
	    .uid = 1000,
	    .gid = 100,
	    .pid = 4711};

	api_handle(&r, note, &control);
}

/* Asks, and expects the answer at once. */
static void
ask(const char *method, const char *target, const char *body)
{
	unsigned before = n_answers;

	ask_as(false, method, target, body);
	assert_int_equal(n_answers, before + 1);
}

/* An error has exactly this shape. */
static void
assert_error(unsigned want, const char *code, const char *in_message)
{
	const char *got_code, *message;

	if (status != want)
		fail_msg("%u instead of %u: %s", status, want, text);
	assert_string_equal(type, "application/json");
	assert_int_equal(json_unpack_ex(json, NULL, JSON_STRICT, "{s:{s:s, s:s!}!}", "error",
			     "code", &got_code, "message", &message),
	    0);
	assert_string_equal(got_code, code);
	if (strstr(message, in_message) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", in_message, message);
}

static double
at(const json_t *from, const char *path)
{
	char copy[128], *rest = copy, *part;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((part = strsep(&rest, ".")) != NULL)
		from = json_is_array(from) ? json_array_get(from, (size_t)atoi(part))
					   : json_object_get(from, part);
	if (from == NULL)
		fail_msg("no %s in %s", path, text);
	return json_is_string(from) || json_is_null(from) ? -1
	       : json_is_boolean(from)                    ? json_is_true(from)
							  : json_number_value(from);
}

static const char *
word(const json_t *from, const char *a, const char *b)
{
	json_t *o = json_object_get(from, a);

	return json_string_value(b == NULL ? o : json_object_get(o, b));
}

static void
one_service(void **unused)
{
	json_t *backends;

	(void)unused;
	ask("GET", "/v1/services/api", "");
	assert_int_equal(status, 200);
	assert_string_equal(type, "application/json");
	assert_string_equal(word(json, "name", NULL), "api");
	assert_int_equal((int)at(json, "epoch"), 7);
	assert_string_equal(word(json, "live", NULL), "blue");
	assert_string_equal(word(json, "candidate", NULL), "green");
	assert_true(at(json, "weight") == 12.25);
	assert_non_null(strstr(text, "\"weight\": 12.25,"));
	assert_non_null(strstr(text, "\"weight\": 87.75,"));
	assert_true(at(json, "tripped") == 0);
	assert_string_equal(word(json, "rollout", "state"), "idle");
	assert_true(json_is_null(json_object_get(json_object_get(json, "rollout"), "step")));
	assert_true(json_is_null(json_object_get(json_object_get(json, "rollout"), "since")));
	assert_true(json_is_null(json_object_get(json_object_get(json, "rollout"), "verdict")));
	assert_string_equal(word(json, "rollout", "reason"), "");
	assert_true(at(json, "rollout.steps.0.weight") == 25.5);
	assert_string_equal(
	    json_string_value(json_object_get(
		json_array_get(json_object_get(json_object_get(json, "rollout"), "steps"), 1),
		"hold")),
	    "250ms");
	assert_true(at(json, "colors.blue.requests") == 3000);
	assert_true(at(json, "colors.blue.share") == 75);
	assert_true(at(json, "colors.green.share") == 25);
	assert_true(at(json, "colors.green.weight") == 12.25);
	assert_true(at(json, "colors.green.failures") == 3);
	assert_true(at(json, "colors.green.failure_rate") == 0.25);
	assert_true(at(json, "colors.green.rps") == 10.12);
	assert_true(at(json, "colors.green.p50_ms") == 1.5);
	assert_true(at(json, "colors.green.p95_ms") == 12.346);
	assert_true(at(json, "colors.green.p99_ms") == 40);
	assert_true(at(json, "colors.green.inflight") == 4);
	assert_true(at(json, "colors.green.codes.2xx") == 2000);
	backends =
	    json_object_get(json_object_get(json_object_get(json, "colors"), "blue"), "backends");
	assert_int_equal(json_array_size(backends), 2);
	assert_string_equal(word(json_array_get(backends, 0), "state", NULL), "up");
	assert_string_equal(word(json_array_get(backends, 0), "reason", NULL), "");
	assert_string_equal(word(json_array_get(backends, 1), "address", NULL), "unix:/run/b.sock");
	assert_string_equal(word(json_array_get(backends, 1), "state", NULL), "down");
	/* a byte that is no UTF-8 does not lose the member */
	assert_string_equal(word(json_array_get(backends, 1), "reason", NULL),
	    "connect refused (3 in a row) \"?\"");
	assert_true(at(json_array_get(backends, 1), "inflight") == 1);
}

static void
all_services(void **unused)
{
	(void)unused;
	ask("GET", "/v1/status", "");
	assert_int_equal(status, 200);
	assert_int_equal(json_array_size(json_object_get(json, "services")), 2);
	assert_true(at(json, "services.0.weight") == 12.25);
	assert_string_equal(word(json, "version", NULL), TEAL_VERSION);
	assert_string_equal(word(json, "started", NULL), "2023-11-14T22:13:20Z");
	assert_true(at(json, "connections.open") == 5);
	assert_true(at(json, "log_lines_lost") == 3);
	assert_true(at(json, "draining") == 0);
	assert_int_equal(json_array_size(json_object_get(json, "certificates")), 2);
}

static void
health_and_version(void **unused)
{
	(void)unused;
	ask("GET", "/healthz", "");
	assert_int_equal(status, 200);
	ask("HEAD", "/readyz", "");
	assert_int_equal(status, 200);
	ask("GET", "/v1/version?x=y", "");
	assert_string_equal(word(json, "version", NULL), TEAL_VERSION);
	control.draining = true;
	ask("GET", "/healthz", "");
	assert_int_equal(status, 200);
	ask("GET", "/readyz", "");
	assert_error(503, "draining", "stopping");
}

static void
weight_is_asked_for(void **unused)
{
	static const struct {
		const char *body, *asked;
	} cases[] = {{"{\"weight\": 25}", "api 2500"}, {"{\"weight\": 0}", "api 0"},
	    {"{\"weight\": 100}", "api 10000"}, {"{\"weight\": 100.0}", "api 10000"},
	    {"{\"weight\": 12.34}", "api 1234"}, {"{\"weight\": 0.01}", "api 1"},
	    {"{\"weight\": 0.29}", "api 29"}, {"{\"weight\": 99.99}", "api 9999"},
	    {"{\"weight\": 64.1}", "api 6410"}, {"{\"weight\": 1e1}", "api 1000"},
	    {"\n{ \"weight\" : 5 }\n", "api 500"}};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask("PUT", "/v1/services/api/weight", cases[i].body);
		assert_int_equal(status, 200);
		assert_int_equal(control.asked, i + 1);
		assert_string_equal(control.what, "weight");
		assert_string_equal(control.text, cases[i].asked);
	}
	/* the answer is the service as it is now */
	assert_true(at(json, "weight") == 5);
	assert_string_equal(control.reason, "");
	assert_false(control.change.has_epoch);
	assert_int_equal(control.change.uid, 1000);
	assert_int_equal(control.change.gid, 100);
	assert_int_equal(control.change.pid, 4711);
	ask("PUT", "/v1/services/api/weight",
	    "{\"weight\": 1, \"reason\": \"OPS-1 \\u00e4\", \"if_epoch\": 7}");
	assert_string_equal(control.reason, "OPS-1 \xc3\xa4");
	assert_true(control.change.has_epoch);
	assert_int_equal(control.change.if_epoch, 7);
}

static void
nonsense_names_its_member(void **unused)
{
	static const struct {
		const char *body, *message;
	} cases[] = {{"", "weight: "}, {"{", "not JSON"}, {"{\"weight\": 25} x", "not JSON"},
	    {"{'weight': 25}", "not JSON"}, {"[25]", "must be a JSON object"},
	    {"{}", "weight: must be a number"},
	    {"{\"weight\": \"25\"}", "weight: must be a number"},
	    {"{\"weight\": null}", "weight: "}, {"{\"weight\": true}", "weight: "},
	    {"{\"weight\": -1}", "weight: "}, {"{\"weight\": -0.01}", "weight: "},
	    {"{\"weight\": 100.01}", "weight: "}, {"{\"weight\": 101}", "weight: "},
	    {"{\"weight\": 1e300}", "weight: "}, {"{\"weight\": 12.345}", "two decimals"},
	    {"{\"weight\": 0.001}", "two decimals"}, {"{\"weight\": 99.999}", "two decimals"},
	    {"{\"weight\": 1, \"weight\": 2}", "not JSON"},
	    {"{\"weight\": 1, \"wieght\": 2}", "wieght: unknown member"},
	    {"{\"weight\": 1, \"reason\": 2}", "reason: must be a string"},
	    {"{\"weight\": 1, \"reason\": \"a\\nb\"}", "reason: must have no control"},
	    {"{\"weight\": 1, \"reason\": \"a\\u0000b\"}", "not JSON"},
	    {"{\"weight\": 1, \"reason\": \"\xff\"}", "not JSON"},
	    {"{\"weight\": 1, \"if_epoch\": \"7\"}", "if_epoch: must be a whole"},
	    {"{\"weight\": 1, \"if_epoch\": -7}", "if_epoch: "},
	    {"{\"weight\": 1, \"if_epoch\": 7.5}", "if_epoch: "},
	    {"{\"weight\": 1, \"if_epoch\": 99999999999999999999}", "not JSON"}};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask("PUT", "/v1/services/api/weight", cases[i].body);
		assert_error(400, "bad-request", cases[i].message);
	}
	assert_int_equal(control.asked, 0);
}

static void
big_and_deep(void **unused)
{
	size_t n = 200000;
	char *body = malloc(n + 1);

	(void)unused;
	assert_non_null(body);
	memset(body, '[', n);
	body[n] = '\0';
	ask("PUT", "/v1/services/api/weight", body);
	assert_error(400, "bad-request", "nested too deeply");
	memset(body, 'r', n);
	memcpy(body, "{\"weight\":1,\"reason\":\"", 22);
	memcpy(body + n - 2, "\"}", 2);
	ask("PUT", "/v1/services/api/weight", body);
	assert_error(400, "bad-request", "reason: must be at most 1000");
	free(body);
	body = malloc(API_BODY_MAX + 2);
	assert_non_null(body);
	memset(body, ' ', API_BODY_MAX + 1);
	body[API_BODY_MAX + 1] = '\0';
	ask("PUT", "/v1/services/api/weight", body);
	assert_error(400, "bad-request", "larger than");
	free(body);
	assert_int_equal(control.asked, 0);
}

static void
other_changes(void **unused)
{
	(void)unused;
	ask("POST", "/v1/services/web/flip", "{\"color\": \"green\"}");
	assert_int_equal(status, 200);
	assert_string_equal(control.what, "flip");
	assert_string_equal(control.text, "web green");
	ask("POST", "/v1/services/web/flip", "{\"color\": \"red\"}");
	assert_error(400, "bad-request", "color: ");
	ask("POST", "/v1/services/web/flip", "{\"color\": 1}");
	assert_error(400, "bad-request", "color: ");
	ask("PUT", "/v1/services/api/maintenance", "{\"on\": true}");
	assert_string_equal(control.what, "maintenance");
	assert_string_equal(control.text, "api 1");
	ask("PUT", "/v1/services/api/maintenance", "{\"on\": false}");
	assert_string_equal(control.text, "api 0");
	ask("PUT", "/v1/services/api/maintenance", "{\"on\": \"true\"}");
	assert_error(400, "bad-request", "on: ");
}

static void
pools_and_backends(void **unused)
{
	(void)unused;
	ask("PUT", "/v1/services/api/pools/green",
	    "{\"backends\": [\"10.0.0.1:80\", \"[::1]:90\", \"unix:/a/b\"], \"if_epoch\": 3}");
	assert_int_equal(status, 200);
	assert_string_equal(control.what, "set");
	assert_string_equal(control.text, "api green 10.0.0.1:80 [::1]:90 unix:/a/b");
	assert_int_equal(control.change.if_epoch, 3);
	ask("PUT", "/v1/services/api/pools/blue", "{\"backends\": []}");
	assert_string_equal(control.text, "api blue");
	ask("POST", "/v1/services/api/pools/blue/backends", "{\"backends\": [\"a.example:1\"]}");
	assert_string_equal(control.what, "add");
	assert_string_equal(control.text, "api blue a.example:1");
	ask("PATCH", "/v1/services/api/pools/green/backends/%5B%3A%3a1%5D%3A81",
	    "{\"state\": \"drain\", \"reason\": \"r\"}");
	assert_string_equal(control.what, "drain");
	assert_string_equal(control.text, "api green [::1]:81");
	assert_string_equal(control.reason, "r");
	ask("PATCH", "/v1/services/api/pools/green/backends/unix:%2Frun%2Fb.sock",
	    "{\"state\": \"active\"}");
	assert_string_equal(control.what, "undrain");
	assert_string_equal(control.text, "api green unix:/run/b.sock");
	ask("DELETE", "/v1/services/api/pools/blue/backends/10.0.0.1:80?reason=a%20b&if_epoch=12",
	    "");
	assert_int_equal(status, 200);
	assert_string_equal(control.what, "remove");
	assert_string_equal(control.text, "api blue 10.0.0.1:80");
	assert_string_equal(control.reason, "a b");
	assert_true(control.change.has_epoch);
	assert_int_equal(control.change.if_epoch, 12);
	assert_int_equal(control.asked, 6);
}

static void
bad_pools(void **unused)
{
	static const struct {
		const char *body, *message;
	} cases[] = {{"{}", "backends: must be an array"}, {"{\"backends\": \"a:1\"}", "an array"},
	    {"{\"backends\": [1]}", "backends[0]: must be a string"},
	    {"{\"backends\": [\"a:1\", null]}", "backends[1]: "},
	    {"{\"backends\": [\"a:1\", \"a:1\"]}", "twice"},
	    {"{\"backends\": [\"nonsense\"]}", "\"nonsense\" is no address"},
	    {"{\"backends\": [\"a:0\"]}", "is no address"},
	    {"{\"backends\": [\"a:65536\"]}", "is no address"},
	    {"{\"backends\": [\"a:1\"], \"x\": 1}", "x: unknown member"}};
	char *many = malloc(16 * 1002);
	size_t n;

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask("PUT", "/v1/services/api/pools/blue", cases[i].body);
		assert_error(400, "bad-request", cases[i].message);
	}
	ask("POST", "/v1/services/api/pools/blue/backends", "{\"backends\": []}");
	assert_error(400, "bad-request", "at least 1");
	ask("PATCH", "/v1/services/api/pools/blue/backends/a:1", "{\"state\": \"up\"}");
	assert_error(400, "bad-request", "state: ");
	ask("PATCH", "/v1/services/api/pools/blue/backends/nonsense", "{\"state\": \"drain\"}");
	assert_error(400, "bad-request", "address: ");
	ask("DELETE", "/v1/services/api/pools/blue/backends/a:1?x=1", "");
	assert_error(400, "bad-request", "x: unknown");
	ask("DELETE", "/v1/services/api/pools/blue/backends/a:1?if_epoch=x", "");
	assert_error(400, "bad-request", "if_epoch: ");
	ask("DELETE", "/v1/services/api/pools/blue/backends/a:1?if_epoch=1&reason=%ff", "");
	assert_error(400, "bad-request", "reason: must be UTF-8");
	ask("DELETE", "/v1/services/api/pools/blue/backends/a:1?reason", "");
	assert_error(400, "bad-request", "NAME=VALUE");
	ask("PUT", "/v1/services/api/pools/blue?if_epoch=1", "{\"backends\": []}");
	assert_error(400, "bad-request", "query");
	ask("PUT", "/v1/services/api/pools/red", "{\"backends\": []}");
	assert_error(404, "unknown-color", "red");
	n = (size_t)sprintf(many, "{\"backends\": [\"a:1\"");
	for (unsigned i = 2; i <= 1001; i++)
		n += (size_t)sprintf(many + n, ",\"a:%u\"", i);
	sprintf(many + n, "]}");
	ask("PUT", "/v1/services/api/pools/blue", many);
	assert_error(400, "bad-request", "at most 1000");
	free(many);
	assert_int_equal(control.asked, 0);
}

static void
paths_and_methods(void **unused)
{
	static const char *const unknown[] = {"/", "", "*", "/v1", "/v1/", "/v1/status/",
	    "/v1//status", "/v2/status", "/v1/services", "/v1/services/", "/v1/services/api/x",
	    "/v1/services/api/pools", "/v1/services/a/pools/blue/backends/a:1/x",
	    "/a/b/c/d/e/f/g/h/i/j", "/v1/stat%75", "/%zz", "/v1/services/api%00", "/metricsx",
	    "http://teal/metrics"};

	(void)unused;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		ask("GET", unknown[i], "");
		assert_error(404, "not-found", "nothing at this path");
	}
	ask("GET", "/v1/st%61tus", ""); /* the same path, written otherwise (RFC 3986 6.2.2.2) */
	assert_int_equal(status, 200);
	ask("GET", "/v1/services/nobody", "");
	assert_error(404, "unknown-service", "\"nobody\"");
	ask("PUT", "/v1/services/nobody/weight", "{\"weight\": 1}");
	assert_error(404, "unknown-service", "nobody");
	ask("POST", "/v1/status", "{}");
	assert_error(405, "method-not-allowed", "POST");
	assert_string_equal(allow, "GET, HEAD");
	ask("GET", "/v1/services/api/pools/blue/backends/a:1", "");
	assert_error(405, "method-not-allowed", "GET");
	assert_string_equal(allow, "PATCH, DELETE");
	ask("GET", "/v1/services/api/weight", "");
	assert_string_equal(allow, "PUT");
	assert_int_equal(control.asked, 0);
}

static void
read_only_listener(void **unused)
{
	(void)unused;
	ask_as(true, "PUT", "/v1/services/api/weight", "{\"weight\": 1}");
	assert_error(405, "read-only", "admin socket");
	assert_string_equal(allow, "");
	ask_as(true, "DELETE", "/v1/services/api/pools/blue/backends/a:1", "");
	assert_error(405, "read-only", "");
	ask_as(true, "GET", "/v1/services/api", "");
	assert_int_equal(status, 200);
	ask_as(true, "POST", "/v1/status", "");
	assert_error(405, "method-not-allowed", "POST");
	assert_int_equal(control.asked, 0);
}

static void
later_issues(void **unused)
{
	(void)unused;
	ask("POST", "/v1/reload", "");
	assert_error(501, "not-implemented", "");
}

static void
rollouts_are_asked(void **unused)
{
	static const struct {
		const char *body, *text;
	} good[] = {
	    {"{\"action\": \"start\"}", "api start"},
	    {"{\"action\": \"start\", \"to\": \"blue\", \"rearm\": true}",
		"api start to blue rearm"},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 0.5, \"hold\": \"5m\"}, "
	     "{\"weight\": 100, \"hold\": \"0s\"}]}",
		"api start 50:300000 10000:0"},
	    {"{\"action\": \"pause\"}", "api pause"},
	    {"{\"action\": \"resume\"}", "api resume"},
	    {"{\"action\": \"promote\"}", "api promote"},
	    {"{\"action\": \"promote\", \"full\": true}", "api promote full"},
	    {"{\"action\": \"abort\", \"reason\": \"T-1\"}", "api abort"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ask("POST", "/v1/services/api/rollout", good[i].body);
		assert_int_equal(status, 200);
		assert_string_equal(control.what, "rollout");
		assert_string_equal(control.text, good[i].text);
	}
	assert_string_equal(control.reason, "T-1");
	/* nothing has to be said */
	ask("POST", "/v1/services/api/rearm", "");
	assert_int_equal(status, 200);
	assert_string_equal(control.what, "rearm");
	assert_false(control.change.has_epoch);
	ask("POST", "/v1/services/api/rearm", "{\"if_epoch\": 7}");
	assert_int_equal(status, 200);
	assert_string_equal(control.what, "rearm");
	assert_true(control.change.has_epoch && control.change.if_epoch == 7);
}

static void
rollouts_refused(void **unused)
{
	static const struct {
		const char *body, *why;
	} bad[] = {
	    {"{}", "action: "},
	    {"{\"action\": \"begin\"}", "action: "},
	    {"{\"action\": 1}", "action: "},
	    {"{\"action\": \"start\", \"to\": \"red\"}", "to: "},
	    {"{\"action\": \"start\", \"to\": null}", "to: "},
	    {"{\"action\": \"pause\", \"to\": \"blue\"}", "to: belongs"},
	    {"{\"action\": \"abort\", \"steps\": []}", "steps: belongs"},
	    {"{\"action\": \"promote\", \"rearm\": true}", "rearm: belongs"},
	    {"{\"action\": \"start\", \"full\": true}", "full: belongs"},
	    {"{\"action\": \"promote\", \"full\": 1}", "full: must"},
	    {"{\"action\": \"start\", \"steps\": {}}", "steps: "},
	    {"{\"action\": \"start\", \"steps\": []}", "steps: "},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 100}]}", "steps[0]: "},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 0, \"hold\": \"1s\"}]}",
		"steps[0].weight: "},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 101, \"hold\": \"1s\"}]}",
		"steps[0].weight: "},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 100, \"hold\": \"soon\"}]}",
		"steps[0].hold: "},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 100, \"hold\": \"31d\"}]}",
		"steps[0].hold: "},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 50, \"hold\": \"1s\"}]}",
		"steps: must end"},
	    {"{\"action\": \"start\", \"steps\": [{\"weight\": 50, \"hold\": \"1s\"}, "
	     "{\"weight\": 50, \"hold\": \"1s\"}]}",
		"steps[1].weight: "},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ask("POST", "/v1/services/api/rollout", bad[i].body);
		assert_error(400, "bad-request", bad[i].why);
	}
	assert_int_equal(control.asked, 0);
}

static void
evidence_and_history(void **unused)
{
	(void)unused;
	ask("GET", "/v1/services/api/evidence", "");
	assert_error(404, "no-evidence", "api");
	control.evidence = json_pack("{s:s}", "rule", "p95");
	ask("GET", "/v1/services/api/evidence", "");
	assert_int_equal(status, 200);
	assert_string_equal(json_string_value(json_object_get(json, "rule")), "p95");
	json_decref(control.evidence);
	ask("GET", "/v1/services/web/history", "");
	assert_int_equal(status, 200);
	assert_string_equal(json_string_value(json_object_get(json, "service")), "web");
	assert_int_equal(json_array_size(json_object_get(json, "entries")), 1);
	ask("GET", "/v1/services/none/history", "");
	assert_error(404, "unknown-service", "none");
}

/* What a rollout under way and a trip look like. */
static void
shows_rollouts(void **unused)
{
	struct release *r = &control.releases[0];
	json_t *rollout, *trip;

	(void)unused;
	(void)rollout_begin(&r->rollout, GREEN, control.steps, 2);
	r->rollout.entered = true;
	r->rollout.held_ms = 1500;
	r->rollout_wall_ms = 1700000000000;
	r->looked = true;
	r->verdict.word = VERDICT_WAIT;
	snprintf(r->verdict.reason, sizeof(r->verdict.reason), "too few requests: 7 of 20");
	ask("GET", "/v1/services/api", "");
	rollout = json_object_get(json, "rollout");
	assert_string_equal(word(json, "rollout", "state"), "stepping");
	assert_string_equal(word(json, "rollout", "to"), "green");
	assert_string_equal(word(json, "rollout", "since"), "2023-11-14T22:13:20Z");
	assert_string_equal(word(json, "rollout", "verdict"), "wait");
	assert_string_equal(word(json, "rollout", "reason"), "too few requests: 7 of 20");
	assert_int_equal(json_integer_value(json_object_get(rollout, "step")), 1);
	assert_int_equal(json_integer_value(json_object_get(rollout, "held_ms")), 1500);
	assert_int_equal(json_integer_value(json_object_get(rollout, "hold_ms")), 300000);
	assert_int_equal(json_integer_value(json_object_get(rollout, "left_ms")), 298750);
	assert_true(json_is_null(json_object_get(json, "trip")));
	rollout_tripped(&r->rollout, "green failed 3 of 3");
	r->trip =
	    (struct state_trip){.on = true, .wall_ms = 1700000000000, .rule = RULE_FAILURE_RATE};
	snprintf(r->trip.reason, sizeof(r->trip.reason), "green failed 3 of 3");
	control.states[0].course = course_of(BLUE, 0) | COURSE_TRIPPED;
	ask("GET", "/v1/services/api", "");
	trip = json_object_get(json, "trip");
	assert_true(json_is_true(json_object_get(json, "tripped")));
	assert_string_equal(json_string_value(json_object_get(trip, "rule")), "failure_rate");
	assert_string_equal(json_string_value(json_object_get(trip, "color")), "green");
	assert_string_equal(word(json, "rollout", "state"), "rolled_back");
	assert_string_equal(word(json, "rollout", "reason"), "green failed 3 of 3");
}

/* The answer waits for control, and tells what control says. */
static void
answers_wait(void **unused)
{
	(void)unused;
	control.later = true;
	ask_as(false, "PUT", "/v1/services/api/weight", "{\"weight\": 50}");
	assert_int_equal(n_answers, 0);
	assert_int_equal(control.asked, 1);
	control.states[0].epoch = 8;
	fake_finish(&control);
	assert_int_equal(n_answers, 1);
	assert_int_equal(status, 200);
	assert_true(at(json, "epoch") == 8);
	control.result = (struct change_result){.http_status = 409, .code = "stale-epoch"};
	snprintf(control.result.message, sizeof(control.result.message), "the epoch is 8");
	ask_as(false, "PUT", "/v1/services/api/weight", "{\"weight\": 50}");
	assert_int_equal(n_answers, 1);
	fake_finish(&control);
	assert_int_equal(n_answers, 2);
	assert_error(409, "stale-epoch", "the epoch is 8");
	/* a service that has gone meanwhile is no reason to fail */
	control.result.http_status = 200;
	ask_as(false, "PUT", "/v1/services/web/weight", "{\"weight\": 50}");
	control.fleet.n_services = 1;
	fake_finish(&control);
	assert_int_equal(status, 200);
}

static void
has_line(const char *line)
{
	const char *found = text;

	while ((found = strstr(found, line)) != NULL) {
		if ((found == text || found[-1] == '\n') && found[strlen(line)] == '\n')
			return;
		found++;
	}
	fail_msg("no line %s", line);
}

/* Every sample belongs to a family announced before it, and no family is announced twice. */
static void
check_exposition(void)
{
	char *copy = strdup(text), *rest = copy, *line, name[128] = "";

	while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
		size_t n = strcspn(line, "{ ");

		if (strncmp(line, "# TYPE ", 7) == 0) {
			char again[160];

			n = strcspn(line + 7, " ");
			snprintf(name, sizeof(name), "%.*s", (int)n, line + 7);
			snprintf(again, sizeof(again), "# TYPE %s ", name);
			assert_null(strstr(strstr(text, again) + 1, again));
		} else if (strncmp(line, "# HELP ", 7) != 0) {
			assert_true(n >= strlen(name));
			assert_memory_equal(line, name, strlen(name));
			assert_true(n == strlen(name) ||
				    strstr("_bucket_sum_count", line + strlen(name)) ||
				    line[strlen(name)] == '_');
		}
	}
	free(copy);
}

static void
metrics(void **unused)
{
	(void)unused;
	control.states[0].maintenance = true;
	control.states[0].rescues_ok = 9;
	control.states[0].rescues_refused = 1;
	control.releases[0].trips[RULE_FAILURE_RATE] = 2;
	ask("GET", "/metrics", "");
	assert_int_equal(status, 200);
	assert_string_equal(type, "text/plain; version=0.0.4; charset=utf-8");
	has_line("# TYPE teal_requests_total counter");
	has_line("teal_requests_total{service=\"api\",color=\"blue\",code=\"2xx\"} 2000");
	has_line("teal_requests_total{service=\"web\",color=\"green\",code=\"failed\"} 3");
	has_line("# TYPE teal_request_duration_seconds histogram");
	has_line(
	    "teal_request_duration_seconds_bucket{service=\"api\",color=\"blue\",le=\"0.0005\"} 0");
	has_line(
	    "teal_request_duration_seconds_bucket{service=\"api\",color=\"blue\",le=\"0.001\"} 10");
	has_line(
	    "teal_request_duration_seconds_bucket{service=\"api\",color=\"blue\",le=\"60\"} 10");
	has_line(
	    "teal_request_duration_seconds_bucket{service=\"api\",color=\"blue\",le=\"+Inf\"} 12");
	has_line("teal_request_duration_seconds_sum{service=\"api\",color=\"blue\"} 1.500000");
	has_line("teal_request_duration_seconds_count{service=\"api\",color=\"blue\"} 12");
	has_line("teal_color_weight{service=\"api\",color=\"blue\"} 87.75");
	has_line("teal_color_weight{service=\"api\",color=\"green\"} 12.25");
	has_line("teal_backend_up{service=\"api\",color=\"blue\",backend=\"10.0.0.1:80\"} 1");
	has_line("teal_backend_up{service=\"api\",color=\"blue\",backend=\"unix:/run/b.sock\"} 0");
	has_line("teal_backend_inflight{service=\"api\",color=\"green\",backend=\"[::1]:81\"} 2");
	has_line("teal_rollout_state{service=\"api\",state=\"idle\"} 1");
	has_line("teal_rollout_state{service=\"api\",state=\"stepping\"} 0");
	has_line("teal_tripped{service=\"api\"} 0");
	has_line("teal_trips_total{service=\"api\",rule=\"failure_rate\"} 2");
	has_line("teal_rescues_total{service=\"api\",result=\"ok\"} 9");
	has_line("teal_rescues_total{service=\"api\",result=\"refused\"} 1");
	has_line("teal_events_total 0");
	has_line("teal_maintenance{service=\"api\"} 1");
	has_line("teal_outcomes_total{outcome=\"ok\"} 99");
	has_line("teal_connections{listener=\"[::]:443\"} 5");
	has_line("teal_connections_total 12");
	has_line("teal_retries_total{service=\"api\",result=\"ok\"} 4");
	has_line("teal_log_lines_lost_total 3");
	has_line(
	    "teal_tls_certificate_not_after_timestamp_seconds{file=\"/etc/a \\\"b\\\\c\\n.pem\"} "
	    "1800000000");
	assert_null(strstr(strstr(text, "_seconds{file=") + 1, "_seconds{file="));
	has_line("teal_config_reload_success 1");
	has_line("teal_build_info{version=\"" TEAL_VERSION "\"} 1");
	has_line("process_start_time_seconds 1700000000.000");
	assert_non_null(strstr(text, "\nprocess_resident_memory_bytes "));
	assert_non_null(strstr(text, "\nprocess_open_fds "));
	assert_null(strstr(text, " -")); /* nothing unknown slipped in as -1 */
	check_exposition();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(one_service),
	    TEST(all_services),
	    TEST(health_and_version),
	    TEST(weight_is_asked_for),
	    TEST(nonsense_names_its_member),
	    TEST(big_and_deep),
	    TEST(other_changes),
	    TEST(pools_and_backends),
	    TEST(bad_pools),
	    TEST(paths_and_methods),
	    TEST(read_only_listener),
	    TEST(rollouts_are_asked),
	    TEST(rollouts_refused),
	    TEST(evidence_and_history),
	    TEST(shows_rollouts),
	    TEST(later_issues),
	    TEST(answers_wait),
	    TEST(metrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
