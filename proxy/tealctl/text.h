/*
 * What all views are made of: members of teal's JSON, text that is safe for a terminal, cells,
 * bars, times.
 *
 * Pure but for one setting, text_utf8, made once at the start.  What is missing in the JSON counts
 * as nothing: an older or newer teal may leave things out.
 */
#ifndef TEALCTL_TEXT_H
#define TEALCTL_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

/* The locale has UTF-8: else all that is not ASCII is printed as '?'.  Default: it has. */
extern bool text_utf8;

/* The last minute of p95; status.h. */
struct trail;

/* How the text may look. */
struct look {
	bool color; /* ANSI escapes */
	bool utf8;
	unsigned width;            /* columns; lines are cut there; 0: not at all */
	unsigned height;           /* rows of the terminal; 0: any */
	int64_t now_ms;            /* wall clock, for "2 minutes ago"; 0: not said */
	const struct trail *trail; /* sparklines; NULL: none */
};

/* --- members of an object; NULL, and any other type, is nothing --- */
double member_number(const json_t *, const char *key);
const char *member_text(const json_t *, const char *key); /* "" for nothing */
bool member_true(const json_t *, const char *key);
const json_t *member_color(const json_t *service, enum color); /* its numbers and backends */
/* The color named by a member, or `otherwise`. */
enum color member_color_word(const json_t *, const char *key, enum color otherwise);

/* --- text --- */
/* Text from outside, safe for a terminal: control characters, and those that turn the direction of
 * writing (Unicode TR 36, section 2.6), become '?'. */
void put_safe(FILE *out, const char *text);
/* Columns that put_safe() fills: one a character. */
unsigned text_columns(const char *text);
/* The same in exactly `width` columns: cut, or filled up with blanks. */
void put_cell(FILE *out, const char *text, unsigned width);
/* Lines cut to look->width; an escape counts nothing. */
void put_clipped(FILE *out, const char *text, const struct look *);

void put_style(FILE *out, const struct look *, const char *code);
void put_plain(FILE *out, const struct look *);
const char *color_code(enum color);
const char *state_code(const char *backend_state);

/* "[#####.....]": `part` of 0..1; the color stays as it is. */
void put_bar(FILE *out, double part, unsigned columns);

/* --- times --- */
#define MS_TEXT_SIZE 16
/* "3.1 ms", "12 ms", "1.25 s", "-" for nothing. */
void print_ms(char out[MS_TEXT_SIZE], double ms);
/* "3h 12m", "3m 12s", "12s". */
void put_age(FILE *out, double ms);
/* RFC 3339 in UTC -> ms since 1970; -1: it is none. */
int64_t time_parse(const char *text);
/* "2026-11-21 06:21:35", UTC; the text itself when it is no time. */
void put_time(FILE *out, const char *text);
/* "2m 3s ago"; nothing when the time or now is not known. */
void put_ago(FILE *out, const char *text, const struct look *);

/* --- steps --- */
/* "25 % for 5m, 50 % for 5m". */
void put_steps(FILE *out, const json_t *steps);

#endif
