/*
 * The fleet as control keeps it: identities (services, backends) that live as long as the process,
 * and immutable snapshots of who is in which pool and at which addresses.
 *
 *   config + runtime changes + resolved names  ->  snapshot  ->  every worker
 *
 * Control thread only; workers see finished snapshots.
 */
#ifndef TEAL_SNAPSHOT_H
#define TEAL_SNAPSHOT_H

#include "balancer/fleet.h"
#include "proxy/exchange/engine.h"
#include "proxy/process/state_file.h"

#define BACKEND_IDS_MAX 65536 /* addresses one process may come to know */

struct snapshot {
	struct fleet fleet;
	_Atomic unsigned holders; /* workers */
	struct snapshot *next_retired;
	struct target *targets; /* all members' */
};

/* A backend as control knows it: identity, address, what its name last resolved to. */
struct known_backend {
	struct backend backend;
	struct address address;
	unsigned service; /* index */
	unsigned weight;
	bool backup;
	bool member;  /* of the current pool */
	bool drained; /* by an operator */
	bool ejected; /* when it was last looked at; told once */
	bool well; /* known good when the state was last written: used while its first probes run */
	struct target target;
	int64_t resolved_ms; /* when; 0 = never */
	bool resolving;
};

struct roster {
	const struct config *config;
	unsigned n_workers;
	struct service_state *states;    /* by service index */
	struct tls_client **tls;         /* by service index * N_COLORS + color; NULL: clear text */
	struct known_backend **backends; /* by id */
	unsigned n_backends;
	struct snapshot *current, *retired;
};

/* 0, or -1 with a sentence in err (a pool's CA cannot be read, ...). Applies the durable state. */
int roster_init(struct roster *, const struct config *, unsigned n_workers, const struct state *,
    char *err, size_t err_size);
void roster_fini(struct roster *);
/* The backend of this address, made when it is new; NULL with a sentence in err. */
struct known_backend *roster_backend(
    struct roster *, unsigned service, enum color, const char *address, char *err, size_t err_size);
struct known_backend *roster_find(
    struct roster *, unsigned service, enum color, const char *address);
/* A new snapshot of all current members; it becomes `current`, the old one is retired until no
 * worker holds it. */
int roster_snapshot(struct roster *);
void roster_collect(struct roster *); /* frees retired snapshots nobody holds */
/* What of all this must survive a restart. */
void roster_save(const struct roster *, struct state *);

#endif
