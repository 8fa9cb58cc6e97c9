/*
 * The world a scenario happens in: clients, two workers, a control thread, on a clock that only
 * world_step() moves.
 *
 * The balancer in it is the real one: split decides the color of each request, tally keeps what
 * was seen, guard trips, verdict judges, rollout walks.  Played are only those who call it:
 *   traffic.c   clients and workers: requests begin, end well, slowly, badly or by the timeout
 *   control.c   the control thread: the tick, gates, the operator's orders, a restart
 * Nothing is random but by the seed.
 */
#ifndef TEAL_TEST_WORLD_H
#define TEAL_TEST_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "balancer/fleet.h"
#include "balancer/rollout.h"
#include "balancer/verdict.h"
#include "config/config.h"

#define N_WORKERS           2
#define BACKENDS_MAX        16
#define TICK_US             INT64_C(100000)
#define RESPONSE_TIMEOUT_US INT64_C(30000000)
#define NEVER               INT64_MAX

/* How a color answers. */
struct behaviour {
	double fails, hangs; /* percent of its requests */
	int64_t answers_us;  /* the mean; each takes half of it to one and a half */
};

/* A request on its way; of a heap by ends_us, then by number. */
struct exchange {
	int64_t began_us, ends_us;
	uint64_t number;
	enum color color;
	unsigned worker;
	uint32_t generation;
	int64_t head_us; /* as in a tally_sample */
	unsigned status;
	bool left;    /* its client did not wait for the end */
	bool overdue; /* is in the number its worker has published */
};

enum gate_says { GATE_NONE, GATE_GOES, GATE_REFUSES };

/* What was counted of one color. */
struct counts {
	uint64_t got, failed;    /* since the candidate was last given weight by an order */
	uint64_t got_since_trip; /* picked after the last trip */
	uint64_t got_at_weight;  /* since the weight last changed */
};

struct event {
	int64_t at_us;
	char text[ROLLOUT_REASON_MAX + 64];
};

struct world {
	/* the service */
	struct service_config config;
	struct service service;
	struct service_state *state; /* what a process has in memory: new after a restart */
	struct backend backends[N_COLORS][BACKENDS_MAX];
	struct member members[N_COLORS][BACKENDS_MAX];
	unsigned n_backends[N_COLORS];

	/* time: the scenario's from 0, and the monotonic clock, which a restart sets back as a
	 * reboot does */
	int64_t now_us, tick_us, clock_base_ms;
	uint64_t seed;

	/* traffic */
	struct behaviour does[N_COLORS];
	double rate;
	int64_t patience_us; /* clients leave when there is no answer then; NEVER: they wait */
	int64_t arrives_us;
	uint64_t n_requests;
	struct exchange *flying;
	unsigned n_flying, max_flying;
	uint32_t overdue[N_COLORS][N_WORKERS]; /* published */
	struct counts counts[N_COLORS];

	/* control */
	struct rollout rollout;
	struct verdict verdict; /* of the last tick */
	bool tripped;
	struct verdict trip; /* the last one */
	unsigned n_trips;    /* since the last order that gave weight */
	enum gate_says gate;
	int64_t gate_takes_us, gate_answers_us; /* NEVER: none is asked */
	unsigned n_gates;                       /* asked */

	/* what was told */
	struct event *events;
	unsigned n_events, max_events;
};

/* A service with the configuration's defaults; heap, aborts when out of memory. */
struct world *world_new(void);
void world_free(struct world *);
/* The settings are made: the process starts. */
void world_begin(struct world *);
/* Goes to what happens next, at most to until_us.  false: nothing does, and it is until_us now. */
bool world_step(struct world *, int64_t until_us);

int64_t world_ms(const struct world *); /* the monotonic clock */
double world_random(struct world *);    /* 0 <= x < 1 */
void world_traffic(struct world *, double rate);
/* The first `up` backends of a color are up, the others down. */
void world_backends(struct world *, enum color, unsigned up);

/* The operator's orders; NULL, or why it was refused. */
const char *world_start(struct world *, enum color to, const struct step_config *, unsigned n);
const char *world_pause(struct world *);
const char *world_resume(struct world *);
const char *world_promote(struct world *, bool full);
const char *world_abort(struct world *);
const char *world_rearm(struct world *);
const char *world_weight(struct world *, unsigned weight_bp);
/* The process ends by kill -9 and starts anew from the state file. */
void world_restart(struct world *);

/* --- between the two files --------------------------------------------------- */
/* A worker's call of the guard tripped. */
void control_tripped(struct world *, const struct verdict *);
void control_begin(struct world *);
void control_tick(struct world *);
void traffic_tick(struct world *); /* the workers publish the ages of what is unanswered */
void traffic_forget(struct world *);
bool traffic_step(struct world *, int64_t until_us);
__attribute__((format(printf, 2, 3))) void world_tell(struct world *, const char *format, ...);

#endif
