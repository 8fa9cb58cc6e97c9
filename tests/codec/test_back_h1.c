/*
 * HTTP/1.1 to backends: what is written, what is believed of the answer, and when a connection may be
 * used again.  Each row of the tables runs whole and split at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/codec/back_conn.h"
#include "proxy/codec/h1.h"
#include "proxy/message/websocket.h"
#include "tests/codec/memory_transport.h"
#include "tests/codec/recorder.h"

struct world {
	struct turn *turn;
	struct memory_transport *mt;
	struct back_conn bc;
	struct arena arena; /* of the request heads */
	struct recorder log;
	struct stream *stream;
	bool hold_credit, reset_at_end;
	size_t owed, drained;
	unsigned n_closed, n_opened, n_connected, n_available, n_retired, n_gone;
};

static struct world *
of(struct back_conn *bc)
{
	return bc->owner_data;
}

static void
connected(struct back_conn *bc)
{
	of(bc)->n_connected++;
}

static void
available(struct back_conn *bc)
{
	assert_int_equal(back_slots(bc), 1);
	assert_null(of(bc)->stream);
	of(bc)->n_available++;
}

static void
retired(struct back_conn *bc)
{
	assert_int_equal(back_slots(bc), 0);
	of(bc)->n_retired++;
}

static void
gone(struct back_conn *bc)
{
	of(bc)->n_gone++;
}

static const struct back_owner owner = {
    .connected = connected,
    .available = available,
    .retired = retired,
    .gone = gone,
};

static void
reset(struct world *w)
{
	struct stream *s = w->stream;

	w->stream = NULL;
	w->n_closed++;
	stream_reset(s, OUTCOME_CLIENT_GONE);
}

static void
on_head(void *user, const struct head *head, bool end)
{
	struct world *w = user;

	ENSURE(w->stream != NULL && head->no_body == end);
	record(&w->log, "%u", head->status);
	if (head->content_length >= 0)
		record(&w->log, " length=%lld", (long long)head->content_length);
	if (end)
		record(&w->log, " end");
	record_fields(&w->log, &head->fields);
	record(&w->log, "\n");
	if (end && w->reset_at_end)
		reset(w);
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
	if (end)
		record(&w->log, "end\n");
	if (end && w->reset_at_end)
		reset(w);
}

static void
on_trailers(void *user, const struct fields *list)
{
	struct world *w = user;

	ENSURE(w->stream != NULL);
	record(&w->log, "trailers");
	record_fields(&w->log, list);
	record(&w->log, "\n");
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
	w->n_closed++;
	record(&w->log, "closed %s\n", outcome_row(why)->word);
}

static const struct stream_events events = {
    .head = on_head,
    .body = on_body,
    .trailers = on_trailers,
    .drained = on_drained,
    .closed = on_closed,
};

static void
free_nothing(struct conn *c)
{
	(void)c;
}

static void
world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->turn = test_turn_new();
	w->mt = memory_transport_new();
	arena_init(&w->arena, w->turn->chunks);
	back_init(&w->bc, w->turn, &w->mt->transport, BACK_H1, &owner, free_nothing);
	w->bc.owner_data = w;
	w->bc.header_bytes = 2048;
	w->bc.header_count = 20;
	w->bc.conn.send_timeout_ms = 30000;
	back_h1_begin(&w->bc);
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

static void
world_close(struct world *w)
{
	if (w->stream != NULL)
		reset(w);
	conn_close(&w->bc.conn, true);
	turn_end(w->turn);
	assert_int_equal(w->n_gone, 1);
	assert_int_equal(w->n_opened, w->n_closed);
	assert_int_equal(w->bc.n_streams, 0);
	assert_true(w->n_retired <= 1);
	arena_fini(&w->arena);
	memory_transport_free(w->mt);
	test_turn_free(w->turn);
	record_fini(&w->log);
}

static struct head
request(enum method method, const char *word, int64_t length)
{
	return (struct head){
	    .method = method,
	    .method_text = {word, strlen(word)},
	    .scheme = TEXT("https"),
	    .authority = TEXT("h.example:81"),
	    .path = TEXT("/a?b"),
	    .content_length = length,
	    .minor = 1,
	};
}

static void
open_stream(struct world *w)
{
	w->stream = back_open(&w->bc);
	w->stream->events = &events;
	w->stream->user = w;
	w->n_opened++;
}

static void
ask(struct world *w, const struct head *head, bool end)
{
	open_stream(w);
	stream_send_head(w->stream, head, end);
	pump(w);
}

static void
get(struct world *w)
{
	struct head head = request(METHOD_GET, "GET", HEAD_LENGTH_NONE);

	ask(w, &head, true);
}

