#include "bench/origin/journal.h"

#include <pthread.h>
#include <string.h>

#include "bench/origin/timers.h"

static struct journal_entry ring[JOURNAL]; /* touched only once the journal is on */
static uint64_t added;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
journal_add(const char *target, size_t n, bool faulty)
{
	pthread_mutex_lock(&lock);
	struct journal_entry *e = &ring[added++ % JOURNAL];

	e->us = now_us(); /* under the lock: so entries are in order */
	e->faulty = faulty;
	e->n = (unsigned char)(n < JOURNAL_TARGET ? n : JOURNAL_TARGET);
	memcpy(e->target, target, e->n);
	pthread_mutex_unlock(&lock);
}

void
journal_clear(void)
{
	pthread_mutex_lock(&lock);
	added = 0;
	pthread_mutex_unlock(&lock);
}

/* The first entry from number `from` on that is not before `us`. */
static uint64_t
first_since(uint64_t from, uint64_t us)
{
	uint64_t to = added;

	while (from < to) {
		uint64_t middle = from + (to - from) / 2;

		if (ring[middle % JOURNAL].us < us)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

size_t
journal_read(uint64_t *at, uint64_t us, struct journal_entry *to, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&lock);
	uint64_t oldest = added > JOURNAL ? added - JOURNAL : 0;

	*at = first_since(*at > oldest ? *at : oldest, us);
	while (*at < added && n < max)
		to[n++] = ring[(*at)++ % JOURNAL];
	pthread_mutex_unlock(&lock);
	return n;
}
