/*
 * A stream in memory, front or back: it notes what the verbs were given and holds the exchange to the
 * contract of stream.h (one head, nothing after the end, no more credit than bytes, nothing after closed).
 * The test plays the peer by the fire functions.
 */
#ifndef TEST_FAKE_STREAM_H
#define TEST_FAKE_STREAM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/message/stream.h"

struct fake_stream {
	struct stream stream; /* first */
	LIST_ENTRY(fake_stream) link;
	bool open; /* neither closed nor reset */
	/* from the exchange */
	unsigned heads; /* final ones; for a back stream the request's */
	unsigned status;
	unsigned interim[8], n_interim;
	char *fields; /* of the last head: "name: value\n"... */
	char *line;   /* back: "METHOD path" */
	bool expects; /* back: with Expect: 100-continue */
	bool websocket;
	int64_t content_length;
	char *sent;
	size_t n_sent;
	bool ended, with_head; /* the message; and by its head already */
	char *trailers;
	size_t drained;
	size_t ahead; /* what hold() said last */
	bool reset;
	enum outcome why;
	/* to the exchange */
	size_t given, consumed;
};
LIST_HEAD(fake_list, fake_stream);

static inline struct fake_stream *
fake_of(struct stream *s)
{
	CHECK_MAGIC(s, STREAM_MAGIC);
	return (struct fake_stream *)(void *)s;
}

static inline void
fake_append(char **to, size_t *n, const void *p, size_t more)
{
	*to = realloc(*to, *n + more + 1);
	ENSURE(*to != NULL);
	if (more > 0)
		memcpy(*to + *n, p, more);
	*n += more;
	(*to)[*n] = '\0';
}

static inline char *
fake_fields_text(const struct fields *list)
{
	char *text = NULL;
	size_t n = 0;

	fake_append(&text, &n, "", 0);
	for (unsigned i = 0; i < list->n; i++) {
		fake_append(&text, &n, list->items[i].name.p, list->items[i].name.n);
		fake_append(&text, &n, ": ", 2);
		fake_append(&text, &n, list->items[i].value.p, list->items[i].value.n);
		fake_append(&text, &n, "\n", 1);
	}
	return text;
}

/* --- verbs ------------------------------------------------------------------------- */

static inline void
fake_send_head(struct stream *s, const struct head *head, bool end)
{
	struct fake_stream *f = fake_of(s);
	bool interim = head->status != 0 && head->status < 200 && head->status != 101;
	size_t n = 0;

	ENSURE(f->open && f->heads == 0);
	if (interim) {
		ENSURE(!end && f->n_interim < 8);
		f->interim[f->n_interim++] = head->status;
		return;
	}
	f->heads++;
	f->status = head->status;
	f->ended = f->with_head = end;
	f->expects = head->expect_continue;
	f->websocket = head->websocket;
	f->content_length = head->content_length;
	free(f->fields);
	f->fields = fake_fields_text(&head->fields);
	free(f->line);
	f->line = NULL;
	fake_append(&f->line, &n, head->method_text.p, head->method_text.n);
	fake_append(&f->line, &n, " ", 1);
	fake_append(&f->line, &n, head->path.p, head->path.n);
}

static inline void
fake_send_body(struct stream *s, struct slice body, bool end)
{
	struct fake_stream *f = fake_of(s);

	ENSURE(f->open && f->heads == 1 && !f->ended && (body.n > 0 || end));
	fake_append(&f->sent, &f->n_sent, body.p, body.n);
	f->stream.bytes_out += body.n;
	f->ended = end;
}

static inline void
fake_send_trailers(struct stream *s, const struct fields *list)
{
	struct fake_stream *f = fake_of(s);

	ENSURE(f->open && f->heads == 1 && !f->ended);
	f->ended = true;
	f->trailers = fake_fields_text(list);
}

static inline void
fake_consumed(struct stream *s, size_t n)
{
	struct fake_stream *f = fake_of(s);

	ENSURE(f->open && n > 0 && f->consumed + n <= f->given);
	f->consumed += n;
}

static inline void
fake_hold(struct stream *s, size_t ahead)
{
	struct fake_stream *f = fake_of(s);

	ENSURE(f->open && ahead >= STREAM_HELD && f->ahead != ahead);
	f->ahead = ahead;
}