static void
give(struct world *w, const char *text, bool end)
{
	stream_send_body(w->stream, slice_borrowed(text, strlen(text)), end);
}

/* Is it kept for the next exchange? */
static bool
kept(const struct world *w)
{
	return w->n_available == 1 && w->n_retired == 0 && !w->bc.conn.dead;
}

/* --- requests as they are written ---------------------------------------------- */

#define LINE(method) method " /a?b HTTP/1.1\r\nhost: h.example:81\r\n"

static void
test_request_heads(void **state)
{
	static const struct {
		enum method method;
		const char *word;
		int64_t length;
		bool end, expect;
		const char *body, *out;
	} rows[] = {
	    {METHOD_GET, "GET", -1, true, false, "", LINE("GET") "x-a: b\r\n\r\n"},
	    {METHOD_HEAD, "HEAD", -1, true, false, "", LINE("HEAD") "x-a: b\r\n\r\n"},
	    {METHOD_GET, "GET", 0, true, false, "",
		LINE("GET") "x-a: b\r\ncontent-length: 0\r\n\r\n"},
	    {METHOD_POST, "POST", -1, true, false, "",
		LINE("POST") "x-a: b\r\ncontent-length: 0\r\n\r\n"},
	    {METHOD_PUT, "PUT", 0, true, false, "",
		LINE("PUT") "x-a: b\r\ncontent-length: 0\r\n\r\n"},
	    {METHOD_PATCH, "PATCH", -1, true, false, "",
		LINE("PATCH") "x-a: b\r\ncontent-length: 0\r\n\r\n"},
	    {METHOD_DELETE, "DELETE", -1, true, false, "", LINE("DELETE") "x-a: b\r\n\r\n"},
	    {METHOD_OTHER, "PROPFIND", -1, true, false, "", LINE("PROPFIND") "x-a: b\r\n\r\n"},
	    {METHOD_POST, "POST", 5, false, false, "hello",
		LINE("POST") "x-a: b\r\ncontent-length: 5\r\n\r\nhello"},
	    {METHOD_POST, "POST", 5, false, true, "hello",
		LINE("POST") "x-a: b\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello"},
	    {METHOD_GET, "GET", -1, false, false, "GET /smuggled",
		LINE("GET") "x-a: b\r\ntransfer-encoding: chunked\r\n\r\nd\r\nGET "
			    "/smuggled\r\n0\r\n\r\n"},
	    {METHOD_POST, "POST", -1, false, false, "",
		LINE("POST") "x-a: b\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct head head = request(rows[i].method, rows[i].word, rows[i].length);
		struct world w;

		world_open(&w);
		fields_add(&head.fields, &w.arena, F_OTHER, TEXT("x-a"), TEXT("b"));
		/* whatever else is in the list: framing and hop-by-hop fields are this codec's own */
		fields_add(&head.fields, &w.arena, F_TRANSFER_ENCODING, TEXT("transfer-encoding"),
		    TEXT("x"));
		fields_add(&head.fields, &w.arena, F_HOST, TEXT("host"), TEXT("evil"));
		fields_add(&head.fields, &w.arena, F_EXPECT, TEXT("expect"), TEXT("x"));
		head.expect_continue = rows[i].expect;
		ask(&w, &head, rows[i].end);
		if (!rows[i].end)
			give(&w, rows[i].body, true);
		pump(&w);
		assert_string_equal(w.mt->written, rows[i].out);
		assert_int_equal(w.drained, strlen(rows[i].body));
		feed(&w, "HTTP/1.1 204 No Content\r\n\r\n");
		assert_string_equal(recorded(&w.log), "204 end\nclosed ok\n");
		assert_true(kept(&w));
		assert_int_equal(w.n_connected, 1);
		world_close(&w);
	}
}

/* Head and body that are there together leave in one write. */
static void
test_one_write(void **state)
{
	struct head head = request(METHOD_POST, "POST", 5);
	struct world w;

	(void)state;
	world_open(&w);
	open_stream(&w);
	stream_send_head(w.stream, &head, false); /* waits for the connect */
	give(&w, "hello", true);
	pump(&w);
	assert_string_equal(w.mt->written, LINE("POST") "content-length: 5\r\n\r\nhello");
	assert_int_equal(w.mt->n_writes, 1);
	world_close(&w);
}

static void
test_request_trailers(void **state)
{
	struct head head = request(METHOD_POST, "POST", HEAD_LENGTH_NONE);
	struct fields list = {0};
	struct world w;

	(void)state;
	world_open(&w);
	ask(&w, &head, false);
	give(&w, "x", false);
	fields_add(&list, &w.arena, F_OTHER, TEXT("x-sum"), TEXT("7"));
	fields_add(&list, &w.arena, F_HOST, TEXT("host"), TEXT("evil"));
	stream_send_trailers(w.stream, &list);
	pump(&w);
	assert_string_equal(w.mt->written,
	    LINE("POST") "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n");
	world_close(&w);
}

/* Nothing of a request with a bad token is written, whoever let it through. */
static void
test_bad_tokens(void **state)
{
	(void)state;
	for (int i = 0; i < 13; i++) {
		struct head head = request(METHOD_GET, "GET", HEAD_LENGTH_NONE);
		struct text name = TEXT("x"), value = TEXT("y");
		struct world w;
		bool end = true;

		switch (i) {
		case 0:
			head.method_text = TEXT("GET /x");
			break;
		case 1:
			head.method_text = TEXT("");
			break;
		case 2:
			head.path = TEXT("/a b");
			break;
		case 3:
			head.path = TEXT("/a\r\nX: y");
			break;
		case 4:
			head.path = TEXT("");
			break;
		case 5:
			head.path = TEXT("/a#b");
			break;
		case 6:
			head.authority = TEXT("h\r\nX: y");
			break;
		case 7:
			head.authority = TEXT("u@h");
			break;
		case 8:
			name = TEXT("x y");
			break;
		case 9:
			name = TEXT("");
			break;
		case 10:
			value = TEXT("a\nb");
			break;
		case 11:
			value = (struct text){"a\0b", 3};
			break;
		case 12:
			head.content_length = 5;
			break; /* and nothing follows */
		}
		world_open(&w);
		fields_add(&head.fields, &w.arena, F_OTHER, name, value);
		ask(&w, &head, end);
		assert_string_equal(w.mt->written, "");
		assert_string_equal(recorded(&w.log), "closed internal\n");
		assert_int_equal(w.n_retired, 1);
		assert_int_equal(w.n_available, 0);
		world_close(&w);
	}
}

/* A body that is not what was announced never looks complete (attack 39, 42). */
static void
test_request_length(void **state)
{
	struct head head = request(METHOD_POST, "POST", 5);

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world w;

		world_open(&w);
		ask(&w, &head, false);
		give(&w, i == 0 ? "hell" : "hello!", true);
		pump(&w);
		assert_string_equal(recorded(&w.log), "closed internal\n");
		assert_null(strstr(w.mt->written, "!"));
		assert_true(w.mt->closed && w.mt->aborted);
		assert_int_equal(w.n_retired, 1);
		world_close(&w);
	}
}

