/*
 * The rows: every key of the file, its type, place, default, range and meaning.
 *
 * To add an option, add its field to config.h and its row here; see README.md.
 * Constant data; any thread.
 */
#include "config/options.h"

#include "config/forms.h"

/* NOLINTBEGIN(bugprone-macro-parentheses): these are names and initializers */

/* offsetof(struct s, f), refusing to compile when the field is no T. */
#define FIELD(T, s, f) (offsetof(struct s, f) + 0 * sizeof((T *)NULL == &((struct s *)NULL)->f))
/* The same for an enum, which has no fixed type but the size of an int. */
#define ENUM(s, f)                                                                                 \
	(offsetof(struct s, f) +                                                                   \
	    0 * sizeof(char[sizeof(((struct s *)NULL)->f) == sizeof(int) ? 1 : -1]))

#define FLAG(k, s, f, def, d)                                                                      \
	{                                                                                          \
		.key = k, .type = OPTION_BOOL, .offset = FIELD(bool, s, f), .text = def, .doc = d  \
	}
#define NUMBER(k, s, f, def, lo, hi, d)                                                            \
	{                                                                                          \
		.key = k, .type = OPTION_UNSIGNED, .offset = FIELD(unsigned, s, f), .text = def,   \
		.min = lo, .max = hi, .doc = d                                                     \
	}
#define SIZE(k, s, f, def, lo, hi, d)                                                              \
	{                                                                                          \
		.key = k, .type = OPTION_SIZE, .offset = FIELD(size_t, s, f), .text = def,         \
		.min = lo, .max = hi, .doc = d                                                     \
	}
#define DURATION(k, s, f, def, lo, hi, d)                                                          \
	{                                                                                          \
		.key = k, .type = OPTION_DURATION, .offset = FIELD(int64_t, s, f), .text = def,    \
		.min = lo, .max = hi, .doc = d                                                     \
	}
#define PERCENT(k, s, f, def, lo, hi, d)                                                           \
	{                                                                                          \
		.key = k, .type = OPTION_PERCENT, .offset = FIELD(unsigned, s, f), .text = def,    \
		.min = lo, .max = hi, .doc = d                                                     \
	}
#define WORD(k, s, f, def, w, d)                                                                   \
	{                                                                                          \
		.key = k, .type = OPTION_WORD, .offset = ENUM(s, f), .text = def, .words = w,      \
		.doc = d                                                                           \
	}
#define TEXT(k, s, f, fl, def, c, d)                                                               \
	{                                                                                          \
		.key = k, .type = OPTION_STRING, .flags = fl, .offset = FIELD(char *, s, f),       \
		.text = def, .check = c, .doc = d                                                  \
	}
#define NAMED_FILE(k, s, f, fl, def, w, c, d)                                                      \
	{                                                                                          \
		.key = k, .type = OPTION_FILE, .flags = fl, .offset = FIELD(char *, s, f),         \
		.text = def, .words = w, .check = c, .doc = d                                      \
	}
#define ADDRESS(k, s, f, fl, d)                                                                    \
	{                                                                                          \
		.key = k, .type = OPTION_ADDRESS, .flags = fl,                                     \
		.offset = FIELD(struct address, s, f), .text = "", .doc = d                        \
	}
/* at: where the first field the form sets lies */
#define FORM(k, at, fm, own, def, d)                                                               \
	{                                                                                          \
		.key = k, .type = OPTION_FORM, .offset = at, .form = &(fm), .owned = own,          \
		.text = def, .doc = d                                                              \
	}
#define STRINGS(k, s, f, fl, def, hi, c, d)                                                        \
	{                                                                                          \
		.key = k, .type = OPTION_STRINGS, .flags = fl,                                     \
		.offset = FIELD(struct string_list, s, f), .text = def, .max = hi, .check = c,     \
		.doc = d                                                                           \
	}
#define NETWORKS(k, s, f, d)                                                                       \
	{                                                                                          \
		.key = k, .type = OPTION_NETWORKS, .offset = FIELD(struct network_list, s, f),     \
		.max = NETWORKS_MAX, .doc = d                                                      \
	}
