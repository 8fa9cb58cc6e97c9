/*
 * A rollout: the walk of the weight along its steps, up to promotion or rollback.  Pure: told the
 * time and the verdict, says what to do.  It never changes a weight itself.
 *
 *   IDLE -> STEPPING <-> PAUSED          PROMOTED, ROLLED_BACK, IDLE: a new one may begin
 *              |  \________|___________> ROLLED_BACK  (trip, abort, inconclusive)
 *              +-----------------------> PROMOTED     (the last step held well, or by hand)
 *
 * A step is entered after its gate: `entered` is false until then and the weight is that of the
 * step before (0 before the first).  Control copies the struct, asks, makes the copy durable, then
 * obeys it.
 *
 * Promote goes past what the rollout waits for.  A step that is held: the next one begins, with
 * its gate.  A step whose gate is asked or refused: it is entered without it (`entered` is true
 * already in ROLLOUT_NEXT: no gate, only the weight).
 */
#ifndef TEAL_ROLLOUT_H
#define TEAL_ROLLOUT_H

#include "balancer/verdict.h"

enum rollout_state {
	ROLLOUT_IDLE,
	ROLLOUT_STEPPING,
	ROLLOUT_PAUSED,
	ROLLOUT_PROMOTED,
	ROLLOUT_ROLLED_BACK
};
#define N_ROLLOUT_STATES 5
/* "idle", "stepping", "paused", "promoted", "rolled_back" */
const char *rollout_state_name(enum rollout_state);
/* 0, or -1 when the word is no state. */
int rollout_state_parse(const char *word, enum rollout_state *);

#define ROLLOUT_REASON_MAX 384
#define ROLLOUT_THAW_MS    3000 /* not frozen for so long before it goes on: no flutter */
struct rollout {
	enum rollout_state state;
	enum color to; /* whom it brings in */
	struct step_config steps[STEPS_MAX];
	unsigned n_steps;
	unsigned step; /* 0-based: held, or waiting for its gate */
	bool entered;  /* its weight is set */
	bool frozen;  /* the live color could not take the traffic: the hold's clock stands still */
	bool waiting; /* held well; waits for promote (rollout.auto = false) */
	/* Of the step, paused and frozen time left out; against hold and max_hold. */
	int64_t held_ms;
	/* Monotonic time of the last tick; 0: the clock stands still until the next. */
	int64_t ticked_ms;
	int64_t thawed_ms; /* frozen, but the verdict is not any more since then; 0; kept nowhere */
	/* Why it is in its state, or what it waits for; "". */
	char reason[ROLLOUT_REASON_MAX];
};

/* What control has to do. */
enum rollout_act {
	ROLLOUT_STAY,
	/* Run the gate of `step`, then rollout_entered() and its weight.  `entered` is true
	 * already: no gate, only the weight. */
	ROLLOUT_NEXT,
	ROLLOUT_PROMOTE, /* `to` becomes live, weight 0; the state is PROMOTED already */
	ROLLOUT_GIVE_UP, /* weight 0; the state is ROLLED_BACK already */
	/* State or reason changed (paused, frozen, goes on, waits): tell, no change of weight. */
	ROLLOUT_SAY
};

/* A new one; the state becomes STEPPING, the act is always ROLLOUT_NEXT. n is 1..STEPS_MAX. */
enum rollout_act rollout_begin(
    struct rollout *, enum color to, const struct step_config *steps, unsigned n);
/* The gate of `step` let it pass (or there is none).  Nothing when it is not asked any more
 * (paused, promoted, ended): the same for rollout_refused(), which then says ROLLOUT_STAY. */
void rollout_entered(struct rollout *, int64_t now_ms);
/* The gate refused: PAUSED with this reason; resume asks the gate again. */
enum rollout_act rollout_refused(struct rollout *, const char *reason);

/*
 * Some time has passed; now_ms is monotonic and the first tick after a start, resume or restart
 * only starts the clock.  STEPPING and entered: the hold goes on unless the verdict is frozen.
 * hold over: PASS -> the next step (or promotion, or waiting when auto is off); WAIT -> longer, up
 * to max_hold, then PAUSED or ROLLED_BACK by on_inconclusive.  A FAIL that is not frozen ->
 * ROLLOUT_GIVE_UP (who trips has done it already; see rollout_tripped()).  Otherwise nothing, but a
 * change of frozen is said.  auto off: `waiting` is set once at the hold's end and said.
 */
enum rollout_act rollout_tick(
    struct rollout *, const struct rollout_config *, const struct verdict *, int64_t now_ms);

/* By hand.  NULL and *act set, or why it cannot be: a sentence ("no rollout is under way"). */
const char *rollout_pause(struct rollout *, const char *reason, enum rollout_act *);
const char *rollout_resume(struct rollout *, enum rollout_act *);
/* The next step now, or this one when its gate is asked; full, or when the last step is held:
 * promotion.  Also when paused or waiting. */
const char *rollout_promote(struct rollout *, bool full, enum rollout_act *);
const char *rollout_abort(struct rollout *, const char *reason, enum rollout_act *);
/* A worker tripped (weight is 0 already): STEPPING or PAUSED becomes ROLLED_BACK. */
void rollout_tripped(struct rollout *, const char *reason);

/* STEPPING or PAUSED. */
static inline bool
rollout_active(const struct rollout *r)
{
	return r->state == ROLLOUT_STEPPING || r->state == ROLLOUT_PAUSED;
}
/* The weight it asks for: of the step held, or the one before while the gate is asked. 0 when not
 * active. */
unsigned rollout_weight(const struct rollout *);
/* ms of holds left until promotion if all goes well; -1: not active, or not known (waiting). */
int64_t rollout_left_ms(const struct rollout *);

#endif
