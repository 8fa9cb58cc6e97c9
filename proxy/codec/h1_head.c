/*
 * HTTP/1.1 heads: from bytes to a list of fields whose framing is beyond doubt (RFC 9112).
 *
 *   h1_scan()  finds the end, line by line, never looking at a byte twice;
 *   copy       the whole head goes into the arena with one memcpy, every text points there;
 *   llhttp     is run over exactly these bytes: one call, so that its spans are whole;
 *   own rules  on top, wherever llhttp is laxer than attacks on proxies allow: every line is a field,
 *              names are tokens, values have no CTL, Content-Length and Transfer-Encoding come once and say one
 *              thing.  They do not rely on how llhttp was compiled (strict or not).
 *
 * What is refused here never becomes a request.  Owner: the codec's stream.  One thread.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/h1.h"
#include "proxy/codec/h1_grammar.h"

/* --- where a head ends ------------------------------------------------------ */

enum h1_found
h1_scan(struct h1_scan *s, const unsigned char *p, size_t n, size_t line_max, size_t max)
{
	const unsigned char *lf;

	while (s->at < n && (lf = memchr(p + s->at, '\n', n - s->at)) != NULL) {
		size_t i = (size_t)(lf - p);

		/* RFC 9112 2.2: a line ends with CRLF; a bare LF is how two parsers come to differ */
		if (i == s->line || p[i - 1] != '\r')
			return H1_BAD;
		s->at = i + 1;
		if (i - 1 == s->line)
			return s->lines == 0 ? H1_BAD : H1_WHOLE;
		if (s->lines == 0) {
			s->first_line = i - 1 - s->line;
			if (s->first_line > line_max)
				return H1_LINE_TOO_LONG;
		} else if (p[s->line] == ' ' || p[s->line] == '\t') {
			return H1_BAD; /* obs-fold, RFC 9112 5.2; before the first field, 2.2 */
		}
		s->lines++;
		s->line = s->at;
	}
	s->at = n;
	if (s->lines == 0 && n > line_max + 1)
		return H1_LINE_TOO_LONG;
	return n >= max ? H1_TOO_LARGE : H1_MORE;
}

/* --- first lines -------------------------------------------------------------- */

/* "HTTP/1.1": OK and *minor; RFC 9112 2.3 */
static enum outcome
version(const char *p, size_t n, unsigned *minor)
{
	if (n != 8 || memcmp(p, "HTTP/", 5) != 0 || p[6] != '.')
		return OUTCOME_BAD_REQUEST;
	if (p[5] < '0' || p[5] > '9' || p[7] < '0' || p[7] > '9')
		return OUTCOME_BAD_REQUEST;
	if (p[5] != '1' || p[7] > '1')
		return OUTCOME_VERSION_REFUSED;
	*minor = (unsigned)(p[7] - '0');
	return OUTCOME_OK;
}

static bool
target_valid(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)p[i] <= ' ' || (unsigned char)p[i] >= 0x7f || p[i] == '#')
			return false;
	}
	return n > 0;
}

enum outcome
h1_request_line(const char *p, size_t n, struct h1_head *h)
{
	const char *space = memchr(p, ' ', n);
	const char *target, *last;
	enum outcome why;

	/* method SP request-target SP HTTP-version, single spaces (RFC 9112 3) */
	if (space == NULL || !token_valid(p, (size_t)(space - p)))
		return OUTCOME_BAD_REQUEST;
	target = space + 1;
	last = memrchr(p, ' ', n);
	if (last == space)
		return OUTCOME_BAD_REQUEST; /* HTTP/0.9 */
	if (!target_valid(target, (size_t)(last - target)))
		return OUTCOME_BAD_REQUEST;
	h->method = (struct text){p, (size_t)(space - p)};
	h->target = (struct text){target, (size_t)(last - target)};
	why = version(last + 1, (size_t)(p + n - last - 1), &h->minor);
	if (why != OUTCOME_OK)
		return why;
	if (h->method.n > H1_METHOD_MAX)
		return OUTCOME_NOT_IMPLEMENTED;
	/* the HTTP/2 preface's word is reserved (RFC 9113 11.6) */
	return text_is(h->method, "PRI") ? OUTCOME_BAD_REQUEST : OUTCOME_OK;
}

