/*
 * HTTP/2 (RFC 9113) as both sides share it: an nghttp2 session between a conn and its streams.
 *
 *   conn->in  --h2_watch (budget)--> nghttp2_session_mem_recv --> events of the streams
 *   verbs --> nghttp2_submit_*, stream->out --> nghttp2_session_mem_send --> conn->out
 *
 * nghttp2 frames, compresses, keeps windows and states.  Ours: the queue of body bytes per stream (framed
 * into conn->out without a copy), credit, the header block as fields, limits, and when a connection ends.
 * front_h2 and back_h2 give it a role.
 *
 * Callbacks of nghttp2 come only from input() and produce(), so events may fire in them; what a verb finds wrong
 * waits as a "doom" for the next produce().
 *
 * Memory a peer can make one stream hold: H2_STREAM_WINDOW of body not yet consumed (that is its receive window),
 * header_bytes of decoded fields, and what the exchange queued.  One connection: its window besides.
 *
 * Owner: the conn it serves, as codec_state.  Thread: the worker's.
 */
#ifndef TEAL_H2_H
#define TEAL_H2_H

#include <nghttp2/nghttp2.h>
#include <sys/queue.h>

#include "proxy/base/buf.h"
#include "proxy/codec/conn.h"
#include "proxy/codec/h2_watch.h"
#include "proxy/message/stream.h"

#define H2_STREAM_WINDOW     ((int32_t)(4 * STREAM_CREDIT)) /* 256 KiB */
#define H2_FIRST_WINDOW      12288 /* back: it grows as bytes move; at most STREAM_HELD */
#define H2_FRONT_CONN_WINDOW ((int32_t)1 << 20)
#define H2_BACK_CONN_WINDOW  ((int32_t)1 << 24)
#define H2_QUEUE_HIGH        ((size_t)256) /* frames nghttp2 has queued: reading pauses above */
#define H2_QUEUE_LOW         ((size_t)64)
#define H2_BLOCK_EXCESS                                                                            \
	((size_t)65536) /* decoded bytes over the limit: the stream is reset, not answered */

struct h2;
struct h2_stream;

/* A header block as it comes in. */
struct h2_block {
	struct fields fields; /* regular ones that are kept; in the stream's block_arena */
	size_t
	    bytes; /* decoded, of every field: pseudo, crumbs and dropped ones too (RFC 7541 4.1) */
	unsigned count;
	unsigned crumbs; /* cookie fields in `fields` */
	struct text method, scheme, authority, path, protocol, host, expect;
	unsigned status;
	int64_t content_length;
	bool has_expect;
	bool too_large; /* over the limits: nothing of it is kept */
};

#define H2_STREAM_MAGIC 0x42574ea1u

