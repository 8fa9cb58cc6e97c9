/*
 * The backend's side of HTTP/2: requests, responses, how streams and connections end, what a broken or hostile
 * backend may do.  Every flow runs twice: as it comes, and one byte per read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/base/obj.h"
#include "proxy/codec/back_conn.h"
#include "proxy/codec/h2.h"
#include "tests/codec/h2_peer.h"

#define EARS 64

static size_t read_max = SIZE_MAX; /* of this pass */

struct rig {
	struct turn *turn;
	struct memory_transport *mt;
	struct back_conn *back; /* NULL once freed */
	struct h2_peer *peer;
	struct raw raw;
	struct ear ears[EARS];
	unsigned n_ears, n_connected, n_available, n_retired, n_gone;
	bool hold_credit;
};
static struct rig *rig;

static void
on_connected(struct back_conn *b)
{
	assert_ptr_equal(b, rig->back);
	rig->n_connected++;
}
static void
on_available(struct back_conn *b)
{
	assert_true(back_slots(b) > 0);
	rig->n_available++;
}
static void
on_retired(struct back_conn *b)
{
	assert_int_equal(back_slots(b), 0);
	rig->n_retired++;
}
static void
on_gone(struct back_conn *b)
{
	(void)b;
	rig->n_gone++;
}
static const struct back_owner owner = {on_connected, on_available, on_retired, on_gone};

static void
free_back(struct conn *c)
{
	assert_ptr_equal(c, &rig->back->conn);
	free(rig->back);
	rig->back = NULL;
}

static void
start(bool connects)
{
	rig = calloc(1, sizeof(*rig));
	assert_non_null(rig);
	rig->turn = test_turn_new();
	rig->mt = memory_transport_new();
	rig->mt->connects = connects;
	memory_set_read_max(rig->mt, read_max);
	rig->back = calloc(1, sizeof(*rig->back));
	back_init(rig->back, rig->turn, &rig->mt->transport, BACK_H2, &owner, free_back);
	rig->back->max_streams = 20;
	rig->back->header_bytes = 60 * 1024;
	rig->back->header_count = 100;
	back_h2_begin(rig->back);
}

static void
start_peer_with(const nghttp2_settings_entry *settings, size_t n, bool keep_window)
{
	start(true);
	rig->peer = peer_new(rig->turn, rig->mt, true, settings, n, keep_window);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_connected, 1);
}

static void
start_peer(void)
{
	start_peer_with(NULL, 0, false);
}

static void
start_raw(void)
{
	start(true);
	raw_begin(&rig->raw, false);
}

static void
finish(void)
{
	if (rig->back != NULL && !rig->back->conn.dead)
		memory_break(rig->mt);
	memory_pump_one(rig->turn, rig->mt);
	if (rig->back != NULL) {
		conn_close(&rig->back->conn, true);
		turn_end(rig->turn);
	}
	assert_null(rig->back);
	assert_int_equal(rig->n_gone, 1);
	assert_in_range(rig->n_retired, 0, 1);
	for (unsigned i = 0; i < rig->n_ears; i++) {
		assert_null(rig->ears[i].stream); /* closed or reset */
		ear_free(&rig->ears[i]);
	}
	if (rig->peer != NULL)
		peer_free(rig->peer);
	raw_end(&rig->raw);
	memory_transport_free(rig->mt);
	test_turn_free(rig->turn);
	free(rig);
	rig = NULL;
	h2_stream_fini_thread();
	h2_mem_fini();
}

static struct head
request_head(const char *method, const char *path)
{
	return (struct head){.method = method_lookup(method, strlen(method)),
	    .method_text = {method, strlen(method)},
	    .scheme = TEXT("https"),
	    .authority = TEXT("a.test"),
	    .path = {path, strlen(path)},
	    .content_length = HEAD_LENGTH_NONE};
}

static struct ear *
open_stream(void)
{
	struct ear *e = &rig->ears[rig->n_ears++];

	e->hold_credit = rig->hold_credit;
	ear_listen(e, back_open(rig->back));
	return e;
}

/* Opens a stream and sends a request on it. */
static struct ear *
ask(const char *method, bool end)
{
	struct ear *e = open_stream();
	struct head h = request_head(method, "/path?q=1");

	h.no_body = end;
	stream_send_head(e->stream, &h, end);
	return e;
}

