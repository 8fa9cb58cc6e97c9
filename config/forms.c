/*
 * Options with a grammar of their own: balance, split.by, status, mode.
 *
 * Pure but for memory; any thread.
 */
#include "config/forms.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config/alloc.h"

#define STATUS_MIN 100
#define STATUS_MAX 599
#define MODE_MAX   0777

/* The text behind a prefix, or NULL. */
static const char *
after(const char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static void
replace(char **field, const char *text)
{
	free(*field);
	*field = must_copy(text);
}

static void
lower(char *text)
{
	for (; *text != '\0'; text++)
		*text = (char)tolower((unsigned char)*text);
}

/* --- balance: "least", "round-robin", "hash:client-ip", "hash:header:NAME", ...  */

static int
balance_parse(void *base, const char *text, char *err, size_t err_size)
{
	struct pool_config *p = base;
	const char *name = "";

	if (strcmp(text, "least") == 0) {
		p->balance = BALANCE_LEAST;
	} else if (strcmp(text, "round-robin") == 0) {
		p->balance = BALANCE_ROUND_ROBIN;
	} else if (strcmp(text, "hash:client-ip") == 0) {
		p->balance = BALANCE_HASH;
		p->hash_by = KEY_CLIENT_IP;
	} else if ((name = after(text, "hash:header:")) != NULL && is_token(name)) {
		p->balance = BALANCE_HASH;
		p->hash_by = KEY_HEADER;
	} else if ((name = after(text, "hash:cookie:")) != NULL && is_token(name)) {
		p->balance = BALANCE_HASH;
		p->hash_by = KEY_COOKIE;
	} else {
		snprintf(err, err_size,
		    "must be \"least\", \"round-robin\", \"hash:client-ip\", \"hash:header:NAME\" "
		    "or \"hash:cookie:NAME\", not \"%s\"",
		    text);
		return -1;
	}
	replace(&p->hash_name, name);
	if (p->balance == BALANCE_HASH && p->hash_by == KEY_HEADER)
		lower(p->hash_name);
	return 0;
}

static void
balance_print(const void *base, FILE *out)
{
	const struct pool_config *p = base;

	switch (p->balance) {
	case BALANCE_LEAST:
		fputs("least", out);
		return;
	case BALANCE_ROUND_ROBIN:
		fputs("round-robin", out);
		return;
	case BALANCE_HASH:
		break;
	}
	switch (p->hash_by) {
	case KEY_CLIENT_IP:
		fputs("hash:client-ip", out);
		break;
	case KEY_HEADER:
		fprintf(out, "hash:header:%s", p->hash_name);
		break;
	case KEY_COOKIE:
		fprintf(out, "hash:cookie:%s", p->hash_name);
		break;
	}
}

const struct option_form form_balance = {
    "\"least\", \"round-robin\", \"hash:client-ip\", \"hash:header:NAME\" or \"hash:cookie:NAME\"",
    balance_parse, balance_print};

/* --- split.by: "request", "cookie", "header:NAME", "client-ip" ------------ */

static int
split_by_parse(void *base, const char *text, char *err, size_t err_size)
{
	struct split_config *s = base;
	const char *name = "";

	if (strcmp(text, "request") == 0) {
		s->by = SPLIT_REQUEST;
	} else if (strcmp(text, "cookie") == 0) {
		s->by = SPLIT_COOKIE;
	} else if (strcmp(text, "client-ip") == 0) {
		s->by = SPLIT_CLIENT_IP;
	} else if ((name = after(text, "header:")) != NULL && is_token(name)) {
		s->by = SPLIT_HEADER;
	} else if (name != NULL || strcmp(text, "header") == 0) {
		snprintf(err, err_size, "must name the header: \"header:NAME\", not \"%s\"", text);
		return -1;
	} else {
		snprintf(err, err_size,
		    "must be \"request\", \"cookie\", \"header:NAME\" or \"client-ip\", not \"%s\"",
		    text);
		return -1;
	}
	replace(&s->header, name);
	lower(s->header);
	return 0;
}

static void
split_by_print(const void *base, FILE *out)
{
	const struct split_config *s = base;

	switch (s->by) {
	case SPLIT_REQUEST:
		fputs("request", out);
		break;
	case SPLIT_COOKIE:
		fputs("cookie", out);
		break;
	case SPLIT_HEADER:
		fprintf(out, "header:%s", s->header);
		break;
	case SPLIT_CLIENT_IP:
		fputs("client-ip", out);
		break;
	}
}

const struct option_form form_split_by = {
    "\"request\", \"cookie\", \"header:NAME\" or \"client-ip\"", split_by_parse, split_by_print};

/* --- status: "200-299" or "204" ------------------------------------------- */

/* Three digits, 100..599. */
static int
status_one(const char *text, unsigned *status)
{
	unsigned n = 0;

	for (int i = 0; i < 3; i++) {
		if (!isdigit((unsigned char)text[i]))
			return -1;
		n = n * 10 + (unsigned)(text[i] - '0');
	}
	if (n < STATUS_MIN || n > STATUS_MAX)
		return -1;
	*status = n;
	return 0;
}

static int
status_parse(void *base, const char *text, char *err, size_t err_size)
{
	struct probe_config *p = base;
	size_t n = strlen(text);
	unsigned lo = 0, hi = 0;

	if (n == 3 && status_one(text, &lo) == 0)
		hi = lo;
	else if (n != 7 || text[3] != '-' || status_one(text, &lo) < 0 ||
		 status_one(text + 4, &hi) < 0 || lo > hi) {
		snprintf(err, err_size,
		    "must be a status or a range such as \"200-299\", from %d to %d, not \"%s\"",
		    STATUS_MIN, STATUS_MAX, text);
		return -1;
	}
	p->status_min = lo;
	p->status_max = hi;
	return 0;
}

static void
status_print(const void *base, FILE *out)
{
	const struct probe_config *p = base;

	fprintf(out, "%u", p->status_min);
	if (p->status_max != p->status_min)
		fprintf(out, "-%u", p->status_max);
}

const struct option_form form_status = {
    "a status such as \"204\" or a range such as \"200-299\"", status_parse, status_print};

/* --- mode: "0660" --------------------------------------------------------- */

static int
mode_parse(void *base, const char *text, char *err, size_t err_size)
{
	struct admin_config *a = base;
	unsigned mode = 0;
	size_t n = strlen(text);

	for (size_t i = 0; i < n && n <= 4; i++) {
		if (text[i] < '0' || text[i] > '7') {
			n = 0;
			break;
		}
		mode = mode * 8 + (unsigned)(text[i] - '0');
	}
	if (n < 3 || n > 4 || mode > MODE_MAX) {
		snprintf(err, err_size, "must be an octal mode such as \"0660\", at most \"0777\"");
		return -1;
	}
	a->mode = mode;
	return 0;
}

static void
mode_print(const void *base, FILE *out)
{
	fprintf(out, "%04o", ((const struct admin_config *)base)->mode);
}

const struct option_form form_mode = {"an octal mode such as \"0660\"", mode_parse, mode_print};
