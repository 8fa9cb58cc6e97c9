/*
 * What the fields of a head say about the connection and the framing: they are taken out of the list
 * and into struct h1_head; only what goes from end to end stays (RFC 9110 7.6.1, RFC 9112 6).
 *
 * Owner: the codec's stream.  One thread.
 */
#include <string.h>

#include "proxy/codec/h1.h"

/* RFC 9110 7.6.1: which fields a Connection option may not take away. */
enum nominated { NOMINATED_GONE, NOMINATED_STAYS, NOMINATED_BAD };

static enum nominated
nominated(enum field_id id)
{
	switch (id) {
	case F_HOST:
	case F_CONTENT_LENGTH:
	case F_TRANSFER_ENCODING:
		return NOMINATED_BAD;
	case F_COOKIE:
	case F_SET_COOKIE:
	case F_AUTHORIZATION:
	case F_FORWARDED:
	case F_X_FORWARDED_FOR:
	case F_X_FORWARDED_PROTO:
	case F_X_FORWARDED_HOST:
	case F_X_FORWARDED_PORT:
	case F_X_REAL_IP:
	case F_X_REQUEST_ID:
		return NOMINATED_STAYS;
	default: /* of an open set: every other name may be hop-by-hop for somebody */
		return NOMINATED_GONE;
	}
}

/* Marks for removal what one Connection option names. */
static enum outcome
connection_option(struct h1_head *h, struct text option)
{
	char lower[64];
	enum field_id id;

	if (!token_valid(option.p, option.n))
		return OUTCOME_BAD_REQUEST;
	if (option.n > sizeof(lower))
		return OUTCOME_BAD_REQUEST; /* no name that long is hop-by-hop for anybody */
	for (size_t i = 0; i < option.n; i++) {
		char c = option.p[i];

		lower[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	option.p = lower;
	h->close |= text_is(option, "close");
	h->keep_alive |= text_is(option, "keep-alive");
	h->upgrade |= text_is(option, "upgrade");
	id = field_lookup(lower, option.n);
	switch (nominated(id)) {
	case NOMINATED_BAD:
		return OUTCOME_BAD_REQUEST;
	case NOMINATED_STAYS:
		return OUTCOME_OK;
	case NOMINATED_GONE:
		break;
	}
	for (unsigned i = 0; i < h->fields.n; i++) {
		struct field *f = &h->fields.items[i];

		if (f->name.n == option.n && memcmp(f->name.p, lower, option.n) == 0 &&
		    (field_table[f->id].flags & (FIELD_HOP | FIELD_FRAMING)) == 0)
			f->name.n = 0; /* swept later */
	}
	return OUTCOME_OK;
}

/* All Connection fields.  The work is options times fields, so the options are counted. */
static enum outcome
connection_fields(struct h1_head *h)
{
	unsigned options = 0;

	for (unsigned i = 0; i < h->fields.n; i++) {
		struct text list = h->fields.items[i].value;

		if (h->fields.items[i].id != F_CONNECTION)
			continue;
		while (list.n > 0) {
			const char *comma = memchr(list.p, ',', list.n);
			size_t n = comma == NULL ? list.n : (size_t)(comma - list.p);
			struct text option = h1_trim((struct text){list.p, n});

			if (++options > H1_CONNECTION_OPTIONS)
				return OUTCOME_BAD_REQUEST;
			if (option.n > 0) { /* empty elements are allowed (RFC 9110 5.6.1) */
				enum outcome why = connection_option(h, option);

				if (why != OUTCOME_OK)
					return why;
			}
			n += comma != NULL;
			list.p += n;
			list.n -= n;
		}
	}
	return OUTCOME_OK;
}

/* A field that is not passed on: what it says goes into *h. */
static enum outcome
take_field(struct h1_head *h, const struct field *f)
{
	switch (f->id) {
	case F_HOST:
		h->n_hosts++;
		h->host = f->value;
		return OUTCOME_OK;
	case F_CONTENT_LENGTH:
		/* RFC 9112 6.3: a second one is refused even when it says the same */
		if (h->content_length != HEAD_LENGTH_NONE)
			return OUTCOME_BAD_REQUEST;
		h->content_length = content_length_parse(f->value.p, f->value.n);
		return h->content_length < 0 ? OUTCOME_BAD_REQUEST : OUTCOME_OK;
	case F_TRANSFER_ENCODING:
		if (h->chunked)
			return OUTCOME_BAD_REQUEST;
		h->chunked = text_is_nocase(f->value, "chunked");
		if (h->chunked)
			return OUTCOME_OK;
		/* RFC 9112 6.1: 501 for a coding we do not know, if it is one */
		return token_valid(f->value.p, f->value.n) ? OUTCOME_NOT_IMPLEMENTED
							   : OUTCOME_BAD_REQUEST;
	case F_UPGRADE:
		h->websocket |= list_has(f->value, "websocket");
		return OUTCOME_OK;
	case F_EXPECT:
		if (text_is_nocase(f->value, "100-continue"))
			h->expect_continue = true;
		else
			h->expect_other = true;
		return OUTCOME_OK;
	case F_SEC_WEBSOCKET_KEY:
		/* two keys are none */
		h->websocket_key = h->websocket_key.p == NULL ? f->value : TEXT("-");
		return OUTCOME_OK;
	case F_SEC_WEBSOCKET_ACCEPT:
		h->websocket_accept = h->websocket_accept.p == NULL ? f->value : TEXT("-");
		return OUTCOME_OK;
	default: /* hop-by-hop and of no interest */
		return OUTCOME_OK;
	}
}

static bool
end_to_end(const struct field *f)
{
	switch (f->id) {
	case F_EXPECT:
	case F_SEC_WEBSOCKET_KEY:
	case F_SEC_WEBSOCKET_ACCEPT:
		return false; /* each codec's own */
	default:
		return (field_table[f->id].flags & (FIELD_HOP | FIELD_FRAMING)) == 0;
	}
}

/* Splits the list into what is passed on and what is understood. */
enum outcome
h1_sort_fields(struct h1_head *h)
{
	enum outcome why = connection_fields(h);
	unsigned kept = 0;
	size_t bytes = 0;

	for (unsigned i = 0; i < h->fields.n; i++) {
		const struct field f = h->fields.items[i];

		if (f.name.n == 0)
			continue;
		if (end_to_end(&f)) {
			bytes += f.name.n + f.value.n + 32;
			h->fields.items[kept++] = f;
			continue;
		}
		enum outcome bad = take_field(h, &f);

		if (why == OUTCOME_OK)
			why = bad;
	}
	h->fields.n = kept;
	h->fields.bytes = bytes;
	/* RFC 9112 6.1: both is request smuggling or response splitting; HTTP/1.0 has no transfer codings */
	if (h->chunked && (h->content_length != HEAD_LENGTH_NONE || h->minor == 0))
		return OUTCOME_BAD_REQUEST;
	return why;
}
