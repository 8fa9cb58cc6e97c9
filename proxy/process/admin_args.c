/*
 * The strict reading of what an admin request brings along.  See admin_call.h.
 *
 * Nonsense is answered 400 here and never reaches control.
 */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/process/admin_call.h"

#define HOLD_MAX_MS (INT64_C(30) * 24 * 3600 * 1000)

int
call_refuse(const struct call *c, const char *format, ...)
{
	char message[512];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	api_error(c->reply, c->arg, 400, "bad-request", message);
	return -1;
}

/* Reads the body as an object that has no members but `names` (NULL-terminated), "reason" and
 * "if_epoch".  0, or -1 and answered. */
static int
read_object(struct call *c, const char *const *names)
{
	const struct api_request *r = c->request;
	json_error_t error = {0};
	const char *key;
	json_t *value;

	if (r->body_n > API_BODY_MAX)
		return call_refuse(c, "the body is larger than %u bytes", API_BODY_MAX);
	/* no body is an object without members: rearm needs none */
	c->body = r->body_n == 0 ? json_object()
				 : json_loadb(r->body, r->body_n, JSON_REJECT_DUPLICATES, &error);
	if (c->body == NULL && json_error_code(&error) == json_error_stack_overflow)
		return call_refuse(c, "the body is nested too deeply");
	if (c->body == NULL)
		return call_refuse(c, "the body is not JSON: line %d: %s", error.line, error.text);
	if (!json_is_object(c->body))
		return call_refuse(c, "the body must be a JSON object");
	json_object_foreach(c->body, key, value)
	{
		const char *const *name = names;

		while (*name != NULL && strcmp(*name, key) != 0)
			name++;
		if (*name == NULL && strcmp(key, "reason") != 0 && strcmp(key, "if_epoch") != 0)
			return call_refuse(c, "%.64s: unknown member", key);
	}
	return 0;
}

/* A reason goes into the audit log, which is JSON, and onto terminals. */
static int
check_reason(const struct call *c, const char *reason)
{
	json_t *utf8 = json_string(reason);

	json_decref(utf8);
	if (utf8 == NULL)
		return call_refuse(c, "reason: must be UTF-8");
	if (strlen(reason) > API_REASON_MAX)
		return call_refuse(c, "reason: must be at most %d bytes", API_REASON_MAX);
	for (; *reason != '\0'; reason++)
		if (iscntrl((unsigned char)*reason))
			return call_refuse(c, "reason: must have no control characters");
	return 0;
}

/* "reason" and "if_epoch" of the body. */
static int
read_change(struct call *c)
{
	json_t *reason = json_object_get(c->body, "reason");
	json_t *epoch = json_object_get(c->body, "if_epoch");

	if (reason != NULL && !json_is_string(reason))
		return call_refuse(c, "reason: must be a string");
	if (epoch != NULL && (!json_is_integer(epoch) || json_integer_value(epoch) < 0))
		return call_refuse(c, "if_epoch: must be a whole number, 0 or more");
	if (reason != NULL) {
		c->change.reason = json_string_value(reason);
		if (check_reason(c, c->change.reason) < 0)
			return -1;
	}
	if (epoch != NULL) {
		c->change.has_epoch = true;
		c->change.if_epoch = (uint64_t)json_integer_value(epoch);
	}
	return 0;
}

int
call_read_body(struct call *c, const char *const *names)
{
	if (c->query[0] != '\0')
		return call_refuse(
		    c, "a query is not understood here: arguments belong in the body");
	return read_object(c, names) < 0 || read_change(c) < 0 ? -1 : 0;
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
call_decode(char *text)
{
	char *out = text;

	for (; *text != '\0'; text++) {
		int high, low;

		if (*text != '%') {
			*out++ = *text;
			continue;
		}
		if ((high = hex(text[1])) < 0 || (low = hex(text[2])) < 0 || (high | low) == 0)
			return -1;
		*out++ = (char)(high << 4 | low);
		text += 2;
	}
	*out = '\0';
	return 0;
}

int
call_read_query(struct call *c)
{
	char *rest = c->query, *pair;

	if (c->request->body_n != 0)
		return call_refuse(
		    c, "DELETE takes no body: reason and if_epoch belong in the query");
	while ((pair = strsep(&rest, "&")) != NULL) {
		char *value = strchr(pair, '='), *end;

		if (*pair == '\0')
			continue;
		if (value == NULL || call_decode(value + 1) < 0)
			return call_refuse(c, "%.64s: must be NAME=VALUE, percent-encoded", pair);
		*value++ = '\0';
		if (strcmp(pair, "reason") == 0) {
			if (check_reason(c, value) < 0)
				return -1;
			c->change.reason = value;
		} else if (strcmp(pair, "if_epoch") == 0) {
			c->change.if_epoch = strtoull(value, &end, 10);
			if (!isdigit((unsigned char)*value) || *end != '\0' || strlen(value) > 18)
				return call_refuse(
				    c, "if_epoch: must be a whole number, 0 or more");
			c->change.has_epoch = true;
		} else {
			return call_refuse(c, "%.64s: unknown argument", pair);
		}
	}
	return 0;
}

int
call_read_weight(const struct call *c, const char *member, unsigned *bp)
{
	const json_t *weight = json_object_get(c->body, member);
	double hundredths = json_number_value(weight) * 100;

	/* two decimals: the nearest hundredth is it, up to the error of a double */
	if (!json_is_number(weight) || !(hundredths >= 0 && hundredths <= 10000) ||
	    fabs(hundredths - round(hundredths)) > 1e-7)
		return call_refuse(
		    c, "%s: must be a number from 0 to 100 with at most two decimals", member);
	*bp = (unsigned)lround(hundredths);
	return 0;
}

int
call_check_address(const struct call *c, const char *member, const char *text)
{
	struct address address;
	char err[256];

	if (address_parse(&address, text, err, sizeof(err)) < 0)
		return call_refuse(c, "%s: \"%.128s\" is no address: %s", member, text, err);
	address_fini(&address);
	return 0;
}

int
call_read_backends(const struct call *c, const char **out, unsigned *n)
{
	json_t *list = json_object_get(c->body, "backends"), *seen, *item;
	size_t i;
	int bad = 0;

	if (!json_is_array(list))
		return call_refuse(c, "backends: must be an array of addresses");
	if (json_array_size(list) > API_ADDRESSES_MAX)
		return call_refuse(
		    c, "backends: must have at most %d addresses", API_ADDRESSES_MAX);
	if ((seen = json_object()) == NULL)
		return call_refuse(c, "out of memory");
	*n = 0;
	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(item);

		if (text == NULL)
			bad = call_refuse(c, "backends[%zu]: must be a string", i);
		else if (json_object_get(seen, text) != NULL)
			bad = call_refuse(c, "backends[%zu]: \"%.128s\" is there twice", i, text);
		else
			bad = call_check_address(c, "backends", text);
		if (bad < 0)
			break;
		(void)json_object_set_new(seen, text, json_true());
		out[(*n)++] = text;
	}
	json_decref(seen);
	return bad;
}

