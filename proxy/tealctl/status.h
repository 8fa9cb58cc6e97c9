/*
 * The status of teal on one screen, from the JSON of GET /v1/status or /v1/services/NAME.
 *
 * Pure: JSON in, text out; tests read the text.
 */
#ifndef TEALCTL_STATUS_H
#define TEALCTL_STATUS_H

#include <stdbool.h>
#include <stdio.h>

#include "config/config.h"
#include "proxy/tealctl/text.h"

#define TRAIL_POINTS   60 /* seconds of p95 kept by --watch */
#define TRAIL_SERVICES 64

/* The last p95 of each service and color, oldest first. */
struct trail {
	struct {
		char name[65];
		double p95_ms[N_COLORS][TRAIL_POINTS];
		unsigned n;
	} services[TRAIL_SERVICES];
	unsigned n_services;
};
void trail_add(struct trail *, const json_t *services);
/* NULL: not known. */
const double *trail_of(const struct trail *, const char *name, enum color, unsigned *n);

/* `answer` is all of GET /v1/status, or one service. */
void status_render(FILE *out, const json_t *answer, const struct look *);
/* What a change has led to, one line: "api: live blue, green at 25 %, epoch 8". */
void status_line(FILE *out, const json_t *service);
/* A pool's backends, one line each. */
void status_pool(FILE *out, const json_t *service, enum color, const struct look *);

/* The services in an answer: an array, borrowed from it or made for it; the caller's reference. */
json_t *status_services(json_t *answer);

#endif
