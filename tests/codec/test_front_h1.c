/*
 * HTTP/1.1 from clients: what is refused reaches nobody, what is taken arrives once and in order, and
 * every stream ends exactly once.  Each row of the tables runs whole and split at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/codec/front.h"
#include "proxy/codec/h1.h"
#include "tests/codec/memory_transport.h"
#include "tests/codec/recorder.h"

#define DATE "Tue, 14 Nov 2023 22:13:20 GMT"

enum answer { ANSWER_AT_END, ANSWER_AT_HEAD, ANSWER_BY_HAND };

/* One fake exchange per request; the front has one at a time. */
struct world {
	struct turn *turn;
	struct memory_transport *mt;
	struct front_conn fc;
	struct front_limits limits;
	struct front_timeouts timeouts;
	struct recorder log;
	enum answer answer;
	bool hold_credit;
	struct stream *stream; /* NULL: none under way */
	size_t owed;           /* body bytes not given back */
	size_t drained;
	unsigned n_begun, n_closed, n_gone;
};

static struct world *now; /* the handler has no other way to its test */

static void
answer(struct stream *s, unsigned status, const char *text)
{
	struct head head = {.status = status, .content_length = (int64_t)strlen(text)};
	struct arena arena;

	arena_init(&arena, now->turn->chunks);
	fields_add(&head.fields, &arena, F_OTHER, TEXT("x-n"), TEXT("1"));
	stream_send_head(s, &head, text[0] == '\0');
	if (text[0] != '\0')
		stream_send_body(s, slice_borrowed(text, strlen(text)), true);
	arena_fini(&arena);
}

static void
on_body(void *user, struct slice s, bool end)
{
	struct world *w = user;

	ENSURE(w->stream != NULL);
	record_body(&w->log, s);
	w->owed += s.n;
	if (!w->hold_credit) {
		stream_consumed(w->stream, w->owed);
		w->owed = 0;
	}
	if (!end)
		return;
	record(&w->log, "end\n");
	if (w->answer == ANSWER_AT_END)
		answer(w->stream, 200, "ok");
}

static void
on_trailers(void *user, const struct fields *list)
{
	struct world *w = user;

	ENSURE(w->stream != NULL);
	record(&w->log, "trailers");
	record_fields(&w->log, list);
	record(&w->log, "\n");
	if (w->answer == ANSWER_AT_END)
		answer(w->stream, 200, "ok");
}

static void
on_drained(void *user, size_t n)
{
	struct world *w = user;

	ENSURE(w->stream != NULL && n > 0);
	w->drained += n;
}

static void
on_closed(void *user, enum outcome why)
{
	struct world *w = user;

	ENSURE(w->stream != NULL);
	w->stream = NULL;
	w->owed = 0;
	w->n_closed++;
	record(&w->log, "closed %s\n", outcome_row(why)->word);
}

static const struct stream_events events = {
    .body = on_body,
    .trailers = on_trailers,
    .drained = on_drained,
    .closed = on_closed,
};

static void
begin(struct front_conn *fc, struct stream *s, const struct head *head)
{
	ENSURE(fc == &now->fc && now->stream == NULL && s->front == fc && fc->n_streams == 1);
	now->stream = s;
	now->n_begun++;
	s->events = &events;
	s->user = now;
	ENSURE(head->no_body || head->content_length != 0);
}

static void
on_request(struct front_conn *fc, struct stream *s, struct head *head, bool end)
{
	struct world *w = now;

	begin(fc, s, head);
	record(&w->log, "%.*s %.*s://%.*s %.*s", (int)head->method_text.n, head->method_text.p,
	    (int)head->scheme.n, head->scheme.p, (int)head->authority.n, head->authority.p,
	    (int)head->path.n, head->path.p);
	if (head->content_length >= 0)
		record(&w->log, " length=%lld", (long long)head->content_length);
	if (head->websocket)
		record(&w->log, " websocket");
	if (head->expect_continue)
		record(&w->log, " expect");
	if (end)
		record(&w->log, " end");
	record_fields(&w->log, &head->fields);
	record(&w->log, "\n");
	if (w->answer == ANSWER_AT_HEAD || (w->answer == ANSWER_AT_END && end))
		answer(s, 200, "ok");
}

static void
on_refused(struct front_conn *fc, struct stream *s, struct head *head, enum outcome why)
{
	begin(fc, s, head);
	ENSURE(head->no_body && !head->websocket);
	record(&now->log, "refused %s\n", outcome_row(why)->word);
	answer(s, outcome_row(why)->status, "");
}

static void
on_gone(struct front_conn *fc)
{
	ENSURE(fc == &now->fc);
	now->n_gone++;
}

static const struct front_handler handler = {
    .request = on_request,
    .refused = on_refused,
    .gone = on_gone,
};

static void
free_nothing(struct conn *c)
{
	(void)c;
}

static void
world_open(struct world *w, enum answer how)
{
	memset(w, 0, sizeof(*w));
	w->answer = how;
	w->limits = (struct front_limits){
	    .header_bytes = 2048,
	    .header_count = 20,
	    .request_line = 256,
	    .glitches = 100,
	    .glitches_per_second = 10,
	};
	w->timeouts =
	    (struct front_timeouts){.header_ms = 10000, .send_ms = 30000, .idle_ms = 60000};
	w->turn = test_turn_new();
	w->mt = memory_transport_new();
	now = w;
	front_init(
	    &w->fc, w->turn, &w->mt->transport, &handler, &w->limits, &w->timeouts, free_nothing);
	front_h1_begin(&w->fc);
}

static void
pump(struct world *w)
{
	memory_pump_one(w->turn, w->mt);
}

static void
feed(struct world *w, const char *text)
{
	memory_feed_text(w->mt, text);
	pump(w);
}

/* Nothing of a connection may outlive it, and no stream ends twice or never. */
static void
world_close(struct world *w)
{
	conn_close(&w->fc.conn, true);
	if (w->stream != NULL) {
		w->stream = NULL; /* conn_close() tells nobody: as when a worker ends */
		w->n_closed++;
	}
	turn_end(w->turn);
	assert_int_equal(w->n_gone, 1);
	assert_int_equal(w->n_begun, w->n_closed);
	assert_false(timeout_armed(&w->fc.timer));
	memory_transport_free(w->mt);
	test_turn_free(w->turn);
	record_fini(&w->log);
}

static bool
ended(const struct world *w)
{
	return w->mt->shut || w->mt->closed;
}

