/*
 * One load of the configuration: the tree libconfig made of the text, the structs filled from
 * it, and the problems found so far.  load.c fills, check.c and check_service.c judge,
 * problem.c keeps what they find.
 *
 * Owner: config_load(), on its stack, one thread.
 */
#ifndef TEAL_CONFIG_LOAD_H
#define TEAL_CONFIG_LOAD_H

#include <libconfig.h>
#include <stdbool.h>

#include "config/config.h"
#include "config/source.h"

struct problem {
	unsigned line; /* of source.text: the order of the files as read */
	unsigned seq;
	char *message; /* "FILE:LINE: ..." */
};

struct loading {
	struct source source;
	config_t tree;
	struct config *config;
	char *directory; /* relative files are relative to this */
	struct problem *problems;
	unsigned n_problems;
};

/* Notes a problem at a place in the files; `line` of the text orders it among the others. */
void loading_note(struct loading *, unsigned line, struct source_line at, const char *text);

/* Notes a problem at a setting (NULL: the whole file); the message follows "FILE:LINE: ". */
void loading_problem(struct loading *, config_setting_t *, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same, with the setting's key before the message: "services[0].name must be ...". */
void loading_refuse(struct loading *, config_setting_t *, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Prints the problems, one a line, and frees them. */
void loading_report(struct loading *, FILE *errors);

/* "services[1].blue.backends[0]"; the caller frees. */
char *loading_key(config_setting_t *);

/* The setting at "a.b.c" below `from`, or NULL. */
config_setting_t *loading_find(config_setting_t *from, const char *path);
/* The same, or the nearest group above it that was written. */
config_setting_t *loading_near(config_setting_t *from, const char *path);
/* Was a problem noted in or below this setting?  Then what it says is not to be judged. */
bool loading_is_bad(const config_setting_t *);

/* check.c: the rules that look at more than one field. */
void check_config(struct loading *);
/* check_service.c */
void check_services(struct loading *);

#endif
