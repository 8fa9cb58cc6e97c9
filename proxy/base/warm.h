/*
 * Fetching ahead.  With hundreds of exchanges under way, or of backends, nothing of one of them is in
 * the near caches when its turn comes; what is known to be needed soon is asked for before something
 * that takes a while, a system call best.  Hints only: the address may be anything.
 */
#ifndef TEAL_WARM_H
#define TEAL_WARM_H

#include <stddef.h>
#include <stdint.h>

#define WARM_LINE ((size_t)64)

static inline void
warm(const void *p, size_t n)
{
	for (size_t at = 0; at < n; at += WARM_LINE)
		__builtin_prefetch((const void *)((uintptr_t)p + at));
}

#endif
