#include "bench/origin/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/origin/conn.h"

#define EVENTS  256
#define ACCEPTS 64 /* of one turn */

static void
enter(struct source *source, uint32_t events)
{
	struct door *d = (struct door *)source;
	struct worker *w = d->worker;

	(void)events;
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(d->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			conn_open(w, fd);
			continue;
		}
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		if ((errno == EMFILE || errno == ENFILE) && w->spare >= 0) {
			/* turn one away instead of being told of it for ever */
			close(w->spare);
			fd = accept(d->fd, NULL, NULL);
			if (fd >= 0)
				close(fd);
			w->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
		}
		return;
	}
}

static void
doors_close(struct worker *w)
{
	for (unsigned i = 0; i < LISTENERS; i++)
		if (w->doors[i].fd >= 0) {
			close(w->doors[i].fd);
			w->doors[i].fd = -1;
		}
}

/* Takes the listening sockets that control has opened for it. */
static void
doors_open(struct worker *w, unsigned self)
{
	struct origin *o = w->origin;

	for (unsigned i = 0; i < o->n_listeners; i++) {
		int *fd = &o->listeners[i].fds[self];
		struct door *d = &w->doors[i];

		if (*fd < 0)
			continue;
		d->fd = *fd;
		*fd = -1;
		struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = d};

		if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, d->fd, &e))
			abort();
	}
}

static unsigned
number_of(const struct worker *w)
{
	unsigned i = 0;

	while (w->origin->workers[i] != w)
		i++;
	return i;
}

static void
refuse(struct worker *w)
{
	struct conn *c, *next;

	doors_close(w);
	for (c = LIST_FIRST(&w->conns); c; c = next) {
		next = LIST_NEXT(c, all);
		conn_refuse(c);
		if (c->dead)
			conn_free(c);
	}
}

/* A new script, or the end: then true. */
static bool
adopt(struct worker *w)
{
	struct origin *o = w->origin;
	uint64_t ignored;

	if (read(w->wake, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
		abort();
	pthread_mutex_lock(&o->lock);
	uint64_t number = o->number;
	bool ending = o->ending;

	w->script = o->script;
	w->n_usual = 0;
	if (!w->script.refuse)
		doors_open(w, number_of(w));
	pthread_mutex_unlock(&o->lock);
	if (w->script.refuse)
		refuse(w);
	pthread_mutex_lock(&o->lock);
	w->seen = number;
	pthread_cond_broadcast(&o->adopted);
	pthread_mutex_unlock(&o->lock);
	return ending;
}

static void
woken(struct source *source, uint32_t events)
{
	(void)source;
	(void)events;
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(w->epoll, events, EVENTS, timers_wait_ms(&w->timers));
		bool told = false;

		for (int i = 0; i < n; i++) {
			struct source *s = events[i].data.ptr;

			told |= s == &w->woken;
			s->ready(s, events[i].events);
		}
		timers_fire(&w->timers);
		/* last: it frees connections that events may be about */
		if (told && adopt(w))
			return NULL;
	}
}

struct worker *
worker_start(struct origin *o, unsigned i)
{
	struct worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);

	if (!w)
		return NULL;
	memset(w, 0, offsetof(struct worker, input));
	w->origin = o;
	w->script = o->script;
	w->dice = 0x9E3779B97F4A7C15ULL * (i + 1);
	LIST_INIT(&w->conns);
	for (unsigned d = 0; d < LISTENERS; d++)
		w->doors[d] = (struct door){.source.ready = enter, .worker = w, .fd = -1};
	w->woken.ready = woken;
	w->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &w->woken};

	o->workers[i] = w;
	if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &e))
		return NULL;
	errno = pthread_create(&w->thread, NULL, work, w);
	return errno ? NULL : w;
}

void
worker_free(struct worker *w)
{
	struct conn *c;

	while ((c = LIST_FIRST(&w->conns)))
		conn_free(c);
	doors_close(w);
	h2_streams_free(w);
	timers_fini(&w->timers);
	close(w->spare);
	close(w->wake);
	close(w->epoll);
	free(w);
}

/* --- what all of them are told ------------------------------------------------ */

static void
wake_all(struct origin *o)
{
	uint64_t one = 1;

	for (unsigned i = 0; i < o->n_workers; i++)
		if (write(o->workers[i]->wake, &one, sizeof one) < 0 && errno != EAGAIN)
			abort();
}

void
origin_publish(struct origin *o, const struct script *s)
{
	pthread_mutex_lock(&o->lock);
	o->script = *s;
	uint64_t number = ++o->number;

	wake_all(o);
	for (unsigned i = 0; i < o->n_workers; i++)
		while (o->workers[i]->seen < number)
			pthread_cond_wait(&o->adopted, &o->lock);
	pthread_mutex_unlock(&o->lock);
}

void
origin_end(struct origin *o)
{
	pthread_mutex_lock(&o->lock);
	o->ending = true;
	wake_all(o);
	pthread_mutex_unlock(&o->lock);
	for (unsigned i = 0; i < o->n_workers; i++) {
		pthread_join(o->workers[i]->thread, NULL);
		worker_free(o->workers[i]);
	}
}
