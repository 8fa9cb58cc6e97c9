/*
 * What an operator says to a rollout: start it, pause, resume, promote, abort.  Checked, made as
 * one move (move.c), answered when every worker obeys.  See control.h, release_private.h.
 *
 * Control thread.
 */
#include <stdio.h>
#include <sys/random.h>

#include "proxy/base/obj.h"
#include "proxy/process/release_private.h"

static unsigned
count_up(const struct pool *pool)
{
	unsigned up = 0;

	for (unsigned i = 0; i < pool->n_members; i++)
		up += atomic_load(&pool->members[i].backend->state) == BACKEND_UP;
	return up;
}

/* true: it may begin; false: answered. */
static bool
may_start(struct control *c, const struct service *s, const struct rollout_request *q,
    enum color to, change_done *done, void *arg)
{
	uint32_t course = service_course(s->state);
	const struct release *r = &c->releases[s->index];
	const struct pool *pool = &s->pools[to];
	unsigned limit = s->config->rollout.limits.healthy_backends_bp, up = count_up(pool);

	if (rollout_active(&r->rollout))
		change_refuse(done, arg, 409, "rollout-active", "a rollout to %s is under way",
		    color_name(r->rollout.to));
	else if (to == course_live(course))
		change_refuse(done, arg, 409, "already-live", "%s is live already", color_name(to));
	else if (course_tripped(course) && !q->rearm)
		change_refuse(done, arg, 409, "tripped",
		    "%s was tripped (%.120s): rearm before it gets traffic again", color_name(to),
		    r->trip.reason);
	else if (pool->n_members == 0)
		change_refuse(done, arg, 409, "no-backends", "%s has no backends", color_name(to));
	else if (up == 0 || up * 10000u < limit * pool->n_members)
		change_refuse(done, arg, 409, "not-ready",
		    "%u of %u backends of %s are up, the limit is %u.%02u %%", up, pool->n_members,
		    color_name(to), limit / 100, limit % 100);
	else
		return true;
	return false;
}

static void
begin(struct move *m, const struct rollout_request *q, enum color to)
{
	const struct rollout_config *config = release_config(m->r);
	const struct step_config *steps = q->n_steps != 0 ? q->steps : config->steps;
	size_t n = q->n_steps != 0 ? q->n_steps : config->n_steps;

	(void)rollout_begin(&m->want.rollout, to, steps, (unsigned)n);
	m->want.tripped = false;
	m->want.trip = (struct state_trip){0};
	m->want.rollout_wall_ms = m->want.step_wall_ms = control_wall_ms();
	/* other people are the first to try this release than were the last one's */
	ENSURE(getrandom(m->want.split_key, sizeof(m->want.split_key), 0) ==
	       (ssize_t)sizeof(m->want.split_key));
}

/* It did not happen: the disk refused, or a worker tripped at this moment. */
static void
refused(const struct move *m, change_done *done, void *arg)
{
	change_round_drop(m->round);
	if (m->err[0] == '\0')
		change_refuse(done, arg, 409, "tripped",
		    "the candidate was tripped at this moment: nothing was changed");
	else
		change_refuse(
		    done, arg, 507, "state-not-written", "the change was refused: %s", m->err);
}

/* One write: begun, and, without a gate, at its first step. */
static void
start(struct control *c, struct service *s, const struct rollout_request *q,
    const struct change *ch, change_done *done, void *arg)
{
	struct release *r = &c->releases[s->index];
	enum color to = q->has_to ? q->to : color_other(course_live(service_course(s->state)));
	bool gate = release_config(r)->gate.command.n != 0;
	struct move m;
	unsigned n_timeline;
	char why[48] = "rollout started";

	if (!may_start(c, s, q, to, done, arg))
		return;
	gate_stop(r);
	move_begin(&m, r, &r->rollout, ch, change_round(done, arg));
	begin(&m, q, to);
	if (!gate) {
		rollout_entered(&m.want.rollout, control_now_ms());
		m.want.weight_bp = rollout_weight(&m.want.rollout);
		move_step_text(why, &m.want.rollout);
	}
	n_timeline = r->n_timeline;
	r->n_timeline = 0;
	if (!move_make(&m, why)) {
		r->n_timeline = n_timeline;
		refused(&m, done, arg);
		return;
	}
	if (r->n_timeline == 0 && m.want.weight_bp != 0) /* it had this weight by hand already */
		release_point(r, m.want.weight_bp, why);
	control_record(
	    c, s, ch, "rollout start", color_name(course_live(m.seen)), color_name(to), "", NULL);
	release_announce(r, "rollout_started", ch->reason);
	if (gate) {
		gate_ask(r);
	} else {
		control_record(c, s, ch, "step", "", why, "", NULL);
		release_announce(r, "step", "");
	}
}

/* What the order makes of the rollout.  NULL, or why it is refused. */
static const char *
decide(struct rollout *next, const struct rollout_request *q, const char *reason,
    enum rollout_act *act)
{
	switch (q->order) {
	case DO_START:
		break;
	case DO_PAUSE:
		return rollout_pause(next, reason, act);
	case DO_RESUME:
		return rollout_resume(next, act);
	case DO_PROMOTE:
		return rollout_promote(next, q->full, act);
	case DO_ABORT:
		return rollout_abort(next, reason[0] != '\0' ? reason : "aborted by hand", act);
	}
	return NULL;
}

static bool
act_on(struct move *m, enum rollout_order order, enum rollout_act act)
{
	switch (act) {
	case ROLLOUT_NEXT:
		return move_on(m);
	case ROLLOUT_PROMOTE:
		return move_promote(m);
	case ROLLOUT_GIVE_UP:
		return move_back(m, "abort");
	case ROLLOUT_STAY:
	case ROLLOUT_SAY:
		break;
	}
	if (order != DO_PAUSE)
		return move_say(m, "rollout resume", "resumed");
	gate_stop(m->r);
	return move_say(m, "rollout pause", "paused");
}

/* What an operator says to a rollout under way. */
static void
steer(struct control *c, struct service *s, const struct rollout_request *q,
    const struct change *ch, change_done *done, void *arg)
{
	struct release *r = &c->releases[s->index];
	struct rollout next = r->rollout;
	enum rollout_act act = ROLLOUT_STAY;
	const char *no = decide(&next, q, ch->reason, &act);
	struct move m;

	if (no != NULL) {
		const char *code = q->order == DO_RESUME ? "not-paused" : "not-now";

		change_refuse(
		    done, arg, 409, rollout_active(&r->rollout) ? code : "no-rollout", "%s", no);
		return;
	}
	move_begin(&m, r, &next, ch, change_round(done, arg));
	if (!act_on(&m, q->order, act)) {
		refused(&m, done, arg);
		return;
	}
	/* what it leads to is recorded by itself; this is who asked for it */
	if (act == ROLLOUT_NEXT || act == ROLLOUT_PROMOTE)
		control_record(c, s, ch,
		    q->order == DO_RESUME ? "rollout resume" : "rollout promote", "", "", "", NULL);
}

void
control_rollout(struct control *c, struct service *s, const struct rollout_request *q,
    const struct change *ch, change_done *done, void *arg)
{
	if (change_stale(s, ch, done, arg))
		return;
	if (q->order == DO_START)
		start(c, s, q, ch, done, arg);
	else
		steer(c, s, q, ch, done, arg);
}
