/*
 * A request to the admin API under way, and the strict reading of its arguments: shared by
 * admin_api.c (routes and handlers) and admin_args.c, for nobody else.
 *
 * Control thread.
 */
#ifndef TEAL_ADMIN_CALL_H
#define TEAL_ADMIN_CALL_H

#include <jansson.h>

#include "proxy/process/admin_api.h"

#define CALL_SEGMENTS_MAX 8
#define CALL_TARGET_MAX   4096 /* bytes of a request target */

/* A request under way, on the stack of api_handle(). */
struct call {
	const struct api_request *request;
	api_reply *reply;
	void *arg;
	char path[CALL_TARGET_MAX]; /* cut into segments, each decoded */
	char *segments[CALL_SEGMENTS_MAX];
	unsigned n_segments;
	char query[CALL_TARGET_MAX];
	json_t *body;            /* an object or NULL; api_handle() frees it */
	struct change change;    /* borrows from body and query */
	struct service *service; /* what the path names */
	enum color color;
	const char *address; /* a backend's, from the path */
};

/* Answers 400 with a sentence that begins with the member at fault; -1, so that a check can end
 * with it. */
int call_refuse(const struct call *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The functions below: 0, or -1 when the request has been answered. */

/* The body as an object with no members but `names` (NULL-terminated), "reason" and "if_epoch". */
int call_read_body(struct call *, const char *const *names);
/* "reason" and "if_epoch" from the query, for DELETE, which has no body (RFC 9110 9.3.5). */
int call_read_query(struct call *);
/* A number, 0 to 100 with at most two decimals, as hundredths of a percent. */
int call_read_weight(const struct call *, const char *member, unsigned *bp);
/* "backends" into `out`, which has API_ADDRESSES_MAX places and borrows from the body. */
int call_read_backends(const struct call *, const char **out, unsigned *n);
/* "action", "to", "steps", "full", "rearm"; out->steps has STEPS_MAX places. */
int call_read_rollout(const struct call *, struct rollout_request *out, struct step_config *steps);
int call_check_address(const struct call *, const char *member, const char *text);

/* Percent-decodes in place.  -1: a broken escape, or a NUL. */
int call_decode(char *text);

#endif
