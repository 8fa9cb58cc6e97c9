/*
 * Every backend's probes: who is asked when (health/prober), how (probe_io), what follows
 * (health/health).
 *
 *   probes_follow(roster) -> a watch for each member whose service has probes
 *   prober -> probe_io -> health_observe -> changed(): control shows it to the workers
 *                                                     and tells of it
 *
 * Control thread.
 */
#ifndef TEAL_PROBES_H
#define TEAL_PROBES_H

#include "health/health.h"
#include "proxy/process/snapshot.h"

struct event_base;
struct probes;

/* A backend's health state or the reason for it is another now (health_reason()).
 * close_connections: it has just died of its liveness.  Never from within probes_follow(): who
 * calls it looks at the states afterwards. */
typedef void probes_changed(void *arg, struct known_backend *, bool close_connections);

struct probes *probes_new(struct event_base *, const struct config *, probes_changed *, void *arg);
void probes_free(struct probes *);
/* After a change of pools or addresses, and at the start: finds new members, forgets who left (and
 * that it was well), follows who moved. */
void probes_follow(struct probes *, struct roster *);
/* NULL: nobody asks it, it counts as up. */
const struct health *probes_of(const struct probes *, const struct known_backend *);

#endif
