/*
 * Rules within a service and between services.
 *
 * Looking for duplicates sorts instead of comparing everybody with everybody: 10,000 services with
 * a host each are checked in a moment.
 */
#include <stdlib.h>
#include <string.h>

#include "config/alloc.h"
#include "config/load.h"

/* --- pools ---------------------------------------------------------------- */

/* A name or address and where it stands; for finding duplicates by sorting. */
struct entry {
	const char *a, *b; /* b: second part of the key, or "" */
	size_t owner, index;
};

static int
entry_order(const void *x, const void *y)
{
	const struct entry *e = x, *f = y;
	int order = strcmp(e->a, f->a);

	if (order == 0)
		order = strcmp(e->b, f->b);
	if (order == 0)
		order = e->owner < f->owner ? -1 : e->owner > f->owner;
	if (order == 0)
		order = e->index < f->index ? -1 : e->index > f->index;
	return order;
}

static bool
entry_same(const struct entry *e, const struct entry *f)
{
	return strcmp(e->a, f->a) == 0 && strcmp(e->b, f->b) == 0;
}

static void
check_backends(struct loading *l, config_setting_t *list, const struct pool_config *p)
{
	struct entry *entries = must_alloc(p->n_backends, sizeof(*entries));

	for (size_t i = 0; i < p->n_backends; i++)
		entries[i] = (struct entry){p->backends[i].address.text, "", 0, i};
	qsort(entries, p->n_backends, sizeof(*entries), entry_order);
	for (size_t i = 1; i < p->n_backends; i++)
		if (entry_same(&entries[i - 1], &entries[i]))
			loading_refuse(l, config_setting_get_elem(list, (unsigned)entries[i].index),
			    "is a duplicate: \"%s\" is in this pool already", entries[i].a);
	free(entries);
}

static bool
has_unix_backend(const struct pool_config *p)
{
	for (size_t i = 0; i < p->n_backends; i++)
		if (p->backends[i].address.path != NULL)
			return true;
	return false;
}

static void
check_pool(struct loading *l, config_setting_t *s, const struct pool_config *p)
{
	config_setting_t *list = loading_find(s, "backends");
	bool certificate = p->tls.certificate[0] != '\0', key = p->tls.key[0] != '\0';

	if (list != NULL && !loading_is_bad(list) && p->n_backends > 1)
		check_backends(l, list, p);
	if (!p->tls.on || loading_is_bad(loading_find(s, "tls")))
		return;
	if (certificate != key)
		loading_refuse(l, loading_near(s, "tls"), "needs certificate and key, or neither");
	/* a Unix path is no name a certificate could have (RFC 9110 section 4.3.4) */
	if (p->tls.verify && p->tls.server_name[0] == '\0' && has_unix_backend(p))
		loading_refuse(l, loading_near(s, "tls"),
		    "needs server_name to verify a backend on a Unix socket");
}

static void
check_pools(struct loading *l, config_setting_t *s, const struct service_config *c)
{
	config_setting_t *bad = NULL;
	size_t n = 0;

	for (int color = 0; color < N_COLORS; color++) {
		const char *key = color_name((enum color)color);
		config_setting_t *pool = loading_find(s, key);

		n += c->pools[color].n_backends;
		if (pool == NULL || !config_setting_is_group(pool)) {
			bad = pool != NULL ? pool : bad;
			continue;
		}
		if (loading_is_bad(pool))
			bad = pool;
		check_pool(l, pool, &c->pools[color]);
	}
	if (n == 0 && bad == NULL)
		loading_refuse(l, s, "has no backends: blue or green needs at least one");
}

/* --- split, health, rollout ----------------------------------------------- */