static struct peer_stream *
asked(int32_t id)
{
	return peer_stream(rig->peer, id);
}

#define assert_has(text, part)   assert_non_null(strstr((text), (part)))
#define assert_lacks(text, part) assert_null(strstr((text), (part)))
#define OK                       NV(":status", "200")

/* --- what works ---------------------------------------------------------------------------------- */

static void
test_get(void **state)
{
	const nghttp2_nv ok[] = {OK, NV("content-length", "5"), NV("x-b", "c"), NV("x_under", "1")};
	struct field f[] = {{TEXT("x-a"), TEXT("b"), F_OTHER},
	    {TEXT("connection"), TEXT("x"), F_CONNECTION}, {TEXT("expect"), TEXT("x"), F_EXPECT}};
	struct head h = request_head("GET", "/path?q=1");
	struct ear *e;

	(void)state;
	start_peer();
	e = open_stream();
	h.fields = (struct fields){.items = f, .n = 3};
	stream_send_head(e->stream, &h, true);
	assert_int_equal(rig->back->n_streams, 1);
	peer_pump(rig->peer);
	assert_string_equal(asked(1)->head.p, ":method: GET\n:scheme: https\n:authority: "
					      "a.test\n:path: /path?q=1\nx-a: b\nte: trailers\n");
	assert_true(asked(1)->end);
	peer_respond(rig->peer, 1, ok, COUNT(ok), "hello", false);
	peer_pump(rig->peer);
	assert_int_equal(e->copy.status, 200);
	assert_int_equal(e->copy.content_length, 5);
	assert_string_equal(e->head.p, "x-b: c\n");
	assert_string_equal(e->body.p, "hello");
	assert_true(e->ended);
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, OUTCOME_OK);
	assert_int_equal(rig->back->n_streams, 0);
	assert_true(rig->n_available > 0);
	assert_int_equal(rig->back->served, 1);
	finish();
}

/* What is sent before the connect waits for it. */
static void
test_before_connect(void **state)
{
	const nghttp2_nv ok[] = {OK};
	struct ear *e;

	(void)state;
	start(true);
	assert_int_equal(back_slots(rig->back), 20);
	e = ask("GET", true);
	assert_int_equal(back_slots(rig->back), 19);
	rig->peer = peer_new(rig->turn, rig->mt, true, NULL, 0, false);
	peer_pump(rig->peer);
	peer_respond(rig->peer, 1, ok, 1, NULL, false);
	peer_pump(rig->peer);
	assert_true(e->head_end);
	assert_int_equal(e->outcome, OUTCOME_OK);
	assert_int_equal(e->closed, 1);
	finish();
}

static void
test_connect_fails(void **state)
{
	struct ear *e;

	(void)state;
	start(false);
	e = ask("GET", true);
	open_stream();
	conn_lost(&rig->back->conn, OUTCOME_CONNECT_REFUSED);
	turn_end(rig->turn);
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, OUTCOME_CONNECT_REFUSED);
	assert_int_equal(rig->ears[1].outcome, OUTCOME_CONNECT_REFUSED);
	assert_int_equal(rig->n_connected, 0);
	finish();
}

static void
test_upload_and_trailers(void **state)
{
	const nghttp2_nv ok[] = {OK};
	const nghttp2_nv end[] = {NV("grpc-status", "0"), NV("set-cookie", "x")};
	struct field out = {TEXT("x-sum"), TEXT("9"), F_OTHER};
	struct fields trailers = {.items = &out, .n = 1};
	struct head h = request_head("POST", "/up");
	struct ear *e;

	(void)state;
	start_peer();
	e = open_stream();
	h.content_length = 6;
	h.expect_continue = true;
	stream_send_head(e->stream, &h, false);
	peer_pump(rig->peer);
	assert_has(asked(1)->head.p, "content-length: 6\nexpect: 100-continue\n");
	ear_body(e, "abcdef", false);
	peer_pump(rig->peer);
	assert_string_equal(asked(1)->body.p, "abcdef");
	assert_int_equal(e->drained, 6);
	assert_false(asked(1)->end);
	stream_send_trailers(e->stream, &trailers);
	peer_pump(rig->peer);
	assert_true(asked(1)->end);
	assert_string_equal(asked(1)->trailers.p, "x-sum: 9\n");
	asked(1)->end_trailers = end;
	asked(1)->n_end_trailers = COUNT(end);
	peer_respond(rig->peer, 1, ok, 1, "data", false);
	peer_pump(rig->peer);
	assert_string_equal(e->body.p, "data");
	assert_string_equal(e->trailers.p, "grpc-status: 0\n");
	assert_int_equal(e->outcome, OUTCOME_OK);
	assert_int_equal(e->closed, 1);
	finish();
}

