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

#define ARGS_WORDS_MAX    1024
#define ARGS_BACKENDS_MAX 1000 /* of --backends; the admin API takes no more in one change */

struct args;

/* Which options a command takes. */
enum {
	TAKES_WATCH = 1,     /* --watch */
	TAKES_CHANGE = 2,    /* --reason, --if-epoch */
	TAKES_WAIT = 4,      /* --wait, --timeout */
	TAKES_PLAN = 8,      /* --to, --steps, --rearm */
	TAKES_FULL = 16,     /* --full */
	TAKES_BACKENDS = 32, /* --backends, which must be given; --timeout without --wait */
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
	bool wait, rearm, full;
	const char *reason; /* NULL: not given */
	bool has_epoch;
	uint64_t if_epoch;
	bool has_to;
	enum color to;
	struct step_config *steps; /* malloc'd; n_steps == 0: not given */
	size_t n_steps;
	int64_t timeout_ms; /* 0: not given */
	char **backends;    /* of --backends; malloc'd */
	unsigned n_backends;
	const struct command *command; /* NULL only with help */
	const char *words[ARGS_WORDS_MAX];
	unsigned n_words;
};

/* 0, or -1 with a sentence.  Words and texts stay the caller's; argv is permuted.  args_fini() in
 * both cases. */
int args_parse(struct args *, const struct command *table, size_t n, int argc, char **argv,
    char *err, size_t err_size);
void args_fini(struct args *);

/* "[SERVICE] COLOR ADDRESS...": which words are which. */
struct target {
	const char *service; /* NULL: left out */
	enum color color;
	const char *const *addresses;
	unsigned n;
};
int args_target(const struct args *, struct target *, char *err, size_t err_size);

#endif
