/* Reading PROXY headers.  See door.h. */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/obj.h"
#include "proxy/codec/proxy_protocol.h"
#include "proxy/process/door.h"

struct door {
	LIST_ENTRY(door) link;
	struct worker *worker;
	struct turn *turn;
	unsigned listener;
	int fd;
	uint8_t peer[16];
	uint16_t port;
	struct event event;
	struct timeout timer;
	struct proxy_reader reader;
};

static void
shut(struct door *d)
{
	event_del(&d->event);
	timeout_cancel(&d->turn->wheel, &d->timer);
	LIST_REMOVE(d, link);
	free(d);
}

static void
turn_away(struct door *d)
{
	close(d->fd);
	worker_turned_away(d->worker);
	shut(d);
}

static void
on_timer(struct timeout *t)
{
	turn_away(CONTAINER_OF(t, struct door, timer));
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct door *d = arg;
	struct proxy_header header;

	(void)what;
	turn_wake(d->turn);
	switch (proxy_read(&d->reader, fd, &header)) {
	case PROXY_MORE:
		break;
	case PROXY_BAD:
		turn_away(d);
		break;
	case PROXY_DONE:
		/* The socket's event must be gone before the transport makes its own. */
		event_del(&d->event);
		worker_admit(d->worker, d->listener, d->fd, header.known ? header.source : d->peer,
		    header.known ? header.source_port : d->port);
		shut(d);
		break;
	}
}

void
door_open(struct door_list *doors, struct worker *w, struct event_base *base, struct turn *turn,
    unsigned listener, int fd, const uint8_t peer[16], uint16_t port, int64_t timeout_ms)
{
	struct door *d = calloc(1, sizeof(*d));

	ENSURE(d != NULL);
	d->worker = w;
	d->turn = turn;
	d->listener = listener;
	d->fd = fd;
	memcpy(d->peer, peer, 16);
	d->port = port;
	LIST_INSERT_HEAD(doors, d, link);
	event_assign(&d->event, base, fd, EV_READ | EV_PERSIST, on_readable, d);
	event_add(&d->event, NULL);
	timeout_init(&d->timer, on_timer);
	timeout_set(&turn->wheel, &d->timer, turn->now_ms, timeout_ms);
}

void
door_close_all(struct door_list *doors)
{
	struct door *d, *next;

	for (d = LIST_FIRST(doors); d != NULL; d = next) {
		next = LIST_NEXT(d, link);
		turn_away(d);
	}
}
