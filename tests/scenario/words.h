/*
 * The words of a scenario's line, and phrases with blanks to be filled: "COLOR fails NUMBER %".
 *
 * Blanks are in capitals:
 *   NUMBER    12, 0.5             RANGE  5 | at least 5 | at most 5 | 5 to 9 | no
 *   DURATION  250ms, 1m30s        SPAN   a RANGE of durations
 *   COLOR     blue, green, both   WORD   any one word
 *   TEXT      "in quotes"         STEPS  25:1m 50:1m 100:2m, to the end of the phrase
 * "request(s)" is that word with or without its s.  '%', ',', ';' and "/s" are words of their own.
 */
#ifndef TEAL_TEST_WORDS_H
#define TEAL_TEST_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

#define WORDS_MAX     64
#define WORD_LINE_MAX 512

struct words {
	char text[2 * WORD_LINE_MAX]; /* the words, NUL-terminated each */
	const char *word[WORDS_MAX];
	bool quoted[WORDS_MAX];
	unsigned n;
};

/* Without the comment.  NULL, or what is wrong with the line. */
const char *words_split(struct words *, const char *line);

/* What stood in the blanks; ranges and spans (ms) are in the same place. */
#define VALUES_MAX 3
struct values {
	double number[VALUES_MAX];
	unsigned n_numbers;
	double min, max;
	int64_t duration_ms;
	bool has[N_COLORS];
	char text[WORD_LINE_MAX]; /* TEXT, WORD or STEPS ("25:1m,50:1m") */
};

/* Do the words from..to-1 say this phrase, all of it? */
bool words_match(
    const struct words *, unsigned from, unsigned to, const char *phrase, struct values *);

/* "1m30s" in ms; false: it is none. */
bool words_duration(const char *word, int64_t *ms);

#endif
