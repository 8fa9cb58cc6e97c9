/*
 * Bytes: chunks (reference-counted memory from a per-worker pool), slices (a view into a
 * chunk) and buf (a queue of slices).  A body travels from the socket it was read from to
 * the socket it is written to as slices of the chunk it was read into; only small pieces are
 * copied.
 *
 * One thread (its worker's); reference counts are plain integers.
 */
#ifndef TEAL_BUF_H
#define TEAL_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chunk_pool;

#define CHUNK_SMALL ((size_t)4096 - 64)
#define CHUNK_LARGE ((size_t)16384 + 512) /* one TLS record and the head of the next */
#define BUF_RECORD  ((size_t)16384)       /* of TLS */
#define BUF_REF_MIN ((size_t)2048) /* shorter slices are copied: they must not pin a large chunk */
#define CHUNKS_BUSY ((size_t)1 << 23) /* so many bytes of chunks in use: time to be sparing */

struct chunk {
	uint32_t refs;
	uint32_t size; /* of data */
	uint32_t used; /* high-water mark of what was filled */
	uint32_t kind; /* which free list; pool's business */
	struct chunk_pool *pool;
	struct chunk *next_free;
	unsigned char data[];
};

/* LIFO free lists of the two sizes; other sizes are malloc'd and freed.  `keep`: how many free
 * large chunks are kept; of small ones as many bytes.  malloc failure ends the process (ENSURE): a proxy without 16 KiB
 * is dead. */
struct chunk_pool *chunk_pool_new(unsigned keep);
void chunk_pool_free(struct chunk_pool *);
size_t chunk_pool_bytes(const struct chunk_pool *); /* memory held, free and in use */
size_t chunk_pool_busy(const struct chunk_pool *);  /* memory in use */
struct chunk *chunk_new(struct chunk_pool *, size_t at_least);
struct chunk *chunk_ref(struct chunk *);
void chunk_unref(struct chunk *); /* NULL allowed */

struct slice {
	struct chunk *chunk; /* NULL: the memory is borrowed for this call, copy what you keep */
	const unsigned char *p;
	size_t n;
};
static inline struct slice
slice_borrowed(const void *p, size_t n)
{
	return (struct slice){NULL, p, n};
}

struct segment;
struct buf {
	struct chunk_pool *pool;
	struct segment *head, *tail;
	size_t bytes;
	bool large; /* small pieces are gathered BUF_RECORD at a time from the first on, unless
		       the pool is busy */
};

void buf_init(struct buf *, struct chunk_pool *);
void buf_fini(struct buf *); /* drops everything */
static inline size_t
buf_bytes(const struct buf *b)
{
	return b->bytes;
}
/* Copies, into the tail chunk while it has room. */
void buf_append(struct buf *, const void *, size_t);
/* By reference from BUF_REF_MIN on, else copies. */
void buf_append_slice(struct buf *, struct slice);
/* The same, but what comes into an empty buf is taken by reference whatever its size, unless the pool is busy: a buf
 * pins one chunk more at most. */
void buf_append_first(struct buf *, struct slice);
/* Room for n contiguous bytes at the end (n <= CHUNK_LARGE); what was written is then committed. */
unsigned char *buf_reserve(struct buf *, size_t n);
void buf_commit(struct buf *, size_t n);
int buf_iov(const struct buf *, struct iovec *, int max); /* how many were filled */
void buf_consume(struct buf *, size_t n);
/* Same pool.  Moves; large pieces are not copied. */
void buf_move(struct buf *to, struct buf *from, size_t n);

/* Bump allocation that is freed at once: heads and their fields.  The first block comes with the
 * first use. */
struct arena {
	struct chunk_pool *pool;
	struct chunk *blocks; /* newest first, linked by next_free */
	size_t left;
	unsigned char *at;
};
void arena_init(struct arena *, struct chunk_pool *);
void arena_fini(struct arena *);                        /* also resets: may be used again */
void *arena_alloc(struct arena *, size_t);              /* aligned to 8; never NULL; not zeroed */
void *arena_copy(struct arena *, const void *, size_t); /* a NUL is put behind it */

/* Fixed-size objects, recycled per worker. */
struct slab {
	size_t size;
	void *free;
	unsigned n_free, keep, n_used;
};
void slab_init(struct slab *, size_t size, unsigned keep);
void slab_fini(struct slab *);
void *slab_get(struct slab *); /* zeroed; never NULL */
void slab_put(struct slab *, void *);

#endif