/* --- rollouts --------------------------------------------------------------------------------- */

static int
read_flag(const struct call *c, const char *member, bool *out)
{
	const json_t *flag = json_object_get(c->body, member);

	if (flag != NULL && !json_is_boolean(flag))
		return call_refuse(c, "%s: must be true or false", member);
	*out = json_is_true(flag);
	return 0;
}

static int
read_step(const struct call *c, size_t i, const json_t *item, struct step_config *step)
{
	const json_t *weight = json_object_get(item, "weight");
	const char *hold = json_string_value(json_object_get(item, "hold"));
	double bp = json_number_value(weight) * 100;

	if (!json_is_object(item) || json_object_size(item) != 2)
		return call_refuse(c, "steps[%zu]: must be {\"weight\": 25, \"hold\": \"5m\"}", i);
	if (!json_is_number(weight) || !(bp >= 1 && bp <= 10000) || fabs(bp - round(bp)) > 1e-7)
		return call_refuse(c,
		    "steps[%zu].weight: must be a number from 0.01 to 100 with at most two "
		    "decimals",
		    i);
	if (hold == NULL || duration_parse(hold, &step->hold_ms) < 0 || step->hold_ms > HOLD_MAX_MS)
		return call_refuse(
		    c, "steps[%zu].hold: must be a duration such as \"5m\", at most 30d", i);
	step->weight_bp = (unsigned)lround(bp);
	return 0;
}

static int
read_steps(const struct call *c, struct rollout_request *out, struct step_config *steps)
{
	const json_t *list = json_object_get(c->body, "steps");
	const json_t *item;
	size_t i;

	if (list == NULL)
		return 0;
	if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > STEPS_MAX)
		return call_refuse(c, "steps: must be an array of 1 to %d steps", STEPS_MAX);
	json_array_foreach(list, i, item)
	{
		if (read_step(c, i, item, &steps[i]) < 0)
			return -1;
		if (i > 0 && steps[i].weight_bp <= steps[i - 1].weight_bp)
			return call_refuse(
			    c, "steps[%zu].weight: must be above the step before it", i);
	}
	if (steps[json_array_size(list) - 1].weight_bp != 10000)
		return call_refuse(c, "steps: must end at weight 100");
	out->n_steps = json_array_size(list);
	return 0;
}

/* What says nothing to this action is a mistake that somebody should see. */
static int
check_members(const struct call *c, enum rollout_order order)
{
	static const char *const of_start[] = {"to", "steps", "rearm"};

	for (size_t i = 0; i < sizeof(of_start) / sizeof(of_start[0]); i++)
		if (order != DO_START && json_object_get(c->body, of_start[i]) != NULL)
			return call_refuse(c, "%s: belongs to \"start\" only", of_start[i]);
	if (order != DO_PROMOTE && json_object_get(c->body, "full") != NULL)
		return call_refuse(c, "full: belongs to \"promote\" only");
	return 0;
}

int
call_read_rollout(const struct call *c, struct rollout_request *out, struct step_config *steps)
{
	static const struct {
		const char *word;
		enum rollout_order order;
	} actions[] = {{"start", DO_START}, {"pause", DO_PAUSE}, {"resume", DO_RESUME},
	    {"promote", DO_PROMOTE}, {"abort", DO_ABORT}};
	const char *action = json_string_value(json_object_get(c->body, "action"));
	const json_t *to = json_object_get(c->body, "to");
	size_t i = 0, n = sizeof(actions) / sizeof(actions[0]);

	while (action != NULL && i < n && strcmp(actions[i].word, action) != 0)
		i++;
	if (action == NULL || i == n)
		return call_refuse(c,
		    "action: must be \"start\", \"pause\", \"resume\", \"promote\" or \"abort\"");
	out->order = actions[i].order;
	if (check_members(c, out->order) < 0)
		return -1;
	out->has_to = to != NULL;
	if (to != NULL && (!json_is_string(to) || color_parse(json_string_value(to), &out->to) < 0))
		return call_refuse(c, "to: must be \"blue\" or \"green\"");
	if (read_flag(c, "full", &out->full) < 0 || read_flag(c, "rearm", &out->rearm) < 0)
		return -1;
	return read_steps(c, out, steps);
}
