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

struct json_t;

#define HISTORY_POINTS   60 /* seconds of p95 kept by --watch */
#define HISTORY_SERVICES 64

/* The last p95 of each service and color, oldest first. */
struct history {
	struct {
		char name[65];
		double p95_ms[N_COLORS][HISTORY_POINTS];
		unsigned n;
	} services[HISTORY_SERVICES];
	unsigned n_services;
};
void history_add(struct history *, const struct json_t *services);
/* NULL: not known. */
const double *history_of(const struct history *, const char *name, enum color, unsigned *n);

/* How the text may look. */
struct look {
	bool color; /* ANSI escapes */
	bool utf8;
	unsigned width;                /* columns; lines are cut there; 0: not at all */
	const struct history *history; /* sparklines; NULL: none */
};

/* `answer` is all of GET /v1/status, or one service. */
void status_render(FILE *out, const struct json_t *answer, const struct look *);
/* What a change has led to, one line: "api: live blue, green at 25 %, epoch 8". */
void status_line(FILE *out, const struct json_t *service);
/* A pool's backends, one line each. */
void status_pool(FILE *out, const struct json_t *service, enum color, const struct look *);

/* The services in an answer: an array, borrowed from it or made for it; the caller's reference. */
struct json_t *status_services(struct json_t *answer);

/* Text from outside, safe for a terminal: control characters become '?'. */
void put_safe(FILE *out, const char *text);

#endif