static void
test_bodyless(void **state)
{
	static const char *const methods[] = {"HEAD", "GET", "GET"};
	static const char *const statuses[] = {"200", "204", "304"};

	(void)state;
	start_peer();
	for (unsigned i = 0; i < 3; i++) {
		nghttp2_nv nv[] = {OK, NV("content-length", "1000"), NV("etag", "x")};
		struct ear *e = ask(methods[i], true);

		nv[0].value = (uint8_t *)(uintptr_t)statuses[i];
		peer_pump(rig->peer);
		if (i == 1)
			nv[1] = nv[2]; /* 204 has none */
		peer_respond(rig->peer, (int32_t)(2 * i + 1), nv, 2, i == 1 ? NULL : "", false);
		peer_pump(rig->peer);
		assert_true(e->head_end);
		assert_int_equal(e->copy.content_length, i == 1 ? HEAD_LENGTH_NONE : 1000);
		assert_int_equal(e->outcome, OUTCOME_OK);
		assert_int_equal(e->closed, 1);
	}
	finish();
}

#define BIG ((size_t)700000)

/* The backend may send a window's worth that nobody consumes, and goes on with credit: the more moves, the more. */
static void
test_back_pressure(void **state)
{
	size_t most = 0;
	const nghttp2_nv ok[] = {OK};
	char *big = malloc(BIG + 1);
	struct ear *e;

	(void)state;
	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)('a' + (i * 7 + i / 251) % 26);
	big[BIG] = '\0';
	start_peer();
	rig->hold_credit = true;
	e = ask("GET", true);
	peer_pump(rig->peer);
	peer_respond(rig->peer, 1, ok, 1, big, false);
	peer_pump(rig->peer);
	assert_in_range(e->body.n, 1, (size_t)H2_FIRST_WINDOW);
	while (!e->ended) {
		size_t n = e->unconsumed;

		assert_in_range(n, 1, (size_t)H2_STREAM_WINDOW);
		most = n > most ? n : most;
		e->unconsumed = 0;
		if (e->stream == NULL)
			break;
		stream_consumed(e->stream, n);
		peer_pump(rig->peer);
	}
	assert_in_range(most, STREAM_CREDIT, (size_t)H2_STREAM_WINDOW);
	assert_int_equal(e->body.n, BIG);
	assert_memory_equal(e->body.p, big, BIG);
	assert_int_equal(e->outcome, OUTCOME_OK);
	free(big);
	finish();
}

/* hold(): what was allowed comes, then little; the stream goes on all the same, and may be let go again. */
static void
test_hold(void **state)
{
	const nghttp2_nv ok[] = {OK};
	char *big = malloc(2 * BIG + 1);
	size_t since = 0, most = 0;
	struct ear *e;

	(void)state;
	memset(big, 'h', 2 * BIG);
	big[2 * BIG] = '\0';
	start_peer();
	rig->hold_credit = true;
	e = ask("GET", true);
	peer_pump(rig->peer);
	peer_respond(rig->peer, 1, ok, 1, big, false);
	peer_pump(rig->peer);
	while (e->body.n < BIG) {
		stream_consumed(e->stream, e->unconsumed);
		e->unconsumed = 0;
		peer_pump(rig->peer);
	}
	assert_true(e->unconsumed > STREAM_CREDIT);
	stream_hold(e->stream, STREAM_HELD);
	while (!e->ended) {
		size_t n = e->unconsumed < 1000 ? e->unconsumed : 1000;

		assert_true(n > 0);
		if (since > (size_t)H2_STREAM_WINDOW && since < BIG / 2)
			assert_in_range(e->unconsumed, 1, (size_t)H2_FIRST_WINDOW);
		e->unconsumed -= n;
		since += n;
		stream_consumed(e->stream, n);
		peer_pump(rig->peer);
		if (since - n < BIG / 2 && since >= BIG / 2)
			stream_hold(e->stream, 50000);
		most = since > BIG / 2 && e->unconsumed > most ? e->unconsumed : most;
	}
	assert_in_range(most, 25000, 50000);
	assert_int_equal(e->body.n, 2 * BIG);
	assert_int_equal(e->outcome, OUTCOME_OK);
	free(big);
	finish();
}

