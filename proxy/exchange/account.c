/*
 * Where every end is judged, once.  See account.h.
 *
 * Owner and thread: the engine's worker.
 */
#include <string.h>

#include "balancer/eject.h"
#include "balancer/guard.h"
#include "balancer/tally.h"
#include "proxy/base/log.h"
#include "proxy/exchange/access_log.h"
#include "proxy/exchange/account.h"
#include "proxy/exchange/crowd.h"

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

static struct tally *
tally_of(const struct exchange *x)
{
	return x->service->state->tally[x->color];
}

/* --- with a color ------------------------------------------------------------ */

void
account_join(struct exchange *x)
{
	struct tally *t = tally_of(x);

	tally_begin(t, x->engine->index);
	x->generation = tally_generation(t);
	x->asked_us = x->engine->turn->now_us;
	crowd_in(x);
}

void
account_uncounted(struct exchange *x)
{
	tally_end(tally_of(x), x->engine->index);
}

/* --- the backend --------------------------------------------------------------- */

void
account_blame(struct exchange *x, enum outcome why)
{
	const struct passive_config *passive = &x->service->config->passive;
	struct backend *b = x->member->backend;
	int64_t now_ms = x->engine->turn->now_ms, until_ms;

	if (outcome_row(why)->blame != BLAME_BACKEND)
		return;
	atomic_fetch_add_explicit(&b->failures, 1, memory_order_relaxed);
	if (!backend_failed(&x->service->pools[x->color], b, passive, now_ms))
		return;
	until_ms = atomic_load_explicit(&b->held_until_ms, memory_order_relaxed);
	log_warn("backend %s (%s): ejected for %lld s: %u failures in a row", b->name,
	    color_name(b->color), (long long)(until_ms - now_ms + 999) / 1000, passive->failures);
}

/* --- the color ----------------------------------------------------------------- */

/* What failed, or was slow, is shown to the guard; the rest costs two comparisons. */
static void
watch(struct exchange *x, const struct tally_sample *s, enum outcome why)
{
	struct engine *e = x->engine;
	int64_t slow_us = x->service->config->rollout.limits.p95_ms * 1000;
	struct verdict v;
	uint32_t course;

	if (!s->failure && (slow_us == 0 || s->head_us <= slow_us))
		return;
	if (s->generation != tally_generation(tally_of(x)))
		return; /* it began under an earlier guard */
	course = service_course(x->service->state);
	if (s->failure && e->failed != NULL && course_weight(course) != 0 &&
	    x->color != course_live(course))
		e->failed(e, x, why);
	if (guard_saw(x->service, x->color, s->failure, s->now_ms, &v))
		crowd_trip(e, x->service, &v);
}

void
account_rescued(struct exchange *x, enum outcome why)
{
	struct engine *e = x->engine;
	struct service_state *state = x->service->state;
	struct tally_sample sample = {
	    .now_ms = e->turn->now_ms,
	    .head_us = x->back_status != 0 ? e->turn->now_us - x->asked_us : -1,
	    .status = x->back_status,
	    .failure = true,
	    .generation = x->generation,
	};

	tally_end(tally_of(x), e->index);
	if (x->tries > 1)
		atomic_fetch_add_explicit(&state->retries_failed, 1, memory_order_relaxed);
	if (!outcome_row(why)->failure)
		return; /* nothing is known of how it would have gone: neither for nor against */
	tally_add(tally_of(x), e->index, &sample);
	watch(x, &sample, why);
}

/* What came through may still be a failure: a 5xx, a gRPC error. */
static enum outcome
failure_of_answer(const struct exchange *x)
{
	if (x->grpc_failed)
		return OUTCOME_GRPC_ERROR;
	if (x->back_status >= 500)
		return OUTCOME_BACKEND_5XX;
	return OUTCOME_OK;
}

static void
account_color(struct exchange *x, const struct outcome_row *row)
{
	struct engine *e = x->engine;
	enum outcome answered = failure_of_answer(x);
	/* Its client did not wait, or it was answered here: how it would have gone nobody knows.  But who waited for too long
	 * already has seen how slow it is; a hang must not pass because nobody waits for its end. */
	bool unknown = x->back_status == 0 && !row->failure, late = unknown && crowd_overdue(x);
	struct tally_sample sample = {
	    .now_ms = e->turn->now_ms,
	    .head_us = x->head_us != 0 ? x->head_us - x->asked_us
		       : late          ? e->turn->now_us - x->asked_us
				       : -1,
	    .unknown = unknown && !late,
	    .status = x->back_status,
	    /* what the backend answered counts, whether the client stayed to read it or not */
	    .failure = row->failure || answered != OUTCOME_OK,
	    .generation = x->generation,
	};

	tally_end(tally_of(x), e->index);
	tally_add(tally_of(x), e->index, &sample);
	if (x->grpc_failed && x->back_status < 500)
		account_blame(x, OUTCOME_GRPC_ERROR); /* it may have come last */
	else if (x->back_status != 0 && !sample.failure)
		backend_answered(x->member->backend);
	watch(x, &sample, row->failure ? x->outcome : answered);
}

/* By what the client got. */
static void
account_tries(const struct exchange *x, const struct outcome_row *row)
{
	struct service_state *state = x->service->state;
	bool failed = row->failure || x->back_status >= 500 || x->grpc_failed;

	if (x->tries > 1)
		atomic_fetch_add_explicit(
		    row->failure ? &state->retries_failed : &state->retries_ok, 1,
		    memory_order_relaxed);
	if (x->rescued)
		atomic_fetch_add_explicit(
		    failed || row->status >= 500 ? &state->rescues_failed : &state->rescues_ok, 1,
		    memory_order_relaxed);
}

void
account(struct exchange *x)
{
	struct engine *e = x->engine;
	const struct outcome_row *row;

	if (x->outcome == OUTCOME_OK)
		x->outcome = failure_of_answer(x);
	if (x->outcome == OUTCOME_OK && x->tunnel)
		x->outcome = OUTCOME_TUNNEL;
	row = outcome_row(x->outcome);
	count(&e->counters.outcomes[x->outcome]);
	if (x->colored) {
		account_color(x, row);
		account_tries(x, row);
	}
	if (e->access != NULL)
		access_log(x);
}
