/*
 * The exchanges of one color.  See crowd.h.
 *
 * One timer per service looks at ages and closes what is left of a color that was left; it is armed only
 * while there is something to look at.
 */
#include "balancer/guard.h"
#include "balancer/tally.h"
#include "proxy/base/obj.h"
#include "proxy/exchange/account.h"
#include "proxy/exchange/ask.h"
#include "proxy/exchange/crowd.h"
#include "proxy/exchange/exchange_private.h"

static struct crowd *
crowd_of(const struct exchange *x)
{
	return &x->engine->crowds[x->service->index];
}

static const struct service *
service_of(const struct crowd *crowd)
{
	return &crowd->engine->fleet->fleet->services[crowd->service];
}

static void
arm(struct crowd *crowd)
{
	struct turn *turn = crowd->engine->turn;

	if (!timeout_armed(&crowd->timer))
		timeout_set(&turn->wheel, &crowd->timer, turn->now_ms, CROWD_TICK_MS);
}

/* --- who is in it ------------------------------------------------------------- */

void
crowd_in(struct exchange *x)
{
	struct crowd *crowd = crowd_of(x);

	TAILQ_INSERT_TAIL(&crowd->colors[x->color].waiting, x, with);
	x->crowd = CROWD_WAITING;
	if (x->candidate && x->service->config->rollout.limits.p95_ms != 0)
		arm(crowd);
}

static void
publish_overdue(struct crowd *crowd, enum color color, uint32_t n)
{
	struct crowd_color *c = &crowd->colors[color];

	/* also when it is the same: a restart of the tally has forgotten it */
	tally_overdue(service_of(crowd)->state->tally[color], crowd->engine->index, n);
	c->overdue = n;
}

static void
wait_no_more(struct exchange *x)
{
	struct crowd *crowd = crowd_of(x);
	struct crowd_color *c = &crowd->colors[x->color];

	TAILQ_REMOVE(&c->waiting, x, with);
	if (!x->overdue)
		return;
	/* at once: the guard must not see it twice, as overdue and as ended */
	x->overdue = false;
	publish_overdue(crowd, x->color, c->overdue - 1);
}

void
crowd_head(struct exchange *x)
{
	if (x->crowd != CROWD_WAITING)
		return;
	wait_no_more(x);
	TAILQ_INSERT_TAIL(&crowd_of(x)->colors[x->color].relaying, x, with);
	x->crowd = CROWD_RELAYING;
}

void
crowd_out(struct exchange *x)
{
	if (x->crowd == CROWD_WAITING)
		wait_no_more(x);
	else if (x->crowd == CROWD_RELAYING)
		TAILQ_REMOVE(&crowd_of(x)->colors[x->color].relaying, x, with);
	x->crowd = CROWD_NOWHERE;
}

/* --- ages ----------------------------------------------------------------------- */

static bool
old(const struct exchange *x)
{
	int64_t slow_us = x->service->config->rollout.limits.p95_ms * 1000;

	return slow_us != 0 && x->engine->turn->now_us - x->asked_us > slow_us;
}

/* Unanswered for longer than limits.p95, and not because its client has not finished asking. */
bool
crowd_overdue(const struct exchange *x)
{
	return old(x) && !exchange_client_is_due(x);
}

static uint32_t
count_overdue(const struct crowd_color *c, bool guarded, uint32_t generation)
{
	struct exchange *x;
	uint32_t n = 0;

	TAILQ_FOREACH(x, &c->waiting, with)
	{
		if (!old(x))
			break; /* so are all behind it */
		/* of those that began under an earlier guard this one knows nothing */
		x->overdue = guarded && crowd_overdue(x) && x->generation == generation;
		n += x->overdue;
	}
	return n;
}

/* What hangs is what the verdict was about: it is evidence although it has not failed yet. */
static void
show_overdue(const struct crowd *crowd, const struct crowd_color *c)
{
	struct engine *e = crowd->engine;
	const struct exchange *x;
	unsigned n = 0;

	TAILQ_FOREACH(x, &c->waiting, with)
	{
		if (e->failed == NULL || n == CROWD_EVIDENCE || !old(x))
			break;
		if (!crowd_overdue(x))
			continue;
		e->failed(e, x, OUTCOME_HEAD_TIMEOUT);
		n++;
	}
}

/* The live color is looked at beside the candidate: when it hangs as well, going back would not help.  true: somebody of this
 * color may be, or become, overdue. */
static bool
look_at_ages(struct crowd *crowd, enum color color, uint32_t course)
{
	struct crowd_color *c = &crowd->colors[color];
	const struct service *s = service_of(crowd);
	struct engine *e = crowd->engine;
	bool guarded = course_weight(course) != 0 && s->config->rollout.limits.p95_ms != 0;
	bool candidate = color != course_live(course);
	uint32_t n = 0;
	struct verdict v;

	if (guarded || c->overdue != 0)
		n = count_overdue(c, guarded, tally_generation(s->state->tally[color]));
	publish_overdue(crowd, color, n);
	if (candidate && n != 0 && guard_look(s, e->turn->now_ms, &v)) {
		show_overdue(crowd, c);
		crowd_trip(e, s, &v);
	}
	return candidate && guarded && !TAILQ_EMPTY(&c->waiting);
}

/* --- leaving ---------------------------------------------------------------------- */

