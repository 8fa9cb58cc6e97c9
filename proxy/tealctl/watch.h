/*
 * status --watch: looked at each second.  On a terminal a screen of its own, drawn in one write;
 * elsewhere the text again and again, or a JSON document a line.
 */
#ifndef TEALCTL_WATCH_H
#define TEALCTL_WATCH_H

#include "proxy/tealctl/args.h"

/* Until a signal ends it; the exit code when teal does not answer at all. */
int watch_status(const struct args *, const char *target);

/* What is drawn: at most `height` lines (0: any), the last then saying how many are missing; each
 * ends with an erased rest of its line, and below all is erased.  malloc'd. */
char *watch_screen(const char *text, unsigned height);

#endif
