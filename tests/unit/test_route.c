/* Which service: hosts, wildcards, ports, paths on segment borders, and hosts meant to hurt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/route.h"

#define MAX_SERVICES 32

/* A fleet from a table of "host host|path path" texts, service i being row i. */
struct world {
	struct fleet fleet;
	struct service services[MAX_SERVICES];
	struct service_config configs[MAX_SERVICES];
	struct route_table *table;
};

static void
split_words(struct string_list *list, const char *text, size_t n)
{
	char *copy = strndup(text, n), *rest = copy;

	list->items = calloc(16, sizeof *list->items);
	for (char *word; (word = strsep(&rest, " ")) != NULL;)
		list->items[list->n++] = strdup(word);
	free(copy);
}

static struct world *
world_new(const char *const *rows, unsigned n)
{
	struct world *w = calloc(1, sizeof *w);

	assert_true(n <= MAX_SERVICES);
	for (unsigned i = 0; i < n; i++) {
		const char *bar = strchr(rows[i], '|');

		split_words(&w->configs[i].hosts, rows[i], (size_t)(bar - rows[i]));
		split_words(&w->configs[i].paths, bar + 1, strlen(bar + 1));
		w->services[i] = (struct service){.config = &w->configs[i], .index = i};
	}
	w->fleet.services = w->services;
	w->fleet.n_services = n;
	w->table = route_table_new(&w->fleet);
	assert_non_null(w->table);
	return w;
}

static void
list_free(struct string_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
}

static void
world_free(struct world *w)
{
	for (unsigned i = 0; i < w->fleet.n_services; i++) {
		list_free(&w->configs[i].hosts);
		list_free(&w->configs[i].paths);
	}
	route_table_free(w->table);
	free(w);
}

#define NO_HOST (-1)
#define NO_PATH (-2)

/* The index of the service found, or why none. */
static int
find_n(const struct world *w, const char *host, size_t host_len, const char *path)
{
	/* on the heap and not terminated, so that a sanitizer sees a byte too many */
	char *h = malloc(host_len + !host_len), *p = malloc(strlen(path) + 1);
	size_t path_len = strlen(path);
	struct service *s = (struct service *)w;

	memcpy(h, host, host_len);
	p = realloc(p, path_len + !path_len);
	memcpy(p, path, path_len);
	enum route_result r = route_find(w->table, h, host_len, p, path_len, &s);
	free(h);
	free(p);
	switch (r) {
	case ROUTE_OK:
		return (int)s->index;
	case ROUTE_NO_HOST:
		assert_null(s);
		return NO_HOST;
	case ROUTE_NO_PATH:
		assert_null(s);
		return NO_PATH;
	}
	return -3;
}

static int
find(const struct world *w, const char *host, const char *path)
{
	return find_n(w, host, strlen(host), path);
}

static void
exact_before_wildcard_before_any(void **state)
{
	static const char *const rows[] = {
	    "a.example|/", "*.example|/", "*.b.example|/", "*|/", "x.b.example|/"};
	struct world *w = world_new(rows, 5);

	(void)state;
	assert_int_equal(find(w, "a.example", "/"), 0);
	assert_int_equal(find(w, "c.example", "/"), 1);
	assert_int_equal(find(w, "c.d.example", "/"), 1);
	assert_int_equal(find(w, "b.example", "/"), 1);
	assert_int_equal(find(w, "c.b.example", "/"), 2);
	assert_int_equal(find(w, "d.c.b.example", "/"), 2);
	assert_int_equal(find(w, "x.b.example", "/"), 4);
	assert_int_equal(find(w, "y.x.b.example", "/"), 2);
	assert_int_equal(find(w, "a.a.example", "/"), 1);
	/* a wildcard is no suffix of a label, and stands for at least one */
	assert_int_equal(find(w, "example", "/"), 3);
	assert_int_equal(find(w, ".example", "/"), 3);
	assert_int_equal(find(w, "notexample", "/"), 3);
	assert_int_equal(find(w, "ab.example.org", "/"), 3);
	assert_int_equal(find(w, "", "/"), 3);
	world_free(w);
}

static void
no_host(void **state)
{
	static const char *const rows[] = {"a.example|/", "*.w.example|/api"};
	struct world *w = world_new(rows, 2);

	(void)state;
	assert_int_equal(find(w, "b.example", "/"), NO_HOST);
	assert_int_equal(find(w, "a.exampl", "/"), NO_HOST);
	assert_int_equal(find(w, "a.examplee", "/"), NO_HOST);
	assert_int_equal(find(w, "xa.example", "/"), NO_HOST);
	assert_int_equal(find(w, "w.example", "/api"), NO_HOST);
	assert_int_equal(find(w, "x.w.example", "/"), NO_PATH);
	assert_int_equal(find(w, "x.w.example", "/api"), 1);
	assert_int_equal(find(w, "", "/"), NO_HOST);
	assert_int_equal(find(w, ":80", "/"), NO_HOST);
	assert_int_equal(find(w, ".", "/"), NO_HOST);
	/* the wildcard's text is no host */
	assert_int_equal(find(w, ".w.example", "/api"), NO_HOST);
	assert_int_equal(find(w, "*", "/"), NO_HOST);
	world_free(w);
}

