/* The rollout's state machine: its clock, every end of a hold, everything done by hand in every
 * state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "balancer/rollout.h"

#define START  INT64_C(1000000)
#define SECOND INT64_C(1000)
#define MINUTE INT64_C(60000)

static const struct step_config steps[] = {
    {.weight_bp = 2500, .hold_ms = MINUTE},
    {.weight_bp = 5000, .hold_ms = MINUTE},
    {.weight_bp = 10000, .hold_ms = 2 * MINUTE},
};
static const struct rollout_config plain = {.automatic = true, .max_hold_ms = 60 * MINUTE};
static const struct rollout_config by_hand = {.automatic = false, .max_hold_ms = 60 * MINUTE};
static const struct rollout_config gives_up = {
    .automatic = true, .max_hold_ms = 60 * MINUTE, .on_inconclusive = INCONCLUSIVE_ROLLBACK};

static const struct verdict pass = {.word = VERDICT_PASS, .reason = "green is well"};
static const struct verdict wait_ = {.word = VERDICT_WAIT, .reason = "3 of 20 requests"};
static const struct verdict fail_ = {
    .word = VERDICT_FAIL, .rule = RULE_FAILURE_RATE, .reason = "green failed 3 of 3"};
static const struct verdict frozen = {
    .word = VERDICT_FAIL, .frozen = true, .reason = "blue has no backend up"};

static int64_t now;

/* Begun, and its first step entered, unless the test says otherwise. */
static struct rollout
begun(void)
{
	struct rollout r;

	now = START;
	memset(&r, 0xa5, sizeof r);
	assert_int_equal(rollout_begin(&r, GREEN, steps, 3), ROLLOUT_NEXT);
	return r;
}

static struct rollout
stepping(void)
{
	struct rollout r = begun();

	rollout_entered(&r, now);
	return r;
}

static enum rollout_act
tick(struct rollout *r, const struct rollout_config *c, const struct verdict *v, int64_t after_ms)
{
	now += after_ms;
	return rollout_tick(r, c, v, now);
}

static void
starts(struct rollout *r)
{
	assert_int_equal(tick(r, &plain, &pass, 0), ROLLOUT_STAY);
}

/* The next step, its gate passed. */
static void
next_step(struct rollout *r, unsigned expected)
{
	assert_int_equal(tick(r, &plain, &pass, r->steps[r->step].hold_ms), ROLLOUT_NEXT);
	assert_int_equal(r->step, expected);
	rollout_entered(r, now);
}

static struct rollout
in_state(enum rollout_state state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	switch (state) {
	case ROLLOUT_IDLE:
		memset(&r, 0, sizeof r);
		break;
	case ROLLOUT_STEPPING:
		break;
	case ROLLOUT_PAUSED:
		assert_null(rollout_pause(&r, "", &act));
		break;
	case ROLLOUT_PROMOTED:
		assert_null(rollout_promote(&r, true, &act));
		break;
	case ROLLOUT_ROLLED_BACK:
		assert_null(rollout_abort(&r, "", &act));
		break;
	}
	assert_int_equal(r.state, state);
	return r;
}

static void
words(void **state)
{
	static const char *const expected[] = {
	    "idle", "stepping", "paused", "promoted", "rolled_back"};
	enum rollout_state s;

	(void)state;
	for (unsigned i = 0; i < N_ROLLOUT_STATES; i++) {
		assert_string_equal(rollout_state_name((enum rollout_state)i), expected[i]);
		assert_int_equal(rollout_state_parse(expected[i], &s), 0);
		assert_int_equal(s, i);
	}
	s = ROLLOUT_PAUSED;
	assert_int_equal(rollout_state_parse("Idle", &s), -1);
	assert_int_equal(rollout_state_parse("", &s), -1);
	assert_int_equal(s, ROLLOUT_PAUSED);
}

