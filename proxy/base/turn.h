/*
 * One turn of a worker's loop: what the time is, who has something to run or to flush, and
 * who is to be buried.  Handlers mark; turn_end() does the work once per connection:
 *
 *     readiness callbacks -> (run -> flush)* -> bury
 *
 * Nothing is freed inside its own callback: turn_bury() puts it on the graves list.
 * One thread.  Plain memory: tests drive it with a fake clock.
 */
#ifndef TEAL_TURN_H
#define TEAL_TURN_H

#include <stdbool.h>
#include <sys/queue.h>

#include "proxy/base/buf.h"
#include "proxy/base/wheel.h"

struct task_list;
struct task { /* embedded; on a list at most once */
	TAILQ_ENTRY(task) link;
	bool queued;
	struct task_list *on; /* which list, while queued */
	void (*run)(struct task *);
};
TAILQ_HEAD(task_list, task);

struct turn {
	int64_t now_ms; /* CLOCK_MONOTONIC, refreshed once per turn */
	int64_t now_us;
	int64_t wall_ms; /* CLOCK_REALTIME of the same moment */
	struct chunk_pool *chunks;
	struct chunk *spare; /* a large one with room: the next read goes there; or NULL */
	struct wheel wheel;
	struct task_list runnable;      /* has input or events to go on with */
	struct task_list later;         /* had its share: goes on in the next turn, after a poll */
	struct task_list dirty;         /* has output to flush: once per turn */
	struct task_list graves;        /* run() frees the owner */
	struct task marker;             /* turn_end's own */
	void *owner;                    /* the worker; codecs do not look */
	bool stale;                     /* the loop has slept since the clock was read */
	void (*refresh)(struct turn *); /* reads it; NULL in tests */
};

/* Every readiness callback's first word: the clock is read once per turn, after the sleep. */
static inline void
turn_wake(struct turn *turn)
{
	if (turn->stale && turn->refresh != NULL)
		turn->refresh(turn);
}

void turn_init(struct turn *, int64_t now_us, int64_t wall_ms);
void turn_fini(struct turn *);
void turn_clock(struct turn *, int64_t now_us, int64_t wall_ms);
void turn_run(struct turn *, struct task *);   /* once more this turn, before the flush */
void turn_later(struct turn *, struct task *); /* in the next turn; turn_end() is then true */
void turn_flush(struct turn *, struct task *); /* at the end of this turn */
void turn_bury(struct turn *, struct task *);
void turn_forget(struct task *, struct task_list *); /* takes it off again */
/* Runs and flushes until nothing is left, at most `TURN_PASSES` times (a peer cannot keep a worker
 * in one turn), then buries.  true: something is left, do not sleep in the next poll. */
#define TURN_PASSES 8
bool turn_end(struct turn *);

#endif