static void
case_port_and_root(void **state)
{
	static const char *const rows[] = {"a.example|/", "*.b.example|/", "[2001:db8::1]|/",
	    "192.0.2.1|/", "MiXed.Example|/", "::2|/"};
	struct world *w = world_new(rows, 6);

	(void)state;
	assert_int_equal(find(w, "A.EXAMPLE", "/"), 0);
	assert_int_equal(find(w, "a.eXample:8443", "/"), 0);
	assert_int_equal(find(w, "a.example:", "/"), 0);
	assert_int_equal(find(w, "a.example.", "/"), 0);
	assert_int_equal(find(w, "a.example.:443", "/"), 0);
	assert_int_equal(find(w, "x.B.example.:443", "/"), 1);
	assert_int_equal(find(w, "mixed.example", "/"), 4);
	assert_int_equal(find(w, "192.0.2.1:80", "/"), 3);
	assert_int_equal(find(w, "[2001:db8::1]", "/"), 2);
	assert_int_equal(find(w, "[2001:DB8::1]:443", "/"), 2);
	assert_int_equal(find(w, "[2001:db8::1]:", "/"), 2);
	assert_int_equal(find(w, "[::2]:8080", "/"), 5);

	static const char *const strangers[] = {"a.example..", "a.example:80:80", "a.example:8x",
	    "a.example:-1", "a.example :80", "[a.example]", "[a.example]:80", "[2001:db8::1",
	    "[2001:db8::1x", "[2001:db8::1x:80", "[2001:db8::1]x", "[2001:db8::1]x:80",
	    "[2001:db8::1]80", "2001:db8::1]", "[]", "[", "]", "[]:80", ":",
	    "::", "[:", "a.example@", "a.example/", "a.example,a.example"};
	for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
		assert_int_equal(find(w, strangers[i], "/"), NO_HOST);
	/* a NUL ends nothing */
	assert_int_equal(find_n(w, "a.example\0", 10, "/"), NO_HOST);
	assert_int_equal(find_n(w, "a.example\0.b.example", 20, "/"), 1);
	world_free(w);
}

static void
longest_path_on_segments(void **state)
{
	static const char *const rows[] = {
	    "a.example|/", "a.example|/api", "a.example|/api/v2 /img/", "b.example|/only"};
	struct world *w = world_new(rows, 4);

	(void)state;
	assert_int_equal(find(w, "a.example", "/"), 0);
	assert_int_equal(find(w, "a.example", "/x/api"), 0);
	assert_int_equal(find(w, "a.example", "/api"), 1);
	assert_int_equal(find(w, "a.example", "/api/"), 1);
	assert_int_equal(find(w, "a.example", "/api?x=/api/v2"), 1);
	assert_int_equal(find(w, "a.example", "/api/x"), 1);
	assert_int_equal(find(w, "a.example", "/apix"), 0);
	assert_int_equal(find(w, "a.example", "/ap"), 0);
	assert_int_equal(find(w, "a.example", "/api/v2"), 2);
	assert_int_equal(find(w, "a.example", "/api/v2?q"), 2);
	assert_int_equal(find(w, "a.example", "/api/v2/x"), 2);
	assert_int_equal(find(w, "a.example", "/api/v20"), 1);
	assert_int_equal(find(w, "a.example", "/img/"), 2);
	assert_int_equal(find(w, "a.example", "/img/x"), 2);
	assert_int_equal(find(w, "a.example", "/img"), 0);
	assert_int_equal(find(w, "a.example", "/img?"), 0);
	assert_int_equal(find(w, "b.example", "/only"), 3);
	assert_int_equal(find(w, "b.example", "/"), NO_PATH);
	assert_int_equal(find(w, "b.example", ""), NO_PATH);
	/* bytes as forwarded: nothing decoded, folded or resolved */
	assert_int_equal(find(w, "a.example", "/API"), 0);
	assert_int_equal(find(w, "a.example", "/%61pi"), 0);
	assert_int_equal(find(w, "a.example", "//api"), 0);
	assert_int_equal(find(w, "a.example", "/x/../api"), 0);
	assert_int_equal(find(w, "a.example", "/api/../x"), 1);
	assert_int_equal(find(w, "a.example", "/api;v=1"), 0);
	world_free(w);
}

