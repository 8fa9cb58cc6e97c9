/*
 * The last JOURNAL requests, with the moment each was decided upon.  Any thread; one lock, so it
 * costs a little while it is on.
 */
#ifndef ORIGIN_JOURNAL_H
#define ORIGIN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL        65536
#define JOURNAL_TARGET ((size_t)111) /* bytes of a target that are kept */

struct journal_entry {
	uint64_t us;
	bool faulty;
	unsigned char n;
	char target[JOURNAL_TARGET];
};

void journal_add(const char *target, size_t n, bool faulty);
void journal_clear(void);
/* Copies up to `max` entries, the oldest first, from number *at on, which moves behind them;
 * entries before `us` are passed over.  0: there are no more. */
size_t journal_read(uint64_t *at, uint64_t us, struct journal_entry *, size_t max);

#endif
