/*
 * Chunks, buf, arena and slab: every boundary, and that nobody's bytes are written over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/base/buf.h"
#include "proxy/base/obj.h"

#define KEEP 4

static struct chunk_pool *pool;

static int
setup(void **state)
{
	(void)state;
	pool = chunk_pool_new(KEEP);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	chunk_pool_free(pool);
	return 0;
}

static unsigned char
pattern(size_t i)
{
	return (unsigned char)(i * 131 + (i >> 8) * 17);
}

static unsigned char *
patterned(size_t from, size_t n)
{
	unsigned char *p = malloc(n + 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = pattern(from + i);
	return p;
}

static void
append_pattern(struct buf *b, size_t from, size_t n)
{
	unsigned char *p = patterned(from, n);

	buf_append(b, p, n);
	free(p);
}

/* Its first piece; nothing when it is empty. */
static struct iovec
first(const struct buf *b)
{
	struct iovec v = {NULL, 0};

	(void)buf_iov(b, &v, 1);
	return v;
}

/* The first n bytes of b are the pattern from `from` on; they are consumed in pieces of `step`. */
static void
expect_pattern(struct buf *b, size_t from, size_t n, size_t step)
{
	while (n > 0) {
		struct iovec v = first(b);
		const unsigned char *p = v.iov_base;
		size_t part = v.iov_len < step ? v.iov_len : step;

		if (part > n)
			part = n;
		assert_true(part > 0);
		for (size_t i = 0; i < part; i++)
			assert_int_equal(p[i], pattern(from + i));
		buf_consume(b, part);
		from += part;
		n -= part;
	}
}

static struct chunk *
filled_chunk(size_t from, size_t n)
{
	struct chunk *c = chunk_new(pool, n);

	for (size_t i = 0; i < n; i++)
		c->data[i] = pattern(from + i);
	c->used = (uint32_t)n;
	return c;
}

static void
append_ref(struct buf *b, struct chunk *c, size_t at, size_t n)
{
	buf_append_slice(b, (struct slice){c, c->data + at, n});
}

/* --- chunks ------------------------------------------------------------------ */

static void
chunk_sizes(void **state)
{
	(void)state;
	static const struct {
		size_t ask, get;
	} rows[] = {
	    {0, CHUNK_SMALL},
	    {1, CHUNK_SMALL},
	    {CHUNK_SMALL, CHUNK_SMALL},
	    {CHUNK_SMALL + 1, CHUNK_LARGE},
	    {CHUNK_LARGE, CHUNK_LARGE},
	    {CHUNK_LARGE + 1, CHUNK_LARGE + 1},
	    {100000, 100000},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct chunk *c = chunk_new(pool, rows[i].ask);

		assert_int_equal(c->size, rows[i].get);
		assert_int_equal(c->refs, 1);
		assert_int_equal(c->used, 0);
		memset(c->data, 0xff, c->size);
		chunk_unref(c);
	}
}

static void
chunks_come_back_warmest_first(void **state)
{
	(void)state;
	struct chunk *a = chunk_new(pool, 1), *b = chunk_new(pool, 1);

	a->used = 7;
	chunk_unref(b);
	chunk_unref(a);
	assert_ptr_equal(chunk_new(pool, 1), a);
	assert_int_equal(a->used, 0);
	assert_ptr_equal(chunk_new(pool, 1), b);
	chunk_unref(a);
	chunk_unref(b);
}

static void
only_so_many_free_chunks_are_kept(void **state)
{
	(void)state;
	struct chunk *many[KEEP + 3];

	for (size_t i = 0; i < KEEP + 3; i++)
		many[i] = chunk_new(pool, CHUNK_LARGE);
	assert_true(chunk_pool_bytes(pool) >= (KEEP + 3) * CHUNK_LARGE);
	for (size_t i = 0; i < KEEP + 3; i++)
		chunk_unref(many[i]);
	assert_true(chunk_pool_bytes(pool) >= KEEP * CHUNK_LARGE);
	assert_true(chunk_pool_bytes(pool) < (KEEP + 1) * CHUNK_LARGE);

	struct chunk *odd = chunk_new(pool, 1000000);

	assert_true(chunk_pool_bytes(pool) > 1000000);
	chunk_unref(odd);
	assert_true(chunk_pool_bytes(pool) < (KEEP + 1) * CHUNK_LARGE);
}

static void
a_referenced_chunk_stays(void **state)
{
	(void)state;
	struct chunk *c = chunk_new(pool, 10);

	assert_ptr_equal(chunk_ref(c), c);
	chunk_unref(c);
	c->data[0] = 'x'; /* poisoned if it were free */

	struct chunk *other = chunk_new(pool, 10);

	assert_ptr_not_equal(other, c);
	chunk_unref(other);
	chunk_unref(c);
	chunk_unref(NULL);
}

