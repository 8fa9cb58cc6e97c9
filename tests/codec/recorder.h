/*
 * What a fake exchange saw, as text: head lines at once, body bytes gathered until the next other
 * event, so that an input cut up differently reads the same.
 */
#ifndef TEAL_RECORDER_H
#define TEAL_RECORDER_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/message/stream.h"

struct recorder {
	char *text;
	size_t n;
	char *body;
	size_t n_body;
};

static inline void
record_bytes(char **to, size_t *n, const void *p, size_t more)
{
	*to = realloc(*to, *n + more + 1);
	ENSURE(*to != NULL);
	if (more > 0)
		memcpy(*to + *n, p, more);
	*n += more;
	(*to)[*n] = '\0';
}

static inline void
record_flush(struct recorder *r)
{
	if (r->n_body == 0)
		return;
	record_bytes(&r->text, &r->n, "body ", 5);
	record_bytes(&r->text, &r->n, r->body, r->n_body);
	record_bytes(&r->text, &r->n, "\n", 1);
	r->n_body = 0;
}

__attribute__((format(printf, 2, 3))) static inline void
record(struct recorder *r, const char *format, ...)
{
	char line[4096];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(line, sizeof(line), format, args);

	va_end(args);
	ENSURE(n >= 0 && (size_t)n < sizeof(line));
	record_flush(r);
	record_bytes(&r->text, &r->n, line, (size_t)n);
}

static inline void
record_body(struct recorder *r, struct slice s)
{
	record_bytes(&r->body, &r->n_body, s.p, s.n);
}

static inline void
record_fields(struct recorder *r, const struct fields *list)
{
	for (unsigned i = 0; i < list->n; i++) {
		const struct field *f = &list->items[i];

		record(r, " [%.*s=%.*s]", (int)f->name.n, f->name.p, (int)f->value.n, f->value.p);
	}
}

static inline const char *
recorded(struct recorder *r)
{
	record_flush(r);
	return r->text == NULL ? "" : r->text;
}

static inline void
record_fini(struct recorder *r)
{
	free(r->text);
	free(r->body);
	*r = (struct recorder){0};
}

#endif
