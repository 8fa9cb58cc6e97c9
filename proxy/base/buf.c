/*
 * The pool of chunks, and buf, a queue of segments: each a view into a chunk.
 *
 * Bytes below chunk->used are never written again while somebody else may see them.  The free
 * space behind `used` belongs to whoever took the chunk: a conn for what it reads, or the one buf
 * whose segment is marked `own`.  Everybody else has read-only views.
 *
 * Owner: the worker's turn.  Thread: that worker's.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/base/buf.h"
#include "proxy/base/obj.h"
#include "proxy/base/poison.h"

enum { KIND_SMALL, KIND_LARGE, KIND_ODD, N_POOLED = KIND_ODD };

#define SEGMENTS_KEPT 1024
#define SMALL_EACH    4U

struct segment {
	struct segment *next;
	struct chunk *chunk;
	unsigned char *p;
	size_t n;
	bool own; /* this buf took the chunk: it may fill what is behind `used` */
};

struct chunk_pool {
	struct chunk *free[N_POOLED]; /* LIFO: the warmest first */
	unsigned n_free[N_POOLED];
	unsigned keep; /* large ones, and SMALL_EACH times as many small ones */
	unsigned in_use;
	bool closed; /* chunk_pool_free() came while chunks were in use */
	size_t bytes, busy;
	struct slab segments;
};

static const size_t pooled_size[N_POOLED] = {CHUNK_SMALL, CHUNK_LARGE};

/* --- chunks ---------------------------------------------------------------- */

struct chunk_pool *
chunk_pool_new(unsigned keep)
{
	struct chunk_pool *pool = calloc(1, sizeof *pool);

	ENSURE(pool != NULL);
	pool->keep = keep;
	slab_init(&pool->segments, sizeof(struct segment), SEGMENTS_KEPT);
	return pool;
}

static void
release(struct chunk_pool *pool, struct chunk *c)
{
	pool->bytes -= sizeof *c + c->size;
	unpoison(c->data, c->size);
	free(c);
}

/* A pool with chunks still in use lives on until the last of them is given back. */
void
chunk_pool_free(struct chunk_pool *pool)
{
	if (pool == NULL)
		return;
	for (int kind = 0; kind < N_POOLED; kind++) {
		while (pool->free[kind] != NULL) {
			struct chunk *c = pool->free[kind];

			pool->free[kind] = c->next_free;
			release(pool, c);
		}
		pool->n_free[kind] = 0;
	}
	slab_fini(&pool->segments);
	pool->keep = 0;
	pool->closed = true;
	if (pool->in_use == 0)
		free(pool);
}

size_t
chunk_pool_bytes(const struct chunk_pool *pool)
{
	return pool->bytes;
}

size_t
chunk_pool_busy(const struct chunk_pool *pool)
{
	return pool->busy;
}

struct chunk *
chunk_new(struct chunk_pool *pool, size_t at_least)
{
	unsigned kind = at_least <= CHUNK_SMALL   ? KIND_SMALL
			: at_least <= CHUNK_LARGE ? KIND_LARGE
						  : KIND_ODD;
	struct chunk *c;

	if (kind < N_POOLED && pool->free[kind] != NULL) {
		c = pool->free[kind];
		pool->free[kind] = c->next_free;
		if (c->next_free != NULL)
			__builtin_prefetch(c->next_free); /* the next one's turn comes soon */
		pool->n_free[kind]--;
		unpoison(c->data, c->size);
	} else {
		size_t size = kind < N_POOLED ? pooled_size[kind] : at_least;

		ENSURE(size <= UINT32_MAX);
		c = malloc(sizeof *c + size);
		ENSURE(c != NULL);
		c->size = (uint32_t)size;
		c->kind = kind;
		c->pool = pool;
		pool->bytes += sizeof *c + size;
	}
	c->refs = 1;
	c->used = 0;
	c->next_free = NULL;
	pool->in_use++;
	pool->busy += c->size;
	return c;
}

struct chunk *
chunk_ref(struct chunk *c)
{
	ENSURE(c->refs > 0);
	c->refs++;
	return c;
}

void
chunk_unref(struct chunk *c)
{
	if (c == NULL)
		return;
	ENSURE(c->refs > 0);
	if (--c->refs > 0)
		return;

	struct chunk_pool *pool = c->pool;

	pool->in_use--;
	pool->busy -= c->size;
	if (c->kind < N_POOLED &&
	    pool->n_free[c->kind] < pool->keep * (c->kind == KIND_SMALL ? SMALL_EACH : 1U)) {
		c->next_free = pool->free[c->kind];
		pool->free[c->kind] = c;
		pool->n_free[c->kind]++;
		poison(c->data, c->size);
		return;
	}
	release(pool, c);
	if (pool->closed && pool->in_use == 0) {
		slab_fini(&pool->segments);
		free(pool);
	}
}

/* --- buf ------------------------------------------------------------------- */

void
buf_init(struct buf *b, struct chunk_pool *pool)
{
	*b = (struct buf){.pool = pool};
}

static void
pop_head(struct buf *b)
{
	struct segment *s = b->head;
	struct chunk *c = s->chunk;

	b->head = s->next;
	if (b->head == NULL)
		b->tail = NULL;
	slab_put(&b->pool->segments, s);
	chunk_unref(c);
}

void
buf_fini(struct buf *b)
{
	while (b->head != NULL)
		pop_head(b);
	b->bytes = 0;
}

