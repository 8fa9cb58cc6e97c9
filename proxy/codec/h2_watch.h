/*
 * Looks at every frame header a peer sends before nghttp2 does, because nghttp2 1.52 neither counts
 * useless frames nor tells of the ones it ignores: the budget of useless work, the ratio of bytes to
 * payload, the size of a header block in frames and bytes, stream ids that go backwards.
 *
 * Pure but for the glitch() it is given.  Owner: struct h2.  Thread: the worker's.
 */
#ifndef TEAL_H2_WATCH_H
#define TEAL_H2_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H2_PIECE              ((size_t)16384)     /* at most so much is looked at in one go */
#define H2_PIECE_FRAMES       64U                 /* and so many frames */
#define H2_BLOCK_CONTINUATION 8U                  /* CONTINUATION frames in a header block */
#define H2_BLOCK_BYTES        ((size_t)65536)     /* of a header block, compressed */
#define H2_RATIO              8U                  /* bytes received per byte of payload ... */
#define H2_RATIO_FREE         ((uint64_t)1 << 20) /* ... beyond this many */
#define H2_GAPS               8U
#define H2_ENDED              128U
#define H2_PURPOSE_MAX        4096U /* unused allowance of WINDOW_UPDATE and PING */

/* What a frame costs of the budget (limits.glitches, 1000 by default). */
enum {
	GLITCH_FRAME = 1,  /* a control frame without purpose, a reset by the peer */
	GLITCH_EMPTY = 10, /* a frame with nothing in it: 100 in a row end the connection */
	GLITCH_ERROR = 10, /* a malformed message or frame that made teal reset the stream */
};

struct h2_watch {
	bool (*glitch)(void *user, unsigned n); /* false: the budget is spent */
	void *user;
	size_t block_bytes_max;
	unsigned char head[10]; /* frame header, and the pad length of a padded DATA */
	unsigned have, need;
	size_t magic_left; /* of the client's preface */
	size_t left;       /* of the frame's payload */
	uint8_t type, flags;
	bool server; /* stream ids are the peer's: check them */
	bool settings_seen;
	bool block_open;       /* a header block is under way, its last byte has not come */
	unsigned block_frames; /* CONTINUATIONs in it */
	size_t block_bytes;
	uint32_t block_seq; /* how many blocks have begun */
	uint32_t last_id;   /* the highest stream the peer opened */
	uint64_t ended[H2_ENDED /
		       64]; /* of it and those before it, a bit each: the peer has ended its side */
	struct {
		uint32_t from, to;
	} gaps[H2_GAPS]; /* ids it skipped: closed by that (RFC 9113 5.1.1) */
	unsigned n_gaps;
	unsigned acks_due, pongs_due; /* SETTINGS and PINGs of ours that are to be answered */
	unsigned resets_due;     /* streams answered early: the peer may rightly give up the rest */
	unsigned purpose;        /* WINDOW_UPDATEs and PINGs that our DATA gives reason for */
	uint64_t total, payload; /* bytes received; of them (and of our DATA) useful ones */
};

void h2_watch_init(struct h2_watch *, bool server, bool (*glitch)(void *, unsigned), void *user);
/* How many of these bytes may be given to nghttp2 now: all, or up to a limit of this file.  *error is set to an HTTP/2
 * error code when the connection must end after them, else left alone. */
size_t h2_watch(struct h2_watch *, const unsigned char *, size_t n, uint32_t *error);
/* A DATA frame of ours went out: it justifies two of the peer's WINDOW_UPDATEs, and pays for bytes. */
void h2_watch_sent(struct h2_watch *, size_t n);

#endif
