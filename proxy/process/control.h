/*
 * The control thread's side of every change: who may ask what, made durable, obeyed by every
 * worker, then answered.
 *
 * Owner and thread: the control thread (main); every function here is called on it.  Workers never
 * call in.
 */
#ifndef TEAL_CONTROL_H
#define TEAL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "balancer/fleet.h"

struct control;
struct json_t;
struct event_base;

/* Who asks and why; strings are borrowed for the call. */
struct change {
	const char *reason; /* "" = none given */
	bool has_epoch;
	uint64_t if_epoch; /* refused with 409 when the service's epoch is another */
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

/* How it went: http_status 200, or 4xx/5xx with a code word and a sentence. */
struct change_result {
	unsigned http_status;
	const char *code; /* "stale-epoch", "unknown-backend", "state-not-written", ... */
	char message[256];
};
/* Called exactly once, later or at once, when the change is durable and every worker obeys it (or
 * failed). */
typedef void change_done(void *arg, const struct change_result *);

void control_weight(struct control *, struct service *, unsigned weight_bp, const struct change *,
    change_done *, void *arg);
void control_flip(struct control *, struct service *, enum color, const struct change *,
    change_done *, void *arg);
void control_maintenance(
    struct control *, struct service *, bool on, const struct change *, change_done *, void *arg);
/* Replaces the pool's backends; those that leave are drained (exchanges under way finish). */
void control_pool_set(struct control *, struct service *, enum color, const char *const *addresses,
    unsigned n, const struct change *, change_done *, void *arg);
void control_backend_add(struct control *, struct service *, enum color,
    const char *const *addresses, unsigned n, const struct change *, change_done *, void *arg);
void control_backend_remove(struct control *, struct service *, enum color,
    const char *const *addresses, unsigned n, const struct change *, change_done *, void *arg);
void control_backend_drain(struct control *, struct service *, enum color, const char *address,
    bool drain, const struct change *, change_done *, void *arg);

enum rollout_order { DO_START, DO_PAUSE, DO_RESUME, DO_PROMOTE, DO_ABORT };
struct rollout_request {
	enum rollout_order order;
	bool has_to; /* START: the candidate when not given */
	enum color to;
	const struct step_config *steps; /* START: n_steps 0: those of the configuration */
	size_t n_steps;
	bool full;  /* PROMOTE: to the end */
	bool rearm; /* START: also after a trip */
};
void control_rollout(struct control *, struct service *, const struct rollout_request *,
    const struct change *, change_done *, void *arg);
void control_rearm(
    struct control *, struct service *, const struct change *, change_done *, void *arg);

/* What is known of the service's rollout, for status (release.h). */
struct release;
const struct release *control_release(struct control *, const struct service *);
struct events;
struct events *control_events(struct control *);
/* A new reference; NULL: there was no rollback, or its evidence is gone. */
struct json_t *control_evidence(struct control *, const struct service *);
struct json_t *control_history(struct control *, const struct service *);

/* The current snapshot; valid until the caller returns to the loop. */
const struct fleet *control_fleet(struct control *);
struct service *control_service(struct control *, const char *name); /* NULL: unknown */
int64_t control_now_ms(void);                                        /* CLOCK_MONOTONIC */
int64_t control_started_wall_ms(struct control *);
/* Why a backend is in its state, for status: "", "connect refused (3 in a row)", "drained by an
 * operator", ... */
void control_backend_reason(struct control *, const struct backend *, char *out, size_t n);

/* What its probes found; NULL: nobody asks it. */
struct health;
const struct health *control_health(struct control *, const struct backend *);

/* Totals over all workers, for status and metrics. */
struct control_totals {
	uint64_t connections_open, connections_total;
	uint64_t connections_refused; /* limits */
	uint64_t tls_handshakes_ok, tls_handshakes_failed, tls_resumed;
	uint64_t log_lines_lost;
	uint64_t rate_limited, glitches_closed, bad_requests;
	uint64_t outcomes[64];   /* by enum outcome */
	uint64_t *listener_open; /* by listener index, config->n_listeners of them */
};
void control_totals(struct control *, struct control_totals *);
/* certificate files with their notAfter (seconds since 1970); returns how many there are, fills at
 * most max */
struct control_certificate {
	const char *file;
	int64_t not_after;
};
unsigned control_certificates(struct control *, struct control_certificate *, unsigned max);
bool control_draining(struct control *);

#endif
