/* What all views are made of.  See text.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/tealctl/text.h"

bool text_utf8 = true;

/* --- members ---------------------------------------------------------------------------------- */

double
member_number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

const char *
member_text(const json_t *o, const char *key)
{
	const char *value = json_string_value(json_object_get(o, key));

	return value == NULL ? "" : value;
}

bool
member_true(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

const json_t *
member_color(const json_t *service, enum color c)
{
	return json_object_get(json_object_get(service, "colors"), color_name(c));
}

enum color
member_color_word(const json_t *o, const char *key, enum color otherwise)
{
	enum color c;

	return color_parse(member_text(o, key), &c) == 0 ? c : otherwise;
}

/* --- text ------------------------------------------------------------------------------------- */

/* How many bytes the character at p has; the text is UTF-8, or what there is of it. */
static size_t
character(const unsigned char *p)
{
	size_t n = *p < 0xc0 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4, i = 1;

	while (i < n && (p[i] & 0xc0) == 0x80)
		i++;
	return i;
}

static bool
is_dangerous(const unsigned char *p, size_t n)
{
	if (n == 1) /* C0, DEL, a lone byte of something longer */
		return *p < 0x20 || *p >= 0x7f;
	if (n == 2) /* C1: U+0080 to U+009F */
		return p[0] == 0xc2 && p[1] <= 0x9f;
	/* U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069 */
	return n == 3 && p[0] == 0xe2 &&
	       ((p[1] == 0x80 &&
		    (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae))) ||
		   (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9));
}

/* At most `width` characters; how many were written. */
static unsigned
put_some(FILE *out, const char *text, unsigned width)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned columns = 0;

	for (size_t n; *p != '\0' && columns < width; p += n, columns++) {
		n = character(p);
		if (is_dangerous(p, n) || (n > 1 && !text_utf8))
			(void)fputc('?', out);
		else
			(void)fwrite(p, 1, n, out);
	}
	return columns;
}

void
put_safe(FILE *out, const char *text)
{
	(void)put_some(out, text, UINT32_MAX);
}

unsigned
text_columns(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned columns = 0;

	for (; *p != '\0'; p += character(p))
		columns++;
	return columns;
}

void
put_cell(FILE *out, const char *text, unsigned width)
{
	unsigned used = put_some(out, text, width);

	(void)fprintf(out, "%*s", (int)(width - used), "");
}

/* Bytes of `line` that fill at most `width` columns: one a character, none for an escape. */
static size_t
clip(const char *line, size_t n, unsigned width)
{
	unsigned columns = 0;
	size_t i = 0;

	while (i < n) {
		if (line[i] == '\033') {
			while (i < n && line[i] != 'm')
				i++;
		} else if (((unsigned char)line[i] & 0xc0) != 0x80 && ++columns > width) {
			break;
		}
		i++;
	}
	return i < n ? i : n;
}

void
put_clipped(FILE *out, const char *text, const struct look *look)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "\n");
		size_t fits = look->width == 0 ? n : clip(text, n, look->width);

		(void)fwrite(text, 1, fits, out);
		if (fits < n && look->color)
			(void)fputs("\033[0m", out);
		if (text[n] == '\n')
			(void)fputc('\n', out);
		text += n + (text[n] == '\n');
	}
}

void
put_style(FILE *out, const struct look *look, const char *code)
{
	if (look->color)
		(void)fprintf(out, "\033[%sm", code);
}

void
put_plain(FILE *out, const struct look *look)
{
	put_style(out, look, "0");
}

const char *
color_code(enum color c)
{
	return c == BLUE ? "34" : "32";
}

const char *
state_code(const char *state)
{
	if (strcmp(state, "up") == 0)
		return "32";
	return strcmp(state, "down") == 0 ? "31" : "33";
}

void
put_bar(FILE *out, double part, unsigned columns)
{
	/* a hair more: 0.29 of 100 is 29, not 28 */
	double full = floor(fmin(fmax(part, 0), 1) * columns + 1e-9);

	(void)fputc('[', out);
	for (unsigned i = 0; i < columns; i++)
		(void)fputc(i < full ? '#' : '.', out);
	(void)fputc(']', out);
}

/* --- times ------------------------------------------------------------------------------------ */

void
print_ms(char out[MS_TEXT_SIZE], double ms)
{
	if (ms <= 0)
		(void)snprintf(out, MS_TEXT_SIZE, "-");
	else if (ms < 10)
		(void)snprintf(out, MS_TEXT_SIZE, "%.1f ms", ms);
	else if (ms < 1000)
		(void)snprintf(out, MS_TEXT_SIZE, "%.0f ms", ms);
	else
		(void)snprintf(out, MS_TEXT_SIZE, "%.2f s", fmin(ms / 1000, 99999));
}

void
put_age(FILE *out, double ms)
{
	long s = (long)(fmin(fmax(ms, 0), 1e15) / 1000);

	if (s >= 86400)
		(void)fprintf(out, "%ldd %ldh", s / 86400, s / 3600 % 24);
	else if (s >= 3600)
		(void)fprintf(out, "%ldh %ldm", s / 3600, s / 60 % 60);
	else if (s >= 60)
		(void)fprintf(out, "%ldm %lds", s / 60, s % 60);
	else
		(void)fprintf(out, "%lds", s);
}

int64_t
time_parse(const char *text)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ms = 0;

	if (rest == NULL)
		return -1;
	if (*rest == '.') {
		int64_t unit = 100;

		for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
			ms += (*rest - '0') * unit;
	}
	if (strcmp(rest, "Z") != 0)
		return -1;
	return (int64_t)timegm(&tm) * 1000 + ms;
}

void
put_time(FILE *out, const char *text)
{
	if (time_parse(text) < 0)
		put_safe(out, text);
	else
		(void)fprintf(out, "%.10s %.8s", text, text + 11);
}

void
put_ago(FILE *out, const char *text, const struct look *look)
{
	int64_t then = time_parse(text);

	if (then < 0 || look->now_ms == 0)
		return;
	put_age(out, (double)(look->now_ms - then));
	(void)fputs(" ago", out);
}

/* --- steps ------------------------------------------------------------------------------------ */

void
put_steps(FILE *out, const json_t *steps)
{
	const json_t *step;
	size_t i;

	json_array_foreach(steps, i, step)
	{
		(void)fprintf(
		    out, "%s%.10g %% for ", i == 0 ? "" : ", ", member_number(step, "weight"));
		put_safe(out, member_text(step, "hold"));
	}
}
