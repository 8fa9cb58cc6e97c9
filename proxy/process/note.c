/*
 * How records say texts, times, numbers and steps, see note.h.  Pure; any thread.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/parse.h"
#include "proxy/process/note.h"

/* Bytes of the character at p; 0: it is none.  The table of RFC 3629 section 4. */
static size_t
utf8_length(const unsigned char *p)
{
	unsigned char low = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80;
	unsigned char high = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;
	size_t n = 0;

	if (*p < 0x80)
		return 1;
	if (*p >= 0xc2 && *p < 0xf5)
		n = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
	for (size_t i = 1; i < n; i++) {
		if (p[i] < low || p[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return n;
}

/* DEL; C1, which 8-bit terminals obey; U+2028 and U+2029, at which some readers end a line. */
static int
is_unwanted(const unsigned char *p, size_t n)
{
	return *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) ||
	       (n == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9));
}

json_t *
note_text(const char *text)
{
	char *copy = strdup(text);
	json_t *json;
	size_t n;

	if (copy == NULL)
		return NULL;
	for (unsigned char *p = (unsigned char *)copy; *p != '\0'; p += n) {
		size_t bad = 0;

		if ((n = utf8_length(p)) == 0)
			bad = n = 1;
		else if (is_unwanted(p, n))
			bad = n;
		memset(p, '?', bad);
	}
	json = json_string(copy);
	free(copy);
	return json;
}

json_t *
note_time(int64_t wall_ms)
{
	char text[32], whole[40];
	time_t t = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (wall_ms < 0 || wall_ms > NOTE_MS_MAX || gmtime_r(&t, &tm) == NULL ||
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return json_null();
	(void)snprintf(whole, sizeof(whole), "%s.%03uZ", text, (unsigned)(wall_ms % 1000) % 1000);
	return json_string(whole);
}

json_t *
note_number(double value, double per_unit)
{
	double rounded;

	if (isnan(value))
		value = 0;
	value = fmax(-1e15, fmin(1e15, value));
	rounded = round(value * per_unit) / per_unit;
	if (rounded == floor(rounded))
		return json_integer((json_int_t)rounded);
	return json_real(rounded);
}

json_t *
note_percent(unsigned bp)
{
	return note_number(bp / 100.0, 100);
}

json_t *
note_steps(const struct step_config *steps, size_t n)
{
	json_t *array = json_array();
	bool failed = array == NULL;

	for (size_t i = 0; i < n && !failed; i++) {
		char hold[UNIT_TEXT_SIZE];

		duration_print(steps[i].hold_ms, hold);
		failed =
		    json_array_append_new(array,
			json_pack("{s:o, s:s, s:I}", "weight", note_percent(steps[i].weight_bp),
			    "hold", hold, "hold_ms", (json_int_t)steps[i].hold_ms)) == -1;
	}
	if (!failed)
		return array;
	json_decref(array);
	return NULL;
}
