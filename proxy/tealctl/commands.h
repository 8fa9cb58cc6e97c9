/* The commands: each asks teal and prints; the exit code is what they return. */
#ifndef TEALCTL_COMMANDS_H
#define TEALCTL_COMMANDS_H

#include <jansson.h>

#include "proxy/tealctl/args.h"

#define DEFAULT_SOCKET "/run/teal/admin.sock"

enum {
	EXIT_DONE = 0, /* promoted, with --wait */
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_ROLLED_BACK = 3,
	EXIT_UNDECIDED = 4, /* inconclusive, paused, or waiting for promote */
	EXIT_TIMED_OUT = 5,
};

/* commands.c */
int run_status(const struct args *);
int run_weight(const struct args *);
int run_flip(const struct args *);
int run_backend_add(const struct args *);
int run_backend_remove(const struct args *);
int run_backend_drain(const struct args *);
int run_backend_undrain(const struct args *);
int run_backend_set(const struct args *);
int run_maintenance(const struct args *);
int run_why(const struct args *);
int run_history(const struct args *);
int run_metrics(const struct args *);
int run_version(const struct args *);
/* rollout.c */
int run_rollout_start(const struct args *);
int run_rollout_pause(const struct args *);
int run_rollout_resume(const struct args *);
int run_rollout_promote(const struct args *);
int run_rollout_abort(const struct args *);
int run_rearm(const struct args *);
/* deploy.c */
int run_deploy(const struct args *);
/* events.c */
int run_events(const struct args *);

/* What a change led to: a line, a pool's backends when `pool` is not NULL; with --json the answer.
 * */
void show_change(
    const struct args *, const json_t *service, const char *raw, const enum color *pool);
/* One change, METHOD SERVICE/REST, shown; takes the body.  The exit code. */
int change_service(
    const struct args *, const char *named, const char *method, const char *rest, json_t *body);

#endif
