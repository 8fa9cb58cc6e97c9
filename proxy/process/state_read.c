/*
 * JSON -> struct state; the shape is drawn in state_json.c.  Pure; any thread.
 *
 * Anything that is not exactly that shape is refused whole and not repaired: half a state could
 * send traffic where nobody wants it.  Numbers are read as 64 bits and checked before they are
 * narrowed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/parse.h"
#include "proxy/process/state_json.h"

#define SERVICES_MAX 10000
#define BACKENDS_MAX 10000 /* of one pool */

/* 0 when `array` holds addresses only. */
static int
read_list(const json_t *array, struct string_list *list)
{
	size_t n = json_array_size(array), i;
	struct address address;
	char err[256];
	json_t *item;

	if (!json_is_array(array) || n > BACKENDS_MAX)
		return -1;
	if ((list->items = calloc(n + 1, sizeof(*list->items))) == NULL)
		return -1;
	json_array_foreach(array, i, item)
	{
		const char *text = json_string_value(item);

		if (text == NULL || address_parse(&address, text, err, sizeof(err)) < 0)
			return -1;
		address_fini(&address);
		if ((list->items[list->n] = strdup(text)) == NULL)
			return -1;
		list->n++;
	}
	return 0;
}

static int
read_pool(json_t *json, int version, struct state_pool *pool)
{
	json_t *backends, *drained, *well = NULL;
	int changed;

	if (json_is_null(json))
		return 0;
	if (json_unpack_ex(json, NULL, JSON_STRICT,
		version == 1 ? "{s:b, s:o, s:o}" : "{s:b, s:o, s:o, s:o}", "changed", &changed,
		"backends", &backends, "drained", &drained, "well", &well) < 0)
		return -1;
	pool->changed = changed != 0;
	if (read_list(backends, &pool->backends) < 0 || read_list(drained, &pool->drained) < 0 ||
	    (version > 1 && read_list(well, &pool->well) < 0))
		return -1;
	return 0;
}

static int
read_key(const char *text, uint64_t *key)
{
	if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return -1;
	*key = strtoull(text, NULL, 16);
	return 0;
}

static int
read_text(const char *text, char *out, size_t size)
{
	size_t n = strlen(text);

	if (n >= size)
		return -1;
	memcpy(out, text, n + 1);
	return 0;
}

/* A counter that fits an unsigned; what it means is state_check()'s. */
static int
read_count(json_int_t n, unsigned *out)
{
	if (n < 0 || n > UINT32_MAX)
		return -1;
	*out = (unsigned)n;
	return 0;
}

static int
read_rule(const char *word, enum rule *rule)
{
	*rule = RULE_NONE;
	return *word == '\0' ? 0 : rule_parse(word, rule);
}

static int
read_trip(json_t *json, struct state_trip *trip)
{
	const char *rule, *reason;
	json_int_t time_ms;

	if (json_is_null(json))
		return 0;
	if (json_unpack_ex(json, NULL, JSON_STRICT, "{s:I, s:s, s:s}", "time_ms", &time_ms, "rule",
		&rule, "reason", &reason) < 0 ||
	    read_rule(rule, &trip->rule) < 0 ||
	    read_text(reason, trip->reason, sizeof(trip->reason)) < 0)
		return -1;
	trip->on = true;
	trip->wall_ms = time_ms;
	return 0;
}

static int
read_steps(const json_t *array, struct rollout *r)
{
	size_t n = json_array_size(array), i;
	json_t *step;

	if (!json_is_array(array) || n > STEPS_MAX)
		return -1;
	json_array_foreach(array, i, step)
	{
		json_int_t bp, hold_ms;

		if (json_unpack_ex(step, NULL, JSON_STRICT, "[I, I]", &bp, &hold_ms) < 0 ||
		    read_count(bp, &r->steps[i].weight_bp) < 0)
			return -1;
		r->steps[i].hold_ms = hold_ms;
	}
	r->n_steps = (unsigned)n;
	return 0;
}

static int
read_rollout(json_t *json, struct state_service *s)
{
	struct rollout *r = &s->rollout;
	const char *state, *to, *reason;
	json_int_t step, held_ms, since_ms, step_since_ms;
	int entered, frozen, waiting;
	json_t *steps;

	if (json_unpack_ex(json, NULL, JSON_STRICT,
		"{s:s, s:s, s:o, s:I, s:b, s:b, s:b, s:I, s:s, s:I, s:I}", "state", &state, "to",
		&to, "steps", &steps, "step", &step, "entered", &entered, "frozen", &frozen,
		"waiting", &waiting, "held_ms", &held_ms, "reason", &reason, "since_ms", &since_ms,
		"step_since_ms", &step_since_ms) < 0 ||
	    rollout_state_parse(state, &r->state) < 0 || color_parse(to, &r->to) < 0 ||
	    read_steps(steps, r) < 0 || read_count(step, &r->step) < 0 ||
	    read_text(reason, r->reason, sizeof(r->reason)) < 0)
		return -1;
	r->entered = entered != 0;
	r->frozen = frozen != 0;
	r->waiting = waiting != 0;
	r->held_ms = held_ms;
	s->rollout_wall_ms = since_ms;
	s->step_wall_ms = step_since_ms;
	return 0;
}

