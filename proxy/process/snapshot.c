/* The fleet as control keeps it.  See snapshot.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>

#include "balancer/route.h"
#include "balancer/tally.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/codec/tls.h"
#include "proxy/process/snapshot.h"

static void *
zalloc(size_t n, size_t size)
{
	void *p = calloc(n != 0 ? n : 1, size);

	ENSURE(p != NULL);
	return p;
}

/* A Unix socket's address needs no resolving. */
static void
set_unix_target(struct known_backend *k)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)&k->target.at[0].address;

	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "%s", k->address.path);
	k->target.at[0].length = sizeof(*un);
	k->target.n = 1;
}

struct known_backend *
roster_find(struct roster *r, unsigned service, enum color color, const char *address)
{
	for (unsigned i = 0; i < r->n_backends; i++) {
		struct known_backend *k = r->backends[i];

		if (k->service == service && k->backend.color == color &&
		    strcmp(k->backend.name, address) == 0)
			return k;
	}
	return NULL;
}

struct known_backend *
roster_backend(struct roster *r, unsigned service, enum color color, const char *address, char *err,
    size_t err_size)
{
	struct known_backend *k = roster_find(r, service, color, address);

	if (k != NULL)
		return k;
	if (r->n_backends == BACKEND_IDS_MAX) {
		snprintf(err, err_size,
		    "more than %d backend addresses since the start: restart teal",
		    BACKEND_IDS_MAX);
		return NULL;
	}
	k = zalloc(1, sizeof(*k));
	if (address_parse(&k->address, address, err, err_size) == -1) {
		free(k);
		return NULL;
	}
	r->backends = realloc(r->backends, (r->n_backends + 1) * sizeof(struct known_backend *));
	ENSURE(r->backends != NULL);
	k->backend.name = strdup(address);
	ENSURE(k->backend.name != NULL);
	k->backend.id = r->n_backends;
	k->backend.color = color;
	k->service = service;
	k->weight = 1;
	k->target.service = &r->config->services[service];
	k->target.pool = &r->config->services[service].pools[color];
	k->target.host = k->address.host != NULL ? k->address.host : "";
	k->target.tls = r->tls[service * N_COLORS + (unsigned)color];
	atomic_init(&k->backend.state, BACKEND_UP);
	if (k->address.path != NULL)
		set_unix_target(k);
	r->backends[r->n_backends++] = k;
	return k;
}

static void
set_drained(struct known_backend *k, bool drained)
{
	k->drained = drained;
	atomic_store(&k->backend.state, drained ? BACKEND_DRAINING : BACKEND_UP);
}

/* The configured pool, or what the durable state says it became. */
static int
fill_pool(struct roster *r, unsigned service, enum color color, const struct state_pool *changed,
    char *err, size_t err_size)
{
	const struct pool_config *pool = &r->config->services[service].pools[color];
	struct known_backend *k;

	for (size_t i = 0; i < pool->n_backends; i++) {
		k = roster_backend(
		    r, service, color, pool->backends[i].address.text, err, err_size);
		if (k == NULL)
			return -1;
		k->weight = pool->backends[i].weight;
		k->backup = pool->backends[i].backup;
		k->member = changed == NULL || !changed->changed;
	}
	if (changed == NULL)
		return 0;
	for (size_t i = 0; changed->changed && i < changed->backends.n; i++) {
		k = roster_backend(r, service, color, changed->backends.items[i], err, err_size);
		if (k == NULL)
			return -1;
		k->member = true;
	}
	for (size_t i = 0; i < changed->drained.n; i++) {
		k = roster_find(r, service, color, changed->drained.items[i]);
		if (k != NULL)
			set_drained(k, true);
	}
	for (size_t i = 0; i < changed->well.n; i++) {
		k = roster_find(r, service, color, changed->well.items[i]);
		if (k != NULL)
			k->well = true;
	}
	return 0;
}

