/*
 * THE contract: one request and its response on one connection, seen from the exchange.
 * Four codecs (front_h1, front_h2, back_h1, back_h2), `local` and the tests' fake
 * implement it; the exchange never learns which it talks to.
 *
 *   front stream: the client's side.  Events carry the request, verbs the response.
 *   back stream:  the backend's side. Verbs carry the request, events the response.
 *
 * VERBS (called by the exchange)
 *   send_head(head, end)   front: response head; status < 200 is interim and may come several times, never with
 *                          `end`.  back: the request head, once, first.  `end`: no body, no trailers follow.
 *                          The head's memory is only borrowed for the call.
 *   send_body(slice, end)  queues body bytes.  n may be 0 with end.  Always accepted; who gives too much is bounded by the
 *                          credit rule below.  After a tunnel began (101, or 2xx to an extended CONNECT), raw bytes.
 *   send_trailers(fields)  ends the message.  A codec that cannot send them (HTTP/1.1 without chunked, HTTP/1.0) drops the
 *                          fields but still ends the message.
 *   consumed(n)            n bytes of the body events were passed on: credit for the peer.
 *   hold(ahead)            back: from now on the peer may be this far ahead of consumed() instead of a whole credit; what it was
 *                          allowed before may still come.  STREAM_HELD is the least: every stream moves on, none starves; it may be
 *                          less for one of which nothing has moved yet.  front: nothing happens.
 *   reset(why)             abandons the stream: no event fires after this call, not even closed; the pointer is dead for the
 *                          caller.  Front h2: RST_STREAM (code from `why`: CANCEL, NO_ERROR, INTERNAL_ERROR, ...), front h1: the
 *                          connection is closed (after flushing what is queued when the response had been ended; else at once).  Back
 *                          h2: RST_STREAM CANCEL when not both ends were reached, back h1: the connection is closed unless the
 *                          message exchange was complete on both sides, in which case it goes to the idle pool.
 *
 * EVENTS (called by the codec; never inside a verb; each may call verbs of either side)
 *   head(head, end)        back: response head (1xx too, with end = false; 101 only as the answer to a websocket head).  A front
 *                          stream's request head comes through struct front_handler instead.
 *                          The front's request head lives in stream->arena until the stream is gone.  A back head lives for the call.
 *   body(slice, end)       body bytes; n may be 0 with end.  Keep by buf_append_slice() or copy.  Each byte must sooner or later be
 *                          given back by consumed(); the codec stops reading this stream's bytes while STREAM_CREDIT are outstanding (h1:
 *                          stops reading the connection, h2: window).
 *   trailers(fields)       ends the message (no body(end) before or after).  Only fields allowed in trailers are in it.
 *   drained(n)             n bytes of earlier send_body left for the transport: the exchange passes this on as consumed(n) on the other side.
 *   progress is visible as drained(); a slow peer is one that does not drain.
 *   closed(outcome)        exactly once and last, unless reset() was called: OUTCOME_OK when both messages were complete and
 *                          everything sent was handed to the transport; otherwise what went wrong on this side:
 *                            back:  CONNECT_*, BACK_TLS_FAILED, BACK_REFUSED, BACK_GOAWAY, BACK_STALE (a reused connection closed before a byte
 *                                   of the answer), BACK_RESET (before the head was complete), BACK_MALFORMED, BACK_TOO_LARGE,
 *                                   BACK_TRUNCATED (after the head)
 *                            front: CLIENT_GONE, CLIENT_SLOW, BAD_REQUEST (malformed body framing), HEADER_TOO_LARGE (trailers), STOPPED
 *                          After closed the pointer is dead for the exchange.
 *
 * A response that ends before the request body has been sent (early response): the back codec delivers it normally; the exchange then
 * calls reset() on it or lets closed() come.  A front codec that has sent the end of the response while the request body is
 * still coming: h2 discards what the stream's window still allows and sends RST_STREAM NO_ERROR (RFC 9113 8.1) when the request has not
 * ended in 1 s; h1 discards a little (64 KiB, 1 s) and closes.
 *
 * WebSocket (RFC 6455, RFC 8441), the same on both sides whatever the versions:
 *   request   head->websocket is set, end is false, the method is GET and content_length NONE (front_h2 maps the extended CONNECT to this;
 *             back_h2 maps it back).  Sec-WebSocket-Key and -Accept are each codec's own (websocket.h) and never in head->fields; -Version, -Protocol,
 *             -Extensions are.
 *   accepted  status 101 with end = false: back_h1 from a checked 101, back_h2 from 2xx; front_h1 writes 101 with Upgrade, Connection and Accept,
 *             front_h2 writes 200.  From here on bodies are raw bytes both ways; `end` half-closes.
 *   refused   any other final response: a normal response.  The request has no body then: back_h1 has nothing more to send, front_h1 goes on with the next
 *             request; neither needs send_body(end) or fires body(end) for it.
 *   front_h1 holds back bytes that came after the request head until the 101 was sent (attack 34).
 *
 * 100-continue: head->expect_continue.  back codecs send Expect: 100-continue on; a 100 from the backend is an event like any 1xx and the
 * exchange sends it on by send_head(100).  A front h1 stream that never got a 100 may still send its body.
 *
 * Bodies of responses that have none (HEAD, 204, 304): the back codec fires head(end = true), whatever Content-Length said (kept in
 * content_length for HEAD and 304); front codecs write that Content-Length and no body.
 *
 * Threads: everything happens on one worker.
 */
#ifndef TEAL_STREAM_H
#define TEAL_STREAM_H

#include "balancer/outcome.h"
#include "proxy/base/buf.h"
#include "proxy/message/http.h"

#define STREAM_CREDIT ((size_t)65536)
#define STREAM_HELD   ((size_t)16384)

struct stream;

struct stream_verbs {
	void (*send_head)(struct stream *, const struct head *, bool end);
	void (*send_body)(struct stream *, struct slice, bool end);
	void (*send_trailers)(struct stream *, const struct fields *);
	void (*consumed)(struct stream *, size_t n);
	void (*hold)(struct stream *, size_t ahead);
	void (*reset)(struct stream *, enum outcome why);
};

struct stream_events {
	void (*head)(void *user, const struct head *, bool end);
	void (*body)(void *user, struct slice, bool end);
	void (*trailers)(void *user, const struct fields *);
	void (*drained)(void *user, size_t n);
	void (*closed)(void *user, enum outcome);
};

#define STREAM_MAGIC 0x5741ea11u

struct stream { /* first member of each codec's own stream struct */
	uint32_t magic;
	const struct stream_verbs *verbs;
	const struct stream_events *events; /* set by the exchange; NULL: nobody listens */
	void *user;
	struct arena arena;           /* memory of the request head (front); scratch (back) */
	struct front_conn *front;     /* front streams: the connection it came on; else NULL */
	uint64_t bytes_in, bytes_out; /* body bytes received and sent, for the log */
};

static inline void
stream_send_head(struct stream *s, const struct head *h, bool end)
{
	s->verbs->send_head(s, h, end);
}
static inline void
stream_send_body(struct stream *s, struct slice b, bool end)
{
	s->verbs->send_body(s, b, end);
}
static inline void
stream_send_trailers(struct stream *s, const struct fields *t)
{
	s->verbs->send_trailers(s, t);
}
static inline void
stream_consumed(struct stream *s, size_t n)
{
	s->verbs->consumed(s, n);
}
static inline void
stream_hold(struct stream *s, size_t ahead)
{
	s->verbs->hold(s, ahead);
}
static inline void
stream_reset(struct stream *s, enum outcome why)
{
	s->verbs->reset(s, why);
}

#endif
