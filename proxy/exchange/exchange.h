/*
 * One request and its response, from the head of the request to the line in the log.
 *
 *   BEGIN -> CHOOSING -> SENDING -> RELAYING -> DONE
 *              ^  |         |
 *              |  +-> WAITING (all backends full)
 *              +------------+   a retry (another backend) or a rescue (the live color): the outcome
 *                               allows it, nothing went to the client, the body can be replayed
 *   LOCAL: nobody is left to ask, or nobody was to be asked: answered by local.c
 *
 * exchange.c has its life, ask.c the asking, rescue.c the live color instead, crowd.c all that are
 * with one color, account.c the end.  Knows streams, not codecs: no nghttp2, OpenSSL or libevent
 * here.  Owner: the engine's worker and thread.
 */
#ifndef TEAL_EXCHANGE_H
#define TEAL_EXCHANGE_H

#include "balancer/split.h"
#include "proxy/codec/front.h"
#include "proxy/exchange/engine.h"
#include "proxy/message/stream.h"

enum exchange_state { X_BEGIN, X_CHOOSING, X_WAITING, X_SENDING, X_RELAYING, X_LOCAL, X_DONE };

#define EXCHANGE_MAGIC 0xe8c4a26eu
#define REQUEST_ID_MAX 64

struct exchange {
	uint32_t magic;
	enum exchange_state state;
	struct engine *engine;
	struct fleet_ref *fleet;
	struct front_conn *fc;
	struct stream *front; /* NULL once closed */
	struct stream *back;  /* NULL: none open */
	struct head *request; /* as received; in the front stream's arena */
	struct head forward;  /* as sent to backends; made once */
	bool forward_made;

	struct service *service; /* NULL: not routed */
	enum color color;
	enum split_why why;
	bool colored;   /* a color was chosen */
	bool candidate; /* and it was the candidate then */
	bool rescued;   /* it failed on the candidate; now the live color has it */
	enum color rescued_from;
	enum outcome rescued_why;    /* how it failed there */
	unsigned tries_before;       /* there */
	uint32_t generation;         /* of the color's tally */
	int64_t asked_us;            /* when it came to its color */
	unsigned char crowd;         /* enum crowd_place, see crowd.h */
	bool overdue;                /* counted there as unanswered for too long */
	TAILQ_ENTRY(exchange) with;  /* all of its color */
	const struct member *member; /* the backend that has or had it */
	bool counted_in;             /* in that backend's inflight */
	const struct backend *tried[8];
	unsigned n_tried;
	unsigned tries;       /* on this color */
	unsigned addresses;   /* of the member's that this try has been to, a bit each */
	char split_token[17]; /* a new split cookie's value to set; "": none */

	/* the request body */
	struct buf kept;               /* from its first byte, while it can be replayed */
	bool replayable;               /* kept has all of it so far */
	bool request_end;              /* the client has sent all */
	bool request_sent;             /* and the back stream has been told */
	bool continued;                /* the client was told to go on (100) */
	uint64_t body_in;              /* bytes of it */
	uint64_t credited;             /* given back to the front */
	uint64_t back_drained;         /* taken by the present back stream's transport */
	const struct fields *trailers; /* the request's, copied into the front's arena */

	/* the response */
	unsigned status;      /* as sent to the client; 0: none yet */
	unsigned back_status; /* as the backend said */
	bool response_begun;  /* a final head went to the client */
	bool response_end;
	bool tunnel;
	bool grpc;
	bool grpc_failed;
	uint64_t
	    front_owed; /* body bytes given to the front and not drained yet; change by exchange_owe() */
	size_t ahead; /* how far the back stream was last allowed to be; 0: not told */

	enum outcome outcome;
	bool judged;               /* outcome is final */
	int64_t start_us, head_us; /* head_us: 0 = none */
	int64_t wall_ms;
	struct timeout timer;
	struct task grave;
	TAILQ_ENTRY(exchange) link; /* in a wait queue */
	char id[REQUEST_ID_MAX + 1];
	unsigned id_length;
};

/* The handler for front connections; fc->owner is the engine. */
extern const struct front_handler exchange_handler;

/* n more (or fewer) body bytes wait for the client.  All exchanges of its connection share four
 * times limits.queued_bytes to let their backends get ahead; once more than limits.queued_bytes
 * does wait, each has the least there is. */
void exchange_owe(struct exchange *, int64_t n);
/*
 * The color has lost its traffic (trip, flip, promotion, weight 0).  Exchanges that wait for its
 * answer and may be replayed go to the live color when replay is true; what has begun goes on and
 * is closed by rollout.drain: at its rate, or at its timeout. Called by an order of control; a trip
 * by this worker calls it itself at the end of the turn.
 */
void exchange_leave(struct engine *, unsigned service, enum color, bool replay);
void exchange_engine_init(
    struct engine *); /* slabs, queues; the rest of the engine is set by the worker */
void exchange_engine_fini(struct engine *);
void fleet_ref_drop(struct fleet_ref *);

#endif