static void
a_pool_outlives_its_last_chunk(void **state)
{
	(void)state;
	struct chunk_pool *mine = chunk_pool_new(KEEP);
	struct chunk *c = chunk_new(mine, 10);
	struct buf b;

	buf_init(&b, mine);
	buf_append(&b, "abc", 3);
	chunk_pool_free(mine);
	chunk_unref(c);
	buf_fini(&b); /* the sanitizers see it, if not */
}

/* --- buf ----------------------------------------------------------------------- */

static void
append_and_consume_across_chunks(void **state)
{
	(void)state;
	static const size_t sizes[] = {1, BUF_REF_MIN - 1, CHUNK_SMALL - 1, CHUNK_SMALL,
	    CHUNK_SMALL + 1, CHUNK_LARGE, CHUNK_LARGE + 1, 50000};
	static const size_t steps[] = {1, 7, CHUNK_SMALL, SIZE_MAX};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
			struct buf b;

			buf_init(&b, pool);
			append_pattern(&b, 0, sizes[i]);
			append_pattern(&b, sizes[i], 3);
			assert_int_equal(buf_bytes(&b), sizes[i] + 3);
			expect_pattern(&b, 0, sizes[i] + 3, steps[k]);
			assert_int_equal(buf_bytes(&b), 0);
			assert_null(b.head); /* an idle buf holds no chunk */
			assert_int_equal(first(&b).iov_len, 0);
			buf_fini(&b);
		}
	}
}

static void
small_appends_share_a_chunk(void **state)
{
	(void)state;
	struct buf b;
	struct iovec iov[4];

	buf_init(&b, pool);
	for (size_t i = 0; i < CHUNK_SMALL; i++)
		append_pattern(&b, i, 1);
	assert_int_equal(buf_iov(&b, iov, 4), 1);
	assert_int_equal(iov[0].iov_len, CHUNK_SMALL);
	append_pattern(&b, CHUNK_SMALL, 1);
	assert_int_equal(buf_iov(&b, iov, 4), 2);
	assert_int_equal(iov[1].iov_len, 1);
	assert_int_equal(buf_iov(&b, iov, 1), 1);
	assert_int_equal(buf_iov(&b, iov, 0), 0);
	expect_pattern(&b, 0, CHUNK_SMALL + 1, SIZE_MAX);
	buf_fini(&b);
}

static void
slices_are_referenced_from_a_size_on(void **state)
{
	(void)state;
	struct chunk *c = filled_chunk(0, CHUNK_LARGE);
	struct buf b;

	buf_init(&b, pool);
	append_ref(&b, c, 0, BUF_REF_MIN - 1);
	assert_int_equal(c->refs, 1);
	buf_consume(&b, BUF_REF_MIN - 1);
	append_ref(&b, c, 0, BUF_REF_MIN);
	assert_int_equal(c->refs, 2);
	assert_ptr_equal(first(&b).iov_base, c->data);
	append_ref(&b, c, BUF_REF_MIN,
	    5); /* goes on where the last one ends: neither copied nor a piece more */
	assert_int_equal(c->refs, 2);
	assert_int_equal(first(&b).iov_len, BUF_REF_MIN + 5);
	append_ref(&b, c, 0, 0);
	assert_int_equal(buf_bytes(&b), BUF_REF_MIN + 5);
	expect_pattern(&b, 0, BUF_REF_MIN + 5, 100);
	assert_int_equal(c->refs, 1);
	buf_append_slice(&b, slice_borrowed(c->data, 3000));
	assert_int_equal(c->refs, 1);
	expect_pattern(&b, 0, 3000, SIZE_MAX);
	chunk_unref(c);
	buf_fini(&b);
}

/* Behind a view into somebody else's chunk nothing is written. */
static void
a_view_is_never_written_behind(void **state)
{
	(void)state;
	struct chunk *c = filled_chunk(0, CHUNK_LARGE);
	struct buf b;

	c->used = 4000; /* the conn goes on reading behind it */
	buf_init(&b, pool);
	append_ref(&b, c, 0, 4000);
	buf_append(&b, "zzzz", 4);
	memcpy(buf_reserve(&b, 4), "yyyy", 4);
	buf_commit(&b, 4);
	for (size_t i = 0; i < CHUNK_LARGE; i++)
		assert_int_equal(c->data[i], pattern(i));
	expect_pattern(&b, 0, 4000, SIZE_MAX);
	assert_memory_equal(first(&b).iov_base, "zzzzyyyy", 8);
	buf_fini(&b);
	chunk_unref(c);
}

