/* The release of each service as control keeps it.  See release.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "balancer/guard.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/control_private.h"

#define BEAT_MS  100
#define AGAIN_MS 1000 /* after the disk refused */

static struct service *
service_of(const struct release *r)
{
	return &r->control->roster.current->fleet.services[r->service];
}

static const struct rollout_config *
config_of(const struct release *r)
{
	return &r->control->config->services[r->service].rollout;
}

static const char *
name_of(const struct release *r)
{
	return r->control->config->services[r->service].name;
}

void
release_point(struct release *r, unsigned weight_bp, const char *why)
{
	struct weight_point *p;

	if (r->n_timeline == EVIDENCE_TIMELINE) {
		memmove(r->timeline, r->timeline + 1, sizeof(r->timeline) - sizeof(r->timeline[0]));
		r->n_timeline--;
	}
	p = &r->timeline[r->n_timeline++];
	p->wall_ms = control_wall_ms();
	p->weight_bp = weight_bp;
	snprintf(p->why, sizeof(p->why), "%s", why);
}

void
release_failed(struct release *r, const struct failure *f, int64_t since)
{
	/* what belongs to an earlier guard is of no interest any more */
	if (since != atomic_load(&service_of(r)->state->guarded_since_ms) ||
	    r->n_failures == EVIDENCE_FAILURES)
		return;
	r->failures[r->n_failures++] = *f;
}

/* --- evidence --------------------------------------------------------------------------- */

static unsigned
describe_backends(const struct release *r, struct evidence_backend *out, unsigned max)
{
	const struct service *s = service_of(r);
	unsigned n = 0;

	for (unsigned color = 0; color < N_COLORS; color++) {
		const struct pool *pool = &s->pools[color];

		for (unsigned i = 0; i < pool->n_members && n < max; i++, n++) {
			const struct backend *b = pool->members[i].backend;

			snprintf(out[n].address, sizeof(out[n].address), "%s", b->name);
			snprintf(out[n].state, sizeof(out[n].state), "%s",
			    backend_state_name((enum backend_state)atomic_load(&b->state)));
			control_backend_reason(r->control, b, out[n].reason, sizeof(out[n].reason));
			out[n].color = (enum color)color;
		}
	}
	return n;
}

#define EVIDENCE_BACKENDS 64 /* of both colors; more say nothing more */

static void
keep_evidence(struct release *r, const char *action, const char *reason, const struct verdict *v,
    const struct rollout *before, enum color live, unsigned weight_bp)
{
	struct evidence_backend *backends = calloc(EVIDENCE_BACKENDS, sizeof(*backends));
	struct evidence e = {.service = name_of(r),
	    .wall_ms = control_wall_ms(),
	    .live = live,
	    .candidate = color_other(live),
	    .weight_bp = weight_bp,
	    .epoch = atomic_load(&service_of(r)->state->epoch),
	    .action = action,
	    .reason = reason,
	    .rollout = before,
	    .failures = r->failures,
	    .n_failures = r->n_failures,
	    .timeline = r->timeline,
	    .n_timeline = r->n_timeline,
	    .backends = backends};
	char err[256];

	ENSURE(backends != NULL);
	e.n_backends = describe_backends(r, backends, EVIDENCE_BACKENDS);
	if (v != NULL)
		e.verdict = *v;
	json_decref(r->evidence);
	r->evidence = evidence_json(&e);
	free(backends);
	if (r->evidence == NULL || evidence_save(r->control->config->state_directory, e.service,
				       r->evidence, err, sizeof(err)) == -1)
		log_error("%s: evidence not written: %s", e.service,
		    r->evidence == NULL ? "out of memory" : err);
}

struct json_t *
control_evidence(struct control *c, const struct service *s)
{
	return json_incref(c->releases[s->index].evidence);
}

struct json_t *
control_history(struct control *c, const struct service *s)
{
	return audit_history(c->audit, s->config->name);
}

const struct release *
control_release(struct control *c, const struct service *s)
{
	return &c->releases[s->index];
}

/* --- what is told ------------------------------------------------------------------------- */

static json_t *
progress(const struct release *r, const char *reason)
{
	const struct rollout *o = &r->rollout;
	json_t *j = json_object();

	(void)json_object_set_new(j, "color", json_string(color_name(o->to)));
	(void)json_object_set_new(j, "step", json_integer((json_int_t)o->step + 1));
	(void)json_object_set_new(j, "steps", json_integer((json_int_t)o->n_steps));
	(void)json_object_set_new(
	    j, "weight", json_real(course_weight(service_course(service_of(r)->state)) / 100.0));
	if (reason[0] != '\0')
		(void)json_object_set_new(j, "reason", json_string_nocheck(reason));
	return j;
}

