/*
 * A worker: one thread, one epoll loop, its own listening sockets (SO_REUSEPORT) and connections.
 * It shares nothing with the others but the script, of which it takes a copy when control says
 * so.
 */
#ifndef ORIGIN_WORKER_H
#define ORIGIN_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <nghttp2/nghttp2.h>

#include "bench/origin/script.h"
#include "bench/origin/timers.h"

#define LISTENERS  1024
#define WORKERS    16
#define INPUT_SIZE ((size_t)65536)
#define STAGE_SIZE ((size_t)262144)

struct origin;
struct conn;
struct stream;
struct worker;

/* Written by one worker, read by control. */
struct counters {
	_Atomic uint64_t requests, failed, hung, delayed, probes; /* requests: without probes */
	_Atomic uint64_t connections, open;
	_Atomic uint64_t first_fault_us, last_fault_us; /* 0: none */
};

static inline void
count(_Atomic uint64_t *one)
{
	atomic_store_explicit(
	    one, atomic_load_explicit(one, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* What epoll tells of. */
struct source {
	void (*ready)(struct source *, uint32_t events);
};

struct door {
	struct source source; /* first */
	struct worker *worker;
	int fd; /* -1: closed */
};

struct worker {
	struct origin *origin;
	pthread_t thread;
	int epoll;
	int wake;  /* eventfd: there is a new script, or the end */
	int spare; /* a descriptor to give up when there is no other */
	struct source woken;
	struct door doors[LISTENERS];
	LIST_HEAD(, conn) conns;
	struct timers timers;
	struct script script;
	uint64_t seen; /* the script's number; under the origin's lock */
	uint64_t dice;
	struct stream *streams; /* free ones */

	/* what the connection whose turn it is writes; empty between turns */
	size_t staged;
	/* the head of the usual answer, made when the script changes */
	size_t n_usual;
	char usual[256];

	_Alignas(64) struct counters counters;
	_Alignas(64) unsigned char input[INPUT_SIZE];
	unsigned char stage[STAGE_SIZE];
};

struct listener {
	const char *name; /* as given */
	bool local;       /* a Unix socket */
	socklen_t n_address;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un un;
	} address;
	int reserve;      /* bound and never listening: keeps the port while nobody listens; -1 */
	int fds[WORKERS]; /* given to the workers with the next script; -1 */
};

struct origin {
	unsigned n_listeners, n_workers;
	struct listener listeners[LISTENERS];
	struct worker *workers[WORKERS];
	SSL_CTX *tls; /* NULL: clear */
	nghttp2_session_callbacks *h2;
	nghttp2_option *h2_options;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t adopted;
	struct script script;
	uint64_t number; /* of the script */
	bool ending;
};

struct worker *worker_start(struct origin *, unsigned i); /* NULL: errno */
void worker_free(struct worker *);                        /* after its thread has ended */

/* Makes it everybody's script; returns when every worker goes by it. */
void origin_publish(struct origin *, const struct script *);
void origin_end(struct origin *); /* ends and joins all workers */

int listener_parse(struct listener *, const char *text); /* ADDR:PORT, [v6]:PORT, unix:/path */
int listener_start(
    struct listener *, unsigned workers); /* -1: errno; EADDRINUSE: another program's */
int listener_open(struct listener *, unsigned workers); /* again, after it was closed */
void listener_print(const struct listener *);           /* a line, with the port it really has */
void listener_remove(struct listener *);                /* at the end */

#endif
