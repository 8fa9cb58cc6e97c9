/*
 * --wait: asks teal again and again how a service stands, until a rollout has ended or the time is
 * up.
 *
 * A teal that does not answer, while it is restarted say, is asked on: until the deadline, or for
 * LOST_MS without one.
 */
#ifndef TEALCTL_WAIT_H
#define TEALCTL_WAIT_H

#include <jansson.h>
#include <stdint.h>

#include "proxy/tealctl/args.h"
#include "proxy/tealctl/progress.h"

#define POLL_MS      250
#define POLL_WAIT_MS 5000   /* for one answer */
#define LOST_MS      300000 /* without an answer and without a deadline */

struct poll {
	const struct args *args;
	struct progress *progress;
	const char *target;  /* "/v1/services/NAME" */
	int64_t deadline_ms; /* client_now_ms(); 0: none */
	int64_t lost_ms;     /* since when teal does not answer; 0: it does */
};

enum polled { POLL_ANSWERED, POLL_FAILED, POLL_TIMED_OUT };
/* The next look, after a moment; failures are told, a timeout is not. */
enum polled poll_next(struct poll *, json_t **service);

/* The deadline of a command that was given --timeout, or that has `otherwise` (0: none). */
int64_t deadline_of(const struct args *, int64_t otherwise_ms);

/* Follows the rollout that `service`, teal's answer to a change, tells of; borrowed.  The exit
 * code. */
int wait_rollout(struct poll *, json_t *service);

#endif
