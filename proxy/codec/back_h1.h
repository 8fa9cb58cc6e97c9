/*
 * The state of an HTTP/1.1 connection to a backend, between back_h1.c (its life, the request) and
 * back_h1_response.c (what a response head means).  Nobody else looks.
 */
#ifndef TEAL_BACK_H1_H
#define TEAL_BACK_H1_H

#include "proxy/codec/back_conn.h"
#include "proxy/codec/h1.h"
#include "proxy/message/websocket.h"

enum back_h1_phase { IDLE, AWAITING, BODY, ENDED, TUNNEL };

struct back_h1 {
	struct h1 h; /* first */
	uint32_t magic;
	struct back_conn *bc;
	enum back_h1_phase phase;
	struct h1_limits limits;
	enum outcome failed; /* set by a verb, carried out by produce() */
	bool begun;          /* the request's head was queued */
	bool reused;         /* not the connection's first exchange */
	bool keep;           /* may be pooled after this exchange */
	bool reading;        /* inside input(): in_at lags behind */
	bool released;       /* reset inside input(): pooled at its end */
	bool line_checked;
	bool answered;    /* a byte of response was seen */
	bool head_method; /* the request's method is HEAD */
	bool expect_continue;
	bool websocket;
	unsigned interim;
	uint64_t sent; /* bytes of this request that left */
	char accept[WEBSOCKET_ACCEPT + 1];
};

/* A head as parsed, of a stream that awaits one: fires head(), sets what comes next.  OK, or BACK_MALFORMED. */
enum outcome back_h1_head(struct back_h1 *, const struct h1_head *);

#endif