static void
check_split(struct loading *l, config_setting_t *s, const struct split_config *c)
{
	bool by_any = c->force_header[0] != '\0' || c->force_cookie[0] != '\0';
	config_setting_t *force = loading_find(s, "split.force");

	if (c->by == SPLIT_COOKIE && c->cookie[0] == '\0')
		loading_refuse(l, loading_near(s, "split.cookie"), "must not be empty");
	if (force == NULL || loading_is_bad(force))
		return;
	if (by_any && c->force_secret[0] == '\0')
		loading_refuse(l, force, "needs secret: else anybody could choose the color");
	if (!by_any && c->force_secret[0] != '\0')
		loading_refuse(l, force, "needs header or cookie beside secret");
	if (c->force_cookie[0] != '\0' && strcmp(c->force_cookie, c->cookie) == 0)
		loading_refuse(l, loading_near(force, "cookie"),
		    "must not be the cookie of the split, \"%s\"", c->cookie);
}

static void
check_probe(struct loading *l, config_setting_t *s, const struct service_config *c,
    const struct probe_config *p)
{
	if ((p->json_member[0] == '\0') != (p->json_value[0] == '\0'))
		loading_refuse(l, loading_near(s, "json"), "needs both member and value");
	if (!p->grpc)
		return;
	if (p->json_member[0] != '\0')
		loading_refuse(l, loading_near(s, "json"), "means nothing with grpc = true");
	for (int color = 0; color < N_COLORS; color++)
		if (c->pools[color].n_backends > 0 && c->pools[color].protocol != BACK_H2)
			loading_refuse(l, loading_near(s, "grpc"),
			    "needs protocol = \"h2\" in pool %s", color_name((enum color)color));
}

static void
check_health(struct loading *l, config_setting_t *s, const struct service_config *c)
{
	static const char *const keys[N_PROBES] = {[PROBE_LIVENESS] = "health.liveness",
	    [PROBE_READINESS] = "health.readiness",
	    [PROBE_STARTUP] = "health.startup"};

	for (int i = 0; i < N_PROBES; i++) {
		config_setting_t *probe = loading_find(s, keys[i]);

		if (probe != NULL && !loading_is_bad(probe))
			check_probe(l, probe, c, &c->health[i]);
	}
}

static void
check_steps(struct loading *l, config_setting_t *list, const struct rollout_config *c)
{
	unsigned before = 0;

	for (size_t i = 0; i < c->n_steps; i++) {
		config_setting_t *s = config_setting_get_elem(list, (unsigned)i);

		if (c->steps[i].weight_bp <= before)
			loading_refuse(
			    l, loading_near(s, "weight"), "must be above the step before it");
		before = c->steps[i].weight_bp;
	}
	if (before != 10000)
		loading_refuse(l, list, "must end at weight 100");
}

static void
check_rollout(struct loading *l, config_setting_t *s, const struct rollout_config *c)
{
	config_setting_t *list = loading_find(s, "rollout.steps");

	if (loading_is_bad(list))
		return;
	if (list != NULL)
		check_steps(l, list, c);
	for (size_t i = 0; i < c->n_steps; i++) {
		if (c->steps[i].hold_ms <= c->max_hold_ms)
			continue;
		loading_refuse(l, loading_near(s, "rollout.max_hold"),
		    "must not be below the hold of step %zu", i + 1);
		return;
	}
}

/* --- the rest of a service ------------------------------------------------ */

static void
check_rates(struct loading *l, config_setting_t *s, struct service_config *c)
{
	config_setting_t *list = loading_find(s, "rates");

	for (size_t i = 0; i < c->n_rates; i++) {
		/* 0 means as many as requests; done here, so that -T shows what holds */
		if (c->rates[i].burst == 0)
			c->rates[i].burst = c->rates[i].requests;
		for (size_t j = 0; j < i && !loading_is_bad(list); j++)
			if (strcmp(c->rates[i].path, c->rates[j].path) == 0)
				loading_refuse(l, config_setting_get_elem(list, (unsigned)i),
				    "is a duplicate: path \"%s\" has a rate already",
				    c->rates[i].path);
	}
}