static void
announce(const struct release *r, const char *type, const char *reason)
{
	events_emit(r->control->events, type, name_of(r), progress(r, reason));
}

static void
step_text(char out[48], const struct rollout *o)
{
	unsigned bp = o->steps[o->step].weight_bp;

	snprintf(out, 48, bp % 100 == 0 ? "step %u, %u %%" : "step %u, %u.%02u %%", o->step + 1,
	    bp / 100, bp % 100);
}

/* --- moves: saved, obeyed, told ------------------------------------------------------------ */

/*
 * One move of a rollout.  round: an operator's; NULL: teal's own.  false: it did not happen; err says why ("": a worker
 * tripped meanwhile).
 */
struct move {
	struct release *r;
	struct want want;
	uint32_t seen;
	struct round *round;
	char err[256];
};

static void
move_begin(struct move *m, struct release *r, const struct rollout *next)
{
	memset(m, 0, sizeof(*m));
	m->r = r;
	m->seen = service_course(service_of(r)->state);
	want_now(&m->want, r->control, service_of(r), m->seen);
	if (next->state != r->rollout.state)
		m->want.rollout_wall_ms = control_wall_ms();
	m->want.rollout = *next;
}

static bool
move(struct move *m, const char *why)
{
	struct control *c = m->r->control;
	struct service *s = service_of(m->r);

	if (course_tripped(m->seen) && !m->r->trip.on)
		return false; /* the letter of the trip is on its way */
	if (control_save(c, s, &m->want, m->err, sizeof(m->err)) == -1) {
		m->r->again_ms = control_now_ms() + AGAIN_MS;
		snprintf(m->r->refusal, sizeof(m->r->refusal), "state not written: %s", m->err);
		return false;
	}
	return control_obey(c, s, &m->want, m->seen, why, m->round) == 0;
}

static void
stop_gate(struct release *r)
{
	if (r->gate != NULL)
		run_cancel(r->gate);
	r->gate = NULL;
}

/* Nobody goes on while the live color could not take the traffic back. */
static bool
no_way_back(const struct release *r)
{
	return r->looked && r->verdict.frozen &&
	       course_weight(service_course(service_of(r)->state)) != 0;
}

static void on_gate(void *arg, const struct run_result *result);

/* The command is asked before the step; what it says comes to on_gate(). */
static void
ask_gate(struct release *r)
{
	const struct rollout *o = &r->rollout;
	const struct step_config *step = &o->steps[o->step];
	char text[5][96];
	const char *environment[6] = {text[0], text[1], text[2], text[3], text[4], NULL};

	snprintf(text[0], sizeof(text[0]), "TEAL_SERVICE=%s", name_of(r));
	snprintf(text[1], sizeof(text[1]), "TEAL_COLOR=%s", color_name(o->to));
	snprintf(text[2], sizeof(text[2]), "TEAL_STEP=%u", o->step + 1);
	snprintf(text[3], sizeof(text[3]), "TEAL_STEPS=%u", o->n_steps);
	snprintf(text[4], sizeof(text[4]), "TEAL_WEIGHT=%u.%02u", step->weight_bp / 100,
	    step->weight_bp % 100);
	r->gate = run_start(r->control->base, &config_of(r)->gate.command, environment, "", 0,
	    config_of(r)->gate.timeout_ms, on_gate, r);
}

/* The step's gate has let it pass, or there is none. */
static bool
enter(struct release *r, const struct rollout *next, const struct change *by, struct round *round,
    char *err, size_t err_size)
{
	struct move m;
	char why[48], from[16];

	move_begin(&m, r, next);
	m.round = round;
	rollout_entered(&m.want.rollout, control_now_ms());
	m.want.weight_bp = rollout_weight(&m.want.rollout);
	m.want.step_wall_ms = control_wall_ms();
	step_text(why, &m.want.rollout);
	snprintf(from, sizeof(from), "%u.%02u %%", course_weight(m.seen) / 100,
	    course_weight(m.seen) % 100);
	if (!move(&m, why)) {
		snprintf(err, err_size, "%s", m.err);
		return false;
	}
	control_record(r->control, service_of(r), by, "step", from, why, "",
	    r->looked && by == NULL ? &r->verdict : NULL);
	announce(r, "step", "");
	return true;
}

