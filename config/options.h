/*
 * One row per key of the configuration file, in tables that nest as the groups of the file do.
 * The loader, the dump, the defaults, the suggestions, freeing and the reference all walk these
 * rows; nothing else knows the keys.
 *
 * A row's offsets are relative to the struct of its table ("base" below).  A group may lie in
 * the same struct as its parent (offset 0): the shape of the file is not the shape of config.h.
 *
 * Constant data and pure functions; any thread.
 */
#ifndef TEAL_CONFIG_OPTIONS_H
#define TEAL_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"
#include "config/parse.h"

enum option_type {
	OPTION_BOOL,
	OPTION_UNSIGNED, /* unsigned; with words: only these numbers */
	OPTION_SIZE,     /* size_t */
	OPTION_DURATION, /* int64_t, ms */
	OPTION_PERCENT,  /* unsigned, hundredths of a percent */
	OPTION_WORD,     /* an enum whose values are the positions in words */
	OPTION_STRING,   /* char *; with words: only these */
	OPTION_FILE,     /* char *, made absolute; with words: these stand for themselves */
	OPTION_ADDRESS,  /* struct address; text "" when it may be left out */
	OPTION_FORM,     /* a string with a grammar of its own: form */
	OPTION_STRINGS,  /* struct string_list; with words: only these, and text is "one|two" */
	OPTION_NETWORKS, /* struct network_list */
	OPTION_GROUP,    /* a struct at offset: rows */
	OPTION_LIST,     /* pointer and size_t: groups with rows; text: steps_parse()'s form */
	OPTION_BACKENDS, /* as LIST, but an item may be the address alone */
	OPTION_RULES,    /* the items of struct header_rules with action */
	OPTION_REMOVALS  /* the same for HEADER_REMOVE: a list of names */
};

/* For OPTION_FORM; `base` is the struct of the table. */
struct option_form {
	const char *name; /* for the reference: "string like ..." */
	int (*parse)(void *base, const char *text, char *err, size_t err_size);
	void (*print)(const void *base, FILE *out);
};

struct option {
	const char *key; /* NULL ends a table */
	enum option_type type;
	unsigned flags;
	size_t offset;
	const char *text;  /* the default as the user would write it; NULL: an empty list */
	int64_t min, max;  /* of the value; of the number of items for lists */
	const char *words; /* "one|two" */
	text_check *check; /* of a string, or of each string of a list */
	const struct option_form *form;
	size_t owned;              /* a char * the form keeps, or 0 */
	const struct option *rows; /* of a group or a list's items */
	size_t size;               /* of a list's item */
	size_t presence;           /* a bool set when the group is written; 0: none */
	enum header_action action; /* of OPTION_RULES */
	const char *doc;
};

#define OPTION_REQUIRED 1u  /* must be written */
#define OPTION_LOWER    2u  /* made lower case */
#define OPTION_READABLE 4u  /* the file must be readable now */
#define OPTION_ALIKE    8u  /* the reference does not go into this group: as the one before */
#define OPTION_COMMAND  16u /* of STRINGS: the first is a command, made absolute, executable now */

extern const struct option config_options[]; /* of struct config */
extern const struct option header_rule_options[];

/* An array and its length, as every list of config.h begins: T *items; size_t n. */
struct option_vector {
	void *items;
	size_t n;
};
struct option_vector option_vector(const struct option *, const void *base);
void option_vector_set(const struct option *, void *base, struct option_vector);

/* The struct of a group. */
static inline void *
option_at(const struct option *o, void *base)
{
	return (char *)base + o->offset;
}
static inline const void *
option_at_const(const struct option *o, const void *base)
{
	return (const char *)base + o->offset;
}

/* Sets a scalar from text.  `directory` is what relative files are relative to.  Frees what was
 * there.  0, or -1 with the rest of a sentence that begins with the key. */
int option_parse(const struct option *, void *base, const char *text, const char *directory,
    char *err, size_t err_size);
/* The number of an UNSIGNED, SIZE, DURATION (ms) or PERCENT (bp), checked against the row. */
int option_set_number(const struct option *, void *base, int64_t n, char *err, size_t err_size);

/* Appends to a STRINGS, NETWORKS or REMOVALS list.  As option_parse(). */
int option_append(const struct option *, void *base, const char *text, char *err, size_t err_size);

/* Frees the items of a list. */
void option_clear(const struct option *, void *base);

/* Fills a zeroed struct with the defaults of a table; option_free_all() undoes it. */
void option_defaults(const struct option *rows, void *base);
void option_free_all(const struct option *rows, void *base);

/* What the user should have written: "a duration such as \"250ms\"". */
const char *option_expects(const struct option *);
/* "1 to 256", or "" when there is no range to name. */
#define OPTION_RANGE_SIZE 128
void option_range(const struct option *, char out[OPTION_RANGE_SIZE]);

/* The position of `word` in "one|two", or -1; the word at a position ("" behind the end). */
int option_word_find(const char *words, const char *word);
#define OPTION_WORD_SIZE 64
void option_word(const char *words, int position, char out[OPTION_WORD_SIZE]);

/* The key of the table nearest to `key` by edit distance, or NULL when none is near. */
const char *option_nearest(const struct option *rows, const char *key);
/* The same among the words of "one|two"; "" when none is near. */
void option_word_nearest(const char *words, const char *word, char out[OPTION_WORD_SIZE]);

/* "step|paused|...": the names of all events (event_names.c). */
extern const char config_event_words[];

#endif
