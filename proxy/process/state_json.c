/*
 * struct state -> JSON, and what is possible in it.  Pure; any thread.
 *
 *   { "teal_state": 2,
 *     "checksum": "0123456789abcdef",       SipHash of "services", compact, keys sorted
 *     "services": [ { "name", "live", "weight_bp", "maintenance", "epoch", "split_key": [2],
 *                     "pools": { "blue": null | { "changed", "backends": [...],
 *                                                 "drained": [...], "well": [...] }, ... },
 *                     "trip": null | { "time_ms", "rule", "reason" },
 *                     "rollout": { "state", "to", "steps": [[weight_bp, hold_ms], ...], "step",
 *                                  "entered", "frozen", "waiting", "held_ms", "reason",
 *                                  "since_ms", "step_since_ms" },
 *                     "trips": { RULE: n, ... } } ] }
 *
 * Version 1 has neither "well" nor what comes after "pools".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/hash.h"
#include "proxy/process/note.h"
#include "proxy/process/state_json.h"

/* Not a secret: the checksum finds damage, not forgery. */
static const uint64_t checksum_key[2] = {0x7465616c20737461u, 0x74652066696c6531u};

/* --- what is possible ------------------------------------------------------------------------- */

static bool
is_span(int64_t ms)
{
	return ms >= 0 && ms <= NOTE_MS_MAX;
}

static const char *
check_steps(const struct rollout *r)
{
	for (unsigned i = 0; i < r->n_steps; i++) {
		if (r->steps[i].weight_bp <= (i > 0 ? r->steps[i - 1].weight_bp : 0))
			return "the weights of its rollout do not grow";
		if (!is_span(r->steps[i].hold_ms))
			return "its rollout has an impossible hold";
	}
	if (r->n_steps > 0 && r->steps[r->n_steps - 1].weight_bp != 10000)
		return "its rollout does not end at 100 %";
	return NULL;
}

static const char *
check_rollout(const struct rollout *r)
{
	if (r->n_steps > STEPS_MAX)
		return "its rollout has too many steps";
	if (r->n_steps == 0 && (r->state != ROLLOUT_IDLE || r->step != 0))
		return "its rollout has no steps";
	if (r->n_steps > 0 && r->step >= r->n_steps)
		return "its rollout is in a step it does not have";
	if (!is_span(r->held_ms))
		return "its rollout has held for an impossible time";
	return check_steps(r);
}

/* A rollout that goes on decides where traffic goes: it must fit to the rest. */
static const char *
check_active(const struct state_service *s)
{
	const struct rollout *r = &s->rollout;

	if (r->to == s->live)
		return "its rollout brings in the live color";
	if (s->trip.on)
		return "its rollout goes on after a trip";
	/* Less is possible: a worker tripped and control has not seen it yet.  More is not, but for
	 * what was set by hand before the first step. */
	if (s->weight_bp > r->steps[r->step].weight_bp && (r->step > 0 || r->entered))
		return "its weight is above that of its rollout's step";
	return NULL;
}

const char *
state_check(const struct state_service *s)
{
	const char *wrong;

	if (s->weight_bp > 10000)
		return "its weight is above 100 %";
	if (s->epoch > INT64_MAX)
		return "its epoch is impossible";
	if (s->trip.on && s->weight_bp != 0)
		return "its candidate has tripped and has weight";
	if (!is_span(s->trip.wall_ms) || !is_span(s->rollout_wall_ms) || !is_span(s->step_wall_ms))
		return "a time in it is impossible";
	for (int i = 0; i < N_RULES; i++)
		if (s->trips[i] > INT64_MAX)
			return "its number of trips is impossible";
	if ((wrong = check_rollout(&s->rollout)) != NULL)
		return wrong;
	return rollout_active(&s->rollout) ? check_active(s) : NULL;
}

/* --- to JSON ---------------------------------------------------------------------------------- */

static json_t *
list_json(const struct string_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->n; i++)
		if (json_array_append_new(array, json_string(list->items[i])) < 0) {
			json_decref(array); /* not UTF-8: better no file than a backend less */
			return NULL;
		}
	return array;
}

