/*
 * The configuration: every option's default, value, bounds, type and suggestion; the dump's round
 * trip; and files broken in every way a byte can break them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/options.h"
#include "tests/unit/config_files.h"

/* --- defaults ---------------------------------------------------------------------- */

static void
test_defaults_top(void **state)
{
	struct config *c = conf_load_ok(MINIMAL);

	(void)state;
	assert_string_equal(c->file, conf_file);
	assert_int_equal(c->unknown_host, 421);
	assert_int_equal(c->workers, 0);
	assert_int_equal(c->timeouts.header_ms, 10000);
	assert_int_equal(c->timeouts.send_ms, 30000);
	assert_int_equal(c->timeouts.idle_ms, 60000);
	assert_int_equal(c->timeouts.tls_handshake_ms, 10000);
	assert_int_equal(c->timeouts.drain_ms, 30000);
	assert_int_equal(c->limits.connections, 20000);
	assert_int_equal(c->limits.connections_per_client, 0);
	assert_int_equal(c->limits.exempt.n, 0);
	assert_int_equal(c->limits.streams, 100);
	assert_int_equal(c->limits.header_bytes, 60 * 1024);
	assert_int_equal(c->limits.header_count, 100);
	assert_int_equal(c->limits.request_line, 8192);
	assert_int_equal(c->limits.queued_bytes, 256 * 1024);
	assert_int_equal(c->limits.glitches, 1000);
	assert_int_equal(c->limits.glitches_per_second, 33);
	assert_int_equal(c->forward.trusted.n, 0);
	assert_string_equal(c->forward.via, "");
	assert_string_equal(c->forward.server, "");
	assert_true(c->forward.forwarded);
	assert_int_equal(c->response_headers.n, 0);
	assert_string_equal(c->admin.socket, "");
	assert_int_equal(c->admin.mode, 0660);
	assert_string_equal(c->admin.owner, "");
	assert_string_equal(c->admin.group, "");
	assert_string_equal(c->admin.http.text, "");
	assert_null(c->admin.http.host);
	assert_int_equal(c->announce.exec.n, 0);
	assert_int_equal(c->announce.exec_timeout_ms, 10000);
	assert_string_equal(c->announce.webhook, "");
	assert_int_equal(c->announce.webhook_timeout_ms, 5000);
	assert_string_equal(c->announce.webhook_ca, "");
	assert_int_equal(c->announce.webhook_headers.n, 0);
	assert_int_equal(c->announce.retries, 5);
	assert_int_equal(c->announce.certificate_ms, INT64_C(14) * 86400000);
	assert_string_equal(c->state_directory, "/var/lib/teal");
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_string_equal(c->log_access, "off");
	assert_int_equal(c->log_format, LOG_FORMAT_JSON);
	config_free(c);
}

/* All of them, and each a name that may be told. */
static void
test_defaults_events(void **state)
{
	struct config *c = conf_load_ok(MINIMAL);
	const struct string_list *events = &c->announce.events;
	bool tripped = false;

	(void)state;
	assert_int_equal(events->n, 18);
	for (size_t i = 0; i < events->n; i++) {
		assert_true(announce_event_known(events->items[i]));
		tripped = tripped || strcmp(events->items[i], "tripped") == 0;
	}
	assert_true(tripped);
	assert_string_equal(events->items[events->n - 1], "state_not_written");
	assert_false(announce_event_known(""));
	assert_false(announce_event_known("trip"));
	assert_false(announce_event_known("step|waiting"));
	config_free(c);
}

