/*
 * The allocator nghttp2 is given: free lists of seven sizes, so that a request costs no malloc once
 * the lists are warm.  Each list keeps at most 256 KiB; larger blocks go to malloc.
 *
 * Owner: the thread.  A session is made, used and freed on one worker, so nothing is locked.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/base/poison.h"
#include "proxy/codec/h2.h"

#define SMALLEST  ((size_t)64)
#define N_SIZES   7U /* 64 .. 4096 */
#define LIST_KEEP ((size_t)262144)

struct block {
	uint32_t size_index; /* N_SIZES: from malloc */
	uint32_t size;       /* of what follows; only for blocks from malloc below 4 GiB */
	struct block *next;  /* while free */
};
_Static_assert(sizeof(struct block) % 16 == 0, "what follows a block is aligned like malloc's");

static _Thread_local struct {
	struct block *free;
	size_t n;
} lists[N_SIZES];

static size_t
size_at(uint32_t i)
{
	return SMALLEST << i;
}

static uint32_t
index_of(size_t n)
{
	uint32_t i = 0;

	while (i < N_SIZES && size_at(i) < n)
		i++;
	return i;
}

static void *
get(size_t n, void *user)
{
	uint32_t i = index_of(n);
	struct block *b;

	(void)user;
	if (n > UINT32_MAX - sizeof(*b))
		return NULL;
	if (i < N_SIZES && lists[i].free != NULL) {
		b = lists[i].free;
		lists[i].free = b->next;
		lists[i].n--;
		unpoison(b + 1, size_at(i));
		return b + 1;
	}
	if (i < N_SIZES)
		n = size_at(i);
	b = malloc(sizeof(*b) + n);
	if (b == NULL)
		return NULL;
	b->size_index = i;
	b->size = (uint32_t)n;
	return b + 1;
}

static void
put(void *p, void *user)
{
	struct block *b;
	uint32_t i;

	(void)user;
	if (p == NULL)
		return;
	b = (struct block *)p - 1;
	i = b->size_index;
	if (i >= N_SIZES || lists[i].n >= LIST_KEEP / size_at(i)) {
		free(b);
		return;
	}
	b->next = lists[i].free;
	lists[i].free = b;
	lists[i].n++;
	poison(p, size_at(i));
}

static void *
get_zeroed(size_t n, size_t size, void *user)
{
	void *p;

	if (size != 0 && n > SIZE_MAX / size)
		return NULL;
	p = get(n * size, user);
	return p == NULL ? NULL : memset(p, 0, n * size);
}

static void *
resize(void *p, size_t n, void *user)
{
	struct block *b;
	void *to;

	if (p == NULL)
		return get(n, user);
	b = (struct block *)p - 1;
	if (n <= b->size)
		return p;
	to = get(n, user);
	if (to == NULL)
		return NULL;
	memcpy(to, p, b->size);
	put(p, user);
	return to;
}

nghttp2_mem *
h2_mem(void)
{
	static nghttp2_mem mem = {NULL, get, put, get_zeroed, resize}; /* nghttp2 copies it */

	return &mem;
}

void
h2_mem_fini(void)
{
	for (uint32_t i = 0; i < N_SIZES; i++) {
		while (lists[i].free != NULL) {
			struct block *b = lists[i].free;

			lists[i].free = b->next;
			free(b);
		}
		lists[i].n = 0;
	}
}