enum outcome
h1_status_line(const char *p, size_t n, struct h1_head *h)
{
	/* HTTP-version SP 3DIGIT [ SP reason ] (RFC 9112 4); the second SP is often left out */
	if (n < 12 || version(p, 8, &h->minor) != OUTCOME_OK || p[8] != ' ')
		return OUTCOME_BAD_REQUEST;
	for (int i = 9; i < 12; i++) {
		if (p[i] < '0' || p[i] > '9')
			return OUTCOME_BAD_REQUEST;
	}
	h->status = (unsigned)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
	if (h->status < 100 || h->status > 599)
		return OUTCOME_BAD_REQUEST;
	if (n == 12)
		return OUTCOME_OK;
	if (p[12] != ' ')
		return OUTCOME_BAD_REQUEST;
	for (p += 13, n -= 13; n > 0 && (*p == ' ' || *p == '\t'); n--)
		p++;
	while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	return field_value_valid(p, n) ? OUTCOME_OK : OUTCOME_BAD_REQUEST;
}

/* --- fields ------------------------------------------------------------------------ */

struct parse {
	struct fields *fields;
	struct arena *arena;
	const struct h1_limits *limits;
	unsigned n; /* fields seen, dropped ones too */
	size_t bytes;
	bool request;
	enum outcome why;
};

static bool
refuse(struct parse *p, enum outcome why)
{
	p->why = why;
	return false;
}

