/*
 * Hashes and dice: SipHash-2-4 (Aumasson, Bernstein 2012) for keys a client may choose,
 * a mixer for numbers nobody chooses, xorshift128+ for balancing.  Pure, any thread.
 */
#ifndef TEAL_HASH_H
#define TEAL_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_sip(const uint64_t key[2], const void *data, size_t n);

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection, every bit depends on
 * every bit.  Not for keys a client may choose. */
static inline uint64_t
hash_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* xorshift128+ (Vigna 2014): per-worker randomness for balancing, not for secrets. */
struct random {
	uint64_t s[2];
};
void random_seed(struct random *, uint64_t seed);
uint64_t random_next(struct random *);

#endif