struct h2_stream {
	struct stream stream; /* first */
	uint32_t magic;
	int32_t id; /* 0: a back stream that was not submitted yet */
	struct h2 *h2;
	LIST_ENTRY(h2_stream) link;
	LIST_ENTRY(h2_stream) drained_link; /* while drained > 0 */
	struct buf out;                     /* body bytes not framed yet */
	size_t drained;                     /* framed since the last drained() event */
	size_t unconsumed;    /* delivered by body(), not given back: part of both windows */
	int32_t window;       /* back: how far the peer may be ahead; front: 0, nghttp2 knows */
	int32_t window_max;   /* back: how far that may grow, see hold() */
	size_t moved;         /* back: given back at this window */
	nghttp2_nv *trailers; /* to send after the body; in stream.arena */
	size_t n_trailers;
	struct h2_block block;
	struct arena block_arena; /* back: the response's block.  Front blocks go to stream.arena */
	enum outcome doom;        /* what closed() will say, once `doomed` */
	uint64_t bytes_framed;
	uint64_t slow_mark, still_mark; /* front: bytes_framed at an earlier look, ... */
	int64_t slow_ms, still_ms;      /* ... and when that was; 0: not under watch */
	int64_t linger_ms;              /* front: see front_h2_linger(); 0: nothing */
	uint64_t rx_mark;   /* back: bytes the connection had received when it was opened */
	unsigned n_interim; /* back: 1xx received */
	unsigned n_relayed; /* back: of them passed on */
	bool doomed;        /* closed() is due */
	bool head_in;       /* the peer's (final) head has come */
	bool head_out;      /* ours has been submitted */
	bool end_in;        /* the peer's message is complete */
	bool out_ended;     /* the exchange has ended its message; `out` may hold some of it yet */
	bool end_out;       /* END_STREAM is framed */
	bool deferred;      /* nghttp2 waits for nghttp2_session_resume_data() */
	bool discard;       /* body bytes are given back at once, no event */
	bool peer_reset;
	bool abandoned;    /* back: reset() before it was submitted */
	bool websocket;    /* extended CONNECT (RFC 8441) */
	bool tunnel;       /* it was accepted */
	bool asked_100;    /* back: Expect: 100-continue was sent */
	bool head_request; /* back: the request was HEAD */
	bool reused;       /* back: not the first stream of its connection */
	/* In stream.arena.  Back: a request that waits for the peer's SETTINGS.  Front: an answer's head that waits for
	 * its body. */
	nghttp2_nv *held;
	size_t n_held;
};
LIST_HEAD(h2_stream_list, h2_stream);

/* What front and back do differently.  None is called inside a verb. */
struct h2_role {
	/* The peer begins a request (front only). NULL: refuse it. */
	struct h2_stream *(*begin)(struct h2 *, int32_t id);
	/* s->block is complete: a request head, or a response head (1xx too). */
	void (*head)(struct h2_stream *, bool end);
	/* END_STREAM of ours is framed. */
	void (*end_out)(struct h2_stream *);
	/* A frame without a stream, or RST_STREAM.  The stream's own bookkeeping is done. */
	void (*frame)(struct h2 *, const nghttp2_frame *);
	/* nghttp2 has closed the stream: what to tell the exchange. */
	enum outcome (*outcome)(struct h2_stream *, uint32_t code);
	/* The connection ends with streams under way: what to tell each. */
	enum outcome (*cut)(struct h2_stream *);
	void (*stream_gone)(struct h2 *);
	/* n of the budget of useless work. false: spent. */
	bool (*glitch)(struct h2 *, unsigned n);
	/* After every input, output and timer, outside nghttp2. */
	void (*settled)(struct h2 *);
};

#define H2_MAGIC 0x48320c0du

struct h2 {
	uint32_t magic;
	struct conn *conn;
	const struct h2_role *role;
	nghttp2_session *session;
	struct h2_watch watch;
	struct h2_stream_list streams;
	struct h2_stream_list drained;
	unsigned n_streams;
	size_t header_bytes; /* limits of a received header block, decoded */
	unsigned header_count;
	size_t queued;             /* body bytes in all streams' `out` */
	struct chunk *in;          /* of the bytes nghttp2 is being fed */
	struct h2_stream *reading; /* whose header block is being read: each of its fields asks */
	uint32_t error; /* HTTP/2 code, with `failing`: the connection ends once outside nghttp2 */
	bool failing;
	bool ended;  /* GOAWAY is out (or the conn lost): nothing more is taken or made */
	bool paused; /* PAUSE_CODEC is set: too much waits for output */
	bool any_doomed;
};

/* --- h2.c: the session ------------------------------------------------------ */

/* Session, SETTINGS and window, with everything queued; the caller then sets the codec. */
void h2_init(struct h2 *, struct conn *, const struct h2_role *, bool server,
    const nghttp2_settings_entry *, size_t n, const nghttp2_option *);
