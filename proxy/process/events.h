/*
 * What happens, told to whoever wants to know: subscribers of GET /v1/events, the exec hook, the
 * webhook (announce.c).
 *
 *   events_emit() -> the last EVENTS_KEPT events -> subscribers (server-sent events)
 *                 -> announce queues             -> exec, webhook; each with retries, neither
 *                                                   waits for the other
 *
 * Control thread.  Nothing here blocks; every queue is bounded, and what is dropped is counted and
 * logged.
 */
#ifndef TEAL_EVENTS_H
#define TEAL_EVENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

struct event_base;
struct events;

#define EVENTS_KEPT 1024 /* for a subscriber that comes back with Last-Event-ID */

struct events *events_new(struct event_base *, const struct config *);
void events_free(struct events *); /* subscribers are told; hooks under way are ended */

/*
 * An event: type "step", "paused", "resumed", "waiting", "frozen", "tripped", "rolled_back",
 * "promoted", "rollout_started", "rearmed", "gate_refused", "backend_down", "backend_up",
 * "backend_ejected", "certificate_near_end", "change", "state_not_written", ... service "" when it
 * is of none.  data: an object or NULL, the reference is taken.  What is told is {"id": n, "time":
 * "2026-01-01T00:00:00.000Z", "type": ..., "service": ..., ...members of data}.
 */
void events_emit(struct events *, const char *type, const char *service, json_t *data);

/* One server-sent event, ready to be written: "id: 7\nevent: step\ndata: {...}\n\n".  May
 * unsubscribe. NULL, 0: events_free() was called; the subscription is gone. */
typedef void events_listener(void *arg, const char *text, size_t n);
struct subscription;
/* Gets first what it missed after `after` (0: nothing of the past), within the call.  NULL: too
 * many subscribers. */
struct subscription *events_subscribe(
    struct events *, uint64_t after, events_listener *, void *arg);
void events_unsubscribe(struct subscription *);

/* For metrics. */
struct events_counters {
	uint64_t emitted, exec_ok, exec_failed, webhook_ok, webhook_failed, dropped;
};
void events_counters(const struct events *, struct events_counters *);

#endif
