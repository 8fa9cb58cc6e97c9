/*
 * This worker's connections to backends: kept while idle (the hottest is used first), opened when
 * none is free, never more than the backend's limit over all workers.
 */
#ifndef TEAL_BACK_H
#define TEAL_BACK_H

#include "proxy/exchange/engine.h"
#include "proxy/message/stream.h"

enum back_result { BACK_OPENED, BACK_FULL, BACK_UNRESOLVED };

/* A stream to this member: from an idle connection or a new one, to an address not yet in *tried (a
 * bit each, for names with several); the address of a connection that is not there yet is added.
 * BACK_FULL: max_connections is reached. */
enum back_result back_stream(
    struct engine *, const struct member *, unsigned *tried, struct stream **out);
/* None of its addresses could be connected to: passive hold-down.  The exchange says so before it
 * looks for another backend, the pool when the connection is buried; the second word about one hold
 * changes nothing. */
void back_unreachable(
    struct engine *, struct backend *, const struct pool_config *, enum outcome why);
/* Closes idle connections of backends that are in no pool any more; after a new fleet came. */
void back_sweep(struct engine *);
/* The backend is dead: all of this worker's connections to it are closed, those with exchanges too,
 * which then end as BACK_RESET (BACK_STALE where the connection was a kept one) and may be tried
 * again; those still connecting end as BACK_GOAWAY: nothing was sent. */
void back_close(struct engine *, const struct backend *);
/* The worker stops, and no exchange is left: every connection is closed. */
void back_stop(struct engine *);
void back_fini(struct engine *); /* frees the groups; no connection may be left */
unsigned back_open_connections(const struct engine *);

#endif
