/*
 * A worker: one thread, one event loop, its own listeners (SO_REUSEPORT), connections and pools.
 * Control speaks to it by orders, which come back to control's mailbox when they are carried out.
 */
#ifndef TEAL_WORKER_H
#define TEAL_WORKER_H

#include <pthread.h>

#include "proxy/base/clients.h"
#include "proxy/base/mailbox.h"
#include "proxy/exchange/client.h"
#include "proxy/exchange/engine.h"
#include "proxy/process/evidence.h"
#include "proxy/process/snapshot.h"

struct event_base;
struct tls_server;
struct worker;

/* What all workers share; made by control before the first starts. */
struct edge {
	const struct config *config;
	struct tls_server **tls; /* by listener index; NULL: clear text */
	struct clients *clients;
	struct rate_table *rates;
	const char **maintenance_pages; /* by service index */
	_Atomic uint32_t connections;   /* open at the front, all workers */
	uint32_t connections_max;       /* limits.connections, or what the descriptors allow */
	struct mailbox *control;
	unsigned n_workers;
	bool access_log;
};

struct worker_counters { /* written by the worker, read by control */
	_Atomic uint64_t accepted, refused;
	_Atomic uint64_t handshakes_ok, handshakes_failed, resumed;
	_Atomic uint64_t glitches_closed;
	_Atomic uint64_t *listener_open; /* by listener index */
};

/* What one round of orders to all workers waits for; control's. */
struct round {
	unsigned left;
	void (*done)(struct round *);
};

enum order_kind {
	ORDER_ADOPT,
	ORDER_BARRIER,
	ORDER_LEAVE, /* a color has lost its traffic */
	ORDER_CLOSE, /* a backend is dead: its connections are closed */
	ORDER_DRAIN,
	ORDER_STOP
};
struct order {
	struct letter letter; /* first */
	enum order_kind kind;
	struct worker *worker;
	struct snapshot *snapshot; /* ORDER_ADOPT; a holder is counted by the sender */
	unsigned service;          /* ORDER_LEAVE */
	enum color color;
	bool rescue;
	const struct backend *backend; /* ORDER_CLOSE; lives as long as the process */
	struct round *round;           /* may be NULL */
};

/* What a worker tells control of a candidate; the receiver frees it. */
struct failed_letter {
	struct letter letter; /* first */
	unsigned service;
	int64_t since; /* of the guard it was seen under */
	struct failure failure;
};
struct tripped_letter {
	struct letter letter; /* first */
	unsigned service;
	struct verdict verdict;
};
/* Delivered on control's thread (orders.c). */
void control_hears_failed(struct letter *, void *control);
void control_hears_tripped(struct letter *, void *control);

/* On the worker's thread: the letter's deliver function; and on control's, when it comes back
 * (orders.c). */
void order_carry_out(struct letter *, void *receiver);
void order_done(struct letter *, void *control);

/* listeners: fds by listener index, bound and listening; the worker closes them. NULL with
 * errno. */
struct worker *worker_new(struct edge *, unsigned index, const int *listeners, struct snapshot *);
int worker_start(struct worker *); /* 0 or an errno value */
void worker_join(struct worker *); /* after ORDER_STOP */
void worker_free(struct worker *);

struct mailbox *worker_mailbox(struct worker *);
struct ring *worker_access_ring(struct worker *); /* NULL: off */
struct ring *worker_log_ring(struct worker *);
const struct worker_counters *worker_counters(const struct worker *);
const struct counters *worker_engine_counters(const struct worker *);
uint64_t worker_connections(const struct worker *); /* open at the front */

#endif
