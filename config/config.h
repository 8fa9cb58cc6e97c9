/*
 * The whole configuration as const data: what the user said, nothing that
 * happened.  Read this first.
 *
 * Owner: whoever called config_load(); freed with config_free().  Immutable
 * after loading, so every thread may read it without a lock.
 *
 * Units are in the names: _ms milliseconds, _bp hundredths of a percent
 * (10,000 = 100 %), sizes in bytes.  A count or size of 0 means "no limit"
 * only where the comment says so.  Strings are never NULL unless the comment
 * says "or NULL".
 */
#ifndef TEAL_CONFIG_H
#define TEAL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum color { BLUE = 0, GREEN = 1 };
#define N_COLORS 2

/* "blue" or "green". */
const char *color_name(enum color);
/* 0 and *c set, or -1 when the word is not a color. */
int color_parse(const char *word, enum color *c);
static inline enum color
color_other(enum color c)
{
	return c == BLUE ? GREEN : BLUE;
}

/* "host:port", "[v6]:port" or "unix:/path"; `text` is as the user wrote it. */
struct address {
	char *text;
	char *host; /* name, v4 or v6 literal without brackets; NULL for unix */
	uint16_t port;
	char *path; /* unix socket path, or NULL */
};
/* Fills *a (strings malloc'd).  0, or -1 with a sentence in err. */
int address_parse(struct address *a, const char *text, char *err, size_t err_size);
void address_fini(struct address *a);

/* A CIDR block: "10.0.0.0/8", "::1", "fd00::/8". v4 is kept v4-mapped. */
struct network {
	uint8_t bits[16];
	unsigned prefix; /* 0..128, of the mapped form */
};
struct network_list {
	struct network *items;
	size_t n;
};
int network_parse(struct network *n, const char *text, char *err, size_t err_size);
/* `addr` is 16 bytes, v4 addresses mapped (::ffff:a.b.c.d). */
bool network_list_has(const struct network_list *l, const uint8_t addr[16]);

struct string_list {
	char **items;
	size_t n;
};

/* --- listeners ----------------------------------------------------------- */

struct certificate_config {
	char *chain; /* PEM file, leaf first; made absolute */
	char *key;   /* PEM file; made absolute */
};

struct listener_tls {
	bool on;
	struct certificate_config *certificates;
	size_t n_certificates;
	char *min_version;  /* "1.2" or "1.3" */
	char *ciphers;      /* TLS 1.2 list, OpenSSL words; "" = the library's default */
	char *ciphersuites; /* TLS 1.3; "" = the library's default */
	bool http2;         /* offer h2 by ALPN */
	bool session_tickets;
};

struct listener_config {
	struct address address;
	struct listener_tls tls;
	bool redirect_to_https;
	unsigned redirect_port;                  /* 443 is left out of the Location */
	bool proxy_protocol;                     /* v1 and v2 required on every connection */
	struct network_list proxy_protocol_from; /* who may speak it; others are refused */
	unsigned backlog;
	unsigned line; /* in the file, for messages */
};

/* --- services ------------------------------------------------------------ */

enum back_protocol { BACK_H1, BACK_H2 };

enum balance_by { BALANCE_LEAST, BALANCE_ROUND_ROBIN, BALANCE_HASH };
enum key_source { KEY_CLIENT_IP, KEY_HEADER, KEY_COOKIE };

struct backend_config {
	struct address address;
	unsigned weight; /* 1..256 */
	bool backup;     /* used only when no other is up */
};

struct back_tls {
	bool on;
	bool verify;             /* true by default */
	char *ca;                /* PEM bundle, "" = the system's */
	char *server_name;       /* SNI and the name verified; "" = the backend's host */
	char *certificate, *key; /* client certificate; "" = none */
};

struct pool_config {
	struct backend_config *backends;
	size_t n_backends;
	enum back_protocol protocol;
	struct back_tls tls;
	enum balance_by balance;
	enum key_source hash_by;  /* for BALANCE_HASH */
	char *hash_name;          /* header or cookie name; "" for client-ip */
	int64_t slow_start_ms;    /* 0 = none */
	unsigned max_connections; /* per backend and over all workers; 0 = no limit */
	unsigned max_in_flight;   /* per backend; 0 = no limit */
	unsigned queue;           /* exchanges that may wait per pool when all are full */
	int64_t queue_timeout_ms;
	unsigned idle_connections;   /* kept per backend and worker */
	int64_t idle_timeout_ms;     /* an idle connection is closed after this */
	int64_t hold_down_ms;        /* no new requests after a failed connect */
	int64_t resolve_interval_ms; /* host names are resolved again this often */
	unsigned streams;            /* h2: concurrent streams per connection */
	bool given;                  /* the user wrote this pool */
};

