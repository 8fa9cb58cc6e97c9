/*
 * Asking a backend: which one, what it is sent, and whom else when it fails before it answered.
 */
#ifndef TEAL_ASK_H
#define TEAL_ASK_H

#include "proxy/exchange/exchange.h"

/* Gives the exchange a backend of its color, a place in the queue, or an answer. */
void ask_choose(struct exchange *);
/* The back stream is gone before a byte of its response went to the client: another try, a rescue,
 * or an answer. */
void ask_again(struct exchange *, enum outcome why);
/* A piece of the request body goes to the backend. */
void ask_give_body(struct exchange *, struct slice, bool end);

#endif