static void
begins_with_a_gate(void **state)
{
	struct rollout r = begun();

	(void)state;
	assert_int_equal(r.state, ROLLOUT_STEPPING);
	assert_int_equal(r.to, GREEN);
	assert_int_equal(r.n_steps, 3);
	assert_int_equal(r.steps[3].weight_bp, 0); /* nothing of an earlier one */
	assert_int_equal(r.step, 0);
	assert_false(r.entered || r.frozen || r.waiting);
	assert_string_equal(r.reason, "");
	assert_int_equal(rollout_weight(&r), 0);
	assert_int_equal(rollout_left_ms(&r), 4 * MINUTE);
	/* while the gate is asked, no time passes and no verdict counts */
	assert_int_equal(tick(&r, &plain, &pass, 5 * MINUTE), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &plain, &fail_, SECOND), ROLLOUT_STAY);
	assert_int_equal(r.held_ms, 0);
	rollout_entered(&r, now);
	assert_true(r.entered);
	assert_int_equal(rollout_weight(&r), 2500);
}

static void
walks_to_promotion(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &plain, &pass, MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(rollout_left_ms(&r), 3 * MINUTE + 1);
	assert_int_equal(tick(&r, &plain, &pass, 1), ROLLOUT_NEXT);
	assert_int_equal(r.step, 1);
	assert_false(r.entered);
	assert_int_equal(r.held_ms, 0);
	assert_int_equal(
	    rollout_weight(&r), 2500); /* of the step before, until the gate has passed */
	assert_int_equal(rollout_left_ms(&r), 3 * MINUTE);
	rollout_entered(&r, now);
	assert_int_equal(rollout_weight(&r), 5000);
	next_step(&r, 2);
	assert_int_equal(rollout_weight(&r), 10000);
	assert_int_equal(tick(&r, &plain, &pass, 2 * MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &plain, &pass, 1), ROLLOUT_PROMOTE);
	assert_int_equal(r.state, ROLLOUT_PROMOTED);
	assert_string_equal(r.reason, "green is well");
	assert_int_equal(rollout_weight(&r), 0);
	assert_int_equal(rollout_left_ms(&r), -1);
	assert_int_equal(tick(&r, &plain, &fail_, SECOND), ROLLOUT_STAY);
	assert_int_equal(r.state, ROLLOUT_PROMOTED);
}

static void
failing_gives_up(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &plain, &fail_, SECOND), ROLLOUT_GIVE_UP);
	assert_int_equal(r.state, ROLLOUT_ROLLED_BACK);
	assert_string_equal(r.reason, "green failed 3 of 3");
	assert_int_equal(rollout_weight(&r), 0);
	assert_int_equal(tick(&r, &plain, &pass, 5 * MINUTE), ROLLOUT_STAY);
}

/* --- the clock ----------------------------------------------------------------- */

static void
first_tick_only_starts_the_clock(void **state)
{
	struct rollout r = stepping();

	(void)state;
	tick(&r, &plain, &pass, 20 * SECOND);
	assert_int_equal(r.held_ms, 20 * SECOND);
	/* a restart: everything is read back but ticked_ms, and the clock is another */
	struct rollout read_back = r;
	read_back.ticked_ms = 0;
	now = 77;
	starts(&read_back);
	assert_int_equal(read_back.held_ms, 20 * SECOND);
	assert_int_equal(tick(&read_back, &plain, &pass, 40 * SECOND - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&read_back, &plain, &pass, 1), ROLLOUT_NEXT);
}

static void
clock_that_stands_or_goes_back(void **state)
{
	struct rollout r = stepping();

	(void)state;
	tick(&r, &plain, &pass, 10 * SECOND);
	tick(&r, &plain, &pass, 0);
	tick(&r, &plain, &pass, -5 * SECOND);
	assert_int_equal(r.held_ms, 10 * SECOND);
	rollout_entered(&r, now + MINUTE); /* it is already: nothing begins anew */
	tick(&r, &plain, &pass, SECOND);
	assert_int_equal(r.held_ms, 11 * SECOND);
}

