/*
 * Every backend's probes.  See probes.h.
 *
 * One libevent timer for all: it is set to the prober's next moment at the end of each turn.
 *
 * Owner: control.  Control thread.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "health/prober.h"
#include "proxy/base/obj.h"
#include "proxy/process/probe_io.h"
#include "proxy/process/probes.h"

/* Two probes of one backend that are due together share its connection, if they can. */
#define PUT_OFF_MS 100
/* The timer came so late: nobody could look at answers either.  Then sockets are looked at before
 * anybody's patience ends. */
#define STALL_MS 100
#define GRACE_MS 50

/* What a waiting waits for, beside the probes: startup's deadline. */
#define DEADLINE   ((unsigned)N_PROBES)
#define N_WAITINGS (N_PROBES + 1)

struct waiting {
	struct slot slot; /* first */
	struct watch *watch;
	unsigned what; /* enum probe_kind or DEADLINE */
	bool put_off;  /* once; then it gets a connection of its own */
	struct probe probe;
};

struct watch {
	struct probes *probes;
	struct known_backend *backend;
	const struct probe_config *config; /* N_PROBES of them */
	unsigned generation;               /* of the target */
	struct health health;
	struct probe_line *line;
	struct waiting waitings[N_WAITINGS];
};

struct probes {
	const struct config *config;
	probes_changed *changed;
	void *arg;
	struct probe_io *io;
	struct prober prober;
	struct event *timer;
	int64_t armed_ms;       /* the timer's; INT64_MAX: it is not set */
	struct watch **watches; /* by backend id */
	unsigned n_watches;
};

/* --- what follows from a result -------------------------------------------------------------- */

/* Which probes are to be asked has changed with the startup gate. */
static void
schedule(struct watch *w, int64_t now_ms)
{
	struct prober *prober = &w->probes->prober;

	for (unsigned i = 0; i < N_PROBES; i++) {
		struct waiting *x = &w->waitings[i];

		if (health_asks(&w->health, (enum probe_kind)i) && x->slot.place == 0 &&
		    x->probe.line == NULL)
			prober_first(prober, &x->slot, w->config[i].interval_ms, now_ms);
	}
	if (health_deadline(&w->health) == INT64_MAX)
		prober_forget(prober, &w->waitings[DEADLINE].slot);
}

/* What was thought of it, to see whether that has changed; of one that is well there is no
 * reason. */
struct before {
	enum health_state state;
	char reason[HEALTH_SAW_MAX + 64];
};

static void
remember(const struct watch *w, struct before *b)
{
	b->state = w->health.state;
	b->reason[0] = '\0';
	if (b->state != HEALTH_UP)
		health_reason(&w->health, b->reason, sizeof(b->reason));
}

/* The last word here: changed() may make us forget the watch. */
static void
tell(struct watch *w, const struct before *b, bool by_liveness)
{
	struct probes *p = w->probes;
	struct before now;
	bool died;

	remember(w, &now);
	died = by_liveness && now.state == HEALTH_DEAD && b->state != HEALTH_DEAD;
	if (now.state != b->state || strcmp(now.reason, b->reason) != 0)
		p->changed(p->arg, w->backend, died);
}

static void
on_done(struct probe *probe, const struct probe_result *r)
{
	struct waiting *x = CONTAINER_OF(probe, struct waiting, probe);
	struct watch *w = x->watch;
	enum probe_kind kind = (enum probe_kind)x->what;
	int64_t now_ms = probe_io_now(w->probes->io);
	struct before before;

	prober_again(&w->probes->prober, &x->slot, w->config[kind].interval_ms, now_ms);
	if (r == NULL)
		return; /* nobody was asked */
	remember(w, &before);
	(void)health_observe(&w->health, kind, r->ok, r->saw, r->version, now_ms);
	if (!health_asks(&w->health, kind))
		prober_forget(&w->probes->prober, &x->slot);
	schedule(w, now_ms);
	tell(w, &before, kind == PROBE_LIVENESS);
}

/* --- turns ---------------------------------------------------------------------------------- */

static void
ask(struct waiting *x, int64_t now_ms)
{
	static const struct probe_result unresolved = {.saw = "its name could not be resolved"};
	struct watch *w = x->watch;
	const struct probe_config *config = &w->config[x->what];

	if (!x->put_off && probe_line_busy(w->line)) {
		x->put_off = true;
		prober_at(&w->probes->prober, &x->slot, now_ms + PUT_OFF_MS);
		return;
	}
	x->put_off = false;
	prober_ask(&w->probes->prober, &x->slot, config->timeout_ms, now_ms);
	if (w->backend->target.n != 0)
		probe_begin(&x->probe, w->line, config);
	else
		on_done(&x->probe, w->backend->resolving ? NULL : &unresolved);
}

static void
turn_of(struct waiting *x, int64_t now_ms)
{
	struct watch *w = x->watch;
	struct before before;

	if (x->what == DEADLINE) {
		remember(w, &before);
		(void)health_tick(&w->health, now_ms);
		tell(w, &before, false);
	} else if (x->slot.asking) {
		probe_expire(&x->probe);
	} else {
		ask(x, now_ms);
	}
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct probes *p = arg;
	int64_t now_ms = probe_io_now(p->io);
	struct slot *s;

	(void)fd;
	(void)what;
	if (p->armed_ms != INT64_MAX && now_ms - p->armed_ms > STALL_MS)
		prober_stalled(&p->prober, now_ms - p->armed_ms + GRACE_MS);
	p->armed_ms = INT64_MAX;
	while ((s = prober_due(&p->prober, now_ms)) != NULL)
		turn_of((struct waiting *)(void *)s, now_ms);
}

