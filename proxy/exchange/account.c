/*
 * Where every end is judged, once.  See account.h.
 */
#include <string.h>

#include "balancer/tally.h"
#include "proxy/exchange/access_log.h"
#include "proxy/exchange/account.h"

bool
account_grpc_failed(const struct fields *fields)
{
	const struct field *f = fields_find(fields, F_GRPC_STATUS);

	/* UNKNOWN 2, DEADLINE_EXCEEDED 4, INTERNAL 13, UNAVAILABLE 14, DATA_LOSS 15 */
	if (f == NULL)
		return false;
	return text_is(f->value, "2") || text_is(f->value, "4") || text_is(f->value, "13") ||
	       text_is(f->value, "14") || text_is(f->value, "15");
}

/* What came through may still be a failure: a 5xx, a gRPC error. */
static enum outcome
judged(const struct exchange *x)
{
	if (x->outcome != OUTCOME_OK)
		return x->outcome;
	if (x->grpc_failed)
		return OUTCOME_GRPC_ERROR;
	if (x->back_status >= 500)
		return OUTCOME_BACKEND_5XX;
	return x->tunnel ? OUTCOME_TUNNEL : OUTCOME_OK;
}

void
account(struct exchange *x)
{
	struct engine *e = x->engine;
	const struct outcome_row *row;

	x->outcome = judged(x);
	row = outcome_row(x->outcome);
	count(&e->counters.outcomes[x->outcome]);
	if (x->colored) {
		struct tally_sample sample = {
		    .now_ms = e->turn->now_ms,
		    .head_us = x->head_us != 0 ? x->head_us - x->start_us : -1,
		    .status = x->back_status,
		    /* what the backend answered counts, whether the client stayed to read it or not */
		    .failure = row->failure || x->grpc_failed || x->back_status >= 500,
		};

		tally_end(x->service->state->tally[x->color], e->index);
		tally_add(x->service->state->tally[x->color], e->index, &sample);
	}
	if (x->tries > 1)
		atomic_fetch_add_explicit(row->failure ? &x->service->state->retries_failed
						       : &x->service->state->retries_ok,
		    1, memory_order_relaxed);
	if (e->access != NULL)
		access_log(x);
}
