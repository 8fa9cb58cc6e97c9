/*
 * The worker's loop and its door: accept, count, begin.
 *
 *      orders -> mailbox -> carry out -> back to control
 *      event_base_loop(ONCE) -> callbacks -> turn_end() -> again
 *
 * Owner: control, which makes, starts and joins it.  Everything else here runs on the worker's
 * thread.
 */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/base/clock.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/codec/front.h"
#include "proxy/codec/h2.h"
#include "proxy/codec/tls.h"
#include "proxy/exchange/back.h"
#include "proxy/exchange/exchange.h"
#include "proxy/process/door.h"
#include "proxy/process/worker.h"

#define ACCESS_RING_BYTES ((size_t)1 << 22)
#define LOG_RING_BYTES    ((size_t)1 << 16)
#define ACCEPTS_PER_WAKE  64
#define ACCEPT_PAUSE_MS   100 /* out of descriptors: look again then */

struct acceptor {
	struct worker *worker;
	unsigned index; /* of the listener */
	int fd;
	unsigned backlog;
	struct event event;
	struct timeout pause;
};

struct worker {
	struct engine engine; /* first */
	struct turn turn;
	struct edge *edge;
	pthread_t thread;
	struct mailbox mailbox;
	struct event mail_event, tick_event;
	bool ticking;
	struct acceptor *acceptors;
	LIST_HEAD(, client) clients;
	struct door_list doors; /* PROXY headers being read */
	_Atomic uint64_t n_clients;
	struct ring access_ring, log_ring;
	struct worker_counters counters;
	bool draining, stopping;
	struct event_base *base;
	struct reported {
		int64_t since; /* the guard under which they were seen */
		unsigned n;
	} * reported; /* by service index: failures told to control */
};

static struct worker *
worker_of(struct engine *e)
{
	return (struct worker *)(void *)e;
}

/* --- time ------------------------------------------------------------------------ */

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	turn_wake(&w->turn);
	w->ticking = false;
	wheel_advance(&w->turn.wheel, w->turn.now_ms);
}

/* The wheel's timer runs only while something is armed: an idle worker sleeps. */
static void
keep_ticking(struct worker *w)
{
	static const struct timeval tick = {0, WHEEL_TICK_MS * 1000};

	if (w->ticking || w->turn.wheel.armed == 0)
		return;
	w->ticking = true;
	event_add(&w->tick_event, &tick);
}

/* --- clients ------------------------------------------------------------------------ */

static void
set(_Atomic uint64_t *c, int64_t by)
{
	atomic_store_explicit(
	    c, atomic_load_explicit(c, memory_order_relaxed) + (uint64_t)by, memory_order_relaxed);
}

static void
uncount(struct worker *w, struct client *c)
{
	if (c->counted)
		clients_leave(w->edge->clients, c->fc.address);
	c->counted = false;
	atomic_fetch_sub_explicit(&w->edge->connections, 1, memory_order_relaxed);
	set(&w->counters.listener_open[c->listener_index], -1);
	set(&w->n_clients, -1);
}

/* From the exchange's handler: the connection is dead; it is freed right after. */
static void
client_gone(struct engine *e, struct front_conn *fc)
{
	struct worker *w = worker_of(e);
	struct client *c = client_of(fc);
	const struct conn *conn = &fc->conn;

	if (fc->tls)
		set(conn->established ? &w->counters.handshakes_ok : &w->counters.handshakes_failed,
		    1);
	if (fc->tls && conn->established && fc->resumed)
		set(&w->counters.resumed, 1);
	if (fc->glitched)
		set(&w->counters.glitches_closed, 1);
	LIST_REMOVE(c, link);
	uncount(w, c);
}

static void
free_client(struct conn *conn)
{
	struct client *c = (struct client *)(void *)conn;

	CHECK_MAGIC(c, CLIENT_MAGIC);
	c->magic = 0;
	free(c);
}