void h2_fini(struct h2 *);
/* The parts of codec_ops that are the same on both sides. */
size_t h2_input(struct conn *, struct slice);
void h2_produce(struct conn *);
/* Ends the connection: GOAWAY with this code, closed() on every stream, close after the flush.  Not inside nghttp2, not inside a verb. */
void h2_end(struct h2 *, uint32_t code);
/* The same when the transport is gone: only closed(); `why` NULL asks the role. */
void h2_cut(struct h2 *, const enum outcome *why);
/* From inside nghttp2: h2_end() as soon as possible. */
void h2_fail(struct h2 *, uint32_t code);
/* After something was done outside input and output: an end that is due, pauses, the role's settled(). */
void h2_settle(struct h2 *);
nghttp2_option *h2_option_new(unsigned reset_burst, unsigned reset_rate);

/* --- h2_stream.c: a stream's life and its body ---------------------------------- */

struct h2_stream *h2_stream_new(struct h2 *, const struct stream_verbs *);
void h2_stream_free(struct h2_stream *);
static inline struct h2_stream *
h2_stream_of(struct stream *s)
{
	struct h2_stream *hs = (struct h2_stream *)(void *)s;

	CHECK_MAGIC(hs, H2_STREAM_MAGIC);
	return hs;
}
/* Tells what was drained, then closed(); at most once. */
void h2_stream_close(struct h2_stream *, enum outcome);
/* From a verb: closed(why) and RST_STREAM follow in produce(). */
void h2_doom(struct h2_stream *, enum outcome why);
/* Verbs that are the same on both sides. */
void h2_send_body(struct stream *, struct slice, bool end);
void h2_send_trailers(struct stream *, const struct fields *);
void h2_consumed(struct stream *, size_t n);
/* n received bytes are done with: credit for the connection, and for the stream (NULL: nghttp2 has forgotten it, or
 * nobody knows it) when more of it is wanted. */
void h2_credit(struct h2 *, const struct h2_stream *, int32_t id, size_t n);
void h2_hold(struct stream *, size_t ahead);
/* Back: the window to what it should be; what is missing goes out when it is worth a frame. */
void h2_widen(struct h2_stream *);
/* reset()'s shared part: nobody listens any more, credit is given back. */
void h2_detach(struct h2_stream *);
void h2_drop_queue(struct h2_stream *);
void h2_reset(struct h2_stream *, uint32_t code);
/* There is something to send, or an end. */
void h2_kick(struct h2_stream *);
void h2_tell_drained(struct h2 *);
/* nghttp2's: where DATA comes from. */
nghttp2_data_provider h2_body_source(struct h2_stream *);
int h2_send_data(nghttp2_session *, nghttp2_frame *, const uint8_t *head, size_t n,
    nghttp2_data_source *, void *);
void h2_stream_fini_thread(void); /* frees what this thread's free lists hold */

/* --- h2_fields.c: fields in and out -------------------------------------------------- */

void h2_block_begin(struct h2_stream *);
/* One decoded field. -1: so far over the limit that the block is not worth reading on. */
int h2_block_add(
    struct h2_stream *, struct arena *, struct text name, struct text value, bool trailers);
/* RFC 9113 8.2.3: the crumbs of a cookie become one field again. */
void h2_block_join_cookies(struct h2_block *, struct arena *);

/* A list of fields to submit.  `bad` is set when one of them may not be sent: nothing is repaired. */
struct h2_nva {
	nghttp2_nv *nv;
	size_t n, room;
	bool bad;
};
/* Room for n; from the arena when there are many, else in the thread's scratch: submit it before the next begin. */
void h2_nva_begin(struct h2_nva *, struct arena *, size_t n);
/* name: a literal, lower case. */
void h2_nva_pseudo(struct h2_nva *, struct text name, struct text value);
void h2_nva_field(struct h2_nva *, enum field_id, struct text value);
/* The end-to-end ones; in trailers only those allowed there. */
void h2_nva_fields(struct h2_nva *, const struct fields *, bool trailers);
/* A copy that outlives the call. */
nghttp2_nv *h2_nva_keep(const struct h2_nva *, struct arena *);

/* --- h2_mem.c ---------------------------------------------------------------------- */

nghttp2_mem *h2_mem(void);
void h2_mem_fini(void); /* this thread's free lists; no session may be left on it */

#endif