static void
init_state(struct roster *r, unsigned i, const struct state_service *saved)
{
	struct service_state *s = &r->states[i];
	uint64_t key[2];

	for (unsigned c = 0; c < N_COLORS; c++) {
		s->tally[c] = tally_new(r->n_workers);
		ENSURE(s->tally[c] != NULL);
	}
	ENSURE(getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key));
	if (saved != NULL)
		memcpy(key, saved->split_key, sizeof(key));
	atomic_init(&s->split_key[0], key[0]);
	atomic_init(&s->split_key[1], key[1]);
	/* Colors are equal, but that blue is live on a first start; a service with one pool lives
	 * there. */
	atomic_init(&s->course,
	    course_of(r->config->services[i].pools[BLUE].n_backends != 0 ? BLUE : GREEN, 0));
	atomic_init(&s->epoch, 1);
	if (saved == NULL)
		return;
	/* after a trip the weight is 0, whatever else the file says */
	atomic_init(&s->course, saved->trip.on ? course_of(saved->live, 0) | COURSE_TRIPPED
					       : course_of(saved->live, saved->weight_bp));
	atomic_init(&s->maintenance, saved->maintenance);
	atomic_init(&s->epoch, saved->epoch);
}

static int
init_tls(struct roster *r, unsigned service, char *err, size_t err_size)
{
	for (unsigned c = 0; c < N_COLORS; c++) {
		const struct pool_config *pool = &r->config->services[service].pools[c];
		char why[256];

		if (!pool->tls.on)
			continue;
		r->tls[service * N_COLORS + c] =
		    tls_client_new(&pool->tls, pool->protocol == BACK_H2, why, sizeof(why));
		if (r->tls[service * N_COLORS + c] == NULL) {
			snprintf(err, err_size, "service %s, pool %s: %s",
			    r->config->services[service].name, color_name((enum color)c), why);
			return -1;
		}
	}
	return 0;
}

int
roster_init(struct roster *r, const struct config *config, unsigned n_workers,
    const struct state *state, char *err, size_t err_size)
{
	memset(r, 0, sizeof(*r));
	r->config = config;
	r->n_workers = n_workers;
	r->states = zalloc(config->n_services, sizeof(struct service_state));
	r->tls = zalloc(config->n_services * N_COLORS, sizeof(struct tls_client *));
	for (unsigned i = 0; i < config->n_services; i++) {
		struct state_service *saved =
		    state_find((struct state *)(uintptr_t)state, config->services[i].name, false);

		init_state(r, i, saved);
		if (init_tls(r, i, err, err_size) == -1)
			return -1;
		for (unsigned c = 0; c < N_COLORS; c++) {
			if (fill_pool(r, i, (enum color)c, saved != NULL ? &saved->pools[c] : NULL,
				err, err_size) == -1)
				return -1;
		}
	}
	return 0;
}

static void
snapshot_free(struct snapshot *s)
{
	for (unsigned i = 0; i < s->fleet.n_services; i++) {
		for (unsigned c = 0; c < N_COLORS; c++) {
			pool_fini(&s->fleet.services[i].pools[c]);
			free(s->fleet.services[i].pools[c].members);
		}
	}
	route_table_free(s->fleet.routes);
	free(s->fleet.services);
	free(s->targets);
	free(s);
}

void
roster_fini(struct roster *r)
{
	struct snapshot *s, *next;

	for (s = r->retired; s != NULL; s = next) {
		next = s->next_retired;
		snapshot_free(s);
	}
	if (r->current != NULL)
		snapshot_free(r->current);
	for (unsigned i = 0; i < r->n_backends; i++) {
		address_fini(&r->backends[i]->address);
		free(r->backends[i]->backend.name);
		free(r->backends[i]);
	}
	free(r->backends);
	for (unsigned i = 0; r->config != NULL && i < r->config->n_services; i++) {
		for (unsigned c = 0; c < N_COLORS; c++) {
			tally_free(r->states[i].tally[c]);
			tls_client_free(r->tls[i * N_COLORS + c]);
		}
	}
	free(r->states);
	free(r->tls);
}

