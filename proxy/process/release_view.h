/* Rollouts and trips as JSON; for admin_view.c.  Control thread. */
#ifndef TEAL_RELEASE_VIEW_H
#define TEAL_RELEASE_VIEW_H

#include "proxy/process/admin_api.h"
#include "proxy/process/release.h"

/* New objects, the caller's. */
struct json_t *view_rollout(const struct release *, const struct rollout_config *);
struct json_t *view_trip(const struct release *, uint32_t course);

/* admin_view.c's: seconds since 1970 as RFC 3339. */
struct json_t *view_time(int64_t seconds);

#endif
