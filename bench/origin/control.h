/*
 * The control socket: a Unix socket, one command a line, one answer a line ("ok", "error: ...",
 * JSON; `since` ends with ".").  The main thread's; a client that does not read its answer holds
 * it up for a few seconds at most.
 */
#ifndef ORIGIN_CONTROL_H
#define ORIGIN_CONTROL_H

#include "bench/origin/worker.h"

int control_open(const char *path);                          /* a listening socket; -1: errno */
void control_run(struct origin *, int control, int signals); /* until a signal; control may be -1 */

#endif
