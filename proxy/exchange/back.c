/*
 * The worker's pools of back connections, one group per backend.
 *
 *      back_stream() -> idle h1 | h2 with a free slot | new (connecting)
 *                          ^                                  |
 *                          +------- available() <-------------+
 *
 * Owner: the engine.  Thread: its worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "balancer/pick.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/base/warm.h"
#include "proxy/codec/back_conn.h"
#include "proxy/codec/tls.h"
#include "proxy/exchange/back.h"

#define POOLED_MAGIC   0x900ced01u
#define EXCESS_IDLE_MS 500 /* how long one above idle_connections may lie idle */

struct pooled {
	struct back_conn bc; /* first */
	uint32_t magic;
	struct back_group *group;
	TAILQ_ENTRY(pooled) link; /* on group->open while it may take streams */
	LIST_ENTRY(pooled) alive; /* on group->all until it is buried */
	bool listed;
	bool connected;
	bool idle; /* no stream under way */
	int64_t idle_since_ms;
	unsigned generation;           /* of the target it was opened to */
	unsigned address, n_addresses; /* which of the target's, and how many it had */
};
TAILQ_HEAD(pooled_list, pooled);

struct back_group {
	struct engine *engine;
	struct backend *backend;
	const struct pool_config *pool; /* belongs to the configuration, outlives us */
	const struct wait_queue *queue; /* the pool's, on this worker */
	struct pooled_list open;        /* may take a stream now; hottest first */
	LIST_HEAD(, pooled) all;
	unsigned n_idle;
	unsigned n_conns;          /* alive, listed or not */
	unsigned next_address;     /* of the target's; moves on after a failed connect */
	unsigned failed_addresses; /* since one could be connected to, a bit each */
};

static void on_connected(struct back_conn *);
static void on_available(struct back_conn *);
static void on_retired(struct back_conn *);
static void on_gone(struct back_conn *);

static const struct back_owner owner = {
    .connected = on_connected,
    .available = on_available,
    .retired = on_retired,
    .gone = on_gone,
};

static struct pooled *
pooled_of(struct back_conn *bc)
{
	struct pooled *p = (struct pooled *)(void *)bc;

	CHECK_MAGIC(p, POOLED_MAGIC);
	return p;
}

static void
unlist(struct pooled *p)
{
	if (!p->listed)
		return;
	TAILQ_REMOVE(&p->group->open, p, link);
	p->listed = false;
}

static void
set_idle(struct pooled *p, bool idle)
{
	if (p->idle == idle)
		return;
	p->idle = idle;
	if (idle)
		p->group->n_idle++;
	else
		p->group->n_idle--;
}

/* With max_connections an idle connection here may be the one that an exchange on another worker waits for. */
static bool
wanted_elsewhere(const struct back_group *g)
{
	return g->pool->max_connections != 0 && TAILQ_EMPTY(&g->queue->list) &&
	       atomic_load_explicit(g->queue->waiting, memory_order_relaxed) != 0;
}

static void
idle_longer(struct pooled *p)
{
	struct back_group *g = p->group;
	struct turn *turn = g->engine->turn;
	int64_t left = p->idle_since_ms + g->pool->idle_timeout_ms - turn->now_ms;

	if (left <= 0 || wanted_elsewhere(g)) {
		back_retire(&p->bc);
		return;
	}
	if (g->pool->max_connections != 0 && left > WHEEL_TICK_MS)
		left = WHEEL_TICK_MS;
	timeout_set(&turn->wheel, &p->bc.timer, turn->now_ms, left);
}

/*
 * Down to idle_connections: the coldest first, and none before EXCESS_IDLE_MS.  After a burst more than that many are
 * idle between two waves, and what is closed at once has to be opened again with the next: dearer than the requests.
 */
static void
shed_excess(struct back_group *g)
{
	struct turn *turn = g->engine->turn;
	struct pooled *p, *hotter;

	for (p = TAILQ_LAST(&g->open, pooled_list);
	     p != NULL && g->n_idle > g->pool->idle_connections; p = hotter) {
		struct timeout *timer = &p->bc.timer;
		int64_t due_ms = p->idle_since_ms + EXCESS_IDLE_MS;

		hotter = TAILQ_PREV(p, pooled_list, link);
		if (!p->idle || !conn_usable(&p->bc.conn))
			continue; /* an h2 one is listed while it is busy, too */
		if (due_ms > turn->now_ms) {
			if (!timeout_armed(timer) || timer->deadline_ms > due_ms)
				timeout_set(
				    &turn->wheel, timer, turn->now_ms, due_ms - turn->now_ms);
			return;
		}
		back_retire(&p->bc);
	}
}

static void
on_timer(struct timeout *t)
{
	struct back_conn *bc = CONTAINER_OF(t, struct back_conn, timer);
	struct pooled *p = pooled_of(bc);

	if (!p->connected) {
		conn_lost(&bc->conn, OUTCOME_CONNECT_TIMEOUT);
	} else if (p->idle) {
		struct back_group *g = p->group; /* p may go */

		idle_longer(p);
		shed_excess(g);
	}
}

