/*
 * Asking teal, and saying in one sentence on stderr what went wrong.  The commands are made of
 * this.
 *
 * Out of memory ends the process.
 */
#ifndef TEALCTL_ASK_H
#define TEALCTL_ASK_H

#include <jansson.h>
#include <stdint.h>

#include "proxy/tealctl/args.h"

__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);
/* malloc'd. */
__attribute__((format(printf, 1, 2))) char *print(const char *format, ...);
/* One line, malloc'd; takes the reference. */
char *print_json(json_t *);
/* -s, the environment, or the default. */
const char *socket_path(const struct args *);

/* One answer; body NULL: none is sent. */
struct answer {
	json_t *json;    /* NULL: failed */
	char *raw;       /* the text of json */
	unsigned status; /* 0: there was none: not reached, or the connection broke */
	char code[64];   /* of an error: "stale-epoch"; "" */
	char err[1024];  /* what went wrong, in a sentence, safe for a terminal */
};
#define PATIENCE_MS 60000 /* a change is answered when it is durable and every worker obeys it */
void ask_teal(const struct args *, const char *method, const char *target, const char *body,
    int64_t patience_ms, struct answer *);
void answer_fini(struct answer *);

/* The same, failures told: the JSON, or NULL.  raw, when not NULL, gets the text. */
json_t *ask(
    const struct args *, const char *method, const char *target, const char *body, char **raw);
/* Tells of a failed answer; with --json also prints the error as teal sent it. */
void complain_answer(const struct args *, const struct answer *);

/* "/v1/services/NAME" with the service named or the only one, malloc'd; NULL: told, with the exit
 * code in *code. */
char *service_target(const struct args *, const char *named, int *code);
/* target/rest; takes target. */
char *target_below(char *target, const char *rest);
/* Adds --reason and --if-epoch to a body; takes and gives the reference. */
json_t *with_change(const struct args *, json_t *body);

#endif
