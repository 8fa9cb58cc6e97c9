/*
 * llhttp over one whole head: a second reading of what h1_head.c scanned, by a grammar that many
 * servers share.  One call over contiguous bytes, so its spans are whole; it never sees a body.
 *
 * Owner: nobody, the parser lives on the stack of the call.  Any thread.
 */
#include <llhttp.h>

#include "proxy/codec/h1_grammar.h"

struct run {
	bool (*field)(void *, const char *, size_t, const char *, size_t);
	void *user;
	const char *name, *value;
	size_t name_n, value_n;
	bool done, stopped, torn;
};

/* llhttp may give a span in pieces: in one call over contiguous bytes they touch. */
static int
extend(struct run *r, const char **span, size_t *span_n, const char *at, size_t n)
{
	if (*span == NULL) {
		*span = at;
	} else if (*span + *span_n != at) {
		r->torn = true;
		return -1;
	}
	*span_n += n;
	return 0;
}

static int
on_name(llhttp_t *parser, const char *at, size_t n)
{
	struct run *r = parser->data;

	return extend(r, &r->name, &r->name_n, at, n);
}

static int
on_value(llhttp_t *parser, const char *at, size_t n)
{
	struct run *r = parser->data;

	return extend(r, &r->value, &r->value_n, at, n);
}

static int
on_value_complete(llhttp_t *parser)
{
	struct run *r = parser->data;

	if (r->name == NULL) {
		r->torn = true;
		return -1;
	}
	r->stopped =
	    !r->field(r->user, r->name, r->name_n, r->value == NULL ? "" : r->value, r->value_n);
	r->name = r->value = NULL;
	r->name_n = r->value_n = 0;
	return r->stopped ? -1 : 0;
}

static int
on_headers_complete(llhttp_t *parser)
{
	struct run *r = parser->data;

	r->done = true;
	return HPE_PAUSED; /* bodies are not llhttp's */
}

static llhttp_settings_t settings;

__attribute__((constructor)) static void
fill_settings(void)
{
	llhttp_settings_init(&settings);
	settings.on_header_field = on_name;
	settings.on_header_value = on_value;
	settings.on_header_value_complete = on_value_complete;
	settings.on_headers_complete = on_headers_complete;
}

enum h1_grammar
h1_grammar(bool request, const char *head, size_t n,
    bool (*field)(void *, const char *, size_t, const char *, size_t), void *user)
{
	struct run r = {.field = field, .user = user};
	llhttp_errno_t error;
	llhttp_t parser;

	llhttp_init(&parser, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	parser.data = &r;
	error = llhttp_execute(&parser, head, n);
	if (r.stopped)
		return H1_GRAMMAR_STOPPED;
	if (error == HPE_INVALID_METHOD)
		return H1_GRAMMAR_METHOD;
	return error == HPE_PAUSED && r.done && !r.torn ? H1_GRAMMAR_OK : H1_GRAMMAR_BAD;
}
