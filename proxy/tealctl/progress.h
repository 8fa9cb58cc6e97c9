/*
 * How a command that takes its time tells of it: a line for each change; on a terminal also one
 * line, redrawn, that says how it stands now; with --json a document for each change and nothing
 * else.
 */
#ifndef TEALCTL_PROGRESS_H
#define TEALCTL_PROGRESS_H

#include <jansson.h>

#include "proxy/tealctl/args.h"
#include "proxy/tealctl/text.h"

struct progress {
	bool json, drawing; /* drawing: a terminal is there */
	bool drawn;         /* the redrawn line stands there */
};

/* From now on the reader of stdout may go away (head): the work is done all the same, and the exit
 * code is the work's. */
void progress_begin(struct progress *, const struct args *);
/* Lines, each with its newline; "" is nothing.  With --json: `service` instead, when there are
 * lines. */
void progress_say(struct progress *, const char *lines, const json_t *service);
/* The redrawn line, without newline; nothing but on a terminal. */
void progress_draw(struct progress *, const char *line);
/* Takes the redrawn line away. */
void progress_clear(struct progress *);

/* A text written piece by piece.  memory_end() gives it: malloc'd, never NULL. */
struct memory {
	FILE *f;
	char *text;
	size_t n;
};
void memory_begin(struct memory *);
char *memory_end(struct memory *);

#endif
