/*
 * Fields of HTTP/2 messages: a decoded header block becomes struct fields, a head becomes a list nghttp2
 * can compress.  What RFC 9113 8.2 forbids nghttp2 refuses before it comes here (upper case, connection fields, control
 * characters, pseudo-fields out of place); limits, dropping and joining are ours.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/h2.h"

#define FIELD_COST 32U  /* per field, RFC 7541 4.1 */
#define SCRATCH    160U /* fields of nearly every message */

/* --- in ------------------------------------------------------------------------------ */

void
h2_block_begin(struct h2_stream *s)
{
	memset(&s->block, 0, sizeof(s->block));
	s->block.content_length = HEAD_LENGTH_NONE;
}

static struct text
kept(struct arena *arena, struct text t)
{
	return (struct text){t.n > 0 ? arena_copy(arena, t.p, t.n) : "", t.n};
}

static void
pseudo(struct h2_block *b, struct arena *arena, struct text name, struct text value)
{
	if (text_is(name, ":method"))
		b->method = kept(arena, value);
	else if (text_is(name, ":path"))
		b->path = kept(arena, value);
	else if (text_is(name, ":authority"))
		b->authority = kept(arena, value);
	else if (text_is(name, ":scheme"))
		b->scheme = kept(arena, value);
	else if (text_is(name, ":protocol"))
		b->protocol = kept(arena, value);
	else if (text_is(name, ":status"))
		for (size_t i = 0; i < value.n && i < 3; i++) /* three digits: nghttp2 has looked */
			b->status = b->status * 10 + (unsigned)(value.p[i] - '0');
}

/* Underscores: CGI-like backends read `x_forwarded_for` as `x-forwarded-for` (attack 37). */
static bool
dropped(const struct h2_block *b, enum field_id id, struct text name, bool trailers)
{
	unsigned flags = field_table[id].flags;

	(void)b;
	if ((flags & (FIELD_HOP | FIELD_FRAMING)) != 0 ||
	    (trailers && (flags & FIELD_NO_TRAILER) != 0))
		return true;
	if (id == F_SEC_WEBSOCKET_KEY || id == F_SEC_WEBSOCKET_ACCEPT)
		return true; /* of HTTP/1.1 only, each hop's own */
	return id == F_OTHER && memchr(name.p, '_', name.n) != NULL;
}

static void
regular(struct h2_block *b, struct arena *arena, struct text name, struct text value, bool trailers)
{
	enum field_id id = field_lookup(name.p, name.n);

	if (!trailers && id == F_HOST)
		b->host = kept(arena, value);
	if (!trailers && id == F_CONTENT_LENGTH)
		b->content_length = content_length_parse(value.p, value.n);
	if (!trailers && id == F_EXPECT) {
		b->expect = kept(arena, value);
		b->has_expect = true;
		return; /* a flag of the head; codecs write it anew */
	}
	if (dropped(b, id, name, trailers))
		return;
	b->crumbs += id == F_COOKIE;
	if (id == F_OTHER)
		name = kept(arena, name);
	else
		name = (struct text){field_table[id].name, field_table[id].n};
	fields_add(&b->fields, arena, id, name, kept(arena, value));
}

/* Over the limit: what was kept is given up now, though the stream may be held open for long (attack 12). */
static void
too_large(struct h2_block *b, struct arena *arena, bool trailers)
{
	struct h2_block left = {.bytes = b->bytes, .count = b->count, .too_large = true};

	left.content_length = HEAD_LENGTH_NONE;
	*b = left;
	if (!trailers) /* else the request's head lives there */
		arena_fini(arena);
}

int
h2_block_add(
    struct h2_stream *s, struct arena *arena, struct text name, struct text value, bool trailers)
{
	struct h2_block *b = &s->block;

	b->bytes += name.n + value.n + FIELD_COST;
	b->count++;
	if ((b->bytes > s->h2->header_bytes || b->count > s->h2->header_count) && !b->too_large)
		too_large(b, arena, trailers);
	if (b->too_large)
		return b->bytes > s->h2->header_bytes + H2_BLOCK_EXCESS ? -1 : 0;
	if (name.n > 0 && name.p[0] == ':')
		pseudo(b, arena, name, value);
	else
		regular(b, arena, name, value, trailers);
	return 0;
}

