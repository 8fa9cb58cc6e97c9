/* Letters between threads.  See mailbox.h. */
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proxy/base/mailbox.h"

int
mailbox_init(struct mailbox *m)
{
	atomic_init(&m->head, NULL);
	m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return m->fd == -1 ? -1 : 0;
}

void
mailbox_fini(struct mailbox *m)
{
	if (m->fd != -1)
		close(m->fd);
	m->fd = -1;
}

void
mailbox_post(struct mailbox *m, struct letter *l)
{
	uint64_t one = 1;
	ssize_t n;

	l->next = atomic_load_explicit(&m->head, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(
	    &m->head, &l->next, l, memory_order_release, memory_order_relaxed))
		;
	/* The only failure is a counter at its maximum, and then the receiver is awake anyway. */
	n = write(m->fd, &one, sizeof(one));
	(void)n;
}

void
mailbox_deliver(struct mailbox *m, void *receiver)
{
	struct letter *l, *next, *in_order = NULL;
	uint64_t count;
	ssize_t n;

	n = read(m->fd, &count, sizeof(count));
	(void)n;
	l = atomic_exchange_explicit(&m->head, NULL, memory_order_acquire);
	for (; l != NULL; l = next) {
		next = l->next;
		l->next = in_order;
		in_order = l;
	}
	for (l = in_order; l != NULL; l = next) {
		next = l->next;
		l->deliver(l, receiver);
	}
}