/* Bytes that come before our SETTINGS are acknowledged: nghttp2 thinks of the window as larger than it is. */
static void
test_window_before_settings_ack(void **state)
{
	const nghttp2_nv ok[] = {OK};
	char data[4096] = {0};
	struct seen_frames seen;
	struct ear *e;

	(void)state;
	start_raw();
	raw_send(&rig->raw, rig->turn, rig->mt);
	rig->hold_credit = true;
	e = ask("GET", true);
	memory_pump_one(rig->turn, rig->mt);
	(void)raw_seen(rig->mt);
	raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS, 1, ok, 1);
	for (int i = 0; i < 3; i++)
		raw_frame(&rig->raw, NGHTTP2_DATA, 0, 1, data, sizeof(data));
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(e->unconsumed, H2_FIRST_WINDOW);
	stream_consumed(e->stream, e->unconsumed);
	e->unconsumed = 0;
	memory_pump_one(rig->turn, rig->mt);
	assert_int_equal(raw_seen(rig->mt).n[NGHTTP2_WINDOW_UPDATE], 0);
	raw_frame(&rig->raw, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
	raw_send(&rig->raw, rig->turn, rig->mt);
	seen = raw_seen(rig->mt);
	assert_int_equal(seen.n[NGHTTP2_WINDOW_UPDATE], 1);
	ear_reset(e, OUTCOME_OK);
	finish();
}

/* A backend with a shut window holds the upload: nothing is drained, nothing lost. */
static void
test_upload_waits(void **state)
{
	const nghttp2_settings_entry small[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 10}};
	struct ear *e;

	(void)state;
	start_peer_with(small, 1, true);
	e = ask("POST", false);
	ear_body(e, "0123456789abcdef", true);
	peer_pump(rig->peer);
	assert_string_equal(asked(1)->body.p, "0123456789");
	assert_int_equal(e->drained, 10);
	nghttp2_submit_window_update(rig->peer->session, 0, 1, 100);
	peer_pump(rig->peer);
	assert_string_equal(asked(1)->body.p, "0123456789abcdef");
	assert_true(asked(1)->end);
	ear_reset(e, OUTCOME_CLIENT_GONE);
	peer_pump(rig->peer);
	assert_int_equal(asked(1)->code, NGHTTP2_CANCEL);
	assert_int_equal(rig->back->n_streams, 0);
	finish();
}

static void
test_interim(void **state)
{
	const nghttp2_nv early[] = {NV(":status", "103"), NV("link", "x")},
			 go_on[] = {NV(":status", "100")}, ok[] = {OK};
	struct head h = request_head("POST", "/");

	(void)state;
	start_peer();
	for (unsigned i = 0; i < 2; i++) {
		struct ear *e = open_stream();
		int32_t id = (int32_t)(2 * i + 1);

		h.expect_continue = i == 1;
		stream_send_head(e->stream, &h, false);
		ear_body(e, "x", true);
		peer_pump(rig->peer);
		nghttp2_submit_headers(rig->peer->session, 0, id, NULL, go_on, 1, NULL);
		for (int k = 0; k < 12; k++)
			nghttp2_submit_headers(rig->peer->session, 0, id, NULL, early, 2, NULL);
		peer_respond(rig->peer, id, ok, 1, NULL, false);
		peer_pump(rig->peer);
		/* 100 only when asked for, ten others at most */
		assert_string_equal(
		    e->interim.p, i == 0 ? "103 103 103 103 103 103 103 103 103 103 "
					 : "100 103 103 103 103 103 103 103 103 103 103 ");
		assert_int_equal(e->copy.status, 200);
		assert_int_equal(e->outcome, OUTCOME_OK);
	}
	struct ear *e = ask("GET", true); /* without end */

	peer_pump(rig->peer);
	for (int k = 0; k < 101; k++)
		nghttp2_submit_headers(rig->peer->session, 0, 5, NULL, early, 2, NULL);
	peer_pump(rig->peer);
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, OUTCOME_BACK_MALFORMED);
	finish();
}