/* Its color has no traffic any more, and it still waits for the answer. */
static void
move_to_live(struct exchange *x, bool replay)
{
	enum outcome why = crowd_overdue(x) ? OUTCOME_HEAD_TIMEOUT : OUTCOME_COLOR_LEFT;

	if (x->why == WHY_FORCED)
		return;
	if (x->state == X_WAITING && x->tries == 0) {
		rescue_recolor(x);
	} else if (x->state == X_WAITING) {
		if (replay)
			(void)rescue(x, x->outcome);
	} else if (x->state == X_SENDING && replay && rescue_may(x, why)) {
		account_blame(x, why);
		rescue_go(x, why);
	}
}

void
exchange_leave(struct engine *e, unsigned service, enum color color, bool replay)
{
	struct crowd *crowd = &e->crowds[service];
	struct crowd_color *c = &crowd->colors[color];
	uint32_t course = service_course(service_of(crowd)->state);
	struct exchange *x, *next;

	if (color == course_live(course) || course_weight(course) != 0)
		return; /* it has got traffic again meanwhile */
	if (!c->left) {
		c->left = true;
		c->left_ms = e->turn->now_ms;
		c->closed = 0;
	}
	c->again_ms = e->turn->now_ms + CROWD_AGAIN_MS;
	/* only x leaves this list by what happens here: whoever else it stirs is with the live color */
	for (x = TAILQ_FIRST(&c->waiting); x != NULL; x = next) {
		next = TAILQ_NEXT(x, with);
		move_to_live(x, replay);
	}
	arm(crowd);
}

/* A tunnel's client sees an orderly end: FIN, END_STREAM.  A WebSocket close frame would need a frame's
 * boundary, which teal does not look for. */
static void
close_one(struct exchange *x)
{
	if (x->tunnel)
		exchange_close_tunnel(x, OUTCOME_COLOR_LEFT);
	else
		exchange_cut(x, OUTCOME_COLOR_LEFT);
}

/* The oldest that is no tester's. */
static struct exchange *
next_to_close(const struct crowd_color *c)
{
	struct exchange *x;

	TAILQ_FOREACH(x, &c->relaying, with)
	{
		if (x->why != WHY_FORCED)
			break;
	}
	return x;
}

/* How many of those closed so far, numbered over all workers, are this worker's: every n_workers-th. */
static uint64_t
share(const struct engine *e, unsigned rate, int64_t ms)
{
	uint64_t all = (uint64_t)ms * rate / 1000, n = e->n_workers != 0 ? e->n_workers : 1;

	return (all + n - 1 - e->index % n) / n;
}

/* true: there is more to close, or may be. */
static bool
close_some(struct crowd *crowd, struct crowd_color *c)
{
	const struct way_back_config *drain = &service_of(crowd)->config->rollout.way_back;
	int64_t since_ms = crowd->engine->turn->now_ms - c->left_ms;
	bool all = drain->timeout_ms != 0 && since_ms >= drain->timeout_ms;
	uint64_t due = share(crowd->engine, drain->rate, since_ms);
	struct exchange *x;

	while ((all || c->closed < due) && (x = next_to_close(c)) != NULL) {
		c->closed++;
		close_one(x);
	}
	if (c->closed < due)
		c->closed = due; /* what nobody needed is not saved up */
	return (drain->timeout_ms != 0 || drain->rate != 0) && next_to_close(c) != NULL;
}

/* true: look again. */
static bool
look_at_leaving(struct crowd *crowd, enum color color, uint32_t course)
{
	struct crowd_color *c = &crowd->colors[color];

	if (color == course_live(course) || course_weight(course) != 0) {
		c->left = false;
		return false;
	}
	/* tripped by another worker; or the budget refused some of them, a second ago */
	if (!TAILQ_EMPTY(&c->waiting) &&
	    (!c->left || (course_tripped(course) && crowd->engine->turn->now_ms >= c->again_ms)))
		exchange_leave(crowd->engine, crowd->service, color, course_tripped(course));
	if (!c->left)
		return false;
	if (!close_some(crowd, c) && TAILQ_EMPTY(&c->waiting))
		c->left = false;
	return c->left;
}

static void
on_timer(struct timeout *t)
{
	struct crowd *crowd = CONTAINER_OF(t, struct crowd, timer);
	uint32_t course = service_course(service_of(crowd)->state);
	bool again = false;

	for (enum color c = BLUE; c <= GREEN; c++)
		again |= look_at_leaving(crowd, c, course);
	/* the candidate last: its verdict asks for both */
	again |= look_at_ages(crowd, course_live(course), course);
	again |= look_at_ages(crowd, color_other(course_live(course)), course);
	if (again)
		arm(crowd);
}

/* --- a trip ------------------------------------------------------------------------- */

static void
on_task(struct task *t)
{
	struct crowd *crowd = CONTAINER_OF(t, struct crowd, task);

	exchange_leave(crowd->engine, crowd->service, crowd->tripped, true);
}

void
crowd_trip(struct engine *e, const struct service *s, const struct verdict *v)
{
	struct crowd *crowd = &e->crowds[s->index];

	if (e->tripped != NULL)
		e->tripped(e, s, v);
	crowd->tripped = service_candidate(s);
	turn_run(e->turn, &crowd->task);
}

void
crowd_init(struct crowd *crowd, struct engine *e, unsigned service)
{
	crowd->engine = e;
	crowd->service = service;
	for (unsigned c = 0; c < N_COLORS; c++) {
		TAILQ_INIT(&crowd->colors[c].waiting);
		TAILQ_INIT(&crowd->colors[c].relaying);
	}
	timeout_init(&crowd->timer, on_timer);
	crowd->task.run = on_task;
}
