/*
 * Messages to a thread: many senders, one receiver, no lock; an eventfd tells the receiver's loop.
 * A letter belongs to the sender until posted, to the receiver afterwards.
 * Source: Treiber stack, taken whole and turned round, so letters arrive in the order they were posted.
 */
#ifndef TEAL_MAILBOX_H
#define TEAL_MAILBOX_H

#include <stdatomic.h>

struct letter { /* embedded first in the message */
	struct letter *next;
	void (*deliver)(
	    struct letter *, void *receiver); /* on the receiver's thread; owns the letter */
};

struct mailbox {
	_Atomic(struct letter *) head;
	int fd; /* eventfd, non-blocking: becomes readable */
};

int mailbox_init(struct mailbox *); /* 0, or -1 with errno */
void mailbox_fini(struct mailbox *);
void mailbox_post(struct mailbox *, struct letter *);   /* any thread */
void mailbox_deliver(struct mailbox *, void *receiver); /* receiver's thread */

#endif