static struct ear *
ask_websocket(void)
{
	struct ear *e = open_stream();
	struct head h = request_head("GET", "/ws");
	struct field f[] = {{TEXT("sec-websocket-version"), TEXT("13"), F_OTHER}};

	h.websocket = true;
	h.fields = (struct fields){.items = f, .n = 1};
	stream_send_head(e->stream, &h, false);
	return e;
}

static void
test_websocket(void **state)
{
	const nghttp2_settings_entry allow[] = {{NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}};
	const nghttp2_nv ok[] = {OK}, no[] = {NV(":status", "403")};
	struct ear *e, *refused;

	(void)state;
	start(true);
	e = ask_websocket(); /* before the SETTINGS: waits */
	refused = ask_websocket();
	ear_reset(ask_websocket(), OUTCOME_CLIENT_GONE);
	rig->peer = peer_new(rig->turn, rig->mt, true, allow, 1, false);
	peer_pump(rig->peer);
	assert_int_equal(rig->back->n_streams, 2);

	int32_t id = 1, other = 3;

	assert_has(asked(id)->head.p, ":method: CONNECT\n");
	assert_has(asked(id)->head.p, ":protocol: websocket\n");
	assert_has(asked(id)->head.p, ":path: /ws\n");
	assert_has(asked(id)->head.p, "sec-websocket-version: 13\n");
	peer_respond(
	    rig->peer, other, ok, 1, "hi", true); /* ids follow the list, not the opening */
	peer_respond(rig->peer, id, no, 1, "forbidden", false);
	peer_pump(rig->peer);
	if (e->copy.status == 403) {
		struct ear *t = e;

		e = refused;
		refused = t;
	}
	assert_int_equal(e->copy.status, 101);
	assert_false(e->head_end);
	assert_string_equal(e->body.p, "hi");
	ear_body(e, "raw", true);
	peer_more(rig->peer, other, " there", 6, true);
	peer_pump(rig->peer);
	assert_string_equal(asked(other)->body.p, "raw");
	assert_string_equal(e->body.p, "hi there");
	assert_int_equal(e->outcome, OUTCOME_OK);
	assert_int_equal(e->closed, 1);
	assert_int_equal(refused->copy.status, 403);
	assert_string_equal(refused->body.p, "forbidden");
	assert_int_equal(refused->outcome, OUTCOME_OK);
	assert_true(asked(id)->end); /* our side was ended too */
	finish();

	start_peer(); /* a backend that cannot */
	e = ask_websocket();
	assert_int_equal(e->closed, 0);
	peer_pump(rig->peer);
	assert_int_equal(e->outcome, OUTCOME_NOT_IMPLEMENTED);
	assert_int_equal(e->closed, 1);
	assert_int_equal(rig->back->n_streams, 0);
	finish();
}

static void
test_slots(void **state)
{
	const nghttp2_settings_entry two[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2}};
	const nghttp2_settings_entry many[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000}};
	unsigned before;

	(void)state;
	start_peer_with(two, 1, false);
	assert_int_equal(back_slots(rig->back), 2);
	ask("GET", true);
	ask("GET", true);
	peer_pump(rig->peer);
	assert_int_equal(back_slots(rig->back), 0);
	before = rig->n_available;
	ear_reset(&rig->ears[0], OUTCOME_CLIENT_GONE);
	peer_pump(rig->peer);
	assert_int_equal(back_slots(rig->back), 1);
	assert_int_equal(rig->n_available, before + 1);
	nghttp2_submit_settings(rig->peer->session, 0, many, 1);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_available, before + 2);
	assert_int_equal(back_slots(rig->back), 19);
	ear_reset(&rig->ears[1], OUTCOME_CLIENT_GONE);
	finish();
}

/* A stream that is given back before it was used. */
static void
test_reset_unsent(void **state)
{
	(void)state;
	start_peer();
	ear_reset((open_stream()), OUTCOME_CLIENT_GONE);
	peer_pump(rig->peer);
	assert_int_equal(rig->back->n_streams, 0);
	assert_int_equal(back_slots(rig->back), 20);
	assert_int_equal(rig->peer->n_resets, 0);
	finish();
}

/* --- ends ------------------------------------------------------------------------------------------ */