static void
free_pooled(struct conn *c)
{
	struct pooled *p = pooled_of((struct back_conn *)(void *)c);

	p->magic = 0;
	free(p);
}

void
back_unreachable(
    struct engine *e, struct backend *b, const struct pool_config *pool, enum outcome why)
{
	uint32_t before = atomic_load_explicit(&b->connect_failures, memory_order_relaxed);

	backend_connect_failed(b, pool, e->turn->now_ms);
	if (before == 0) /* once, until it is reachable again */
		log_warn("backend %s (%s): %s", b->name, color_name(b->color),
		    outcome_row(why)->sentence);
}

static unsigned
all_addresses(unsigned n)
{
	return (1U << n) - 1;
}

/* A connect failed: try the next address first; when all of them failed the backend is held down. */
static void
connect_failed(struct pooled *p)
{
	struct back_group *g = p->group;

	if (p->bc.conn.lost_why == OUTCOME_OK)
		return; /* closed by ourselves */
	if (p->bc.conn.lost_why == OUTCOME_NO_SOCKET || p->bc.conn.lost_why == OUTCOME_BACK_GOAWAY)
		return; /* nobody was asked, or nobody waited for the answer: back_close() */
	g->next_address = p->address + 1;
	g->failed_addresses |= 1U << p->address;
	if ((g->failed_addresses & all_addresses(p->n_addresses)) != all_addresses(p->n_addresses))
		return;
	g->failed_addresses = 0;
	back_unreachable(g->engine, g->backend, g->pool, p->bc.conn.lost_why);
}

static void
on_connected(struct back_conn *bc)
{
	struct pooled *p = pooled_of(bc);
	struct turn *turn = p->group->engine->turn;
	struct backend *b = p->group->backend;

	p->connected = true;
	p->group->failed_addresses = 0;
	if (atomic_load_explicit(&b->connect_failures, memory_order_relaxed) != 0) {
		/* slow start counts from here */
		atomic_store_explicit(&b->up_since_ms, turn->now_ms, memory_order_relaxed);
		log_info("backend %s (%s): reachable again", b->name, color_name(b->color));
	}
	backend_connected(b);
	timeout_cancel(&turn->wheel, &bc->timer);
}

static void
on_available(struct back_conn *bc)
{
	struct pooled *p = pooled_of(bc);
	struct back_group *g = p->group;
	struct turn *turn = g->engine->turn;

	if (bc->retired || !conn_usable(&bc->conn))
		return;
	if (bc->n_streams == 0 && p->connected) {
		if (g->pool->idle_connections == 0) {
			back_retire(bc);
			return;
		}
		set_idle(p, true);
		p->idle_since_ms = turn->now_ms;
		idle_longer(p);
		if (bc->retired)
			return;
	}
	if (!p->listed && back_slots(bc) > 0) {
		TAILQ_INSERT_HEAD(&g->open, p, link);
		p->listed = true;
	}
	shed_excess(g);
}

static void
on_retired(struct back_conn *bc)
{
	struct pooled *p = pooled_of(bc);

	unlist(p);
	set_idle(p, false);
}

static void
on_gone(struct back_conn *bc)
{
	struct pooled *p = pooled_of(bc);
	struct back_group *g = p->group;

	unlist(p);
	LIST_REMOVE(p, alive);
	set_idle(p, false);
	timeout_cancel(&g->engine->turn->wheel, &bc->timer);
	if (!p->connected)
		connect_failed(p);
	atomic_fetch_sub_explicit(&g->backend->connections, 1, memory_order_relaxed);
	g->n_conns--;
}

static struct back_group *
group_of(struct engine *e, const struct member *m)
{
	struct backend *b = m->backend;
	const struct target *t = m->addresses;
	struct back_group *g;

	if (b->id < e->n_groups && e->groups[b->id] != NULL)
		return e->groups[b->id];
	if (b->id >= e->n_groups) {
		unsigned n = b->id + 16;

		e->groups = realloc(e->groups, n * sizeof(struct back_group *));
		ENSURE(e->groups != NULL);
		memset(e->groups + e->n_groups, 0, (n - e->n_groups) * sizeof(struct back_group *));
		e->n_groups = n;
	}
	g = calloc(1, sizeof(*g));
	ENSURE(g != NULL);
	g->engine = e;
	g->backend = b;
	g->pool = t->pool;
	g->queue =
	    &e->queues[(size_t)(t->service - e->config->services) * N_COLORS + (unsigned)b->color];
	TAILQ_INIT(&g->open);
	LIST_INIT(&g->all);
	e->groups[b->id] = g;
	return g;
}