static int
read_trips(const json_t *json, uint64_t trips[N_RULES])
{
	if (json_object_size(json) != N_RULES)
		return -1;
	for (int i = 0; i < N_RULES; i++) {
		const json_t *n = json_object_get(json, rule_name((enum rule)i));

		if (!json_is_integer(n) || json_integer_value(n) < 0)
			return -1;
		trips[i] = (uint64_t)json_integer_value(n);
	}
	return 0;
}

/* All that a service of this version has, as references into it. */
struct members {
	const char *name, *live, *key[2];
	json_t *pools[N_COLORS], *trip, *rollout, *trips;
	json_int_t bp, epoch;
	int maintenance;
};

#define V1_MEMBERS "s:s, s:s, s:I, s:b, s:I, s:[s,s!], s:{s:o, s:o!}"

static int
unpack(json_t *json, int version, struct members *m)
{
	return json_unpack_ex(json, NULL, JSON_STRICT,
	    version == 1 ? "{" V1_MEMBERS "}" : "{" V1_MEMBERS ", s:o, s:o, s:o}", "name", &m->name,
	    "live", &m->live, "weight_bp", &m->bp, "maintenance", &m->maintenance, "epoch",
	    &m->epoch, "split_key", &m->key[0], &m->key[1], "pools", "blue", &m->pools[BLUE],
	    "green", &m->pools[GREEN], "trip", &m->trip, "rollout", &m->rollout, "trips",
	    &m->trips);
}

/* NULL, or which of its members is wrong. */
static const char *
fill(struct state_service *s, int version, const struct members *m)
{
	if (color_parse(m->live, &s->live) < 0)
		return "its live color is none";
	if (read_count(m->bp, &s->weight_bp) < 0 || m->epoch < 0)
		return "a number in it is impossible";
	s->maintenance = m->maintenance != 0;
	s->epoch = (uint64_t)m->epoch;
	for (int i = 0; i < 2; i++)
		if (read_key(m->key[i], &s->split_key[i]) < 0)
			return "its split_key is malformed";
	for (int c = 0; c < N_COLORS; c++)
		if (read_pool(m->pools[c], version, &s->pools[c]) < 0)
			return "a pool of it is malformed";
	if (version > 1 && read_trip(m->trip, &s->trip) < 0)
		return "its trip is malformed";
	if (version > 1 && read_rollout(m->rollout, s) < 0)
		return "its rollout is malformed";
	if (version > 1 && read_trips(m->trips, s->trips) < 0)
		return "its numbers of trips are malformed";
	return state_check(s);
}

static int
read_service(json_t *json, int version, struct state *state, char *why, size_t why_size)
{
	struct members m = {0};
	struct state_service *s;
	const char *wrong;
	char err[256];

	if (unpack(json, version, &m) < 0 || check_name(m.name, err, sizeof(err)) < 0) {
		(void)snprintf(why, why_size, "a service in it is malformed");
		return -1;
	}
	if (state_find(state, m.name, false) != NULL) {
		(void)snprintf(why, why_size, "service %s is in it twice", m.name);
		return -1;
	}
	if ((s = state_find(state, m.name, true)) == NULL) {
		(void)snprintf(why, why_size, "out of memory");
		return -1;
	}
	if ((wrong = fill(s, version, &m)) == NULL)
		return 0;
	(void)snprintf(why, why_size, "service %s in it is impossible: %s", m.name, wrong);
	return -1;
}

int
state_services_read(
    struct state *state, const json_t *services, int version, char *why, size_t why_size)
{
	json_t *one;
	size_t i;

	if (!json_is_array(services) || json_array_size(services) > SERVICES_MAX) {
		(void)snprintf(why, why_size, "its services are no list of a sane length");
		return -1;
	}
	json_array_foreach(services, i, one)
	{
		if (read_service(one, version, state, why, why_size) < 0)
			return -1;
	}
	return 0;
}

/* The services of a file whose envelope is right; NULL with why. */
static json_t *
open_envelope(json_t *root, int *version, const char **why)
{
	json_int_t number = -1;
	const char *stored;
	json_t *services;
	char sum[17];

	if (root == NULL)
		*why = "it is not JSON";
	else if (json_unpack(root, "{s:I}", "teal_state", &number) < 0)
		*why = "it is not a state file of teal";
	else if (number < STATE_VERSION_MIN || number > STATE_VERSION)
		*why = "another version of teal wrote it";
	else if (json_unpack_ex(root, NULL, JSON_STRICT, "{s:I, s:s, s:o}", "teal_state", &number,
		     "checksum", &stored, "services", &services) < 0)
		*why = "its members are not those of a state file";
	else if (state_checksum(services, sum) < 0 || strcmp(sum, stored) != 0)
		*why = "its checksum is wrong";
	else {
		*version = (int)number;
		return services;
	}
	return NULL;
}

int
state_parse(struct state *state, const char *text, size_t n, char *why, size_t why_size)
{
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL), *services;
	const char *wrong = NULL;
	int version = 0, bad = -1;

	services = open_envelope(root, &version, &wrong);
	if (services == NULL)
		(void)snprintf(why, why_size, "%s", wrong);
	else
		bad = state_services_read(state, services, version, why, why_size);
	json_decref(root);
	return bad;
}