static void
paused_time_does_not_count(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act = ROLLOUT_STAY;

	(void)state;
	tick(&r, &plain, &pass, 30 * SECOND);
	assert_null(rollout_pause(&r, "lunch", &act));
	assert_int_equal(act, ROLLOUT_SAY);
	assert_string_equal(r.reason, "lunch");
	assert_int_equal(rollout_weight(&r), 2500); /* the weight stays */
	assert_int_equal(tick(&r, &plain, &pass, 10 * MINUTE), ROLLOUT_STAY);
	assert_int_equal(rollout_left_ms(&r), 3 * MINUTE + 30 * SECOND);
	assert_null(rollout_resume(&r, &act));
	assert_int_equal(act, ROLLOUT_SAY);
	assert_string_equal(r.reason, "");
	assert_int_equal(tick(&r, &plain, &pass, 10 * MINUTE), ROLLOUT_STAY); /* starts the clock */
	assert_int_equal(r.held_ms, 30 * SECOND);
	assert_int_equal(tick(&r, &plain, &pass, 30 * SECOND - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &plain, &pass, 1), ROLLOUT_NEXT);
}

/* The verdict is not frozen any more, and stays so long enough. */
static void
thaws(struct rollout *r, const struct rollout_config *c, const struct verdict *v)
{
	assert_int_equal(tick(r, c, v, SECOND), ROLLOUT_STAY);
	assert_true(r->frozen);
	assert_int_equal(tick(r, c, v, ROLLOUT_THAW_MS - 1), ROLLOUT_STAY);
	assert_int_equal(tick(r, c, v, 1), ROLLOUT_SAY);
	assert_false(r->frozen);
}

/* A live color that flutters at its limit keeps the rollout frozen, and nobody is told ten times a second. */
static void
flutter_stays_frozen(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &plain, &frozen, SECOND), ROLLOUT_SAY);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(tick(&r, &plain, &pass, ROLLOUT_THAW_MS - 1), ROLLOUT_STAY);
		assert_int_equal(tick(&r, &plain, &frozen, 1), ROLLOUT_STAY);
	}
	assert_int_equal(r.held_ms, 0);
	thaws(&r, &plain, &pass);
}

static void
frozen_time_does_not_count(void **state)
{
	struct rollout r = stepping();

	(void)state;
	tick(&r, &plain, &pass, 30 * SECOND);
	assert_int_equal(tick(&r, &plain, &frozen, SECOND), ROLLOUT_SAY);
	assert_true(r.frozen);
	assert_int_equal(r.state, ROLLOUT_STEPPING);
	assert_string_equal(r.reason, "frozen: blue has no backend up");
	assert_int_equal(rollout_weight(&r), 2500);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(tick(&r, &plain, &frozen, MINUTE), ROLLOUT_STAY);
	thaws(&r, &plain, &pass);
	assert_string_equal(r.reason, "goes on, no longer frozen");
	assert_int_equal(r.held_ms, 30 * SECOND);
	assert_int_equal(tick(&r, &plain, &pass, 30 * SECOND), ROLLOUT_NEXT);
	assert_string_equal(r.reason, "");
}

static void
frozen_before_it_fails(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &plain, &frozen, SECOND), ROLLOUT_SAY);
	assert_int_equal(tick(&r, &plain, &fail_, SECOND), ROLLOUT_GIVE_UP);
	assert_false(r.frozen);
	assert_string_equal(r.reason, "green failed 3 of 3");
}

/* Frozen is the verdict's, whatever its word is. */
static void
frozen_at_the_end_of_a_hold(void **state)
{
	const struct verdict well = {
	    .word = VERDICT_PASS, .frozen = true, .reason = "blue is down"};
	struct rollout r = stepping();

	(void)state;
	tick(&r, &plain, &pass, MINUTE - 1);
	assert_int_equal(tick(&r, &plain, &well, SECOND), ROLLOUT_SAY);
	assert_int_equal(tick(&r, &plain, &well, 90 * MINUTE), ROLLOUT_STAY);
	assert_int_equal(r.held_ms, MINUTE - 1);
	thaws(&r, &plain, &pass);
	assert_int_equal(tick(&r, &plain, &pass, 1), ROLLOUT_NEXT);
}

static void
frozen_beyond_the_hold(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &plain, &wait_, MINUTE), ROLLOUT_SAY);
	assert_int_equal(tick(&r, &plain, &frozen, SECOND), ROLLOUT_SAY);
	assert_int_equal(tick(&r, &plain, &frozen, 90 * MINUTE), ROLLOUT_STAY);
	assert_string_equal(r.reason, "frozen: blue has no backend up");
	thaws(&r, &plain, &wait_);
	assert_int_equal(tick(&r, &plain, &wait_, SECOND), ROLLOUT_SAY);
	assert_string_equal(r.reason, "waits for more requests: 3 of 20 requests");
}

