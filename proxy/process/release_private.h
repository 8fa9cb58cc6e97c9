/*
 * What the release's files share: release.c (life, trips, the beat), move.c (moves and gates),
 * steer.c (the operator). Nobody else.  Control thread.
 */
#ifndef TEAL_RELEASE_PRIVATE_H
#define TEAL_RELEASE_PRIVATE_H

#include "proxy/process/control_private.h"

static inline struct service *
release_service(const struct release *r)
{
	return &r->control->roster.current->fleet.services[r->service];
}

static inline uint32_t
release_course(const struct release *r)
{
	return service_course(release_service(r)->state);
}

static inline const struct rollout_config *
release_config(const struct release *r)
{
	return &r->control->config->services[r->service].rollout;
}

static inline const char *
release_name(const struct release *r)
{
	return r->control->config->services[r->service].name;
}

#define RELEASE_AGAIN_MS 1000 /* after the disk refused */

/* An event about the rollout as it is now. */
void release_announce(const struct release *, const char *type, const char *reason);
/* verdict: NULL there was none.  before: the rollout that came to its end; weight_bp: what its
 * color had. */
void release_keep_evidence(struct release *, const char *action, const char *reason,
    const struct verdict *, const struct rollout *before, enum color live, unsigned weight_bp);

/* --- moves (move.c) -------------------------------------------------------------------------- */

/* One move of a rollout: saved, obeyed, told. */
struct move {
	struct release *r;
	/* The operator who asked for it, and whom to answer; NULL: teal's own. */
	const struct change *by;
	struct round *round;
	uint32_t seen; /* the course it starts from */
	struct want want;
	char err[256]; /* why it did not happen; "": a worker tripped meanwhile */
};

void move_begin(struct move *, struct release *, const struct rollout *next,
    const struct change *by, struct round *);
/* To disk, then to the workers.  false: it did not happen (as with all below), and the round is
 * still the caller's. */
bool move_make(struct move *, const char *why);
/* To want.rollout's step: by its gate, when there is one and it was not passed. */
bool move_on(struct move *);
bool move_promote(struct move *);
/* Rolled back without a trip: aborted, or inconclusive. */
bool move_back(struct move *, const char *action);
/* A change of state or reason only; type: of the event. */
bool move_say(struct move *, const char *action, const char *type);
/* "step 2, 25 %" */
void move_step_text(char out[48], const struct rollout *);

/* The command is asked before the step; when it says yes, the step is entered. */
void gate_ask(struct release *);
void gate_stop(struct release *);
/* Nobody goes on while the live color could not take the traffic back. */
bool release_no_way_back(const struct release *);

#endif
