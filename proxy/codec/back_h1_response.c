/*
 * What a backend's response head means: interim answers, the switch to a tunnel, whether a body
 * follows and how it is framed, whether the connection may be kept (RFC 9112 6.3, 9.3; RFC 9110 15.2).
 *
 * Owner: struct back_h1.  One thread.
 */
#include "proxy/codec/back_h1.h"

#define INTERIM_RELAYED 10  /* 1xx heads passed on; further ones are dropped */
#define INTERIM_MAX     100 /* more than these are an attack */

static void
head_of(struct head *head, const struct h1_head *parsed)
{
	*head = (struct head){
	    .status = parsed->status,
	    .minor = parsed->minor,
	    .fields = parsed->fields,
	    .content_length = parsed->content_length,
	};
}

static enum outcome
interim(struct back_h1 *b, const struct h1_head *parsed)
{
	struct head head;

	/* RFC 9110 15.2: no body, so no framing; an endless row of them is no answer */
	if (parsed->chunked || parsed->content_length != HEAD_LENGTH_NONE)
		return OUTCOME_BACK_MALFORMED;
	if (++b->interim > INTERIM_MAX)
		return OUTCOME_BACK_MALFORMED;
	if (parsed->status == 100 && !b->expect_continue)
		return OUTCOME_OK;
	if (parsed->status != 100 && b->interim > INTERIM_RELAYED)
		return OUTCOME_OK;
	head_of(&head, parsed);
	b->h.stream.events->head(b->h.stream.user, &head, false);
	return OUTCOME_OK;
}

/* RFC 6455 4.1: a 101 that was not asked for, or answers another key, is not one. */
static enum outcome
switched(struct back_h1 *b, const struct h1_head *parsed)
{
	struct head head;

	if (!b->websocket || !parsed->upgrade || !parsed->websocket || parsed->chunked ||
	    parsed->content_length > 0 || !text_is(parsed->websocket_accept, b->accept))
		return OUTCOME_BACK_MALFORMED;
	b->phase = TUNNEL;
	b->keep = false;
	b->h.in = b->h.out = H1_TUNNEL;
	b->h.out_ended = false;
	head_of(&head, parsed);
	head.content_length = HEAD_LENGTH_NONE;
	b->h.stream.events->head(b->h.stream.user, &head, false);
	return OUTCOME_OK;
}

static bool
has_body(const struct back_h1 *b, const struct h1_head *parsed)
{
	return !b->head_method && parsed->status != 204 && parsed->status != 304 &&
	       parsed->content_length != 0;
}

static void
final(struct back_h1 *b, const struct h1_head *parsed)
{
	struct h1 *h = &b->h;
	bool end = !has_body(b, parsed);
	struct head head;

	head_of(&head, parsed);
	if (parsed->status == 204) {
		/* RFC 9110 8.6 forbids the length; what might follow is not looked for */
		if (parsed->content_length > 0 || parsed->chunked)
			b->keep = false;
		head.content_length = HEAD_LENGTH_NONE;
	}
	/* RFC 9112 9.3; an upgrade that was refused leaves too much in doubt */
	if (parsed->close || (parsed->minor == 0 && !parsed->keep_alive) || b->websocket)
		b->keep = false;
	if (b->websocket)
		h->out_ended = true; /* there is no body to send now */
	if (end) {
		h->in_ended = true;
		b->phase = ENDED;
	} else {
		b->phase = BODY;
		h->in = parsed->chunked            ? H1_CHUNKED
			: head.content_length >= 0 ? H1_LENGTH
						   : H1_UNTIL_CLOSE;
		h->in_left = head.content_length;
		h1_chunk_init(&h->chunks);
		if (h->in == H1_UNTIL_CLOSE)
			b->keep = false;
	}
	if (end && !h->out_ended)
		b->keep = false; /* answered before the request was complete (attack 55) */
	head.no_body = end;
	h->stream.events->head(h->stream.user, &head, end);
}

enum outcome
back_h1_head(struct back_h1 *b, const struct h1_head *parsed)
{
	if (parsed->status == 101)
		return switched(b, parsed);
	if (parsed->status < 200)
		return interim(b, parsed);
	final(b, parsed);
	return OUTCOME_OK;
}
