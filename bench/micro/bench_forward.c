/*
 * What heads cost on their way through: nanoseconds per call of parsing one, of rewriting its
 * fields for the other side, and of writing it.  The heads are read from text by the real parser;
 * sizes are fields, or bytes where the row says so.  make bench-micro.
 */
#include <string.h>

#include "bench/micro/micro.h"
#include "proxy/base/obj.h"
#include "proxy/codec/h1.h"
#include "proxy/codec/h2.h"
#include "proxy/exchange/forward.h"

#define EXTRA_MAX 22
#define TEXT_MAX  4096

#define REQUEST                                                                                    \
	"GET /api/v1/orders/4711?expand=items HTTP/1.1\r\nhost: api.example.com\r\n"               \
	"user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"   \
	"accept: application/json\r\naccept-encoding: gzip, deflate, br\r\n"                       \
	"accept-language: de-DE,de;q=0.8,en;q=0.5\r\nreferer: https://app.example.com/orders\r\n"  \
	"cookie: session=7f4d0c39a1b24b0c9a7e; theme=dark\r\norigin: https://app.example.com\r\n"  \
	"x-client-version: 4.2.0\r\n"
#define RESPONSE                                                                                   \
	"HTTP/1.1 200 OK\r\nserver: nginx\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"              \
	"content-type: application/json\r\ncontent-length: 1024\r\ncache-control: no-store\r\n"    \
	"etag: \"5f3c-61a9\"\r\nx-version: v1\r\n"

static const struct h1_limits limits = {8192, 65536, 128};
static char none[] = "";

/* One exchange of one client, over and over: what the rewriting looks at and nothing else. */
static struct chunk_pool *pool;
static struct config config = {.forward = {.via = none, .server = none, .forwarded = true}};
static struct service_config service_config = {.split = {.force_header = none}};
static struct service service = {.config = &service_config};
static struct engine engine = {.config = &config};
static struct front_conn client = {.address_text = "192.0.2.7", .tls = true};
static struct stream front;
static struct exchange x = {.engine = &engine, .fc = &client, .front = &front, .service = &service};

/* A head and where its memory is. */
struct parsed {
	char text[TEXT_MAX];
	size_t length;
	struct h1_scan scan;
	struct h1_head h1;
	struct head head;
	struct arena arena;
};

static enum outcome
parse(struct parsed *p)
{
	p->scan = (struct h1_scan){0};
	if (h1_scan(&p->scan, (const unsigned char *)p->text, p->length, limits.line,
		sizeof p->text) != H1_WHOLE)
		return OUTCOME_BAD_REQUEST;
	if (p->text[0] == 'H')
		return h1_parse_response(
		    &p->h1, &p->arena, (const unsigned char *)p->text, &p->scan, &limits);
	return h1_parse_request(
	    &p->h1, &p->arena, (const unsigned char *)p->text, &p->scan, &limits);
}

/* The head above and so many fields more that teal does not know. */
static struct parsed *
parsed_new(const char *begin, unsigned extra)
{
	struct parsed *p = allocate(1, sizeof *p);
	size_t n = strlen(begin);

	ENSURE(extra <= EXTRA_MAX);
	memcpy(p->text, begin, n);
	for (unsigned i = 0; i < extra; i++)
		n += (size_t)snprintf(p->text + n, sizeof p->text - n,
		    "x-tenant-field-%02u: a value of usual length, no. %02u\r\n", i, i);
	ENSURE(n + 2 < sizeof p->text);
	memcpy(p->text + n, "\r\n", 2);
	p->length = n + 2;
	arena_init(&p->arena, pool);
	ENSURE(parse(p) == OUTCOME_OK);
	p->head = (struct head){.status = p->h1.status,
	    .content_length = p->h1.content_length,
	    .minor = 1,
	    .fields = p->h1.fields};
	if (p->h1.status == 0)
		ENSURE(h1_request(&p->head, &p->h1, &p->arena) == OUTCOME_OK);
	return p;
}

static void
parsed_free(struct parsed *p)
{
	arena_fini(&p->arena);
	free(p);
}

/* --- writing ------------------------------------------------------------------------ */

/* As back_h1 and front_h1 do, without the framing. */
static void
write_h1(struct buf *out, const struct head *h)
{
	struct h1_writer w;

	h1_write_begin(&w, out, h->fields.bytes + 192);
	if (h->status == 0) {
		h1_write(&w, h->method_text.p, h->method_text.n);
		H1_WRITE(&w, " ");
		h1_write(&w, h->path.p, h->path.n);
		H1_WRITE(&w, " HTTP/1.1\r\n");
		h1_write_field(&w, "host", 4, h->authority.p, h->authority.n);
	} else {
		const char *reason = status_reason(h->status);

		H1_WRITE(&w, "HTTP/1.1 ");
		h1_write_number(&w, h->status, 10);
		H1_WRITE(&w, " ");
		h1_write(&w, reason, strlen(reason));
		H1_WRITE(&w, "\r\n");
	}
	h1_write_fields(&w, &h->fields);
	H1_WRITE(&w, "\r\n");
	sink = h1_write_end(&w);
	buf_consume(out, buf_bytes(out));
}