static void
test_peer_resets(void **state)
{
	static const struct {
		bool head, end;
		uint32_t code;
		enum outcome outcome;
	} rows[] = {{false, false, NGHTTP2_REFUSED_STREAM, OUTCOME_BACK_REFUSED},
	    {false, false, NGHTTP2_INTERNAL_ERROR, OUTCOME_BACK_RESET},
	    {false, false, NGHTTP2_NO_ERROR, OUTCOME_BACK_RESET},
	    {true, false, NGHTTP2_INTERNAL_ERROR, OUTCOME_BACK_TRUNCATED},
	    {true, false, NGHTTP2_NO_ERROR, OUTCOME_BACK_TRUNCATED},
	    {true, false, NGHTTP2_REFUSED_STREAM, OUTCOME_BACK_TRUNCATED},
	    {true, true, NGHTTP2_NO_ERROR, OUTCOME_OK}}; /* stop sending, the answer is complete */
	const nghttp2_nv ok[] = {OK};

	(void)state;
	start_peer();
	for (unsigned i = 0; i < COUNT(rows); i++) {
		struct ear *e = ask("POST", false);
		int32_t id = (int32_t)(2 * i + 1);

		ear_body(e, "part", false);
		peer_pump(rig->peer);
		if (rows[i].head)
			peer_respond(rig->peer, id, ok, 1, "body", !rows[i].end);
		peer_pump(rig->peer);
		assert_int_equal(e->closed, 0);
		nghttp2_submit_rst_stream(rig->peer->session, 0, id, rows[i].code);
		peer_pump(rig->peer);
		assert_int_equal(e->closed, 1);
		assert_int_equal(e->outcome, rows[i].outcome);
		assert_int_equal(e->ended, rows[i].end);
	}
	assert_int_equal(rig->back->n_streams, 0);
	assert_int_equal(rig->n_retired, 0);
	finish();
}

static void
test_goaway(void **state)
{
	const nghttp2_nv ok[] = {OK};

	(void)state;
	start_peer();
	ask("GET", true);
	ask("GET", true);
	open_stream(); /* nothing sent yet */
	peer_pump(rig->peer);
	nghttp2_submit_goaway(rig->peer->session, 0, 1, NGHTTP2_NO_ERROR, NULL, 0);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_retired, 1);
	assert_int_equal(back_slots(rig->back), 0);
	assert_int_equal(rig->ears[0].closed, 0);
	assert_int_equal(rig->ears[1].closed, 1);
	assert_int_equal(rig->ears[1].outcome, OUTCOME_BACK_GOAWAY);
	peer_respond(rig->peer, 1, ok, 1, "last", false);
	peer_pump(rig->peer);
	assert_string_equal(rig->ears[0].body.p, "last");
	assert_int_equal(rig->ears[0].outcome, OUTCOME_OK);
	assert_int_equal(rig->ears[2].outcome, OUTCOME_BACK_GOAWAY);
	assert_null(rig->back); /* closed with its last stream */
	finish();
}

static void
test_retire(void **state)
{
	const nghttp2_nv ok[] = {OK};

	(void)state;
	start_peer();
	ask("GET", true);
	peer_pump(rig->peer);
	back_retire(rig->back);
	back_retire(rig->back);
	assert_int_equal(rig->n_retired, 1);
	peer_respond(rig->peer, 1, ok, 1, "last", false);
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_OK);
	assert_null(rig->back);
	finish();

	start_peer(); /* idle: at once, with a GOAWAY */
	back_retire(rig->back);
	turn_end(rig->turn);
	assert_int_equal(raw_seen(rig->mt).goaways, 1);
	assert_null(rig->back);
	finish();
}

/* The connection breaks: before a byte, before the head, after it. */
static void
test_connection_lost(void **state)
{
	const nghttp2_nv ok[] = {OK};

	(void)state;
	for (int eof = 0; eof < 2; eof++) {
		start_peer();
		ask("GET", true);
		peer_pump(rig->peer);
		peer_respond(rig->peer, 1, ok, 1, "part", true);
		peer_pump(rig->peer);
		ask("GET", true);
		peer_pump(rig->peer);
		if (eof)
			memory_feed_eof(rig->mt);
		else
			memory_break(rig->mt);
		memory_pump_one(rig->turn, rig->mt);
		assert_int_equal(rig->ears[0].outcome, OUTCOME_BACK_TRUNCATED);
		assert_int_equal(rig->ears[0].closed, 1);
		assert_int_equal(rig->ears[1].closed, 1);
		/* it was idle since: the backend had closed it (the ACKs of our SETTINGS came before) */
		assert_int_equal(rig->ears[1].outcome, OUTCOME_BACK_STALE);
		assert_int_equal(rig->n_retired, 1);
		finish();

		start_peer(); /* a new connection is not stale */
		ask("GET", true);
		peer_pump(rig->peer);
		if (eof)
			memory_feed_eof(rig->mt);
		else
			memory_break(rig->mt);
		memory_pump_one(rig->turn, rig->mt);
		assert_int_equal(rig->ears[0].outcome, OUTCOME_BACK_RESET);
		finish();
	}
}

