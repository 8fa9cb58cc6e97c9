/*
 * The client's side of HTTP/2, shared by its three files: front_h2.c (streams, responses, drain),
 * front_h2_request.c (what a request head may be), front_h2_time.c (timeouts).
 */
#ifndef TEAL_FRONT_H2_H
#define TEAL_FRONT_H2_H

#include "proxy/base/obj.h"
#include "proxy/codec/front.h"
#include "proxy/codec/h2.h"

/* Which deadline front->timer stands for. */
enum front_h2_wait {
	WAIT_NONE,
	WAIT_FIRST, /* for the first complete request */
	WAIT_BLOCK, /* for the rest of a header block */
	WAIT_IDLE,  /* no stream is open */
};

#define FRONT_H2_MAGIC 0xf2024f2eu

struct front_h2 {
	struct h2 h2; /* first */
	uint32_t magic;
	struct front_conn *front;
	enum front_h2_wait wait;
	uint32_t wait_block;         /* which block WAIT_BLOCK stands for */
	bool served;                 /* a complete request has come */
	bool final_goaway;           /* GOAWAY with the last id is queued: no new streams */
	struct timeout drain_timer;  /* first GOAWAY -> second, when the PING is not answered */
	struct timeout slow_timer;   /* looks at blocked streams, armed only while there are any */
	struct timeout linger_timer; /* what streams answered early wait for, armed likewise */
};

static inline struct front_h2 *
front_h2_of(struct h2 *h2)
{
	struct front_h2 *f = (struct front_h2 *)(void *)h2;

	CHECK_MAGIC(f, FRONT_H2_MAGIC);
	return f;
}

/* Builds the head from s->block, in s->stream.arena.  OUTCOME_OK or why the request is refused; what was understood is in the
 * head all the same. */
enum outcome front_h2_request(struct h2_stream *, struct head *, bool end);

void front_h2_time_begin(struct front_h2 *);
void front_h2_time_settle(struct front_h2 *); /* arms what the state asks for */
void front_h2_time_fini(struct front_h2 *);
/* The stream is answered and its request has not ended: what still comes is discarded, for a while. */
void front_h2_answered(struct h2_stream *);
/* In this time the stream's held head goes out; or if there is none, it is reset. */
void front_h2_linger(struct h2_stream *, int64_t ms);
void front_h2_submit_held(struct h2_stream *);
void front_h2_final_goaway(struct front_h2 *);

#endif
