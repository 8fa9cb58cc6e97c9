/* SipHash-2-4 against the paper's vectors; the random numbers' spread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "balancer/hash.h"

/* key 00 01 .. 0f, message 00 01 .. n-1 (the reference implementation's vectors.h) */
static void
sip_vectors(void **state)
{
	static const struct {
		size_t n;
		uint64_t hash;
	} vectors[] = {
	    {0, 0x726fdb47dd0e0e31u},
	    {1, 0x74f839c593dc67fdu},
	    {2, 0x0d6c8009d9a94f5au},
	    {7, 0xab0200f58b01d137u},
	    {8, 0x93f5f5799a932462u},
	    {15, 0xa129ca6149be45e5u},
	    {63, 0x958a324ceb064572u},
	};
	const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	uint8_t message[64];

	(void)state;
	for (unsigned i = 0; i < sizeof message; i++)
		message[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
		assert_int_equal(hash_sip(key, message, vectors[i].n), vectors[i].hash);
}

static void
sip_unaligned(void **state)
{
	const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	uint8_t block[64];

	(void)state;
	for (unsigned offset = 0; offset < 8; offset++) {
		for (unsigned i = 0; i < 15; i++)
			block[offset + i] = (uint8_t)i;
		assert_int_equal(hash_sip(key, block + offset, 15), 0xa129ca6149be45e5u);
	}
}

static void
sip_key_counts(void **state)
{
	const uint64_t a[2] = {1, 2}, b[2] = {1, 3}, c[2] = {2, 2};

	(void)state;
	assert_true(hash_sip(a, "x", 1) != hash_sip(b, "x", 1));
	assert_true(hash_sip(a, "x", 1) != hash_sip(c, "x", 1));
	assert_true(hash_sip(a, "x", 1) != hash_sip(a, "x\0", 2));
}

static void
mix_spreads(void **state)
{
	(void)state;
	/* one bit more or less in, about half of them out */
	for (unsigned bit = 0; bit < 64; bit++) {
		unsigned flips = 0;

		for (uint64_t x = 0; x < 64; x++)
			flips += (unsigned)__builtin_popcountll(
			    hash_mix(x) ^ hash_mix(x ^ UINT64_C(1) << bit));
		assert_in_range(flips, 64 * 28, 64 * 36);
	}
}

static void
random_is_even(void **state)
{
	struct random r, same;
	unsigned high[16] = {0}, low[16] = {0};

	(void)state;
	random_seed(&r, 42);
	random_seed(&same, 42);
	for (unsigned i = 0; i < 160000; i++) {
		uint64_t x = random_next(&r);

		assert_true(x == random_next(&same));
		high[x >> 60]++;
		low[x & 15]++;
	}
	/* five standard deviations of 10,000 */
	for (unsigned i = 0; i < 16; i++) {
		assert_in_range(high[i], 9500, 10500);
		assert_in_range(low[i], 9500, 10500);
	}
}

static void
random_seeds_differ(void **state)
{
	struct random a, b;

	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		random_seed(&a, seed);
		random_seed(&b, seed + 1);
		assert_true((a.s[0] | a.s[1]) != 0);
		assert_true(random_next(&a) != random_next(&b));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sip_vectors),
	    cmocka_unit_test(sip_unaligned),
	    cmocka_unit_test(sip_key_counts),
	    cmocka_unit_test(mix_spreads),
	    cmocka_unit_test(random_is_even),
	    cmocka_unit_test(random_seeds_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
