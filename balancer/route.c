/*
 * The route table: one open-addressed hash table with the exact hosts and the wildcards
 * (kept as ".a.example"), each with its list of paths, the longest first.
 *
 * A host is hashed from its end, so on the way to the whole every suffix that begins with a
 * dot has its hash at hand: one pass finds the exact host and the longest wildcard.  The
 * pass stops at the longest name there is, so a host of 64 KiB costs what that name does.
 * The keys are the operator's; a client can look for them, not add to them.
 *
 * Made by control with the snapshot, immutable, any thread reads it.
 */
#include <stdlib.h>
#include <string.h>

#include "balancer/route.h"

#define FNV_BASIS UINT64_C(0xcbf29ce484222325) /* FNV-1a (Fowler, Noll, Vo) */
#define FNV_PRIME UINT64_C(0x100000001b3)

struct path {
	struct path *next;  /* shorter, or as long and later in the file */
	const char *prefix; /* the configuration's */
	size_t len;
	struct service *service;
};

struct host {
	const char *name; /* the configuration's, without "*" */
	size_t len;
	uint64_t hash;
	bool wild;
	struct path *paths;
};

struct route_table {
	struct host *hosts; /* room for all; n_hosts are in use */
	size_t n_hosts;
	struct host **slots; /* at most half full */
	size_t mask;
	struct path *paths; /* room for all */
	size_t n_paths;
	struct path *any; /* the paths of "*" */
	bool has_any;
	size_t n_wild;
	size_t longest; /* name */
};

static inline unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static inline uint64_t
hash_step(uint64_t hash, char c)
{
	return (hash ^ lower(c)) * FNV_PRIME;
}

static bool
same_name(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (lower(a[i]) != lower(b[i]))
			return false;
	}
	return true;
}

/* Where that name is, or the free slot where it would be. */
static struct host **
slot_of(const struct route_table *t, uint64_t hash, const char *name, size_t len, bool wild)
{
	for (size_t i = hash ^ hash >> 32;; i++) {
		struct host **slot = &t->slots[i & t->mask];
		const struct host *h = *slot;

		if (h == NULL || (h->hash == hash && h->len == len && h->wild == wild &&
				     same_name(h->name, name, len)))
			return slot;
	}
}

/* --- the request's host ---------------------------------------------------- */

/* uri-host of RFC 9110 7.2 without ":port"; an IP literal (RFC 3986 3.2.2) without brackets.
 * What is no host at all stays as it is and matches nothing but "*". */
static void
strip_port(const char **host, size_t *len)
{
	const char *h = *host;
	size_t end = *len;

	while (end > 0 && h[end - 1] >= '0' && h[end - 1] <= '9')
		end--;
	bool port = end > 0 && h[end - 1] == ':';
	if (port)
		end--;
	if (*len > 0 && h[0] == '[') {
		if (!port)
			end = *len;
		if (end > 2 && h[end - 1] == ']' && memchr(h, ':', end) != NULL) {
			*host = h + 1;
			*len = end - 2;
		}
	} else if (port && memchr(h, ':', end) == NULL) {
		*len = end;
	}
}

static void
strip_host(const char **host, size_t *len)
{
	strip_port(host, len);
	/* the root label: "a.example." is "a.example" (RFC 1034 3.1) */
	if (*len > 0 && (*host)[*len - 1] == '.')
		(*len)--;
}

static const struct host *
find_host(const struct route_table *t, const char *host, size_t len)
{
	const struct host *best = NULL, *found;
	uint64_t hash = FNV_BASIS;
	size_t end = len > t->longest ? len - t->longest : 0;

	for (size_t i = len; i-- > end;) {
		hash = hash_step(hash, host[i]);
		/* something must stand for the "*" */
		if (host[i] == '.' && i > 0 && t->n_wild != 0) {
			found = *slot_of(t, hash, host + i, len - i, true);
			if (found != NULL)
				best = found;
		}
	}
	if (end == 0 && len > 0) {
		found = *slot_of(t, hash, host, len, false);
		if (found != NULL)
			best = found;
	}
	return best;
}

