/*
 * Bodies between a connection and a stream's user, the same at the front and at the back.
 *
 *   conn->in --h1_receive--> body, trailers events     at most STREAM_CREDIT not given back
 *   verbs --> conn->out --> transport --h1_drained--> drained events
 *
 * Received bytes are handed on as slices of the chunk they were read into.  drained() is accounted with two
 * counters: framing leaves before bodies.  That reports a body byte a few framing bytes late at
 * most, and all of them once the queue is empty.
 *
 * Events may reset the stream: whoever fires one looks at `open` before it goes on.
 *
 * Owner: the conn's codec.  One thread.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/h1.h"

#define TINY_CHUNK 16 /* bytes of data: framing outweighs it */
#define HELD_FIRST ((size_t)2048)

void
h1_init(struct h1 *h, struct conn *c, const struct stream_verbs *verbs)
{
	h->conn = c;
	h->stream.magic = STREAM_MAGIC;
	h->stream.verbs = verbs;
	arena_init(&h->stream.arena, c->turn->chunks);
}

void
h1_fini(struct h1 *h)
{
	arena_fini(&h->stream.arena);
	h->stream.magic = 0;
}

void
h1_reopen(struct h1 *h)
{
	struct stream s = h->stream;
	struct conn *c = h->conn;

	arena_fini(&s.arena);
	s.events = NULL;
	s.user = NULL;
	s.bytes_in = s.bytes_out = 0;
	*h = (struct h1){.stream = s, .conn = c};
}

void
h1_closed(struct h1 *h, enum outcome why)
{
	if (!h->open)
		return;
	h->open = false;
	conn_resume(h->conn, PAUSE_CREDIT);
	if (h->stream.events != NULL)
		h->stream.events->closed(h->stream.user, why);
}

/* --- receiving -------------------------------------------------------------- */

/* As much as it could be held: with nothing moving, perhaps for a client that will never read. */
static bool
held_short(const struct h1 *h)
{
	return h->ahead == STREAM_HELD && h->in_moved < STREAM_HELD;
}

static size_t
credit(const struct h1 *h)
{
	if (h->ahead == 0 || h->ahead > STREAM_CREDIT)
		return STREAM_CREDIT;
	return held_short(h) ? HELD_FIRST : h->ahead;
}

static void
fire_body(struct h1 *h, struct slice s, bool end)
{
	h->stream.bytes_in += s.n;
	h->in_credit += s.n;
	h->in_ended |= end;
	if (h->in_credit >= credit(h))
		conn_pause(h->conn, PAUSE_CREDIT);
	h->stream.events->body(h->stream.user, s, end);
	if (!held_short(h))
		h->conn->in_small =
		    false; /* the rest of a long body: in large pieces where it can flow */
}

/* How many of n body bytes may be delivered now.  Below a credit that hold() has cut they go on whole: the chunk they
 * lie in is held in any case. */
static size_t
within_credit(const struct h1 *h, size_t n)
{
	size_t room = h->in_credit < credit(h) ? STREAM_CREDIT - h->in_credit : 0;

	return n < room ? n : room;
}

static size_t
receive_length(struct h1 *h, struct slice in)
{
	size_t n = (uint64_t)h->in_left < in.n ? (size_t)h->in_left : in.n;

	n = within_credit(h, n);
	h->in_left -= (int64_t)n;
	in.n = n;
	if (n > 0)
		fire_body(h, in, h->in_left == 0);
	return n;
}

static size_t
receive_trailers(
    struct h1 *h, struct slice in, const struct h1_limits *limits, bool request, enum outcome *why)
{
	struct fields list = {0};
	size_t n;

	if (h->scan.at == 0 && in.p[0] == '\r') {
		/* no trailers: the usual end */
		if (in.n < 2)
			return 0;
		if (in.p[1] != '\n') {
			*why = OUTCOME_BAD_REQUEST;
			return 0;
		}
		fire_body(h, slice_borrowed("", 0), true);
		return 2;
	}
	if (in.p[0] == ' ' || in.p[0] == '\t') {
		*why = OUTCOME_BAD_REQUEST;
		return 0;
	}
	switch (h1_scan(&h->scan, in.p, in.n, limits->bytes, limits->bytes)) {
	case H1_MORE:
		return 0;
	case H1_WHOLE:
		break;
	case H1_BAD:
		*why = OUTCOME_BAD_REQUEST;
		return 0;
	case H1_LINE_TOO_LONG:
	case H1_TOO_LARGE:
		*why = OUTCOME_HEADER_TOO_LARGE;
		return 0;
	}
	n = h->scan.at;
	*why = h1_parse_trailers(&list, &h->stream.arena, in.p, n, limits, request);
	if (*why != OUTCOME_OK)
		return 0;
	h->in_ended = true;
	h->stream.events->trailers(h->stream.user, &list);
	return n;
}

static size_t
receive_chunks(struct h1 *h, struct slice in, enum outcome *why, unsigned *tiny)
{
	size_t used, n;

	switch (h1_chunk_next(&h->chunks, in.p, in.n, &used)) {
	case H1_CHUNK_BEGUN:
		*tiny += h->chunks.left < TINY_CHUNK || h->chunks.extended;
		return used;
	case H1_CHUNK_MORE:
		return used;
	case H1_CHUNK_TRAILERS:
		h->in_trailers = true;
		h->scan = (struct h1_scan){0};
		return used;
	case H1_CHUNK_BAD:
		*why = OUTCOME_BAD_REQUEST;
		return 0;
	case H1_CHUNK_DATA:
		break;
	}
	n = h->chunks.left < in.n ? (size_t)h->chunks.left : in.n;
	n = within_credit(h, n);
	in.n = n;
	if (n > 0) {
		h1_chunk_took(&h->chunks, n);
		fire_body(h, in, false);
	}
	return n;
}

