/*
 * A connection: bytes in and out, clear or TLS, and what it speaks, which its first bytes tell.
 *
 * What is written in one turn is staged in the worker's buffer and goes out at the turn's end in
 * one call; only what the socket does not take is kept by the connection.  So an idle connection
 * holds no buffer.  A worker's thread.
 */
#ifndef ORIGIN_CONN_H
#define ORIGIN_CONN_H

#include <llhttp.h>

#include "bench/origin/answer.h"
#include "bench/origin/worker.h"

enum speaks {
	SPEAKS_UNKNOWN,
	SPEAKS_H1,
	SPEAKS_H2,
	SPEAKS_WEBSOCKET,
};

struct h1 {
	llhttp_t parser;
	struct request request;
	struct answer answer;
	struct timer timer;
	bool waiting; /* for the timer, or for ever */
	bool expects; /* 100-continue */
	bool websocket;
	unsigned n_name, n_value;
	char name[20];        /* of the field that is being read, if it is one that counts */
	char value[28];       /* its beginning */
	char key[25];         /* Sec-WebSocket-Key */
	unsigned char *later; /* input that came while it could not be looked at */
	size_t n_later, room;
};

struct websocket {
	unsigned char head[14];
	unsigned n_head;
	bool open;     /* the head is whole, the payload comes */
	uint64_t left; /* of the frame's payload */
	unsigned mask_at;
	unsigned char mask[4];
	unsigned char opcode;
};

struct h2 {
	nghttp2_session *session;
	struct stream *streams; /* in use */
};

struct conn {
	struct source source; /* first */
	struct worker *worker;
	LIST_ENTRY(conn) all;
	SSL *tls; /* NULL: clear */
	int fd;
	uint32_t armed;
	enum speaks speaks;
	unsigned sniffed; /* bytes that were like HTTP/2's preface */
	unsigned active;  /* requests that are worked on */
	bool deaf;        /* does not want input */
	bool last;        /* closes when everything is written */
	bool going;       /* HTTP/2: GOAWAY was said */
	bool dead;        /* freed at the end of its turn */
	/* what the socket did not take, then so much of the pattern */
	unsigned char *left;
	size_t left_at, n_left, room_left;
	size_t body_at, n_body;
	union {
		struct h1 h1;
		struct h2 h2;
		struct websocket ws;
	};
};

void conn_open(struct worker *, int fd); /* takes the descriptor */
void conn_free(struct conn *);

void conn_put(struct conn *, const void *, size_t);
/* n bytes of the pattern; nothing may be put behind them before conn_blocked() is false. */
void conn_put_body(struct conn *, size_t n);
void conn_flush(struct conn *);
static inline bool
conn_blocked(const struct conn *c)
{
	return c->n_left || c->n_body;
}
void conn_reset(struct conn *); /* RST, nothing more is written */
/* The end of a turn: writes what is staged, goes on with what waited for that, arms epoll, frees
 * the dead. */
void conn_settle(struct conn *);
/* Idle ones are closed, the others close when they are. */
void conn_refuse(struct conn *);

void h1_begin(struct conn *);
void h1_end(struct conn *);
void h1_input(struct conn *, unsigned char *, size_t);
bool h1_resume(struct conn *); /* looks at the input that waited; false: there was nothing to do */

int h2_begin(struct conn *);
void h2_end(struct conn *);
void h2_input(struct conn *, const unsigned char *, size_t);
void h2_output(struct conn *); /* stages frames until the connection is blocked */
void h2_refuse(struct conn *); /* no new streams */
int h2_init(struct origin *);
void h2_fini(struct origin *);
void h2_streams_free(struct worker *);

void websocket_accept(const char key[25], char accept[29]); /* RFC 6455 section 4.2.2 */
void websocket_begin(struct conn *);
void websocket_input(struct conn *, unsigned char *, size_t); /* changes the bytes */

SSL_CTX *tls_context(const char *chain, const char *key); /* NULL: printed */

#endif
