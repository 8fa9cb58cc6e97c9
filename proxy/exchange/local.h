/*
 * Answers made here: error pages, redirects, maintenance.  gRPC calls get a gRPC status.
 */
#ifndef TEAL_LOCAL_H
#define TEAL_LOCAL_H

#include "proxy/exchange/exchange.h"

/* Sends the answer that the outcome's row names; the front stream must not have begun a response.
 * retry_after_s: 0 = none. */
void local_answer(struct exchange *, enum outcome, int64_t retry_after_s);

#endif