static void
test_closed_by_owner(void **state)
{
	(void)state;
	start_peer();
	ask("GET", true);
	peer_pump(rig->peer);
	conn_close(&rig->back->conn, true);
	turn_end(rig->turn);
	assert_int_equal(rig->ears[0].closed, 1);
	finish();
}

/* A request that may not be sent never is (attack 49), and closed() does not come inside the verb. */
static void
test_bad_requests(void **state)
{
	struct field bad[] = {{TEXT("x-a"), TEXT("b\r\nc: d"), F_OTHER},
	    {TEXT("x\na"), TEXT("b"), F_OTHER}, {TEXT("cookie"), TEXT("a\0b"), F_COOKIE}};

	(void)state;
	start_peer();
	for (unsigned i = 0; i < 7; i++) {
		struct head h = request_head("GET", "/");
		struct ear *e = open_stream();

		if (i < 3)
			h.fields = (struct fields){.items = &bad[i], .n = 1};
		if (i == 3)
			h.path = TEXT("/ x");
		if (i == 4)
			h.method_text = TEXT("GET /x HTTP/1.1\r\n");
		if (i == 5)
			h.authority = TEXT("a/b");
		if (i == 6)
			h.scheme = TEXT("http://");
		stream_send_head(e->stream, &h, true);
		assert_int_equal(e->closed, 0);
		peer_pump(rig->peer);
		assert_int_equal(e->closed, 1);
		assert_int_equal(e->outcome, OUTCOME_INTERNAL);
	}
	assert_int_equal(rig->peer->n_streams, 0);
	assert_int_equal(rig->back->n_streams, 0);
	finish();
}

/* --- broken backends -------------------------------------------------------------------------------- */

/* One response, hand-made: what becomes of the exchange. */
static void
answered(const nghttp2_nv *nv, size_t n, uint8_t flags, const char *body, enum outcome outcome)
{
	struct ear *e;

	start_raw();
	raw_send(&rig->raw, rig->turn, rig->mt);
	e = ask("GET", true);
	raw_headers(&rig->raw, (uint8_t)(NGHTTP2_FLAG_END_HEADERS | flags), 1, nv, n);
	if (body != NULL)
		raw_frame(&rig->raw, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, body, strlen(body));
	memory_pump_one(rig->turn, rig->mt);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, outcome);
	finish();
}

