/*
 * What the parts of the exchange machine share: exchange.c (its life, both streams' events, time),
 * ask.c (asking a backend), rescue.c (the live color instead), crowd.c (all that are with one
 * color).  Nobody else includes this.  Owner and thread: the engine's worker.
 */
#ifndef TEAL_EXCHANGE_PRIVATE_H
#define TEAL_EXCHANGE_PRIVATE_H

#include "proxy/exchange/exchange.h"

/* --- exchange.c's ------------------------------------------------------------ */

extern const struct stream_events exchange_back_events;

/* The one place where the state changes (wait.c marks who waits). */
static inline void
exchange_enter(struct exchange *x, enum exchange_state to)
{
	x->state = to;
}
void exchange_arm(struct exchange *, int64_t ms);
void exchange_arm_for_progress(struct exchange *);
/* The backend has all that has come of the request, and that is not all of it: it may rightly be
 * silent. */
bool exchange_client_is_due(const struct exchange *);
void exchange_drop_kept(struct exchange *); /* the request body cannot be replayed any more */
/* The back stream, if any, is reset, and its backend's place is free; x->member stays for the
 * log. */
void exchange_let_back_go(struct exchange *, enum outcome why);
/* Nobody of the color is left to ask: answered here, or cut when the response had begun. */
void exchange_give_up(struct exchange *, enum outcome why);
/* Whatever it is doing: the client sees that it ends too soon. */
void exchange_cut(struct exchange *, enum outcome why);
/* A tunnel, in order: what was sent is delivered, then FIN or END_STREAM. */
void exchange_close_tunnel(struct exchange *, enum outcome why);

/* --- rescue.c's -------------------------------------------------------------- */

/* May this exchange, which failed on the candidate by `why`, be replayed on the live color?  true:
 * one was taken of the budget, and rescue_go() is to follow. */
bool rescue_may(struct exchange *, enum outcome why);
/* The candidate's failure is counted (which may trip it), then the live color is asked. */
void rescue_go(struct exchange *, enum outcome why);
/* Both; false: nothing was done. */
bool rescue(struct exchange *, enum outcome why);
/* Nobody has been asked yet, and its color has lost its traffic: it is the live color's now.
 * Counts for nobody. */
void rescue_recolor(struct exchange *);

#endif
