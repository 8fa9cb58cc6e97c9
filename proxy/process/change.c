/*
 * Every change an operator makes to a service, in one order: check, write to disk, obey, answer.
 *
 *      begin -> (refused: answered at once)
 *            -> state file written -> stored where workers look -> every worker has passed a turn
 *            -> done()
 *
 * When the disk refuses, nothing has changed.  Pools are in change_pool.c, rollouts in steer.c.
 * Control thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/guard.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/control_private.h"

struct pending {
	struct round round; /* first */
	change_done *done;
	void *arg;
	struct change_result result;
};

void
change_refuse(change_done *done, void *arg, unsigned status, const char *code, const char *fmt, ...)
{
	struct change_result r = {.http_status = status, .code = code};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r.message, sizeof(r.message), fmt, ap);
	va_end(ap);
	done(arg, &r);
}

bool
change_stale(const struct service *s, const struct change *ch, change_done *done, void *arg)
{
	uint64_t epoch = atomic_load(&s->state->epoch);

	if (!ch->has_epoch || ch->if_epoch == epoch)
		return false;
	change_refuse(done, arg, 409, "stale-epoch",
	    "the service is at epoch %llu, not %llu: somebody changed it",
	    (unsigned long long)epoch, (unsigned long long)ch->if_epoch);
	return true;
}

static void
all_obey(struct round *r)
{
	struct pending *p = (struct pending *)(void *)r;

	p->done(p->arg, &p->result);
	free(p);
}

struct round *
change_round(change_done *done, void *arg)
{
	struct pending *p = calloc(1, sizeof(*p));

	ENSURE(p != NULL);
	p->round.done = all_obey;
	p->done = done;
	p->arg = arg;
	p->result.http_status = 200;
	p->result.code = "ok";
	return &p->round;
}

void
change_round_drop(struct round *r)
{
	free(r);
}

/* --- what a service is and shall be ------------------------------------------------------ */

void
want_now(struct want *w, struct control *c, const struct service *s, uint32_t seen)
{
	const struct release *r = &c->releases[s->index];

	w->live = course_live(seen);
	w->weight_bp = course_weight(seen);
	w->tripped = course_tripped(seen);
	w->maintenance = atomic_load(&s->state->maintenance);
	w->rollout = r->rollout;
	w->trip = r->trip;
	for (unsigned i = 0; i < 2; i++)
		w->split_key[i] = atomic_load(&s->state->split_key[i]);
	w->rollout_wall_ms = r->rollout_wall_ms;
	w->step_wall_ms = r->step_wall_ms;
}

/* A worker has tripped and its letter is still on its way: the file must not say that all is
 * well. */
static void
save_unheard_trips(
    struct control *c, struct state *state, const struct service *s, const struct want *w)
{
	for (unsigned i = 0; i < c->config->n_services; i++) {
		struct state_service *to = state_find(state, c->config->services[i].name, true);

		ENSURE(to != NULL);
		if (to->trip.on || !course_tripped(service_course(&c->roster.states[i])) ||
		    (s != NULL && s->index == i && !w->tripped))
			continue;
		to->trip.on = true;
		to->trip.wall_ms = control_wall_ms();
		to->trip.rule = RULE_FAILURE_RATE;
		snprintf(to->trip.reason, sizeof(to->trip.reason),
		    "tripped by a worker just before the end; its verdict was lost");
		to->weight_bp = 0;
		rollout_tripped(&to->rollout, to->trip.reason);
	}
}

int
control_save(
    struct control *c, const struct service *s, const struct want *w, char *err, size_t err_size)
{
	struct state *state = calloc(1, sizeof(*state));
	struct state_service *to;
	int result;

	ENSURE(state != NULL);
	roster_save(&c->roster, state);
	releases_save(c, state);
	if (s != NULL) {
		to = state_find(state, s->config->name, true);
		ENSURE(to != NULL);
		to->live = w->live;
		to->weight_bp = w->weight_bp;
		to->maintenance = w->maintenance;
		to->epoch++;
		to->rollout = w->rollout;
		to->trip = w->trip;
		to->rollout_wall_ms = w->rollout_wall_ms;
		to->step_wall_ms = w->step_wall_ms;
		memcpy(to->split_key, w->split_key, sizeof(to->split_key));
	}
	save_unheard_trips(c, state, s, w);
	result = state_save(c->config->state_directory, state, err, err_size);
	state_free(state);
	if (result == -1 && !c->save_fails) {
		log_error("state not written: %s", err);
		events_emit(c->events, "state_not_written", s != NULL ? s->config->name : "",
		    json_pack("{s:s}", "reason", err));
	} else if (result == 0) {
		c->save_soon = false;
		if (c->save_fails)
			log_info("state: written again");
	}
	c->save_fails = result == -1;
	return result;
}