static inline void
fake_reset(struct stream *s, enum outcome why)
{
	struct fake_stream *f = fake_of(s);

	ENSURE(f->open);
	f->open = false;
	f->reset = true;
	f->why = why;
	f->stream.events = NULL;
}

static inline struct fake_stream *
fake_stream_new(struct fake_list *list, struct chunk_pool *chunks)
{
	static const struct stream_verbs verbs = {.send_head = fake_send_head,
	    .send_body = fake_send_body,
	    .send_trailers = fake_send_trailers,
	    .consumed = fake_consumed,
	    .hold = fake_hold,
	    .reset = fake_reset};
	struct fake_stream *f = calloc(1, sizeof(*f));
	size_t n = 0;

	ENSURE(f != NULL);
	f->stream.magic = STREAM_MAGIC;
	f->stream.verbs = &verbs;
	arena_init(&f->stream.arena, chunks);
	fake_append(&f->sent, &n, "", 0);
	f->open = true;
	LIST_INSERT_HEAD(list, f, link);
	return f;
}

static inline void
fake_stream_free(struct fake_stream *f)
{
	LIST_REMOVE(f, link);
	arena_fini(&f->stream.arena);
	free(f->fields);
	free(f->line);
	free(f->sent);
	free(f->trailers);
	free(f);
}

/* --- the peer's doing ----------------------------------------------------------------- */

/* "name: value\n" lines as fields in the arena. */
static inline void
fake_fields(struct fields *to, struct arena *a, const char *text)
{
	while (*text != '\0') {
		const char *colon = strstr(text, ": "), *end = strchr(text, '\n');
		size_t n;

		ENSURE(colon != NULL && end != NULL && colon < end);
		n = (size_t)(colon - text);
		fields_add(to, a, field_lookup(text, n), (struct text){arena_copy(a, text, n), n},
		    (struct text){arena_copy(a, colon + 2, (size_t)(end - colon) - 2),
			(size_t)(end - colon) - 2});
		text = end + 1;
	}
}

/* A back stream's response head. */
static inline void
fire_head_with(struct fake_stream *f, unsigned status, const char *fields, bool end)
{
	struct head head = {
	    .status = status, .minor = 1, .content_length = HEAD_LENGTH_NONE, .no_body = end};
	struct arena a;

	ENSURE(f->open);
	arena_init(&a, f->stream.arena.pool);
	fake_fields(&head.fields, &a, fields);
	f->stream.events->head(f->stream.user, &head, end);
	arena_fini(&a);
}

static inline void
fire_head(struct fake_stream *f, unsigned status, bool end)
{
	fire_head_with(f, status, "", end);
}

/* Borrowed memory that is gone after the call. */
static inline void
fire_body(struct fake_stream *f, const char *text, bool end)
{
	size_t n = strlen(text);
	char *copy = strdup(text);

	ENSURE(f->open && copy != NULL);
	f->given += n;
	f->stream.bytes_in += n;
	f->stream.events->body(f->stream.user, slice_borrowed(copy, n), end);
	free(copy);
}

static inline void
fire_bytes(struct fake_stream *f, size_t n, bool end)
{
	char *bytes = malloc(n + 1);

	ENSURE(bytes != NULL);
	memset(bytes, 'x', n);
	bytes[n] = '\0';
	fire_body(f, bytes, end);
	free(bytes);
}

static inline void
fire_trailers(struct fake_stream *f, const char *text)
{
	struct fields list = {0};
	struct arena a;

	ENSURE(f->open);
	arena_init(&a, f->stream.arena.pool);
	fake_fields(&list, &a, text);
	f->stream.events->trailers(f->stream.user, &list);
	arena_fini(&a);
}

/* What was sent and is not told yet has left for the transport. */
static inline void
fire_drained(struct fake_stream *f)
{
	size_t n = f->n_sent - f->drained;

	if (!f->open || n == 0)
		return;
	f->drained = f->n_sent;
	f->stream.events->drained(f->stream.user, n);
}

static inline void
fire_closed(struct fake_stream *f, enum outcome why)
{
	const struct stream_events *events = f->stream.events;

	ENSURE(f->open);
	f->open = false;
	f->stream.events = NULL;
	events->closed(f->stream.user, why);
}

#endif
