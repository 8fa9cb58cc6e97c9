/*
 * Memory for loading, which never fails: a machine that cannot give a few kilobytes for a
 * configuration cannot run a proxy, so out of memory ends the process with a sentence.
 *
 * Only config/ uses this, only while loading; nothing on the request path.
 */
#ifndef TEAL_CONFIG_ALLOC_H
#define TEAL_CONFIG_ALLOC_H

#include <stddef.h>

void *must_alloc(size_t n, size_t size);           /* zeroed */
void *must_resize(void *p, size_t n, size_t size); /* realloc */
char *must_copy(const char *text);                 /* strdup */
char *must_copy_n(const char *text, size_t n);     /* strndup */
char *must_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
