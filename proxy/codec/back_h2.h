/*
 * The backend's side of HTTP/2, shared by its two files: back_h2.c (connection, requests) and
 * back_h2_response.c (what a response head may be, and how a stream ended).
 */
#ifndef TEAL_BACK_H2_H
#define TEAL_BACK_H2_H

#include "balancer/rate.h"
#include "proxy/base/obj.h"
#include "proxy/codec/back_conn.h"
#include "proxy/codec/h2.h"

#define BACK_H2_MAGIC 0xbac42b42u

struct back_h2 {
	struct h2 h2; /* first */
	uint32_t magic;
	struct back_conn *back;
	struct budget budget; /* useless work: BACK_GLITCHES */
	bool settings_seen;   /* the peer's first SETTINGS has come */
	bool goaway_seen;
	bool retire_due;    /* owner->retired() is to be called, outside nghttp2 */
	bool available_due; /* owner->available() likewise */
	bool goaway_sent;
};

static inline struct back_h2 *
back_h2_of(struct h2 *h2)
{
	struct back_h2 *b = (struct back_h2 *)(void *)h2;

	CHECK_MAGIC(b, BACK_H2_MAGIC);
	return b;
}

/* h2_role's head, outcome and cut. */
void back_h2_response(struct h2_stream *, bool end);
enum outcome back_h2_outcome(struct h2_stream *, uint32_t code);
enum outcome back_h2_cut(struct h2_stream *);

#endif