static void
test_defaults_tls(void **state)
{
	struct config *c = conf_load_ok("\nlisten = (\n"
					"{ address = \"A.example:443\"; tls = { certificates =\n"
					"( { chain = \"site.pem\"; key = \"site.key\"; } ); }; },\n"
					"{ address = \"[::1]:80\"; } );\n"
					"services = ( { name = \"api\"; " BLUE_POOL " } );\n");
	const struct listener_config *l = c->listeners;

	(void)state;
	assert_int_equal(c->n_listeners, 2);
	assert_int_equal(l[0].line, 3);
	assert_int_equal(l[1].line, 5);
	assert_string_equal(l[0].address.text, "A.example:443");
	assert_true(l[0].tls.on);
	assert_int_equal(l[0].tls.n_certificates, 1);
	assert_string_equal(l[0].tls.certificates[0].chain, conf_path("site.pem"));
	assert_string_equal(l[0].tls.certificates[0].key, conf_path("site.key"));
	assert_string_equal(l[0].tls.min_version, "1.2");
	assert_string_equal(l[0].tls.ciphers, "");
	assert_string_equal(l[0].tls.ciphersuites, "");
	assert_true(l[0].tls.http2);
	assert_true(l[0].tls.session_tickets);
	assert_false(l[1].tls.on);
	assert_false(l[1].redirect_to_https);
	assert_int_equal(l[1].redirect_port, 443);
	assert_false(l[1].proxy_protocol);
	assert_int_equal(l[1].proxy_protocol_from.n, 0);
	assert_int_equal(l[1].backlog, 4096);
	config_free(c);
}

static void
test_defaults_service(void **state)
{
	struct config *c = conf_load_ok(MINIMAL);
	const struct service_config *s = c->services;
	const struct pool_config *p = &s->pools[BLUE];

	(void)state;
	assert_int_equal(s->line, 2);
	assert_int_equal(s->hosts.n, 1);
	assert_string_equal(s->hosts.items[0], "*");
	assert_int_equal(s->paths.n, 1);
	assert_string_equal(s->paths.items[0], "/");
	assert_int_equal(s->retries, 2);
	assert_int_equal(s->timeouts.connect_ms, 3000);
	assert_int_equal(s->timeouts.response_ms, 30000);
	assert_int_equal(s->timeouts.body_ms, 30000);
	assert_int_equal(s->timeouts.request_body_ms, 30000);
	assert_int_equal(s->timeouts.websocket_idle_ms, 3600000);
	assert_int_equal(s->max_body, 0);
	assert_int_equal(s->n_rates, 0);
	assert_int_equal(s->rate_exempt.n, 0);
	assert_int_equal(s->response_headers.n, 0);
	assert_string_equal(s->maintenance.page, "");
	assert_string_equal(s->maintenance.content_type, "text/html; charset=utf-8");
	assert_int_equal(s->maintenance.retry_after_ms, 60000);
	assert_true(p->given);
	assert_int_equal(p->n_backends, 1);
	assert_int_equal(p->backends[0].weight, 1);
	assert_false(p->backends[0].backup);
	assert_int_equal(p->backends[0].address.port, 8080);
	assert_int_equal(p->protocol, BACK_H1);
	assert_false(p->tls.on);
	assert_true(p->tls.verify);
	assert_string_equal(p->tls.ca, "");
	assert_string_equal(p->tls.server_name, "");
	assert_string_equal(p->tls.certificate, "");
	assert_string_equal(p->tls.key, "");
	assert_int_equal(p->balance, BALANCE_LEAST);
	assert_string_equal(p->hash_name, "");
	assert_int_equal(p->slow_start_ms, 0);
	assert_int_equal(p->max_connections, 0);
	assert_int_equal(p->max_in_flight, 0);
	assert_int_equal(p->queue, 128);
	assert_int_equal(p->queue_timeout_ms, 5000);
	assert_int_equal(p->idle_connections, 1024);
	assert_int_equal(p->idle_timeout_ms, 55000);
	assert_int_equal(p->hold_down_ms, 1000);
	assert_int_equal(p->resolve_interval_ms, 30000);
	assert_int_equal(p->streams, 100);
	assert_false(s->pools[GREEN].given);
	assert_int_equal(s->pools[GREEN].n_backends, 0);
	/* an absent pool has its defaults too: backends may be added at run time */
	assert_int_equal(s->pools[GREEN].queue, 128);
	config_free(c);
}

