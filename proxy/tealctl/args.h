/*
 * What the operator typed: options anywhere, a command of one or two words, its arguments.
 *
 * Pure: no output, no sockets; tests call it with argument vectors.
 */
#ifndef TEALCTL_ARGS_H
#define TEALCTL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

#define ARGS_WORDS_MAX 1024

struct args;

enum {
	TAKES_WATCH = 1,  /* --watch */
	TAKES_CHANGE = 2, /* --reason, --if-epoch */
};

struct command {
	const char *name;      /* "status", "backend add" */
	const char *arguments; /* for usage: "[SERVICE] PERCENT" */
	const char *summary;   /* one line */
	const char *more;      /* the rest of --help */
	unsigned min_words, max_words;
	unsigned takes;
	int (*run)(const struct args *); /* the exit code */
};

struct args {
	const char *socket; /* NULL: not given */
	bool json, watch, help;
	const char *reason; /* NULL: not given */
	bool has_epoch;
	uint64_t if_epoch;
	const struct command *command; /* NULL only with help */
	const char *words[ARGS_WORDS_MAX];
	unsigned n_words;
};

/* 0, or -1 with a sentence.  The strings stay the caller's; argv is permuted. */
int args_parse(struct args *, const struct command *table, size_t n, int argc, char **argv,
    char *err, size_t err_size);

/* "[SERVICE] COLOR ADDRESS...": which words are which. */
struct target {
	const char *service; /* NULL: left out */
	enum color color;
	const char *const *addresses;
	unsigned n;
};
int args_target(const struct args *, struct target *, char *err, size_t err_size);

#endif