static void
frozen_over_a_pause_and_a_restart(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	(void)state;
	tick(&r, &plain, &frozen, SECOND);
	r.ticked_ms = 0; /* a restart: still frozen is nothing new */
	assert_int_equal(tick(&r, &plain, &frozen, SECOND), ROLLOUT_STAY);
	assert_null(rollout_pause(&r, "", &act));
	assert_false(r.frozen);
	assert_null(rollout_resume(&r, &act));
	assert_int_equal(tick(&r, &plain, &frozen, SECOND), ROLLOUT_SAY);
	assert_int_equal(r.held_ms, 0);
}

/* --- silence --------------------------------------------------------------------- */

static void
silence_extends_then_pauses(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	(void)state;
	next_step(&r, 1);
	assert_int_equal(tick(&r, &plain, &wait_, MINUTE - 1), ROLLOUT_STAY);
	assert_string_equal(r.reason, "");
	assert_int_equal(tick(&r, &plain, &wait_, 1), ROLLOUT_SAY);
	assert_string_equal(r.reason, "waits for more requests: 3 of 20 requests");
	assert_int_equal(rollout_left_ms(&r), 2 * MINUTE);
	assert_int_equal(tick(&r, &plain, &wait_, 59 * MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(rollout_left_ms(&r), 2 * MINUTE); /* never below the steps to come */
	assert_int_equal(tick(&r, &plain, &wait_, 1), ROLLOUT_SAY);
	assert_int_equal(r.state, ROLLOUT_PAUSED);
	assert_string_equal(r.reason, "step 2 (50 %) was inconclusive for 1h: 3 of 20 requests");
	assert_int_equal(rollout_weight(&r), 5000);
	/* resumed, it has a whole max_hold again */
	assert_null(rollout_resume(&r, &act));
	assert_int_equal(act, ROLLOUT_SAY);
	assert_int_equal(r.held_ms, 0);
	starts(&r);
	assert_int_equal(tick(&r, &plain, &wait_, 60 * MINUTE - 1), ROLLOUT_SAY);
	assert_int_equal(r.state, ROLLOUT_STEPPING);
	assert_int_equal(tick(&r, &plain, &wait_, 1), ROLLOUT_SAY);
	assert_int_equal(r.state, ROLLOUT_PAUSED);
}

static void
requests_that_come_late_are_enough(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &plain, &wait_, 30 * MINUTE), ROLLOUT_SAY);
	assert_int_equal(tick(&r, &plain, &pass, SECOND), ROLLOUT_NEXT);
	assert_int_equal(r.step, 1);
	assert_string_equal(r.reason, "");
}

static void
silence_may_roll_back(void **state)
{
	struct rollout r = stepping();

	(void)state;
	assert_int_equal(tick(&r, &gives_up, &wait_, 60 * MINUTE), ROLLOUT_GIVE_UP);
	assert_int_equal(r.state, ROLLOUT_ROLLED_BACK);
	assert_string_equal(r.reason, "step 1 (25 %) was inconclusive for 1h: 3 of 20 requests");
}

/* Steps given by hand are not checked against max_hold: the hold is the longer one then. */
static void
hold_beyond_max_hold(void **state)
{
	const struct step_config one = {.weight_bp = 10000, .hold_ms = 90 * MINUTE};
	struct rollout r;

	(void)state;
	now = START;
	rollout_begin(&r, BLUE, &one, 1);
	rollout_entered(&r, now);
	assert_int_equal(tick(&r, &plain, &wait_, 90 * MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &plain, &wait_, 1), ROLLOUT_SAY);
	assert_string_equal(r.reason, "step 1 (100 %) was inconclusive for 90m: 3 of 20 requests");
}

