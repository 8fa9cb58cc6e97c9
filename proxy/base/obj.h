/*
 * Magic numbers and checked casts: every void * that crosses a callback is checked on
 * arrival, in every build.  Any thread.
 */
#ifndef TEAL_OBJ_H
#define TEAL_OBJ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Always on: an invariant that does not hold ends the process rather than a customer's data. */
#define ENSURE(cond)                                                                               \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0)) {                                                \
			fprintf(stderr, "teal: %s:%d: %s: ENSURE(%s)\n", __FILE__, __LINE__,       \
			    __func__, #cond);                                                      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* struct x starts with (or has) `uint32_t magic`; X_MAGIC is its number. */
#define CHECK_MAGIC(obj, number) ENSURE((obj) != NULL && (obj)->magic == (number))

#endif
