/*
 * Before a backend is asked: which service, may this client, which color.
 */
#ifndef TEAL_ADMIT_H
#define TEAL_ADMIT_H

#include "proxy/exchange/exchange.h"

/* Fills x->service, x->color, x->why.  OUTCOME_OK, or why the request is answered here
 * (*retry_after_s is set for those that know one). */
enum outcome admit(struct exchange *, int64_t *retry_after_s);
/* The key that a hash-balanced pool picks by. */
uint64_t admit_pick_key(struct exchange *, const struct pool_config *);

#endif
