/*
 * The hooks of announce: a command and a webhook, each with a queue of its own.
 *
 *                +-> queue -> one at a time -> run.c      exit code 0: told
 *   announce_tell()
 *                +-> queue -> one at a time -> webhook.c  2xx: told; 4xx but 408 and 429: given up
 *                                 ^---- again after 1, 2, 4, ... s, at most 60
 *
 * Control thread; nothing blocks, and neither hook waits for the other.
 */
#ifndef TEAL_ANNOUNCE_H
#define TEAL_ANNOUNCE_H

#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

struct event_base;
struct announce;

#define ANNOUNCE_QUEUE                                                                             \
	256 /* waiting per hook, beside the one being told; then the oldest is dropped */
#define ANNOUNCE_PAUSE_MS 1000 /* before the first repetition; doubled each time */

/* The configuration is borrowed.  pause_ms: ANNOUNCE_PAUSE_MS, but in tests. */
struct announce *announce_new(
    struct event_base *, const struct announce_config *, int64_t pause_ms);
void announce_free(struct announce *); /* what is under way is ended, what waits is forgotten */

/* Tells both hooks when the type is one of config->events.  json: n bytes, copied. */
void announce_tell(
    struct announce *, const char *type, const char *service, const char *json, size_t n);

struct hook_counters {
	uint64_t ok, failed, dropped;
};
void announce_counters(
    const struct announce *, struct hook_counters *exec, struct hook_counters *webhook);

#endif