#define ANSWERED(outcome, flags, body, ...)                                                        \
	do {                                                                                       \
		const nghttp2_nv nv_[] = {__VA_ARGS__};                                            \
		answered(nv_, COUNT(nv_), flags, body, OUTCOME_##outcome);                         \
	} while (0)

static void
test_malformed_responses(void **state)
{
	const uint8_t end = NGHTTP2_FLAG_END_STREAM;

	(void)state;
	ANSWERED(OK, end, NULL, OK);
	ANSWERED(BACK_MALFORMED, 0, NULL, NV(":status", "101"));
	ANSWERED(BACK_MALFORMED, 0, NULL, NV(":status", "099"));
	ANSWERED(BACK_MALFORMED, 0, NULL, NV(":status", "600"));
	ANSWERED(BACK_MALFORMED, 0, NULL, NV(":status", "20"));
	ANSWERED(BACK_MALFORMED, 0, NULL, NV(":status", "2x0"));
	ANSWERED(BACK_MALFORMED, end, NULL, NV("x-a", "no status"));
	ANSWERED(BACK_MALFORMED, end, NULL, OK, OK);
	ANSWERED(BACK_MALFORMED, end, NULL, OK, NV(":path", "/"));
	ANSWERED(BACK_MALFORMED, end, NULL, NV(":status", "103"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("connection", "close"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("transfer-encoding", "chunked"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("x-a", "b\nc"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("x-a", " b"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("X-a", "b"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("x a", "b"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("content-length", "1"), NV("content-length", "1"));
	ANSWERED(BACK_MALFORMED, 0, NULL, OK, NV("content-length", "+1"));
	ANSWERED(BACK_MALFORMED, end, NULL, OK, NV("content-length", "4"));
	ANSWERED(BACK_TRUNCATED, 0, "abc", OK, NV("content-length", "4"));
	ANSWERED(BACK_TRUNCATED, 0, "abcde", OK, NV("content-length", "4"));
	ANSWERED(OK, 0, "abcd", OK, NV("content-length", "4"));
}

static void
test_header_too_large(void **state)
{
	nghttp2_nv nv[102] = {OK};

	(void)state;
	for (unsigned i = 1; i < COUNT(nv); i++)
		nv[i] = (nghttp2_nv)NV("set-cookie", "a");
	answered(nv, 100, NGHTTP2_FLAG_END_STREAM, NULL, OUTCOME_OK);
	answered(nv, 101, 0, NULL, OUTCOME_BACK_TOO_LARGE);
}

static void
test_push_is_refused(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	uint8_t payload[1024] = {0, 0, 0, 2};
	size_t n;
	struct ear *e;

	(void)state;
	start_raw();
	raw_send(&rig->raw, rig->turn, rig->mt);
	e = ask("GET", true);
	memory_pump_one(rig->turn, rig->mt);
	n = raw_block(&rig->raw, get, COUNT(get), payload + 4, sizeof(payload) - 4);
	raw_frame(&rig->raw, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, payload, n + 4);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(raw_seen(rig->mt).goaway_code, NGHTTP2_PROTOCOL_ERROR);
	assert_int_equal(e->outcome, OUTCOME_BACK_MALFORMED);
	assert_int_equal(e->closed, 1);
	assert_int_equal(rig->n_retired, 1);
	finish();
}

static void
test_not_h2(void **state)
{
	struct ear *e;

	(void)state;
	start(true);
	e = ask("GET", true);
	memory_feed_text(rig->mt, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
	memory_pump_one(rig->turn, rig->mt);
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, OUTCOME_BACK_MALFORMED);
	finish();
}

static void
test_flood(void **state)
{
	struct ear *e;

	(void)state;
	start_raw();
	raw_send(&rig->raw, rig->turn, rig->mt);
	e = ask("GET", true);
	for (int i = 0; i < 1100 && e->closed == 0; i++) {
		raw_frame(&rig->raw, NGHTTP2_PING, 0, 0, "12345678", 8);
		raw_send(&rig->raw, rig->turn, rig->mt);
	}
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, OUTCOME_BACK_MALFORMED);
	assert_int_equal(raw_seen(rig->mt).goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	finish();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_get),
	    cmocka_unit_test(test_before_connect),
	    cmocka_unit_test(test_connect_fails),
	    cmocka_unit_test(test_upload_and_trailers),
	    cmocka_unit_test(test_bodyless),
	    cmocka_unit_test(test_back_pressure),
	    cmocka_unit_test(test_hold),
	    cmocka_unit_test(test_window_before_settings_ack),
	    cmocka_unit_test(test_upload_waits),
	    cmocka_unit_test(test_interim),
	    cmocka_unit_test(test_websocket),
	    cmocka_unit_test(test_slots),
	    cmocka_unit_test(test_reset_unsent),
	    cmocka_unit_test(test_peer_resets),
	    cmocka_unit_test(test_goaway),
	    cmocka_unit_test(test_retire),
	    cmocka_unit_test(test_connection_lost),
	    cmocka_unit_test(test_closed_by_owner),
	    cmocka_unit_test(test_bad_requests),
	    cmocka_unit_test(test_malformed_responses),
	    cmocka_unit_test(test_header_too_large),
	    cmocka_unit_test(test_push_is_refused),
	    cmocka_unit_test(test_not_h2),
	    cmocka_unit_test(test_flood),
	};
	int failed = cmocka_run_group_tests_name("back_h2", tests, NULL, NULL);

	read_max = 1;
	return failed + cmocka_run_group_tests_name("back_h2, a byte at a time", tests, NULL, NULL);
}
