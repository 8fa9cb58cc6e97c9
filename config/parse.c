/*
 * Text to values and back: units, colors, steps.  Addresses are in address.c,
 * names and header fields in grammar.c.
 *
 * Pure; any thread.  Everything is refused that is not exactly the grammar.
 */
#include "config/parse.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *word;
	int64_t factor;
};

/* Largest first, so that printing finds the shortest form. */
static const struct unit time_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit size_units[] = {
    {"g", INT64_C(1024) * 1024 * 1024}, {"m", INT64_C(1024) * 1024}, {"k", 1024}, {"", 1}};

#define N_TIME_UNITS (sizeof(time_units) / sizeof(time_units[0]))
#define N_SIZE_UNITS (sizeof(size_units) / sizeof(size_units[0]))

const char *
color_name(enum color c)
{
	return c == BLUE ? "blue" : "green";
}

int
color_parse(const char *word, enum color *c)
{
	if (strcmp(word, "blue") == 0)
		*c = BLUE;
	else if (strcmp(word, "green") == 0)
		*c = GREEN;
	else
		return -1;
	return 0;
}

/* Digits only; stops at the first other character.  -1: none, or more than an int64_t. */
static int
number(const char **text, int64_t *out)
{
	const char *p = *text;
	int64_t n = 0;

	if (!isdigit((unsigned char)*p))
		return -1;
	for (; isdigit((unsigned char)*p); p++) {
		int digit = *p - '0';

		if (n > (INT64_MAX - digit) / 10)
			return -1;
		n = n * 10 + digit;
	}
	*text = p;
	*out = n;
	return 0;
}

static int
with_unit(const char *text, const struct unit *units, size_t n_units, int64_t *out)
{
	int64_t n;

	if (number(&text, &n) < 0)
		return -1;
	for (size_t i = 0; i < n_units; i++) {
		if (strcasecmp(text, units[i].word) != 0)
			continue;
		if (n > INT64_MAX / units[i].factor)
			return -1;
		*out = n * units[i].factor;
		return 0;
	}
	return -1;
}

int
duration_parse(const char *text, int64_t *ms)
{
	if (strcmp(text, "0") == 0) {
		*ms = 0;
		return 0;
	}
	/* "5M" would be minutes or months: units of time are lower case */
	for (const char *p = text; *p != '\0'; p++)
		if (isupper((unsigned char)*p))
			return -1;
	return with_unit(text, time_units, N_TIME_UNITS, ms);
}

int
size_parse(const char *text, size_t *bytes)
{
	int64_t n;

	if (with_unit(text, size_units, N_SIZE_UNITS, &n) < 0 || (uint64_t)n > SIZE_MAX)
		return -1;
	*bytes = (size_t)n;
	return 0;
}

static void
unit_print(int64_t n, const struct unit *units, size_t n_units, char out[UNIT_TEXT_SIZE])
{
	for (size_t i = 0; i < n_units; i++) {
		if (n % units[i].factor != 0)
			continue;
		snprintf(out, UNIT_TEXT_SIZE, "%" PRId64 "%s", n / units[i].factor, units[i].word);
		return;
	}
}

void
duration_print(int64_t ms, char out[UNIT_TEXT_SIZE])
{
	if (ms == 0)
		snprintf(out, UNIT_TEXT_SIZE, "0s");
	else
		unit_print(ms, time_units, N_TIME_UNITS, out);
}

void
size_print(size_t bytes, char out[UNIT_TEXT_SIZE])
{
	if (bytes == 0)
		snprintf(out, UNIT_TEXT_SIZE, "0");
	else
		unit_print((int64_t)bytes, size_units, N_SIZE_UNITS, out);
}

int
percent_parse(const char *text, unsigned *bp)
{
	int64_t whole, hundredths = 0;

	if (number(&text, &whole) < 0 || whole > 100)
		return -1;
	if (*text == '.') {
		const char *digits = ++text;

		if (number(&text, &hundredths) < 0 || text - digits > 2)
			return -1;
		if (text - digits == 1)
			hundredths *= 10;
	}
	if (*text == '%')
		text++;
	if (*text != '\0' || whole * 100 + hundredths > 10000)
		return -1;
	*bp = (unsigned)(whole * 100 + hundredths);
	return 0;
}

/* One "WEIGHT:HOLD" of at most this many characters. */
#define STEP_TEXT_MAX 40

static int
step_parse(struct step_config *step, const char *text, size_t n)
{
	char one[STEP_TEXT_MAX];
	char *hold;

	if (n >= sizeof(one))
		return -1;
	memcpy(one, text, n);
	one[n] = '\0';
	hold = strchr(one, ':');
	if (hold == NULL)
		return -1;
	*hold++ = '\0';
	return percent_parse(one, &step->weight_bp) < 0 || duration_parse(hold, &step->hold_ms) < 0
		   ? -1
		   : 0;
}

int
steps_parse(const char *text, struct step_config **steps, size_t *n, char *err, size_t err_size)
{
	struct step_config list[STEPS_MAX];
	size_t count = 0;

	for (const char *p = text;; p++) {
		size_t len = strcspn(p, ",");

		if (count == STEPS_MAX) {
			snprintf(err, err_size, "must have at most %d steps", STEPS_MAX);
			return -1;
		}
		if (step_parse(&list[count], p, len) < 0) {
			snprintf(err, err_size,
			    "must be like \"25:5m,50:5m,100:10m\", not \"%.*s\"",
			    (int)(len > STEP_TEXT_MAX ? STEP_TEXT_MAX : len), p);
			return -1;
		}
		if (list[count].weight_bp <= (count > 0 ? list[count - 1].weight_bp : 0)) {
			snprintf(err, err_size, "must have growing weights");
			return -1;
		}
		count++;
		p += len;
		if (*p == '\0')
			break;
	}
	if (list[count - 1].weight_bp != 10000) {
		snprintf(err, err_size, "must end at weight 100");
		return -1;
	}
	*steps = malloc(count * sizeof(**steps));
	if (*steps == NULL) {
		snprintf(err, err_size, "cannot be kept: out of memory");
		return -1;
	}
	memcpy(*steps, list, count * sizeof(**steps));
	*n = count;
	return 0;
}
