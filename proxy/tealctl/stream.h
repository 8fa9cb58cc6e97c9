/*
 * Server-sent events out of an HTTP/1.1 response, byte by byte (WHATWG HTML section 9.2; chunks:
 * RFC 9112 section 7.1).
 *
 * Pure: no socket.  Lines, and so events, are bounded by STREAM_LINE_MAX.
 */
#ifndef TEALCTL_STREAM_H
#define TEALCTL_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#define STREAM_LINE_MAX (1024u * 1024) /* bytes, of a line and of an event's data */

/* One event; id and type may be "", data lines are joined by newlines. */
typedef void stream_event(void *arg, const char *id, const char *type, const char *data);

enum stream_state {
	STREAM_HEAD,  /* the response's head, line by line */
	STREAM_PLAIN, /* the body, not in chunks */
	STREAM_SIZE,  /* a chunk's size */
	STREAM_CHUNK,
	STREAM_CHUNK_END,
	STREAM_OVER,
};

/* Bytes that grow. */
struct stream_text {
	char *text;
	size_t n, size;
};

struct stream {
	enum stream_state state;
	unsigned status; /* of the response; 0: not yet */
	bool chunked;
	char size[32]; /* of the next chunk, as it is read */
	size_t size_n;
	size_t left; /* of the chunk */
	struct stream_text head, line, data;
	char id[64], type[64];
	stream_event *event;
	void *arg;
};

void stream_begin(struct stream *, stream_event *, void *arg);
void stream_fini(struct stream *);
/* 0; 1: the response is over, or is no stream (see status); -1: not HTTP, or too long. */
int stream_feed(struct stream *, const char *bytes, size_t n);

#endif
