/*
 * Changes of who is in a pool, at run time: check, write to disk, publish a new snapshot, answer.
 *
 * When the disk refuses, nothing has changed.  Control thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/control_private.h"

/* Who was in the pool and who was drained, to go back to when the disk refuses. */
struct memory {
	bool *member, *drained;
	unsigned n;
};

static struct memory
remember(const struct roster *r)
{
	struct memory m = {calloc(r->n_backends + 1, sizeof(bool)),
	    calloc(r->n_backends + 1, sizeof(bool)), r->n_backends};

	ENSURE(m.member != NULL && m.drained != NULL);
	for (unsigned i = 0; i < m.n; i++) {
		m.member[i] = r->backends[i]->member;
		m.drained[i] = r->backends[i]->drained;
	}
	return m;
}

static void
forget(struct memory *m)
{
	free(m->member);
	free(m->drained);
}

/* Nothing has changed. */
static void
undo(struct roster *r, struct memory *m)
{
	for (unsigned i = 0; i < r->n_backends; i++) {
		r->backends[i]->member = i < m->n && m->member[i];
		r->backends[i]->drained = i < m->n && m->drained[i];
	}
	forget(m);
}

static bool
in_use(const struct service *s, enum color color)
{
	return color == service_live(s) || service_weight(s) != 0;
}

static void
refuse_empty(enum color color, change_done *done, void *arg)
{
	change_refuse(done, arg, 409, "pool-in-use",
	    "%s has traffic: it cannot be left without backends", color_name(color));
}

/* The pool has been changed in the roster: to disk, then to the workers. */
static void
commit_pool(struct control *c, struct service *s, enum color color, struct memory *before,
    const struct change *ch, const char *action, const char *what, change_done *done, void *arg)
{
	uint32_t seen = service_course(s->state);
	struct round *round;
	struct want w;
	char err[256];

	want_now(&w, c, s, seen);
	if (control_save(c, s, &w, err, sizeof(err)) == -1) {
		undo(&c->roster, before);
		change_refuse(
		    done, arg, 507, "state-not-written", "the change was refused: %s", err);
		return;
	}
	forget(before);
	atomic_fetch_add(&s->state->epoch, 1);
	probes_follow(c->probes, &c->roster);
	watch_show(c);
	control_record(c, s, ch, action, color_name(color), what, "", NULL);
	round = change_round(done, arg);
	if (control_publish(c, round) == -1) {
		log_error("out of memory: the new pool is used in a second");
		c->refleet = true;
		control_order(c, ORDER_BARRIER, round);
	}
}

/* "10.0.0.1:80 10.0.0.2:80", cut. */
static const char *
list(char out[512], const char *const *addresses, unsigned n)
{
	size_t used = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < n && used < 512; i++)
		used += (size_t)snprintf(
		    out + used, 512 - used, "%s%s", i > 0 ? " " : "", addresses[i]);
	return out;
}

/* Everybody in `addresses` into the pool.  false: answered. */
static bool
join(struct control *c, struct service *s, enum color color, const char *const *addresses,
    unsigned n, change_done *done, void *arg)
{
	char err[256];

	for (unsigned i = 0; i < n; i++) {
		struct known_backend *k =
		    roster_backend(&c->roster, s->index, color, addresses[i], err, sizeof(err));

		if (k == NULL) {
			change_refuse(done, arg, 400, "bad-address", "%s: %s", addresses[i], err);
			return false;
		}
		if (!k->member) /* slow start counts from here */
			atomic_store(&k->backend.up_since_ms, control_now_ms());
		k->drained = false;
		k->member = true;
		if (k->target.n == 0)
			control_resolve(c, k, true);
	}
	return true;
}

/* The pool gets `addresses`; set: instead of those it has. */
static void
take_in(struct control *c, struct service *s, enum color color, const char *const *addresses,
    unsigned n, bool set, const struct change *ch, change_done *done, void *arg)
{
	struct memory before = remember(&c->roster);
	char text[512];

	for (unsigned i = 0; set && i < c->roster.n_backends; i++) {
		struct known_backend *k = c->roster.backends[i];

		if (k->service == s->index && k->backend.color == color)
			k->member = false;
	}
	if (!join(c, s, color, addresses, n, done, arg)) {
		undo(&c->roster, &before);
		return;
	}
	commit_pool(c, s, color, &before, ch, set ? "backend set" : "backend add",
	    list(text, addresses, n), done, arg);
}

void
control_pool_set(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *ch, change_done *done, void *arg)
{
	if (change_stale(s, ch, done, arg))
		return;
	if (n == 0 && in_use(s, color)) {
		refuse_empty(color, done, arg);
		return;
	}
	take_in(c, s, color, addresses, n, true, ch, done, arg);
}

void
control_backend_add(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *ch, change_done *done, void *arg)
{
	if (!change_stale(s, ch, done, arg))
		take_in(c, s, color, addresses, n, false, ch, done, arg);
}

static unsigned
members(const struct control *c, const struct service *s, enum color color)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->roster.n_backends; i++) {
		const struct known_backend *k = c->roster.backends[i];

		n += k->member && k->service == s->index && k->backend.color == color;
	}
	return n;
}

void
control_backend_remove(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *ch, change_done *done, void *arg)
{
	struct memory before;
	char text[512];

	if (change_stale(s, ch, done, arg))
		return;
	before = remember(&c->roster);
	for (unsigned i = 0; i < n; i++) {
		struct known_backend *k = roster_find(&c->roster, s->index, color, addresses[i]);

		if (k == NULL || !k->member) {
			undo(&c->roster, &before);
			change_refuse(done, arg, 404, "unknown-backend", "%s is not in pool %s",
			    addresses[i], color_name(color));
			return;
		}
		k->member = false;
	}
	if (members(c, s, color) == 0 && in_use(s, color)) {
		undo(&c->roster, &before);
		refuse_empty(color, done, arg);
		return;
	}
	commit_pool(
	    c, s, color, &before, ch, "backend remove", list(text, addresses, n), done, arg);
}

void
control_backend_drain(struct control *c, struct service *s, enum color color, const char *address,
    bool drain, const struct change *ch, change_done *done, void *arg)
{
	struct known_backend *k = roster_find(&c->roster, s->index, color, address);
	struct memory before;

	if (change_stale(s, ch, done, arg))
		return;
	if (k == NULL || !k->member) {
		change_refuse(done, arg, 404, "unknown-backend", "%s is not in pool %s", address,
		    color_name(color));
		return;
	}
	before = remember(&c->roster);
	k->drained = drain;
	commit_pool(c, s, color, &before, ch, drain ? "backend drain" : "backend undrain", address,
	    done, arg);
}
