/*
 * Answers made at the edge.  A small plain body with the request id, so that a user can name the request
 * to an operator; a gRPC call gets what a gRPC client understands (trailers-only, gRPC over HTTP/2).
 */
#include <stdio.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/exchange/client.h"
#include "proxy/exchange/forward.h"
#include "proxy/exchange/local.h"

#define PAGE_MAX     1024
#define LOCATION_MAX 16384

/* The mapping of HTTP to gRPC statuses that the gRPC project's http-grpc-status-mapping.md gives. */
static const char *
grpc_status(unsigned status)
{
	switch (status) {
	case 400:
		return "13"; /* INTERNAL */
	case 401:
		return "16"; /* UNAUTHENTICATED */
	case 403:
		return "7"; /* PERMISSION_DENIED */
	case 404:
		return "12"; /* UNIMPLEMENTED */
	case 413:
	case 431:
		return "8"; /* RESOURCE_EXHAUSTED */
	case 429:
	case 502:
	case 503:
	case 504:
		return "14"; /* UNAVAILABLE */
	default:
		return "2"; /* UNKNOWN */
	}
}

static void
add(struct head *h, struct arena *a, enum field_id id, const char *value, size_t n)
{
	fields_add(&h->fields, a, id, (struct text){field_table[id].name, field_table[id].n},
	    (struct text){arena_copy(a, value, n), n});
}

static void
add_number(struct head *h, struct arena *a, enum field_id id, int64_t value)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%lld", (long long)value);

	add(h, a, id, text, (size_t)n);
}

/* RFC 9110 15.4.9: 308 keeps the method.  The authority's port is the http one's: replaced. */
static void
add_location(struct exchange *x, struct head *h, struct arena *a)
{
	unsigned port = client_of(x->fc)->listener->redirect_port;
	struct text host = authority_host(x->request->authority);
	char text[LOCATION_MAX];
	int n;

	if (port == 443)
		n = snprintf(text, sizeof(text), "https://%.*s%.*s", (int)host.n, host.p,
		    (int)x->request->path.n, x->request->path.p);
	else
		n = snprintf(text, sizeof(text), "https://%.*s:%u%.*s", (int)host.n, host.p, port,
		    (int)x->request->path.n, x->request->path.p);
	if (n > 0 && (size_t)n < sizeof(text))
		add(h, a, F_LOCATION, text, (size_t)n);
}

static void
grpc_answer(struct exchange *x, const struct outcome_row *row, struct arena *a)
{
	struct head h = {.status = 200,
			.content_length = HEAD_LENGTH_NONE,
			.no_body = true,
			.minor = 1},
		    out;
	const char *status = grpc_status(row->status);

	add(&h, a, F_CONTENT_TYPE, "application/grpc", 16);
	fields_add(&h.fields, a, F_GRPC_STATUS, TEXT("grpc-status"), text_of(status));
	fields_add(&h.fields, a, F_OTHER, TEXT("grpc-message"), text_of(row->sentence));
	add(&h, a, F_X_REQUEST_ID, x->id, x->id_length);
	forward_response(x, &h, &out);
	stream_send_head(x->front, &out, true);
}

void
local_answer(struct exchange *x, enum outcome why, int64_t retry_after_s)
{
	const struct outcome_row *row = outcome_row(why);
	struct arena *a = &x->front->arena;
	struct head h = {.minor = 1}, out;
	char page[PAGE_MAX];
	struct slice body;
	int n;

	ENSURE(row->status != 0 && !x->response_begun);
	x->response_begun = x->response_end = true;
	x->status = row->status;
	if (x->grpc) {
		x->status = 200;
		grpc_answer(x, row, a);
		return;
	}
	h.status = row->status;
	n = snprintf(page, sizeof(page), "%u %s: %s\nrequest id: %s\n", row->status,
	    status_reason(row->status), row->sentence, x->id);
	body = slice_borrowed(page, (size_t)n);
	if (why == OUTCOME_MAINTENANCE && x->service != NULL &&
	    x->engine->maintenance_pages[x->service->index] != NULL) {
		const char *text = x->engine->maintenance_pages[x->service->index];
		const char *type = x->service->config->maintenance.content_type;

		body = slice_borrowed(text, strlen(text));
		add(&h, a, F_CONTENT_TYPE, type, strlen(type));
	} else {
		add(&h, a, F_CONTENT_TYPE, "text/plain; charset=utf-8", 25);
	}
	h.content_length = (int64_t)body.n;
	add(&h, a, F_CACHE_CONTROL, "no-store", 8);
	add(&h, a, F_X_REQUEST_ID, x->id, x->id_length);
	if (retry_after_s > 0)
		add_number(&h, a, F_RETRY_AFTER, retry_after_s);
	if (why == OUTCOME_REDIRECTED)
		add_location(x, &h, a);
	if (why == OUTCOME_METHOD_REFUSED)
		fields_add(&h.fields, a, F_OTHER, TEXT("allow"),
		    TEXT("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
	forward_response(x, &h, &out);
	if (x->request->method == METHOD_HEAD) {
		stream_send_head(x->front, &out, true);
		return;
	}
	stream_send_head(x->front, &out, false);
	exchange_owe(x, (int64_t)body.n);
	stream_send_body(x->front, body, true);
}