/* On to next->step: by its gate, when there is one.  As enter(). */
static bool
go_on(struct release *r, const struct rollout *next, const struct change *by, struct round *round,
    char *err, size_t err_size)
{
	struct move m;
	char why[48];

	stop_gate(r);
	/* entered: an operator promoted over the gate */
	if (config_of(r)->gate.command.n == 0 || next->entered)
		return enter(r, next, by, round, err, err_size);
	move_begin(&m, r, next);
	m.round = round;
	if (!move(&m, "gate")) {
		snprintf(err, err_size, "%s", m.err);
		return false;
	}
	if (by != NULL) {
		step_text(why, next);
		control_record(r->control, service_of(r), by, "gate asked", "", why, "", NULL);
	}
	ask_gate(r);
	return true;
}

static bool
promote(struct release *r, const struct rollout *next, const struct change *by, struct round *round,
    char *err, size_t err_size)
{
	enum color before = course_live(service_course(service_of(r)->state));
	struct move m;

	stop_gate(r);
	move_begin(&m, r, next);
	m.round = round;
	m.want.live = next->to;
	m.want.weight_bp = 0;
	if (!move(&m, "promoted")) {
		snprintf(err, err_size, "%s", m.err);
		return false;
	}
	control_record(r->control, service_of(r), by, "promote", color_name(before),
	    color_name(next->to), "", r->looked && by == NULL ? &r->verdict : NULL);
	announce(r, "promoted", "");
	return true;
}

/* Rolled back without a trip: aborted, or inconclusive. */
static bool
give_up(struct release *r, const struct rollout *next, const struct change *by, const char *action,
    struct round *round, char *err, size_t err_size)
{
	struct rollout before = r->rollout;
	struct verdict v = r->verdict;
	struct move m;

	stop_gate(r);
	move_begin(&m, r, next);
	m.round = round;
	m.want.weight_bp = 0;
	if (!move(&m, action)) {
		snprintf(err, err_size, "%s", m.err);
		return false;
	}
	control_record(r->control, service_of(r), by, action, color_name(before.to),
	    color_name(course_live(m.seen)), next->reason, r->looked ? &v : NULL);
	keep_evidence(r, action, next->reason, r->looked ? &v : NULL, &before, course_live(m.seen),
	    course_weight(m.seen));
	announce(r, "rolled_back", next->reason);
	return true;
}

void
release_flipped(struct release *r, const struct rollout *before)
{
	enum color live = course_live(service_course(service_of(r)->state));

	stop_gate(r);
	if (r->rollout.state == ROLLOUT_PROMOTED) {
		announce(r, "promoted", r->rollout.reason);
		return;
	}
	keep_evidence(r, "abort", r->rollout.reason, r->looked ? &r->verdict : NULL, before, live,
	    rollout_weight(before));
	announce(r, "rolled_back", r->rollout.reason);
}

/* A change of state or reason only. */
static bool
say(struct release *r, const struct rollout *next, const struct change *by, const char *action,
    const char *type, struct round *round, char *err, size_t err_size)
{
	struct move m;

	move_begin(&m, r, next);
	m.round = round;
	if (!move(&m, action)) {
		snprintf(err, err_size, "%s", m.err);
		return false;
	}
	control_record(r->control, service_of(r), by, action, "", "", next->reason, NULL);
	announce(r, type, next->reason);
	return true;
}

static void
on_gate(void *arg, const struct run_result *result)
{
	struct release *r = arg;
	struct rollout next = r->rollout;
	char reason[ROLLOUT_REASON_MAX], err[256];
	size_t line;

	r->gate = NULL;
	if (next.state != ROLLOUT_STEPPING || next.entered)
		return;
	if (result->end == RUN_EXITED && result->code == 0) {
		if (no_way_back(r))
			return; /* the beat asks again when there is one */
		(void)enter(r, &next, NULL, NULL, err, sizeof(err));
		return;
	}
	line = strcspn(result->output, "\n");
	snprintf(reason, sizeof(reason), "the gate refused step %u (%u %%): %s%s%.*s",
	    next.step + 1, next.steps[next.step].weight_bp / 100, result->sentence,
	    line > 0 ? ": " : "", line < 160 ? (int)line : 160, result->output);
	(void)rollout_refused(&next, reason);
	(void)say(r, &next, NULL, "gate refused", "gate_refused", NULL, err, sizeof(err));
}

