/* getaddrinfo on its own thread.  See resolver.h. */
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/base/obj.h"
#include "proxy/process/resolver.h"

#define STOP_WAIT_S 2

struct resolver {
	struct mailbox mailbox;
	pthread_t thread;
	bool stop;            /* the resolver thread's */
	pthread_mutex_t lock; /* of: */
	bool abandoned;       /* nobody is there any more to be answered */
	struct letter stop_letter;
};

void
resolve_now(struct lookup *l)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
			    .ai_socktype = SOCK_STREAM,
			    .ai_flags = AI_NUMERICSERV},
			*all = NULL;
	char port[8];
	int error;

	snprintf(port, sizeof(port), "%u", l->port);
	error = getaddrinfo(l->host, port, &hints, &all);
	l->error = error != 0 ? gai_strerror(error) : NULL;
	for (struct addrinfo *a = all; a != NULL && l->target.n < TARGET_ADDRESSES;
	     a = a->ai_next) {
		memcpy(&l->target.at[l->target.n].address, a->ai_addr, a->ai_addrlen);
		l->target.at[l->target.n++].length = a->ai_addrlen;
	}
	if (all != NULL)
		freeaddrinfo(all);
}

static void
look_up(struct letter *letter, void *receiver)
{
	struct lookup *l = (struct lookup *)(void *)letter;
	struct resolver *r = receiver;

	resolve_now(l);
	l->letter.deliver = l->replied;
	pthread_mutex_lock(&r->lock);
	if (!r->abandoned)
		mailbox_post(l->reply_to, &l->letter);
	else
		free(l);
	pthread_mutex_unlock(&r->lock);
}

static void
on_stop(struct letter *letter, void *receiver)
{
	struct resolver *r = receiver;

	(void)letter;
	r->stop = true;
}

static void *
run(void *arg)
{
	struct resolver *r = arg;
	struct pollfd pfd = {.fd = r->mailbox.fd, .events = POLLIN};

	while (!r->stop) {
		poll(&pfd, 1, -1);
		mailbox_deliver(&r->mailbox, r);
	}
	return NULL;
}

struct resolver *
resolver_new(void)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	if (mailbox_init(&r->mailbox) == -1) {
		free(r);
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	if (pthread_create(&r->thread, NULL, run, r) != 0) {
		mailbox_fini(&r->mailbox);
		free(r);
		return NULL;
	}
	return r;
}

void
resolver_ask(struct resolver *r, struct lookup *l)
{
	l->letter.deliver = look_up;
	mailbox_post(&r->mailbox, &l->letter);
}

void
resolver_free(struct resolver *r)
{
	struct timespec until;

	if (r == NULL)
		return;
	r->stop_letter.deliver = on_stop;
	mailbox_post(&r->mailbox, &r->stop_letter);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_WAIT_S;
	/* A lookup that hangs in a dead name server must not hold up the end: the process takes it
	 * along. */
	if (pthread_timedjoin_np(r->thread, NULL, &until) != 0) {
		pthread_mutex_lock(&r->lock);
		r->abandoned = true;
		pthread_mutex_unlock(&r->lock);
		return;
	}
	pthread_mutex_destroy(&r->lock);
	mailbox_fini(&r->mailbox);
	free(r);
}
