/*
 * What the micro benches share: the clock, a row of the table, memory.  Each is a program of its
 * own: one thread, warm caches.
 */
#ifndef TEAL_MICRO_H
#define TEAL_MICRO_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CALLS    1000000u
#define ANY_SIZE 0u /* nothing in the call depends on one */

static volatile uint64_t sink; /* so that no result is unused */

static inline int64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void
print_head(const char *size)
{
	(void)printf("%-36s %8s %10s\n", "call", size, "ns");
}

static inline void
print_row(const char *what, unsigned size, unsigned calls, int64_t ns)
{
	if (size == ANY_SIZE)
		(void)printf("%-36s %8s %10.1f\n", what, "any", (double)ns / calls);
	else
		(void)printf("%-36s %8u %10.1f\n", what, size, (double)ns / calls);
}

/* Zeroed; to be freed. */
static inline void *
allocate(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL) {
		perror("calloc");
		exit(1);
	}
	return p;
}

#endif