/* --- responses -------------------------------------------------------------------- */

static const struct row {
	const char *in, *log;
	bool kept;
	bool eof; /* after it */
	enum method method;
} rows[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello",
	"200 length=5 [x-a=b]\nbody hello\nend\nclosed ok\n", true, false, METHOD_GET},
    {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 length=0 end\nclosed ok\n", true, false,
	METHOD_GET},
    {"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", "404 length=0 end\nclosed ok\n", true, false,
	METHOD_GET},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
	"200\nbody hello!\nend\nclosed ok\n", true, false, METHOD_GET},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nGrpc-Status: "
     "0\r\nContent-Length: 3\r\nX_y: z\r\n\r\n",
	"200\nbody a\ntrailers [grpc-status=0] [x_y=z]\nclosed ok\n", true, false, METHOD_GET},
    {"HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: "
     "1\r\n\r\na",
	"200 length=1\nbody a\nend\nclosed ok\n", false, false, METHOD_GET},
    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "200 length=1\nbody a\nend\nclosed ok\n",
	false, false, METHOD_GET},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
	"200 length=1\nbody a\nend\nclosed ok\n", true, false, METHOD_GET},
    {"HTTP/1.0 200 OK\r\n\r\nabc", "200\nbody abc\nend\nclosed ok\n", false, true, METHOD_GET},
    {"HTTP/1.1 200 OK\r\n\r\nabc", "200\nbody abc\nend\nclosed ok\n", false, true, METHOD_GET},
    {"HTTP/1.1 200 OK\r\n\r\n", "200\nend\nclosed ok\n", false, true, METHOD_GET},
    /* no body, whatever the header says */
    {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "200 length=500 end\nclosed ok\n", true,
	false, METHOD_HEAD},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 end\nclosed ok\n", true, false,
	METHOD_HEAD},
    {"HTTP/1.1 200 OK\r\n\r\n", "200 end\nclosed ok\n", true, false, METHOD_HEAD},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", "304 length=500 end\nclosed ok\n",
	true, false, METHOD_GET},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "204 end\nclosed ok\n", false, false,
	METHOD_GET},
    /* interim */
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: "
     "a\r\n\r\nHTTP/1.1 204 x\r\n\r\n",
	"102\n103 [link=a]\n204 end\nclosed ok\n", true, false, METHOD_GET},
    /* bytes behind the end: the first answer only, never pooled (50) */
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: "
     "6\r\n\r\npoison",
	"200 length=1\nbody a\nend\nclosed ok\n", false, false, METHOD_GET},
    {"HTTP/1.1 204 x\r\n\r\nX", "204 end\nclosed ok\n", false, false, METHOD_GET},
    {"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhello", "200 length=5 end\nclosed ok\n", false,
	false, METHOD_HEAD},
    {"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\nhello", "304 length=5 end\nclosed ok\n", false,
	false, METHOD_GET},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", "200\nend\nclosed ok\n",
	false, false, METHOD_GET},
    /* truncated (51) */
    {"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhell",
	"200 length=5\nbody hell\nclosed backend-truncated\n", false, true, METHOD_GET},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	"200\nbody hello\nclosed backend-truncated\n", false, true, METHOD_GET},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
	"200\nbody hello\nclosed backend-truncated\n", false, true, METHOD_GET},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
	"200\nclosed backend-truncated\n", false, true, METHOD_GET},
    {"HTTP/1.1 200 x\r\nContent-Le", "closed backend-reset\n", false, true, METHOD_GET},
    {"", "closed backend-reset\n", false, true, METHOD_GET},
};

