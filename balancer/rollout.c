/*
 * The rollout's state machine, see rollout.h for its drawing.
 *
 * Every change of state goes through turn(), every change of step through go_to(): so nothing of
 * an earlier state (a freeze, a clock that ran) is left over in the next.  Pure; whoever holds the
 * struct.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "balancer/rollout.h"
#include "config/parse.h"

#define NOT_UNDER_WAY "no rollout is under way"
/* Reasons that are compared: they say what has been told already. */
#define WAITS_FOR_REQUESTS "waits for more requests: "
#define WAITS_FOR_PROMOTE  "held well; waits for promote"

static const char *const state_names[N_ROLLOUT_STATES] = {
    [ROLLOUT_IDLE] = "idle",
    [ROLLOUT_STEPPING] = "stepping",
    [ROLLOUT_PAUSED] = "paused",
    [ROLLOUT_PROMOTED] = "promoted",
    [ROLLOUT_ROLLED_BACK] = "rolled_back",
};

const char *
rollout_state_name(enum rollout_state state)
{
	return state_names[state];
}

int
rollout_state_parse(const char *word, enum rollout_state *state)
{
	for (unsigned i = 0; i < N_ROLLOUT_STATES; i++) {
		if (strcmp(state_names[i], word) == 0) {
			*state = (enum rollout_state)i;
			return 0;
		}
	}
	return -1;
}

/* --- the two ways anything changes ----------------------------------------- */

__attribute__((format(printf, 2, 3))) static void
because(struct rollout *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->reason, sizeof r->reason, format, args);
	va_end(args);
}

/* Another state: its clock begins with its first tick, and whether it is frozen is asked anew.
 * `waiting` stays: a step that held well before a pause has held well after it. */
static void
turn(struct rollout *r, enum rollout_state state)
{
	r->state = state;
	r->frozen = false;
	r->ticked_ms = r->thawed_ms = 0;
	r->reason[0] = '\0';
}

/* Another step, before its gate. */
static enum rollout_act
go_to(struct rollout *r, unsigned step)
{
	turn(r, ROLLOUT_STEPPING);
	r->step = step;
	r->entered = r->waiting = false;
	r->held_ms = 0;
	return ROLLOUT_NEXT;
}

static enum rollout_act
promote(struct rollout *r, const char *reason)
{
	turn(r, ROLLOUT_PROMOTED);
	because(r, "%s", reason);
	return ROLLOUT_PROMOTE;
}

static enum rollout_act
give_up(struct rollout *r, const char *reason)
{
	turn(r, ROLLOUT_ROLLED_BACK);
	because(r, "%s", reason);
	return ROLLOUT_GIVE_UP;
}

static bool
is_last(const struct rollout *r)
{
	return r->step + 1 == r->n_steps;
}

/* --- beginning, gates ------------------------------------------------------- */

enum rollout_act
rollout_begin(struct rollout *r, enum color to, const struct step_config *steps, unsigned n)
{
	assert(n >= 1 && n <= STEPS_MAX);
	memset(r, 0, sizeof *r);
	r->to = to;
	memcpy(r->steps, steps, n * sizeof *steps);
	r->n_steps = n;
	return go_to(r, 0);
}

void
rollout_entered(struct rollout *r, int64_t now_ms)
{
	if (r->state != ROLLOUT_STEPPING || r->entered)
		return;
	r->entered = true;
	r->ticked_ms = now_ms;
}

enum rollout_act
rollout_refused(struct rollout *r, const char *reason)
{
	if (r->state != ROLLOUT_STEPPING || r->entered)
		return ROLLOUT_STAY;
	turn(r, ROLLOUT_PAUSED);
	because(r, "%s", reason);
	return ROLLOUT_SAY;
}

/* --- time passes ------------------------------------------------------------ */

/* Time counts while the step is held: not the tick that starts the clock, not what was frozen at
 * either end of it, not the waiting for a promote. */
static void
run_clock(struct rollout *r, bool frozen, int64_t now_ms)
{
	if (r->ticked_ms != 0 && now_ms > r->ticked_ms && !r->frozen && !frozen && !r->waiting)
		r->held_ms += now_ms - r->ticked_ms;
	r->ticked_ms = now_ms;
}

static enum rollout_act
freeze(struct rollout *r, bool frozen, const struct verdict *v)
{
	r->frozen = frozen;
	if (frozen)
		because(r, "frozen: %s", v->reason);
	else if (r->waiting)
		because(r, "%s", WAITS_FOR_PROMOTE);
	else
		because(r, "goes on, no longer frozen");
	return ROLLOUT_SAY;
}

/* A live color at its limit must not make the rollout freeze and go on ten times a second. */
static bool
thawed(struct rollout *r, bool frozen, int64_t now_ms)
{
	if (!r->frozen || frozen) {
		r->thawed_ms = 0;
		return false;
	}
	if (r->thawed_ms == 0)
		r->thawed_ms = now_ms;
	return now_ms - r->thawed_ms >= ROLLOUT_THAW_MS;
}

static enum rollout_act
held_well(struct rollout *r, const struct rollout_config *c, const struct verdict *v)
{
	if (c->automatic)
		return is_last(r) ? promote(r, v->reason) : go_to(r, r->step + 1);
	r->waiting = true;
	because(r, "%s", WAITS_FOR_PROMOTE);
	return ROLLOUT_SAY;
}

