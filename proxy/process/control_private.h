/*
 * struct control, shared only by control.c (life), orders.c (what workers are told), names.c (where
 * backends are), change.c and change_pool.c (operators' changes), release.c, move.c and steer.c
 * (rollouts), watch.c (backends' health) and survey.c (what is asked).
 */
#ifndef TEAL_CONTROL_PRIVATE_H
#define TEAL_CONTROL_PRIVATE_H

#include <event2/event.h>

#include "proxy/process/admin.h"
#include "proxy/process/audit.h"
#include "proxy/process/control.h"
#include "proxy/process/events.h"
#include "proxy/process/logger.h"
#include "proxy/process/probes.h"
#include "proxy/process/release.h"
#include "proxy/process/resolver.h"
#include "proxy/process/snapshot.h"
#include "proxy/process/start.h"
#include "proxy/process/worker.h"

struct control {
	const struct config *config;
	struct event_base *base;
	struct event *signals[4], *mail_event, *second, *deadline;
	struct event *beat; /* while a service has weight or a rollout under way */
	struct mailbox mailbox;
	struct edge edge;
	struct roster roster;
	struct release *releases; /* by service index */
	struct probes *probes;
	struct events *events;
	struct audit *audit;
	struct worker **workers;
	unsigned n_workers, n_started;
	struct logger *logger;
	struct resolver *resolver;
	struct admin *admin;
	bool draining, stopping;
	int state_lock; /* descriptor; -1 = none */
	int64_t drain_until_ms;
	struct round drain_round;
	unsigned interrupts; /* a second one stops at once */
	int64_t started_wall_ms;
	bool refleet; /* names resolved anew: a new snapshot is due */
	/* Something is worth to be known after a restart, but not worth an fsync of its own. */
	bool save_soon;
	bool save_fails;         /* the last write of the state failed, and that was said */
	int64_t certificates_ms; /* when they are looked at next */
};

int64_t control_wall_ms(void);

/* --- orders to workers (orders.c) ----------------------------------------------------------- */

/* Sends an order to every worker; done() when all have carried it out. */
void control_order(struct control *, enum order_kind, struct round *);
/* This color of this service has lost its traffic (exchange_leave()). */
void control_leave(
    struct control *, const struct service *, enum color, bool rescue, struct round *);
void control_close_backend(struct control *, const struct backend *);
/* A new snapshot to every worker; round may be NULL.  0, or -1 out of memory. */
int control_publish(struct control *, struct round *);

/* --- names (names.c) ------------------------------------------------------------------------ */

/* now: here and at once (the start, an operator's change), else by the resolver's thread. */
void control_resolve(struct control *, struct known_backend *, bool now);
void control_resolve_due(struct control *); /* once a second */

/* --- what changes have in common (change.c) -------------------------------------------------- */

/* What a service shall be; begin with what it is. */
struct want {
	enum color live;
	unsigned weight_bp;
	bool tripped;
	bool maintenance;
	struct rollout rollout;
	struct state_trip trip;
	uint64_t split_key[2];
	int64_t rollout_wall_ms, step_wall_ms;
};
/* seen: the course it is read from; take it once and compare with it when the change is made. */
void want_now(struct want *, struct control *, const struct service *, uint32_t seen);
/* Writes what the fleet is with this service as wanted, its epoch raised.  0, or -1 with a sentence
 * in err: nothing has changed. */
int control_save(
    struct control *, const struct service *, const struct want *, char *err, size_t err_size);
/* Makes it so, after it was saved: release, course, guard, epoch; who lost the traffic is told to
 * the workers by `round` (which may be NULL; it is sent in every case).  why: for the timeline.
 * -1: a worker has tripped since `seen`, the weight stays 0 (`round` is left alone; the trip's
 * letter is on its way and will write the state anew). */
int control_obey(struct control *, struct service *, const struct want *, uint32_t seen,
    const char *why, struct round *);
/* Log, audit log, event "change".  by: NULL is teal itself. */
void control_record(struct control *, const struct service *, const struct change *by,
    const char *action, const char *from, const char *to, const char *reason,
    const struct verdict *);

void change_refuse(change_done *done, void *arg, unsigned status, const char *code, const char *fmt,
    ...) __attribute__((format(printf, 5, 6)));
/* true: somebody else changed the service since the caller looked; answered. */
bool change_stale(const struct service *, const struct change *, change_done *, void *arg);
/* A round that answers when every worker has carried out its order. */
struct round *change_round(change_done *, void *arg);
void change_round_drop(struct round *); /* not sent after all; done is not called */

/* --- backends' health (watch.c) ------------------------------------------------------------- */

/* What operators, probes and names make of the states workers look at. */
void watch_show(struct control *);
void watch_second(struct control *); /* once a second: ejections by workers are told */
void watch_changed(void *control, struct known_backend *, bool close_connections);

#endif