enum split_by { SPLIT_REQUEST, SPLIT_COOKIE, SPLIT_HEADER, SPLIT_CLIENT_IP };

struct split_config {
	enum split_by by;
	char *header; /* for SPLIT_HEADER, lower case */
	char *cookie; /* name of the cookie teal sets, SPLIT_COOKIE */
	int64_t cookie_max_age_ms;
	char *force_header; /* lower case; "" = off */
	char *force_cookie; /* "" = off */
	char *force_secret; /* value is "COLOR:SECRET"; "" = force is off */
};

enum probe_kind { PROBE_LIVENESS, PROBE_READINESS, PROBE_STARTUP };
#define N_PROBES 3

struct probe_config {
	bool on;
	char *path;
	int64_t interval_ms, timeout_ms, deadline_ms; /* deadline: startup only */
	unsigned rise, fall;
	unsigned status_min, status_max;
	char *json_member, *json_value; /* "" = body is not looked at */
	bool grpc;
};

/* Passive: a backend that fails while its neighbours do not. */
struct passive_config {
	unsigned failures;       /* exchanges in a row; 0: off */
	int64_t hold_ms;         /* the first hold; doubled each time, at most 32 x */
	unsigned max_ejected_bp; /* of the pool's backends, at the same time; one is always left */
};

struct step_config {
	unsigned weight_bp;
	int64_t hold_ms;
};

struct limits_config {
	unsigned failure_rate_bp;
	int64_t p95_ms; /* 0 = off */
	int64_t window_ms;
	unsigned min_requests, min_failures;
	bool relative;
	unsigned healthy_backends_bp;
	unsigned confidence_bp; /* 9990 = 99.9 % */
};

enum on_inconclusive { INCONCLUSIVE_PAUSE, INCONCLUSIVE_ROLLBACK };

/* A command that is asked before a step: exit 0 = go. */
struct gate_config {
	struct string_list command; /* argv; n == 0: none */
	int64_t timeout_ms;
};

/* WebSockets and long responses of a color that lost its traffic. */
struct way_back_config {
	int64_t timeout_ms; /* what is left then is closed; 0: never */
	unsigned
	    rate; /* closed per second from the beginning, over all workers; 0: none before the timeout */
};

struct rollout_config {
	struct step_config *steps;
	size_t n_steps;
	struct gate_config gate;
	struct way_back_config way_back; /* key: drain */
	struct limits_config limits;
	bool automatic; /* key: auto */
	int64_t max_hold_ms;
	enum on_inconclusive on_inconclusive;
};

struct rescue_config {
	bool on;
	size_t max_body;    /* request bytes kept for replay */
	unsigned budget_bp; /* of requests */
};

struct rate_config {       /* token bucket per client address */
	char *path;        /* longest prefix wins */
	unsigned requests; /* per second */
	unsigned burst;
};

enum header_action { HEADER_SET, HEADER_ADD, HEADER_REMOVE };
struct header_rule {
	enum header_action action;
	char *name;  /* lower case */
	char *value; /* "" for remove */
};
struct header_rules {
	struct header_rule *items;
	size_t n;
};

struct service_timeouts {
	int64_t connect_ms;
	int64_t response_ms;     /* request sent -> response head */
	int64_t body_ms;         /* between two pieces of a response body */
	int64_t request_body_ms; /* between two pieces of a request body */
	int64_t websocket_idle_ms;
};

struct maintenance_config {
	char *page; /* file, read at start; "" = a plain sentence */
	char *content_type;
	int64_t retry_after_ms;
};

struct service_config {
	char *name;
	struct string_list hosts; /* lower case: "a.example", "*.a.example", "*" */
	struct string_list paths; /* prefixes; default "/" */
	struct pool_config pools[N_COLORS];
	struct probe_config health[N_PROBES];
	struct passive_config passive; /* key: health.passive */
	struct split_config split;
	struct rollout_config rollout;
	struct rescue_config rescue;
	unsigned retries; /* further backends tried when provably not processed */
	struct service_timeouts timeouts;
	size_t max_body; /* request body; 0 = no limit */
	struct rate_config *rates;
	size_t n_rates;
	struct network_list rate_exempt;
	struct header_rules response_headers;
	struct maintenance_config maintenance;
	unsigned line;
};

