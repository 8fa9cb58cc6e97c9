/* A single-writer single-reader byte ring.  See ring.h. */
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/base/ring.h"

int
ring_init(struct ring *r, size_t size)
{
	ENSURE(size != 0 && (size & (size - 1)) == 0);
	memset(r, 0, sizeof(*r));
	r->size = size;
	r->data = malloc(size);
	return r->data == NULL ? -1 : 0;
}

void
ring_fini(struct ring *r)
{
	free(r->data);
	r->data = NULL;
}

bool
ring_put(struct ring *r, const char *line, size_t n)
{
	uint64_t written = atomic_load_explicit(&r->written, memory_order_relaxed);
	uint64_t taken = atomic_load_explicit(&r->taken, memory_order_acquire);
	size_t at = (size_t)written & (r->size - 1), first;

	if (n > r->size - (size_t)(written - taken)) {
		atomic_store_explicit(&r->lost,
		    atomic_load_explicit(&r->lost, memory_order_relaxed) + 1, memory_order_relaxed);
		return false;
	}
	first = r->size - at < n ? r->size - at : n;
	memcpy(r->data + at, line, first);
	memcpy(r->data, line + first, n - first);
	atomic_store_explicit(&r->written, written + n, memory_order_release);
	return true;
}

size_t
ring_peek(struct ring *r, const char **at)
{
	uint64_t taken = atomic_load_explicit(&r->taken, memory_order_relaxed);
	uint64_t written = atomic_load_explicit(&r->written, memory_order_acquire);
	size_t begin = (size_t)taken & (r->size - 1), n = (size_t)(written - taken);

	*at = r->data + begin;
	return n < r->size - begin ? n : r->size - begin;
}

void
ring_take(struct ring *r, size_t n)
{
	atomic_store_explicit(&r->taken, atomic_load_explicit(&r->taken, memory_order_relaxed) + n,
	    memory_order_release);
}
