/*
 * Are the backends of a deploy up?  What the probes saw of those that are not.  Pure.
 */
#ifndef TEALCTL_READY_H
#define TEALCTL_READY_H

#include <jansson.h>
#include <stdio.h>

#include "config/config.h"

struct ready {
	enum color color;
	char *const *addresses; /* borrowed */
	unsigned n;
	char **told;          /* for each: the state that was told last; NULL: none yet */
	unsigned up, missing; /* of the last look; missing: no longer in the pool */
};

/* Out of memory: told is NULL, and everything is told each time. */
void ready_begin(struct ready *, enum color, char *const *addresses, unsigned n);
void ready_fini(struct ready *);
/* A line for each backend of which something is new: "api: green 10.0.0.1:80 is starting: ...". */
void ready_look(struct ready *, const json_t *service, FILE *lines);
/* Those that are not up, each "  10.0.0.1:80 is starting: ...\n". */
void ready_lacking(const struct ready *, const json_t *service, FILE *out);

#endif
