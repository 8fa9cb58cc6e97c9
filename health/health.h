/*
 * Is one backend well?  Rise and fall of its probes, the startup gate.  Pure, told the time.
 *
 *         startup passes, then each other's first result      liveness fails `fall` times
 *   STARTING ----------------------------------> UP <-> NOT_READY ------> DEAD
 *      | its deadline ends                       ^                         | liveness passes `rise`
 *      +--> DEAD, startup goes on being asked ---+-------------------------+ times: as if new, but
 *                                                                            without startup's gate
 *
 * The first result of a probe decides at once; rise and fall count from then on.  Startup passes at
 * its first good result. Liveness and readiness are not asked before.  With a backend's death its
 * readiness is forgotten: the first result after it decides anew (it is asked on, so that a backend
 * that comes back ready is up at once).  Without a probe its part counts as passed; without any a
 * backend is UP.
 */
#ifndef TEAL_HEALTH_H
#define TEAL_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

enum health_state { HEALTH_STARTING, HEALTH_UP, HEALTH_NOT_READY, HEALTH_DEAD };

#define HEALTH_SAW_MAX 160 /* "503 Service Unavailable: {\"status\":\"down\"}" */
struct probe_health {
	bool known, well;  /* decided at least once */
	unsigned in_a_row; /* results that say the opposite of `well` */
	uint64_t passed, failed;
	int64_t last_ms;          /* of the last result; 0: none yet */
	char saw[HEALTH_SAW_MAX]; /* the last result, in words */
};

struct health {
	const struct probe_config *config; /* N_PROBES of them; the service's */
	enum health_state state;
	bool started; /* the startup gate has been passed, or there is none */
	bool assumed; /* known good before a restart: UP where no first result has decided yet */
	bool late;    /* startup's deadline has ended */
	int64_t began_ms;   /* startup's deadline counts from here */
	int64_t changed_ms; /* since when it is in its state */
	struct probe_health probes[N_PROBES];
	char version[64]; /* from the body's "version" member; "" */
};

/* known_good: it was up when the state was last written.  now_ms is monotonic. */
void health_init(struct health *, const struct probe_config *, bool known_good, int64_t now_ms);
/* A probe ended.  saw: what it saw, in words; version: "" when the body named none (what is known
 * stays).  true: the state changed. */
bool health_observe(struct health *, enum probe_kind, bool ok, const char *saw, const char *version,
    int64_t now_ms);
/* When health_tick() is due: the end of startup's deadline; INT64_MAX: never (again). */
int64_t health_deadline(const struct health *);
/* Time passes: the startup deadline.  true: the state changed. */
bool health_tick(struct health *, int64_t now_ms);
/* Is this probe to be asked now at all (it is configured, and the startup gate lets it)? */
bool health_asks(const struct health *, enum probe_kind);
/* Why it is in its state: "" (UP), "not ready: 503 Service Unavailable", "not alive: connect
 * refused", "starting: ...". */
void health_reason(const struct health *, char *out, unsigned n);

/* "liveness", "readiness", "startup" */
const char *probe_name(enum probe_kind);

#endif