#define GROUP(k, s, f, T, r, d)                                                                    \
	{                                                                                          \
		.key = k, .type = OPTION_GROUP, .offset = FIELD(struct T, s, f), .rows = r,        \
		.doc = d                                                                           \
	}
/* a group whose fields lie in the struct of its parent */
#define PART(k, r, d)                                                                              \
	{                                                                                          \
		.key = k, .type = OPTION_GROUP, .rows = r, .doc = d                                \
	}
#define OPTIONAL(k, fl, s, f, T, on, r, d)                                                         \
	{                                                                                          \
		.key = k, .type = OPTION_GROUP, .flags = fl, .offset = FIELD(struct T, s, f),      \
		.presence = FIELD(bool, s, on), .rows = r, .doc = d                                \
	}
/* 0, refusing to compile when the array and its length are not neighbours: option_vector */
#define NEIGHBOURS(s, f, nf)                                                                       \
	(0 * sizeof(                                                                               \
		 char[offsetof(struct s, nf) == offsetof(struct s, f) + sizeof(void *) ? 1 : -1]))
#define LIST_OF(t, k, fl, s, f, nf, T, def, lo, hi, r, d)                                          \
	{                                                                                          \
		.key = k, .type = t, .flags = fl,                                                  \
		.offset = FIELD(struct T *, s, f) + NEIGHBOURS(s, f, nf), .text = def, .min = lo,  \
		.max = hi, .rows = r, .size = sizeof(struct T), .doc = d                           \
	}
#define RULES(k, t, a, d)                                                                          \
	{                                                                                          \
		.key = k, .type = t, .action = a, .flags = OPTION_LOWER, .max = RULES_MAX,         \
		.rows = header_rule_options, .check = check_field_name,                            \
		.size = sizeof(struct header_rule), .doc = d                                       \
	}
/* clang-format off */
#define END {.key = NULL}
/* clang-format on */

/* NOLINTEND(bugprone-macro-parentheses) */

#define MS          INT64_C(1)
#define SECOND      (1000 * MS)
#define MINUTE      (60 * SECOND)
#define HOUR        (60 * MINUTE)
#define DAY         (24 * HOUR)
#define KB          INT64_C(1024)
#define MB          (1024 * KB)
#define GB          (1024 * MB)
#define PERCENT_MAX 10000

#define LISTENERS_MAX    256
#define CERTIFICATES_MAX 1000
#define SERVICES_MAX     10000
#define HOSTS_MAX        10000
#define PATHS_MAX        1000
#define BACKENDS_MAX     1000
#define RATES_MAX        1000
#define RULES_MAX        100
#define NETWORKS_MAX     10000
#define ARGUMENTS_MAX    100
#define EVENTS_MAX       100

/* --- shared by the top and the services ----------------------------------- */

const struct option header_rule_options[] = {
    TEXT("name", header_rule, name, OPTION_REQUIRED | OPTION_LOWER, "", check_field_name,
	"The field's name."),
    TEXT("value", header_rule, value, OPTION_REQUIRED, "", check_field_value, "The field's value."),
    END,
};

static const struct option rules_options[] = {
    RULES("remove", OPTION_REMOVALS, HEADER_REMOVE, "Response fields taken away, first."),
    RULES("set", OPTION_RULES, HEADER_SET,
	"Response fields that replace all of the same name, second."),
    RULES("add", OPTION_RULES, HEADER_ADD,
	"Response fields added beside those that are there, last."),
    END,
};

/* --- listeners ------------------------------------------------------------ */

static const struct option certificate_options[] = {
    NAMED_FILE("chain", certificate_config, chain, OPTION_REQUIRED | OPTION_READABLE, "", NULL,
	check_file, "PEM file of the certificate and its chain, leaf first."),
    NAMED_FILE("key", certificate_config, key, OPTION_REQUIRED | OPTION_READABLE, "", NULL,
	check_file, "PEM file of the private key."),
    END,
};

