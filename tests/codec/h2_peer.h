/*
 * The other end of an HTTP/2 connection for codec tests: a second nghttp2 session (client or server) over a
 * memory_transport, or hand-built frames for what nghttp2 will not send; and an ear: a fake exchange that writes
 * down every event of a stream and insists that closed() comes once and last.
 *
 * Owner: the test.  One thread.
 */
#ifndef TEAL_H2_PEER_H
#define TEAL_H2_PEER_H

#include <nghttp2/nghttp2.h>

#include "proxy/message/stream.h"
#include "tests/codec/memory_transport.h"

#define PEER_STREAMS 512

struct bytes {
	char *p; /* NUL-terminated once something was added */
	size_t n, room;
};
void bytes_add(struct bytes *, const void *, size_t);
void bytes_text(struct bytes *, const char *);
void bytes_free(struct bytes *);

/* --- a peer that speaks -------------------------------------------------------------- */

struct peer_stream {
	int32_t id;
	struct bytes head; /* "name: value\n" each, 1xx blocks end with "--\n" */
	struct bytes trailers;
	struct bytes body;
	bool interim; /* the block under way is a 1xx */
	bool head_done;
	bool end; /* END_STREAM was received */
	bool closed;
	uint32_t code;        /* it was closed with */
	struct bytes to_send; /* our body */
	size_t sent;
	bool hold; /* more is to come: no END_STREAM */
	const nghttp2_nv *end_trailers;
	size_t n_end_trailers;
};

struct h2_peer {
	nghttp2_session *session;
	struct memory_transport *mt;
	struct turn *turn;
	struct peer_stream streams[PEER_STREAMS];
	unsigned n_streams;
	unsigned n_goaway;
	uint32_t goaway_code;
	int32_t goaway_last;
	unsigned n_resets;
	bool keep_window; /* received DATA is not consumed */
};

/* options may be NULL */
struct h2_peer *peer_new(struct turn *, struct memory_transport *, bool server,
    const nghttp2_settings_entry *, size_t n, bool keep_window);
void peer_free(struct h2_peer *);
/* Both sides until nothing moves. */
void peer_pump(struct h2_peer *);
struct peer_stream *peer_stream(struct h2_peer *, int32_t id);
#define NV(n, v)                                                                                   \
	{                                                                                          \
		(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1,               \
		    sizeof(v) - 1, 0                                                               \
	}
#define PEER_GET                                                                                   \
	NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"), NV(":path", "/")
#define PEER_POST                                                                                  \
	NV(":method", "POST"), NV(":scheme", "https"), NV(":authority", "a.test"),                 \
	    NV(":path", "/up")
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
/* body NULL: END_STREAM on HEADERS. `hold`: the body is not ended. */
int32_t peer_request(struct h2_peer *, const nghttp2_nv *, size_t n, const char *body, bool hold);
void peer_respond(
    struct h2_peer *, int32_t id, const nghttp2_nv *, size_t n, const char *body, bool hold);
void peer_more(struct h2_peer *, int32_t id, const void *, size_t n, bool end);

/* --- raw frames --------------------------------------------------------------------------- */

struct raw {
	struct bytes out;
	nghttp2_hd_deflater *deflater;
};
void raw_begin(struct raw *, bool client); /* preface and an empty SETTINGS */
void raw_end(struct raw *);
void raw_frame(
    struct raw *, uint8_t type, uint8_t flags, int32_t id, const void *payload, size_t n);
/* A header block; flags as given. */
void raw_headers(struct raw *, uint8_t flags, int32_t id, const nghttp2_nv *, size_t n);
size_t raw_block(struct raw *, const nghttp2_nv *, size_t n, uint8_t *to, size_t room);
/* Feeds what was built and pumps. */
void raw_send(struct raw *, struct turn *, struct memory_transport *);

/* What teal wrote, frame by frame. */
struct seen_frames {
	unsigned n[16]; /* by type */
	unsigned goaways;
	uint32_t goaway_code; /* the last's */
	int32_t goaway_last;
	uint32_t reset_code; /* the last's */
	int32_t reset_id;
	size_t data; /* payload bytes */
	bool torn;   /* the last frame is not whole */
};
/* Takes what was written. */
struct seen_frames raw_seen(struct memory_transport *);

/* --- the ear ---------------------------------------------------------------------------------- */

struct ear {
	struct stream *stream; /* NULL after closed or reset */
	struct bytes head;     /* "name: value\n" of the request or the final response */
	struct bytes interim;  /* statuses, "103 " each */
	struct head copy;      /* scalars only; texts are dead for a back ear */
	struct bytes method, path, authority;
	struct bytes body, trailers;
	bool ended;
	bool head_end;
	enum outcome refused; /* OUTCOME_OK: not */
	unsigned closed;
	enum outcome outcome;
	size_t drained;
	bool hold_credit; /* consumed() is the test's */
	size_t unconsumed;
	void (*on_head)(struct ear *);
	void (*on_body)(struct ear *);
	void (*on_drained)(struct ear *, size_t);
	void (*on_closed)(struct ear *);
};
extern const struct stream_events ear_events;
void ear_listen(struct ear *, struct stream *);
void ear_take_head(struct ear *, const struct head *, bool end);
void ear_reset(struct ear *, enum outcome);
void ear_free(struct ear *);
/* A response (or, with `method` set, a request) head on the stack of the caller. */
void ear_answer(struct ear *, unsigned status, const char *body, bool end);
void ear_body(struct ear *, const char *, bool end);

#endif