struct text
h1_trim(struct text t)
{
	while (t.n > 0 && (t.p[0] == ' ' || t.p[0] == '\t')) {
		t.p++;
		t.n--;
	}
	while (t.n > 0 && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
		t.n--;
	return t;
}

/* Checks, counts and keeps a field.  The name is lower-cased where it lies: the arena's copy of the head. */
static bool
add_field(struct parse *p, struct text name, struct text value)
{
	bool underscore = false;
	char *lower = (char *)(uintptr_t)name.p;
	enum field_id id;

	value = h1_trim(value);
	p->n++;
	p->bytes += name.n + value.n + 32;
	if (p->n > p->limits->count || p->bytes > p->limits->bytes)
		return refuse(p, OUTCOME_HEADER_TOO_LARGE);
	for (size_t i = 0; i < name.n; i++) {
		if (lower[i] >= 'A' && lower[i] <= 'Z')
			lower[i] = (char)(lower[i] | 0x20);
		underscore |= lower[i] == '_';
	}
	id = field_lookup(name.p, name.n);
	/* RFC 9110 5.1, 5.5; the colon follows at once (RFC 9112 5.1) as a blank is no token; the table's names are */
	if ((id == F_OTHER && !token_valid(name.p, name.n)) || !field_value_valid(value.p, value.n))
		return refuse(p, OUTCOME_BAD_REQUEST);
	/* CGI-like servers read Content_Length as Content-Length: a client may not send both */
	if (p->request && underscore)
		return true;
	if (id != F_OTHER)
		name.p = field_table[id].name;
	fields_add(p->fields, p->arena, id, name, value);
	return true;
}

static bool
on_field(void *user, const char *name, size_t name_n, const char *value, size_t value_n)
{
	return add_field(user, (struct text){name, name_n}, (struct text){value, value_n});
}

/* --- whole heads -------------------------------------------------------------------- */

static enum outcome
parse_fields(struct h1_head *h, struct arena *arena, const char *head, const struct h1_scan *s,
    const struct h1_limits *limits, bool request)
{
	struct parse p = {
	    .fields = &h->fields, .arena = arena, .limits = limits, .request = request};
	enum outcome why = OUTCOME_OK, sorted;

	switch (h1_grammar(request, head, s->at, on_field, &p)) {
	case H1_GRAMMAR_OK:
		/* every line but the first is a field, or llhttp has read something else than we scanned */
		if (p.n != s->lines - 1)
			why = OUTCOME_BAD_REQUEST;
		break;
	case H1_GRAMMAR_METHOD:
		why = OUTCOME_NOT_IMPLEMENTED; /* a token, we know by now, but no method it knows */
		break;
	case H1_GRAMMAR_BAD:
		why = OUTCOME_BAD_REQUEST;
		break;
	case H1_GRAMMAR_STOPPED:
		why = p.why;
		break;
	}
	sorted = h1_sort_fields(h); /* even then: the refused head is logged */
	if (sorted == OUTCOME_NOT_IMPLEMENTED && why == OUTCOME_BAD_REQUEST)
		return sorted; /* an unknown coding, which llhttp knows only as an error */
	return why != OUTCOME_OK ? why : sorted;
}

enum outcome
h1_parse_request(struct h1_head *h, struct arena *arena, const unsigned char *p,
    const struct h1_scan *s, const struct h1_limits *limits)
{
	const char *head = arena_copy(arena, p, s->at);
	enum outcome why;

	*h = (struct h1_head){.content_length = HEAD_LENGTH_NONE};
	why = h1_request_line(head, s->first_line, h);
	if (why != OUTCOME_OK)
		return why;
	/* RFC 9110 9.3.6, 9.3.8: neither is for a reverse proxy.  TRACK is TRACE's namesake. */
	switch (method_lookup(h->method.p, h->method.n)) {
	case METHOD_CONNECT:
	case METHOD_TRACE:
		return OUTCOME_METHOD_REFUSED;
	case METHOD_OTHER:
		if (text_is(h->method, "TRACK"))
			return OUTCOME_METHOD_REFUSED;
		break;
	case METHOD_OPTIONS:
	case METHOD_GET:
	case METHOD_HEAD:
	case METHOD_POST:
	case METHOD_PUT:
	case METHOD_DELETE:
	case METHOD_PATCH:
		break;
	}
	return parse_fields(h, arena, head, s, limits, true);
}

enum outcome
h1_parse_response(struct h1_head *h, struct arena *arena, const unsigned char *p,
    const struct h1_scan *s, const struct h1_limits *limits)
{
	const char *head = arena_copy(arena, p, s->at);
	enum outcome why;

	*h = (struct h1_head){.content_length = HEAD_LENGTH_NONE};
	why = h1_status_line(head, s->first_line, h);
	if (why != OUTCOME_OK)
		return why;
	return parse_fields(h, arena, head, s, limits, false);
}

enum outcome
h1_parse_trailers(struct fields *to, struct arena *arena, const unsigned char *bytes, size_t n,
    const struct h1_limits *limits, bool request)
{
	struct fields all = {0};
	struct parse p = {.fields = &all, .arena = arena, .limits = limits, .request = request};
	const char *at = arena_copy(arena, bytes, n), *end = at + n - 2;

	while (at < end) {
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		const char *stop =
		    lf - 1; /* h1_scan() has seen to it that each line ends with CRLF */
		const char *colon = memchr(at, ':', (size_t)(stop - at));

		if (colon == NULL)
			return OUTCOME_BAD_REQUEST;
		if (!add_field(&p, (struct text){at, (size_t)(colon - at)},
			(struct text){colon + 1, (size_t)(stop - colon - 1)}))
			return p.why;
		at = lf + 1;
	}
	*to = (struct fields){0};
	for (unsigned i = 0; i < all.n; i++) {
		const struct field *f = &all.items[i];

		/* RFC 9110 6.5.1: dropped, never merged into the header */
		if ((field_table[f->id].flags & FIELD_NO_TRAILER) == 0)
			fields_add(to, arena, f->id, f->name, f->value);
	}
	return OUTCOME_OK;
}
