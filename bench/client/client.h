/*
 * What the client's two halves share: client.c opens connections, counts and reports, talk.c says
 * what is sent on one and looks at what comes back.  One thread.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/ssl.h>

#define ECHO_MAX  4000 /* a message fits the beginning of an answer */
#define TALK_SIZE 4096

enum kind { KIND_FULL, KIND_RESUME, KIND_ECHO, KIND_IDLE, KINDS };

enum conn_state {
	CONN_CLOSED,
	CONN_CONNECTING,
	CONN_TLS,
	CONN_ASK,
	CONN_ANSWER,
	CONN_MESSAGE, /* echo: a message is to be sent */
	CONN_ECHO,    /* echo: it is to come back */
	CONN_IDLE,
};

enum drive {
	DRIVE_WAIT,   /* for the peer */
	DRIVE_DONE,   /* the answer is whole */
	DRIVE_IDLE,   /* it is, and the connection stays */
	DRIVE_FAILED, /* close it */
};

struct conn {
	enum conn_state state;
	int fd; /* -1: none */
	bool resumed;
	SSL *ssl;
	SSL_SESSION *session; /* the last ticket; owned */
	uint64_t begun_ns;    /* this request, this message */
	size_t n_in;          /* bytes of the answer so far */
	char in[TALK_SIZE];   /* its beginning */
};

struct samples {
	float *us;
	size_t n, room;
};

struct client {
	enum kind kind;
	struct sockaddr_in to;
	const char *host; /* as given, with the port */
	unsigned n_conns;
	double seconds, warm;
	size_t body;
	bool h2;

	SSL_CTX *tls;
	int epoll;
	struct conn *conns;
	unsigned opened, idle;
	bool told_to_end;
	uint64_t failed, lost, resumed;
	struct samples samples;
};

uint64_t now_ns(void);

/* A message came back: its time is noted, the next begins. */
void client_done(struct client *c, struct conn *conn);

/* Makes the request (and the message) every connection sends. */
void talk_init(const struct client *c);

/* Goes on as far as it can without waiting. */
enum drive conn_drive(struct client *c, struct conn *conn);

#endif