static const struct option listener_tls_options[] = {
    LIST_OF(OPTION_LIST, "certificates", OPTION_REQUIRED, listener_tls, certificates,
	n_certificates, certificate_config, NULL, 1, CERTIFICATES_MAX, certificate_options,
	"Certificates; chosen by SNI, the first serves clients that send no name we have."),
    {.key = "min_version",
	.type = OPTION_STRING,
	.offset = FIELD(char *, listener_tls, min_version),
	.text = "1.2",
	.words = "1.2|1.3",
	.doc = "The oldest TLS version spoken."},
    TEXT("ciphers", listener_tls, ciphers, 0, "", NULL,
	"Cipher list for TLS 1.2, in OpenSSL's words; empty: the library's default."),
    TEXT("ciphersuites", listener_tls, ciphersuites, 0, "", NULL,
	"Cipher suites for TLS 1.3, in OpenSSL's words; empty: the library's default."),
    FLAG("http2", listener_tls, http2, "true", "Offer HTTP/2 by ALPN."),
    FLAG("session_tickets", listener_tls, session_tickets, "true",
	"Let clients resume sessions by ticket."),
    END,
};

static const struct option listener_options[] = {
    ADDRESS("address", listener_config, address, OPTION_REQUIRED,
	"Where to listen: host:port, [v6]:port or unix:/path."),
    OPTIONAL("tls", 0, listener_config, tls, listener_tls, tls.on, listener_tls_options,
	"Speak TLS; without this group the listener is clear text."),
    FLAG("redirect_to_https", listener_config, redirect_to_https, "false",
	"Answer every request with a redirect to https."),
    NUMBER("redirect_port", listener_config, redirect_port, "443", 1, 65535,
	"The port of that redirect; 443 is left out of the address."),
    FLAG("proxy_protocol", listener_config, proxy_protocol, "false",
	"Every connection begins with a PROXY header, version 1 or 2."),
    NETWORKS("proxy_protocol_from", listener_config, proxy_protocol_from,
	"Who may send PROXY headers; connections from elsewhere are closed."),
    NUMBER("backlog", listener_config, backlog, "4096", 1, 65535,
	"Connections the kernel may hold before they are accepted."),
    END,
};

/* --- pools ---------------------------------------------------------------- */

static const struct option backend_options[] = {
    ADDRESS("address", backend_config, address, OPTION_REQUIRED,
	"Where the backend is: host:port, [v6]:port or unix:/path."),
    NUMBER("weight", backend_config, weight, "1", 1, 256, "Its share against the others."),
    FLAG("backup", backend_config, backup, "false", "Use it only when no other is up."),
    END,
};

static const struct option back_tls_options[] = {
    FLAG("verify", back_tls, verify, "true", "Verify the backend's certificate and name."),
    NAMED_FILE("ca", back_tls, ca, OPTION_READABLE, "", NULL, NULL,
	"PEM bundle of trusted authorities; empty: the system's."),
    TEXT("server_name", back_tls, server_name, OPTION_LOWER, "", check_tls_name,
	"The name sent as SNI and verified; empty: the backend's host."),
    NAMED_FILE("certificate", back_tls, certificate, OPTION_READABLE, "", NULL, NULL,
	"PEM file of a client certificate; empty: none."),
    NAMED_FILE("key", back_tls, key, OPTION_READABLE, "", NULL, NULL,
	"PEM file of the client certificate's key."),
    END,
};

