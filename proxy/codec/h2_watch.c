/*
 * The frame header walker.  Every check is one of attacks.md's resource attacks: the comments name the CVE's class.
 */
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "proxy/codec/h2_watch.h"

#define CLIENT_MAGIC_BYTES 24U
#define FRAME_HEAD         9U
#define NEW_PURPOSE        4U /* a request is a reason for a few WINDOW_UPDATEs */
#define FIRST_PURPOSE      64U

void
h2_watch_init(struct h2_watch *w, bool server, bool (*glitch)(void *, unsigned), void *user)
{
	memset(w, 0, sizeof(*w));
	w->glitch = glitch;
	w->user = user;
	w->server = server;
	w->need = FRAME_HEAD;
	w->magic_left = server ? CLIENT_MAGIC_BYTES : 0;
	w->acks_due = 1;
	w->purpose = FIRST_PURPOSE;
	w->block_bytes_max = H2_BLOCK_BYTES;
}

static void
grant(struct h2_watch *w, unsigned n)
{
	w->purpose = w->purpose > H2_PURPOSE_MAX - n ? H2_PURPOSE_MAX : w->purpose + n;
}

void
h2_watch_sent(struct h2_watch *w, size_t n)
{
	w->payload += n;
	grant(w, 2);
}

static uint32_t
be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool
in_gap(const struct h2_watch *w, uint32_t id)
{
	for (unsigned i = 0; i < w->n_gaps; i++) {
		if (id >= w->gaps[i].from && id <= w->gaps[i].to)
			return true;
	}
	return false;
}

/* --- streams the peer has ended: nghttp2 is told to forget them (it would keep a hundred, 27 KiB) --- */

static void
move_ended(struct h2_watch *w, uint32_t by)
{
	if (by >= H2_ENDED) {
		w->ended[0] = w->ended[1] = 0;
	} else if (by >= 64) {
		w->ended[1] = w->ended[0] << (by - 64);
		w->ended[0] = 0;
	} else if (by > 0) {
		w->ended[1] = w->ended[1] << by | w->ended[0] >> (64 - by);
		w->ended[0] <<= by;
	}
}

/* Its place in `ended`; H2_ENDED: it has none. */
static uint32_t
place(const struct h2_watch *w, uint32_t id)
{
	uint32_t at = (w->last_id - id) / 2;

	return w->server && id % 2 == 1 && id <= w->last_id && at < H2_ENDED ? at : H2_ENDED;
}

static void
note_end(struct h2_watch *w, uint32_t id)
{
	uint32_t at = place(w, id);

	if (at < H2_ENDED)
		w->ended[at / 64] |= UINT64_C(1) << at % 64;
}

/* RFC 9113 5.1, closed and half-closed (remote): STREAM_CLOSED.  What is longer ago is ignored, as the RFC allows. */
static bool
has_ended(const struct h2_watch *w, uint32_t id)
{
	uint32_t at = place(w, id);

	return at < H2_ENDED && (w->ended[at / 64] >> at % 64 & 1) != 0;
}

/*
 * RFC 9113 5.1.1: a new stream's id must be higher than every one before it.  A lower one that was skipped was
 * closed by that; nghttp2 cannot tell it from one it has forgotten and ignores both.  Only the skipped ones are an
 * error for sure: an old one may be trailers that crossed our RST_STREAM.
 */
static bool
id_allowed(struct h2_watch *w, uint32_t id, uint32_t *error)
{
	uint32_t next = w->last_id == 0 ? 1 : w->last_id + 2;

	if (id % 2 == 0)
		return true; /* nghttp2's own check */
	if (id <= w->last_id) {
		if (in_gap(w, id))
			*error = NGHTTP2_PROTOCOL_ERROR;
		return !in_gap(w, id);
	}
	move_ended(w, (id - w->last_id) / 2);
	w->last_id = id;
	if (id == next)
		return true;
	if (w->n_gaps == H2_GAPS) {
		memmove(&w->gaps[0], &w->gaps[1], sizeof(w->gaps) - sizeof(w->gaps[0]));
		w->n_gaps--;
	}
	w->gaps[w->n_gaps].from = next;
	w->gaps[w->n_gaps].to = id - 2;
	w->n_gaps++;
	return w->glitch(w->user, GLITCH_FRAME);
}