static void
no_hold_still_needs_a_pass(void **state)
{
	const struct step_config quick[] = {
	    {.weight_bp = 1225, .hold_ms = 0}, {.weight_bp = 10000, .hold_ms = 0}};
	struct rollout r;

	(void)state;
	now = START;
	rollout_begin(&r, GREEN, quick, 2);
	rollout_entered(&r, now);
	assert_int_equal(tick(&r, &plain, &wait_, 0), ROLLOUT_SAY);
	assert_int_equal(tick(&r, &plain, &wait_, 60 * MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &plain, &pass, 0), ROLLOUT_NEXT);
	rollout_entered(&r, now);
	assert_int_equal(tick(&r, &plain, &pass, 0), ROLLOUT_PROMOTE);

	rollout_begin(&r, GREEN, quick, 2);
	rollout_entered(&r, now);
	assert_int_equal(tick(&r, &plain, &wait_, 60 * MINUTE), ROLLOUT_SAY);
	assert_string_equal(r.reason, "step 1 (12.25 %) was inconclusive for 1h: 3 of 20 requests");
}

/* --- auto = false ------------------------------------------------------------------ */

static void
waits_for_promote(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	(void)state;
	assert_int_equal(tick(&r, &by_hand, &pass, MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &by_hand, &pass, 1), ROLLOUT_SAY);
	assert_true(r.waiting);
	assert_string_equal(r.reason, "held well; waits for promote");
	assert_int_equal(rollout_left_ms(&r), -1);
	/* as long as it likes, and silence is no reason to stop waiting */
	assert_int_equal(tick(&r, &by_hand, &wait_, 90 * MINUTE), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &by_hand, &wait_, 90 * MINUTE), ROLLOUT_STAY);
	assert_int_equal(r.held_ms, MINUTE);
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_NEXT);
	assert_int_equal(r.step, 1);
	assert_false(r.waiting || r.entered);
	assert_string_equal(r.reason, "");
	rollout_entered(&r, now);
	tick(&r, &by_hand, &pass, MINUTE);
	assert_null(rollout_promote(&r, false, &act));
	rollout_entered(&r, now);
	/* the last step waits too */
	assert_int_equal(tick(&r, &by_hand, &pass, 2 * MINUTE), ROLLOUT_SAY);
	assert_true(r.waiting);
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_PROMOTE);
	assert_int_equal(r.state, ROLLOUT_PROMOTED);
}

static void
waiting_is_guarded(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	(void)state;
	tick(&r, &by_hand, &pass, MINUTE);
	assert_int_equal(tick(&r, &by_hand, &frozen, SECOND), ROLLOUT_SAY);
	assert_string_equal(r.reason, "frozen: blue has no backend up");
	thaws(&r, &by_hand, &pass);
	assert_string_equal(r.reason, "held well; waits for promote");
	/* a pause changes nothing of that */
	assert_null(rollout_pause(&r, "", &act));
	assert_string_equal(r.reason, "paused by an operator");
	assert_null(rollout_resume(&r, &act));
	assert_true(r.waiting);
	assert_string_equal(r.reason, "held well; waits for promote");
	assert_int_equal(tick(&r, &by_hand, &pass, SECOND), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &by_hand, &fail_, SECOND), ROLLOUT_GIVE_UP);
}

static void
waits_no_longer_when_auto_comes_on(void **state)
{
	struct rollout r = stepping();

	(void)state;
	tick(&r, &by_hand, &pass, MINUTE);
	assert_int_equal(tick(&r, &plain, &pass, SECOND), ROLLOUT_NEXT);
	assert_int_equal(r.step, 1);
	assert_false(r.waiting);
}

/* --- gates --------------------------------------------------------------------------- */

static void
gate_refuses(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	(void)state;
	assert_int_equal(tick(&r, &plain, &pass, MINUTE), ROLLOUT_NEXT);
	assert_int_equal(rollout_refused(&r, "gate: exit code 3"), ROLLOUT_SAY);
	assert_int_equal(r.state, ROLLOUT_PAUSED);
	assert_string_equal(r.reason, "gate: exit code 3");
	assert_int_equal(rollout_weight(&r), 2500);
	assert_null(rollout_resume(&r, &act));
	assert_int_equal(act, ROLLOUT_NEXT);
	assert_int_equal(r.step, 1);
	assert_false(r.entered);
	rollout_entered(&r, now);
	assert_int_equal(rollout_weight(&r), 5000);
	/* a clock of its own */
	assert_int_equal(tick(&r, &plain, &pass, MINUTE - 1), ROLLOUT_STAY);
	assert_int_equal(tick(&r, &plain, &pass, 1), ROLLOUT_NEXT);
}