static const struct option pool_options[] = {
    LIST_OF(OPTION_BACKENDS, "backends", 0, pool_config, backends, n_backends, backend_config, NULL,
	0, BACKENDS_MAX, backend_options,
	"The backends: addresses, or groups with address, weight and backup."),
    WORD("protocol", pool_config, protocol, "http/1.1", "http/1.1|h2", "What the backends speak."),
    OPTIONAL("tls", 0, pool_config, tls, back_tls, tls.on, back_tls_options,
	"Encrypt to the backends; without this group it is clear text."),
    FORM("balance", ENUM(pool_config, balance), form_balance, FIELD(char *, pool_config, hash_name),
	"least",
	"Which backend: the one with the fewest requests of two, in turn, or by the hash of a "
	"key."),
    DURATION("slow_start", pool_config, slow_start_ms, "0s", 0, HOUR,
	"A backend that came up reaches its full share only after this; 0: at once."),
    NUMBER("max_connections", pool_config, max_connections, "0", 0, 1000000,
	"Connections per backend over all workers; 0: no limit."),
    NUMBER("max_in_flight", pool_config, max_in_flight, "0", 0, 1000000,
	"Requests under way per backend; 0: no limit."),
    NUMBER("queue", pool_config, queue, "128", 0, 100000,
	"Requests that may wait when all backends are full."),
    DURATION("queue_timeout", pool_config, queue_timeout_ms, "5s", MS, HOUR,
	"How long a request may wait so."),
    NUMBER("idle_connections", pool_config, idle_connections, "1024", 0, 100000,
	"Idle connections kept per backend and worker; more of them are closed after half a "
	"second."),
    DURATION("idle_timeout", pool_config, idle_timeout_ms, "55s", 100 * MS, DAY,
	"An idle connection is closed after this; keep it below the backend's own."),
    DURATION("hold_down", pool_config, hold_down_ms, "1s", 0, HOUR,
	"After a failed connect a backend gets no new requests for this long, doubling."),
    DURATION("resolve_interval", pool_config, resolve_interval_ms, "30s", SECOND, DAY,
	"Host names are looked up again this often."),
    NUMBER("streams", pool_config, streams, "100", 1, 10000,
	"Concurrent streams per HTTP/2 connection."),
    END,
};

/* --- health --------------------------------------------------------------- */

static const struct option json_options[] = {
    TEXT("member", probe_config, json_member, 0, "", NULL,
	"A member of the JSON object in the body."),
    TEXT("value", probe_config, json_value, 0, "", NULL, "What it must be."),
    END,
};

#define PROBE(path_, interval_, timeout_, rise_, fall_)                                            \
	TEXT("path", probe_config, path, 0, path_, check_path, "The path asked for."),             \
	    DURATION("interval", probe_config, interval_ms, interval_, 10 * MS, HOUR,              \
		"How often to ask."),                                                              \
	    DURATION("timeout", probe_config, timeout_ms, timeout_, 10 * MS, HOUR,                 \
		"How long to wait for the answer."),                                               \
	    NUMBER(                                                                                \
		"rise", probe_config, rise, rise_, 1, 100, "Passes in a row until it is well."),   \
	    NUMBER(                                                                                \
		"fall", probe_config, fall, fall_, 1, 100, "Failures in a row until it is not."),  \
	    FORM("status", FIELD(unsigned, probe_config, status_min), form_status, 0, "200-299",   \
		"The status that passes: one or a range."),                                        \
	    PART("json", json_options, "What the body must say to pass."),                         \
	    FLAG("grpc", probe_config, grpc, "false",                                              \
		"Use the gRPC health checking protocol instead of GET; needs protocol h2.")

static const struct option liveness_options[] = {
    PROBE("/health/liveness", "5s", "2s", "2", "3"),
    END,
};

static const struct option readiness_options[] = {
    PROBE("/health/readiness", "2s", "1s", "2", "2"),
    END,
};

static const struct option startup_options[] = {
    PROBE("/health/startup", "1s", "1s", "1", "3"),
    DURATION("deadline", probe_config, deadline_ms, "60s", 100 * MS, DAY,
	"A backend that has not passed by then is down."),
    END,
};

static const struct option passive_options[] = {
    NUMBER("failures", passive_config, failures, "5", 0, 1000000,
	"A backend that fails so many requests in a row, while its neighbours do not, gets none "
	"for a "
	"while; 0: off."),
    DURATION("hold", passive_config, hold_ms, "10s", 100 * MS, HOUR,
	"How long at first; doubled each time, up to 32 times as long."),
    PERCENT("max_ejected", passive_config, max_ejected_bp, "50.0", 0, PERCENT_MAX,
	"The largest share of a pool out at the same time; one backend is always left."),
    END,
};

static const struct option health_options[] = {
    OPTIONAL("liveness", 0, service_config, health[PROBE_LIVENESS], probe_config,
	health[PROBE_LIVENESS].on, liveness_options, "Is the process alive?"),
    OPTIONAL("readiness", 0, service_config, health[PROBE_READINESS], probe_config,
	health[PROBE_READINESS].on, readiness_options, "May it have traffic now?"),
    OPTIONAL("startup", 0, service_config, health[PROBE_STARTUP], probe_config,
	health[PROBE_STARTUP].on, startup_options,
	"Has it started? Asked until it passes; nothing else is asked before."),
    GROUP("passive", service_config, passive, passive_config, passive_options,
	"What the requests themselves say of a backend."),
    END,
};