#define OK_HEAD "HTTP/1.1 200 OK\r\nx-n: 1\r\ndate: " DATE "\r\ncontent-length: 2\r\n"
#define OK      OK_HEAD "\r\nok"
#define OK_LAST OK_HEAD "connection: close\r\n\r\nok"
#define REFUSED(line)                                                                              \
	"HTTP/1.1 " line "\r\nx-n: 1\r\ndate: " DATE                                               \
	"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
#define BAD_BODY                                                                                   \
	"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 26\r\n"           \
	"connection: close\r\ndate: " DATE "\r\n\r\nthe request was malformed\n"

/* --- requests that are taken -------------------------------------------------- */

struct row {
	const char *name, *in, *log, *out;
	bool ends; /* the connection is closed by us */
};

static const struct row taken[] = {
    {"plain", "GET /a?b=%00&c HTTP/1.1\r\nHost: Example.COM:8080\r\nX-A:  b \t\r\n\r\n",
	"GET http://example.com:8080 /a?b=%00&c end [x-a=b]\nclosed ok\n", OK, false},
    {"empty value", "GET / HTTP/1.1\r\nHost: h\r\nX-A:\r\nX-B: \r\nX-C: c\r\n\r\n",
	"GET http://h / end [x-a=] [x-b=] [x-c=c]\nclosed ok\n", OK, false},
    {"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET http:// / end\nclosed ok\n", OK, false},
    {"one empty line before", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK, false},
    {"close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK_LAST, true},
    {"1.0", "GET / HTTP/1.0\r\n\r\n", "GET http:// / end\nclosed ok\n", OK_LAST, true},
    {"1.0 kept", "GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK_HEAD "connection: keep-alive\r\n\r\nok", false},
    {"absolute form", "GET HTTP://H:81/x HTTP/1.1\r\nHost: h:81\r\n\r\n",
	"GET http://h:81 /x end\nclosed ok\n", OK, false},
    {"absolute form, no path", "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK, false},
    {"absolute form, query only", "GET https://h?q HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h /?q end\nclosed ok\n", OK, false},
    {"OPTIONS of all", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
	"OPTIONS http://h * end\nclosed ok\n", OK, false},
    {"OPTIONS of all, absolute", "OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n",
	"OPTIONS http://h * end\nclosed ok\n", OK, false},
    {"paths are passed as they are", "GET //evil/..%2f;x HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h //evil/..%2f;x end\nclosed ok\n", OK, false},
    {"v6", "GET / HTTP/1.1\r\nHost: [2001:DB8::1]:443\r\n\r\n",
	"GET http://[2001:db8::1]:443 / end\nclosed ok\n", OK, false},
    {"another method", "PROPFIND / HTTP/1.1\r\nHost: h\r\n\r\n",
	"PROPFIND http://h / end\nclosed ok\n", OK, false},
    {"length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
	"POST http://h / length=5\nbody hello\nend\nclosed ok\n", OK, false},
    {"length 0, then a request",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	"POST http://h / length=0 end\nclosed ok\nGET http://h /2 end\nclosed ok\n", OK OK, false},
    {"pipelined",
	"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: "
	"2\r\n\r\nab"
	"GET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h /1 end\nclosed ok\nPOST http://h /2 length=2\nbody ab\nend\nclosed ok\n"
	"GET http://h /3 end\nclosed ok\n",
	OK OK OK, false},
    {"chunked",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A\r\n, "
	"world...\r\n0\r\n\r\n",
	"POST http://h /\nbody hello, world...\nend\nclosed ok\n", OK, false},
    {"quotes that stay open",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	"1;a\r\nx\r\n1;a=b;c=\"d;\\\"\r\ny\r\n1 ; a = b\r\nz\r\n0;e\r\n\r\n",
	"POST http://h /\nbody x\nclosed bad-request\n", BAD_BODY, true},
    {"chunk extensions",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	"1;a\r\nx\r\n1;a=b;c=\"d;\\\"e\"\r\ny\r\n1 ; a = b ;c\r\nz\r\n0;e\r\n\r\n",
	"POST http://h /\nbody xyz\nend\nclosed ok\n", OK, false},
    {"trailers",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
	"X-Sum: 7\r\nHost: evil\r\nContent-Length: 4\r\nX_Y: 1\r\nAuthorization: "
	"a\r\nX-More:\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	"POST http://h /\nbody x\ntrailers [x-sum=7] [x-more=]\nclosed ok\nGET http://h /2 "
	"end\nclosed ok\n",
	OK OK, false},
    {"hop-by-hop",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: x-a, TE ,, x-forwarded-for,cookie\r\nX-A: "
	"1\r\nX-B: 2\r\nTE: trailers\r\n"
	"Keep-Alive: 5\r\nProxy-Connection: x\r\nX-Forwarded-For: 1.1.1.1\r\nCookie: "
	"c\r\nProxy-Authorization: p\r\n\r\n",
	"GET http://h / end [x-b=2] [x-forwarded-for=1.1.1.1] [cookie=c]\nclosed ok\n", OK, false},
    {"underscores",
	"GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 1\r\nContent_Length: "
	"5\r\nTransfer_Encoding: chunked\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK, false},
    {"h2c upgrade is not ours",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
	"h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK, false},
    {"websocket without its key",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
	"GET http://h / end [sec-websocket-version=13]\nclosed ok\n", OK, false},
    {"expect", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\nab",
	"POST http://h / length=2 expect\nbody ab\nend\nclosed ok\n", OK, false},
    {"expect without a body", "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
	"GET http://h / end\nclosed ok\n", OK, false},
};

static void
run_row(const struct row *r, size_t read_max)
{
	struct world w;

	world_open(&w, ANSWER_AT_END);
	memory_set_read_max(w.mt, read_max);
	feed(&w, r->in);
	if (strcmp(recorded(&w.log), r->log) != 0 || strcmp(w.mt->written, r->out) != 0 ||
	    ended(&w) != r->ends)
		print_message("row \"%s\", %zu bytes per read\n", r->name, read_max);
	assert_string_equal(recorded(&w.log), r->log);
	assert_string_equal(w.mt->written, r->out);
	assert_int_equal(ended(&w), r->ends);
	world_close(&w);
}

static void
test_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
		run_row(&taken[i], SIZE_MAX);
		run_row(&taken[i], 1);
		run_row(&taken[i], 7);
	}
}

/* --- requests that are refused -------------------------------------------------- */

#define H    "Host: h\r\n"
#define G    "GET / HTTP/1.1\r\n"
#define PH   "POST / HTTP/1.1\r\nHost: h\r\n"
#define NEXT "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

static const struct refusal {
	const char *in;
	enum outcome why;
} refusals[] = {
    /* 19: CL.TE, TE.CL */
    {PH "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX", OUTCOME_BAD_REQUEST},
    /* 20: TE obfuscated */
    {PH "Transfer-Encoding: xchunked\r\n\r\n" NEXT, OUTCOME_NOT_IMPLEMENTED},
    {PH "Transfer-Encoding: gzip\r\n\r\n" NEXT, OUTCOME_NOT_IMPLEMENTED},
    {PH "Transfer-Encoding: chunked,\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: ,chunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: \"chunked\"\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: identity, chunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: chunked, chunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" NEXT,
	OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" NEXT,
	OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding:\vchunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding : chunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding\t: chunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding: chunked;q=1\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {PH "Transfer-Encoding:\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" NEXT, OUTCOME_BAD_REQUEST},
    {"OPTIONS / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" NEXT,
	OUTCOME_BAD_REQUEST},
    /* 21, 22: Content-Length */
    {PH "Content-Length: +5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: -5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 0x5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 5,5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 5 5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length:\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length:\r\nContent-Length: 5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 18446744073709551616\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 9223372036854775808\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    {PH "Content-Length: 1_0\r\n\r\nhello", OUTCOME_BAD_REQUEST},
    /* 23, 24: names, folds, blanks */
    {G H ": x\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G " X: y\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {G H "X : y\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: a\r\n b\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: a\r\n\tb\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X(: a\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X\x80: a\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "novalue\r\n\r\n", OUTCOME_BAD_REQUEST},
    /* 25: line ends and controls */
    {"GET / HTTP/1.1\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: h\nX: y\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: y\r\n\n", OUTCOME_BAD_REQUEST},
    {G H "X: y\rZ: 1\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: y\r\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: a\vb\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: a\fb\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G H "X: a\177b\r\n\r\n", OUTCOME_BAD_REQUEST},
    {"GET /\r HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"\nGET / HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"\x16\x03\x01\x02", OUTCOME_BAD_REQUEST},
    /* 30: versions */
    {"GET /\r\n", OUTCOME_BAD_REQUEST},
    {"GET / HTTP/0.9\r\n" H "\r\n", OUTCOME_VERSION_REFUSED},
    {"GET / HTTP/9.9\r\n" H "\r\n", OUTCOME_VERSION_REFUSED},
    {"GET / HTTP/1.2\r\n" H "\r\n", OUTCOME_VERSION_REFUSED},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", OUTCOME_VERSION_REFUSED},
    {"PRI * HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET / http/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET / HTTP/1.1 \r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET / HTTP/11\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET / HTTP/1.1x\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    /* 31: targets */
    {"GET  / HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET /a b HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET\t/ HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET /a\tb HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET /#frag HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET /a\\b HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET \\\\evil HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET @evil HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET :80/x HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET evil HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET * HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET h:80 HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET http://other/ HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET http://i/ HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET http://h:80/ HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET http://u@h/ HTTP/1.1\r\nHost: u@h\r\n\r\n", OUTCOME_BAD_REQUEST},
    {"GET http:///x HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"GET ftp://h/x HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    /* 32: Host */
    {G "\r\n", OUTCOME_BAD_REQUEST},
    {G H H "\r\n", OUTCOME_BAD_REQUEST},
    {G H "Host: i\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a, b\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a,b\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: u@a\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a/x\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a b\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a:x\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a:0\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a:65536\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: a:80:80\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: [::1\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: [x]\r\n\r\n", OUTCOME_BAD_REQUEST},
    {G "Host: :80\r\n\r\n", OUTCOME_BAD_REQUEST},
    /* 33: methods */
    {"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\nearly", OUTCOME_METHOD_REFUSED},
    {"TRACE / HTTP/1.1\r\n" H "\r\n", OUTCOME_METHOD_REFUSED},
    {"TRACK / HTTP/1.1\r\n" H "\r\n", OUTCOME_METHOD_REFUSED},
    {"FROB / HTTP/1.1\r\n" H "\r\n", OUTCOME_NOT_IMPLEMENTED},
    {"get / HTTP/1.1\r\n" H "\r\n", OUTCOME_NOT_IMPLEMENTED},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" H "\r\n", OUTCOME_NOT_IMPLEMENTED},
    {"G{T / HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    {"G\x80T / HTTP/1.1\r\n" H "\r\n", OUTCOME_BAD_REQUEST},
    /* 35: Expect */
    {PH "Expect: y 100-continue\r\nContent-Length: 2\r\n\r\nab", OUTCOME_EXPECT_REFUSED},
    {PH "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 2\r\n\r\nab", OUTCOME_EXPECT_REFUSED},
    /* 36: Connection names framing */
    {G H "Connection: host\r\n\r\n", OUTCOME_BAD_REQUEST},
    {PH "Connection: Content-Length\r\nContent-Length: 2\r\n\r\nab", OUTCOME_BAD_REQUEST},
    {PH "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	OUTCOME_BAD_REQUEST},
    {G H "Connection: a b\r\n\r\n", OUTCOME_BAD_REQUEST},
};

static void
run_refusal(const struct refusal *r, size_t read_max)
{
	struct world w;
	char log[128], out[256];
	unsigned status = outcome_row(r->why)->status;

	snprintf(log, sizeof(log), "refused %s\nclosed ok\n", outcome_row(r->why)->word);
	snprintf(out, sizeof(out), REFUSED("%u %s"), status, status_reason(status));
	world_open(&w, ANSWER_AT_END);
	memory_set_read_max(w.mt, read_max);
	feed(&w, r->in);
	if (strcmp(recorded(&w.log), log) != 0)
		print_message("refusal \"%s\", %zu bytes per read\n", r->in, read_max);
	assert_string_equal(recorded(&w.log), log);
	assert_string_equal(w.mt->written, out);
	assert_true(ended(&w));
	world_close(&w);
}

static void
test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		run_refusal(&refusals[i], SIZE_MAX);
		run_refusal(&refusals[i], 1);
	}
}

static void
test_nul_bytes(void **state)
{
	static const char in_line[] = "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n";
	static const char in_name[] = "GET / HTTP/1.1\r\nHost: h\r\nX\0: y\r\n\r\n";
	static const char in_value[] = "GET / HTTP/1.1\r\nHost: h\r\nX: y\0z\r\n\r\n";
	static const struct {
		const char *p;
		size_t n;
	} rows[] = {{in_line, sizeof(in_line) - 1}, {in_name, sizeof(in_name) - 1},
	    {in_value, sizeof(in_value) - 1}};
	struct world w;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		world_open(&w, ANSWER_AT_END);
		memory_feed(w.mt, rows[i].p, rows[i].n);
		pump(&w);
		assert_string_equal(recorded(&w.log), "refused bad-request\nclosed ok\n");
		world_close(&w);
	}
}

/* --- bodies with broken framing ---------------------------------------------------- */

#define CHUNKED PH "Transfer-Encoding: chunked\r\n\r\n"

static const char *const bad_chunks[] = {
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n",
    "5;a=\"\r\n\"\r\nhello\r\n",
    "5;a=\"b\r\nhello\r\n",
    "5;a=b c\r\nhello\r\n",
    "5;=b\r\nhello\r\n",
    "5;a=\r\nhello\r\n",
    "5;a \r\nhello\r\n",
    "5\nhello\r\n",
    "5\rhello\r\n",
    "5 \r\nhello\r\n",
    " 5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "-5\r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "5_0\r\nhello\r\n",
    "\r\nhello\r\n",
    "g\r\nhello\r\n",
    "00000000000000005\r\nhello\r\n",
    "8000000000000000\r\nhello\r\n",
    "ffffffffffffffff\r\nhello\r\n",
    ";a\r\nhello\r\n",
    "5\v\r\nhello\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX: y\r\n z\r\n\r\n",
    "0\r\nnovalue\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n: y\r\n\r\n",
    "0\r\n\rX",
    "0\r\n\n",
    "0\r\nX: a\001b\r\n\r\n",
    "0\r\nX: a\x7f\r\n\r\n",
    "0\r\nX: y\rz\r\n\r\n",
};

static void
test_bad_chunks(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * sizeof(bad_chunks) / sizeof(bad_chunks[0]); i++) {
		struct world w;

		world_open(&w, ANSWER_AT_END);
		memory_set_read_max(w.mt, i % 2 == 0 ? SIZE_MAX : 1);
		memory_feed_text(w.mt, CHUNKED);
		feed(&w, bad_chunks[i / 2]);
		if (strcmp(w.mt->written, BAD_BODY) != 0)
			print_message("chunks \"%s\"\n", bad_chunks[i / 2]);
		assert_string_equal(recorded(&w.log), "POST http://h /\nclosed bad-request\n");
		assert_string_equal(w.mt->written, BAD_BODY);
		assert_true(ended(&w));
		world_close(&w);
	}
}

static void
test_chunk_data_without_crlf(void **state)
{
	static const char *const ends[] = {"X\r\n", "X\n", "\n", "\rX"};

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct world w;

		world_open(&w, ANSWER_AT_END);
		memory_feed_text(w.mt, CHUNKED "5\r\nhello");
		feed(&w, ends[i]);
		assert_string_equal(
		    recorded(&w.log), "POST http://h /\nbody hello\nclosed bad-request\n");
		assert_string_equal(w.mt->written, BAD_BODY);
		world_close(&w);
	}
}

/* The stream has ended when the refusal is still on its way: what happens to that is nobody's event. */
static void
test_lost_while_refusing(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, ANSWER_AT_END);
	memory_set_room(w.mt, 10);
	feed(&w, CHUNKED "oops\r\n");
	assert_string_equal(recorded(&w.log), "POST http://h /\nclosed bad-request\n");
	assert_false(w.mt->closed);
	memory_break(w.mt);
	memory_set_room(w.mt, SIZE_MAX);
	pump(&w);
	assert_true(w.mt->closed);
	assert_string_equal(recorded(&w.log), "POST http://h /\nclosed bad-request\n");
	world_close(&w);
}

static void
test_chunk_bounds(void **state)
{
	struct world w;
	char *line = malloc(8192);

	(void)state;
	/* a line of 4,096 bytes passes, one of 4,097 does not */
	for (int over = 0; over < 2; over++) {
		size_t n = H1_CHUNK_LINE_MAX - 4 + (size_t)over;

		memset(line, 'a', 8192);
		memcpy(line, "1;", 2);
		memcpy(line + 2 + n, "\r\nx\r\n0\r\n\r\n", 11);
		world_open(&w, ANSWER_AT_END);
		memory_feed_text(w.mt, CHUNKED);
		feed(&w, line);
		assert_string_equal(
		    recorded(&w.log), over ? "POST http://h /\nclosed bad-request\n"
					   : "POST http://h /\nbody x\nend\nclosed ok\n");
		world_close(&w);
	}
	/* 16 KiB of extensions in all */
	memset(line, 'a', 8192);
	memcpy(line, "1;", 2);
	memcpy(line + 4000, "\r\nx\r\n", 6);
	world_open(&w, ANSWER_AT_END);
	memory_feed_text(w.mt, CHUNKED);
	for (int i = 0; i < 4; i++)
		feed(&w, line);
	assert_string_equal(recorded(&w.log), "POST http://h /\nbody xxxx\n");
	feed(&w, line);
	assert_string_equal(recorded(&w.log), "POST http://h /\nbody xxxx\nclosed bad-request\n");
	world_close(&w);
	free(line);
}

static void
test_tiny_chunks_cost(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, ANSWER_AT_END);
	memory_feed_text(w.mt, CHUNKED);
	for (int i = 0; i < 6300; i++)
		memory_feed_text(w.mt, "1\r\nx\r\n");
	pump(&w);
	assert_int_equal(w.n_closed, 0);
	for (int i = 0; i < 300; i++)
		memory_feed_text(w.mt, "1\r\nx\r\n");
	pump(&w);
	assert_int_equal(w.n_closed, 1);
	world_close(&w);
}

static void
test_bad_body_after_answer_began(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	struct world w;

	(void)state;
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, CHUNKED "5\r\nhello\r\n");
	stream_send_head(w.stream, &head, false);
	feed(&w, "oops\r\n");
	assert_string_equal(recorded(&w.log), "POST http://h /\nbody hello\nclosed bad-request\n");
	assert_null(strstr(w.mt->written, "400"));
	assert_true(w.mt->closed && w.mt->aborted);
	world_close(&w);
}

/* --- limits --------------------------------------------------------------------------- */

static void
test_limits(void **state)
{
	struct world w;
	char line[512], field[4096];

	(void)state;
	/* a request line of 256 bytes passes, one of 257 does not, whole or by its length alone */
	for (int over = 0; over < 3; over++) {
		memset(line, 'a', sizeof(line));
		memcpy(line, "GET /", 5);
		snprintf(line + 256 - 9 + over, 40, " HTTP/1.1\r\nHost: h\r\n\r\n");
		if (over == 2) { /* no end in sight */
			memset(line + 200, 'b', 100);
			line[300] = '\0';
		}
		world_open(&w, ANSWER_AT_END);
		feed(&w, line);
		assert_int_equal(strstr(recorded(&w.log), "uri-too-long") != NULL, over > 0);
		world_close(&w);
	}
	/* 20 fields, 2,048 bytes as decoded: "host" + "h" + 32, "x" + value + 32 */
	for (int over = 0; over < 2; over++) {
		size_t n = 2048 - 37 - 33 + (size_t)over;

		memset(field, 'v', sizeof(field));
		memcpy(field, "X:", 2);
		memcpy(field + 2 + n, "\r\n\r\n", 5);
		world_open(&w, ANSWER_AT_END);
		memory_feed_text(w.mt, G H);
		feed(&w, field);
		assert_int_equal(strstr(recorded(&w.log), "header-too-large") != NULL, over);
		world_close(&w);

		world_open(&w, ANSWER_AT_END);
		memory_feed_text(w.mt, G H);
		for (int i = 0; i < 19 + over; i++)
			memory_feed_text(w.mt, i % 2 == 0 ? "x:\r\n" : "a_b:\r\n");
		feed(&w, "\r\n");
		assert_int_equal(strstr(recorded(&w.log), "header-too-large") != NULL, over);
		world_close(&w);
	}
	/* a head without end */
	world_open(&w, ANSWER_AT_END);
	memory_feed_text(w.mt, G H "X: ");
	memset(field, 'v', sizeof(field) - 1);
	field[sizeof(field) - 1] = '\0';
	feed(&w, field);
	assert_string_equal(recorded(&w.log), "refused header-too-large\nclosed ok\n");
	world_close(&w);
	/* trailers have the same limits */
	world_open(&w, ANSWER_AT_END);
	memory_feed_text(w.mt, CHUNKED "0\r\n");
	for (int i = 0; i < 21; i++)
		memory_feed_text(w.mt, "x: y\r\n");
	feed(&w, "\r\n");
	assert_string_equal(recorded(&w.log), "POST http://h /\nclosed header-too-large\n");
	assert_memory_equal(w.mt->written, "HTTP/1.1 431 ", 13);
	world_close(&w);
	/* options of Connection */
	world_open(&w, ANSWER_AT_END);
	memory_feed_text(w.mt, G H "Connection: a");
	for (int i = 0; i < 32; i++)
		memory_feed_text(w.mt, ",a");
	feed(&w, "\r\n\r\n");
	assert_string_equal(recorded(&w.log), "refused bad-request\nclosed ok\n");
	world_close(&w);
}

/* --- responses -------------------------------------------------------------------------- */

static struct fields
one_field(struct arena *a, struct text name, struct text value)
{
	struct fields list = {0};

	fields_add(&list, a, field_lookup(name.p, name.n), name, value);
	return list;
}

static void
send_text(struct world *w, const char *text, bool end)
{
	stream_send_body(w->stream, slice_borrowed(text, strlen(text)), end);
}

static const struct response {
	const char *in;
	unsigned status;
	int64_t length;
	bool end;
	const char *body;
	const char *out;
	bool ends;
} responses[] = {
    {G H "\r\n", 200, 5, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 5\r\n\r\nhello", false},
    {G H "\r\n", 200, -1, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	false},
    {G H "\r\n", 200, -1, true, "", "HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 0\r\n\r\n",
	false},
    {G H "\r\n", 200, 0, false, "", "HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 0\r\n\r\n",
	false},
    {G H "\r\n", 204, -1, true, "", "HTTP/1.1 204 No Content\r\ndate: D\r\n\r\n", false},
    {G H "\r\n", 204, 7, true, "", "HTTP/1.1 204 No Content\r\ndate: D\r\n\r\n", false},
    {G H "\r\n", 304, 7, true, "",
	"HTTP/1.1 304 Not Modified\r\ndate: D\r\ncontent-length: 7\r\n\r\n", false},
    {G H "\r\n", 304, -1, true, "", "HTTP/1.1 304 Not Modified\r\ndate: D\r\n\r\n", false},
    {G H "\r\n", 599, -1, true, "", "HTTP/1.1 599 \r\ndate: D\r\ncontent-length: 0\r\n\r\n", false},
    {"HEAD / HTTP/1.1\r\n" H "\r\n", 200, 1000, true, "",
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 1000\r\n\r\n", false},
    {"HEAD / HTTP/1.1\r\n" H "\r\n", 200, -1, true, "", "HTTP/1.1 200 OK\r\ndate: D\r\n\r\n",
	false},
    {"HEAD / HTTP/1.1\r\n" H "\r\n", 200, 5, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 5\r\n\r\n", false},
    {"GET / HTTP/1.0\r\n\r\n", 200, -1, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\nconnection: close\r\n\r\nhello", true},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, -1, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\nconnection: close\r\n\r\nhello", true},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, 5, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello",
	false},
    {G H "Connection: close\r\n\r\n", 200, 5, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", true},
    /* more than was announced: cut, and the connection ends */
    {G H "\r\n", 200, 3, false, "hello",
	"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-length: 3\r\n\r\nhel", true},
};

static void
test_responses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
		const struct response *r = &responses[i];
		struct head head = {.status = r->status, .content_length = r->length};
		struct arena arena;
		struct world w;

		world_open(&w, ANSWER_BY_HAND);
		arena_init(&arena, w.turn->chunks);
		head.fields = one_field(&arena, TEXT("date"), TEXT("D"));
		fields_add(&head.fields, &arena, F_CONNECTION, TEXT("connection"), TEXT("x"));
		fields_add(
		    &head.fields, &arena, F_CONTENT_LENGTH, TEXT("content-length"), TEXT("99"));
		feed(&w, r->in);
		assert_non_null(w.stream);
		stream_send_head(w.stream, &head, r->end);
		if (!r->end)
			send_text(&w, r->body, true);
		pump(&w);
		if (strcmp(w.mt->written, r->out) != 0)
			print_message("response %zu\n", i);
		assert_string_equal(w.mt->written, r->out);
		assert_int_equal(w.mt->n_writes, 1); /* head and body in one */
		assert_int_equal(w.n_closed, 1);
		assert_int_equal(w.drained, strlen(r->body));
		assert_int_equal(ended(&w), r->ends);
		arena_fini(&arena);
		world_close(&w);
	}
}

/* Short of what it announced: the client must see that it is cut (attack 51). */
static void
test_short_response(void **state)
{
	struct head head = {.status = 200, .content_length = 100};
	struct world w;

	(void)state;
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n");
	stream_send_head(w.stream, &head, false);
	send_text(&w, "hello", true);
	pump(&w);
	assert_string_equal(recorded(&w.log), "GET http://h / end\nclosed internal\n");
	assert_true(w.mt->closed && w.mt->aborted);
	world_close(&w);
}

static void
test_reset(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	struct world w;

	(void)state;
	/* a chunked response that ends in the middle: no last chunk, no orderly end, no event */
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n");
	stream_send_head(w.stream, &head, false);
	send_text(&w, "hello", false);
	pump(&w);
	stream_reset(w.stream, OUTCOME_BACK_TRUNCATED);
	w.stream = NULL;
	w.n_closed++;
	pump(&w);
	assert_null(strstr(w.mt->written, "0\r\n\r\n"));
	assert_true(w.mt->closed && w.mt->aborted);
	assert_string_equal(recorded(&w.log), "GET http://h / end\n");
	world_close(&w);
	/* one that had been ended goes out first */
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n");
	stream_send_head(w.stream, &head, false);
	send_text(&w, "hello", true);
	stream_reset(w.stream, OUTCOME_CLIENT_GONE);
	w.stream = NULL;
	w.n_closed++;
	pump(&w);
	assert_non_null(strstr(w.mt->written, "5\r\nhello\r\n0\r\n\r\n"));
	assert_true(w.mt->shut && !w.mt->aborted);
	world_close(&w);
}

static void
test_response_trailers(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	struct fields list;
	struct arena arena;
	struct world w;

	(void)state;
	for (int old = 0; old < 2; old++) {
		world_open(&w, ANSWER_BY_HAND);
		arena_init(&arena, w.turn->chunks);
		head.fields = one_field(&arena, TEXT("date"), TEXT("D"));
		list = one_field(&arena, TEXT("grpc-status"), TEXT("0"));
		fields_add(&list, &arena, F_CONTENT_LENGTH, TEXT("content-length"), TEXT("9"));
		feed(&w, old ? "GET / HTTP/1.0\r\n\r\n" : G H "\r\n");
		stream_send_head(w.stream, &head, false);
		send_text(&w, "hello", false);
		stream_send_trailers(w.stream, &list);
		pump(&w);
		assert_string_equal(w.mt->written,
		    old ? "HTTP/1.1 200 OK\r\ndate: D\r\nconnection: close\r\n\r\nhello"
			: "HTTP/1.1 200 OK\r\ndate: D\r\ntransfer-encoding: "
			  "chunked\r\n\r\n5\r\nhello\r\n"
			  "0\r\ngrpc-status: 0\r\n\r\n");
		assert_int_equal(w.drained, 5);
		assert_int_equal(w.n_closed, 1);
		arena_fini(&arena);
		world_close(&w);
	}
}

static void
test_bad_response_fields(void **state)
{
	static const struct text bad[] = {{"a\r\nb", 4}, {"a\nb", 3}, {"a\0b", 3}, {" a", 2}};
	struct world w;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
		struct arena arena;

		world_open(&w, ANSWER_BY_HAND);
		arena_init(&arena, w.turn->chunks);
		head.fields = one_field(&arena, TEXT("x"), bad[i]);
		feed(&w, G H "\r\n");
		stream_send_head(w.stream, &head, false);
		pump(&w);
		assert_string_equal(w.mt->written, "");
		assert_string_equal(recorded(&w.log), "GET http://h / end\nclosed internal\n");
		arena_fini(&arena);
		world_close(&w);
	}
}

static void
test_large_head(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	char *value = malloc(40000);
	struct arena arena;
	struct world w;
	size_t n;

	(void)state;
	memset(value, 'v', 40000);
	world_open(&w, ANSWER_BY_HAND);
	arena_init(&arena, w.turn->chunks);
	head.fields = one_field(&arena, TEXT("date"), TEXT("D"));
	fields_add(&head.fields, &arena, F_OTHER, TEXT("x"), (struct text){value, 40000});
	feed(&w, G H "\r\n");
	stream_send_head(w.stream, &head, true);
	pump(&w);
	free(memory_take(w.mt, &n));
	assert_int_equal(
	    n, strlen("HTTP/1.1 200 OK\r\ndate: D\r\nx: \r\ncontent-length: 0\r\n\r\n") + 40000);
	arena_fini(&arena);
	world_close(&w);
	free(value);
}

/* --- 100-continue, interim responses ------------------------------------------------------- */

static void
test_interim(void **state)
{
	struct head hints = {.status = 103, .content_length = HEAD_LENGTH_NONE};
	struct head go_on = {.status = 100, .content_length = HEAD_LENGTH_NONE};
	struct arena arena;
	struct world w;

	(void)state;
	world_open(&w, ANSWER_AT_END);
	arena_init(&arena, w.turn->chunks);
	hints.fields = one_field(&arena, TEXT("link"), TEXT("</a>"));
	feed(&w, PH "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	stream_send_head(w.stream, &hints, false);
	stream_send_head(w.stream, &go_on, false);
	pump(&w);
	assert_string_equal(w.mt->written,
	    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
	feed(&w, "ab");
	assert_non_null(strstr(w.mt->written, OK));
	assert_int_equal(w.n_closed, 1);
	world_close(&w);
	/* HTTP/1.0 knows no 1xx */
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, "GET / HTTP/1.0\r\n\r\n");
	stream_send_head(w.stream, &hints, false);
	pump(&w);
	assert_string_equal(w.mt->written, "");
	arena_fini(&arena);
	world_close(&w);
}

/* --- early answers, ends of connections ---------------------------------------------------- */

static void
test_early_answer(void **state)
{
	struct world w;

	(void)state;
	/* the request's body is still coming when the answer has gone: said, and closed */
	world_open(&w, ANSWER_AT_HEAD);
	feed(&w, PH "Content-Length: 100000\r\n\r\nabc");
	assert_string_equal(w.mt->written, OK_LAST);
	assert_true(w.mt->shut && !w.mt->closed); /* lingering: what still comes is read away */
	assert_int_equal(w.n_closed, 1);
	feed(&w, "def" NEXT);
	assert_null(strstr(recorded(&w.log), "smuggled"));
	test_advance(w.turn, 1100);
	assert_true(w.mt->closed);
	world_close(&w);
}

static void
test_client_leaves(void **state)
{
	static const struct {
		const char *in, *log;
	} rows[] = {
	    {"", ""},
	    {"GET / HT", ""},
	    {PH "Content-Length: 100\r\n\r\n0123456789",
		"POST http://h / length=100\nbody 0123456789\nclosed client-gone\n"},
	    {CHUNKED "5\r\nhel", "POST http://h /\nbody hel\nclosed client-gone\n"},
	    {CHUNKED "1\r\na\r\n0\r\nX: y\r\n", "POST http://h /\nbody a\nclosed client-gone\n"},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct world w;

		world_open(&w, ANSWER_AT_END);
		feed(&w, rows[i / 2].in);
		if (i % 2 == 0)
			memory_feed_eof(w.mt);
		else
			memory_break(w.mt);
		pump(&w);
		assert_string_equal(recorded(&w.log), rows[i / 2].log);
		assert_string_equal(w.mt->written, "");
		assert_true(w.mt->closed);
		world_close(&w);
	}
}

static void
test_half_closed(void **state)
{
	struct world w;

	(void)state;
	/* the answer still comes, after the FIN */
	world_open(&w, ANSWER_BY_HAND);
	memory_feed_text(w.mt, G H "\r\n");
	memory_feed_eof(w.mt);
	pump(&w);
	assert_int_equal(w.n_closed, 0);
	answer(w.stream, 200, "ok");
	pump(&w);
	assert_string_equal(w.mt->written, OK_LAST);
	assert_true(w.mt->closed && !w.mt->aborted);
	world_close(&w);
	/* and all pipelined ones */
	world_open(&w, ANSWER_AT_END);
	memory_set_read_max(w.mt, 5);
	memory_feed_text(w.mt, G H "\r\n" G H "\r\n" G H "\r\n");
	memory_feed_eof(w.mt);
	pump(&w);
	assert_string_equal(w.mt->written, OK OK OK);
	assert_true(w.mt->closed && !w.mt->aborted);
	world_close(&w);
}

static void
test_lost_while_answering(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	struct world w;

	(void)state;
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n");
	memory_break(w.mt);
	stream_send_head(w.stream, &head, false);
	send_text(&w, "x", false);
	pump(&w);
	assert_string_equal(recorded(&w.log), "GET http://h / end\nclosed client-gone\n");
	world_close(&w);
}

static void
test_slow_client(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	struct world w;

	(void)state;
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n");
	memory_set_room(w.mt, 0);
	stream_send_head(w.stream, &head, false);
	send_text(&w, "x", false);
	pump(&w);
	test_advance(w.turn, 31000);
	assert_string_equal(recorded(&w.log), "GET http://h / end\nclosed client-slow\n");
	world_close(&w);
}

/* --- timeouts and draining ------------------------------------------------------------------ */

static void
test_timeouts(void **state)
{
	struct world w;

	(void)state;
	/* nothing said: nothing answered */
	world_open(&w, ANSWER_AT_END);
	pump(&w);
	test_advance(w.turn, 9900);
	assert_false(w.mt->closed);
	test_advance(w.turn, 200);
	assert_true(w.mt->closed);
	assert_string_equal(w.mt->written, "");
	world_close(&w);
	/* half a head: 408, however it drips */
	world_open(&w, ANSWER_AT_END);
	feed(&w, "GET / ");
	for (int i = 0; i < 12; i++) {
		test_advance(w.turn, 1000);
		if (i < 9)
			feed(&w, "x");
	}
	pump(&w);
	assert_string_equal(recorded(&w.log), "refused header-timeout\nclosed ok\n");
	assert_memory_equal(w.mt->written, "HTTP/1.1 408 ", 13);
	world_close(&w);
	/* the first head's time runs from the beginning of the connection */
	world_open(&w, ANSWER_AT_END);
	pump(&w);
	test_advance(w.turn, 6000);
	feed(&w, "GET / ");
	test_advance(w.turn, 4200);
	pump(&w);
	assert_string_equal(recorded(&w.log), "refused header-timeout\nclosed ok\n");
	world_close(&w);
	/* idle, then the second head's own time */
	world_open(&w, ANSWER_AT_END);
	feed(&w, G H "\r\n");
	test_advance(w.turn, 50000);
	feed(&w, "GE");
	test_advance(w.turn, 9000);
	feed(&w, "T / HTTP/1.1\r\n" H "\r\n");
	assert_int_equal(w.n_closed, 2);
	test_advance(w.turn, 59000);
	assert_false(w.mt->closed);
	test_advance(w.turn, 2000);
	assert_true(w.mt->closed);
	world_close(&w);
}

static void
test_drain(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, ANSWER_AT_END);
	feed(&w, G H "\r\n");
	assert_false(ended(&w));
	front_drain(&w.fc);
	pump(&w);
	assert_true(ended(&w));
	world_close(&w);

	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n" NEXT);
	front_drain(&w.fc);
	pump(&w);
	assert_false(ended(&w));
	answer(w.stream, 200, "ok");
	pump(&w);
	assert_string_equal(w.mt->written, OK_LAST);
	assert_true(ended(&w));
	assert_int_equal(w.n_begun, 1);
	world_close(&w);
}

/* --- credit ------------------------------------------------------------------------------------ */

static void
test_request_credit(void **state)
{
	struct world w;
	char *body = malloc(300000);
	size_t held, pool;

	(void)state;
	memset(body, 'b', 300000);
	world_open(&w, ANSWER_AT_END);
	w.hold_credit = true;
	memory_feed_text(w.mt, PH "Content-Length: 300000\r\n\r\n");
	memory_feed(w.mt, body, 300000);
	pump(&w);
	assert_int_equal(w.owed, STREAM_CREDIT);
	held = w.mt->n_input - w.mt->input_at;
	assert_true(
	    held > 300000 - STREAM_CREDIT - 2 * CHUNK_LARGE); /* the rest stayed in the socket */
	pool = chunk_pool_bytes(w.turn->chunks);
	while (w.stream != NULL && w.n_closed == 0) {
		size_t n = w.owed < 10000 ? w.owed : 10000;

		assert_true(w.owed <= STREAM_CREDIT);
		w.owed -= n;
		stream_consumed(w.stream, n);
		pump(&w);
	}
	assert_true(chunk_pool_bytes(w.turn->chunks) <= pool + 2 * CHUNK_LARGE);
	assert_string_equal(w.mt->written, OK);
	world_close(&w);
	free(body);
}

static void
test_slow_reader(void **state)
{
	struct head head = {.status = 200, .content_length = HEAD_LENGTH_NONE};
	struct world w;
	char body[1000];
	size_t given = 0, written = 0, n;

	(void)state;
	memset(body, 'b', sizeof(body));
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, G H "\r\n" NEXT);
	memory_set_room(w.mt, 0);
	stream_send_head(w.stream, &head, false);
	/* the exchange gives what its credit allows; the client takes 777 bytes at a time */
	while (given < 100000 || w.drained < given) {
		while (given < 100000 && given - w.drained + sizeof(body) <= STREAM_CREDIT) {
			stream_send_body(w.stream, slice_borrowed(body, sizeof(body)),
			    given + sizeof(body) == 100000);
			given += sizeof(body);
		}
		memory_set_room(w.mt, 777);
		pump(&w);
		free(memory_take(w.mt, &n));
		written += n;
		/* never more than left, and late by no more than head, chunk sizes and line ends */
		assert_true(w.drained <= written && written - w.drained < 1000);
		assert_true(buf_bytes(&w.fc.conn.out) <= STREAM_CREDIT + 4096);
		if (given < 100000)
			assert_null(strstr(recorded(&w.log), "/smuggled"));
	}
	assert_int_equal(w.drained, 100000);
	pump(&w);
	assert_non_null(strstr(recorded(&w.log), "closed ok\nGET http://h /smuggled"));
	world_close(&w);
}

/* --- WebSocket ------------------------------------------------------------------------------------ */

#define UPGRADE                                                                                    \
	"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" \
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"             \
	"Sec-WebSocket-Protocol: chat\r\n\r\n"
#define SWITCHED                                                                                   \
	"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"        \
	"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
#define UPGRADE_LOG                                                                                \
	"GET http://h /ws websocket [sec-websocket-version=13] [sec-websocket-protocol=chat]\n"

static void
test_websocket(void **state)
{
	struct head switches = {.status = 101, .content_length = HEAD_LENGTH_NONE};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world w;

		world_open(&w, ANSWER_BY_HAND);
		memory_set_read_max(w.mt, i == 0 ? SIZE_MAX : 1);
		feed(&w, UPGRADE "GET /early");
		assert_string_equal(recorded(&w.log), UPGRADE_LOG); /* held back (attack 34) */
		stream_send_head(w.stream, &switches, false);
		pump(&w);
		assert_string_equal(w.mt->written, SWITCHED);
		assert_string_equal(recorded(&w.log), UPGRADE_LOG "body GET /early\n");
		send_text(&w, "0123", false);
		feed(&w, "abc");
		assert_string_equal(w.mt->written, SWITCHED "0123");
		/* half-closed by the client, then by the backend */
		memory_feed_eof(w.mt);
		pump(&w);
		assert_int_equal(w.n_closed, 0);
		send_text(&w, "45", true);
		pump(&w);
		assert_string_equal(w.mt->written, SWITCHED "012345");
		assert_string_equal(
		    recorded(&w.log), UPGRADE_LOG "body GET /early\nbody abc\nend\nclosed ok\n");
		assert_true(w.mt->closed && !w.mt->aborted);
		assert_int_equal(w.drained, 6);
		world_close(&w);
	}
}

static void
test_websocket_backend_ends_first(void **state)
{
	struct head switches = {.status = 101, .content_length = HEAD_LENGTH_NONE};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world w;

		world_open(&w, ANSWER_BY_HAND);
		feed(&w, UPGRADE);
		stream_send_head(w.stream, &switches, false);
		send_text(&w, "bye", true);
		pump(&w);
		assert_string_equal(w.mt->written, SWITCHED "bye");
		assert_true(w.mt->shut && !w.mt->closed);
		assert_int_equal(w.n_closed, 0);
		if (i == 0) {
			memory_feed_eof(w.mt);
			pump(&w);
		} else {
			test_advance(w.turn, 61000); /* a client that never ends its half */
		}
		assert_int_equal(w.n_closed, 1);
		assert_true(w.mt->closed);
		world_close(&w);
	}
}

static void
test_websocket_refused(void **state)
{
	struct world w;

	(void)state;
	/* an ordinary answer: the next request is taken */
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, UPGRADE);
	answer(w.stream, 403, "no");
	pump(&w);
	assert_int_equal(w.n_closed, 1);
	assert_false(ended(&w));
	feed(&w, G H "\r\n");
	assert_non_null(w.stream);
	world_close(&w);
	/* but not from bytes that may have been meant for the tunnel */
	world_open(&w, ANSWER_BY_HAND);
	feed(&w, UPGRADE NEXT);
	answer(w.stream, 200, "ok");
	pump(&w);
	assert_string_equal(w.mt->written, OK_LAST);
	assert_string_equal(recorded(&w.log), UPGRADE_LOG "closed ok\n");
	assert_true(ended(&w));
	world_close(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_taken),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_nul_bytes),
	    cmocka_unit_test(test_bad_chunks),
	    cmocka_unit_test(test_chunk_data_without_crlf),
	    cmocka_unit_test(test_lost_while_refusing),
	    cmocka_unit_test(test_chunk_bounds),
	    cmocka_unit_test(test_tiny_chunks_cost),
	    cmocka_unit_test(test_bad_body_after_answer_began),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_responses),
	    cmocka_unit_test(test_short_response),
	    cmocka_unit_test(test_reset),
	    cmocka_unit_test(test_response_trailers),
	    cmocka_unit_test(test_bad_response_fields),
	    cmocka_unit_test(test_large_head),
	    cmocka_unit_test(test_interim),
	    cmocka_unit_test(test_early_answer),
	    cmocka_unit_test(test_client_leaves),
	    cmocka_unit_test(test_half_closed),
	    cmocka_unit_test(test_lost_while_answering),
	    cmocka_unit_test(test_slow_client),
	    cmocka_unit_test(test_timeouts),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_request_credit),
	    cmocka_unit_test(test_slow_reader),
	    cmocka_unit_test(test_websocket),
	    cmocka_unit_test(test_websocket_backend_ends_first),
	    cmocka_unit_test(test_websocket_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