static void
run_row(const struct row *r, size_t read_max)
{
	struct head head =
	    request(r->method, r->method == METHOD_HEAD ? "HEAD" : "GET", HEAD_LENGTH_NONE);
	struct world w;

	world_open(&w);
	ask(&w, &head, true);
	memory_set_read_max(w.mt, read_max);
	memory_feed_text(w.mt, r->in);
	if (r->eof)
		memory_feed_eof(w.mt);
	pump(&w);
	if (strcmp(recorded(&w.log), r->log) != 0 || kept(&w) != r->kept)
		print_message("row \"%s\", %zu bytes per read\n", r->in, read_max);
	assert_string_equal(recorded(&w.log), r->log);
	if (!r->kept && read_max != SIZE_MAX && w.n_available == 1) {
		/* byte by byte the poison is only there when the connection is idle already: gone by then */
		assert_int_equal(w.n_retired, 1);
		assert_true(w.mt->closed);
	} else {
		assert_int_equal(kept(&w), r->kept);
	}
	world_close(&w);
}

static void
test_responses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		run_row(&rows[i], SIZE_MAX);
		run_row(&rows[i], 1);
		run_row(&rows[i], 7);
	}
}

/* 52, 53, 54 */
static const char *const malformed[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
    "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "HTTP/1.1 200 OK\r\nnovalue\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\rZ\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\vb\r\n\r\n",
    "HTTP/1.1 200 O\x01K\r\n\r\n",
    "HTTP/1.1 200 O\rK\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 099 OK\r\n\r\n",
    "HTTP/1.1 600 OK\r\n\r\n",
    "HTTP/1.1 2x0 OK\r\n\r\n",
    "HTTP/1.1  200 OK\r\n\r\n",
    "HTTP/1.1\t200 OK\r\n\r\n",
    "HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/1.7 200 OK\r\n\r\n",
    "http/1.1 200 OK\r\n\r\n",
    "ICY 200 OK\r\n\r\n",
    "\r\nHTTP/1.1 200 OK\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2p1\r\n",
    "<html>",
    "HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\nX",
    "HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\na",
};

static void
test_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * sizeof(malformed) / sizeof(malformed[0]); i++) {
		struct world w;

		world_open(&w);
		get(&w);
		memory_set_read_max(w.mt, i % 2 == 0 ? SIZE_MAX : 1);
		feed(&w, malformed[i / 2]);
		if (strcmp(recorded(&w.log), "closed backend-malformed\n") != 0)
			print_message("response \"%s\"\n", malformed[i / 2]);
		assert_string_equal(recorded(&w.log), "closed backend-malformed\n");
		assert_true(w.mt->closed);
		assert_int_equal(w.n_retired, 1);
		assert_int_equal(w.n_available, 0);
		world_close(&w);
	}
}