static void
gate_answers_too_late(void **state)
{
	struct rollout r = begun();
	enum rollout_act act;

	(void)state;
	assert_null(rollout_pause(&r, "not now", &act));
	rollout_entered(&r, now);
	assert_false(r.entered);
	assert_int_equal(rollout_refused(&r, "exit code 1"), ROLLOUT_STAY);
	assert_string_equal(r.reason, "not now");
	assert_null(rollout_resume(&r, &act));
	assert_int_equal(act, ROLLOUT_NEXT);

	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(rollout_refused(&r, "exit code 1"), ROLLOUT_STAY);
	assert_true(r.entered);
	rollout_tripped(&r, "green failed");
	rollout_entered(&r, now);
	assert_int_equal(rollout_refused(&r, "exit code 1"), ROLLOUT_STAY);
	assert_int_equal(r.state, ROLLOUT_ROLLED_BACK);
}

static void
promote_goes_past_a_gate(void **state)
{
	struct rollout r = begun();
	enum rollout_act act;

	(void)state;
	rollout_refused(&r, "exit code 1");
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_NEXT);
	assert_int_equal(r.state, ROLLOUT_STEPPING);
	assert_int_equal(r.step, 0);
	assert_true(r.entered);
	assert_int_equal(rollout_weight(&r), 2500);
	starts(&r);
	next_step(&r, 1);
	assert_int_equal(tick(&r, &plain, &pass, MINUTE), ROLLOUT_NEXT);
	/* the gate of the last step: the step is entered, not passed */
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_NEXT);
	assert_int_equal(rollout_weight(&r), 10000);
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_PROMOTE);
}

/* --- by hand ---------------------------------------------------------------------------- */

static void
promote_skips_the_verdict(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act;

	(void)state;
	tick(&r, &plain, &frozen, SECOND);
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_NEXT);
	assert_int_equal(r.step, 1);
	assert_false(r.frozen);
	rollout_entered(&r, now);
	assert_null(rollout_pause(&r, "", &act));
	assert_null(rollout_promote(&r, false, &act));
	assert_int_equal(act, ROLLOUT_NEXT);
	assert_int_equal(r.state, ROLLOUT_STEPPING);
	assert_int_equal(r.step, 2);
}

static void
promote_full(void **state)
{
	struct rollout asked = begun(), held = stepping(), paused = in_state(ROLLOUT_PAUSED);
	struct rollout *all[] = {&asked, &held, &paused};
	enum rollout_act act;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		act = ROLLOUT_STAY;
		assert_null(rollout_promote(all[i], true, &act));
		assert_int_equal(act, ROLLOUT_PROMOTE);
		assert_int_equal(all[i]->state, ROLLOUT_PROMOTED);
		assert_string_equal(all[i]->reason, "promoted by an operator");
	}
}

static void
abort_and_trip(void **state)
{
	enum rollout_act act = ROLLOUT_STAY;

	(void)state;
	for (unsigned i = ROLLOUT_STEPPING; i <= ROLLOUT_PAUSED; i++) {
		struct rollout r = in_state((enum rollout_state)i);

		assert_null(rollout_abort(&r, "wrong build", &act));
		assert_int_equal(act, ROLLOUT_GIVE_UP);
		assert_int_equal(r.state, ROLLOUT_ROLLED_BACK);
		assert_string_equal(r.reason, "wrong build");

		r = in_state((enum rollout_state)i);
		rollout_tripped(&r, "green failed 3 of 3");
		assert_int_equal(r.state, ROLLOUT_ROLLED_BACK);
		assert_string_equal(r.reason, "green failed 3 of 3");
	}
	/* while the next step's gate is asked, the step before is guarded */
	struct rollout r = stepping();
	tick(&r, &plain, &pass, MINUTE);
	rollout_tripped(&r, "green failed 3 of 3");
	assert_int_equal(r.state, ROLLOUT_ROLLED_BACK);
	assert_int_equal(rollout_weight(&r), 0);
}