static void
test_defaults_release(void **state)
{
	struct config *c = conf_load_ok(MINIMAL);
	const struct service_config *s = c->services;
	const struct rollout_config *r = &s->rollout;

	(void)state;
	assert_int_equal(s->split.by, SPLIT_REQUEST);
	assert_string_equal(s->split.header, "");
	assert_string_equal(s->split.cookie, "teal_split");
	assert_int_equal(s->split.cookie_max_age_ms, INT64_C(30) * 86400000);
	assert_string_equal(s->split.force_header, "");
	assert_string_equal(s->split.force_cookie, "");
	assert_string_equal(s->split.force_secret, "");
	assert_int_equal(s->passive.failures, 5);
	assert_int_equal(s->passive.hold_ms, 10000);
	assert_int_equal(s->passive.max_ejected_bp, 5000);
	assert_int_equal(r->gate.command.n, 0);
	assert_int_equal(r->gate.timeout_ms, 30000);
	assert_int_equal(r->way_back.timeout_ms, 0);
	assert_int_equal(r->way_back.rate, 0);
	assert_int_equal(r->n_steps, 3);
	assert_int_equal(r->steps[0].weight_bp, 2500);
	assert_int_equal(r->steps[0].hold_ms, 300000);
	assert_int_equal(r->steps[1].weight_bp, 5000);
	assert_int_equal(r->steps[2].weight_bp, 10000);
	assert_int_equal(r->steps[2].hold_ms, 600000);
	assert_int_equal(r->limits.failure_rate_bp, 100);
	assert_int_equal(r->limits.p95_ms, 0);
	assert_int_equal(r->limits.window_ms, 30000);
	assert_int_equal(r->limits.min_requests, 20);
	assert_int_equal(r->limits.min_failures, 3);
	assert_true(r->limits.relative);
	assert_int_equal(r->limits.healthy_backends_bp, 5000);
	assert_int_equal(r->limits.confidence_bp, 9990);
	assert_true(r->automatic);
	assert_int_equal(r->max_hold_ms, 3600000);
	assert_int_equal(r->on_inconclusive, INCONCLUSIVE_PAUSE);
	assert_true(s->rescue.on);
	assert_int_equal(s->rescue.max_body, 65536);
	assert_int_equal(s->rescue.budget_bp, 2000);
	for (int i = 0; i < N_PROBES; i++)
		assert_false(s->health[i].on);
	config_free(c);
}

static void
assert_probe(const struct probe_config *p, const char *path, int64_t interval, int64_t timeout,
    unsigned rise, unsigned fall)
{
	assert_true(p->on);
	assert_string_equal(p->path, path);
	assert_int_equal(p->interval_ms, interval);
	assert_int_equal(p->timeout_ms, timeout);
	assert_int_equal(p->rise, rise);
	assert_int_equal(p->fall, fall);
	assert_int_equal(p->status_min, 200);
	assert_int_equal(p->status_max, 299);
	assert_string_equal(p->json_member, "");
	assert_string_equal(p->json_value, "");
	assert_false(p->grpc);
}

static void
test_defaults_health(void **state)
{
	struct config *c =
	    conf_load_ok(SERVICE("health = { liveness = {}; readiness = {}; startup = {}; };"));
	const struct probe_config *h = c->services[0].health;

	(void)state;
	assert_probe(&h[PROBE_LIVENESS], "/health/liveness", 5000, 2000, 2, 3);
	assert_probe(&h[PROBE_READINESS], "/health/readiness", 2000, 1000, 2, 2);
	assert_probe(&h[PROBE_STARTUP], "/health/startup", 1000, 1000, 1, 3);
	assert_int_equal(h[PROBE_STARTUP].deadline_ms, 60000);
	config_free(c);
}

/* --- what was written ---------------------------------------------------------------- */

static void
test_everything_edge(void **state)
{
	struct config *c = conf_load_ok(conf_everything);
	const struct listener_config *l = c->listeners;

	(void)state;
	assert_int_equal(c->n_listeners, 3);
	assert_int_equal(l[0].tls.n_certificates, 2);
	assert_string_equal(l[0].tls.min_version, "1.3");
	assert_string_equal(l[0].tls.ciphers, "HIGH");
	assert_string_equal(l[0].tls.ciphersuites, "TLS_AES_128_GCM_SHA256");
	assert_false(l[0].tls.http2);
	assert_false(l[0].tls.session_tickets);
	assert_int_equal(l[0].backlog, 100);
	assert_string_equal(l[1].address.host, "::");
	assert_true(l[1].redirect_to_https);
	assert_int_equal(l[1].redirect_port, 8443);
	assert_true(l[1].proxy_protocol);
	assert_int_equal(l[1].proxy_protocol_from.n, 2);
	assert_string_equal(l[2].address.path, "/run/teal/front.sock");
	assert_null(l[2].address.host);
	assert_int_equal(c->unknown_host, 404);
	assert_int_equal(c->timeouts.drain_ms, 5000);
	assert_int_equal(c->limits.exempt.n, 1);
	assert_int_equal(c->limits.header_bytes, 32768);
	assert_int_equal(c->forward.trusted.items[0].prefix, 96 + 16);
	assert_string_equal(c->forward.via, "edge");
	assert_string_equal(c->forward.server, "teal");
	assert_false(c->forward.forwarded);
	assert_string_equal(c->response_headers.items[0].name, "server");
	assert_int_equal(c->response_headers.items[0].action, HEADER_REMOVE);
	assert_string_equal(c->admin.socket, conf_path("admin.sock"));
	assert_int_equal(c->admin.mode, 0600);
	assert_string_equal(c->admin.owner, "root");
	assert_string_equal(c->admin.group, "0");
	assert_int_equal(c->admin.http.port, 9900);
	assert_string_equal(c->state_directory, conf_path("state"));
	assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(c->log_access, conf_path("access.log"));
	assert_int_equal(c->log_format, LOG_FORMAT_TEXT);
	assert_int_equal(c->workers, 3);
	config_free(c);
}

