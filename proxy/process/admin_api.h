/*
 * The admin API without its sockets: a request in, one answer out, at once or when the change is
 * done.  admin.c feeds it from evhttp; tests call it directly.
 *
 * Control thread.
 */
#ifndef TEAL_ADMIN_API_H
#define TEAL_ADMIN_API_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proxy/process/control.h"

struct json_t;

#define API_BODY_MAX      (1024u * 1024) /* bytes of a request body */
#define API_REASON_MAX    1000           /* bytes */
#define API_ADDRESSES_MAX 1000           /* in one change */

/* Everything is borrowed for the call of api_handle(). */
struct api_request {
	struct control *control;
	const char *method; /* "GET", ... */
	const char *target; /* path and query as sent, percent-encoded */
	const char *body;   /* body_n bytes, no NUL needed */
	size_t body_n;
	bool read_only; /* changes are answered 405 */
	uid_t uid;      /* who asks: for the audit log */
	gid_t gid;
	pid_t pid;
};

/* Borrowed for the call of api_reply(). */
struct api_answer {
	unsigned status;
	const char *type;  /* Content-Type */
	const char *allow; /* for 405; else NULL */
	const char *body;
	size_t body_n;
};
typedef void api_reply(void *arg, const struct api_answer *);

/* Calls reply exactly once: within the call, or later when control says that the change is done. */
void api_handle(const struct api_request *, api_reply *, void *arg);

/* {"error": {"code", "message"}} as an answer, for what never reaches api_handle(). */
void api_error(api_reply *reply, void *arg, unsigned status, const char *code, const char *message);

/* What GET answers (admin_view.c); the caller's.  Members of NULL are out of memory. */
struct json_t *view_status(struct control *);
struct json_t *view_service(struct control *, const struct service *);
/* A string that may not be UTF-8: foreign bytes become '?'. */
struct json_t *view_text(const char *);

#endif