static void
map_address(uint8_t out[16], uint16_t *port, const struct sockaddr_storage *ss)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	memset(out, 0, 16);
	*port = 0;
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)ss;

		memcpy(out, mapped, 12);
		memcpy(out + 12, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)ss;

		memcpy(out, &in6->sin6_addr, 16);
		*port = ntohs(in6->sin6_port);
	} else { /* a Unix socket's peer is this host */
		memcpy(out, mapped, 12);
		out[12] = 127;
		out[15] = 1;
	}
}

static void
address_text(char text[INET6_ADDRSTRLEN], const uint8_t address[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (memcmp(address, mapped, 12) == 0)
		inet_ntop(AF_INET, address + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, address, text, INET6_ADDRSTRLEN);
}

/* A connection whose client is known begins.  Takes the fd. */
void
worker_admit(struct worker *w, unsigned listener, int fd, const uint8_t address[16], uint16_t port)
{
	const struct config *config = w->edge->config;
	const struct front_limits *limits = &config->limits;
	struct client *c;
	bool per_client =
	    limits->connections_per_client != 0 && !network_list_has(&limits->exempt, address);

	if (per_client &&
	    !clients_enter(w->edge->clients, address, limits->connections_per_client)) {
		set(&w->counters.refused, 1);
		atomic_fetch_sub_explicit(&w->edge->connections, 1, memory_order_relaxed);
		close(fd);
		return;
	}
	c = calloc(1, sizeof(*c));
	ENSURE(c != NULL);
	c->magic = CLIENT_MAGIC;
	c->engine = &w->engine;
	c->listener = &config->listeners[listener];
	c->listener_index = listener;
	c->counted = per_client;
	front_init(&c->fc, &w->turn, transport_accepted(w->base, fd, w->edge->tls[listener]),
	    &exchange_handler, limits, &config->timeouts, free_client);
	c->fc.tls = w->edge->tls[listener] != NULL;
	c->fc.owner = w;
	memcpy(c->fc.address, address, 16);
	c->fc.port = port;
	address_text(c->fc.address_text, address);
	LIST_INSERT_HEAD(&w->clients, c, link);
	set(&w->counters.accepted, 1);
	set(&w->counters.listener_open[listener], 1);
	set(&w->n_clients, 1);
	front_begin(&c->fc);
	if (w->draining) /* it was in the queue, or its PROXY header has just come */
		front_drain(&c->fc);
}

/* --- the door ------------------------------------------------------------------------- */

static void
accepted(struct acceptor *a, int fd, const struct sockaddr_storage *ss)
{
	struct worker *w = a->worker;
	const struct listener_config *l = &w->edge->config->listeners[a->index];
	uint8_t address[16];
	uint16_t port;
	uint32_t open = atomic_fetch_add_explicit(&w->edge->connections, 1, memory_order_relaxed);

	map_address(address, &port, ss);
	if (open >= w->edge->connections_max ||
	    (l->proxy_protocol && !network_list_has(&l->proxy_protocol_from, address))) {
		set(&w->counters.refused, 1);
		atomic_fetch_sub_explicit(&w->edge->connections, 1, memory_order_relaxed);
		close(fd);
		return;
	}
	if (l->proxy_protocol)
		door_open(&w->doors, w, w->base, &w->turn, a->index, fd, address, port,
		    w->edge->config->timeouts.tls_handshake_ms);
	else
		worker_admit(w, a->index, fd, address, port);
}

void
worker_turned_away(struct worker *w)
{
	set(&w->counters.refused, 1);
	atomic_fetch_sub_explicit(&w->edge->connections, 1, memory_order_relaxed);
}

static void
on_pause_over(struct timeout *t)
{
	struct acceptor *a = CONTAINER_OF(t, struct acceptor, pause);

	if (a->fd != -1)
		event_add(&a->event, NULL);
}

/* true: there may be more. */
static bool
accept_some(struct acceptor *a)
{
	struct worker *w = a->worker;

	for (int i = 0; i < ACCEPTS_PER_WAKE; i++) {
		struct sockaddr_storage ss = {0};
		socklen_t n = sizeof(ss);
		int fd = accept4(
		    a->fd, (struct sockaddr *)(void *)&ss, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd != -1) {
			accepted(a, fd, &ss);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* Live connections are served on; the listener rests, so that it does not
			 * spin. */
			log_warn("accept: %s: resting for %d ms", strerror(errno), ACCEPT_PAUSE_MS);
			event_del(&a->event);
			timeout_set(&w->turn.wheel, &a->pause, w->turn.now_ms, ACCEPT_PAUSE_MS);
			return false;
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return false;
	}
	return true;
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *a = arg;

	(void)fd;
	(void)what;
	turn_wake(&a->worker->turn);
	(void)accept_some(a);
}

static void
close_doors(struct worker *w)
{
	for (size_t i = 0; i < w->edge->config->n_listeners; i++) {
		struct acceptor *a = &w->acceptors[i];

		if (a->fd == -1)
			continue;
		/* who is in the queue was promised an answer */
		for (unsigned n = 0; n < a->backlog && accept_some(a);)
			n += ACCEPTS_PER_WAKE;
		event_del(&a->event);
		timeout_cancel(&w->turn.wheel, &a->pause);
		close(a->fd);
		a->fd = -1;
	}
}

/* --- what control is told ------------------------------------------------------------------ */

static void
cut_query(char out[EVIDENCE_PATH_MAX], struct text path)
{
	size_t n = 0;

	while (n < path.n && n < EVIDENCE_PATH_MAX - 1 && path.p[n] != '?' && path.p[n] != '#')
		n++;
	memcpy(out, path.p, n);
	out[n] = '\0';
}

static void
copy_text(char *out, size_t size, const char *p, size_t n)
{
	if (n > size - 1)
		n = size - 1;
	memcpy(out, p, n);
	out[n] = '\0';
}

/* The first failures under a guard are evidence; the rest is statistics. */
static void
tell_failed(struct engine *e, const struct exchange *x, enum outcome why)
{
	struct worker *w = worker_of(e);
	struct reported *told = &w->reported[x->service->index];
	int64_t since =
	    atomic_load_explicit(&x->service->state->guarded_since_ms, memory_order_relaxed);
	struct failed_letter *l;
	struct failure *f;

	if (told->since != since)
		*told = (struct reported){since, 0};
	if (told->n == EVIDENCE_FAILURES)
		return;
	told->n++;
	l = calloc(1, sizeof(*l));
	ENSURE(l != NULL);
	l->letter.deliver = control_hears_failed;
	l->service = x->service->index;
	l->since = since;
	f = &l->failure;
	f->wall_ms = e->turn->wall_ms;
	copy_text(
	    f->method, sizeof(f->method), x->request->method_text.p, x->request->method_text.n);
	cut_query(f->path, x->request->path);
	copy_text(f->id, sizeof(f->id), x->id, x->id_length);
	if (x->member != NULL)
		copy_text(f->backend, sizeof(f->backend), x->member->backend->name,
		    strlen(x->member->backend->name));
	f->status = x->back_status;
	f->outcome = why;
	f->age_us = e->turn->now_us - x->start_us;
	mailbox_post(w->edge->control, &l->letter);
}

static void
tell_tripped(struct engine *e, const struct service *s, const struct verdict *v)
{
	struct tripped_letter *l = calloc(1, sizeof(*l));

	ENSURE(l != NULL);
	l->letter.deliver = control_hears_tripped;
	l->service = s->index;
	l->verdict = *v;
	mailbox_post(worker_of(e)->edge->control, &l->letter);
}

/* --- orders ------------------------------------------------------------------------------ */

static void
release_fleet(struct fleet_ref *r)
{
	struct snapshot *s = CONTAINER_OF((void *)(uintptr_t)r->fleet, struct snapshot, fleet);

	atomic_fetch_sub_explicit(&s->holders, 1, memory_order_release);
	free(r);
}

static struct fleet_ref *
hold(struct snapshot *s)
{
	struct fleet_ref *r = calloc(1, sizeof(*r));

	ENSURE(r != NULL);
	r->fleet = &s->fleet;
	r->refs = 1;
	r->release = release_fleet;
	return r;
}

static void
adopt(struct worker *w, struct snapshot *s)
{
	struct fleet_ref *old = w->engine.fleet;

	w->engine.fleet = hold(s);
	fleet_ref_drop(old);
	back_sweep(&w->engine);
}

static void
drain(struct worker *w)
{
	struct client *c, *next;

	w->draining = true;
	close_doors(w);
	for (c = LIST_FIRST(&w->clients); c != NULL; c = next) {
		next = LIST_NEXT(c, link);
		front_drain(&c->fc);
	}
}

static void
stop(struct worker *w)
{
	struct client *c, *next;

	w->stopping = w->draining = true;
	close_doors(w);
	door_close_all(&w->doors);
	for (c = LIST_FIRST(&w->clients); c != NULL; c = next) {
		next = LIST_NEXT(c, link);
		conn_lost(&c->fc.conn, OUTCOME_STOPPED);
	}
	back_stop(&w->engine);
}

void
order_carry_out(struct letter *l, void *receiver)
{
	struct order *o = (struct order *)(void *)l;
	struct worker *w = receiver;

	switch (o->kind) {
	case ORDER_ADOPT:
		adopt(w, o->snapshot);
		break;
	case ORDER_BARRIER:
		break;
	case ORDER_LEAVE:
		exchange_leave(&w->engine, o->service, o->color, o->rescue);
		break;
	case ORDER_CLOSE:
		back_close(&w->engine, o->backend);
		break;
	case ORDER_DRAIN:
		drain(w);
		break;
	case ORDER_STOP:
		stop(w);
		break;
	}
	o->letter.deliver = order_done;
	mailbox_post(w->edge->control, &o->letter);
}

static void
on_mail(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	turn_wake(&w->turn);
	mailbox_deliver(&w->mailbox, w);
}

/* --- the loop ------------------------------------------------------------------------------ */

static void *
run(void *arg)
{
	struct worker *w = arg;
	bool more = false;

	log_thread_ring(&w->log_ring);
	while (!w->stopping || atomic_load(&w->n_clients) != 0 ||
	       back_open_connections(&w->engine) != 0) {
		event_base_loop(w->base, EVLOOP_ONCE | (more ? EVLOOP_NONBLOCK : 0));
		more = turn_end(&w->turn);
		w->turn.stale = true;
		if (w->stopping)
			back_stop(&w->engine);
		keep_ticking(w);
	}
	h2_stream_fini_thread();
	h2_mem_fini();
	return NULL;
}

static int
open_doors(struct worker *w, const int *listeners)
{
	size_t n = w->edge->config->n_listeners;

	w->acceptors = calloc(n, sizeof(struct acceptor));
	w->counters.listener_open = calloc(n, sizeof(_Atomic uint64_t));
	if (w->acceptors == NULL || w->counters.listener_open == NULL)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		struct acceptor *a = &w->acceptors[i];

		a->worker = w;
		a->index = i;
		a->fd = listeners[i];
		a->backlog = w->edge->config->listeners[i].backlog;
		timeout_init(&a->pause, on_pause_over);
		event_assign(&a->event, w->base, a->fd, EV_READ | EV_PERSIST, on_accept, a);
		event_add(&a->event, NULL);
	}
	return 0;
}

static struct event_base *
new_base(void)
{
	struct event_config *c = event_config_new();
	struct event_base *base = NULL;

	if (c == NULL)
		return NULL;
	/* One thread per base.  No changelist: it would tell epoll of a socket after it was closed,
	 * when the number may be another thread's already, and in steady state there is no change
	 * to save. */
	event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME);
	base = event_base_new_with_config(c);
	event_config_free(c);
	return base;
}

