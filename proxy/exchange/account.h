/*
 * The one place where an end is judged: tally, counters, access log.
 */
#ifndef TEAL_ACCOUNT_H
#define TEAL_ACCOUNT_H

#include "proxy/exchange/exchange.h"

/* Called once per exchange, with x->outcome set. */
void account(struct exchange *);
/* gRPC statuses that are failures of the color (product.md, "What counts"). */
bool account_grpc_failed(const struct fields *);

#endif