/* --- trips ------------------------------------------------------------------------------------ */

/* All of it is in the release already. */
static void
save_trip(struct release *r)
{
	char err[256];

	r->unsaved = control_save(r->control, NULL, NULL, err, sizeof(err)) == -1;
	r->again_ms = control_now_ms() + AGAIN_MS;
	if (r->unsaved)
		releases_wake(r->control);
}

void
release_tripped(struct release *r, const struct verdict *v)
{
	struct control *c = r->control;
	struct service *s = service_of(r);
	enum color live = course_live(service_course(s->state)), candidate = color_other(live);
	unsigned weight_bp = r->n_timeline > 0 ? r->timeline[r->n_timeline - 1].weight_bp : 0;
	struct rollout before = r->rollout;

	if (r->trip.on || !course_tripped(service_course(s->state)))
		return; /* an operator has decided meanwhile */
	stop_gate(r);
	r->verdict = *v;
	r->looked = true;
	r->trip.on = true;
	r->trip.wall_ms = control_wall_ms();
	r->trip.rule = v->rule;
	snprintf(r->trip.reason, sizeof(r->trip.reason), "%s", v->reason);
	r->trips[v->rule]++;
	if (rollout_active(&r->rollout)) {
		rollout_tripped(&r->rollout, v->reason);
		r->rollout_wall_ms = r->trip.wall_ms;
	}
	release_point(r, 0, "trip");
	atomic_fetch_add(&s->state->epoch, 1);
	save_trip(r);
	guard_weight(s->state, false, 0, control_now_ms());
	control_leave(c, s, candidate, true, NULL);
	log_warn("%s: %s is TRIPPED by %s: %s; all traffic is on %s", name_of(r),
	    color_name(candidate), rule_name(v->rule), v->reason, color_name(live));
	keep_evidence(r, "trip", v->reason, v, &before, live, weight_bp);
	control_record(c, s, NULL, "trip", color_name(candidate), color_name(live), v->reason, v);
	announce(r, "tripped", v->reason);
	if (rollout_active(&before))
		announce(r, "rolled_back", v->reason);
}

/* --- the beat ---------------------------------------------------------------------------------- */

static bool
awake(const struct release *r)
{
	return course_weight(service_course(service_of(r)->state)) != 0 ||
	       rollout_active(&r->rollout) || r->unsaved;
}

static void
act_on(struct release *r, const struct rollout *next, enum rollout_act act)
{
	bool frozen = next->frozen != r->rollout.frozen;
	char err[256];

	switch (act) {
	case ROLLOUT_STAY:
		r->rollout = *next;
		break;
	case ROLLOUT_NEXT:
		(void)go_on(r, next, NULL, NULL, err, sizeof(err));
		break;
	case ROLLOUT_PROMOTE:
		(void)promote(r, next, NULL, NULL, err, sizeof(err));
		break;
	case ROLLOUT_GIVE_UP:
		(void)give_up(r, next, NULL, "inconclusive", NULL, err, sizeof(err));
		break;
	case ROLLOUT_SAY:
		if (next->state == ROLLOUT_PAUSED)
			(void)say(
			    r, next, NULL, "inconclusive", "inconclusive", NULL, err, sizeof(err));
		else if (frozen)
			(void)say(r, next, NULL, next->frozen ? "frozen" : "goes on",
			    next->frozen ? "frozen" : "resumed", NULL, err, sizeof(err));
		else
			(void)say(r, next, NULL, "waiting", "waiting", NULL, err, sizeof(err));
		break;
	}
}

/* The hold's progress, so that a restart goes on with it; one write a second for all services (releases_second()). */
static void
save_progress(struct release *r, int64_t now)
{
	int64_t every = r->rollout.steps[r->rollout.step].hold_ms > 60000 ? 5000 : 1000;

	if (r->rollout.state != ROLLOUT_STEPPING || !r->rollout.entered || r->rollout.frozen ||
	    now - r->saved_ms < every)
		return;
	r->saved_ms = now;
	r->control->save_soon = true;
}

