/*
 * One POST at a time to announce.webhook, by libcurl on the control thread's loop.
 *
 * Control thread; never blocks: names are looked up on threads of libcurl's.
 */
#ifndef TEAL_WEBHOOK_H
#define TEAL_WEBHOOK_H

#include <stddef.h>

#include "config/config.h"

struct event_base;
struct webhook;

/* status: of the answer, 0 when there was none; then error is a sentence (else ""). */
typedef void webhook_done(void *arg, unsigned status, const char *error);

/* The configuration is borrowed.  Calls curl_global_init(), which wants to come before other
 * threads. */
struct webhook *webhook_new(
    struct event_base *, const struct announce_config *, webhook_done *, void *arg);
void webhook_free(struct webhook *); /* a request under way is ended; done is not called */

/* Sends n bytes of JSON, borrowed until done.  Not while another is under way.  done is called
 * once, later, never within this call. */
void webhook_post(struct webhook *, const char *json, size_t n);

#endif
