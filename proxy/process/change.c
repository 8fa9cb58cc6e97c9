/*
 * Every change an operator makes, in one order: check, write to disk, obey, answer.
 *
 *      begin -> (refused: answered at once)
 *            -> state file written -> stored where workers look -> every worker has passed a turn -> done()
 *
 * When the disk refuses, nothing has changed.  Control thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/control_private.h"

struct pending {
	struct round round; /* first */
	change_done *done;
	void *arg;
	struct change_result result;
};

static void __attribute__((format(printf, 5, 6)))
refuse(change_done *done, void *arg, unsigned status, const char *code, const char *fmt, ...)
{
	struct change_result r = {.http_status = status, .code = code};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r.message, sizeof(r.message), fmt, ap);
	va_end(ap);
	done(arg, &r);
}

/* true: somebody else changed the service since the caller looked. */
static bool
stale(const struct service *s, const struct change *ch, change_done *done, void *arg)
{
	uint64_t epoch = atomic_load(&s->state->epoch);

	if (!ch->has_epoch || ch->if_epoch == epoch)
		return false;
	refuse(done, arg, 409, "stale-epoch",
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

static struct round *
pending(change_done *done, void *arg)
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

/* Writes what the fleet is now with this service's entry as given.  false: refused, already answered. */
static bool
durable(struct control *c, const struct service *s, enum color live, unsigned weight_bp,
    bool maintenance, change_done *done, void *arg)
{
	struct state *state = calloc(1, sizeof(*state));
	struct state_service *entry;
	char err[256];
	int result;

	ENSURE(state != NULL);
	roster_save(&c->roster, state);
	entry = state_find(state, s->config->name, true);
	ENSURE(entry != NULL);
	entry->live = live;
	entry->weight_bp = weight_bp;
	entry->maintenance = maintenance;
	entry->epoch++;
	result = state_save(c->config->state_directory, state, err, sizeof(err));
	state_free(state);
	if (result == 0)
		return true;
	log_error("state not written, change refused: %s", err);
	refuse(done, arg, 507, "state-not-written", "the change was refused: %s", err);
	return false;
}

static void
say(const struct service *s, const struct change *ch, const char *what)
{
	log_info("%s: %s (uid %u, pid %d%s%s)", s->config->name, what, (unsigned)ch->uid,
	    (int)ch->pid, ch->reason[0] != '\0' ? ", reason: " : "", ch->reason);
}

static bool
maintained(const struct service *s)
{
	return atomic_load(&s->state->maintenance);
}

static bool
has_backends(const struct service *s, enum color color)
{
	return s->pools[color].n_members != 0;
}

void
control_weight(struct control *c, struct service *s, unsigned weight_bp, const struct change *ch,
    change_done *done, void *arg)
{
	char what[96];

	if (stale(s, ch, done, arg))
		return;
	if (weight_bp > 0 && !has_backends(s, service_candidate(s))) {
		refuse(done, arg, 409, "no-backends",
		    "%s has no backends: nothing to send %u.%02u %% to",
		    color_name(service_candidate(s)), weight_bp / 100, weight_bp % 100);
		return;
	}
	if (!durable(c, s, service_live(s), weight_bp, maintained(s), done, arg))
		return;
	snprintf(what, sizeof(what), "weight of %s %u.%02u %% -> %u.%02u %%",
	    color_name(service_candidate(s)), service_weight(s) / 100, service_weight(s) % 100,
	    weight_bp / 100, weight_bp % 100);
	say(s, ch, what);
	atomic_store(&s->state->course, course_of(service_live(s), weight_bp));
	atomic_fetch_add(&s->state->epoch, 1);
	control_order(c, ORDER_BARRIER, pending(done, arg));
}

void
control_flip(struct control *c, struct service *s, enum color color, const struct change *ch,
    change_done *done, void *arg)
{
	char what[64];

	if (stale(s, ch, done, arg))
		return;
	if (!has_backends(s, color)) {
		refuse(done, arg, 409, "no-backends", "%s has no backends", color_name(color));
		return;
	}
	if (!durable(c, s, color, 0, maintained(s), done, arg))
		return;
	snprintf(what, sizeof(what), "flip to %s, live was %s", color_name(color),
	    color_name(service_live(s)));
	say(s, ch, what);
	atomic_store(&s->state->course, course_of(color, 0));
	atomic_fetch_add(&s->state->epoch, 1);
	control_order(c, ORDER_BARRIER, pending(done, arg));
}

void
control_maintenance(struct control *c, struct service *s, bool on, const struct change *ch,
    change_done *done, void *arg)
{
	if (stale(s, ch, done, arg))
		return;
	if (!durable(c, s, service_live(s), service_weight(s), on, done, arg))
		return;
	say(s, ch, on ? "maintenance on" : "maintenance off");
	atomic_store(&s->state->maintenance, on);
	atomic_fetch_add(&s->state->epoch, 1);
	control_order(c, ORDER_BARRIER, pending(done, arg));
}

/* --- pools --------------------------------------------------------------------------- */

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

static void
go_back(struct roster *r, const struct memory *m)
{
	for (unsigned i = 0; i < r->n_backends; i++) {
		r->backends[i]->member = i < m->n && m->member[i];
		r->backends[i]->drained = i < m->n && m->drained[i];
	}
}

/* What the operator's word makes of the states workers look at.  Who has left the pool keeps its state: a worker
 * that has not adopted the new fleet yet may still send it something. */
static void
show_states(struct roster *r)
{
	for (unsigned i = 0; i < r->n_backends; i++) {
		struct known_backend *k = r->backends[i];
		enum backend_state now = k->drained ? BACKEND_DRAINING : BACKEND_UP;

		if (!k->member)
			continue;
		if (atomic_exchange(&k->backend.state, (int)now) != (int)BACKEND_UP &&
		    now == BACKEND_UP)
			atomic_store(&k->backend.up_since_ms, control_now_ms());
	}
}

/* The pool has been changed in the roster: to disk, then to the workers. */
static void
commit_pool(struct control *c, struct service *s, enum color color, struct memory *before,
    const struct change *ch, const char *what, change_done *done, void *arg)
{
	struct round *round;
	char line[256];

	if (!durable(c, s, service_live(s), service_weight(s), maintained(s), done, arg)) {
		go_back(&c->roster, before);
		forget(before);
		return;
	}
	forget(before);
	snprintf(line, sizeof(line), "pool %s: %s", color_name(color), what);
	say(s, ch, line);
	atomic_fetch_add(&s->state->epoch, 1);
	show_states(&c->roster);
	round = pending(done, arg);
	if (control_publish(c, round) == -1) {
		log_error("out of memory: the new pool is used in a second");
		c->refleet = true;
		control_order(c, ORDER_BARRIER, round);
	}
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
			refuse(done, arg, 400, "bad-address", "%s: %s", addresses[i], err);
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

void
control_pool_set(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *ch, change_done *done, void *arg)
{
	struct memory before;

	if (stale(s, ch, done, arg))
		return;
	if (n == 0 && (color == service_live(s) || service_weight(s) != 0)) {
		refuse(done, arg, 409, "pool-in-use",
		    "%s has traffic: it cannot be left without backends", color_name(color));
		return;
	}
	before = remember(&c->roster);
	for (unsigned i = 0; i < c->roster.n_backends; i++) {
		struct known_backend *k = c->roster.backends[i];

		if (k->service == s->index && k->backend.color == color)
			k->member = false;
	}
	if (!join(c, s, color, addresses, n, done, arg)) {
		go_back(&c->roster, &before);
		forget(&before);
		return;
	}
	commit_pool(c, s, color, &before, ch, "backends replaced", done, arg);
}

void
control_backend_add(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *ch, change_done *done, void *arg)
{
	struct memory before;

	if (stale(s, ch, done, arg))
		return;
	before = remember(&c->roster);
	if (!join(c, s, color, addresses, n, done, arg)) {
		go_back(&c->roster, &before);
		forget(&before);
		return;
	}
	commit_pool(c, s, color, &before, ch, "backends added", done, arg);
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

	if (stale(s, ch, done, arg))
		return;
	before = remember(&c->roster);
	for (unsigned i = 0; i < n; i++) {
		struct known_backend *k = roster_find(&c->roster, s->index, color, addresses[i]);

		if (k == NULL || !k->member) {
			go_back(&c->roster, &before);
			forget(&before);
			refuse(done, arg, 404, "unknown-backend", "%s is not in pool %s",
			    addresses[i], color_name(color));
			return;
		}
		k->member = false;
	}
	if (members(c, s, color) == 0 && (color == service_live(s) || service_weight(s) != 0)) {
		go_back(&c->roster, &before);
		forget(&before);
		refuse(done, arg, 409, "pool-in-use",
		    "%s has traffic: it cannot be left without backends", color_name(color));
		return;
	}
	commit_pool(c, s, color, &before, ch, "backends removed", done, arg);
}

void
control_backend_drain(struct control *c, struct service *s, enum color color, const char *address,
    bool drain, const struct change *ch, change_done *done, void *arg)
{
	struct known_backend *k = roster_find(&c->roster, s->index, color, address);
	struct memory before;
	char what[160];

	if (stale(s, ch, done, arg))
		return;
	if (k == NULL || !k->member) {
		refuse(done, arg, 404, "unknown-backend", "%s is not in pool %s", address,
		    color_name(color));
		return;
	}
	before = remember(&c->roster);
	k->drained = drain;
	snprintf(what, sizeof(what), "%s %s", address, drain ? "drained" : "active again");
	commit_pool(c, s, color, &before, ch, what, done, arg);
}
