/*
 * A real loop for tests of real sockets: an event_base, a turn, and sides whose codec collects
 * what comes.  Tests wait for conditions; nothing sleeps.
 */
#ifndef TEAL_TESTS_LOOP_H
#define TEAL_TESTS_LOOP_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "proxy/codec/conn.h"

struct loop {
	struct event_base *base;
	struct turn turn;
	struct event *tick;
	bool busy;
	unsigned long rounds;
};

void loop_init(struct loop *);
void loop_fini(struct loop *);
void loop_once(struct loop *); /* waits for something to happen, 20 ms at most */
/* Until the condition holds; 10 s are a failure. */
#define LOOP_UNTIL(loop, condition)                                                                \
	do {                                                                                       \
		int64_t until_ = loop_now_ms() + 10000;                                            \
		while (!(condition)) {                                                             \
			assert_true(loop_now_ms() < until_);                                       \
			loop_once(loop);                                                           \
		}                                                                                  \
	} while (0)
int64_t loop_now_ms(void);
/* How many wake-ups 100 ms in which nobody sends anything take: a few ticks, thousands when
 * somebody spins. */
unsigned long loop_idle_rounds(struct loop *);
#define IDLE_ROUNDS_MAX 20

/* One end: a conn and what it saw. */
struct side {
	struct conn conn; /* first */
	struct loop *loop;
	char *received; /* NUL-terminated, never NULL */
	size_t n_received;
	unsigned n_established, n_eof, n_lost;
	enum outcome why;
	bool gone;
	bool echo; /* sends back what it gets */
	bool keep; /* lets the input lie, paused */
};

/* The side starts its transport at once; it lives until side_free(). */
struct side *side_new(struct loop *, struct transport *, bool front);
void side_free(struct side *); /* closes what is open */
void side_send(struct side *, const void *, size_t);

/* A connected pair of TCP sockets on loopback, both non-blocking. */
void tcp_pair(int fd[2]);
/* A socket that listens on loopback; its address is put there. */
int tcp_listen(struct sockaddr_storage *, unsigned *len);
int tcp_accept(int fd); /* non-blocking; waits for one */

#endif
