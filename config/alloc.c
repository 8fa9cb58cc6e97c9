/*
 * Memory for loading: see alloc.h.  Any thread.
 */
#include "config/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
must(void *p)
{
	if (p == NULL) {
		fputs("teal: out of memory while loading the configuration\n", stderr);
		abort();
	}
	return p;
}

void *
must_alloc(size_t n, size_t size)
{
	return must(calloc(n > 0 ? n : 1, size));
}

void *
must_resize(void *p, size_t n, size_t size)
{
	return must(reallocarray(p, n > 0 ? n : 1, size));
}

char *
must_copy(const char *text)
{
	return must(strdup(text));
}

char *
must_copy_n(const char *text, size_t n)
{
	return must(strndup(text, n));
}

char *
must_print(const char *format, ...)
{
	va_list ap;
	char *out;
	int n;

	va_start(ap, format);
	n = vasprintf(&out, format, ap);
	va_end(ap);
	return must(n < 0 ? NULL : out);
}
