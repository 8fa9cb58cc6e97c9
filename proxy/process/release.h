/*
 * The release of each service as control keeps it: its rollout, the trip that locks a color out,
 * what has to be told of both.
 *
 *      operator -> control_rollout() --+    (steer.c)
 *      the beat -> verdict -> rollout -+-> copy -> state file -> course (compare-and-swap)
 *                                                             -> audit, events -> workers (move.c)
 *      a worker's trip (weight 0 already) -----> state file, audit, evidence, events
 *
 * What is decided by itself and cannot be written to disk does not happen; it is tried again each
 * second.  A trip happens first and is written as soon as the disk takes it.
 *
 * Control thread.
 */
#ifndef TEAL_RELEASE_H
#define TEAL_RELEASE_H

#include "balancer/rollout.h"
#include "proxy/process/evidence.h"
#include "proxy/process/run.h"
#include "proxy/process/state_file.h"

struct control;

struct release {
	struct control *control;
	unsigned service; /* index */
	struct rollout rollout;
	struct state_trip trip;
	int64_t rollout_wall_ms,
	    step_wall_ms;       /* since when it is in its state, in its step; 0: never was */
	struct verdict verdict; /* of the last look */
	bool looked;            /* there was one */
	struct run *gate;       /* running; NULL: none */
	uint64_t trips[N_RULES];
	struct failure
	    failures[EVIDENCE_FAILURES]; /* the candidate's first ones under this guard */
	unsigned n_failures;
	struct weight_point timeline[EVIDENCE_TIMELINE];
	unsigned n_timeline;
	struct json_t *evidence;
	bool evidence_unsaved; /* the disk refused it */
	bool unsaved;          /* a trip that the disk has not taken yet */
	int64_t saved_ms;      /* when the progress of the hold was last written */
	int64_t again_ms;      /* the disk refused an own step: not before this */
	char refusal[320];     /* its words; "" */
};

/* From the durable state; weights are in the roster already. */
void releases_init(struct control *, const struct state *);
void releases_start(struct control *); /* the loop is about to run: rollouts go on */
void releases_fini(struct control *);
void releases_save(const struct control *, struct state *);
/* What weight the service's candidate has, and why, for the evidence. */
void release_point(struct release *, unsigned weight_bp, const char *why);
/* The guard took the weight away; *v says why. */
void release_tripped(struct release *, const struct verdict *v);
/* A candidate's failure, reported by a worker; since: of the guard it was seen under. */
void release_failed(struct release *, const struct failure *, int64_t since);
/* An operator's flip has ended a rollout, which was `before`. */
void release_flipped(struct release *, const struct rollout *before);
/* Some service has weight or a rollout now: the beat must run. */
void releases_wake(struct control *);
void releases_second(struct control *); /* once a second */

#endif
