/*
 * The audit log: who did what, when, where and why; and every decision teal took by itself, with
 * its verdict. STATE_DIRECTORY/audit.log, a JSON object a line, fsynced before the change is
 * answered.  Opened for each entry, so that it may be rotated by renaming it.
 *
 *   {"time": "...Z", "service": "api", "action": "weight", "from": "0", "to": "25", "epoch": 8,
 *    "by": {"uid": 0, "user": "root", "gid": 0, "pid": 77} | "teal", "host": "edge1",
 *    "reason": "TICKET-7", "rule": "failure_rate", "verdict": "..."}
 *
 * Control thread.
 */
#ifndef TEAL_AUDIT_H
#define TEAL_AUDIT_H

#include <jansson.h>

#include "balancer/verdict.h"
#include "proxy/process/control.h"

struct audit;

struct audit_entry {
	const char *service; /* "" = all of teal */
	const char *
	    action; /* "weight", "flip", "rollout start", "step", "trip", "promote", "backend drain", ... */
	const char *from, *to;
	uint64_t epoch;                /* after the change */
	const struct change *by;       /* NULL: teal itself */
	const char *reason;            /* of teal itself; by->reason otherwise */
	const struct verdict *verdict; /* NULL: none */
};

#define AUDIT_KEPT 200 /* entries kept in memory for each service, for history */

/* Reads the end of what is there (at most 4 MiB; lines that are no JSON objects are skipped).
 * Never fails: what cannot be read is logged. */
struct audit *audit_open(const char *directory);
void audit_close(struct audit *);
/* 0, or -1 with a sentence in err; it is in the history of the running process either way. */
int audit_write(struct audit *, const struct audit_entry *, char *err, size_t err_size);
/* The newest last, at most AUDIT_KEPT; a new array, the caller's. */
json_t *audit_history(const struct audit *, const char *service);
/* Of the last audit_write(): a new reference, for events. */
json_t *audit_last(const struct audit *);

#endif