static void
refused_when_none_is_under_way(void **state)
{
	static const enum rollout_state over[] = {
	    ROLLOUT_IDLE, ROLLOUT_PROMOTED, ROLLOUT_ROLLED_BACK};
	static const char expected[] = "no rollout is under way";

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct rollout r = in_state(over[i]), before = r;
		enum rollout_act act = ROLLOUT_STAY;

		assert_false(rollout_active(&r));
		assert_string_equal(rollout_pause(&r, "", &act), expected);
		assert_string_equal(rollout_resume(&r, &act), expected);
		assert_string_equal(rollout_promote(&r, false, &act), expected);
		assert_string_equal(rollout_promote(&r, true, &act), expected);
		assert_string_equal(rollout_abort(&r, "", &act), expected);
		rollout_tripped(&r, "late");
		rollout_entered(&r, now);
		assert_int_equal(rollout_refused(&r, "late"), ROLLOUT_STAY);
		assert_int_equal(tick(&r, &plain, &fail_, SECOND), ROLLOUT_STAY);
		assert_int_equal(act, ROLLOUT_STAY);
		assert_memory_equal(&r, &before, sizeof r);
		/* and a new one may begin */
		assert_int_equal(rollout_begin(&r, BLUE, steps, 1), ROLLOUT_NEXT);
		assert_int_equal(r.state, ROLLOUT_STEPPING);
		assert_string_equal(r.reason, "");
	}
}

static void
refused_twice(void **state)
{
	struct rollout r = stepping();
	enum rollout_act act = ROLLOUT_STAY;

	(void)state;
	assert_string_equal(rollout_resume(&r, &act), "the rollout is not paused");
	assert_null(rollout_pause(&r, "first", &act));
	assert_string_equal(rollout_pause(&r, "second", &act), "the rollout is paused already");
	assert_string_equal(r.reason, "first");
}

static void
long_reasons_are_cut(void **state)
{
	struct rollout r = stepping();
	char longer[2 * ROLLOUT_REASON_MAX];
	enum rollout_act act;

	(void)state;
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	longer[10] = '%';
	assert_null(rollout_abort(&r, longer, &act));
	assert_int_equal(strlen(r.reason), ROLLOUT_REASON_MAX - 1);
	assert_int_equal(r.reason[10], '%');
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(words),
	    cmocka_unit_test(begins_with_a_gate),
	    cmocka_unit_test(walks_to_promotion),
	    cmocka_unit_test(failing_gives_up),
	    cmocka_unit_test(first_tick_only_starts_the_clock),
	    cmocka_unit_test(clock_that_stands_or_goes_back),
	    cmocka_unit_test(paused_time_does_not_count),
	    cmocka_unit_test(flutter_stays_frozen),
	    cmocka_unit_test(frozen_time_does_not_count),
	    cmocka_unit_test(frozen_before_it_fails),
	    cmocka_unit_test(frozen_at_the_end_of_a_hold),
	    cmocka_unit_test(frozen_beyond_the_hold),
	    cmocka_unit_test(frozen_over_a_pause_and_a_restart),
	    cmocka_unit_test(silence_extends_then_pauses),
	    cmocka_unit_test(requests_that_come_late_are_enough),
	    cmocka_unit_test(silence_may_roll_back),
	    cmocka_unit_test(hold_beyond_max_hold),
	    cmocka_unit_test(no_hold_still_needs_a_pass),
	    cmocka_unit_test(waits_for_promote),
	    cmocka_unit_test(waiting_is_guarded),
	    cmocka_unit_test(waits_no_longer_when_auto_comes_on),
	    cmocka_unit_test(gate_refuses),
	    cmocka_unit_test(gate_answers_too_late),
	    cmocka_unit_test(promote_goes_past_a_gate),
	    cmocka_unit_test(promote_skips_the_verdict),
	    cmocka_unit_test(promote_full),
	    cmocka_unit_test(abort_and_trip),
	    cmocka_unit_test(refused_when_none_is_under_way),
	    cmocka_unit_test(refused_twice),
	    cmocka_unit_test(long_reasons_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
