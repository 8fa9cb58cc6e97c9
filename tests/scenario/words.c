/* Words and phrases, see words.h.  Nothing here knows what a phrase means. */
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenario/words.h"

/* --- a line into words ---------------------------------------------------- */

static bool
stands_alone(const char *p)
{
	return *p == '%' || *p == ',' || *p == ';';
}

/* Where the word that begins at p ends. */
static const char *
word_end(const char *p)
{
	if (stands_alone(p))
		return p + 1;
	for (const char *q = p;; q++) {
		bool per_second = strncmp(q, "/s", 2) == 0;
		bool colon_ends = *q == ':' && (q[1] == '\0' || isspace((unsigned char)q[1]));

		if (*q == '\0' || *q == '#' || *q == '"' || isspace((unsigned char)*q) ||
		    stands_alone(q) || (per_second && q > p))
			return q;
		if (colon_ends)
			return q > p ? q : q + 1;
	}
}

const char *
words_split(struct words *w, const char *line)
{
	char *out = w->text;

	w->n = 0;
	if (strlen(line) >= WORD_LINE_MAX)
		return "the line is too long";
	for (const char *p = line;;) {
		while (isspace((unsigned char)*p))
			p++;
		if (*p == '\0' || *p == '#')
			return NULL;
		if (w->n == WORDS_MAX)
			return "too many words";
		bool quoted = *p == '"';
		const char *begin = quoted ? p + 1 : p;
		const char *end = quoted ? strchr(begin, '"') : word_end(p);

		if (end == NULL)
			return "a quotation mark is missing";
		w->word[w->n] = out;
		w->quoted[w->n++] = quoted;
		out = mempcpy(out, begin, (size_t)(end - begin));
		*out++ = '\0';
		p = quoted ? end + 1 : end;
	}
}

/* --- blanks --------------------------------------------------------------- */

static bool
number(const char *word, double *out)
{
	char *end;

	*out = strtod(word, &end);
	return isdigit((unsigned char)*word) && *end == '\0';
}

bool
words_duration(const char *word, int64_t *ms)
{
	char one[32];
	const char *p = word;

	*ms = 0;
	do {
		size_t digits = strspn(p, "0123456789"), n = digits;
		int64_t part;

		n += strspn(p + digits, "hms");
		if (digits == 0 || n >= sizeof one)
			return false;
		memcpy(one, p, n);
		one[n] = '\0';
		if (duration_parse(one, &part) < 0)
			return false;
		*ms += part;
		p += n;
	} while (*p != '\0');
	return true;
}

/* A quantity: a number, or a duration in ms. */
static bool
quantity(const char *word, bool duration, double *out)
{
	int64_t ms;

	if (!duration)
		return number(word, out);
	if (!words_duration(word, &ms))
		return false;
	*out = (double)ms;
	return true;
}

struct cursor {
	const struct words *words;
	unsigned at, to;
};

static const char *
peek(const struct cursor *c, unsigned ahead)
{
	return c->at + ahead < c->to ? c->words->word[c->at + ahead] : "";
}

static bool
range(struct cursor *c, bool duration, struct values *v)
{
	const char *word = peek(c, 0);
	bool least, most;

	if (strcmp(word, "no") == 0) {
		v->min = v->max = 0;
		c->at++;
		return true;
	}
	least = strcmp(word, "at") == 0 && strcmp(peek(c, 1), "least") == 0;
	most = strcmp(word, "at") == 0 && strcmp(peek(c, 1), "most") == 0;
	if (least || most)
		c->at += 2;
	if (!quantity(peek(c, 0), duration, &v->min))
		return false;
	c->at++;
	v->max = v->min;
	if (least) {
		v->max = DBL_MAX;
	} else if (most) {
		v->min = 0;
	} else if (strcmp(peek(c, 0), "to") == 0) {
		if (!quantity(peek(c, 1), duration, &v->max))
			return false;
		c->at += 2;
	}
	return true;
}

static bool
color(struct cursor *c, struct values *v)
{
	const char *word = peek(c, 0);
	enum color one;

	v->has[BLUE] = v->has[GREEN] = strcmp(word, "both") == 0;
	if (color_parse(word, &one) == 0)
		v->has[one] = true;
	c->at++;
	return v->has[BLUE] || v->has[GREEN];
}

static bool
text(struct cursor *c, bool quoted, struct values *v)
{
	if (c->at >= c->to || c->words->quoted[c->at] != quoted)
		return false;
	snprintf(v->text, sizeof v->text, "%s", c->words->word[c->at++]);
	return true;
}

static bool
steps(struct cursor *c, struct values *v)
{
	size_t n = 0;

	v->text[0] = '\0';
	for (; c->at < c->to; c->at++)
		n += (size_t)snprintf(v->text + n, sizeof v->text - n, "%s%s", n == 0 ? "" : ",",
		    c->words->word[c->at]);
	return n != 0;
}

static bool
literal(struct cursor *c, const char *word, size_t n)
{
	const char *said = peek(c, 0);
	bool plural = n > 3 && strncmp(word + n - 3, "(s)", 3) == 0;
	size_t stem = plural ? n - 3 : n;

	c->at++;
	if (strncmp(said, word, stem) != 0)
		return false;
	return said[stem] == '\0' || (plural && strcmp(said + stem, "s") == 0);
}

static bool
one_more_number(struct cursor *c, struct values *v)
{
	if (v->n_numbers == VALUES_MAX || !number(peek(c, 0), &v->number[v->n_numbers]))
		return false;
	v->n_numbers++;
	c->at++;
	return true;
}

static bool
part_matches(struct cursor *c, const char *part, size_t n, struct values *v)
{
#define BLANK(name) (n == strlen(name) && strncmp(part, name, n) == 0)
	if (BLANK("NUMBER"))
		return one_more_number(c, v);
	if (BLANK("RANGE"))
		return range(c, false, v);
	if (BLANK("SPAN"))
		return range(c, true, v);
	if (BLANK("DURATION"))
		return words_duration(c->words->word[c->at++], &v->duration_ms);
	if (BLANK("COLOR"))
		return color(c, v);
	if (BLANK("TEXT"))
		return text(c, true, v);
	if (BLANK("WORD"))
		return text(c, false, v);
	if (BLANK("STEPS"))
		return steps(c, v);
	return literal(c, part, n);
#undef BLANK
}

bool
words_match(const struct words *w, unsigned from, unsigned to, const char *phrase, struct values *v)
{
	struct cursor c = {w, from, to};

	memset(v, 0, sizeof *v);
	for (const char *part = phrase; *part != '\0';) {
		size_t n = strcspn(part, " ");

		if (c.at >= to || !part_matches(&c, part, n, v))
			return false;
		part += n;
		part += strspn(part, " ");
	}
	return c.at == to;
}
