/*
 * Memory that is freed at once (arena) and objects of one size (slab).
 *
 * Owner: whoever embeds them.  Thread: that worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/base/buf.h"
#include "proxy/base/obj.h"
#include "proxy/base/poison.h"

#define ALIGNMENT ((size_t)8)

_Static_assert(offsetof(struct chunk, data) % ALIGNMENT == 0, "arena memory is aligned to 8");

void
arena_init(struct arena *a, struct chunk_pool *pool)
{
	*a = (struct arena){.pool = pool};
}

void
arena_fini(struct arena *a)
{
	struct chunk *c = a->blocks;

	while (c != NULL) {
		struct chunk *next = c->next_free;

		chunk_unref(c);
		c = next;
	}
	a->blocks = NULL;
	a->left = 0;
	a->at = NULL;
}

void *
arena_alloc(struct arena *a, size_t n)
{
	ENSURE(n <= UINT32_MAX / 2);
	n = (n + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (n > a->left) {
		struct chunk *c = chunk_new(a->pool, n > CHUNK_SMALL ? n : CHUNK_SMALL);
		size_t left = c->size - n;

		c->used = c->size;
		if (a->blocks != NULL && left < a->left) {
			/* what the newest block has left is worth more: the big one goes behind it */
			c->next_free = a->blocks->next_free;
			a->blocks->next_free = c;
			return c->data;
		}
		c->next_free = a->blocks;
		a->blocks = c;
		a->at = c->data;
		a->left = c->size;
	}

	void *p = a->at;

	a->at += n;
	a->left -= n;
	return p;
}

void *
arena_copy(struct arena *a, const void *p, size_t n)
{
	char *copy = arena_alloc(a, n + 1);

	if (n > 0)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

/* --- slab: free objects are linked through their first word ------------------ */

void
slab_init(struct slab *s, size_t size, unsigned keep)
{
	*s = (struct slab){.size = size < sizeof(void *) ? sizeof(void *) : size, .keep = keep};
}

static void *
pop_free(struct slab *s)
{
	void *p = s->free;

	memcpy(&s->free, p, sizeof s->free);
	if (s->free != NULL)
		__builtin_prefetch(s->free); /* the next one's turn comes soon */
	s->n_free--;
	unpoison(p, s->size);
	return p;
}

void
slab_fini(struct slab *s)
{
	while (s->free != NULL)
		free(pop_free(s));
	s->keep = 0; /* objects still out there are freed as they come back */
}

void *
slab_get(struct slab *s)
{
	void *p;

	s->n_used++;
	if (s->free == NULL) {
		p = calloc(1, s->size);
		ENSURE(p != NULL);
		return p;
	}
	p = pop_free(s);
	memset(p, 0, s->size);
	return p;
}

void
slab_put(struct slab *s, void *p)
{
	if (p == NULL)
		return;
	ENSURE(s->n_used > 0);
	s->n_used--;
	if (s->n_free >= s->keep) {
		free(p);
		return;
	}
	memcpy(p, &s->free, sizeof s->free);
	s->free = p;
	s->n_free++;
	poison((char *)p + sizeof s->free, s->size - sizeof s->free);
}
