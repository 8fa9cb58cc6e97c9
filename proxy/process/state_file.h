/*
 * The durable state: what operators changed, kept over a restart.  One JSON file "state.json" in
 * the state directory: written to a temporary file, fsynced, renamed, the directory fsynced, before
 * an answer is sent. Control thread.
 */
#ifndef TEAL_STATE_FILE_H
#define TEAL_STATE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "balancer/rollout.h"
#include "config/config.h"

struct state_pool { /* runtime changes to a pool; n == 0 and !changed: as configured */
	bool changed;
	struct string_list backends;
	struct string_list drained;
	struct string_list well; /* known good when it was written: used at once after a restart */
};

/* A trip that locks the candidate out until rearm. */
struct state_trip {
	bool on;
	int64_t wall_ms;
	enum rule rule;
	char reason[VERDICT_REASON_MAX];
};

struct state_service {
	char *name;
	enum color live;
	unsigned weight_bp;
	bool maintenance;
	uint64_t epoch;
	uint64_t split_key[2];
	struct state_pool pools[N_COLORS];
	struct state_trip trip;
	struct rollout rollout; /* all members but ticked_ms, which is 0 after reading */
	int64_t rollout_wall_ms,
	    step_wall_ms; /* since when it is in its state, in its step; 0: never was one */
	uint64_t trips
	    [N_RULES]; /* since the state file exists: a counter must not fall because of a restart */
};

struct state {
	struct state_service *services;
	unsigned n_services;
};

/*
 * Reads DIRECTORY/state.json.  Absent: an empty state.  Damaged or foreign (checksum, version,
 * wrong types): the file is moved aside to state.json.damaged-TIME, an empty state returned and a
 * sentence put into warning.  NULL only when the directory cannot be used at all (sentence in
 * warning).
 */
struct state *state_load(const char *directory, char *warning, size_t warning_size);
/* 0, or -1 with a sentence in err (ENOSPC, EROFS, ...): nothing has changed on disk then. */
int state_save(const char *directory, const struct state *, char *err, size_t err_size);
void state_free(struct state *);
/* Find or make the entry of a service. */
struct state_service *state_find(struct state *, const char *name, bool make);

#endif
