/*
 * Recycled memory is invisible to AddressSanitizer unless it is told what is free: with
 * these a use after free is seen in chunks, arenas and slabs too.  Without the sanitizer: nothing.
 */
#ifndef TEAL_POISON_H
#define TEAL_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEAL_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEAL_POISONS 1
#endif
#endif

#ifdef TEAL_POISONS
#include <sanitizer/asan_interface.h>
#endif

static inline void
poison(const void *p, size_t n)
{
#ifdef TEAL_POISONS
	ASAN_POISON_MEMORY_REGION(p, n);
#else
	(void)p;
	(void)n;
#endif
}

static inline void
unpoison(const void *p, size_t n)
{
#ifdef TEAL_POISONS
	ASAN_UNPOISON_MEMORY_REGION(p, n);
#else
	(void)p;
	(void)n;
#endif
}

#endif