/* The same the other way round: what others took of a buf's own chunk stays as it is. */
static void
what_others_hold_of_an_own_chunk_stays(void **state)
{
	(void)state;
	struct buf a, b;
	struct iovec v;
	struct chunk *c;

	buf_init(&a, pool);
	buf_init(&b, pool);
	append_pattern(&a, 0, 3000);
	v = first(&a);
	c = CONTAINER_OF(v.iov_base, struct chunk, data);
	buf_append_slice(&b, (struct slice){c, v.iov_base, v.iov_len});
	assert_int_equal(c->refs, 2);
	append_pattern(&a, 3000, 500);
	buf_append(&b, "other", 5);
	expect_pattern(&a, 0, 3500, SIZE_MAX);
	append_pattern(&a, 9000, 3000);
	expect_pattern(&b, 0, 3000, SIZE_MAX);
	assert_memory_equal(first(&b).iov_base, "other", 5);
	buf_fini(&a);
	buf_fini(&b);
}

static void
reserve_and_commit(void **state)
{
	(void)state;
	struct buf b;
	unsigned char *p;

	buf_init(&b, pool);
	p = buf_reserve(&b, 100);
	assert_non_null(p);
	buf_commit(&b, 0);
	assert_null(b.head);

	p = buf_reserve(&b, CHUNK_LARGE);
	for (size_t i = 0; i < CHUNK_LARGE; i++)
		p[i] = pattern(i);
	buf_commit(&b, CHUNK_LARGE - 1);
	p = buf_reserve(&b, 1); /* the last byte of the same chunk */
	assert_int_equal(*p, pattern(CHUNK_LARGE - 1));
	buf_commit(&b, 1);
	p = buf_reserve(&b, 1);
	*p = pattern(CHUNK_LARGE);
	buf_commit(&b, 1);
	assert_int_equal(buf_bytes(&b), CHUNK_LARGE + 1);

	struct iovec iov[4];

	(void)buf_reserve(&b, CHUNK_LARGE); /* an empty piece is in nobody's way */
	buf_commit(&b, 0);
	assert_int_equal(buf_iov(&b, iov, 4), 2);
	append_pattern(&b, CHUNK_LARGE + 1, 10);
	assert_int_equal(buf_iov(&b, iov, 4), 3);
	expect_pattern(&b, 0, CHUNK_LARGE + 11, 1000);
	assert_null(b.head);
	buf_fini(&b);
}

/* An empty piece at the end does not outlive what was before it. */
static void
unused_reservations_go_with_the_rest(void **state)
{
	(void)state;
	struct buf a, b;

	buf_init(&a, pool);
	buf_init(&b, pool);
	append_pattern(&a, 0, CHUNK_SMALL);
	(void)buf_reserve(&a, 100);
	buf_commit(&a, 0);
	buf_consume(&a, CHUNK_SMALL);
	assert_null(a.head);
	append_pattern(&a, 0, CHUNK_SMALL);
	(void)buf_reserve(&a, 100);
	buf_commit(&a, 0);
	buf_move(&b, &a, CHUNK_SMALL);
	assert_null(a.head);
	expect_pattern(&b, 0, CHUNK_SMALL, SIZE_MAX);
	buf_fini(&b);
}

static void
small_pieces_are_gathered(void **state)
{
	(void)state;
	struct buf from, to;
	struct iovec iov[4];

	buf_init(&to, pool);
	for (size_t i = 0; i < 10; i++) {
		buf_init(&from, pool);
		append_pattern(&from, i * 100, 100);
		buf_move(&to, &from, 100);
		assert_null(from.head);
	}
	assert_int_equal(buf_iov(&to, iov, 4), 1);
	expect_pattern(&to, 0, 1000, SIZE_MAX);
	buf_fini(&to);
}

static void
move_at_every_cut(void **state)
{
	(void)state;
	const size_t total = 12000;

	for (size_t cut = 0; cut <= total; cut += cut % 1000 < 3 || cut % 1000 > 996 ? 1 : 61) {
		struct chunk *c = filled_chunk(3000, 5000);
		struct buf from, to;

		buf_init(&from, pool);
		buf_init(&to, pool);
		append_pattern(&from, 0, 3000);
		append_ref(&from, c, 0, 5000);
		append_pattern(&from, 8000, 4000);
		buf_move(&to, &from, cut);
		assert_int_equal(buf_bytes(&to), cut);
		assert_int_equal(buf_bytes(&from), total - cut);
		append_pattern(&to, cut, 10); /* both go on without treading on each other */
		append_pattern(&from, total, 10);
		expect_pattern(&to, 0, cut + 10, SIZE_MAX);
		expect_pattern(&from, cut, total - cut + 10, SIZE_MAX);
		assert_null(from.head);
		buf_fini(&to);
		buf_fini(&from);
		assert_int_equal(c->refs, 1);
		chunk_unref(c);
	}
}