static void
test_bad_chunks(void **state)
{
	static const char *const bad[] = {"5;\r\nhello\r\n", "5\nhello\r\n", "0x5\r\nhello\r\n",
	    "-5\r\nhello\r\n", "\r\n", "10000000000000000\r\n", "0\r\nX: y\n\r\n",
	    "0\r\n X: y\r\n\r\n", "0\r\nX : y\r\n\r\n"};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
		struct world w;

		world_open(&w);
		get(&w);
		memory_set_read_max(w.mt, i % 2 == 0 ? SIZE_MAX : 1);
		memory_feed_text(w.mt, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		feed(&w, bad[i / 2]);
		assert_string_equal(recorded(&w.log), "200\nclosed backend-malformed\n");
		assert_true(w.mt->closed && w.mt->aborted);
		world_close(&w);
	}
}

static void
test_too_large(void **state)
{
	struct world w;
	char *flood = malloc(100001);
	size_t before;

	(void)state;
	memset(flood, 'v', 100000);
	flood[100000] = '\0';
	/* a header of 3 MiB is told at its limit */
	world_open(&w);
	get(&w);
	before = chunk_pool_bytes(w.turn->chunks);
	memory_feed_text(w.mt, "HTTP/1.1 200 OK\r\nX: ");
	for (int i = 0; i < 30; i++)
		memory_feed_text(w.mt, flood);
	pump(&w);
	assert_string_equal(recorded(&w.log), "closed backend-head-too-large\n");
	assert_true(chunk_pool_bytes(w.turn->chunks) - before < 65536);
	world_close(&w);
	/* and so are many fields */
	world_open(&w);
	get(&w);
	memory_feed_text(w.mt, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 21; i++)
		memory_feed_text(w.mt, "x:\r\n");
	feed(&w, "\r\n");
	assert_string_equal(recorded(&w.log), "closed backend-head-too-large\n");
	world_close(&w);
	free(flood);
}

/* --- interim answers --------------------------------------------------------------- */

static void
test_interim(void **state)
{
	struct head head = request(METHOD_POST, "POST", 1);
	struct world w;

	(void)state;
	/* a 100 that was asked for */
	world_open(&w);
	head.expect_continue = true;
	ask(&w, &head, false);
	feed(&w, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_string_equal(recorded(&w.log), "100\n");
	give(&w, "x", true);
	feed(&w, "HTTP/1.1 204 x\r\n\r\n");
	assert_string_equal(recorded(&w.log), "100\n204 end\nclosed ok\n");
	assert_true(kept(&w));
	world_close(&w);
	/* ten 103 are passed on, further ones are not */
	world_open(&w);
	get(&w);
	for (int i = 0; i < 20; i++)
		feed(&w, "HTTP/1.1 103 x\r\n\r\n");
	feed(&w, "HTTP/1.1 204 x\r\n\r\n");
	assert_string_equal(recorded(&w.log),
	    "103\n103\n103\n103\n103\n103\n103\n103\n103\n103\n204 end\nclosed ok\n");
	world_close(&w);
	/* an endless row is no answer */
	world_open(&w);
	get(&w);
	for (int i = 0; i < 100; i++)
		feed(&w, "HTTP/1.1 100 x\r\n\r\n");
	assert_string_equal(recorded(&w.log), "");
	feed(&w, "HTTP/1.1 100 x\r\n\r\n");
	assert_string_equal(recorded(&w.log), "closed backend-malformed\n");
	world_close(&w);
}

/* --- the connection's life ------------------------------------------------------------ */

#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"

static void
test_reuse(void **state)
{
	struct world w;
	size_t pool = 0;

	(void)state;
	world_open(&w);
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(back_slots(&w.bc), 1);
		get(&w);
		assert_int_equal(back_slots(&w.bc), 0);
		assert_int_equal(w.bc.n_streams, 1);
		feed(&w, ANSWER);
		assert_int_equal(w.n_available, i);
		assert_int_equal(w.bc.n_streams, 0);
		assert_null(w.bc.conn.in); /* idle connections hold no chunk */
		if (i == 2)
			pool = chunk_pool_bytes(w.turn->chunks);
	}
	assert_int_equal(chunk_pool_bytes(w.turn->chunks), pool); /* nothing new was needed */
	assert_int_equal(w.bc.served, 100);
	assert_int_equal(w.n_retired, 0);
	world_close(&w);
}

static void
test_idle(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct world w;

		world_open(&w);
		get(&w);
		feed(&w, ANSWER);
		assert_true(kept(&w));
		switch (i) {
		case 0:
			memory_feed_text(
			    w.mt, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
			break;
		case 1:
			memory_feed_eof(w.mt);
			break;
		case 2:
			memory_break(w.mt);
			break;
		}
		pump(&w);
		assert_int_equal(w.n_retired, 1);
		assert_true(w.mt->closed);
		assert_string_equal(recorded(&w.log), "200 length=1\nbody a\nend\nclosed ok\n");
		world_close(&w);
	}
}

