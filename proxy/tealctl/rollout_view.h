/*
 * A rollout in words and bars, from the JSON of its service.  Pure.
 */
#ifndef TEALCTL_ROLLOUT_VIEW_H
#define TEALCTL_ROLLOUT_VIEW_H

#include <jansson.h>
#include <stdio.h>

#include "proxy/tealctl/text.h"

/* STEPPING or PAUSED. */
bool rollout_under_way(const json_t *service);
/* How much of all holds is done, 0..1. */
double rollout_part(const json_t *rollout);

/* The lines of `status`. */
void rollout_view(FILE *out, const json_t *service, const struct look *);
/* That the candidate was tripped, why, and what to do; nothing when it was not. */
void trip_view(FILE *out, const json_t *service, const struct look *);
/* What --wait redraws: "api green step 2/3 50 % [#####.....] 3m 12s left  green 120.0/s 0.00 %
 * failed ..."; no newline. */
void rollout_line(FILE *out, const json_t *service, const struct look *);

#endif
