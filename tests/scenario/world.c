/* The world's parts put together, its clock, its memory over a restart; see world.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/tally.h"
#include "tests/scenario/world.h"

/* As after a boot; and after a reboot the clock is earlier than before. */
#define FIRST_CLOCK_MS   INT64_C(9000000)
#define RESTART_CLOCK_MS INT64_C(70000)

static void *
must(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

int64_t
world_ms(const struct world *w)
{
	return w->clock_base_ms + w->now_us / 1000;
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
double
world_random(struct world *w)
{
	uint64_t z = w->seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	return (double)(z >> 11) / 9007199254740992.0; /* 2^53 */
}

void
world_tell(struct world *w, const char *format, ...)
{
	va_list args;

	if (w->n_events == w->max_events) {
		w->max_events = w->max_events == 0 ? 64 : 2 * w->max_events;
		w->events = must(reallocarray(w->events, w->max_events, sizeof *w->events));
	}
	struct event *e = &w->events[w->n_events++];
	e->at_us = w->now_us;
	va_start(args, format);
	vsnprintf(e->text, sizeof e->text, format, args);
	va_end(args);
}

/* --- the process ---------------------------------------------------------- */

static struct service_state *
state_new(void)
{
	struct service_state *state = must(calloc(1, sizeof *state));

	for (unsigned c = 0; c < N_COLORS; c++)
		state->tally[c] = must(tally_new(N_WORKERS));
	return state;
}

static void
state_free(struct service_state *state)
{
	for (unsigned c = 0; c < N_COLORS; c++)
		tally_free(state->tally[c]);
	free(state);
}

static void
process_start(struct world *w, uint32_t course)
{
	w->state = state_new();
	w->service.state = w->state;
	atomic_store(&w->state->course, course);
	control_begin(w);
}

/* Member by member, as the state file does: what it does not keep is lost. */
static struct rollout
kept(const struct rollout *r)
{
	struct rollout k;

	memset(&k, 0, sizeof k);
	k.state = r->state;
	k.to = r->to;
	memcpy(k.steps, r->steps, r->n_steps * sizeof *r->steps);
	k.n_steps = r->n_steps;
	k.step = r->step;
	k.entered = r->entered;
	k.frozen = r->frozen;
	k.waiting = r->waiting;
	k.held_ms = r->held_ms;
	k.ticked_ms = 0;
	memcpy(k.reason, r->reason, sizeof k.reason);
	return k;
}

void
world_restart(struct world *w)
{
	uint32_t course = service_course(w->state);

	world_tell(w, "restart");
	traffic_forget(w);
	state_free(w->state);
	w->clock_base_ms = RESTART_CLOCK_MS - w->now_us / 1000;
	w->rollout = kept(&w->rollout);
	memset(&w->verdict, 0, sizeof w->verdict);
	process_start(w, course);
}

/* --- the world ------------------------------------------------------------ */

/* teal.conf(5)'s defaults. */
static void
configure(struct service_config *c)
{
	char err[64];

	c->rollout.limits = (struct limits_config){.failure_rate_bp = 100,
	    .window_ms = 30000,
	    .min_requests = 20,
	    .min_failures = 3,
	    .relative = true,
	    .healthy_backends_bp = 5000,
	    .confidence_bp = 9990};
	c->rollout.automatic = true;
	c->rollout.max_hold_ms = INT64_C(3600000);
	if (steps_parse(
		"25:5m,50:5m,100:10m", &c->rollout.steps, &c->rollout.n_steps, err, sizeof err) < 0)
		abort();
}

struct world *
world_new(void)
{
	struct world *w = must(calloc(1, sizeof *w));

	configure(&w->config);
	w->seed = 1;
	w->clock_base_ms = FIRST_CLOCK_MS;
	w->tick_us = TICK_US;
	w->arrives_us = w->gate_answers_us = w->patience_us = NEVER;
	w->service.config = &w->config;
	for (unsigned c = 0; c < N_COLORS; c++) {
		w->n_backends[c] = 2;
		w->does[c] = (struct behaviour){.answers_us = 20000};
	}
	return w;
}

void
world_begin(struct world *w)
{
	for (enum color c = BLUE; c <= GREEN; c++) {
		struct pool *p = &w->service.pools[c];

		*p = (struct pool){.config = &w->config.pools[c],
		    .color = c,
		    .members = w->members[c],
		    .n_members = w->n_backends[c],
		    .n_primary = w->n_backends[c]};
		for (unsigned i = 0; i < w->n_backends[c]; i++) {
			w->backends[c][i].color = c;
			w->members[c][i] =
			    (struct member){.backend = &w->backends[c][i], .weight = 1};
		}
		world_backends(w, c, w->n_backends[c]);
	}
	process_start(w, course_of(BLUE, 0));
}

void
world_free(struct world *w)
{
	if (w->state != NULL)
		state_free(w->state);
	free(w->config.rollout.steps);
	free(w->flying);
	free(w->events);
	free(w);
}

void
world_backends(struct world *w, enum color c, unsigned up)
{
	for (unsigned i = 0; i < w->n_backends[c]; i++)
		atomic_store(&w->backends[c][i].state, i < up ? BACKEND_UP : BACKEND_DOWN);
}

bool
world_step(struct world *w, int64_t until_us)
{
	int64_t first_us = w->tick_us < until_us ? w->tick_us : until_us;

	if (traffic_step(w, first_us))
		return true;
	w->now_us = first_us;
	if (w->tick_us > until_us)
		return false;
	w->tick_us += TICK_US;
	traffic_tick(w);
	control_tick(w);
	return true;
}