static json_t *
pool_json(const struct state_pool *pool)
{
	/* drained alone is no change of the list, but must be kept too; so must well */
	if (!pool->changed && pool->drained.n == 0 && pool->backends.n == 0 && pool->well.n == 0)
		return json_null();
	return json_pack("{s:b, s:o, s:o, s:o}", "changed", pool->changed, "backends",
	    list_json(&pool->backends), "drained", list_json(&pool->drained), "well",
	    list_json(&pool->well));
}

/* 64 bits do not fit into the numbers of every JSON reader. */
static json_t *
key_json(uint64_t key)
{
	char text[17];

	(void)snprintf(text, sizeof(text), "%016" PRIx64, key);
	return json_string(text);
}

static json_t *
trip_json(const struct state_trip *trip)
{
	if (!trip->on)
		return json_null();
	return json_pack("{s:I, s:s, s:o}", "time_ms", (json_int_t)trip->wall_ms, "rule",
	    rule_name(trip->rule), "reason", note_text(trip->reason));
}

static json_t *
rollout_json(const struct state_service *s)
{
	const struct rollout *r = &s->rollout;
	json_t *steps = json_array();

	for (unsigned i = 0; i < r->n_steps; i++)
		(void)json_array_append_new(
		    steps, json_pack("[I, I]", (json_int_t)r->steps[i].weight_bp,
			       (json_int_t)r->steps[i].hold_ms));
	return json_pack("{s:s, s:s, s:o, s:I, s:b, s:b, s:b, s:I, s:o, s:I, s:I}", "state",
	    rollout_state_name(r->state), "to", color_name(r->to), "steps", steps, "step",
	    (json_int_t)r->step, "entered", r->entered, "frozen", r->frozen, "waiting", r->waiting,
	    "held_ms", (json_int_t)r->held_ms, "reason", note_text(r->reason), "since_ms",
	    (json_int_t)s->rollout_wall_ms, "step_since_ms", (json_int_t)s->step_wall_ms);
}

static json_t *
trips_json(const uint64_t trips[N_RULES])
{
	json_t *o = json_object();

	for (int i = 0; i < N_RULES; i++)
		if (json_object_set_new(
			o, rule_name((enum rule)i), json_integer((json_int_t)trips[i])) < 0) {
			json_decref(o);
			return NULL;
		}
	return o;
}

static json_t *
service_json(const struct state_service *s)
{
	return json_pack("{s:s, s:s, s:I, s:b, s:I, s:[o,o], s:{s:o, s:o}, s:o, s:o, s:o}", "name",
	    s->name, "live", color_name(s->live), "weight_bp", (json_int_t)s->weight_bp,
	    "maintenance", s->maintenance, "epoch", (json_int_t)s->epoch, "split_key",
	    key_json(s->split_key[0]), key_json(s->split_key[1]), "pools", "blue",
	    pool_json(&s->pools[BLUE]), "green", pool_json(&s->pools[GREEN]), "trip",
	    trip_json(&s->trip), "rollout", rollout_json(s), "trips", trips_json(s->trips));
}

json_t *
state_services_json(const struct state *state)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < state->n_services; i++)
		if (json_array_append_new(array, service_json(&state->services[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

int
state_checksum(const json_t *services, char out[17])
{
	char *text = json_dumps(services, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (text == NULL)
		return -1;
	(void)snprintf(out, 17, "%016" PRIx64, hash_sip(checksum_key, text, strlen(text)));
	free(text);
	return 0;
}

char *
state_text(const struct state *state, char *why, size_t why_size)
{
	json_t *services, *root;
	char sum[17], *text;

	for (unsigned i = 0; i < state->n_services; i++) {
		const char *wrong = state_check(&state->services[i]);

		if (wrong != NULL) {
			(void)snprintf(why, why_size, "service %s in it is impossible: %s",
			    state->services[i].name, wrong);
			return NULL;
		}
	}
	services = state_services_json(state);
	if (services == NULL || state_checksum(services, sum) < 0) {
		(void)snprintf(why, why_size, "it cannot be said in JSON");
		json_decref(services);
		return NULL;
	}
	root = json_pack(
	    "{s:i, s:s, s:o}", "teal_state", STATE_VERSION, "checksum", sum, "services", services);
	text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	if (text == NULL)
		(void)snprintf(why, why_size, "out of memory");
	return text;
}