static void
link_tail(struct buf *b, struct segment *s)
{
	s->next = NULL;
	if (b->tail != NULL)
		b->tail->next = s;
	else
		b->head = s;
	b->tail = s;
}

/* Takes over the caller's reference to the chunk. */
static struct segment *
push_tail(struct buf *b, struct chunk *c, unsigned char *p, size_t n, bool own)
{
	struct segment *s = slab_get(&b->pool->segments);

	s->chunk = c;
	s->p = p;
	s->n = n;
	s->own = own;
	link_tail(b, s);
	b->bytes += n;
	return s;
}

static size_t
tail_room(const struct buf *b)
{
	const struct segment *s = b->tail;

	return s != NULL && s->own ? s->chunk->size - s->chunk->used : 0;
}

/* What of it small pieces may fill: a `large` buf begins a new chunk where a TLS record ends. */
static size_t
append_room(const struct buf *b)
{
	size_t room = tail_room(b), rest;

	if (room == 0 || !b->large)
		return room;
	rest = b->tail->chunk->size > BUF_RECORD ? b->tail->chunk->size - BUF_RECORD : 0;
	return room > rest ? room - rest : 0;
}

static void
grow(struct buf *b, size_t at_least)
{
	struct chunk *c = chunk_new(b->pool, at_least);

	push_tail(b, c, c->data, 0, true);
}

static void
fill_tail(struct buf *b, const void *p, size_t n)
{
	struct segment *s = b->tail;

	memcpy(s->p + s->n, p, n);
	buf_commit(b, n);
}

void
buf_append(struct buf *b, const void *data, size_t n)
{
	const unsigned char *p = data;

	while (n > 0) {
		size_t room = append_room(b);

		if (room == 0) {
			/* the first piece small, a queue that grows in large ones */
			bool large = n > CHUNK_SMALL || b->bytes >= CHUNK_SMALL ||
				     (b->large && b->pool->busy < CHUNKS_BUSY);

			grow(b, large ? CHUNK_LARGE : CHUNK_SMALL);
			room = append_room(b);
		}
		if (room > n)
			room = n;
		fill_tail(b, p, room);
		p += room;
		n -= room;
	}
}

static void
append_from(struct buf *b, struct slice s, size_t ref_min)
{
	struct segment *t = b->tail;

	if (s.n == 0)
		return;
	if (s.chunk != NULL && t != NULL && t->chunk == s.chunk && !t->own && t->p + t->n == s.p) {
		t->n += s.n; /* goes on where the tail ends */
		b->bytes += s.n;
	} else if (s.chunk != NULL && s.n >= ref_min) {
		size_t at = (size_t)(s.p - s.chunk->data);

		push_tail(b, chunk_ref(s.chunk), s.chunk->data + at, s.n, false);
	} else {
		buf_append(b, s.p, s.n);
	}
}

void
buf_append_slice(struct buf *b, struct slice s)
{
	append_from(b, s, BUF_REF_MIN);
}

void
buf_append_first(struct buf *b, struct slice s)
{
	append_from(b, s, b->bytes == 0 && b->pool->busy < CHUNKS_BUSY ? 1 : BUF_REF_MIN);
}

unsigned char *
buf_reserve(struct buf *b, size_t n)
{
	ENSURE(n <= CHUNK_LARGE);
	if (b->tail == NULL || tail_room(b) < n)
		grow(b, n);
	return b->tail->chunk->data + b->tail->chunk->used;
}

void
buf_commit(struct buf *b, size_t n)
{
	struct segment *s = b->tail;

	ENSURE(n <= tail_room(b));
	if (n > 0) {
		ENSURE(s->p + s->n == s->chunk->data + s->chunk->used);
		s->chunk->used += (uint32_t)n;
		s->n += n;
		b->bytes += n;
	}
	if (b->bytes == 0)
		buf_fini(b); /* a reservation nobody used: an idle buf holds no chunk */
}

int
buf_iov(const struct buf *b, struct iovec *iov, int max)
{
	int n = 0;

	for (const struct segment *s = b->head; s != NULL && n < max; s = s->next) {
		if (s->n == 0)
			continue;
		iov[n].iov_base = s->p;
		iov[n].iov_len = s->n;
		n++;
	}
	return n;
}

void
buf_consume(struct buf *b, size_t n)
{
	ENSURE(n <= b->bytes);
	b->bytes -= n;
	while (b->head != NULL && n >= b->head->n && (n > 0 || b->head->n == 0)) {
		n -= b->head->n;
		pop_head(b);
	}
	if (n > 0) {
		b->head->p += n;
		b->head->n -= n;
	}
}

/* Whole segments change hands, free space included; the last one may have to be cut. */
void
buf_move(struct buf *to, struct buf *from, size_t n)
{
	ENSURE(n <= from->bytes && to != from && to->pool == from->pool);
	while (n > 0) {
		struct segment *s = from->head;

		ENSURE(s != NULL); /* n <= from->bytes */

		bool small = s->n < BUF_REF_MIN && s->n <= append_room(to);

		if (s->n > n || small) {
			size_t part = s->n < n ? s->n : n;

			buf_append_slice(to, (struct slice){s->chunk, s->p, part});
			buf_consume(from, part);
			n -= part;
			continue;
		}
		from->head = s->next;
		if (from->head == NULL)
			from->tail = NULL;
		from->bytes -= s->n;
		to->bytes += s->n;
		n -= s->n;
		link_tail(to, s);
	}
	if (from->bytes == 0)
		buf_fini(from);
}