/* --- split, rollout, the rest of a service -------------------------------- */

static const struct option force_options[] = {
    TEXT("header", split_config, force_header, OPTION_LOWER, "", check_token,
	"Request header by which testers choose the color."),
    TEXT("cookie", split_config, force_cookie, 0, "", check_token,
	"Cookie by which testers choose the color."),
    TEXT("secret", split_config, force_secret, 0, "", check_secret,
	"The value of either is COLOR:SECRET; at least 8 characters."),
    END,
};

static const struct option split_options[] = {
    FORM("by", ENUM(split_config, by), form_split_by, FIELD(char *, split_config, header),
	"request", "What decides a request's color."),
    TEXT("cookie", split_config, cookie, 0, "teal_split", check_token,
	"Name of the cookie set with by = \"cookie\"."),
    DURATION("cookie_max_age", split_config, cookie_max_age_ms, "30d", SECOND, 400 * DAY,
	"How long the cookie lasts."),
    PART("force", force_options, "A color forced by testers."),
    END,
};

static const struct option step_options[] = {
    {.key = "weight",
	.type = OPTION_PERCENT,
	.flags = OPTION_REQUIRED,
	.offset = FIELD(unsigned, step_config, weight_bp),
	.text = "100",
	.min = 1,
	.max = PERCENT_MAX,
	.doc = "The candidate's share."},
    {.key = "hold",
	.type = OPTION_DURATION,
	.flags = OPTION_REQUIRED,
	.offset = FIELD(int64_t, step_config, hold_ms),
	.text = "5m",
	.min = 0,
	.max = 30 * DAY,
	.doc = "How long the step must go well."},
    END,
};

static const struct option limits_of_rollout_options[] = {
    PERCENT("failure_rate", limits_config, failure_rate_bp, "1.0", 0, PERCENT_MAX,
	"The candidate's failures, in percent of its requests in the window."),
    DURATION("p95", limits_config, p95_ms, "0s", 0, HOUR,
	"The candidate's 95th percentile of the time to the response head; 0: not looked at."),
    DURATION(
	"window", limits_config, window_ms, "30s", SECOND, MINUTE, "How far back the limits look."),
    NUMBER("min_requests", limits_config, min_requests, "20", 1, 1000000,
	"Fewer requests than this in the window say nothing."),
    NUMBER("min_failures", limits_config, min_failures, "3", 1, 1000000,
	"Fewer failures than this are never too many."),
    FLAG("relative", limits_config, relative, "true",
	"Fail also when the candidate is worse than the live color beyond chance."),
    PERCENT("healthy_backends", limits_config, healthy_backends_bp, "50.0", 0, PERCENT_MAX,
	"The least share of the candidate's backends that must be up."),
    PERCENT("confidence", limits_config, confidence_bp, "99.9", 5000, 9999,
	"How sure the failure rate must be above its limit."),
    END,
};

static const struct option gate_options[] = {
    STRINGS("command", gate_config, command, OPTION_COMMAND, NULL, ARGUMENTS_MAX, NULL,
	"The command and its arguments; exit code 0: go. Without: no gate."),
    DURATION("timeout", gate_config, timeout_ms, "30s", 10 * MS, DAY,
	"A command that takes longer is ended; the answer is no."),
    END,
};

static const struct option way_back_options[] = {
    DURATION("timeout", way_back_config, timeout_ms, "0s", 0, 30 * DAY,
	"What still runs after this is closed; 0: never."),
    NUMBER("rate", way_back_config, rate, "0", 0, 1000000,
	"How many are closed per second from the beginning; 0: none before the timeout."),
    END,
};

