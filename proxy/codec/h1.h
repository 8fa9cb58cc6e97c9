/*
 * What the two HTTP/1.1 codecs share (RFC 9112): finding and parsing a head, the chunked coding,
 * writing heads, and bodies both ways with their credit.
 *
 *   h1_head.c    bytes -> a list of fields: scan for the end, grammar (h1_grammar.c: llhttp)
 *   h1_sort.c    list -> struct h1_head: framing and connection fields taken out
 *   h1_request.c struct h1_head -> struct head of a request: Host, target, Upgrade, Expect
 *   h1_chunk.c   the chunked coding, one byte at a time
 *   h1_write.c   heads and trailers out
 *   h1.c         bodies between a conn and a stream's user
 *   front_h1.c, back_h1.c   the two codecs: a connection's life; _response.c of each: response heads
 *
 * One thread.  Nothing here outlives its conn.
 */
#ifndef TEAL_H1_H
#define TEAL_H1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "balancer/outcome.h"
#include "proxy/codec/conn.h"
#include "proxy/message/http.h"
#include "proxy/message/stream.h"

#define H1_METHOD_MAX         32    /* longer: 501 */
#define H1_CHUNK_LINE_MAX     4096  /* bytes of one chunk-size line */
#define H1_CHUNK_EXT_MAX      16384 /* bytes of chunk extensions in one message */
#define H1_CONNECTION_OPTIONS 32    /* options in all Connection fields of a head */

struct h1_limits {
	size_t line;    /* bytes of the first line */
	size_t bytes;   /* of fields, decoded (name + value + 32) */
	unsigned count; /* of fields */
};

/* --- heads in (h1_head.c) ------------------------------------------------ */

/* Where the search for the end of a head stands; zeroed before a head's first byte. No byte is looked
 * at twice, however the input was split. */
struct h1_scan {
	size_t at;         /* looked at so far */
	size_t line;       /* where the line under way begins */
	size_t first_line; /* bytes of the first line, once it is whole */
	unsigned lines;    /* whole lines so far, the empty one not counted */
};
enum h1_found {
	H1_MORE,
	H1_WHOLE,         /* the head ends at scan->at */
	H1_BAD,           /* bare LF, obs-fold, leading blank (RFC 9112 2.2, 5.2) */
	H1_LINE_TOO_LONG, /* first line */
	H1_TOO_LARGE,     /* max bytes are there and no end */
};
enum h1_found h1_scan(
    struct h1_scan *, const unsigned char *p, size_t n, size_t line_max, size_t max);

struct h1_head {
	struct text method, target; /* request */
	unsigned status;            /* response */
	unsigned minor;
	struct fields fields;   /* end-to-end only; hop-by-hop and framing fields are below */
	int64_t content_length; /* or HEAD_LENGTH_NONE */
	bool chunked;
	bool close, keep_alive, upgrade; /* Connection: options (RFC 9112 9.6, 9.3; RFC 9110 7.8) */
	bool websocket;                  /* Upgrade: has it */
	bool expect_continue;            /* Expect: 100-continue */
	bool expect_other;               /* Expect: anything else */
	unsigned n_hosts;
	struct text host;
	struct text websocket_key, websocket_accept;
};

/* The first line alone, without its CRLF: OUTCOME_OK, or what to refuse it with (BAD_REQUEST, NOT_IMPLEMENTED,
 * VERSION_REFUSED); a bad status line is BAD_REQUEST too. */
enum outcome h1_request_line(const char *p, size_t n, struct h1_head *);
enum outcome h1_status_line(const char *p, size_t n, struct h1_head *);
/* A whole head as h1_scan() found it.  Copied into the arena once; every text of *head points there. OK, or
 * BAD_REQUEST, NOT_IMPLEMENTED, VERSION_REFUSED, HEADER_TOO_LARGE, METHOD_REFUSED. What was understood stays in *head. */
enum outcome h1_parse_request(struct h1_head *, struct arena *, const unsigned char *p,
    const struct h1_scan *, const struct h1_limits *);
enum outcome h1_parse_response(struct h1_head *, struct arena *, const unsigned char *p,
    const struct h1_scan *, const struct h1_limits *);
/* Trailers: n bytes, from the first field line to the empty line, both included. Those not allowed are left out. */
enum outcome h1_parse_trailers(struct fields *, struct arena *, const unsigned char *bytes,
    size_t n, const struct h1_limits *, bool request);

/* Steps of the above: blanks off both ends; the list sorted (OK, BAD_REQUEST or NOT_IMPLEMENTED). */
struct text h1_trim(struct text);
enum outcome h1_sort_fields(struct h1_head *);

/* --- request semantics (h1_request.c) ------------------------------------ */

/* RFC 9112 3.2 and 6, RFC 9110 7.2, 7.8, 10.1.1.  Fills *to as far as it is understood, whatever the outcome. */
enum outcome h1_request(struct head *to, const struct h1_head *from, struct arena *);

/* --- the chunked coding (h1_chunk.c) -------------------------------------- */