static void
test_everything_pool(void **state)
{
	struct config *c = conf_load_ok(conf_everything);
	const struct pool_config *p = c->services[0].pools;

	(void)state;
	assert_int_equal(p[BLUE].n_backends, 3);
	assert_string_equal(p[BLUE].backends[0].address.host, "10.0.0.11");
	assert_int_equal(p[BLUE].backends[1].weight, 3);
	assert_true(p[BLUE].backends[2].backup);
	assert_string_equal(p[BLUE].backends[2].address.path, "/run/app.sock");
	assert_true(p[BLUE].tls.on);
	assert_string_equal(p[BLUE].tls.ca, conf_path("ca.pem"));
	assert_string_equal(p[BLUE].tls.server_name, "app.internal");
	assert_int_equal(p[BLUE].balance, BALANCE_HASH);
	assert_int_equal(p[BLUE].hash_by, KEY_HEADER);
	assert_string_equal(p[BLUE].hash_name, "x-user");
	assert_int_equal(p[BLUE].queue_timeout_ms, 250);
	assert_int_equal(p[GREEN].protocol, BACK_H2);
	assert_int_equal(p[GREEN].hash_by, KEY_COOKIE);
	assert_string_equal(p[GREEN].hash_name, "Id");
	assert_false(p[GREEN].tls.on);
	assert_int_equal(c->services[1].pools[GREEN].hash_by, KEY_CLIENT_IP);
	config_free(c);
}

static void
test_everything_service(void **state)
{
	struct config *c = conf_load_ok(conf_everything);
	const struct service_config *s = c->services;
	const struct header_rules *r = &s->response_headers;

	(void)state;
	assert_string_equal(s->hosts.items[0], "api.example.com");
	assert_string_equal(s->paths.items[1], "/v1");
	assert_int_equal(s->health[PROBE_LIVENESS].status_min, 204);
	assert_int_equal(s->health[PROBE_LIVENESS].status_max, 204);
	assert_string_equal(s->health[PROBE_LIVENESS].json_member, "status");
	assert_int_equal(s->health[PROBE_STARTUP].deadline_ms, 90000);
	assert_int_equal(s->health[PROBE_STARTUP].status_max, 399);
	assert_int_equal(s->split.by, SPLIT_HEADER);
	assert_string_equal(s->split.header, "x-user");
	assert_string_equal(s->split.force_header, "x-color");
	assert_string_equal(s->split.force_secret, "correct-horse");
	assert_int_equal(s->rollout.n_steps, 2);
	assert_int_equal(s->rollout.steps[0].weight_bp, 50);
	assert_int_equal(s->rollout.limits.failure_rate_bp, 225);
	assert_int_equal(s->rollout.limits.confidence_bp, 9999);
	assert_int_equal(s->rollout.limits.healthy_backends_bp, 7500);
	assert_int_equal(s->rollout.on_inconclusive, INCONCLUSIVE_ROLLBACK);
	assert_int_equal(s->rescue.max_body, 1000);
	assert_int_equal(s->max_body, 10 * 1024 * 1024);
	assert_int_equal(s->n_rates, 2);
	assert_int_equal(s->rates[0].burst, 10); /* as many as requests */
	assert_int_equal(s->rates[1].burst, 5);
	assert_int_equal(r->n, 3);
	assert_int_equal(r->items[0].action, HEADER_REMOVE);
	assert_string_equal(r->items[0].name, "x-powered-by");
	assert_int_equal(r->items[1].action, HEADER_SET);
	assert_string_equal(r->items[1].name, "x-frame-options");
	assert_string_equal(r->items[1].value, "DENY");
	assert_int_equal(r->items[2].action, HEADER_ADD);
	assert_string_equal(r->items[2].value, "\"a\\b\"");
	assert_string_equal(s->maintenance.page, conf_path("sorry.html"));
	config_free(c);
}

