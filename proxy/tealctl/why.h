/*
 * The evidence of a rollback as somebody reads it at 3 a.m.: what happened, the numbers, the first
 * failing exchanges, how the weight went, how the backends were.  From the JSON of GET
 * /v1/services/NAME/evidence.  Pure.
 */
#ifndef TEALCTL_WHY_H
#define TEALCTL_WHY_H

#include <jansson.h>
#include <stdio.h>

#include "proxy/tealctl/text.h"

/* service: as it is now, for what to do; NULL: not known. */
void why_render(FILE *out, const json_t *evidence, const json_t *service, const struct look *);

#endif