/* OPTIONS * */
static void
asterisk(void **state)
{
	static const char *const rows[] = {"a.example|/api", "a.example|/", "b.example|/api"};
	struct world *w = world_new(rows, 3);

	(void)state;
	assert_int_equal(find(w, "a.example", "*"), 1);
	assert_int_equal(find(w, "b.example", "*"), NO_PATH);
	assert_int_equal(find(w, "a.example", "**"), NO_PATH);
	world_free(w);
}

/* The host decides first: a path it does not have is not looked for elsewhere. */
static void
host_decides_first(void **state)
{
	static const char *const rows[] = {"a.example|/api", "*.example|/", "*|/ /api"};
	struct world *w = world_new(rows, 3);

	(void)state;
	assert_int_equal(find(w, "a.example", "/"), NO_PATH);
	assert_int_equal(find(w, "b.example", "/api"), 1);
	assert_int_equal(find(w, "c", "/api"), 2);
	world_free(w);
}

static void
first_of_equals(void **state)
{
	static const char *const rows[] = {"a.example|/x", "A.example.|/x /y", "a.example:80|/y"};
	struct world *w = world_new(rows, 3);

	(void)state;
	assert_int_equal(find(w, "a.example", "/x"), 0);
	assert_int_equal(find(w, "a.example", "/y"), 1);
	world_free(w);
}

static void
empty_fleet(void **state)
{
	struct world *w = world_new(NULL, 0);

	(void)state;
	assert_int_equal(find(w, "a.example", "/"), NO_HOST);
	assert_int_equal(find(w, "", ""), NO_HOST);
	world_free(w);
	route_table_free(NULL);
}

/* 64 KiB of whatever would make a naive search quadratic. */
static void
hostile_hosts(void **state)
{
	static const char *const rows[] = {"a.example|/", "*.b.example|/", "*.c.b.example|/"};
	static const char fill[] = {'.', 'a', ':', '[', ']', '0', '9', '*', '\0', '\xff'};
	struct world *w = world_new(rows, 3);
	const size_t n = 65536, tail = strlen(".b.example");
	char *host = malloc(n);

	(void)state;
	for (size_t f = 0; f < sizeof fill; f++) {
		memset(host, fill[f], n);
		assert_int_equal(find_n(w, host, n, "/"), NO_HOST);
		memcpy(host + n - tail, ".b.example", tail);
		assert_int_equal(find_n(w, host, n, "/"), 1);
		memset(host, fill[f], n);
		memcpy(host, "a.example", 9);
		assert_int_equal(find_n(w, host, n, "/"), NO_HOST);
	}
	/* a port of 64 KiB is digits all the same */
	memset(host, '1', n);
	memcpy(host, "a.example:", 10);
	assert_int_equal(find_n(w, host, n, "/"), 0);
	free(host);
	world_free(w);
}

static void
many_hosts(void **state)
{
	enum { N = 10000 };
	struct fleet fleet = {.n_services = N};
	struct service_config *configs = calloc(N, sizeof *configs);
	char(*names)[32] = calloc(N, sizeof *names);
	char **items = calloc(N, sizeof *items);
	char *root = (char[]){"/"};

	(void)state;
	fleet.services = calloc(N, sizeof *fleet.services);
	for (unsigned i = 0; i < N; i++) {
		(void)snprintf(
		    names[i], sizeof names[i], i % 10 == 0 ? "*.t%u.example" : "t%u.example", i);
		items[i] = names[i];
		configs[i].hosts = (struct string_list){&items[i], 1};
		configs[i].paths = (struct string_list){&root, 1};
		fleet.services[i] = (struct service){.config = &configs[i], .index = i};
	}
	struct route_table *t = route_table_new(&fleet);
	assert_non_null(t);
	for (unsigned i = 0; i < N; i++) {
		struct service *s;
		char host[64];
		int len =
		    snprintf(host, sizeof host, "%st%u.example:443", i % 10 == 0 ? "www." : "", i);

		assert_int_equal(route_find(t, host, (size_t)len, "/x", 2, &s), ROUTE_OK);
		assert_int_equal(s->index, i);
		assert_int_equal(route_find(t, host + 1, (size_t)len - 1, "/x", 2, &s),
		    i % 10 == 0 ? ROUTE_OK : ROUTE_NO_HOST);
	}
	route_table_free(t);
	free(fleet.services);
	free(configs);
	free(names);
	free(items);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(exact_before_wildcard_before_any),
	    cmocka_unit_test(no_host),
	    cmocka_unit_test(case_port_and_root),
	    cmocka_unit_test(longest_path_on_segments),
	    cmocka_unit_test(asterisk),
	    cmocka_unit_test(host_decides_first),
	    cmocka_unit_test(first_of_equals),
	    cmocka_unit_test(empty_fleet),
	    cmocka_unit_test(hostile_hosts),
	    cmocka_unit_test(many_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
