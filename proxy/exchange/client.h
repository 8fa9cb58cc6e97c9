/*
 * An accepted connection as the worker made it: the front connection, and what the exchange needs
 * to know of where it came in.  Owner: its worker.
 */
#ifndef TEAL_CLIENT_H
#define TEAL_CLIENT_H

#include "proxy/codec/front.h"
#include "proxy/exchange/engine.h"

#define CLIENT_MAGIC 0xc11e2700u

struct client {
	struct front_conn fc; /* first */
	uint32_t magic;
	struct engine *engine;
	const struct listener_config *listener;
	unsigned listener_index;
	bool counted;            /* in the per-client table */
	LIST_ENTRY(client) link; /* all of a worker's */
};

static inline struct client *
client_of(struct front_conn *fc)
{
	return (struct client *)(void *)fc;
}

#endif