static void
test_everything_announce(void **state)
{
	struct config *c = conf_load_ok(conf_everything);
	const struct announce_config *a = &c->announce;
	const struct rollout_config *r = &c->services[0].rollout;

	(void)state;
	assert_int_equal(a->exec.n, 3);
	assert_string_equal(a->exec.items[0], "/bin/sh");
	assert_string_equal(a->exec.items[2], "cat");
	assert_int_equal(a->exec_timeout_ms, 3000);
	assert_string_equal(a->webhook, "https://hooks.example:8443/teal?x=1");
	assert_int_equal(a->webhook_timeout_ms, 2000);
	assert_string_equal(a->webhook_ca, conf_path("ca.pem"));
	assert_int_equal(a->webhook_headers.n, 1);
	assert_int_equal(a->webhook_headers.items[0].action, HEADER_SET);
	assert_string_equal(a->webhook_headers.items[0].name, "authorization");
	assert_string_equal(a->webhook_headers.items[0].value, "Bearer x");
	assert_int_equal(a->retries, 2);
	assert_int_equal(a->events.n, 2);
	assert_string_equal(a->events.items[1], "promoted");
	assert_int_equal(a->certificate_ms, INT64_C(30) * 86400000);
	assert_int_equal(c->services[0].passive.failures, 7);
	assert_int_equal(c->services[0].passive.hold_ms, 20000);
	assert_int_equal(c->services[0].passive.max_ejected_bp, 3333);
	assert_int_equal(r->gate.command.n, 2);
	/* relative to the file, as every file */
	assert_string_equal(r->gate.command.items[0], conf_path("./hook.sh"));
	assert_string_equal(r->gate.command.items[1], "--step");
	assert_int_equal(r->gate.timeout_ms, 60000);
	assert_int_equal(r->way_back.timeout_ms, 600000);
	assert_int_equal(r->way_back.rate, 25);
	config_free(c);
}

/* The example of the product's description, word for word. */
static void
test_example(void **state)
{
	struct config *c = conf_load_ok(
	    "listen = (\n"
	    "  { address = \"0.0.0.0:443\";\n"
	    "    tls = { certificates = ( { chain = \"site.pem\"; key = \"site.key\"; } ); }; },\n"
	    "  { address = \"0.0.0.0:80\"; redirect_to_https = true; } );\n"
	    "\n"
	    "services = (\n"
	    "  { name = \"api\"; hosts = [ \"api.example.com\" ]; paths = [ \"/\" ];\n"
	    "    blue  = { backends = [ \"10.0.0.11:8080\", \"10.0.0.12:8080\" ]; };\n"
	    "    green = { backends = [ \"10.0.1.11:8080\" ]; protocol = \"h2\"; };\n"
	    "    health  = { liveness  = { path = \"/health/liveness\";  interval = \"5s\"; "
	    "timeout = \"2s\"; fall = 3; rise = 2; };\n"
	    "                readiness = { path = \"/health/readiness\"; interval = \"2s\"; "
	    "timeout = \"1s\"; fall = 2; rise = 2; };\n"
	    "                startup   = { path = \"/health/startup\";   interval = \"1s\"; "
	    "timeout = \"1s\"; deadline = \"60s\"; }; };\n"
	    "    split   = { by = \"request\"; };\n"
	    "    rollout = { steps = ( { weight = 25; hold = \"5m\"; }, { weight = 50; hold = "
	    "\"5m\"; }, { weight = 100; hold = \"10m\"; } );\n"
	    "                limits = { failure_rate = 1.0; p95 = \"1s\"; window = \"30s\"; }; }; "
	    "} );\n"
	    "\n"
	    "admin = { socket = \"/run/teal/admin.sock\"; mode = \"0660\"; http = "
	    "\"127.0.0.1:9900\"; };\n"
	    "state = { directory = \"/var/lib/teal\"; };\n"
	    "log   = { level = \"info\"; access = \"/var/log/teal/access.log\"; format = \"json\"; "
	    "};      # access: a file, \"stdout\" or \"off\"\n"
	    "workers = 0;                                                                          "
	    "  # 0: one per CPU\n");

	(void)state;
	assert_int_equal(c->services[0].pools[BLUE].n_backends, 2);
	assert_int_equal(c->services[0].rollout.limits.p95_ms, 1000);
	assert_string_equal(c->log_access, "/var/log/teal/access.log");
	config_free(c);
}