static uint32_t
wanted_course(const struct want *w)
{
	return course_of(w->live, w->weight_bp) | (w->tripped ? COURSE_TRIPPED : 0);
}

int
control_obey(struct control *c, struct service *s, const struct want *w, uint32_t seen,
    const char *why, struct round *round)
{
	struct release *r = &c->releases[s->index];
	struct service_state *state = s->state;
	uint32_t course = wanted_course(w);
	char err[256];
	bool flipped = w->live != course_live(seen);
	bool begins = w->weight_bp != 0 && (course_weight(seen) == 0 || flipped);

	if (begins)
		r->n_failures = 0;
	for (unsigned i = 0; i < 2; i++)
		atomic_store(&state->split_key[i], w->split_key[i]);
	if (course != seen) {
		/* first the guard, so that the first request of the new weight finds it awake; but
		 * it must not fall asleep before it is sure that no worker has tripped */
		if (w->weight_bp != 0)
			guard_weight(state, begins, w->weight_bp, control_now_ms());
		if (!atomic_compare_exchange_strong(&state->course, &seen, course)) {
			/* a worker has tripped: what was just written must not outlive this moment */
			(void)control_save(c, NULL, NULL, err, sizeof(err));
			return -1;
		}
		if (w->weight_bp == 0)
			guard_weight(state, false, 0, control_now_ms());
		if (flipped || w->weight_bp != course_weight(seen))
			release_point(r, w->weight_bp, why);
	}
	r->rollout = w->rollout;
	r->trip = w->trip;
	r->rollout_wall_ms = w->rollout_wall_ms;
	r->step_wall_ms = w->step_wall_ms;
	r->saved_ms = control_now_ms();
	r->refusal[0] = '\0';
	atomic_store(&state->maintenance, w->maintenance);
	atomic_fetch_add(&state->epoch, 1);
	releases_wake(c);
	if (flipped)
		control_leave(c, s, course_live(seen), false, round);
	else if (w->weight_bp == 0 && course_weight(seen) != 0)
		control_leave(c, s, color_other(w->live), false, round);
	else
		control_order(c, ORDER_BARRIER, round);
	return 0;
}

void
control_record(struct control *c, const struct service *s, const struct change *by,
    const char *action, const char *from, const char *to, const char *reason,
    const struct verdict *v)
{
	struct audit_entry e = {.service = s->config->name,
	    .action = action,
	    .from = from,
	    .to = to,
	    .epoch = atomic_load(&s->state->epoch),
	    .by = by,
	    .reason = reason,
	    .verdict = v};
	char who[64] = "teal", err[256];

	if (by != NULL) {
		snprintf(who, sizeof(who), "uid %u, pid %d", (unsigned)by->uid, (int)by->pid);
		if (by->reason[0] != '\0')
			e.reason = reason = by->reason;
	}
	log_info("%s: %s%s%s%s%s (%s)%s%s", s->config->name, action, from[0] != '\0' ? " " : "",
	    from, to[0] != '\0' ? " -> " : "", to, who, reason[0] != '\0' ? ": " : "", reason);
	if (audit_write(c->audit, &e, err, sizeof(err)) == -1) {
		log_error("audit log: %s", err);
		events_emit(c->events, "state_not_written", s->config->name,
		    json_pack(
			"{s:s, s:o}", "file", "audit.log", "reason", json_string_nocheck(err)));
	}
	events_emit(c->events, "change", s->config->name, audit_last(c->audit));
}

/* --- the operator's changes ----------------------------------------------------------------- */

static bool
has_backends(const struct service *s, enum color color)
{
	return s->pools[color].n_members != 0;
}

/* Saved, obeyed, told.  Answers in every case; true: done. */
static bool
commit(struct control *c, struct service *s, const struct want *w, uint32_t seen,
    const struct change *ch, const char *action, const char *from, const char *to,
    change_done *done, void *arg)
{
	struct round *round;
	char err[256];

	if (control_save(c, s, w, err, sizeof(err)) == -1) {
		change_refuse(
		    done, arg, 507, "state-not-written", "the change was refused: %s", err);
		return false;
	}
	round = change_round(done, arg);
	if (control_obey(c, s, w, seen, "by hand", round) == -1) {
		change_round_drop(round);
		change_refuse(done, arg, 409, "tripped",
		    "the candidate was tripped at this moment: nothing was changed");
		return false;
	}
	control_record(c, s, ch, action, from, to, "", NULL);
	return true;
}

