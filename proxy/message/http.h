/*
 * HTTP semantics (RFC 9110) that know nothing of h1 and h2: a head, its fields, what they may
 * contain, which are hop-by-hop.  Pure; memory belongs to the arena the head was built in.
 */
#ifndef TEAL_HTTP_H
#define TEAL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proxy/base/buf.h"

struct text { /* not NUL-terminated */
	const char *p;
	size_t n;
};
#define TEXT(literal) ((struct text){"" literal, sizeof(literal) - 1})
static inline struct text
text_of(const char *s)
{
	return (struct text){s, strlen(s)};
}
/* Exact.  Here, so that the compiler sees a literal's length: most answers are one comparison of lengths. */
static inline bool
text_is(struct text t, const char *word)
{
	size_t n = strlen(word);

	return t.n == n && (n == 0 || memcmp(t.p, word, n) == 0);
}
#define DIGITS 20                                        /* of 2^64 - 1 */
struct text text_decimal(char buffer[DIGITS], uint64_t); /* in the buffer, not at its beginning */
bool text_is_nocase(struct text, const char *);          /* ASCII, `b` lower case */

/* Field names teal acts on.  F_OTHER is everything else. */
enum field_id {
	F_OTHER,
#define FIELD(id, name, flags) F_##id,
#include "proxy/message/fields.def"
#undef FIELD
	N_FIELD_IDS
};
enum {
	FIELD_HOP = 1,        /* hop-by-hop: never forwarded (RFC 9110 7.6.1) */
	FIELD_FRAMING = 2,    /* decides framing or routing: the codec's own, written anew */
	FIELD_NO_TRAILER = 4, /* not allowed in trailers (RFC 9110 6.5.1) */
	FIELD_SINGLE = 8,     /* more than one is malformed */
};
extern const struct field_row {
	const char *name;
	uint8_t n;
	uint8_t flags;
} field_table[N_FIELD_IDS];
enum field_id field_lookup(const char *lower_name, size_t n);

struct field {
	struct text name;  /* lower case, always */
	struct text value; /* no leading or trailing blanks */
	enum field_id id;
};
struct fields {
	struct field *items;
	unsigned n, room;
	size_t bytes; /* decoded: sum of name + value + 32 (RFC 7541 4.1) */
};
/* Appends; items live in the arena (grown by doubling). */
void fields_add(
    struct fields *, struct arena *, enum field_id, struct text name, struct text value);
const struct field *fields_find(const struct fields *, enum field_id); /* first, or NULL */
const struct field *fields_find_name(const struct fields *, const char *lower_name, size_t n);
void fields_remove(struct fields *, unsigned i); /* keeps order */

enum method {
	METHOD_OTHER,
	METHOD_GET,
	METHOD_HEAD,
	METHOD_POST,
	METHOD_PUT,
	METHOD_DELETE,
	METHOD_OPTIONS,
	METHOD_PATCH,
	METHOD_TRACE,
	METHOD_CONNECT
};
enum method method_lookup(const char *, size_t n); /* case matters (RFC 9110 9.1) */
bool method_idempotent(enum method);               /* RFC 9110 9.2.2 */

enum {
	HEAD_LENGTH_NONE = -1, /* no content-length: chunked, h2 or until close */
};

struct head {
	/* request */
	enum method method;
	struct text method_text;
	struct text scheme; /* "http" | "https" as the connection says, not the client */
	struct text
	    authority; /* host[:port], lower case; from :authority, absolute-form or Host; the only one */
	struct text path; /* origin-form with query, byte-exact; "*" for OPTIONS * */
	bool
	    websocket; /* h1: Upgrade: websocket + Connection: upgrade on GET; h2: CONNECT + :protocol */
	struct text websocket_key; /* h1 request: Sec-WebSocket-Key; else empty */
	bool expect_continue;      /* request has Expect: 100-continue and a body */
	/* response */
	unsigned status; /* 0 in a request */
	/* both */
	int64_t content_length; /* or HEAD_LENGTH_NONE */
	bool no_body;           /* nothing follows: the `end` flag is set too */
	bool h2;                /* the peer spoke HTTP/2 */
	unsigned minor;         /* HTTP/1.minor as received */
	struct fields
	    fields; /* end-to-end fields only: hop-by-hop, framing, host removed by the codec */
};

/* Grammar, RFC 9110 5.6.2, 5.5; RFC 9113 8.2.1.  */
bool token_valid(const char *, size_t n);
bool field_value_valid(
    const char *, size_t n); /* no CTL but HTAB (NUL, CR, LF), no leading/trailing blank */
/* origin-form or "*": visible ASCII without '#', SP, '"'?; begins with '/' (RFC 9112 3.2.1) */
bool path_valid(const char *, size_t n);
/* uri-host [":" port] without userinfo; port 1..65535 or empty; [v6] allowed (RFC 9110 7.2, RFC 3986 3.2) */
bool authority_valid(const char *, size_t n);
/* Without its port; the brackets of a v6 address are kept (RFC 9110 4.2.1). */
struct text authority_host(struct text authority);
/* decimal digits only, no overflow; -1 when not (RFC 9110 8.6) */
int64_t content_length_parse(const char *, size_t n);
/* Does the comma-separated list contain this token, case-insensitively? */
bool list_has(struct text list, const char *lower_token);
const char *status_reason(unsigned status); /* "Not Found"; "" when unknown */

#endif