static void
beat(struct release *r, int64_t now)
{
	struct service *s = service_of(r);
	uint32_t course = service_course(s->state);
	struct rollout next;
	struct verdict v;

	if (course_tripped(course) && !r->trip.on)
		return; /* the letter of the trip is on its way */
	if (r->unsaved && now >= r->again_ms)
		save_trip(r);
	if (course_weight(course) != 0) {
		guard_restake(s->state);
		if (guard_look(s, now, &v)) {
			release_tripped(r, &v);
			return;
		}
		r->verdict = v;
		r->looked = true;
	}
	if (!rollout_active(&r->rollout) || now < r->again_ms)
		return;
	next = r->rollout;
	if (next.state == ROLLOUT_STEPPING && !next.entered) {
		/* after a restart, or a disk that refused: nothing of it has to be written again */
		if (r->gate != NULL || no_way_back(r))
			return;
		if (config_of(r)->gate.command.n != 0)
			ask_gate(r);
		else
			act_on(r, &next, ROLLOUT_NEXT);
		return;
	}
	if (!r->looked || course_weight(course) == 0)
		return;
	act_on(r, &next, rollout_tick(&next, config_of(r), &r->verdict, now));
	save_progress(r, now);
}

static void
on_beat(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	int64_t now = control_now_ms();
	bool more = false;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < c->config->n_services && !c->stopping; i++) {
		beat(&c->releases[i], now);
		more = more || awake(&c->releases[i]);
	}
	if (!more)
		event_del(c->beat);
}

void
releases_wake(struct control *c)
{
	static const struct timeval every = {0, BEAT_MS * 1000};

	if (c->beat != NULL && !event_pending(c->beat, EV_TIMEOUT, NULL))
		event_add(c->beat, &every);
}

void
releases_second(struct control *c)
{
	char err[256];

	if (c->save_soon)
		(void)control_save(c, NULL, NULL, err, sizeof(err));
}

/* --- the operator ---------------------------------------------------------------------------------- */

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
	const struct rollout_config *config = config_of(m->r);
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

/* Or by a worker that tripped at this moment. */
static void
refused_by_disk(const char *err, change_done *done, void *arg)
{
	if (err[0] == '\0')
		change_refuse(done, arg, 409, "tripped",
		    "the candidate was tripped at this moment: nothing was changed");
	else
		change_refuse(
		    done, arg, 507, "state-not-written", "the change was refused: %s", err);
}

/* One write: begun, and, without a gate, at its first step. */
static void
start(struct control *c, struct service *s, const struct rollout_request *q,
    const struct change *ch, change_done *done, void *arg)
{
	struct release *r = &c->releases[s->index];
	enum color to = q->has_to ? q->to : color_other(course_live(service_course(s->state)));
	bool gate = config_of(r)->gate.command.n != 0;
	struct move m;
	unsigned n_timeline;
	char why[48] = "rollout started";

	if (!may_start(c, s, q, to, done, arg))
		return;
	stop_gate(r);
	move_begin(&m, r, &r->rollout);
	begin(&m, q, to);
	if (!gate) {
		rollout_entered(&m.want.rollout, control_now_ms());
		m.want.weight_bp = rollout_weight(&m.want.rollout);
		step_text(why, &m.want.rollout);
	}
	n_timeline = r->n_timeline;
	r->n_timeline = 0;
	m.round = change_round(done, arg);
	if (!move(&m, why)) {
		r->n_timeline = n_timeline;
		change_round_drop(m.round);
		refused_by_disk(m.err, done, arg);
		return;
	}
	control_record(
	    c, s, ch, "rollout start", color_name(course_live(m.seen)), color_name(to), "", NULL);
	announce(r, "rollout_started", ch->reason);
	if (gate) {
		ask_gate(r);
	} else {
		control_record(c, s, ch, "step", "", why, "", NULL);
		announce(r, "step", "");
	}
}