/* One more connection, unless max_connections (all workers) are there. */
static bool
count_connection(struct back_group *g)
{
	uint32_t n = atomic_load_explicit(&g->backend->connections, memory_order_relaxed);

	do {
		if (g->pool->max_connections != 0 && n >= g->pool->max_connections)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &g->backend->connections, &n, n + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* The next in turn that was not tried; when all were, the next in turn. */
static unsigned
choose_address(const struct back_group *g, const struct target *t, unsigned tried)
{
	for (unsigned i = 0; i < t->n; i++) {
		unsigned at = (g->next_address + i) % t->n;

		if ((tried & 1U << at) == 0)
			return at;
	}
	return g->next_address % t->n;
}

static struct pooled *
connect_new(struct back_group *g, const struct target *t, unsigned tried)
{
	struct engine *e = g->engine;
	struct pooled *p;
	struct transport *transport;

	if (!count_connection(g))
		return NULL;
	p = calloc(1, sizeof(*p));
	ENSURE(p != NULL);
	p->magic = POOLED_MAGIC;
	p->group = g;
	p->address = choose_address(g, t, tried);
	p->n_addresses = t->n;
	p->generation = t->generation;
	transport = transport_connect(e->base,
	    (const struct sockaddr *)(const void *)&t->at[p->address].address,
	    (unsigned)t->at[p->address].length, t->tls, t->host);
	back_init(&p->bc, e->turn, transport, t->pool->protocol, &owner, free_pooled);
	p->bc.max_streams = t->pool->protocol == BACK_H2 ? t->pool->streams : 1;
	p->bc.header_bytes = e->config->limits.header_bytes;
	p->bc.header_count = e->config->limits.header_count;
	p->bc.conn.send_timeout_ms = t->service->timeouts.request_body_ms;
	g->n_conns++;
	LIST_INSERT_HEAD(&g->all, p, alive);
	timeout_init(&p->bc.timer, on_timer);
	timeout_set(
	    &e->turn->wheel, &p->bc.timer, e->turn->now_ms, t->service->timeouts.connect_ms);
	back_begin(&p->bc);
	return p;
}

enum back_result
back_stream(struct engine *e, const struct member *m, unsigned *tried, struct stream **out)
{
	const struct target *t = m->addresses;
	struct back_group *g;
	struct pooled *p;

	if (t->n == 0)
		return BACK_UNRESOLVED;
	g = group_of(e, m);
	warm(TAILQ_FIRST(&g->open), sizeof(*p));
	while ((p = TAILQ_FIRST(&g->open)) != NULL) {
		back_warm(&p->bc);
		if (p->generation < t->generation)
			back_retire(&p->bc); /* the backend has moved */
		else if (conn_usable(&p->bc.conn) && !p->bc.retired && back_slots(&p->bc) > 0)
			break;
		unlist(p);
	}
	if (p == NULL) {
		p = connect_new(g, t, *tried);
		if (p == NULL)
			return BACK_FULL;
		if (p->bc.protocol == BACK_H2) {
			TAILQ_INSERT_HEAD(&g->open, p, link);
			p->listed = true;
		}
	}
	set_idle(
	    p, false); /* its timer goes on: moving it the next time is a store, and it looks */
	if (!p->connected)
		*tried |= 1U << p->address;
	*out = back_open(&p->bc);
	if (back_slots(&p->bc) == 0)
		unlist(p);
	return BACK_OPENED;
}

static void
retire_idle(struct back_group *g)
{
	struct pooled *p, *next;

	for (p = TAILQ_FIRST(&g->open); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->bc.n_streams == 0)
			back_retire(&p->bc);
	}
}

static bool
in_fleet(const struct fleet *f, const struct backend *b)
{
	for (unsigned i = 0; i < f->n_services; i++) {
		const struct pool *pool = &f->services[i].pools[b->color];

		for (unsigned j = 0; j < pool->n_members; j++) {
			if (pool->members[j].backend == b)
				return true;
		}
	}
	return false;
}

void
back_sweep(struct engine *e)
{
	for (unsigned i = 0; i < e->n_groups; i++) {
		struct back_group *g = e->groups[i];

		if (g != NULL && g->n_conns > 0 && !in_fleet(e->fleet->fleet, g->backend))
			retire_idle(g);
	}
}

void
back_close(struct engine *e, const struct backend *b)
{
	struct pooled *p, *next;

	if (b->id >= e->n_groups || e->groups[b->id] == NULL)
		return;
	/* an exchange may open another connection while it is told: at the head, where this does not come by again */
	for (p = LIST_FIRST(&e->groups[b->id]->all); p != NULL; p = next) {
		next = LIST_NEXT(p, alive);
		conn_lost(&p->bc.conn, p->connected ? OUTCOME_BACK_RESET : OUTCOME_BACK_GOAWAY);
	}
}

void
back_stop(struct engine *e)
{
	for (unsigned i = 0; i < e->n_groups; i++) {
		struct pooled *p, *next;

		if (e->groups[i] == NULL)
			continue;
		for (p = LIST_FIRST(&e->groups[i]->all); p != NULL; p = next) {
			next = LIST_NEXT(p, alive);
			unlist(p);
			set_idle(p, false);
			conn_close(&p->bc.conn, false);
		}
	}
}

unsigned
back_open_connections(const struct engine *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < e->n_groups; i++) {
		if (e->groups[i] != NULL)
			n += e->groups[i]->n_conns;
	}
	return n;
}

void
back_fini(struct engine *e)
{
	for (unsigned i = 0; i < e->n_groups; i++)
		free(e->groups[i]);
	free(e->groups);
	e->groups = NULL;
	e->n_groups = 0;
}
