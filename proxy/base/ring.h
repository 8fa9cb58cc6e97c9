/*
 * Lines from a worker to the log thread: one writer, one reader, fixed size, no lock and no
 * system call.  A full ring loses the line and counts it: requests never wait for a log.
 */
#ifndef TEAL_RING_H
#define TEAL_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_LINE_MAX 8192 /* longer lines are cut by who formats them */

struct ring {
	_Alignas(64) _Atomic uint64_t written; /* bytes ever committed; the writer's */
	_Atomic uint64_t lost;                 /* lines; the writer's */
	_Alignas(64) _Atomic uint64_t taken;   /* bytes ever taken; the reader's */
	size_t size;                           /* power of two */
	char *data;
};

int ring_init(struct ring *, size_t size); /* 0, or -1 */
void ring_fini(struct ring *);
bool ring_put(struct ring *, const char *line, size_t n); /* writer; false: lost and counted */
size_t ring_peek(struct ring *, const char **at);         /* reader: contiguous bytes ready */
void ring_take(struct ring *, size_t n);                  /* reader */

#endif