static enum rollout_act
inconclusive(struct rollout *r, const struct rollout_config *c, int64_t limit_ms, const char *why)
{
	char limit[UNIT_TEXT_SIZE];

	duration_print(limit_ms, limit);
	switch (c->on_inconclusive) {
	case INCONCLUSIVE_PAUSE:
		turn(r, ROLLOUT_PAUSED);
		r->held_ms = 0; /* resumed, it gets the whole time again */
		break;
	case INCONCLUSIVE_ROLLBACK:
		turn(r, ROLLOUT_ROLLED_BACK);
		break;
	}
	because(r, "step %u (%g %%) was inconclusive for %s: %s", r->step + 1,
	    r->steps[r->step].weight_bp / 100.0, limit, why);
	return r->state == ROLLOUT_PAUSED ? ROLLOUT_SAY : ROLLOUT_GIVE_UP;
}

/* The hold is over and too little was seen. */
static enum rollout_act
hold_longer(struct rollout *r, const struct rollout_config *c, const struct verdict *v)
{
	/* steps given by hand may hold longer than max_hold */
	int64_t hold_ms = r->steps[r->step].hold_ms;
	int64_t limit_ms = c->max_hold_ms > hold_ms ? c->max_hold_ms : hold_ms;
	bool said = strncmp(r->reason, WAITS_FOR_REQUESTS, strlen(WAITS_FOR_REQUESTS)) == 0;

	if (r->held_ms >= limit_ms)
		return inconclusive(r, c, limit_ms, v->reason);
	because(r, WAITS_FOR_REQUESTS "%s", v->reason);
	return said ? ROLLOUT_STAY : ROLLOUT_SAY;
}

enum rollout_act
rollout_tick(
    struct rollout *r, const struct rollout_config *c, const struct verdict *v, int64_t now_ms)
{
	if (r->state != ROLLOUT_STEPPING || !r->entered)
		return ROLLOUT_STAY;
	run_clock(r, v->frozen, now_ms);
	if (v->word == VERDICT_FAIL && !v->frozen)
		return give_up(r, v->reason);
	if (v->frozen && !r->frozen)
		return freeze(r, true, v);
	if (thawed(r, v->frozen, now_ms))
		return freeze(r, false, v);
	if (r->frozen || (r->waiting && !c->automatic))
		return ROLLOUT_STAY;
	if (r->held_ms < r->steps[r->step].hold_ms)
		return ROLLOUT_STAY;
	if (v->word == VERDICT_PASS)
		return held_well(r, c, v);
	return hold_longer(r, c, v);
}

/* --- by hand ----------------------------------------------------------------- */

const char *
rollout_pause(struct rollout *r, const char *reason, enum rollout_act *act)
{
	if (!rollout_active(r))
		return NOT_UNDER_WAY;
	if (r->state == ROLLOUT_PAUSED)
		return "the rollout is paused already";
	turn(r, ROLLOUT_PAUSED);
	because(r, "%s", reason[0] == '\0' ? "paused by an operator" : reason);
	*act = ROLLOUT_SAY;
	return NULL;
}

const char *
rollout_resume(struct rollout *r, enum rollout_act *act)
{
	if (!rollout_active(r))
		return NOT_UNDER_WAY;
	if (r->state != ROLLOUT_PAUSED)
		return "the rollout is not paused";
	turn(r, ROLLOUT_STEPPING);
	if (r->waiting)
		because(r, "%s", WAITS_FOR_PROMOTE);
	*act = r->entered ? ROLLOUT_SAY : ROLLOUT_NEXT;
	return NULL;
}

const char *
rollout_promote(struct rollout *r, bool full, enum rollout_act *act)
{
	if (!rollout_active(r))
		return NOT_UNDER_WAY;
	if (full || (r->entered && is_last(r))) {
		*act = promote(r, "promoted by an operator");
	} else if (r->entered) {
		*act = go_to(r, r->step + 1);
	} else {
		*act = go_to(r, r->step);
		r->entered = true; /* past its gate: see rollout.h */
	}
	return NULL;
}

const char *
rollout_abort(struct rollout *r, const char *reason, enum rollout_act *act)
{
	if (!rollout_active(r))
		return NOT_UNDER_WAY;
	*act = give_up(r, reason[0] == '\0' ? "aborted by an operator" : reason);
	return NULL;
}

void
rollout_tripped(struct rollout *r, const char *reason)
{
	if (rollout_active(r))
		(void)give_up(r, reason);
}

/* --- what it asks for ---------------------------------------------------------- */

unsigned
rollout_weight(const struct rollout *r)
{
	if (!rollout_active(r))
		return 0;
	if (r->entered)
		return r->steps[r->step].weight_bp;
	return r->step == 0 ? 0 : r->steps[r->step - 1].weight_bp;
}

int64_t
rollout_left_ms(const struct rollout *r)
{
	if (!rollout_active(r) || r->waiting)
		return -1;
	int64_t left = r->steps[r->step].hold_ms - r->held_ms;
	if (left < 0)
		left = 0;
	for (unsigned i = r->step + 1; i < r->n_steps; i++)
		left += r->steps[i].hold_ms;
	return left;
}
