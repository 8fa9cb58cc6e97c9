/*
 * struct control, shared by control.c (life), change.c (changes) and survey.c (what is asked) only.
 */
#ifndef TEAL_CONTROL_PRIVATE_H
#define TEAL_CONTROL_PRIVATE_H

#include <event2/event.h>

#include "proxy/process/admin.h"
#include "proxy/process/control.h"
#include "proxy/process/logger.h"
#include "proxy/process/resolver.h"
#include "proxy/process/snapshot.h"
#include "proxy/process/start.h"
#include "proxy/process/worker.h"

struct control {
	const struct config *config;
	struct event_base *base;
	struct event *signals[4], *mail_event, *second, *deadline;
	struct mailbox mailbox;
	struct edge edge;
	struct roster roster;
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
};

/* Sends an order to every worker; done() when all have carried it out.  snapshot: for ORDER_ADOPT. */
void control_order(struct control *, enum order_kind, struct round *);
/* A new snapshot to every worker; round may be NULL.  0, or -1 out of memory. */
int control_publish(struct control *, struct round *);
void control_resolve(struct control *, struct known_backend *, bool now);

#endif