/* --- the whole ----------------------------------------------------------- */

struct front_timeouts {
	int64_t header_ms;        /* connection or request begun -> head complete */
	int64_t send_ms;          /* no progress writing to a client */
	int64_t idle_ms;          /* no request under way */
	int64_t tls_handshake_ms; /* PROXY header included */
	int64_t drain_ms;         /* after SIGTERM */
};

struct front_limits {
	unsigned connections;            /* in all */
	unsigned connections_per_client; /* 0 = no limit */
	struct network_list exempt;      /* from the per-client limits */
	unsigned streams;                /* concurrent, per connection */
	size_t header_bytes;             /* decoded: name + value + 32 per field */
	unsigned header_count;
	size_t request_line;
	size_t queued_bytes;          /* output waiting, per connection */
	unsigned glitches;            /* useless frames a connection may send, burst */
	unsigned glitches_per_second; /* and what is given back */
};

struct forward_config {
	struct network_list trusted; /* whose X-Forwarded-*, Forwarded, X-Request-Id are believed */
	char *via;                   /* pseudonym in Via; "" = none */
	char *server;                /* "" = pass the backend's on; else replaces it */
	bool forwarded;              /* RFC 7239 Forwarded too */
};

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_JSON, LOG_FORMAT_TEXT };

struct admin_config {
	char *socket;        /* path; "" = none */
	unsigned mode;       /* 0660 */
	char *owner, *group; /* names or numbers; "" = unchanged */
	struct address http; /* read-only TCP listener; text "" = none */
};

/* Who is told of what happens. */
struct announce_config {
	struct string_list
	    exec; /* argv of a command; the event as JSON on its stdin; n == 0: none */
	int64_t exec_timeout_ms;
	char *webhook; /* URL that gets POST application/json; "" = none */
	int64_t webhook_timeout_ms;
	char *webhook_ca;                    /* PEM bundle; "" = the system's */
	struct header_rules webhook_headers; /* set = {...}: sent with it, Authorization say */
	unsigned retries;                    /* of each; with growing pauses */
	struct string_list events;           /* names; default: all of announce_event_known() */
	int64_t certificate_ms; /* a certificate this near its end is announced, once a day */
};
/* Is it the name of an event that happens?  The one table of them is in event_names.c. */
bool announce_event_known(const char *name);

struct config {
	char *file; /* absolute path it was read from */
	struct listener_config *listeners;
	size_t n_listeners;
	struct service_config *services;
	size_t n_services;
	unsigned unknown_host; /* 421 or 404: the answer to a host no service has */
	struct front_timeouts timeouts;
	struct front_limits limits;
	struct forward_config forward;
	struct header_rules response_headers; /* before each service's own */
	struct admin_config admin;
	struct announce_config announce;
	char *state_directory;
	enum log_level log_level;
	char *log_access; /* absolute path, "stdout" or "off" */
	enum log_format log_format;
	unsigned workers; /* 0: one per CPU */
};

/*
 * Reads, completes and checks `file` whole.  Every error found goes to `errors`
 * as "FILE:LINE: message\n" (the nearest known key suggested).  Returns the
 * configuration, or NULL when there was at least one error.  config_free(NULL)
 * is allowed.
 */
struct config *config_load(const char *file, FILE *errors);
void config_free(struct config *);

/* teal -T: the effective configuration, defaults filled in, as a file config_load() accepts. */
void config_dump(const struct config *, FILE *out);

/* The reference: every option with type, default, range and doc, as mdoc(7) for teal.conf(5). */
void config_reference(FILE *out);

/* "libconfig 1.5.0": only config/ knows the library. */
const char *config_library(void);

/* "250ms", "30s", "5m", "1h", "1d" -> ms; "64k", "1m", "1g" -> bytes.  0, or -1. */
int duration_parse(const char *text, int64_t *ms);
int size_parse(const char *text, size_t *bytes);

/* "25", "0.5", "12.25" (at most two decimals, 0..100, an optional '%') -> hundredths of a percent.
 * 0, or -1. */
int percent_parse(const char *text, unsigned *bp);

/* "25:5m,50:5m,100:10m" -> *steps (malloc'd, the caller's) and *n; weights must grow and end at
 * 100.  0, or -1 with a sentence in err. */
#define STEPS_MAX 64
int steps_parse(
    const char *text, struct step_config **steps, size_t *n, char *err, size_t err_size);

#endif