static void
init_engine(struct worker *w, struct snapshot *s, unsigned index)
{
	struct engine *e = &w->engine;
	uint64_t seed;

	ENSURE(getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed));
	random_seed(&e->random, seed);
	e->turn = &w->turn;
	e->index = index;
	e->config = w->edge->config;
	e->base = w->base;
	e->fleet = hold(s);
	e->rates = w->edge->rates;
	e->maintenance_pages = w->edge->maintenance_pages;
	e->n_workers = w->edge->n_workers;
	e->client_gone = client_gone;
	e->failed = tell_failed;
	e->tripped = tell_tripped;
	e->access_format = e->config->log_format;
	e->access = w->edge->access_log ? &w->access_ring : NULL;
	exchange_engine_init(e);
}

struct worker *
worker_new(struct edge *edge, unsigned index, const int *listeners, struct snapshot *s)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->edge = edge;
	w->mailbox.fd = -1;
	turn_init(&w->turn, clock_us(CLOCK_MONOTONIC), clock_us(CLOCK_REALTIME) / 1000);
	w->turn.owner = w;
	w->turn.refresh = clock_turn;
	w->turn.stale = true;
	LIST_INIT(&w->clients);
	LIST_INIT(&w->doors);
	w->base = new_base();
	w->reported = calloc(edge->config->n_services + 1, sizeof(struct reported));
	if (w->base == NULL || w->reported == NULL || mailbox_init(&w->mailbox) == -1 ||
	    ring_init(&w->log_ring, LOG_RING_BYTES) == -1 ||
	    (edge->access_log && ring_init(&w->access_ring, ACCESS_RING_BYTES) == -1) ||
	    open_doors(w, listeners) == -1) {
		worker_free(w);
		return NULL;
	}
	init_engine(w, s, index);
	event_assign(&w->mail_event, w->base, w->mailbox.fd, EV_READ | EV_PERSIST, on_mail, w);
	event_add(&w->mail_event, NULL);
	event_assign(&w->tick_event, w->base, -1, 0, on_tick, w);
	return w;
}