void
h2_block_join_cookies(struct h2_block *b, struct arena *arena)
{
	struct field *first = NULL;
	size_t total = 0;
	unsigned kept_n = 0;
	char *at = NULL;

	if (b->crumbs < 2)
		return;
	for (unsigned i = 0; i < b->fields.n; i++) {
		if (b->fields.items[i].id == F_COOKIE)
			total += b->fields.items[i].value.n + 2;
	}
	for (unsigned i = 0; i < b->fields.n; i++) {
		struct field f = b->fields.items[i];

		if (f.id != F_COOKIE || first == NULL)
			b->fields.items[kept_n++] = f;
		if (f.id != F_COOKIE)
			continue;
		if (first == NULL) {
			first = &b->fields.items[kept_n - 1];
			first->value.p = at = arena_alloc(arena, total);
		} else {
			*at++ = ';';
			*at++ = ' ';
		}
		memcpy(at, f.value.p, f.value.n);
		at += f.value.n;
	}
	if (first != NULL)
		first->value.n = total - 2;
	b->fields.n = kept_n;
	b->crumbs = 1;
}

/* --- out ------------------------------------------------------------------------------- */

void
h2_nva_begin(struct h2_nva *a, struct arena *arena, size_t n)
{
	static _Thread_local nghttp2_nv scratch[SCRATCH];

	*a = (struct h2_nva){.nv = scratch, .room = n};
	if (n > SCRATCH)
		a->nv = arena_alloc(arena, n * sizeof(nghttp2_nv));
}

static void
put(struct h2_nva *a, struct text name, struct text value, uint8_t flags)
{
	ENSURE(a->n < a->room);
	a->nv[a->n++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
	    .namelen = name.n,
	    .value = (uint8_t *)(uintptr_t)value.p,
	    .valuelen = value.n,
	    .flags = flags};
}

void
h2_nva_pseudo(struct h2_nva *a, struct text name, struct text value)
{
	put(a, name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

/* Secrets, and values so rarely repeated that they would only push others out of the HPACK table. */
static uint8_t
indexing(enum field_id id)
{
	switch (id) {
	case F_AUTHORIZATION:
	case F_PROXY_AUTHENTICATE:
	case F_COOKIE:
	case F_SET_COOKIE:
	case F_X_REQUEST_ID:
	case F_X_FORWARDED_FOR:
	case F_X_REAL_IP:
	case F_FORWARDED:
	case F_CONTENT_RANGE:
	case F_LAST_MODIFIED:
		return NGHTTP2_NV_FLAG_NO_INDEX;
	default: /* the rest of fields.def */
		return NGHTTP2_NV_FLAG_NONE;
	}
}

void
h2_nva_field(struct h2_nva *a, enum field_id id, struct text value)
{
	struct text name = {field_table[id].name, field_table[id].n};

	if (!field_value_valid(value.p, value.n))
		a->bad = true;
	put(a, name, value, (uint8_t)(NGHTTP2_NV_FLAG_NO_COPY_NAME | indexing(id)));
}

/* Of the header rules' making, or an h1 backend's: RFC 9113 8.2.1 wants lower case. */
static bool
name_sendable(struct text name)
{
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			return false;
	}
	return token_valid(name.p, name.n);
}

void
h2_nva_fields(struct h2_nva *a, const struct fields *fields, bool trailers)
{
	unsigned never = FIELD_HOP | FIELD_FRAMING | (trailers ? FIELD_NO_TRAILER : 0U);

	for (unsigned i = 0; i < fields->n; i++) {
		const struct field *f = &fields->items[i];

		if ((field_table[f->id].flags & never) != 0 || f->id == F_EXPECT ||
		    f->id == F_SEC_WEBSOCKET_KEY || f->id == F_SEC_WEBSOCKET_ACCEPT)
			continue;
		if (f->id != F_OTHER) {
			h2_nva_field(a, f->id, f->value);
			continue;
		}
		if (!name_sendable(f->name) || !field_value_valid(f->value.p, f->value.n))
			a->bad = true;
		put(a, f->name, f->value, NGHTTP2_NV_FLAG_NONE);
	}
}

nghttp2_nv *
h2_nva_keep(const struct h2_nva *a, struct arena *arena)
{
	nghttp2_nv *nv = arena_alloc(arena, (a->n + 1) * sizeof(*nv));

	for (size_t i = 0; i < a->n; i++) {
		nv[i] = a->nv[i];
		if ((nv[i].flags & NGHTTP2_NV_FLAG_NO_COPY_NAME) == 0)
			nv[i].name = arena_copy(arena, nv[i].name, nv[i].namelen);
		nv[i].value = arena_copy(arena, nv[i].value, nv[i].valuelen);
	}
	return nv;
}