/* Primaries first, as pick.h wants them. */
static int
make_pool(struct roster *r, struct snapshot *s, unsigned service, enum color color)
{
	struct pool *pool = &s->fleet.services[service].pools[color];

	pool->config = &r->config->services[service].pools[color];
	pool->color = color;
	pool->turn = &r->states[service].turn[color];
	pool->members = zalloc(r->n_backends, sizeof(struct member));
	for (int backup = 0; backup <= 1; backup++) {
		for (unsigned i = 0; i < r->n_backends; i++) {
			struct known_backend *k = r->backends[i];

			if (!k->member || k->service != service || k->backend.color != color ||
			    (int)k->backup != backup)
				continue;
			s->targets[i] = k->target;
			pool->members[pool->n_members++] =
			    (struct member){&k->backend, &s->targets[i], k->weight, k->backup};
			pool->n_primary += !backup;
		}
	}
	return pool_prepare(pool);
}

int
roster_snapshot(struct roster *r)
{
	struct snapshot *s = zalloc(1, sizeof(*s));
	struct fleet *f = &s->fleet;

	s->targets = zalloc(r->n_backends, sizeof(struct target));
	f->config = r->config;
	f->services = zalloc(r->config->n_services, sizeof(struct service));
	f->n_services = (unsigned)r->config->n_services;
	for (unsigned i = 0; i < f->n_services; i++) {
		f->services[i].config = &r->config->services[i];
		f->services[i].state = &r->states[i];
		f->services[i].index = i;
		for (unsigned c = 0; c < N_COLORS; c++) {
			if (make_pool(r, s, i, (enum color)c) == -1) {
				snapshot_free(s);
				return -1;
			}
		}
	}
	f->routes = route_table_new(f);
	if (f->routes == NULL) {
		snapshot_free(s);
		return -1;
	}
	if (r->current != NULL) {
		r->current->next_retired = r->retired;
		r->retired = r->current;
	}
	r->current = s;
	return 0;
}

void
roster_collect(struct roster *r)
{
	struct snapshot **at = &r->retired, *s;

	while ((s = *at) != NULL) {
		if (atomic_load_explicit(&s->holders, memory_order_acquire) == 0) {
			*at = s->next_retired;
			snapshot_free(s);
		} else {
			at = &s->next_retired;
		}
	}
}

static void
list_add(struct string_list *l, const char *s)
{
	l->items = realloc(l->items, (l->n + 1) * sizeof(char *));
	ENSURE(l->items != NULL);
	l->items[l->n] = strdup(s);
	ENSURE(l->items[l->n] != NULL);
	l->n++;
}

static bool
configured(const struct pool_config *pool, const struct known_backend *k)
{
	for (size_t i = 0; i < pool->n_backends; i++) {
		if (strcmp(pool->backends[i].address.text, k->backend.name) == 0)
			return true;
	}
	return false;
}

static void
save_pool(const struct roster *r, unsigned service, enum color color, struct state_pool *out)
{
	const struct pool_config *pool = &r->config->services[service].pools[color];

	for (unsigned i = 0; i < r->n_backends; i++) {
		const struct known_backend *k = r->backends[i];

		if (k->service != service || k->backend.color != color)
			continue;
		if (k->member != configured(pool, k))
			out->changed = true;
		if (k->member)
			list_add(&out->backends, k->backend.name);
		if (k->member && k->drained)
			list_add(&out->drained, k->backend.name);
		if (k->member && atomic_load(&k->backend.state) == BACKEND_UP)
			list_add(&out->well, k->backend.name);
	}
}

void
roster_save(const struct roster *r, struct state *state)
{
	for (unsigned i = 0; i < r->config->n_services; i++) {
		const struct service_state *from = &r->states[i];
		struct state_service *to = state_find(state, r->config->services[i].name, true);

		ENSURE(to != NULL);
		to->live = course_live(service_course(from));
		to->weight_bp = course_weight(service_course(from));
		to->maintenance = atomic_load(&from->maintenance);
		to->epoch = atomic_load(&from->epoch);
		to->split_key[0] = atomic_load(&from->split_key[0]);
		to->split_key[1] = atomic_load(&from->split_key[1]);
		for (unsigned c = 0; c < N_COLORS; c++)
			save_pool(r, i, (enum color)c, &to->pools[c]);
	}
}