static void
check_service(struct loading *l, config_setting_t *s, struct service_config *c)
{
	config_setting_t *hosts = loading_find(s, "hosts"), *paths = loading_find(s, "paths");

	if (hosts != NULL && c->hosts.n == 0 && !loading_is_bad(hosts))
		loading_refuse(l, hosts, "must not be empty");
	if (paths != NULL && c->paths.n == 0 && !loading_is_bad(paths))
		loading_refuse(l, paths, "must not be empty");
	check_pools(l, s, c);
	check_split(l, s, &c->split);
	check_health(l, s, c);
	check_rollout(l, s, &c->rollout);
	check_rates(l, s, c);
}

/* --- between services ----------------------------------------------------- */

static void
check_names(struct loading *l, config_setting_t *list)
{
	const struct config *c = l->config;
	struct entry *entries = must_alloc(c->n_services, sizeof(*entries));

	for (size_t i = 0; i < c->n_services; i++)
		entries[i] = (struct entry){c->services[i].name, "", i, i};
	qsort(entries, c->n_services, sizeof(*entries), entry_order);
	for (size_t i = 1; i < c->n_services; i++) {
		const struct entry *e = &entries[i - 1], *f = &entries[i];

		if (entry_same(e, f) && *f->a != '\0')
			loading_refuse(l,
			    loading_near(config_setting_get_elem(list, (unsigned)f->owner), "name"),
			    "is a duplicate: \"%s\" is the service at line %u", f->a,
			    c->services[e->owner].line);
	}
	free(entries);
}

/* Hosts and paths of one service, every pair one entry. */
static size_t
add_routes(struct entry *entries, const struct service_config *c, size_t owner)
{
	size_t n = 0;

	for (size_t h = 0; h < c->hosts.n; h++)
		for (size_t p = 0; p < c->paths.n; p++)
			entries[n++] =
			    (struct entry){c->hosts.items[h], c->paths.items[p], owner, h};
	return n;
}

/* Pairs of host and path in all; a service with thousands of each is a mistake. */
#define ROUTES_MAX 1000000

static void
check_routes(struct loading *l, config_setting_t *list)
{
	const struct config *c = l->config;
	struct entry *entries;
	size_t n = 0, total = 0;

	for (size_t i = 0; i < c->n_services; i++)
		total += c->services[i].hosts.n * c->services[i].paths.n;
	if (total > ROUTES_MAX) {
		loading_refuse(l, list, "has %zu pairs of host and path; it may have at most %d",
		    total, ROUTES_MAX);
		return;
	}
	entries = must_alloc(total, sizeof(*entries));
	for (size_t i = 0; i < c->n_services; i++)
		n += add_routes(entries + n, &c->services[i], i);
	qsort(entries, n, sizeof(*entries), entry_order);
	for (size_t i = 1; i < n; i++) {
		const struct entry *e = &entries[i - 1], *f = &entries[i];
		config_setting_t *s = config_setting_get_elem(list, (unsigned)f->owner);

		if (!entry_same(e, f))
			continue;
		if (e->owner == f->owner)
			loading_refuse(l, loading_near(s, "hosts"),
			    "has a duplicate: host \"%s\" with path \"%s\"", f->a, f->b);
		else
			loading_refuse(l, loading_near(s, "hosts"),
			    "is a duplicate route: host \"%s\" with path \"%s\" "
			    "belongs to the service at line %u",
			    f->a, f->b, c->services[e->owner].line);
	}
	free(entries);
}

void
check_services(struct loading *l)
{
	config_setting_t *list =
	    config_setting_get_member(config_root_setting(&l->tree), "services");
	bool groups = true;

	for (size_t i = 0; i < l->config->n_services; i++) {
		config_setting_t *s = config_setting_get_elem(list, (unsigned)i);

		groups = groups && config_setting_is_group(s);
		if (config_setting_is_group(s))
			check_service(l, s, &l->config->services[i]);
	}
	check_names(l, list);
	/* what is not a group has the default host and would clash with everybody */
	if (groups)
		check_routes(l, list);
}
