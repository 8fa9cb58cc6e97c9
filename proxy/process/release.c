/* The release of each service as control keeps it.  See release.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/guard.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/release_private.h"

#define BEAT_MS 100

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
	if (since != atomic_load(&release_service(r)->state->guarded_since_ms) ||
	    r->n_failures == EVIDENCE_FAILURES)
		return;
	r->failures[r->n_failures++] = *f;
}

/* --- evidence --------------------------------------------------------------------------- */

static unsigned
describe_backends(const struct release *r, struct evidence_backend *out, unsigned max)
{
	const struct service *s = release_service(r);
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

/* What the disk refuses is tried again each second. */
static bool
save_evidence(struct release *r, char *err, size_t err_size)
{
	r->evidence_unsaved = evidence_save(r->control->config->state_directory, release_name(r),
				  r->evidence, err, err_size) == -1;
	return !r->evidence_unsaved;
}

#define EVIDENCE_BACKENDS 64 /* of both colors; more say nothing more */

void
release_keep_evidence(struct release *r, const char *action, const char *reason,
    const struct verdict *v, const struct rollout *before, enum color live, unsigned weight_bp)
{
	struct evidence_backend *backends = calloc(EVIDENCE_BACKENDS, sizeof(*backends));
	struct evidence e = {.service = release_name(r),
	    .wall_ms = control_wall_ms(),
	    .live = live,
	    .candidate = color_other(live),
	    .weight_bp = weight_bp,
	    .epoch = atomic_load(&release_service(r)->state->epoch),
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
	if (r->evidence == NULL)
		log_error("%s: evidence not written: out of memory", e.service);
	else if (!save_evidence(r, err, sizeof(err)))
		log_error("%s: evidence not written: %s", e.service, err);
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
	(void)json_object_set_new(j, "weight", json_real(course_weight(release_course(r)) / 100.0));
	if (reason[0] != '\0')
		(void)json_object_set_new(j, "reason", json_string_nocheck(reason));
	return j;
}

void
release_announce(const struct release *r, const char *type, const char *reason)
{
	events_emit(r->control->events, type, release_name(r), progress(r, reason));
}

void
release_flipped(struct release *r, const struct rollout *before)
{
	enum color live = course_live(release_course(r));

	gate_stop(r);
	if (r->rollout.state == ROLLOUT_PROMOTED) {
		release_announce(r, "promoted", r->rollout.reason);
		return;
	}
	release_keep_evidence(r, "abort", r->rollout.reason, r->looked ? &r->verdict : NULL, before,
	    live, rollout_weight(before));
	release_announce(r, "rolled_back", r->rollout.reason);
}

/* --- trips ------------------------------------------------------------------------------------ */

/* All of it is in the release already. */
static void
save_trip(struct release *r)
{
	char err[256];

	r->unsaved = control_save(r->control, NULL, NULL, err, sizeof(err)) == -1;
	r->again_ms = control_now_ms() + RELEASE_AGAIN_MS;
	if (r->unsaved)
		releases_wake(r->control);
}

void
release_tripped(struct release *r, const struct verdict *v)
{
	struct control *c = r->control;
	struct service *s = release_service(r);
	enum color live = course_live(service_course(s->state)), candidate = color_other(live);
	unsigned weight_bp = r->n_timeline > 0 ? r->timeline[r->n_timeline - 1].weight_bp : 0;
	struct rollout before = r->rollout;

	if (r->trip.on || !course_tripped(service_course(s->state)))
		return; /* an operator has decided meanwhile */
	gate_stop(r);
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
	log_warn("%s: %s is TRIPPED by %s: %s; all traffic is on %s", release_name(r),
	    color_name(candidate), rule_name(v->rule), v->reason, color_name(live));
	release_keep_evidence(r, "trip", v->reason, v, &before, live, weight_bp);
	control_record(c, s, NULL, "trip", color_name(candidate), color_name(live), v->reason, v);
	release_announce(r, "tripped", v->reason);
	if (rollout_active(&before))
		release_announce(r, "rolled_back", v->reason);
}

/* --- the beat ------------------------------------------------------------------------------- */

static bool
awake(const struct release *r)
{
	return course_weight(release_course(r)) != 0 || rollout_active(&r->rollout) || r->unsaved;
}

/* What teal does by itself. */
static void
act_on(struct release *r, const struct rollout *next, enum rollout_act act)
{
	bool frozen = next->frozen != r->rollout.frozen;
	struct move m;

	if (act == ROLLOUT_STAY) {
		r->rollout = *next;
		return;
	}
	move_begin(&m, r, next, NULL, NULL);
	switch (act) {
	case ROLLOUT_STAY:
		break;
	case ROLLOUT_NEXT:
		(void)move_on(&m);
		break;
	case ROLLOUT_PROMOTE:
		(void)move_promote(&m);
		break;
	case ROLLOUT_GIVE_UP:
		(void)move_back(&m, "inconclusive");
		break;
	case ROLLOUT_SAY:
		if (next->state == ROLLOUT_PAUSED)
			(void)move_say(&m, "inconclusive", "inconclusive");
		else if (frozen)
			(void)move_say(&m, next->frozen ? "frozen" : "goes on",
			    next->frozen ? "frozen" : "resumed");
		else
			(void)move_say(&m, "waiting", "waiting");
		break;
	}
}

/* The hold's progress, so that a restart goes on with it; one write a second for all services
 * (releases_second()). */
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
	struct service *s = release_service(r);
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
		if (r->gate != NULL || release_no_way_back(r))
			return;
		if (release_config(r)->gate.command.n != 0)
			gate_ask(r);
		else
			act_on(r, &next, ROLLOUT_NEXT);
		return;
	}
	if (!r->looked || course_weight(course) == 0)
		return;
	act_on(r, &next, rollout_tick(&next, release_config(r), &r->verdict, now));
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
	for (unsigned i = 0; i < c->config->n_services; i++) {
		struct release *r = &c->releases[i];

		if (r->evidence_unsaved && save_evidence(r, err, sizeof(err)))
			log_info("%s: evidence: written now", release_name(r));
	}
}

/* --- life ------------------------------------------------------------------------------ */

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
		uint32_t course = release_course(r);

		if (course_weight(course) != 0) {
			guard_weight(release_service(r)->state, true, course_weight(course),
			    control_now_ms());
			release_point(r, course_weight(course), "restart");
		}
		if (rollout_active(&r->rollout))
			log_info("%s: the rollout to %s goes on: %s at step %u of %u",
			    release_name(r), color_name(r->rollout.to),
			    rollout_state_name(r->rollout.state), r->rollout.step + 1,
			    r->rollout.n_steps);
		if (awake(r))
			releases_wake(c);
	}
}

void
releases_fini(struct control *c)
{
	for (unsigned i = 0; c->releases != NULL && i < c->config->n_services; i++) {
		gate_stop(&c->releases[i]);
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
