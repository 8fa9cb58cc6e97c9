/*
 * Runs a command beside the event loop: gates and exec hooks.  posix_spawn, a pidfd on the loop, a
 * deadline.
 *
 * Control thread; never blocks.  The child gets an own process group (ended whole), default signal
 * dispositions, /dev/null or `input` as stdin, one pipe as stdout and stderr of which
 * RUN_OUTPUT_MAX bytes are kept, no other descriptors.
 */
#ifndef TEAL_RUN_H
#define TEAL_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

struct event_base;
struct run;

#define RUN_OUTPUT_MAX 4096

enum run_end { RUN_EXITED, RUN_SIGNALLED, RUN_TIMED_OUT, RUN_NOT_STARTED };
struct run_result {
	enum run_end end;
	int code;           /* exit code or signal; errno for RUN_NOT_STARTED */
	const char *output; /* NUL-terminated, control characters but \n and \t made '?' */
	char sentence
	    [160]; /* "exit code 3", "timed out after 30s", "/x/y: No such file or directory" */
};
typedef void run_done(void *arg, const struct run_result *);

/* environment: "NAME=value" strings added to teal's own, NULL-terminated.  done is called exactly
 * once, later, never within this call, unless run_cancel() comes first.  input is copied. */
struct run *run_start(struct event_base *, const struct string_list *argv,
    const char *const *environment, const char *input, size_t n, int64_t timeout_ms, run_done *,
    void *arg);
/* Ends the command (SIGKILL to its group) and reaps it; done is not called. */
void run_cancel(struct run *);

#endif