static void
move_does_not_copy_large_pieces(void **state)
{
	(void)state;
	struct chunk *c = filled_chunk(0, CHUNK_LARGE);
	struct buf from, to;

	buf_init(&from, pool);
	buf_init(&to, pool);
	append_ref(&from, c, 0, 10000);
	buf_move(&to, &from, 4000);
	assert_ptr_equal(first(&to).iov_base, c->data);
	assert_ptr_equal(first(&from).iov_base, c->data + 4000);
	buf_move(&to, &from, 6000);
	assert_int_equal(buf_bytes(&from), 0);
	expect_pattern(&to, 0, 10000, SIZE_MAX);
	assert_int_equal(c->refs, 1);
	chunk_unref(c);
	buf_fini(&from);
	buf_fini(&to);
}

/* --- arena, slab -------------------------------------------------------------- */

static void
arena_gives_aligned_memory_that_does_not_overlap(void **state)
{
	(void)state;
	static const size_t sizes[] = {
	    1, 8, 0, 9, 100, CHUNK_SMALL - 200, 300, CHUNK_SMALL, CHUNK_SMALL + 1, 70000, 3, 5};
	enum { N = sizeof sizes / sizeof sizes[0] };
	unsigned char *p[N];
	struct arena a;

	arena_init(&a, pool);
	assert_null(a.blocks);
	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < N; i++) {
			p[i] = arena_alloc(&a, sizes[i]);
			assert_int_equal((uintptr_t)p[i] % 8, 0);
			memset(p[i], (int)(i + 1), sizes[i]);
		}
		for (size_t i = 0; i < N; i++) {
			for (size_t k = 0; k < sizes[i]; k++)
				assert_int_equal(p[i][k], i + 1);
		}
		assert_string_equal(arena_copy(&a, "head\0tail", 4), "head");
		assert_string_equal(arena_copy(&a, NULL, 0), "");
		arena_fini(&a);
		assert_null(a.blocks);
	}
}

/* A large piece does not cost what the block before it has left. */
static void
arena_keeps_the_rest_of_a_block(void **state)
{
	(void)state;
	struct arena a;

	arena_init(&a, pool);

	unsigned char *first = arena_alloc(&a, 16);

	memset(arena_alloc(&a, 50000), 1, 50000);
	assert_ptr_equal(arena_alloc(&a, 16), first + 16);
	arena_fini(&a);
	assert_true(chunk_pool_bytes(pool) < 50000);
}

static void
slab_recycles_and_zeroes(void **state)
{
	(void)state;
	struct slab s;
	unsigned char *a, *b, *c;
	static const unsigned char zero[40];

	slab_init(&s, sizeof zero, 2);
	a = slab_get(&s);
	b = slab_get(&s);
	c = slab_get(&s);
	assert_int_equal(s.n_used, 3);
	memset(a, 0xaa, sizeof zero);
	memset(b, 0xbb, sizeof zero);
	slab_put(&s, b);
	slab_put(&s, a);
	slab_put(&s, c); /* more than is kept: freed */
	assert_int_equal(s.n_free, 2);
	assert_int_equal(s.n_used, 0);
	assert_ptr_equal(slab_get(&s), a);
	assert_memory_equal(a, zero, sizeof zero);
	assert_ptr_equal(slab_get(&s), b);
	assert_memory_equal(b, zero, sizeof zero);
	slab_put(&s, a);
	slab_put(&s, NULL);
	slab_fini(&s);
	slab_put(&s, b);
	assert_int_equal(s.n_free, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(chunk_sizes, setup, teardown),
	    cmocka_unit_test_setup_teardown(chunks_come_back_warmest_first, setup, teardown),
	    cmocka_unit_test_setup_teardown(only_so_many_free_chunks_are_kept, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_referenced_chunk_stays, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_pool_outlives_its_last_chunk, setup, teardown),
	    cmocka_unit_test_setup_teardown(append_and_consume_across_chunks, setup, teardown),
	    cmocka_unit_test_setup_teardown(small_appends_share_a_chunk, setup, teardown),
	    cmocka_unit_test_setup_teardown(slices_are_referenced_from_a_size_on, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_view_is_never_written_behind, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		what_others_hold_of_an_own_chunk_stays, setup, teardown),
	    cmocka_unit_test_setup_teardown(reserve_and_commit, setup, teardown),
	    cmocka_unit_test_setup_teardown(unused_reservations_go_with_the_rest, setup, teardown),
	    cmocka_unit_test_setup_teardown(small_pieces_are_gathered, setup, teardown),
	    cmocka_unit_test_setup_teardown(move_at_every_cut, setup, teardown),
	    cmocka_unit_test_setup_teardown(move_does_not_copy_large_pieces, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		arena_gives_aligned_memory_that_does_not_overlap, setup, teardown),
	    cmocka_unit_test_setup_teardown(arena_keeps_the_rest_of_a_block, setup, teardown),
	    cmocka_unit_test_setup_teardown(slab_recycles_and_zeroes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