static const struct option rollout_options[] = {
    LIST_OF(OPTION_LIST, "steps", 0, rollout_config, steps, n_steps, step_config,
	"25:5m,50:5m,100:10m", 1, STEPS_MAX, step_options,
	"The weights of a rollout, growing, the last 100."),
    GROUP("gate", rollout_config, gate, gate_config, gate_options,
	"A command that is asked before each step."),
    GROUP("drain", rollout_config, way_back, way_back_config, way_back_options,
	"WebSockets and long responses of a color that lost its traffic."),
    GROUP("limits", rollout_config, limits, limits_config, limits_of_rollout_options,
	"What the candidate must keep to."),
    FLAG("auto", rollout_config, automatic, "true",
	"Go to the next step without being asked when one went well."),
    DURATION("max_hold", rollout_config, max_hold_ms, "1h", SECOND, 30 * DAY,
	"The longest a step is held while too little is seen."),
    WORD("on_inconclusive", rollout_config, on_inconclusive, "pause", "pause|rollback",
	"What to do then."),
    END,
};

static const struct option rescue_options[] = {
    FLAG("on", rescue_config, on, "true",
	"Replay a request that failed on the candidate on the live color."),
    SIZE("max_body", rescue_config, max_body, "64k", 0, 16 * MB,
	"The largest request body kept for that."),
    PERCENT("budget", rescue_config, budget_bp, "20.0", 0, PERCENT_MAX,
	"The largest share of requests that may be replayed."),
    END,
};

static const struct option rate_options[] = {
    TEXT("path", rate_config, path, 0, "/", check_path, "A path prefix; the longest wins."),
    {.key = "requests",
	.type = OPTION_UNSIGNED,
	.flags = OPTION_REQUIRED,
	.offset = FIELD(unsigned, rate_config, requests),
	.text = "1",
	.min = 1,
	.max = 1000000,
	.doc = "Requests per second and client address (IPv6: per /64)."},
    NUMBER("burst", rate_config, burst, "0", 0, 1000000,
	"How many may come at once; 0: as many as requests."),
    END,
};

static const struct option service_timeouts_options[] = {
    DURATION("connect", service_timeouts, connect_ms, "3s", MS, HOUR,
	"Connecting to a backend, its TLS handshake included."),
    DURATION("response", service_timeouts, response_ms, "30s", MS, DAY,
	"From the request sent to the head of the response."),
    DURATION("body", service_timeouts, body_ms, "30s", MS, DAY,
	"Between two pieces of a response body."),
    DURATION("request_body", service_timeouts, request_body_ms, "30s", MS, DAY,
	"Between two pieces of a request body."),
    DURATION("websocket_idle", service_timeouts, websocket_idle_ms, "1h", MS, 30 * DAY,
	"A WebSocket or other tunnel without a byte either way."),
    END,
};

static const struct option maintenance_options[] = {
    NAMED_FILE("page", maintenance_config, page, OPTION_READABLE, "", NULL, NULL,
	"File answered during maintenance; empty: a plain sentence."),
    TEXT("content_type", maintenance_config, content_type, 0, "text/html; charset=utf-8",
	check_field_value, "The type of that file."),
    DURATION("retry_after", maintenance_config, retry_after_ms, "60s", SECOND, 30 * DAY,
	"When clients are told to come back."),
    END,
};

static const struct option service_options[] = {
    TEXT("name", service_config, name, OPTION_REQUIRED, "", check_name,
	"The service's name; unique."),
    STRINGS("hosts", service_config, hosts, OPTION_LOWER, "*", HOSTS_MAX, check_host,
	"Hosts it answers for: a.example, *.a.example, or * for all others."),
    STRINGS("paths", service_config, paths, 0, "/", PATHS_MAX, check_path,
	"Path prefixes it answers for, on segment borders; the longest wins."),
    OPTIONAL("blue", 0, service_config, pools[BLUE], pool_config, pools[BLUE].given, pool_options,
	"The blue pool."),
    OPTIONAL("green", OPTION_ALIKE, service_config, pools[GREEN], pool_config, pools[GREEN].given,
	pool_options, "The green pool; its keys are those of blue."),
    PART("health", health_options, "Probes; left out, backends count as up."),
    GROUP("split", service_config, split, split_config, split_options,
	"How requests are divided between the colors."),
    GROUP("rollout", service_config, rollout, rollout_config, rollout_options,
	"How a candidate is brought in."),
    GROUP("rescue", service_config, rescue, rescue_config, rescue_options,
	"Covering a candidate's failures."),
    NUMBER("retries", service_config, retries, "2", 0, 7,
	"Further backends tried when the request was provably not processed."),
    GROUP("timeouts", service_config, timeouts, service_timeouts, service_timeouts_options,
	"Patience with backends and bodies."),
    SIZE("max_body", service_config, max_body, "0", 0, 1024 * GB,
	"The largest request body; 0: no limit."),
    LIST_OF(OPTION_LIST, "rates", 0, service_config, rates, n_rates, rate_config, NULL, 0,
	RATES_MAX, rate_options, "Request rates per client address; above them 429 is answered."),
    NETWORKS("rate_exempt", service_config, rate_exempt, "Clients without a request rate."),
    GROUP("response_headers", service_config, response_headers, header_rules, rules_options,
	"Changes to response headers, after those of the top level."),
    GROUP("maintenance", service_config, maintenance, maintenance_config, maintenance_options,
	"The answer while the service is in maintenance."),
    END,
};