int
worker_start(struct worker *w)
{
	return pthread_create(&w->thread, NULL, run, w);
}

void
worker_join(struct worker *w)
{
	pthread_join(w->thread, NULL);
}

void
worker_free(struct worker *w)
{
	if (w->engine.line != NULL) {
		back_fini(&w->engine);
		fleet_ref_drop(w->engine.fleet);
		exchange_engine_fini(&w->engine);
	}
	if (w->base != NULL) {
		event_del(&w->mail_event);
		event_del(&w->tick_event);
		for (size_t i = 0; w->acceptors != NULL && i < w->edge->config->n_listeners; i++) {
			if (w->acceptors[i].fd != -1)
				event_del(&w->acceptors[i].event);
		}
		event_base_free(w->base);
	}
	mailbox_fini(&w->mailbox);
	ring_fini(&w->access_ring);
	ring_fini(&w->log_ring);
	turn_fini(&w->turn);
	free(w->acceptors);
	free(w->reported);
	free((void *)w->counters.listener_open);
	free(w);
}

struct mailbox *
worker_mailbox(struct worker *w)
{
	return &w->mailbox;
}

struct ring *
worker_access_ring(struct worker *w)
{
	return w->edge->access_log ? &w->access_ring : NULL;
}

struct ring *
worker_log_ring(struct worker *w)
{
	return &w->log_ring;
}

const struct worker_counters *
worker_counters(const struct worker *w)
{
	return &w->counters;
}

const struct counters *
worker_engine_counters(const struct worker *w)
{
	return &w->engine.counters;
}

uint64_t
worker_connections(const struct worker *w)
{
	return atomic_load_explicit(&w->n_clients, memory_order_relaxed);
}
