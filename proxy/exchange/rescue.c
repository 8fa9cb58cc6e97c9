/*
 * Rescue: an exchange that failed on the candidate before a byte of response went to the client is asked
 * of the live color.  Users see no error of a bad release that can be hidden from them; the failure is
 * the candidate's all the same, and is counted before anything else is done.
 *
 * Never twice: the live color's exchanges are not rescued.  Not for testers, who want to see the candidate
 * as it is.  Bounded by a budget, so that a bad release cannot double the live color's load.
 *
 * Owner and thread: the engine's worker.
 */
#include <string.h>

#include "balancer/budget.h"
#include "balancer/tally.h"
#include "proxy/exchange/account.h"
#include "proxy/exchange/ask.h"
#include "proxy/exchange/crowd.h"
#include "proxy/exchange/exchange_private.h"
#include "proxy/exchange/wait.h"

/* Not processed for certain (RFC 9110 9.2.2, RFC 9113 8.7), or harmless when processed twice. */
static bool
replay_is_safe(const struct exchange *x, enum outcome why)
{
	const struct outcome_row *row = outcome_row(why);

	if (x->body_in != 0 && !x->replayable)
		return false;
	if (row->retry == RETRY_ANY || why == OUTCOME_NO_BACKEND || why == OUTCOME_QUEUE_FULL ||
	    why == OUTCOME_QUEUE_TIMEOUT)
		return true;
	if (!row->failure && row->retry != RETRY_IDEMPOTENT && why != OUTCOME_COLOR_LEFT)
		return false; /* the client's doing, or ours */
	return method_idempotent(x->request->method);
}

/* Is there anybody to ask?  If not, the client may as well have the candidate's own answer. */
static bool
somebody_is_up(const struct exchange *x, enum color color)
{
	const struct pool *pool =
	    &x->engine->fleet->fleet->services[x->service->index].pools[color];

	for (unsigned i = 0; i < pool->n_members; i++) {
		if (atomic_load_explicit(&pool->members[i].backend->state, memory_order_relaxed) ==
		    BACKEND_UP)
			return true;
	}
	return false;
}

static bool
afford(struct exchange *x)
{
	const struct service_config *config = x->service->config;
	struct service_state *state = x->service->state;
	int64_t now_ms = x->engine->turn->now_ms, window_ms = config->rollout.limits.window_ms;
	uint64_t requests = 0;

	for (unsigned c = 0; c < N_COLORS; c++) {
		struct tally_look look;

		tally_look(state->tally[c], now_ms, window_ms, 0, &look);
		requests += look.requests + tally_inflight(state->tally[c]);
	}
	if (rescue_budget_take(
		&state->rescued, now_ms, window_ms, requests, config->rescue.budget_bp))
		return true;
	atomic_fetch_add_explicit(&state->rescues_refused, 1, memory_order_relaxed);
	return false;
}

bool
rescue_may(struct exchange *x, enum outcome why)
{
	enum color live;

	if (!x->candidate || !x->service->config->rescue.on || x->response_begun ||
	    x->why == WHY_FORCED)
		return false;
	live = service_live(x->service);
	return x->color != live && replay_is_safe(x, why) && somebody_is_up(x, live) && afford(x);
}

/* As if it had just come, and the live color had been chosen. */
static void
begin_anew(struct exchange *x)
{
	wait_leave(x);
	crowd_out(x);
	x->color = service_live(x->service);
	x->candidate = false;
	x->member = NULL;
	x->n_tried = x->tries = x->addresses = 0;
	x->outcome = OUTCOME_OK;
	account_join(x);
	ask_choose(x);
}

void
rescue_go(struct exchange *x, enum outcome why)
{
	crowd_out(x);
	account_rescued(x, why);
	exchange_let_back_go(x, why);
	x->rescued = true;
	x->rescued_from = x->color;
	x->rescued_why = why;
	x->tries_before = x->tries;
	x->back_status = 0;
	x->grpc_failed = false;
	x->why = WHY_RESCUE;
	begin_anew(x);
}

bool
rescue(struct exchange *x, enum outcome why)
{
	if (!rescue_may(x, why))
		return false;
	rescue_go(x, why);
	return true;
}

void
rescue_recolor(struct exchange *x)
{
	account_uncounted(x);
	begin_anew(x);
}
