/*
 * The state of a client's HTTP/1.1 connection, between front_h1.c (its life, the request) and
 * front_h1_response.c (heads out).  Nobody else looks.
 */
#ifndef TEAL_FRONT_H1_H
#define TEAL_FRONT_H1_H

#include "proxy/codec/front.h"
#include "proxy/codec/h1.h"

enum front_h1_phase { WAITING, BODY, HELD, DONE, REFUSED, TUNNEL };

struct front_h1 {
	struct h1 h; /* first */
	uint32_t magic;
	struct front_conn *fc;
	enum front_h1_phase phase;
	struct head head; /* of the request under way */
	struct h1_limits limits;
	enum outcome failed; /* set by a verb, carried out by produce() */
	bool answered;       /* the final response head, or a 101, was written */
	bool keep;           /* the connection stays open after this response */
	bool head_begun;     /* a byte of the next head was seen */
	bool blank_line;     /* the one empty line before it was seen */
	bool line_checked;
	bool again; /* not the connection's first request */
	unsigned tiny;
};

/* Writes a response head, interim, 101 or final, and decides what follows it. What may not be written sets `failed`. */
void front_h1_send_head(struct front_h1 *, const struct head *, bool end);

#endif
