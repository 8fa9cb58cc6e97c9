/* Starting a rollout, for `rollout start` and `deploy`. */
#ifndef TEALCTL_ROLLOUT_H
#define TEALCTL_ROLLOUT_H

#include <jansson.h>

#include "proxy/tealctl/args.h"

/* The body of POST rollout; a new reference. */
json_t *rollout_start_body(const struct args *);

#endif
