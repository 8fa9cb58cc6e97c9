/*
 * The evidence of a rollback: what was seen, kept on disk (STATE_DIRECTORY/evidence-SERVICE.json,
 * written as the state file is) and shown by `tealctl why`.  No secrets: paths without query, no
 * header values but the request id.
 *
 * Control thread.
 */
#ifndef TEAL_EVIDENCE_H
#define TEAL_EVIDENCE_H

#include <jansson.h>

#include "balancer/outcome.h"
#include "balancer/rollout.h"

#define EVIDENCE_FAILURES 16
#define EVIDENCE_TIMELINE 128 /* changes of the weight kept; the oldest go */
#define EVIDENCE_PATH_MAX 256

/* One failing exchange of the candidate. */
struct failure {
	int64_t wall_ms;
	char method[24], path[EVIDENCE_PATH_MAX]; /* no query; cut */
	char id[65];                              /* the request id */
	char backend[128];
	unsigned status; /* of the backend; 0: none */
	enum outcome outcome;
	int64_t age_us; /* from the request to this */
};

struct weight_point {
	int64_t wall_ms;
	unsigned weight_bp;
	char why[48]; /* "step 1", "by hand", "trip", "flip", ... */
};

struct evidence_backend {
	char address[128], state[12], reason[160];
	enum color color;
};

struct evidence {
	const char *service;
	int64_t wall_ms;
	enum color live, candidate;
	unsigned weight_bp; /* when it tripped */
	uint64_t epoch;
	const char *action;     /* "trip", "abort", "inconclusive" */
	const char *reason;     /* a sentence */
	struct verdict verdict; /* word WAIT and rule NONE where none led to it */
	const struct rollout
	    *rollout; /* as it was when it happened; state IDLE: the weight was set by hand */
	const struct failure *failures;
	unsigned n_failures;
	const struct weight_point *timeline;
	unsigned n_timeline;
	const struct evidence_backend *backends;
	unsigned n_backends;
};

/* A new object; NULL out of memory. */
json_t *evidence_json(const struct evidence *);
/* 0, or -1 with a sentence in err. */
int evidence_save(
    const char *directory, const char *service, const json_t *, char *err, size_t err_size);
/* NULL: none, or unreadable (a sentence in err; "" when there is none). */
json_t *evidence_load(const char *directory, const char *service, char *err, size_t err_size);

#endif