/* --- the top -------------------------------------------------------------- */

static const struct option front_timeouts_options[] = {
    DURATION("header", front_timeouts, header_ms, "10s", 10 * MS, HOUR,
	"From the first byte of a connection or request to its complete head."),
    DURATION("send", front_timeouts, send_ms, "30s", 10 * MS, DAY,
	"No progress in writing to a client."),
    DURATION(
	"idle", front_timeouts, idle_ms, "60s", 10 * MS, DAY, "A connection without a request."),
    DURATION("tls_handshake", front_timeouts, tls_handshake_ms, "10s", 10 * MS, HOUR,
	"The TLS handshake, a PROXY header included."),
    DURATION("drain", front_timeouts, drain_ms, "30s", 0, DAY,
	"After SIGTERM, how long running requests may take."),
    END,
};

static const struct option front_limits_options[] = {
    NUMBER("connections", front_limits, connections, "20000", 1, 10000000,
	"Client connections in all."),
    NUMBER("connections_per_client", front_limits, connections_per_client, "0", 0, 1000000,
	"Connections per client address (IPv6: per /64); 0: no limit."),
    NETWORKS("exempt", front_limits, exempt, "Clients without limits of their own."),
    NUMBER("streams", front_limits, streams, "100", 1, 10000,
	"Concurrent HTTP/2 streams per connection."),
    SIZE("header_bytes", front_limits, header_bytes, "60k", KB, MB,
	"A request's header: names, values and 32 bytes per field."),
    NUMBER("header_count", front_limits, header_count, "100", 8, 10000,
	"Fields of a request's header."),
    SIZE("request_line", front_limits, request_line, "8k", 256, MB, "The request line, or :path."),
    SIZE("queued_bytes", front_limits, queued_bytes, "256k", 16 * KB, 64 * MB,
	"Output waiting per connection before backends are read no further."),
    NUMBER("glitches", front_limits, glitches, "1000", 10, 1000000,
	"Useless frames a connection may send at once."),
    NUMBER("glitches_per_second", front_limits, glitches_per_second, "33", 1, 1000000,
	"How many of them are forgiven per second."),
    END,
};

static const struct option forward_options[] = {
    NETWORKS("trusted", forward_config, trusted,
	"Proxies whose X-Forwarded-*, Forwarded and X-Request-Id are believed."),
    TEXT("via", forward_config, via, 0, "", check_pseudonym,
	"The name in Via; empty: no Via is written."),
    TEXT("server", forward_config, server, 0, "", check_field_value,
	"The Server field of responses; empty: the backend's is passed on."),
    FLAG("forwarded", forward_config, forwarded, "true",
	"Send Forwarded (RFC 7239) to backends beside X-Forwarded-*."),
    END,
};

static const struct option admin_options[] = {
    NAMED_FILE("socket", admin_config, socket, 0, "", NULL, check_socket_path,
	"Unix socket of the admin API; empty: none."),
    FORM("mode", FIELD(unsigned, admin_config, mode), form_mode, 0, "0660",
	"The socket's permissions, octal."),
    TEXT("owner", admin_config, owner, 0, "", NULL,
	"The socket's owner, by name or number; empty: unchanged."),
    TEXT("group", admin_config, group, 0, "", NULL,
	"The socket's group, by name or number; empty: unchanged."),
    ADDRESS("http", admin_config, http, 0,
	"Address of the read-only admin API, dashboard and metrics; empty: none."),
    END,
};

