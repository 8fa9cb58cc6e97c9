/*
 * Reading what control says.  One row per key; plain functions of their arguments.
 */
#include "bench/origin/script.h"

#include <stdlib.h>
#include <string.h>

void
script_reset(struct script *s)
{
	s->fail = s->hang = 0;
	s->slow = SCRIPT_ALWAYS;
	s->how = HOW_STATUS;
	s->status = 500;
	s->grpc_status = 13; /* INTERNAL */
	s->latency_us = 0;
	s->refuse = s->unhealthy = false;
}

void
script_init(struct script *s)
{
	memset(s, 0, sizeof *s);
	script_reset(s);
	s->body = 1024;
	strcpy(s->version, "v1");
}

bool
script_size(const char *text, size_t n, size_t *size)
{
	size_t value = 0, i = 0;

	while (i < n && text[i] >= '0' && text[i] <= '9' && value <= SCRIPT_BODY_MAX)
		value = value * 10 + (size_t)(text[i++] - '0');
	if (i == 0)
		return false;
	if (i < n && (text[i] == 'k' || text[i] == 'K'))
		value <<= 10, i++;
	else if (i < n && (text[i] == 'm' || text[i] == 'M'))
		value <<= 20, i++;
	if (i != n || value > SCRIPT_BODY_MAX)
		return false;
	*size = value;
	return true;
}

/* "20%" or "0.5%" */
static bool
share(const char *text, uint64_t *to)
{
	char *end;
	double percent = strtod(text, &end);

	if (end == text || strcmp(end, "%") != 0 || !(percent >= 0 && percent <= 100))
		return false;
	*to = (uint64_t)(percent / 100 * (double)SCRIPT_ALWAYS + 0.5);
	return true;
}

/* "2s", "20ms", "500us", "0" */
static bool
duration(const char *text, uint64_t *us)
{
	char *end;
	double value = strtod(text, &end), unit;

	if (!strcmp(end, "us"))
		unit = 1;
	else if (!strcmp(end, "ms"))
		unit = 1e3;
	else if (!strcmp(end, "s"))
		unit = 1e6;
	else if (!*end && value == 0)
		unit = 0;
	else
		return false;
	if (end == text || !(value >= 0 && value * unit <= 3600e6))
		return false;
	*us = (uint64_t)(value * unit + 0.5);
	return true;
}

static bool
number(const char *text, unsigned from, unsigned to, unsigned *value)
{
	char *end;
	unsigned long read = strtoul(text, &end, 10);

	if (end == text || *end || read < from || read > to)
		return false;
	*value = (unsigned)read;
	return true;
}

static bool
one_of(const char *text, const char *no, const char *yes, bool *value)
{
	*value = !strcmp(text, yes);
	return *value || !strcmp(text, no);
}

static bool
how(const char *text, enum how *value)
{
	static const char *const words[] = {"status", "reset", "close", "truncate"};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcmp(text, words[i])) {
			*value = (enum how)i;
			return true;
		}
	return false;
}

/* It stands in a header field and in JSON: no byte may need an escape in either. */
bool
script_version(struct script *s, const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n >= sizeof s->version)
		return false;
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\')
			return false;
	memcpy(s->version, text, n + 1);
	return true;
}

/* -1: no such key */
static int
set_one(struct script *s, const char *key, const char *value)
{
	if (!strcmp(key, "fail"))
		return share(value, &s->fail);
	if (!strcmp(key, "hang"))
		return share(value, &s->hang);
	if (!strcmp(key, "latency_share"))
		return share(value, &s->slow);
	if (!strcmp(key, "latency"))
		return duration(value, &s->latency_us);
	if (!strcmp(key, "how"))
		return how(value, &s->how);
	if (!strcmp(key, "status"))
		return number(value, 400, 599, &s->status);
	if (!strcmp(key, "grpc_status"))
		return number(value, 1, 16, &s->grpc_status);
	if (!strcmp(key, "refuse"))
		return one_of(value, "off", "on", &s->refuse);
	if (!strcmp(key, "health"))
		return one_of(value, "ok", "fail", &s->unhealthy);
	if (!strcmp(key, "body"))
		return script_size(value, strlen(value), &s->body);
	if (!strcmp(key, "version"))
		return script_version(s, value);
	return -1;
}

const char *
script_set(struct script *s, char *text)
{
	struct script changed = *s;
	char *more = NULL;
	bool any = false;

	for (char *word = strtok_r(text, " \t", &more); word; word = strtok_r(NULL, " \t", &more)) {
		char *value = strchr(word, '=');

		if (!value)
			return "key=value is wanted";
		*value++ = '\0';
		switch (set_one(&changed, word, value)) {
		case -1:
			return "no such key";
		case 0:
			return "no such value";
		default:
			any = true;
		}
	}
	if (!any)
		return "nothing to set";
	*s = changed;
	return NULL;
}
