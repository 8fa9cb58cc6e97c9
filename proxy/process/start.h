/*
 * The daemon as main() sees it: start, run until a signal, free.  See control.h for what the
 * admin API sees of the same object.
 */
#ifndef TEAL_START_H
#define TEAL_START_H

#include <stddef.h>

#include "config/config.h"

struct control;

/* Everything that can be checked without binding a port: certificates, keys, CAs. 0, or -1 with a
 * sentence in err. */
int control_check(const struct config *, char *err, size_t err_size);
/* Binds, starts the workers.  NULL with a sentence in err; nothing is left behind then. */
struct control *control_start(const struct config *, char *err, size_t err_size);
/* Until SIGTERM or SIGINT and the drain.  The exit status. */
int control_run(struct control *);
void control_free(struct control *);

#endif