static const struct option webhook_header_options[] = {
    RULES("set", OPTION_RULES, HEADER_SET, "The fields."),
    END,
};

static const struct option announce_options[] = {
    STRINGS("exec", announce_config, exec, OPTION_COMMAND, NULL, ARGUMENTS_MAX, NULL,
	"A command and its arguments, run for each event with the event as JSON on its standard "
	"input."),
    DURATION("exec_timeout", announce_config, exec_timeout_ms, "10s", 10 * MS, HOUR,
	"A command that takes longer is ended and counts as failed."),
    TEXT("webhook", announce_config, webhook, 0, "", check_url,
	"An http or https URL; each event is sent there as JSON by POST. Empty: none."),
    DURATION("webhook_timeout", announce_config, webhook_timeout_ms, "5s", 10 * MS, HOUR,
	"For the whole of one request."),
    NAMED_FILE("webhook_ca", announce_config, webhook_ca, OPTION_READABLE, "", NULL, NULL,
	"PEM bundle of authorities trusted for it; empty: the system's."),
    GROUP("webhook_headers", announce_config, webhook_headers, header_rules, webhook_header_options,
	"Fields sent with it, Authorization for one."),
    NUMBER("retries", announce_config, retries, "5", 0, 100,
	"How often a command or request that failed is repeated, with growing pauses."),
    {.key = "events",
	.type = OPTION_STRINGS,
	.offset = FIELD(struct string_list, announce_config, events),
	.text = config_event_words,
	.words = config_event_words,
	.min = 1,
	.max = EVENTS_MAX,
	.doc = "The events told to the command and the webhook."},
    DURATION("certificate", announce_config, certificate_ms, "14d", 0, 365 * DAY,
	"A certificate this near its end is announced, once a day; 0: never."),
    END,
};

static const struct option state_options[] = {
    NAMED_FILE("directory", config, state_directory, 0, "/var/lib/teal", NULL, check_file,
	"Where weights and history are kept over restarts."),
    END,
};

static const struct option log_options[] = {
    WORD("level", config, log_level, "info", "error|warn|info|debug",
	"The least important messages written."),
    NAMED_FILE("access", config, log_access, 0, "off", "stdout|off", check_file,
	"The access log: a file, stdout or off."),
    WORD("format", config, log_format, "json", "json|text", "How the logs are written."),
    END,
};

const struct option config_options[] = {
    LIST_OF(OPTION_LIST, "listen", OPTION_REQUIRED, config, listeners, n_listeners, listener_config,
	NULL, 1, LISTENERS_MAX, listener_options, "Where clients connect."),
    LIST_OF(OPTION_LIST, "services", OPTION_REQUIRED, config, services, n_services, service_config,
	NULL, 1, SERVICES_MAX, service_options, "What clients reach."),
    {.key = "unknown_host",
	.type = OPTION_UNSIGNED,
	.offset = FIELD(unsigned, config, unknown_host),
	.text = "421",
	.words = "421|404",
	.min = 404,
	.max = 421,
	.doc = "The answer to a host that no service has."},
    GROUP("timeouts", config, timeouts, front_timeouts, front_timeouts_options,
	"Patience with clients."),
    GROUP("limits", config, limits, front_limits, front_limits_options, "What clients may use."),
    GROUP("forward", config, forward, forward_config, forward_options,
	"What is told and believed about who asks."),
    GROUP("response_headers", config, response_headers, header_rules, rules_options,
	"Changes to the response headers of all services."),
    GROUP("admin", config, admin, admin_config, admin_options, "The operator's way in."),
    GROUP("announce", config, announce, announce_config, announce_options,
	"Who is told of what happens."),
    PART("state", state_options, "What outlives the process."),
    PART("log", log_options, "What is written down."),
    NUMBER("workers", config, workers, "0", 0, 1024, "Worker threads; 0: one per CPU."),
    END,
};
