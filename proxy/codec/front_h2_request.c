/*
 * A decoded header block becomes a request head, or the reason why not (RFC 9113 8.3, RFC 8441, RFC 9110 7.2).
 * nghttp2 has refused duplicates, unknown and misplaced pseudo-fields by then.
 *
 * Pure; memory is the stream's arena.
 */
#include <string.h>

#include "proxy/codec/front_h2.h"

static struct text
lower(struct arena *arena, struct text t)
{
	char *p = arena_copy(arena, t.p, t.n);

	for (size_t i = 0; i < t.n; i++) {
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] = (char)(p[i] - 'A' + 'a');
	}
	return (struct text){p, t.n};
}

/* RFC 9113 8.3.1: :authority and Host must not differ; either will do, one there must be. */
static bool
set_authority(struct head *head, const struct h2_block *b, struct arena *arena)
{
	struct text host = b->host;

	if (b->authority.n > 0)
		head->authority = lower(arena, b->authority);
	else if (host.n > 0)
		head->authority = lower(arena, host);
	if (head->authority.n == 0 || !authority_valid(head->authority.p, head->authority.n))
		return false;
	if (host.p == NULL)
		return true;
	host = lower(arena, host);
	return host.n == head->authority.n && memcmp(host.p, head->authority.p, host.n) == 0;
}

static bool
path_fits(const struct head *head)
{
	if (text_is(head->path, "*"))
		return head->method == METHOD_OPTIONS; /* RFC 9110 7.1 */
	return path_valid(head->path.p, head->path.n);
}

static enum outcome
method_allowed(struct head *head, const struct h2_block *b, bool end)
{
	if (!token_valid(head->method_text.p, head->method_text.n))
		return OUTCOME_BAD_REQUEST;
	if (head->method == METHOD_TRACE)
		return OUTCOME_METHOD_REFUSED;
	if (head->method != METHOD_CONNECT)
		return b->protocol.n > 0 ? OUTCOME_BAD_REQUEST : OUTCOME_OK;
	if (b->protocol.n == 0)
		return OUTCOME_METHOD_REFUSED;
	if (!text_is_nocase(b->protocol, "websocket"))
		return OUTCOME_NOT_IMPLEMENTED; /* RFC 8441 5: 501 */
	if (end)
		return OUTCOME_BAD_REQUEST;
	head->websocket = true;
	head->method = METHOD_GET;
	head->method_text = TEXT("GET");
	head->content_length = HEAD_LENGTH_NONE;
	return OUTCOME_OK;
}

static enum outcome
set_expect(struct head *head, const struct h2_block *b, bool end)
{
	if (!b->has_expect)
		return OUTCOME_OK;
	if (!text_is_nocase(b->expect, "100-continue"))
		return OUTCOME_EXPECT_REFUSED; /* RFC 9110 10.1.1 */
	head->expect_continue = !end && !head->websocket;
	return OUTCOME_OK;
}

enum outcome
front_h2_request(struct h2_stream *s, struct head *head, bool end)
{
	const struct front_conn *front = s->stream.front;
	struct h2_block *b = &s->block;
	struct arena *arena = &s->stream.arena;
	bool https = text_is_nocase(b->scheme, "https");
	enum outcome why;

	memset(head, 0, sizeof(*head));
	head->h2 = true;
	head->scheme = front->tls ? TEXT("https") : TEXT("http");
	head->content_length = b->content_length;
	head->no_body = end;
	if (b->too_large)
		return OUTCOME_HEADER_TOO_LARGE;

	head->method = method_lookup(b->method.p, b->method.n);
	head->method_text = b->method;
	head->path = b->path;
	h2_block_join_cookies(b, arena);
	head->fields = b->fields;
	why = method_allowed(head, b, end);
	s->websocket = head->websocket;
	if (!set_authority(head, b, arena) && why == OUTCOME_OK)
		return OUTCOME_BAD_REQUEST;
	if (why != OUTCOME_OK)
		return why;
	if (!https && !text_is_nocase(b->scheme, "http"))
		return OUTCOME_BAD_REQUEST;
	if (head->path.n > front->limits->request_line)
		return OUTCOME_URI_TOO_LONG;
	if (!path_fits(head))
		return OUTCOME_BAD_REQUEST;
	return set_expect(head, b, end);
}