/* Bytes that come before a byte of the request has left are nobody's answer. */
static void
test_poisoned(void **state)
{
	struct head head = request(METHOD_GET, "GET", HEAD_LENGTH_NONE);
	struct world w;

	(void)state;
	world_open(&w);
	get(&w);
	feed(&w, ANSWER);
	memory_feed_text(w.mt, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
	open_stream(&w);
	stream_send_head(w.stream, &head, true);
	pump(&w);
	assert_string_equal(
	    recorded(&w.log), "200 length=1\nbody a\nend\nclosed ok\nclosed backend-stale\n");
	assert_true(w.mt->closed);
	world_close(&w);
}

static void
test_stale(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct world w;

		world_open(&w);
		get(&w);
		feed(&w, ANSWER);
		record_fini(&w.log);
		get(&w);
		if (i == 2)
			memory_feed_text(w.mt, "H");
		if (i == 1)
			memory_break(w.mt);
		else
			memory_feed_eof(w.mt);
		pump(&w);
		assert_string_equal(
		    recorded(&w.log), i == 2 ? "closed backend-reset\n" : "closed backend-stale\n");
		world_close(&w);
	}
}

static void
test_broken(void **state)
{
	static const struct {
		const char *in, *log;
	} cases[] = {
	    {"", "closed backend-reset\n"},
	    {"HTTP/1.1 200", "closed backend-reset\n"},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
		"200 length=5\nbody he\nclosed backend-truncated\n"},
	    {"HTTP/1.1 200 OK\r\n\r\nhe", "200\nbody he\nclosed backend-truncated\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;

		world_open(&w);
		get(&w);
		feed(&w, cases[i].in);
		memory_break(w.mt);
		pump(&w);
		assert_string_equal(recorded(&w.log), cases[i].log);
		assert_int_equal(w.n_retired, 1);
		world_close(&w);
	}
}

static void
test_connect_failed(void **state)
{
	struct head head = request(METHOD_GET, "GET", HEAD_LENGTH_NONE);
	struct world w;

	(void)state;
	world_open(&w);
	w.mt->connects = false;
	open_stream(&w);
	stream_send_head(w.stream, &head, true);
	pump(&w);
	conn_lost(&w.bc.conn, OUTCOME_CONNECT_REFUSED);
	turn_end(w.turn);
	assert_string_equal(recorded(&w.log), "closed connect-refused\n");
	assert_int_equal(w.n_connected, 0);
	assert_int_equal(w.n_retired, 1);
	assert_int_equal(w.n_gone, 1);
	world_close(&w);
}

static void
test_retire(void **state)
{
	struct world w;

	(void)state;
	/* with a stream under way: after it */
	world_open(&w);
	get(&w);
	back_retire(&w.bc);
	feed(&w, ANSWER);
	assert_string_equal(recorded(&w.log), "200 length=1\nbody a\nend\nclosed ok\n");
	assert_true(w.mt->closed);
	assert_int_equal(w.n_available, 0);
	assert_int_equal(w.n_retired, 1);
	world_close(&w);
}

/* --- early answers, resets --------------------------------------------------------------- */

