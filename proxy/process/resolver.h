/*
 * Host names to addresses, on a thread of its own because getaddrinfo(3) blocks.  Control asks by
 * letter and is answered in its mailbox.
 */
#ifndef TEAL_RESOLVER_H
#define TEAL_RESOLVER_H

#include "proxy/base/mailbox.h"
#include "proxy/exchange/engine.h"

struct resolver;

struct lookup {
	struct letter letter; /* first */
	char host[256];
	uint16_t port;
	unsigned backend; /* id, for who asked */
	struct mailbox *reply_to;
	void (*replied)(
	    struct letter *, void *receiver); /* receives the lookup back, and frees it */
	const char *error;                    /* NULL: resolved; a static sentence */
	unsigned n;
	struct target target; /* only n and at[] are filled */
};

struct resolver *resolver_new(void); /* NULL with errno */
void resolver_ask(struct resolver *, struct lookup *);
void resolver_free(struct resolver *); /* waits for the lookup under way, at most 2 s */
/* The same at once, for the start; literals never block. */
void resolve_now(struct lookup *);

#endif