static void
print_weight(char out[16], unsigned bp)
{
	snprintf(out, 16, bp % 100 == 0 ? "%u %%" : "%u.%02u %%", bp / 100, bp % 100);
}

void
control_weight(struct control *c, struct service *s, unsigned weight_bp, const struct change *ch,
    change_done *done, void *arg)
{
	uint32_t seen = service_course(s->state);
	enum color candidate = color_other(course_live(seen));
	struct want w;
	char from[16], to[16];

	if (change_stale(s, ch, done, arg))
		return;
	want_now(&w, c, s, seen);
	if (w.tripped && weight_bp > 0) {
		change_refuse(done, arg, 409, "tripped",
		    "%s was tripped: rearm before it gets traffic again", color_name(candidate));
		return;
	}
	if (rollout_active(&w.rollout)) {
		change_refuse(done, arg, 409, "rollout-active",
		    "a rollout is under way: abort it before setting the weight by hand");
		return;
	}
	if (weight_bp > 0 && !has_backends(s, candidate)) {
		change_refuse(done, arg, 409, "no-backends",
		    "%s has no backends: nothing to send %u.%02u %% to", color_name(candidate),
		    weight_bp / 100, weight_bp % 100);
		return;
	}
	print_weight(from, w.weight_bp);
	print_weight(to, weight_bp);
	w.weight_bp = weight_bp;
	(void)commit(c, s, &w, seen, ch, "weight", from, to, done, arg);
}

void
control_flip(struct control *c, struct service *s, enum color color, const struct change *ch,
    change_done *done, void *arg)
{
	uint32_t seen = service_course(s->state);
	struct rollout before;
	enum rollout_act act;
	struct want w;

	if (change_stale(s, ch, done, arg))
		return;
	if (!has_backends(s, color)) {
		change_refuse(
		    done, arg, 409, "no-backends", "%s has no backends", color_name(color));
		return;
	}
	want_now(&w, c, s, seen);
	before = w.rollout;
	if (w.tripped && !w.trip.on) {
		change_refuse(done, arg, 409, "tripped",
		    "the candidate was tripped at this moment: look at why, then flip");
		return;
	}
	if (rollout_active(&w.rollout)) {
		if (color == w.rollout.to)
			(void)rollout_promote(&w.rollout, true, &act);
		else
			(void)rollout_abort(&w.rollout, "flipped back by hand", &act);
		w.rollout_wall_ms = control_wall_ms();
	}
	if (color != w.live) {
		/* who insists on a tripped color has re-admitted it */
		w.tripped = false;
		w.trip = (struct state_trip){0};
	}
	w.live = color;
	w.weight_bp = 0;
	if (commit(c, s, &w, seen, ch, "flip", color_name(course_live(seen)), color_name(color),
		done, arg) &&
	    rollout_active(&before))
		release_flipped(&c->releases[s->index], &before);
}

void
control_maintenance(struct control *c, struct service *s, bool on, const struct change *ch,
    change_done *done, void *arg)
{
	uint32_t seen = service_course(s->state);
	struct want w;

	if (change_stale(s, ch, done, arg))
		return;
	want_now(&w, c, s, seen);
	w.maintenance = on;
	(void)commit(
	    c, s, &w, seen, ch, "maintenance", on ? "off" : "on", on ? "on" : "off", done, arg);
}

void
control_rearm(
    struct control *c, struct service *s, const struct change *ch, change_done *done, void *arg)
{
	uint32_t seen = service_course(s->state);
	struct want w;

	if (change_stale(s, ch, done, arg))
		return;
	want_now(&w, c, s, seen);
	if (!w.tripped && !w.trip.on) {
		change_refuse(done, arg, 409, "not-tripped", "nothing was tripped");
		return;
	}
	if (w.tripped && !w.trip.on) {
		change_refuse(done, arg, 409, "tripped",
		    "the candidate was tripped at this moment: look at why, then rearm");
		return;
	}
	w.tripped = false;
	w.trip = (struct state_trip){0};
	if (commit(c, s, &w, seen, ch, "rearm", "tripped", "", done, arg))
		events_emit(c->events, "rearmed", s->config->name, NULL);
}
