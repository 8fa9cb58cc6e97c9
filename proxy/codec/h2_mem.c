/*
 * The allocator nghttp2 is given: free lists of eight sizes, so that a request costs no malloc once
 * the lists are warm.  Each list keeps at most 512 KiB; larger blocks go to malloc.
 *
 * But for two: every session keeps room for a whole frame (16 KiB and some), of which headers and control
 * frames use the first few hundred bytes, as bodies do not go through it.  It is mapped in spans of pages, many at
 * a time, behind room for the session itself (3 KiB): an idle session costs one page for both.
 *
 *   span: | beside: session | frame ........................ |
 *         | page one, touched   | the rest, touched by long headers only
 *
 * Owner: the thread.  A session is made, used and freed on one worker, so nothing is locked.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>

#include "proxy/base/obj.h"
#include "proxy/base/poison.h"
#include "proxy/codec/h2.h"

#define SMALLEST  ((size_t)64)
#define N_SIZES   8U
#define MALLOCED  N_SIZES
#define FRAME     (N_SIZES + 1)
#define LIST_KEEP ((size_t)524288)

#define PAGE        ((size_t)4096)
#define SPAN        (5 * PAGE)
#define BESIDE      6U /* in sizes[] */
#define FRAME_LEAST ((size_t)16384)
#define REGION      64U /* spans mapped at a time */
#define FRAMES_KEPT 64U /* free ones that keep all their pages */

struct block {
	uint32_t size_index; /* or MALLOCED, FRAME */
	uint32_t size;       /* of what follows; only for blocks from malloc below 4 GiB */
	struct block *next;  /* while free */
};
_Static_assert(sizeof(struct block) % 16 == 0, "what follows a block is aligned like malloc's");

static const size_t sizes[N_SIZES] = {SMALLEST, 128, 256, 512, 1024, 2048, 3072, 4096};

#define FRAME_AT   (sizes[BESIDE] + sizeof(struct block))
#define FRAME_MOST (SPAN - FRAME_AT - sizeof(struct block))

static _Thread_local struct {
	struct block *free;
	size_t n;
} lists[N_SIZES];

struct region {
	SLIST_ENTRY(region) link;
	unsigned char *pages;
};

static _Thread_local struct {
	SLIST_HEAD(, region) regions;
	struct block *free;
	size_t n;
	unsigned char *fresh; /* of the newest region: never used yet */
	unsigned n_fresh;
} frames;

static size_t
size_at(uint32_t i)
{
	return sizes[i];
}

static uint32_t
index_of(size_t n)
{
	uint32_t i;

	if (n > sizes[N_SIZES - 1])
		return N_SIZES;
	if (n <= SMALLEST)
		return 0;
	i = 26U - (uint32_t)__builtin_clz((uint32_t)n - 1); /* powers of two from 2^6 on, ... */
	return i == BESIDE && n > sizes[BESIDE] ? BESIDE + 1 : i; /* ... and 3072 */
}

/* --- room for frames ------------------------------------------------------------------ */

static bool
map_region(void)
{
	struct region *r = malloc(sizeof(*r));
	void *p = mmap(NULL, SPAN * REGION, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (r == NULL || p == MAP_FAILED) {
		if (p != MAP_FAILED)
			(void)munmap(p, SPAN * REGION);
		free(r);
		return false;
	}
	/* a huge page would be all there at once; without this it is only dearer */
	(void)madvise(p, SPAN * REGION, MADV_NOHUGEPAGE);
	r->pages = p;
	SLIST_INSERT_HEAD(&frames.regions, r, link);
	frames.fresh = p;
	frames.n_fresh = REGION;
	return true;
}

static void
keep(struct block *b)
{
	uint32_t i = b->size_index;

	if (i == FRAME) {
		b->next = frames.free;
		frames.free = b;
		frames.n++;
	} else {
		b->next = lists[i].free;
		lists[i].free = b;
		lists[i].n++;
	}
	poison(b + 1, b->size);
}

/* A new span: both of its blocks are free. */
static bool
carve(void)
{
	struct block *beside, *frame;

	if (frames.n_fresh == 0 && !map_region())
		return false;
	beside = (struct block *)(void *)frames.fresh;
	frame = (struct block *)(void *)(frames.fresh + FRAME_AT);
	frames.fresh += SPAN;
	frames.n_fresh--;
	beside->size_index = BESIDE;
	beside->size = (uint32_t)sizes[BESIDE];
	keep(beside);
	frame->size_index = FRAME;
	frame->size = (uint32_t)FRAME_MOST;
	keep(frame);
	return true;
}

static void *
get_frame(void)
{
	struct block *b;

	if (frames.free == NULL && !carve())
		return NULL;
	b = frames.free;
	frames.free = b->next;
	frames.n--;
	unpoison(b + 1, b->size);
	return b + 1;
}

static void
put_frame(struct block *b)
{
	/* after many sessions at once: the pages behind the first go back */
	if (frames.n >= FRAMES_KEPT)
		(void)madvise((unsigned char *)b - FRAME_AT + PAGE, SPAN - PAGE, MADV_DONTNEED);
	keep(b);
}

static void
unmap_regions(void)
{
	struct region *r;

	while ((r = SLIST_FIRST(&frames.regions)) != NULL) {
		SLIST_REMOVE_HEAD(&frames.regions, link);
		unpoison(r->pages, SPAN * REGION);
		(void)munmap(r->pages, SPAN * REGION);
		free(r);
	}
	memset(&frames, 0, sizeof(frames));
	lists[BESIDE].free = NULL;
	lists[BESIDE].n = 0;
}

/* --- what nghttp2 calls --------------------------------------------------------------- */

static void *
get(size_t n, void *user)
{
	uint32_t i = index_of(n);
	struct block *b;

	(void)user;
	if (n > UINT32_MAX - sizeof(*b))
		return NULL;
	if (n >= FRAME_LEAST && n <= FRAME_MOST)
		return get_frame();
	if (i == BESIDE && lists[i].free == NULL && !carve())
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
	if (i == FRAME) {
		put_frame(b);
		return;
	}
	if (i == MALLOCED || (i != BESIDE && lists[i].n >= LIST_KEEP / size_at(i)))
		free(b);
	else
		keep(b);
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
	unmap_regions();
	for (uint32_t i = 0; i < N_SIZES; i++) {
		while (lists[i].free != NULL) {
			struct block *b = lists[i].free;

			lists[i].free = b->next;
			free(b);
		}
		lists[i].n = 0;
	}
}
