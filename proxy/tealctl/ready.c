/* Are the backends of a deploy up?  See ready.h. */
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/ready.h"
#include "proxy/tealctl/text.h"

void
ready_begin(struct ready *r, enum color color, char *const *addresses, unsigned n)
{
	*r = (struct ready){.color = color, .addresses = addresses, .n = n};
	r->told = calloc(n, sizeof(*r->told));
}

void
ready_fini(struct ready *r)
{
	for (unsigned i = 0; r->told != NULL && i < r->n; i++)
		free(r->told[i]);
	free((void *)r->told);
	r->told = NULL;
}

/* NULL: it is not in the pool. */
static const json_t *
find(const struct ready *r, const json_t *service, unsigned i)
{
	const json_t *all = json_object_get(member_color(service, r->color), "backends");

	for (size_t k = 0; k < json_array_size(all); k++)
		if (strcmp(member_text(json_array_get(all, k), "address"), r->addresses[i]) == 0)
			return json_array_get(all, k);
	return NULL;
}

static bool
is_up(const json_t *backend)
{
	return strcmp(member_text(backend, "state"), "up") == 0;
}

/* "; readiness saw 503 warming up": of the probes that have not passed; not what `said` says
 * already. */
static void
put_probes(FILE *out, const json_t *backend, const char *said)
{
	static const char *const names[] = {"startup", "liveness", "readiness"};
	const json_t *probes = json_object_get(backend, "probes");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const json_t *probe = json_object_get(probes, names[i]);

		const char *saw = member_text(probe, "saw");

		if (probe == NULL || member_true(probe, "well") || *saw == '\0' ||
		    strstr(said, saw) != NULL)
			continue;
		(void)fprintf(out, "; %s saw ", names[i]);
		put_safe(out, saw);
	}
}

static void
put_backend(FILE *out, const char *address, const json_t *backend)
{
	const char *state = backend == NULL ? "not in the pool" : member_text(backend, "state");
	const char *reason = member_text(backend, "reason");

	put_safe(out, address);
	(void)fputs(" is ", out);
	if (is_up(backend)) {
		put_safe(out, state);
		if (*member_text(backend, "version") != '\0') {
			(void)fputs(", version ", out);
			put_safe(out, member_text(backend, "version"));
		}
		return;
	}
	/* a reason may begin with the state: "starting: waits for ..." */
	if (*reason == '\0' || strncmp(reason, state, strlen(state)) != 0) {
		put_safe(out, state);
		(void)fputs(*reason == '\0' ? "" : ": ", out);
	}
	put_safe(out, reason);
	put_probes(out, backend, reason);
}

/* What makes a line worth telling: the state and what was seen, without counters.  malloc'd or
 * NULL. */
static char *
key_of(const json_t *backend)
{
	char *key = NULL;
	size_t n;
	FILE *f = open_memstream(&key, &n);

	if (f == NULL)
		return NULL;
	(void)fputs(backend == NULL ? "-" : member_text(backend, "state"), f);
	if (!is_up(backend))
		put_probes(f, backend, "");
	(void)fclose(f);
	return key;
}

/* Remembers it; false when it was told already. */
static bool
is_new(struct ready *r, unsigned i, const json_t *backend)
{
	char *key = key_of(backend);

	if (key == NULL || r->told == NULL) {
		free(key);
		return true;
	}
	if (r->told[i] != NULL && strcmp(r->told[i], key) == 0) {
		free(key);
		return false;
	}
	free(r->told[i]);
	r->told[i] = key;
	return true;
}

void
ready_look(struct ready *r, const json_t *service, FILE *lines)
{
	r->up = r->missing = 0;
	for (unsigned i = 0; i < r->n; i++) {
		const json_t *backend = find(r, service, i);

		r->up += is_up(backend);
		r->missing += backend == NULL;
		if (!is_new(r, i, backend))
			continue;
		put_safe(lines, member_text(service, "name"));
		(void)fprintf(lines, ": %s ", color_name(r->color));
		put_backend(lines, r->addresses[i], backend);
		(void)fputc('\n', lines);
	}
}

void
ready_lacking(const struct ready *r, const json_t *service, FILE *out)
{
	for (unsigned i = 0; i < r->n; i++) {
		const json_t *backend = find(r, service, i);

		if (is_up(backend))
			continue;
		(void)fputs("  ", out);
		put_backend(out, r->addresses[i], backend);
		(void)fputc('\n', out);
	}
}
