/*
 * The bounded queue before a pool whose backends are all full.  First come, first served per
 * worker; the bound counts all workers.
 */
#ifndef TEAL_WAIT_H
#define TEAL_WAIT_H

#include "proxy/exchange/exchange.h"

/* `assign` is called for the oldest exchange when a place may be free: true when the exchange has
 * left the queue. */
void wait_init(struct wait_queue *, struct engine *, _Atomic uint32_t *waiting);
bool wait_enter(struct exchange *);      /* false: the queue is full */
void wait_leave(struct exchange *);      /* not waiting: nothing */
void wait_wake(struct exchange *);       /* this one gave its place back */
void wait_serve(struct exchange *);      /* those who wait already come before this one */
bool exchange_assign(struct exchange *); /* exchange.c's: tries to give it a backend */

#endif
