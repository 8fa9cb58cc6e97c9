/*
 * All of a worker's exchanges that are with one color of a service: those that wait for a response
 * head, the oldest first, and those that relay.  So a hang is seen by its age, and a color that
 * lost its traffic can be left: who waits is rescued, who relays is closed in time
 * (exchange_leave() in exchange.h).
 *
 *      account_join -> in -> WAITING -> head -> RELAYING -> out <- the end, a rescue
 *
 * Owner: the engine.  Thread: its worker's.
 */
#ifndef TEAL_CROWD_H
#define TEAL_CROWD_H

#include "balancer/verdict.h"
#include "proxy/exchange/exchange.h"

#define CROWD_TICK_MS  100
#define CROWD_AGAIN_MS 1000
#define CROWD_EVIDENCE 16 /* hanging exchanges told of before a trip */

enum crowd_place { CROWD_NOWHERE, CROWD_WAITING, CROWD_RELAYING };

struct crowd_color {
	struct exchange_list waiting, relaying;
	uint32_t overdue; /* as published */
	bool left;        /* it has no traffic any more, and some were still with it */
	int64_t left_ms;  /* since then */
	/* Who still waits for it is looked at again then: the rescue budget may have some more. */
	int64_t again_ms;
	uint64_t closed; /* of this worker's share since then */
};

struct crowd {
	struct engine *engine;
	unsigned service; /* index */
	struct crowd_color colors[N_COLORS];
	struct timeout timer; /* armed while somebody's age matters */
	struct task task;     /* leaves `tripped` at the end of the turn */
	enum color tripped;
};

void crowd_init(struct crowd *, struct engine *, unsigned service);
/* x->color was chosen; x->asked_us is now. */
void crowd_in(struct exchange *);
/* The response begins, and is not whole yet. */
void crowd_head(struct exchange *);
/* The color has it no more; again: nothing. */
void crowd_out(struct exchange *);
/* Unanswered for longer than limits.p95, and not because its client has not finished asking. */
bool crowd_overdue(const struct exchange *);
/* The guard tripped the candidate by what this worker saw: the worker is told, and the color is
 * left in this turn. */
void crowd_trip(struct engine *, const struct service *, const struct verdict *);

#endif
