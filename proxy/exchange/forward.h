/*
 * Header policy: what goes to the backend, what comes back to the client.  Pure but for arenas.
 */
#ifndef TEAL_FORWARD_H
#define TEAL_FORWARD_H

#include "proxy/exchange/exchange.h"

/* Takes the request id from a trusted network's X-Request-Id (1..64 of [A-Za-z0-9._-]) or makes
 * one. */
void forward_request_id(struct exchange *);
/* x->forward from x->request: X-Forwarded-For/-Proto/-Host, Forwarded (RFC 7239), X-Request-Id,
 * Via; what came from networks that are not trusted is dropped. */
void forward_request(struct exchange *);
/* The response as the client gets it, in the engine's scratch memory; valid until the next call. */
void forward_response(struct exchange *, const struct head *from, struct head *to);
/* The value of a request cookie; n = 0 when absent. */
struct text cookie_find(const struct fields *, const char *name);

#endif
