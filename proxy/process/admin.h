/*
 * The admin server: evhttp on a Unix socket (changes allowed, the caller's credentials by
 * SO_PEERCRED) and on an optional TCP listener (read only).  Control thread.
 */
#ifndef TEAL_ADMIN_H
#define TEAL_ADMIN_H

#include "config/config.h"
#include "proxy/process/control.h"

struct admin;

/* Binds what config->admin names (a stale socket file is replaced, a live one is an error; mode,
 * owner, group set before anyone can connect).  NULL with a sentence in err. */
struct admin *admin_new(
    struct event_base *, struct control *, const struct config *, char *err, size_t err_size);
void admin_free(struct admin *); /* removes the socket file it made */

#endif