static bool
data_begins(struct h2_watch *w, size_t length)
{
	size_t padding = w->need > FRAME_HEAD ? 1U + w->head[FRAME_HEAD] : 0;

	if (padding > length)
		return true; /* nghttp2 ends the connection */
	w->payload += length - padding;
	if (length == padding && (w->flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return w->glitch(w->user, GLITCH_EMPTY); /* empty frames, CVE-2019-9518 */
	return true;
}

static bool
block_begins(struct h2_watch *w, size_t length, uint32_t id, uint32_t *error)
{
	w->payload += length;
	w->block_open = true;
	w->block_frames = 0;
	w->block_bytes = length;
	w->block_seq++;
	grant(w, NEW_PURPOSE);
	if (length == 0 && !w->glitch(w->user, GLITCH_EMPTY))
		return false;
	return !w->server || id_allowed(w, id, error);
}

/* CVE-2024-27316 and its family: a header block without end. */
static bool
block_goes_on(struct h2_watch *w, size_t length)
{
	w->payload += length;
	w->block_bytes += length;
	if (++w->block_frames > H2_BLOCK_CONTINUATION || w->block_bytes > w->block_bytes_max)
		return false;
	return w->glitch(w->user, length == 0 ? GLITCH_EMPTY : GLITCH_FRAME);
}

/* A frame that only a DATA frame or a new request gives a reason for. */
static bool
with_purpose(struct h2_watch *w)
{
	if (w->purpose > 0) {
		w->purpose--;
		return true;
	}
	return w->glitch(w->user, GLITCH_FRAME);
}

static bool
answers(struct h2_watch *w, unsigned *due)
{
	if (*due > 0) {
		(*due)--;
		return true;
	}
	return w->glitch(w->user, GLITCH_FRAME);
}

/* false: the connection must end. */
static bool
frame_begins(struct h2_watch *w, size_t length, uint32_t id, uint32_t *error)
{
	bool ack = (w->flags & NGHTTP2_FLAG_ACK) != 0;
	bool message = w->type == NGHTTP2_DATA || w->type == NGHTTP2_HEADERS;

	if (message && has_ended(w, id)) {
		*error = NGHTTP2_STREAM_CLOSED;
		return false;
	}
	switch (w->type) {
	case NGHTTP2_DATA:
		if ((w->flags & NGHTTP2_FLAG_END_STREAM) != 0)
			note_end(w, id);
		return data_begins(w, length);
	case NGHTTP2_PUSH_PROMISE: /* neither peer of ours may push (RFC 9113 8.4) */
		*error = NGHTTP2_PROTOCOL_ERROR;
		return false;
	case NGHTTP2_HEADERS:
		if (!block_begins(w, length, id, error))
			return false;
		if ((w->flags & NGHTTP2_FLAG_END_STREAM) != 0)
			note_end(w, id);
		return true;
	case NGHTTP2_CONTINUATION:
		return block_goes_on(w, length);
	case NGHTTP2_SETTINGS:
		if (ack)
			return answers(w, &w->acks_due);
		if (!w->settings_seen) {
			w->settings_seen = true;
			return true;
		}
		return w->glitch(w->user, GLITCH_FRAME);
	case NGHTTP2_PING:
		return ack ? answers(w, &w->pongs_due) : with_purpose(w);
	case NGHTTP2_WINDOW_UPDATE:
		return with_purpose(w);
	case NGHTTP2_RST_STREAM:
		note_end(w, id);
		return answers(w, &w->resets_due);
	default: /* PRIORITY, GOAWAY, PRIORITY_UPDATE, ALTSVC, ORIGIN, unknown types */
		return w->glitch(w->user, GLITCH_FRAME);
	}
}

static void
frame_ends(struct h2_watch *w)
{
	bool block = w->type == NGHTTP2_HEADERS || w->type == NGHTTP2_CONTINUATION;

	if (block && (w->flags & NGHTTP2_FLAG_END_HEADERS) != 0)
		w->block_open = false;
	w->have = 0;
	w->need = FRAME_HEAD;
}

/* The next bytes of a frame header; how many were taken.  It is complete when have == need. */
static size_t
head_bytes(struct h2_watch *w, const unsigned char *p, size_t n)
{
	size_t k = w->need - w->have;

	if (k > n)
		k = n;
	memcpy(w->head + w->have, p, k);
	w->have += (unsigned)k;
	if (w->have == FRAME_HEAD && w->need == FRAME_HEAD) {
		size_t length = be32(w->head) >> 8;

		w->type = w->head[3];
		w->flags = w->head[4];
		if (w->type == NGHTTP2_DATA && (w->flags & NGHTTP2_FLAG_PADDED) != 0 && length > 0)
			w->need = FRAME_HEAD + 1;
	}
	return k;
}

size_t
h2_watch(struct h2_watch *w, const unsigned char *p, size_t n, uint32_t *error)
{
	size_t at = 0, begun = 0;
	unsigned frames = 0;

	if (n > H2_PIECE)
		n = H2_PIECE;
	while (at < n && frames < H2_PIECE_FRAMES) {
		size_t *skip = w->magic_left > 0 ? &w->magic_left : &w->left;

		if (*skip > 0) {
			size_t k = *skip < n - at ? *skip : n - at;

			at += k;
			*skip -= k;
			if (skip == &w->left && w->left == 0)
				frame_ends(w);
			continue;
		}
		if (w->have == 0)
			begun = at;
		at += head_bytes(w, p + at, n - at);
		if (w->have < w->need)
			continue;

		size_t length = be32(w->head) >> 8;
		uint32_t code = NGHTTP2_ENHANCE_YOUR_CALM;

		frames += w->type != NGHTTP2_DATA;
		if (!frame_begins(w, length, be32(w->head + 5) & 0x7fffffffU, &code)) {
			*error = code;
			return begun;
		}
		w->left = length - (w->need - FRAME_HEAD);
		if (w->left == 0)
			frame_ends(w);
	}
	w->total += at;
	if (w->total / H2_RATIO > w->payload + H2_RATIO_FREE)
		*error = NGHTTP2_ENHANCE_YOUR_CALM;
	return at;
}