/* What is installed as /etc/teal/teal.conf, found by the tests' working directory. */
static void
test_shipped(void **state)
{
	static const char from[] = "\"tls/site.";
	char text[32768], *p;
	FILE *f = fopen("packaging/teal.conf", "r");
	struct config *c;
	size_t n;

	(void)state;
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	assert_true(n < sizeof(text) - 1);
	text[n] = '\0';
	/* the certificates lie beside the file here */
	while ((p = strstr(text, from)) != NULL)
		memcpy(p, "  \"./site.", sizeof(from) - 1);
	c = conf_load_ok(text);
	assert_true(c->listeners[0].tls.on);
	assert_true(c->listeners[1].redirect_to_https);
	assert_int_equal(c->services[0].response_headers.n, 6);
	config_free(c);
}

/* --- the dump ---------------------------------------------------------------------- */

static void
assert_round_trip(const char *text)
{
	struct config *c = conf_load_ok(text);
	char *first = conf_dump(c), *second;

	config_free(c);
	c = conf_load_ok(first);
	second = conf_dump(c);
	config_free(c);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

static void
test_round_trip(void **state)
{
	(void)state;
	assert_round_trip(MINIMAL);
	assert_round_trip(conf_everything);
	/* control characters and bytes above ASCII survive */
	assert_round_trip(
	    SERVICE("health = { liveness = { json = { member = \"a\\n\\x01\\\\\\\"\xc3\xa9\";"
		    " value = \"\\t\\f\\r\\x7f\"; }; }; };"));
}

static void
test_dump_says_what_holds(void **state)
{
	struct config *c = conf_load_ok(conf_everything);
	char *text = conf_dump(c);

	(void)state;
	assert_non_null(strstr(text, "queue_timeout = \"250ms\";"));
	assert_non_null(strstr(text, "balance = \"hash:header:x-user\";"));
	assert_non_null(strstr(text, "failure_rate = 2.25;"));
	assert_non_null(strstr(text, "trusted = [ \"192.168.0.0/16\" ];"));
	assert_non_null(strstr(text, "max_body = 1000;"));
	assert_non_null(strstr(text, "max_body = \"10m\";"));
	assert_non_null(strstr(text, "mode = \"0600\";"));
	assert_non_null(strstr(text, "remove = [ \"x-powered-by\" ];"));
	free(text);
	config_free(c);
}

/* --- every option, broken in every way ------------------------------------------------- */

/* A line "key = value;" of the dump and the row it comes from. */
struct leaf {
	const struct option *row;
	unsigned line;
	const char *begin, *end; /* of the value */
};

static const struct option *
find_row(const struct option *rows, const char *key, size_t n)
{
	for (; rows->key != NULL; rows++)
		if (strlen(rows->key) == n && memcmp(rows->key, key, n) == 0)
			return rows;
	fail_msg("no row for %.*s", (int)n, key);
	abort();
}

#define DEPTH_MAX 16

/* Calls f for every scalar and flat list of the dump. */
static void
each_leaf(const char *text, void (*f)(const char *, const struct leaf *))
{
	const struct option *tables[DEPTH_MAX] = {config_options};
	unsigned line = 1;
	int depth = 0;

	for (const char *p = text; *p != '\0'; p = strchr(p, '\n') + 1, line++) {
		size_t indent = strspn(p, " ");
		const char *key = p + indent, *value = strstr(key, " = ");
		const char *end = strchr(p, '\n');

		if (*key == '}') {
			depth--;
			/* "} );" ends the list too */
			if (end[-2] == ')' && key[1] == ' ')
				depth--;
		} else if (*key == '{') {
			assert_true(depth + 1 < DEPTH_MAX);
			tables[depth + 1] = tables[depth];
			depth++;
		} else {
			struct leaf leaf = {.line = line};

			assert_non_null(value);
			leaf.row = find_row(tables[depth], key, (size_t)(value - key));
			leaf.begin = value + 3;
			leaf.end = end - 1;
			if (strncmp(leaf.begin, "( );", 4) == 0)
				continue;
			if (*leaf.begin == '{' || *leaf.begin == '(') {
				assert_true(depth + 1 < DEPTH_MAX);
				tables[++depth] = leaf.row->rows;
				continue;
			}
			f(text, &leaf);
		}
	}
	assert_int_equal(depth, 0);
}

/* The text with the leaf's value replaced. */
static char *
with_value(const char *text, const struct leaf *leaf, const char *value)
{
	char *out;

	assert_true(
	    asprintf(&out, "%.*s%s%s", (int)(leaf->begin - text), text, value, leaf->end) > 0);
	return out;
}

/* Loads and expects (or expects not) `message` for the leaf's key at the leaf's line. */
static void
try_value(const char *text, const struct leaf *leaf, const char *value, const char *message,
    bool expected)
{
	char *changed = with_value(text, leaf, value), where[128], *found;

	config_free(conf_load(changed));
	snprintf(where, sizeof(where), "%s:%u: ", conf_file, leaf->line);
	found = strstr(conf_errors, where);
	while (found != NULL) {
		size_t n = strcspn(found, "\n");
		char *hit = memmem(found, n, message, strlen(message));

		if (hit != NULL && memmem(found, n, leaf->row->key, strlen(leaf->row->key)) != NULL)
			break;
		found = strstr(found + 1, where);
	}
	if ((found != NULL) != expected)
		fail_msg("%s = %s: %s \"%s\" at line %u, but:\n%s", leaf->row->key, value,
		    expected ? "expected" : "unexpected", message, leaf->line, conf_errors);
	free(changed);
}

static unsigned n_leaves;

static void
break_type(const char *text, const struct leaf *leaf)
{
	n_leaves++;
	try_value(text, leaf, "{ }", "must be", true);
	try_value(text, leaf, "( ( ) )", "must be", true);
	if (leaf->row->type == OPTION_BOOL || leaf->row->type == OPTION_UNSIGNED ||
	    leaf->row->type == OPTION_PERCENT) {
		try_value(text, leaf, "\"1\"", "must be", true);
	} else if (leaf->row->type != OPTION_SIZE) {
		try_value(text, leaf, "1", "must be", true);
		try_value(text, leaf, "1.5", "must be", true);
		try_value(text, leaf, "true", "must be", true);
	}
	if (leaf->row->type == OPTION_UNSIGNED || leaf->row->type == OPTION_BOOL)
		try_value(text, leaf, "1.5", "must be", true);
	if (leaf->row->type == OPTION_DURATION || leaf->row->type == OPTION_WORD ||
	    leaf->row->type == OPTION_FORM)
		try_value(text, leaf, "\"nonsense\"", "must be", true);
}

static void
write_number(const struct option *o, int64_t n, char out[64])
{
	if (o->type == OPTION_DURATION)
		snprintf(out, 64, "\"%" PRId64 "ms\"", n);
	else if (o->type == OPTION_SIZE)
		snprintf(out, 64, "%" PRId64 "L", n);
	else if (o->type == OPTION_PERCENT)
		snprintf(out, 64, "%s%" PRId64 ".%02" PRId64, n < 0 ? "-" : "", n / 100,
		    n < 0 ? -n % 100 : n % 100);
	else
		snprintf(out, 64, "%" PRId64, n);
}

static void
break_range(const char *text, const struct leaf *leaf)
{
	const struct option *o = leaf->row;
	char value[64];

	if (o->words != NULL || (o->type != OPTION_UNSIGNED && o->type != OPTION_SIZE &&
				    o->type != OPTION_DURATION && o->type != OPTION_PERCENT))
		return;
	/* every number has a bound */
	assert_true(o->max > o->min);
	write_number(o, o->min, value);
	try_value(text, leaf, value, "out of range", false);
	try_value(text, leaf, value, option_expects(o), false);
	write_number(o, o->max, value);
	try_value(text, leaf, value, "out of range", false);
	try_value(text, leaf, value, option_expects(o), false);
	if (o->min > 0 || o->type != OPTION_DURATION) {
		write_number(o, o->min - 1, value);
		try_value(text, leaf, value, "out of range", true);
	}
	write_number(o, o->max + 1, value);
	try_value(text, leaf, value, "out of range", true);
}

static void
break_key(const char *text, const struct leaf *leaf)
{
	/* "key = value" becomes "keyx = value" */
	struct leaf at = *leaf;
	char suggestion[96], *changed;

	at.begin -= 3;
	at.end = at.begin;
	changed = with_value(text, &at, "x");
	snprintf(suggestion, sizeof(suggestion), "did you mean \"%s\"?", leaf->row->key);
	config_free(conf_load(changed));
	if (strstr(conf_errors, suggestion) == NULL || strstr(conf_errors, "unknown key ") == NULL)
		fail_msg("%sx: expected %s, got\n%s", leaf->row->key, suggestion, conf_errors);
	free(changed);
}

static void
each_option(void (*f)(const char *, const struct leaf *))
{
	struct config *c = conf_load_ok(conf_everything);
	char *text = conf_dump(c);

	config_free(c);
	each_leaf(text, f);
	free(text);
}

/* A row copied and not changed would write another row's field. */
static void
assert_own_fields(const struct option *rows)
{
	for (const struct option *o = rows; o->key != NULL; o++) {
		assert_true(o->doc != NULL && o->doc[0] != '\0');
		if (o->rows != NULL)
			assert_own_fields(o->rows);
		if (o->type == OPTION_GROUP || o->type == OPTION_RULES ||
		    o->type == OPTION_REMOVALS)
			continue;
		for (const struct option *p = rows; p != o; p++)
			if (p->type != OPTION_GROUP && p->offset == o->offset)
				fail_msg("%s and %s share a field", p->key, o->key);
	}
}

static void
test_every_field(void **state)
{
	(void)state;
	assert_own_fields(config_options);
}

static void
test_every_type(void **state)
{
	(void)state;
	n_leaves = 0;
	each_option(break_type);
	assert_true(n_leaves > 150);
}

static void
test_every_range(void **state)
{
	(void)state;
	each_option(break_range);
}

static void
test_every_key(void **state)
{
	(void)state;
	each_option(break_key);
}

/* --- broken files ---------------------------------------------------------------------- */

static void
test_every_prefix(void **state)
{
	(void)state;
	for (size_t n = 0; n < strlen(conf_everything); n++)
		config_free(conf_load_bytes(conf_everything, n));
}

/* Every byte becomes, in turn, something of each kind the scanner knows. */
static void
test_every_byte(void **state)
{
	static const char kinds[] = "\"\\{)0;\n\x80";
	char text[EVERYTHING_MAX];
	size_t n = strlen(conf_everything);

	(void)state;
	assert_true(n < sizeof(text));
	for (size_t i = 0; i < n; i++) {
		memcpy(text, conf_everything, n);
		text[i] = i % 9 == 8 ? '\0' : kinds[i % 9];
		config_free(conf_load_bytes(text, n));
		memcpy(text, conf_everything, n);
		text[i] = (char)(text[i] ^ (1 << (i % 7)));
		config_free(conf_load_bytes(text, n));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults_top),
	    cmocka_unit_test(test_defaults_events),
	    cmocka_unit_test(test_defaults_tls),
	    cmocka_unit_test(test_defaults_service),
	    cmocka_unit_test(test_defaults_release),
	    cmocka_unit_test(test_defaults_health),
	    cmocka_unit_test(test_everything_edge),
	    cmocka_unit_test(test_everything_pool),
	    cmocka_unit_test(test_everything_service),
	    cmocka_unit_test(test_everything_announce),
	    cmocka_unit_test(test_example),
	    cmocka_unit_test(test_shipped),
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_dump_says_what_holds),
	    cmocka_unit_test(test_every_field),
	    cmocka_unit_test(test_every_type),
	    cmocka_unit_test(test_every_range),
	    cmocka_unit_test(test_every_key),
	    cmocka_unit_test(test_every_prefix),
	    cmocka_unit_test(test_every_byte),
	};

	return cmocka_run_group_tests(tests, config_files_begin, config_files_end);
}