/* The list nghttp2 is given, not what it makes of it. */
static void
list_h2(const struct head *h, struct arena *arena)
{
	struct h2_nva a;
	char digits[DIGITS];

	h2_nva_begin(&a, arena, h->fields.n + 4);
	if (h->status == 0) {
		h2_nva_pseudo(&a, TEXT(":method"), h->method_text);
		h2_nva_pseudo(&a, TEXT(":scheme"), TEXT("https"));
		h2_nva_pseudo(&a, TEXT(":authority"), h->authority);
		h2_nva_pseudo(&a, TEXT(":path"), h->path);
	} else {
		h2_nva_pseudo(&a, TEXT(":status"), text_decimal(digits, h->status));
	}
	h2_nva_fields(&a, &h->fields, false);
	ENSURE(!a.bad && a.n > h->fields.n);
	sink = a.n;
}

static void
bench_writing(const struct head *h)
{
	const char *h1 = h->status == 0 ? "h1_write, request head" : "h1_write, response head";
	const char *h2 = h->status == 0 ? "h2_nva, request head" : "h2_nva, response head";
	struct arena arena;
	struct buf out;
	int64_t begin = now_ns();

	for (unsigned i = 0; i < CALLS; i++)
		sink = h1_fields_valid(&h->fields);
	ENSURE(sink);
	print_row("h1_fields_valid", h->fields.n, CALLS, now_ns() - begin);
	buf_init(&out, pool);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		write_h1(&out, h);
	print_row(h1, h->fields.n, CALLS, now_ns() - begin);
	buf_fini(&out);
	arena_init(&arena, pool);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		list_h2(h, &arena);
	print_row(h2, h->fields.n, CALLS, now_ns() - begin);
	arena_fini(&arena);
}

/* --- the way there and back ---------------------------------------------------------- */

static void
bench_request(unsigned extra)
{
	struct parsed *p = parsed_new(REQUEST, extra);
	int64_t begin = now_ns();

	x.request = &p->head;
	for (unsigned i = 0; i < CALLS; i++)
		forward_request_id(&x);
	if (extra == 0)
		print_row("forward_request_id", ANY_SIZE, CALLS, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		arena_fini(&front.arena); /* as a stream's end does */
		forward_request(&x);
	}
	print_row("forward_request", p->head.fields.n, CALLS, now_ns() - begin);
	ENSURE(x.forward.fields.n == p->head.fields.n + 5);
	bench_writing(&x.forward);
	parsed_free(p);
}

static void
bench_response(unsigned extra)
{
	struct parsed *p = parsed_new(RESPONSE, extra);
	struct head to;
	int64_t begin = now_ns();

	for (unsigned i = 0; i < CALLS; i++) {
		arena_fini(&p->arena); /* as back_h1 does after each head */
		sink = parse(p) == OUTCOME_OK;
	}
	print_row("h1_scan, h1_parse_response", p->h1.fields.n, CALLS, now_ns() - begin);
	p->head.fields = p->h1.fields; /* where they were read to the last time */
	begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		forward_response(&x, &p->head, &to);
	print_row("forward_response", p->head.fields.n, CALLS, now_ns() - begin);
	ENSURE(to.fields.n == p->head.fields.n);
	bench_writing(&to);
	parsed_free(p);
}

/* --- grammar -------------------------------------------------------------------------- */

static void
bench_grammar(const char *what, bool (*valid)(const char *, size_t), unsigned n)
{
	char text[1024];

	memset(text, 'x', sizeof text);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		sink = valid(text, n);
	ENSURE(sink);
	print_row(what, n, CALLS, now_ns() - begin);
}

int
main(void)
{
	static const unsigned values[] = {4, 24, 100, 1000}, tokens[] = {4, 12, 40};

	pool = chunk_pool_new(64);
	random_seed(&engine.random, 1);
	arena_init(&engine.scratch_arena, pool);
	arena_init(&front.arena, pool);
	print_head("fields");
	bench_request(0);
	bench_request(22);
	bench_response(0);
	bench_response(14);
	for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++)
		bench_grammar("field_value_valid, bytes", field_value_valid, values[i]);
	for (unsigned i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
		bench_grammar("token_valid, bytes", token_valid, tokens[i]);
	arena_fini(&front.arena);
	arena_fini(&engine.scratch_arena);
	chunk_pool_free(pool);
	return 0;
}