/* At the end of each turn of ours: the timer is set to what is next. */
static void
arm(void *arg)
{
	struct probes *p = arg;
	int64_t now_ms = probe_io_now(p->io), at = prober_next(&p->prober);
	struct timeval tv;

	if (at <= now_ms)
		at = now_ms;
	if (at == p->armed_ms)
		return;
	p->armed_ms = at;
	if (at == INT64_MAX) {
		event_del(p->timer);
		return;
	}
	tv.tv_sec = (at - now_ms) / 1000;
	tv.tv_usec = (at - now_ms) % 1000 * 1000;
	event_add(p->timer, &tv);
}

/* --- who is watched ------------------------------------------------------------------------- */

static bool
enabled(const struct service_config *s)
{
	for (int i = 0; i < N_PROBES; i++) {
		if (s->health[i].on)
			return true;
	}
	return false;
}

/* The service's first host that is a name and not a pattern; else the backend's own address. */
static const char *
host_of(const struct service_config *s, const struct known_backend *k)
{
	for (size_t i = 0; i < s->hosts.n; i++) {
		if (s->hosts.items[i][0] != '*')
			return s->hosts.items[i];
	}
	return k->address.path != NULL ? "localhost" : k->address.text;
}

static struct watch *
watch_new(struct probes *p, struct known_backend *k)
{
	const struct service_config *s = &p->config->services[k->service];
	int64_t now_ms = probe_io_now(p->io);
	struct watch *w = calloc(1, sizeof(*w));

	ENSURE(w != NULL);
	w->probes = p;
	w->backend = k;
	w->config = s->health;
	w->generation = k->target.generation;
	w->line = probe_line_new(p->io, &k->target, host_of(s, k));
	for (unsigned i = 0; i < N_WAITINGS; i++) {
		w->waitings[i].watch = w;
		w->waitings[i].what = i;
		w->waitings[i].probe.done = on_done;
	}
	health_init(&w->health, w->config, k->well, now_ms);
	if (health_deadline(&w->health) != INT64_MAX)
		prober_at(&p->prober, &w->waitings[DEADLINE].slot, health_deadline(&w->health));
	schedule(w, now_ms);
	return w;
}

static void
watch_free(struct watch *w)
{
	for (unsigned i = 0; i < N_WAITINGS; i++)
		prober_forget(&w->probes->prober, &w->waitings[i].slot);
	probe_line_free(w->line);
	for (unsigned i = 0; i < N_PROBES; i++)
		probe_fini(&w->waitings[i].probe);
	free(w);
}

static void
follow(struct probes *p, struct known_backend *k)
{
	struct watch **w = &p->watches[k->backend.id];
	bool wanted = k->member && enabled(&p->config->services[k->service]);

	if (wanted && *w == NULL) {
		*w = watch_new(p, k);
	} else if (!wanted && *w != NULL) {
		watch_free(*w);
		*w = NULL;
		k->well = false; /* who comes back is new */
	} else if (*w != NULL && (*w)->generation != k->target.generation) {
		(*w)->generation = k->target.generation;
		probe_line_moved((*w)->line);
	}
}

void
probes_follow(struct probes *p, struct roster *r)
{
	if (r->n_backends > p->n_watches) {
		p->watches = realloc(p->watches, r->n_backends * sizeof(struct watch *));
		ENSURE(p->watches != NULL);
		memset(p->watches + p->n_watches, 0,
		    (r->n_backends - p->n_watches) * sizeof(struct watch *));
		p->n_watches = r->n_backends;
	}
	for (unsigned i = 0; i < r->n_backends; i++)
		follow(p, r->backends[i]);
}

const struct health *
probes_of(const struct probes *p, const struct known_backend *k)
{
	if (p == NULL || k->backend.id >= p->n_watches || p->watches[k->backend.id] == NULL)
		return NULL;
	return &p->watches[k->backend.id]->health;
}

/* --- life ----------------------------------------------------------------------------------- */

struct probes *
probes_new(struct event_base *base, const struct config *config, probes_changed *changed, void *arg)
{
	struct probes *p = calloc(1, sizeof(*p));
	uint64_t seed;

	ENSURE(p != NULL && getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed));
	p->config = config;
	p->changed = changed;
	p->arg = arg;
	p->armed_ms = INT64_MAX;
	prober_init(&p->prober, seed);
	p->io = probe_io_new(base, config, arm, p);
	p->timer = event_new(base, -1, 0, on_timer, p);
	ENSURE(p->timer != NULL);
	return p;
}

void
probes_free(struct probes *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; i < p->n_watches; i++) {
		if (p->watches[i] != NULL)
			watch_free(p->watches[i]);
	}
	probe_io_free(p->io);
	event_free(p->timer);
	prober_fini(&p->prober);
	free(p->watches);
	free(p);
}
