/*
 * The one place where an end is judged: tally, guard, backend, counters, access log.
 */
#ifndef TEAL_ACCOUNT_H
#define TEAL_ACCOUNT_H

#include "proxy/exchange/exchange.h"

/* x->color was chosen: from here on the exchange is with it (tally, crowd). */
void account_join(struct exchange *);
/* It leaves its color for the live one: as if it had never been with it. */
void account_uncounted(struct exchange *);
/* It leaves its color for the live one because it failed there, with x->back_status when there was
 * an answer. The guard sees it, and may trip. */
void account_rescued(struct exchange *, enum outcome why);
/* What x->member did: for status, metrics, and passive ejection.  Nothing when `why` is not its
 * fault. */
void account_blame(struct exchange *, enum outcome why);
/* Called once per exchange, with x->outcome set. */
void account(struct exchange *);
/* gRPC statuses that are failures of the color (README.md, "How it decides"; their numbers: gRPC's
 * statuscodes.md). */
bool account_grpc_failed(const struct fields *);

#endif
