/* What metrics.c and metrics_release.c share; nobody else.  Control thread. */
#ifndef TEAL_METRICS_PRIVATE_H
#define TEAL_METRICS_PRIVATE_H

#include <stdio.h>

#include "proxy/process/metrics.h"

struct scrape {
	FILE *out;
	struct control *control;
	const struct fleet *fleet;
	struct control_totals totals;
};

/* HELP and TYPE. */
void metrics_family(const struct scrape *, const char *name, const char *type, const char *help);
/* KEY="VALUE" */
void metrics_label(FILE *, const char *key, const char *value);
/* A family of one line. */
void metrics_single(
    const struct scrape *, const char *name, const char *type, const char *help, uint64_t value);
/* Two counters under one name: result="FIRST", result="SECOND". */
void metrics_results(const struct scrape *, const char *name, const char *help, const char *first,
    uint64_t a, const char *second, uint64_t b);

void metrics_release(const struct scrape *);
void metrics_announcements(const struct scrape *);

#endif