size_t
h1_receive(struct h1 *h, struct slice in, const struct h1_limits *limits, bool request,
    enum outcome *why, unsigned *tiny)
{
	switch (h->in) {
	case H1_NONE:
		return 0;
	case H1_LENGTH:
		return receive_length(h, in);
	case H1_CHUNKED:
		if (h->in_trailers)
			return receive_trailers(h, in, limits, request, why);
		return receive_chunks(h, in, why, tiny);
	case H1_UNTIL_CLOSE:
	case H1_TUNNEL:
		in.n = within_credit(h, in.n);
		if (in.n > 0)
			fire_body(h, in, false);
		return in.n;
	}
	return 0;
}

void
h1_receive_end(struct h1 *h)
{
	fire_body(h, slice_borrowed("", 0), true);
}

void
h1_consumed(struct stream *s, size_t n)
{
	struct h1 *h = (struct h1 *)(void *)s;

	CHECK_MAGIC(s, STREAM_MAGIC);
	ENSURE(h->open && n <= h->in_credit);
	h->in_credit -= n;
	if (h->in_moved < STREAM_HELD)
		h->in_moved += n;
	if (h->in_credit < credit(h))
		conn_resume(h->conn, PAUSE_CREDIT);
}

void
h1_hold(struct stream *s, size_t ahead)
{
	struct h1 *h = (struct h1 *)(void *)s;

	CHECK_MAGIC(s, STREAM_MAGIC);
	ENSURE(h->open);
	h->ahead = ahead > STREAM_HELD ? ahead : STREAM_HELD;
	if (h->in_credit < credit(h))
		conn_resume(h->conn, PAUSE_CREDIT);
	else
		conn_pause(h->conn, PAUSE_CREDIT);
}

/* --- sending ------------------------------------------------------------------ */

/* The body bytes that may be written of those given. */
static size_t
allowed(struct h1 *h, size_t n)
{
	switch (h->out) {
	case H1_NONE:
		return 0;
	case H1_LENGTH:
		if ((uint64_t)h->out_left < n) {
			h->out_excess = true;
			n = (size_t)h->out_left;
		}
		h->out_left -= (int64_t)n;
		return n;
	case H1_CHUNKED:
	case H1_UNTIL_CLOSE:
	case H1_TUNNEL:
		return n;
	}
	return 0;
}

/* Framing between slices: into a small chunk, where buf_append() would begin a large one. */
static void
append_framing(struct h1 *h, const void *p, size_t n)
{
	memcpy(buf_reserve(&h->conn->out, n), p, n);
	buf_commit(&h->conn->out, n);
	h->out_framing += n;
}

static void
append_body(struct h1 *h, struct slice s)
{
	h->stream.bytes_out += s.n;
	if (h->out != H1_CHUNKED) {
		buf_append_slice(&h->conn->out, s);
		return;
	}
	/* a chunk's size is written only with its bytes in hand (RFC 9112 7.1) */
	char line[18];
	size_t at = sizeof(line);

	line[--at] = '\n';
	line[--at] = '\r';
	for (size_t n = s.n; n > 0; n >>= 4)
		line[--at] = "0123456789abcdef"[n & 15];
	append_framing(h, line + at, sizeof(line) - at);
	buf_append_slice(&h->conn->out, s);
	append_framing(h, "\r\n", 2);
}

static void
append_end(struct h1 *h, const struct fields *trailers)
{
	h->out_ended = true;
	switch (h->out) {
	case H1_LENGTH:
		h->out_short = h->out_left > 0;
		return;
	case H1_CHUNKED:
		if (trailers != NULL) {
			h->out_framing += h1_write_trailers(&h->conn->out, trailers);
		} else {
			append_framing(h, "0\r\n\r\n", 5);
		}
		return;
	case H1_TUNNEL:
		conn_shutdown_write(h->conn);
		return;
	case H1_NONE:
	case H1_UNTIL_CLOSE:
		return;
	}
}

void
h1_send_body(struct stream *s, struct slice body, bool end)
{
	struct h1 *h = (struct h1 *)(void *)s;

	CHECK_MAGIC(s, STREAM_MAGIC);
	ENSURE(h->open);
	if (h->out_ended)
		return;
	h->out_body += body.n; /* what is not written is given back all the same */
	body.n = allowed(h, body.n);
	if (body.n > 0)
		append_body(h, body);
	if (end)
		append_end(h, NULL);
	conn_output(h->conn);
}

void
h1_send_trailers(struct stream *s, const struct fields *list)
{
	struct h1 *h = (struct h1 *)(void *)s;

	CHECK_MAGIC(s, STREAM_MAGIC);
	ENSURE(h->open);
	if (h->out_ended)
		return;
	append_end(h, list->n > 0 && h1_fields_valid(list) ? list : NULL);
	conn_output(h->conn);
}

void
h1_drained(struct h1 *h, size_t sent)
{
	size_t framing = sent < h->out_framing ? sent : h->out_framing;
	size_t body = sent - framing;

	h->out_framing -= framing;
	if (body > h->out_body || buf_bytes(&h->conn->out) == 0)
		body = h->out_body;
	h->out_body -= body;
	if (body > 0 && h->open && h->stream.events != NULL)
		h->stream.events->drained(h->stream.user, body);
}
