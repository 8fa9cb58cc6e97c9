/*
 * What a request means once its framing is known: whom it is for (Host and the request-target's four
 * forms), whether it wants a WebSocket, whether it waits for a 100 (RFC 9112 3.2, RFC 9110 7.2, 7.8, 10.1.1).
 *
 * Owner: front_h1's stream.  One thread.
 */
#include <string.h>
#include <strings.h>

#include "proxy/codec/h1.h"
#include "proxy/message/websocket.h"

/* Routing and forwarding use the same lower-case bytes; `t` lies in the arena's copy of the head. */
static struct text
lower_case(struct text t, struct arena *arena)
{
	char *copy = arena_copy(arena, t.p, t.n);

	for (size_t i = 0; i < t.n; i++) {
		if (copy[i] >= 'A' && copy[i] <= 'Z')
			copy[i] = (char)(copy[i] | 0x20);
	}
	return (struct text){copy, t.n};
}

static size_t
scheme_length(struct text target)
{
	if (target.n > 7 && strncasecmp(target.p, "http://", 7) == 0)
		return 7;
	if (target.n > 8 && strncasecmp(target.p, "https://", 8) == 0)
		return 8;
	return 0;
}

/* absolute-form (RFC 9112 3.2.2).  The scheme is not believed: the connection knows it. */
static bool
absolute_form(struct head *to, struct text target, struct text *authority, struct arena *arena)
{
	size_t at = scheme_length(target), end = at;

	if (at == 0)
		return false;
	while (end < target.n && target.p[end] != '/' && target.p[end] != '?')
		end++;
	*authority = (struct text){target.p + at, end - at};
	if (!authority_valid(authority->p, authority->n))
		return false;
	if (end == target.n) {
		to->path = to->method == METHOD_OPTIONS ? TEXT("*") : TEXT("/");
		return true;
	}
	to->path = (struct text){target.p + end, target.n - end};
	if (target.p[end] == '?') {
		char *path = arena_alloc(arena, to->path.n + 1);

		path[0] = '/';
		memcpy(path + 1, to->path.p, to->path.n);
		to->path = (struct text){path, to->path.n + 1};
	}
	return path_valid(to->path.p, to->path.n);
}

/* authority-form is CONNECT's alone and "*" is OPTIONS' alone (RFC 9112 3.2.3, 3.2.4) */
static enum outcome
take_target(struct head *to, const struct h1_head *from, struct arena *arena)
{
	struct text target = from->target, authority = {NULL, 0};
	bool asterisk = text_is(target, "*");

	if (target.p[0] == '/' || asterisk) {
		if (!path_valid(target.p, target.n))
			return OUTCOME_BAD_REQUEST;
		if (asterisk && to->method != METHOD_OPTIONS)
			return OUTCOME_BAD_REQUEST;
		to->path = target;
	} else if (!absolute_form(to, target, &authority, arena)) {
		return OUTCOME_BAD_REQUEST;
	}
	/* RFC 9112 3.2: exactly one Host, HTTP/1.0 may have none */
	if (from->n_hosts > 1 || (from->n_hosts == 0 && from->minor > 0))
		return OUTCOME_BAD_REQUEST;
	if (from->host.n > 0 && !authority_valid(from->host.p, from->host.n))
		return OUTCOME_BAD_REQUEST;
	if (authority.n == 0)
		authority = from->host;
	else if (from->n_hosts > 0 && (authority.n != from->host.n ||
					  strncasecmp(authority.p, from->host.p, authority.n) != 0))
		return OUTCOME_BAD_REQUEST; /* two answers to "for whom" are one too many */
	to->authority = lower_case(authority, arena);
	return OUTCOME_OK;
}

/* RFC 6455 4.1: whatever is missing makes it an ordinary request whose Upgrade is ignored (RFC 9110 7.8) */
static bool
wants_websocket(const struct head *to, const struct h1_head *from)
{
	const struct field *version = fields_find_name(
	    &from->fields, "sec-websocket-version", strlen("sec-websocket-version"));

	return from->upgrade && from->websocket && to->method == METHOD_GET && from->minor == 1 &&
	       !from->chunked && from->content_length == HEAD_LENGTH_NONE && version != NULL &&
	       text_is(version->value, "13") &&
	       websocket_key_valid(from->websocket_key.p, from->websocket_key.n);
}

enum outcome
h1_request(struct head *to, const struct h1_head *from, struct arena *arena)
{
	enum outcome why;

	to->method = method_lookup(from->method.p, from->method.n);
	to->method_text = from->method;
	to->minor = from->minor;
	to->fields = from->fields;
	to->content_length = from->content_length;
	to->no_body = !from->chunked && from->content_length <= 0;
	if (from->target.n == 0)
		return OUTCOME_BAD_REQUEST;
	why = take_target(to, from, arena);
	if (why != OUTCOME_OK)
		return why;
	/* "TE.0": servers that take no body with OPTIONS leave the chunks to be read as a request */
	if (from->chunked && to->method == METHOD_OPTIONS)
		return OUTCOME_BAD_REQUEST;
	if (from->expect_other)
		return OUTCOME_EXPECT_REFUSED;
	to->expect_continue = from->expect_continue && from->minor == 1 && !to->no_body;
	if (wants_websocket(to, from)) {
		to->websocket = true;
		to->websocket_key = from->websocket_key;
		to->no_body = false;
	}
	return OUTCOME_OK;
}