static void
test_early_answer(void **state)
{
	struct head head = request(METHOD_POST, "POST", 1000000);
	struct world w;

	(void)state;
	/* the exchange goes on sending: delivered, never pooled */
	head.content_length = 10;
	world_open(&w);
	ask(&w, &head, false);
	give(&w, "01234", false);
	feed(&w, "HTTP/1.1 413 x\r\nContent-Length: 3\r\n\r\nbig");
	assert_string_equal(recorded(&w.log), "413 length=3\nbody big\nend\n");
	give(&w, "56789", true);
	pump(&w);
	assert_string_equal(recorded(&w.log), "413 length=3\nbody big\nend\nclosed ok\n");
	assert_int_equal(w.n_available, 0);
	assert_true(w.mt->closed);
	world_close(&w);
	world_open(&w);
	ask(&w, &head, false);
	feed(&w, "HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(recorded(&w.log), "413 length=0 end\n");
	give(&w, "0123456789", true);
	pump(&w);
	assert_string_equal(recorded(&w.log), "413 length=0 end\nclosed ok\n");
	assert_int_equal(w.n_available, 0);
	assert_true(w.mt->closed);
	world_close(&w);
	/* the exchange resets in the event; the backend closes by itself */
	for (int i = 0; i < 2; i++) {
		world_open(&w);
		w.reset_at_end = i == 0;
		ask(&w, &head, false);
		give(&w, "01234", false);
		memory_feed_text(w.mt, "HTTP/1.1 413 x\r\nContent-Length: 3\r\n\r\nbig");
		if (i == 1)
			memory_break(w.mt);
		pump(&w);
		assert_string_equal(
		    recorded(&w.log), i == 0 ? "413 length=3\nbody big\nend\n"
					     : "413 length=3\nbody big\nend\nclosed ok\n");
		assert_int_equal(w.n_available, 0);
		assert_true(w.mt->closed);
		world_close(&w);
	}
}

/* reset() inside the event that ends the response: kept only when nothing is behind it. */
static void
test_reset_at_end(void **state)
{
	static const struct {
		const char *in;
		bool kept;
	} cases[] = {
	    {ANSWER, true},
	    {ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", false},
	    {"HTTP/1.1 204 x\r\n\r\n", true},
	    {"HTTP/1.1 204 x\r\n\r\nX", false},
	    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", true},
	    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nX", false},
	    {"HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;

		world_open(&w);
		w.reset_at_end = true;
		get(&w);
		feed(&w, cases[i].in);
		assert_null(w.stream);
		assert_int_equal(kept(&w), cases[i].kept);
		assert_int_equal(w.n_available, cases[i].kept);
		if (cases[i].kept) {
			w.reset_at_end = false;
			record_fini(&w.log);
			get(&w);
			feed(&w, ANSWER);
			assert_string_equal(
			    recorded(&w.log), "200 length=1\nbody a\nend\nclosed ok\n");
		}
		world_close(&w);
	}
}

static void
test_reset_midway(void **state)
{
	static const char *const cases[] = {
	    "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;
		size_t n;

		world_open(&w);
		get(&w);
		feed(&w, cases[i]);
		n = w.log.n;
		reset(&w);
		pump(&w);
		(void)recorded(&w.log);
		assert_true(w.log.n >= n && strstr(recorded(&w.log), "closed") == NULL);
		assert_true(w.mt->closed && w.mt->aborted);
		assert_int_equal(w.n_retired, 1);
		world_close(&w);
	}
}

/* --- credit ------------------------------------------------------------------------------- */

static void
test_response_credit(void **state)
{
	struct world w;
	char *body = malloc(300000);

	(void)state;
	memset(body, 'b', 300000);
	for (int chunked = 0; chunked < 2; chunked++) {
		world_open(&w);
		w.hold_credit = true;
		get(&w);
		if (chunked)
			memory_feed_text(
			    w.mt, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n");
		else
			memory_feed_text(w.mt, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
		memory_feed(w.mt, body, 300000);
		if (chunked)
			memory_feed_text(w.mt, "\r\n0\r\n\r\n");
		memory_feed_eof(w.mt);
		pump(&w);
		assert_int_equal(w.owed, STREAM_CREDIT);
		while (w.stream != NULL) {
			size_t n = w.owed < 10000 ? w.owed : 10000;

			assert_true(w.owed > 0 && w.owed <= STREAM_CREDIT);
			w.owed -= n;
			stream_consumed(w.stream, n);
			pump(&w);
		}
		assert_non_null(strstr(recorded(&w.log), "\nend\nclosed ok\n"));
		assert_int_equal(w.n_retired, 1); /* the backend has closed */
		assert_true(w.mt->closed);
		world_close(&w);
	}
	free(body);
}

/* hold(): a chunk's worth, or little of that when the worker has much lying about; then it goes on as it is consumed. */
static void
test_hold(void **state)
{
	static char body[300000];
	struct chunk *chunks[600];
	struct world w;

	(void)state;
	memset(body, 'b', sizeof(body));
	for (int busy = 0; busy < 2; busy++) {
		size_t most = 0;

		world_open(&w);
		for (unsigned i = 0; busy && i < 600; i++)
			chunks[i] = chunk_new(w.turn->chunks, CHUNK_LARGE);
		w.hold_credit = true;
		get(&w);
		stream_hold(w.stream, STREAM_HELD);
		memory_feed_text(w.mt, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
		memory_feed(w.mt, body, sizeof(body));
		pump(&w);
		assert_in_range(w.owed, 2048, busy ? CHUNK_SMALL : CHUNK_LARGE);
		while (w.stream != NULL) {
			size_t n = w.owed < 1000 ? w.owed : 1000;

			assert_true(n > 0);
			w.owed -= n;
			stream_consumed(w.stream, n);
			pump(&w);
			most = w.owed > most ? w.owed : most;
		}
		assert_in_range(most, STREAM_HELD, STREAM_HELD + CHUNK_LARGE);
		for (unsigned i = 0; busy && i < 600; i++)
			chunk_unref(chunks[i]);
		world_close(&w);
	}
}

static void
test_request_drained(void **state)
{
	struct head head = request(METHOD_POST, "POST", HEAD_LENGTH_NONE);
	struct world w;
	char body[1000];

	(void)state;
	memset(body, 'b', sizeof(body));
	world_open(&w);
	ask(&w, &head, false);
	memory_set_room(w.mt, 0);
	for (int i = 0; i < 50; i++)
		stream_send_body(w.stream, slice_borrowed(body, sizeof(body)), i == 49);
	pump(&w);
	assert_int_equal(w.drained, 0);
	for (int i = 0; i < 100 && w.drained < 50000; i++) {
		memory_set_room(w.mt, 1777);
		pump(&w);
	}
	assert_int_equal(w.drained, 50000);
	world_close(&w);
}

/* --- WebSocket --------------------------------------------------------------------------------- */

static void
ask_websocket(struct world *w, char answer[256], const char *accept)
{
	struct head head = request(METHOD_GET, "GET", HEAD_LENGTH_NONE);
	char computed[WEBSOCKET_ACCEPT + 1];
	const char *key;

	head.websocket = true;
	fields_add(&head.fields, &w->arena, F_OTHER, TEXT("sec-websocket-version"), TEXT("13"));
	ask(w, &head, false);
	key = strstr(w->mt->written, "sec-websocket-key: ");
	assert_non_null(key);
	key += strlen("sec-websocket-key: ");
	assert_true(websocket_key_valid(key, WEBSOCKET_KEY));
	assert_non_null(
	    strstr(w->mt->written, "\r\nconnection: upgrade\r\nupgrade: websocket\r\n"));
	assert_null(strstr(w->mt->written, "transfer-encoding"));
	websocket_accept(key, WEBSOCKET_KEY, computed);
	free(memory_take(w->mt, NULL));
	snprintf(answer, 256,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: %s\r\n\r\n",
	    accept != NULL ? accept : computed);
}

static void
test_websocket(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world w;
		char answer[256];

		world_open(&w);
		ask_websocket(&w, answer, NULL);
		memory_set_read_max(w.mt, i == 0 ? SIZE_MAX : 1);
		memory_feed_text(w.mt, answer);
		feed(&w, "hello");
		assert_string_equal(recorded(&w.log), "101\nbody hello\n");
		give(&w, "0123", false);
		pump(&w);
		assert_string_equal(w.mt->written, "0123");
		assert_int_equal(w.drained, 4);
		give(&w, "", true);
		pump(&w);
		assert_true(w.mt->shut && !w.mt->closed);
		memory_feed_text(w.mt, "bye");
		memory_feed_eof(w.mt);
		pump(&w);
		assert_string_equal(
		    recorded(&w.log), "101\nbody hello\nbody bye\nend\nclosed ok\n");
		assert_true(w.mt->closed);
		assert_int_equal(w.n_available, 0);
		world_close(&w);
	}
}

static void
test_websocket_refused(void **state)
{
	struct world w;
	char answer[256];

	(void)state;
	/* another key's answer */
	world_open(&w);
	ask_websocket(&w, answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	feed(&w, answer);
	assert_string_equal(recorded(&w.log), "closed backend-malformed\n");
	world_close(&w);
	/* an ordinary answer: delivered, the connection is not used again (34) */
	world_open(&w);
	ask_websocket(&w, answer, NULL);
	feed(&w, ANSWER);
	assert_string_equal(recorded(&w.log), "200 length=1\nbody a\nend\nclosed ok\n");
	assert_int_equal(w.n_available, 0);
	assert_true(w.mt->closed);
	world_close(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request_heads),
	    cmocka_unit_test(test_one_write),
	    cmocka_unit_test(test_request_trailers),
	    cmocka_unit_test(test_bad_tokens),
	    cmocka_unit_test(test_request_length),
	    cmocka_unit_test(test_responses),
	    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_bad_chunks),
	    cmocka_unit_test(test_too_large),
	    cmocka_unit_test(test_interim),
	    cmocka_unit_test(test_reuse),
	    cmocka_unit_test(test_idle),
	    cmocka_unit_test(test_poisoned),
	    cmocka_unit_test(test_stale),
	    cmocka_unit_test(test_broken),
	    cmocka_unit_test(test_connect_failed),
	    cmocka_unit_test(test_retire),
	    cmocka_unit_test(test_early_answer),
	    cmocka_unit_test(test_reset_at_end),
	    cmocka_unit_test(test_reset_midway),
	    cmocka_unit_test(test_response_credit),
	    cmocka_unit_test(test_hold),
	    cmocka_unit_test(test_request_drained),
	    cmocka_unit_test(test_websocket),
	    cmocka_unit_test(test_websocket_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