struct h1_chunks {
	unsigned char state;
	unsigned char digits; /* of the size */
	bool extended;        /* this chunk has an extension */
	uint64_t left;        /* of the chunk under way */
	size_t line;          /* bytes of this size line */
	size_t extensions;    /* bytes, all chunks */
	uint64_t n_chunks;    /* with data, so far */
};
enum h1_chunk {
	H1_CHUNK_MORE,  /* all bytes used, nothing to deliver */
	H1_CHUNK_BEGUN, /* a chunk's size is known and not 0 */
	H1_CHUNK_DATA, /* c->left bytes of data come next; the caller takes them with h1_chunk_took() */
	H1_CHUNK_TRAILERS, /* the last chunk's line is done: the trailer section follows */
	H1_CHUNK_BAD,
};
void h1_chunk_init(struct h1_chunks *);
/* Goes on at p; *used says how many bytes of framing were taken. */
enum h1_chunk h1_chunk_next(struct h1_chunks *, const unsigned char *p, size_t n, size_t *used);
void h1_chunk_took(struct h1_chunks *, size_t n);

/* --- heads out (h1_write.c) ----------------------------------------------- */

struct h1_writer {
	struct buf *to;
	unsigned char *begin, *at, *end; /* reserved, not yet committed */
	size_t total;
};
void h1_write_begin(struct h1_writer *, struct buf *to, size_t estimate);
void h1_write_long(struct h1_writer *, const void *, size_t);
static inline void
h1_write(struct h1_writer *w, const void *p, size_t n)
{
	if (n == 0 || n > (size_t)(w->end - w->at)) {
		h1_write_long(w, p, n);
		return;
	}
	memcpy(w->at, p, n);
	w->at += n;
	w->total += n;
}
void h1_write_number(struct h1_writer *, uint64_t, unsigned base);
void h1_write_field(struct h1_writer *, const char *name, size_t, const char *value, size_t);
/* The end-to-end ones of the list: what is hop-by-hop, framing or the codec's own is left out, whoever put it in. */
void h1_write_fields(struct h1_writer *, const struct fields *);
size_t h1_write_end(struct h1_writer *); /* bytes written in all */
#define H1_WRITE(w, literal) h1_write((w), "" literal, sizeof(literal) - 1)

/* Every name a token, every value without CTL: the check before anything is written (RFC 9110 5). */
bool h1_fields_valid(const struct fields *);
/* "Sun, 06 Nov 1994 08:49:37 GMT"; made once per second and thread. 29 bytes. */
const char *h1_date(int64_t wall_ms);
/* Trailers and the end of a chunked message; bytes written. */
size_t h1_write_trailers(struct buf *, const struct fields *);

/* A whole small answer with `Connection: close`, for when nobody else can answer any more. */
size_t h1_write_refusal(struct buf *, enum outcome why, int64_t wall_ms);

/* --- bodies both ways (h1.c) ----------------------------------------------- */

enum h1_framing { H1_NONE, H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE, H1_TUNNEL };

/* One message exchange on a connection: the base of both codecs' state.
 * Receiving: bytes of conn->in become body events, at most STREAM_CREDIT of them not given back (fewer while held).
 * Sending:   verbs append to conn->out; what left it is reported as drained. */
struct h1 {
	struct stream stream; /* first */
	struct conn *conn;
	bool open; /* somebody has the stream: neither closed() nor reset() yet */

	enum h1_framing in;
	bool in_ended;    /* the end was delivered */
	bool in_trailers; /* the last chunk has been seen */
	int64_t in_left;  /* H1_LENGTH */
	size_t in_credit; /* delivered and not given back */
	size_t in_moved;  /* given back, up to STREAM_HELD */
	size_t ahead;     /* what hold() allows; 0: it was not called */
	struct h1_chunks chunks;
	struct h1_scan scan; /* of the head, then of the trailers */

	enum h1_framing out;
	bool out_ended;
	bool out_short;     /* ended before content-length bytes */
	bool out_excess;    /* more was given than content-length: not written */
	int64_t out_left;   /* H1_LENGTH */
	size_t out_framing; /* bytes in conn->out that are no body */
	size_t out_body;    /* body bytes not yet reported as drained */
};

void h1_init(struct h1 *, struct conn *, const struct stream_verbs *);
void h1_fini(struct h1 *);
void h1_reopen(struct h1 *); /* for the next message exchange */

/* What is in `in` of a body, one piece: fires one event at most.  Returns the bytes used; 0 when more is needed or the credit
 * is used up (PAUSE_CREDIT set).  *why is set when the framing is broken: BAD_REQUEST or HEADER_TOO_LARGE.
 * *tiny counts chunks that are hardly worth their framing. */
size_t h1_receive(struct h1 *, struct slice in, const struct h1_limits *, bool request,
    enum outcome *why, unsigned *tiny);
/* End of input as the end of a body: H1_UNTIL_CLOSE and H1_TUNNEL. */
void h1_receive_end(struct h1 *);
/* Ends the stream, if it is open still. */
void h1_closed(struct h1 *, enum outcome);
/* Bytes left conn->out: fires drained(). */
void h1_drained(struct h1 *, size_t sent);

/* The verbs that are the same on both sides. */
void h1_send_body(struct stream *, struct slice, bool end);
void h1_send_trailers(struct stream *, const struct fields *);
void h1_consumed(struct stream *, size_t);
void h1_hold(struct stream *, size_t ahead);

#endif