/* What an operator says to a rollout under way. */
static void
steer(struct control *c, struct service *s, const struct rollout_request *q,
    const struct change *ch, change_done *done, void *arg)
{
	struct release *r = &c->releases[s->index];
	struct rollout next = r->rollout;
	enum rollout_act act = ROLLOUT_STAY;
	const char *refused = NULL;
	struct round *round;
	char err[256] = "";
	bool did = false;

	switch (q->order) {
	case DO_START:
		return;
	case DO_PAUSE:
		refused = rollout_pause(&next, ch->reason, &act);
		break;
	case DO_RESUME:
		refused = rollout_resume(&next, &act);
		break;
	case DO_PROMOTE:
		refused = rollout_promote(&next, q->full, &act);
		break;
	case DO_ABORT:
		refused = rollout_abort(
		    &next, ch->reason[0] != '\0' ? ch->reason : "aborted by hand", &act);
		break;
	}
	if (refused != NULL) {
		const char *code = q->order == DO_RESUME ? "not-paused" : "not-now";

		change_refuse(done, arg, 409, rollout_active(&r->rollout) ? code : "no-rollout",
		    "%s", refused);
		return;
	}
	round = change_round(done, arg);
	/* what it leads to is recorded by itself; this is who asked for it */
	switch (act) {
	case ROLLOUT_NEXT:
		did = go_on(r, &next, ch, round, err, sizeof(err));
		break;
	case ROLLOUT_PROMOTE:
		did = promote(r, &next, ch, round, err, sizeof(err));
		break;
	case ROLLOUT_GIVE_UP:
		did = give_up(r, &next, ch, "abort", round, err, sizeof(err));
		break;
	case ROLLOUT_STAY:
	case ROLLOUT_SAY:
		if (q->order == DO_PAUSE)
			stop_gate(r);
		did = say(r, &next, ch, q->order == DO_PAUSE ? "rollout pause" : "rollout resume",
		    q->order == DO_PAUSE ? "paused" : "resumed", round, err, sizeof(err));
		break;
	}
	if (did && (act == ROLLOUT_NEXT || act == ROLLOUT_PROMOTE))
		control_record(c, s, ch,
		    q->order == DO_RESUME ? "rollout resume" : "rollout promote", "", "", "", NULL);
	if (did)
		return;
	change_round_drop(round);
	refused_by_disk(err, done, arg);
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

/* --- life ----------------------------------------------------------------------------------------------- */

void
releases_init(struct control *c, const struct state *state)
{
	c->releases = calloc(c->config->n_services + 1, sizeof(struct release));
	ENSURE(c->releases != NULL);
	for (unsigned i = 0; i < c->config->n_services; i++) {
		struct release *r = &c->releases[i];
		const char *name = c->config->services[i].name;
		const struct state_service *saved =
		    state_find((struct state *)(uintptr_t)state, name, false);
		char err[256];

		r->control = c;
		r->service = i;
		r->evidence = evidence_load(c->config->state_directory, name, err, sizeof(err));
		if (r->evidence == NULL && err[0] != '\0')
			log_warn("%s: %s", name, err);
		if (saved == NULL)
			continue;
		r->rollout = saved->rollout;
		r->trip = saved->trip;
		r->rollout_wall_ms = saved->rollout_wall_ms;
		r->step_wall_ms = saved->step_wall_ms;
		memcpy(r->trips, saved->trips, sizeof(r->trips));
	}
}

void
releases_start(struct control *c)
{
	c->beat = event_new(c->base, -1, EV_PERSIST, on_beat, c);
	ENSURE(c->beat != NULL);
	for (unsigned i = 0; i < c->config->n_services; i++) {
		struct release *r = &c->releases[i];
		uint32_t course = service_course(service_of(r)->state);

		if (course_weight(course) != 0) {
			guard_weight(
			    service_of(r)->state, true, course_weight(course), control_now_ms());
			release_point(r, course_weight(course), "restart");
		}
		if (rollout_active(&r->rollout))
			log_info("%s: the rollout to %s goes on: %s at step %u of %u", name_of(r),
			    color_name(r->rollout.to), rollout_state_name(r->rollout.state),
			    r->rollout.step + 1, r->rollout.n_steps);
		if (awake(r))
			releases_wake(c);
	}
}

void
releases_fini(struct control *c)
{
	for (unsigned i = 0; c->releases != NULL && i < c->config->n_services; i++) {
		stop_gate(&c->releases[i]);
		json_decref(c->releases[i].evidence);
	}
	free(c->releases);
	if (c->beat != NULL)
		event_free(c->beat);
}

void
releases_save(const struct control *c, struct state *state)
{
	for (unsigned i = 0; c->releases != NULL && i < c->config->n_services; i++) {
		const struct release *r = &c->releases[i];
		struct state_service *to = state_find(state, c->config->services[i].name, true);

		ENSURE(to != NULL);
		to->rollout = r->rollout;
		to->trip = r->trip;
		to->rollout_wall_ms = r->rollout_wall_ms;
		to->step_wall_ms = r->step_wall_ms;
		memcpy(to->trips, r->trips, sizeof(to->trips));
	}
}