static bool
path_fits(const struct path *p, const char *path, size_t len)
{
	if (len < p->len || memcmp(p->prefix, path, p->len) != 0)
		return false;
	if (len == p->len || (p->len > 0 && p->prefix[p->len - 1] == '/'))
		return true;
	return path[p->len] == '/' || path[p->len] == '?';
}

enum route_result
route_find(const struct route_table *t, const char *host, size_t host_len, const char *path,
    size_t path_len, struct service **out)
{
	*out = NULL;
	strip_host(&host, &host_len);
	const struct host *h = find_host(t, host, host_len);
	if (h == NULL && !t->has_any)
		return ROUTE_NO_HOST;
	/* OPTIONS * asks the server as a whole (RFC 9112 3.2.4): whoever has the root */
	if (path_len == 1 && path[0] == '*')
		path = "/";
	for (const struct path *p = h != NULL ? h->paths : t->any; p != NULL; p = p->next) {
		if (path_fits(p, path, path_len)) {
			*out = p->service;
			return ROUTE_OK;
		}
	}
	return ROUTE_NO_PATH;
}

/* --- making it ------------------------------------------------------------- */

static struct path **
add_host(struct route_table *t, const char *text)
{
	size_t len = strlen(text);
	bool wild = len > 1 && text[0] == '*' && text[1] == '.';
	uint64_t hash = FNV_BASIS;

	if (len == 1 && text[0] == '*') {
		t->has_any = true;
		return &t->any;
	}
	if (wild) {
		text++;
		len--;
	}
	strip_host(&text, &len);
	for (size_t i = len; i-- > 0;)
		hash = hash_step(hash, text[i]);
	struct host **slot = slot_of(t, hash, text, len, wild);
	if (*slot == NULL) {
		*slot = &t->hosts[t->n_hosts++];
		**slot = (struct host){.name = text, .len = len, .hash = hash, .wild = wild};
		t->n_wild += wild;
		if (len > t->longest)
			t->longest = len;
	}
	return &(*slot)->paths;
}

/* After all that are as long: of two services with the same host and path the first has it. */
static void
add_path(struct route_table *t, struct path **list, const char *prefix, struct service *s)
{
	struct path *p = &t->paths[t->n_paths++];
	size_t len = strlen(prefix);

	while (*list != NULL && (*list)->len >= len)
		list = &(*list)->next;
	*p = (struct path){.next = *list, .prefix = prefix, .len = len, .service = s};
	*list = p;
}

static void
add_service(struct route_table *t, struct service *s)
{
	const struct string_list *hosts = &s->config->hosts, *paths = &s->config->paths;

	for (size_t i = 0; i < hosts->n; i++) {
		struct path **list = add_host(t, hosts->items[i]);

		for (size_t k = 0; k < paths->n; k++)
			add_path(t, list, paths->items[k], s);
	}
}

struct route_table *
route_table_new(const struct fleet *fleet)
{
	size_t n_hosts = 0, n_paths = 0, n_slots = 8;
	struct route_table *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	for (unsigned i = 0; i < fleet->n_services; i++) {
		const struct service_config *c = fleet->services[i].config;

		n_hosts += c->hosts.n;
		n_paths += c->hosts.n * c->paths.n;
	}
	while (n_slots < 2 * n_hosts)
		n_slots *= 2;
	t->mask = n_slots - 1;
	t->slots = calloc(n_slots, sizeof *t->slots);
	t->hosts = calloc(n_hosts + 1, sizeof *t->hosts);
	t->paths = calloc(n_paths + 1, sizeof *t->paths);
	if (t->slots == NULL || t->hosts == NULL || t->paths == NULL) {
		route_table_free(t);
		return NULL;
	}
	for (unsigned i = 0; i < fleet->n_services; i++)
		add_service(t, &fleet->services[i]);
	return t;
}

void
route_table_free(struct route_table *t)
{
	if (t == NULL)
		return;
	free(t->slots);
	free(t->hosts);
	free(t->paths);
	free(t);
}
