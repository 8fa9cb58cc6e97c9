/*
 * The client's side of HTTP/2: requests, responses, refusals, budgets, timeouts, drain.  Every flow runs twice: as
 * it comes, and one byte per read.
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
#include "proxy/codec/front.h"
#include "proxy/codec/h2.h"
#include "tests/codec/h2_peer.h"

#define EARS 1200

static size_t read_max = SIZE_MAX; /* of this pass */

static const struct front_timeouts timeouts = {.header_ms = 10000,
    .send_ms = 30000,
    .idle_ms = 60000,
    .tls_handshake_ms = 10000,
    .drain_ms = 30000};

/* A front connection, its peer, and an ear per request. */
struct rig {
	struct front_limits limits;
	struct turn *turn;
	struct memory_transport *mt;
	struct front_conn *front; /* NULL once freed */
	struct h2_peer *peer;
	struct raw raw;
	struct ear ears[EARS];
	unsigned n_ears, n_gone;
	void (*on_request)(struct ear *);
	bool hold_credit;
};
static struct rig *rig;

static void
take_request(struct front_conn *f, struct stream *s, struct head *h, bool end, enum outcome refused)
{
	struct ear *e = &rig->ears[rig->n_ears++];

	assert_ptr_equal(f, rig->front);
	assert_ptr_equal(s->front, f);
	assert_true(rig->n_ears <= EARS);
	e->hold_credit = rig->hold_credit;
	e->refused = refused;
	ear_listen(e, s);
	ear_take_head(e, h, end);
	if (rig->on_request != NULL)
		rig->on_request(e);
}

static void
on_request(struct front_conn *f, struct stream *s, struct head *h, bool end)
{
	take_request(f, s, h, end, OUTCOME_OK);
}

static void
on_refused(struct front_conn *f, struct stream *s, struct head *h, enum outcome why)
{
	assert_int_not_equal(why, OUTCOME_OK);
	take_request(f, s, h, true, why);
	if (rig->on_request == NULL)
		ear_answer(&rig->ears[rig->n_ears - 1], outcome_row(why)->status, "no", true);
}

static void
on_gone(struct front_conn *f)
{
	(void)f;
	rig->n_gone++;
}

static const struct front_handler handler = {on_request, on_refused, on_gone};

static void
free_front(struct conn *c)
{
	assert_ptr_equal(c, &rig->front->conn);
	free(rig->front);
	rig->front = NULL;
}

static void
start(void)
{
	rig = calloc(1, sizeof(*rig));
	assert_non_null(rig);
	rig->limits = (struct front_limits){.streams = 100,
	    .header_bytes = 60 * 1024,
	    .header_count = 100,
	    .request_line = 8192,
	    .queued_bytes = 1 << 20,
	    .glitches = 1000,
	    .glitches_per_second = 33};
	rig->turn = test_turn_new();
	rig->mt = memory_transport_new();
	memory_set_read_max(rig->mt, read_max);
	rig->front = calloc(1, sizeof(*rig->front));
	front_init(rig->front, rig->turn, &rig->mt->transport, &handler, &rig->limits, &timeouts,
	    free_front);
	front_h2_begin(rig->front);
}

static void
start_peer_with(const nghttp2_settings_entry *settings, size_t n, bool keep_window)
{
	start();
	rig->peer = peer_new(rig->turn, rig->mt, false, settings, n, keep_window);
	peer_pump(rig->peer);
}

static void
start_peer(void)
{
	start_peer_with(NULL, 0, false);
}

static void
start_raw(void)
{
	start();
	raw_begin(&rig->raw, true);
}

/* Every stream the exchange was given has been closed or reset, once; memory is back. */
static void
finish(void)
{
	if (rig->front != NULL && !rig->front->conn.dead)
		memory_break(rig->mt);
	memory_pump_one(rig->turn, rig->mt);
	if (rig->front != NULL &&
	    !rig->front->conn.dead) { /* paused: it only notices by the clock */
		conn_close(&rig->front->conn, true);
		turn_end(rig->turn);
	}
	assert_null(rig->front);
	assert_int_equal(rig->n_gone, 1);
	for (unsigned i = 0; i < rig->n_ears; i++) {
		assert_null(rig->ears[i].stream);
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

static struct peer_stream *
reply(int32_t id)
{
	return peer_stream(rig->peer, id);
}

#define assert_has(text, part)   assert_non_null(strstr((text), (part)))
#define assert_lacks(text, part) assert_null(strstr((text), (part)))

/* --- what works ------------------------------------------------------------------------------- */

static void
test_get(void **state)
{
	const nghttp2_nv get[] = {PEER_GET, NV("cookie", "a=1"), NV("x-a", "b"),
	    NV("cookie", "b=2"), NV("te", "trailers"), NV("x_under", "1"), NV("cookie", "c=3")};
	int32_t id;

	(void)state;
	start_peer();
	id = peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_ears, 1);

	struct ear *e = &rig->ears[0];

	assert_int_equal(e->refused, OUTCOME_OK);
	assert_string_equal(e->method.p, "GET");
	assert_string_equal(e->path.p, "/");
	assert_string_equal(e->authority.p, "a.test");
	assert_true(e->copy.h2 && e->copy.no_body && e->head_end);
	assert_string_equal(e->head.p, "cookie: a=1; b=2; c=3\nx-a: b\n");
	assert_int_equal(rig->front->n_streams, 1);

	ear_answer(e, 200, "hello", true);
	peer_pump(rig->peer);
	assert_has(reply(id)->head.p, ":status: 200\n");
	assert_has(reply(id)->head.p, "content-length: 5\n");
	assert_has(reply(id)->head.p, "date: ");
	assert_string_equal(reply(id)->body.p, "hello");
	assert_true(reply(id)->end);
	assert_int_equal(e->closed, 1);
	assert_int_equal(e->outcome, OUTCOME_OK);
	assert_int_equal(e->drained, 5);
	assert_int_equal(rig->front->n_streams, 0);
	finish();
}

static void
test_upload_and_trailers(void **state)
{
	const nghttp2_nv post[] = {PEER_POST, NV("content-length", "6")};
	const nghttp2_nv end[] = {NV("x-sum", "9"), NV("host", "evil"), NV("authorization", "x")};
	struct field out = {TEXT("grpc-status"), TEXT("0"), F_GRPC_STATUS};
	struct fields trailers = {.items = &out, .n = 1};
	int32_t id;
	struct ear *e;

	(void)state;
	start_peer();
	id = peer_request(rig->peer, post, COUNT(post), "abc", true);
	peer_pump(rig->peer);
	e = &rig->ears[0];
	assert_false(e->head_end);
	assert_int_equal(e->copy.content_length, 6);
	assert_string_equal(e->body.p, "abc");
	assert_false(e->ended);
	reply(id)->end_trailers = end;
	reply(id)->n_end_trailers = COUNT(end);
	peer_more(rig->peer, id, "def", 3, true);
	peer_pump(rig->peer);
	assert_string_equal(e->body.p, "abcdef");
	assert_true(e->ended);
	assert_string_equal(e->trailers.p, "x-sum: 9\n");

	ear_answer(e, 200, NULL, false);
	ear_body(e, "part", false);
	peer_pump(rig->peer);
	assert_string_equal(reply(id)->body.p, "part");
	stream_send_trailers(e->stream, &trailers);
	peer_pump(rig->peer);
	assert_true(reply(id)->end);
	assert_string_equal(reply(id)->trailers.p, "grpc-status: 0\n");
	assert_int_equal(e->outcome, OUTCOME_OK);
	assert_int_equal(e->closed, 1);
	finish();
}

static void
test_interim_head_and_empty(void **state)
{
	const nghttp2_nv head[] = {NV(":method", "HEAD"), NV(":scheme", "https"), NV(":path", "/"),
	    NV("host", "A.test:8443"), NV("expect", "100-continue")};
	const nghttp2_nv post[] = {PEER_POST, NV("expect", "100-Continue")};
	struct head h = {.status = 103, .content_length = HEAD_LENGTH_NONE};
	int32_t a, b;

	(void)state;
	start_peer();
	a = peer_request(rig->peer, head, COUNT(head), NULL, false);
	b = peer_request(rig->peer, post, COUNT(post), "", true);
	peer_pump(rig->peer);
	assert_string_equal(rig->ears[0].authority.p, "a.test:8443"); /* host alone, lower case */
	assert_false(rig->ears[0].copy.expect_continue);              /* no body follows */
	assert_true(rig->ears[1].copy.expect_continue);
	assert_string_equal(rig->ears[1].head.p, "");

	stream_send_head(rig->ears[0].stream, &h, false);
	h = (struct head){.status = 200, .content_length = 1234};
	stream_send_head(rig->ears[0].stream, &h, true);
	h = (struct head){.status = 100, .content_length = HEAD_LENGTH_NONE};
	stream_send_head(rig->ears[1].stream, &h, false);
	peer_pump(rig->peer);
	assert_has(reply(a)->head.p, ":status: 103\n--\n:status: 200\n");
	assert_has(reply(a)->head.p, "content-length: 1234\n");
	assert_true(reply(a)->end);
	assert_string_equal(reply(b)->head.p, ":status: 100\n--\n");
	peer_more(rig->peer, b, "x", 1, true);
	peer_pump(rig->peer);
	assert_string_equal(rig->ears[1].body.p, "x");
	h = (struct head){.status = 204, .content_length = 0};
	stream_send_head(rig->ears[1].stream, &h, true);
	peer_pump(rig->peer);
	assert_lacks(reply(b)->head.p, "content-length");
	assert_int_equal(rig->ears[1].outcome, OUTCOME_OK);
	finish();
}

static void
fill(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)('a' + (i * 7 + i / 251) % 26);
	p[n] = '\0';
}

#define BIG ((size_t)700000)

/* More than any window and queue: drained() tells, the body arrives whole. */
static void
test_big_answer(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	char *big = malloc(BIG + 1);
	int32_t id;

	(void)state;
	fill(big, BIG);
	start_peer();
	id = peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	ear_answer(&rig->ears[0], 200, big, true);
	peer_pump(rig->peer);
	assert_int_equal(reply(id)->body.n, BIG);
	assert_memory_equal(reply(id)->body.p, big, BIG);
	assert_int_equal(rig->ears[0].drained, BIG);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_OK);
	free(big);
	finish();
}

/* A body is only taken as far as the window when nobody consumes it, and goes on with credit. */
static void
test_upload_window(void **state)
{
	const nghttp2_nv post[] = {PEER_POST};
	char *big = malloc(BIG + 1);
	struct ear *e;

	(void)state;
	fill(big, BIG);
	start_peer();
	rig->hold_credit = true;
	peer_request(rig->peer, post, COUNT(post), big, false);
	peer_pump(rig->peer);
	e = &rig->ears[0];
	assert_in_range(e->body.n, STREAM_CREDIT, (size_t)H2_STREAM_WINDOW);
	while (!e->ended) {
		size_t n = e->unconsumed;

		assert_true(n > 0);
		e->unconsumed = 0;
		stream_consumed(e->stream, n);
		peer_pump(rig->peer);
		assert_true(e->unconsumed <= (size_t)H2_STREAM_WINDOW);
	}
	assert_int_equal(e->body.n, BIG);
	assert_memory_equal(e->body.p, big, BIG);
	ear_reset(e, OUTCOME_INTERNAL);
	free(big);
	finish();
}

/* What streams that were reset left unconsumed comes back to the connection's window. */
static void
test_connection_window_does_not_leak(void **state)
{
	const nghttp2_nv post[] = {PEER_POST};
	char *big = malloc(200001);

	(void)state;
	fill(big, 200000);
	start_peer();
	rig->hold_credit = true;
	for (unsigned i = 0; i < (read_max == 1 ? 6 : 20); i++) {
		peer_request(rig->peer, post, COUNT(post), big, true);
		peer_pump(rig->peer);
		assert_int_equal(rig->ears[i].body.n, 200000);
		ear_reset(&rig->ears[i], OUTCOME_INTERNAL);
		peer_pump(rig->peer);
	}
	free(big);
	finish();
}

static void
test_many_streams(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};

	(void)state;
	start_peer();
	for (int i = 0; i < 50; i++)
		peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_ears, 50);
	for (int i = 49; i >= 0; i--)
		ear_answer(&rig->ears[i], 200, "ok", true);
	memory_set_room(rig->mt, 100);
	peer_pump(rig->peer);
	memory_set_room(rig->mt, SIZE_MAX);
	peer_pump(rig->peer);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(rig->ears[i].outcome, OUTCOME_OK);
		assert_string_equal(rig->peer->streams[i].body.p, "ok");
	}
	finish();
}

static void
test_websocket(void **state)
{
	const nghttp2_nv open[] = {NV(":method", "CONNECT"), NV(":protocol", "websocket"),
	    NV(":scheme", "https"), NV(":authority", "a.test"), NV(":path", "/ws"),
	    NV("sec-websocket-version", "13"), NV("sec-websocket-key", "nonsense")};
	struct head h = {.status = 101, .content_length = HEAD_LENGTH_NONE};
	int32_t a, b;
	struct ear *e;

	(void)state;
	start_peer();
	a = peer_request(rig->peer, open, COUNT(open), "", true);
	b = peer_request(rig->peer, open, COUNT(open), "", true);
	peer_pump(rig->peer);
	e = &rig->ears[0];
	assert_true(e->copy.websocket);
	assert_int_equal(e->copy.method, METHOD_GET);
	assert_string_equal(e->method.p, "GET");
	assert_string_equal(e->head.p, "sec-websocket-version: 13\n");
	stream_send_head(e->stream, &h, false);
	peer_more(rig->peer, a, "ping", 4, false);
	peer_pump(rig->peer);
	assert_has(reply(a)->head.p, ":status: 200\n");
	assert_string_equal(e->body.p, "ping");
	ear_body(e, "pong", false);
	peer_pump(rig->peer);
	assert_string_equal(reply(a)->body.p, "pong");
	ear_body(e, "bye", true); /* half-closed: the client may go on */
	peer_pump(rig->peer);
	assert_true(reply(a)->end);
	assert_false(reply(a)->closed);
	peer_more(rig->peer, a, "!", 1, true);
	peer_pump(rig->peer);
	assert_string_equal(e->body.p, "ping!");
	assert_true(e->ended);
	assert_int_equal(e->outcome, OUTCOME_OK);

	ear_answer(
	    &rig->ears[1], 403, "no", true); /* refused: a normal response, later RST NO_ERROR */
	peer_pump(rig->peer);
	test_advance(rig->turn, 1100);
	peer_pump(rig->peer);
	assert_has(reply(b)->head.p, ":status: 403\n");
	assert_true(reply(b)->end && reply(b)->closed);
	assert_int_equal(reply(b)->code, NGHTTP2_NO_ERROR);
	assert_int_equal(rig->ears[1].outcome, OUTCOME_OK);
	finish();
}

/* --- ends ------------------------------------------------------------------------------------- */

static void
test_early_response(void **state)
{
	const nghttp2_nv post[] = {PEER_POST, NV("content-length", "1000000")};
	int32_t id;

	(void)state;
	start_peer();
	id = peer_request(rig->peer, post, COUNT(post), "some", true);
	peer_pump(rig->peer);
	ear_answer(&rig->ears[0], 413, "too much", true);
	peer_pump(rig->peer);
	assert_string_equal(reply(id)->body.p, "too much");
	assert_true(reply(id)->end);
	assert_int_equal(rig->ears[0].closed, 1);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_OK);
	assert_false(rig->ears[0].ended);

	/* it has a while to read that before its stream is closed */
	test_advance(rig->turn, 900);
	peer_pump(rig->peer);
	assert_false(reply(id)->closed);
	assert_int_equal(rig->front->n_streams, 1);
	test_advance(rig->turn, 200);
	peer_pump(rig->peer);
	assert_true(reply(id)->closed);
	assert_int_equal(reply(id)->code, NGHTTP2_NO_ERROR);
	assert_int_equal(rig->front->n_streams, 0);
	finish();
}

/* An error's head that comes before its body, in the middle of an upload: it waits for the body, but not for long. */
static void
test_early_head_waits(void **state)
{
	const nghttp2_nv post[] = {PEER_POST, NV("content-length", "1000000")};
	static char some[10001];
	struct ear *e;
	int32_t id[5];

	(void)state;
	fill(some, 10000);
	start_peer();
	peer_request(rig->peer, post, COUNT(post), "some", true);
	peer_pump(rig->peer);
	ear_answer(&rig->ears[0], 413, NULL, true); /* lingers: a later time to look */
	peer_pump(rig->peer);
	e = &rig->ears[1];
	for (unsigned i = 0; i < 5; i++) {
		id[i] = peer_request(rig->peer, post, COUNT(post), "some", true);
		peer_pump(rig->peer);
		ear_answer(&e[i], i < 4 ? 413 : 200, NULL, false);
		peer_pump(rig->peer);
		assert_int_equal(reply(id[i])->head_done, i == 4);
	}
	ear_body(&e[0], "too ", false);
	peer_pump(rig->peer);
	assert_false(reply(id[0])->head_done);
	ear_body(&e[0], "much", true);
	ear_body(&e[1], some, false);
	ear_reset(&e[3], OUTCOME_BACK_TRUNCATED);
	peer_pump(rig->peer);
	assert_has(reply(id[0])->head.p, ":status: 413\n");
	assert_string_equal(reply(id[0])->body.p, "too much");
	assert_true(reply(id[0])->end);
	assert_int_equal(reply(id[1])->body.n, 10000);
	assert_false(reply(id[2])->head_done);
	assert_true(reply(id[3])->closed && !reply(id[3])->head_done);
	test_advance(rig->turn, 150);
	peer_pump(rig->peer);
	assert_has(reply(id[2])->head.p, ":status: 413\n");
	assert_false(reply(id[0])->closed);
	test_advance(rig->turn, 1000);
	peer_pump(rig->peer);
	assert_true(reply(id[0])->closed);
	for (unsigned i = 1; i < 5; i++) {
		if (i != 3)
			ear_reset(&e[i], OUTCOME_INTERNAL);
	}
	peer_pump(rig->peer);
	assert_int_equal(rig->front->n_streams, 0);
	finish();
}

/* What an answered client goes on to send: its window, and the connection's is as it was. */
static void
test_early_response_and_more(void **state)
{
	const nghttp2_nv post[] = {PEER_POST};
	char *big = malloc(BIG + 1);
	int32_t id, window;

	(void)state;
	fill(big, BIG);
	start_peer();
	rig->hold_credit = true;
	id = peer_request(rig->peer, post, COUNT(post), "some", true);
	peer_pump(rig->peer);
	window = nghttp2_session_get_stream_remote_window_size(rig->peer->session, id);
	assert_true((size_t)window < BIG);
	ear_answer(&rig->ears[0], 413, "too much", true);
	peer_pump(rig->peer);
	peer_more(rig->peer, id, big, BIG, true);
	peer_pump(rig->peer);
	assert_string_equal(reply(id)->body.p, "too much");
	assert_int_equal(rig->ears[0].body.n, 4);
	assert_int_equal(nghttp2_session_get_stream_remote_window_size(rig->peer->session, id), 0);
	window = nghttp2_session_get_remote_window_size(rig->peer->session);
	assert_in_range(window, H2_FRONT_CONN_WINDOW / 2, H2_FRONT_CONN_WINDOW);

	/* ends that are in time are not answered by a reset, and cost nothing */
	for (unsigned i = 1; i < 400; i++) {
		int32_t other = peer_request(rig->peer, post, COUNT(post), "some", true);

		peer_pump(rig->peer);
		ear_answer(&rig->ears[i], 413, NULL, true);
		peer_pump(rig->peer);
		assert_true(reply(other)->end && !reply(other)->closed);
		if (i % 2 == 0)
			peer_more(rig->peer, other, "end", 3, true);
		else
			nghttp2_submit_rst_stream(rig->peer->session, 0, other, NGHTTP2_CANCEL);
		peer_pump(rig->peer);
		assert_int_equal(rig->front->n_streams, 1);
	}
	assert_int_equal(rig->peer->n_resets, 0);
	assert_int_equal(rig->peer->n_goaway, 0);
	assert_int_equal(rig->front->glitches.level_milli, rig->limits.glitches * 1000);
	test_advance(rig->turn, 1100);
	peer_pump(rig->peer);
	assert_true(reply(id)->closed);
	assert_int_equal(reply(id)->code, NGHTTP2_NO_ERROR);
	assert_int_equal(rig->peer->n_resets, 1);
	free(big);
	finish();
}

/* The exchange has nothing more to do with it once the answer is complete. */
static void
test_reset_ok_keeps_the_answer(void **state)
{
	const nghttp2_nv post[] = {PEER_POST};
	int32_t id;

	(void)state;
	start_peer();
	id = peer_request(rig->peer, post, COUNT(post), "some", true);
	peer_pump(rig->peer);
	ear_answer(&rig->ears[0], 200, "whole", true);
	ear_reset(&rig->ears[0], OUTCOME_OK);
	peer_pump(rig->peer);
	assert_string_equal(reply(id)->body.p, "whole");
	assert_true(reply(id)->end);
	test_advance(rig->turn, 1100);
	assert_int_equal(rig->front->n_streams, 0);
	finish();
}

static void
test_reset_codes(void **state)
{
	static const struct {
		enum outcome why;
		uint32_t code;
	} rows[] = {{OUTCOME_CLIENT_SLOW, NGHTTP2_CANCEL},
	    {OUTCOME_BACK_TRUNCATED, NGHTTP2_INTERNAL_ERROR}, {OUTCOME_TUNNEL, NGHTTP2_CANCEL},
	    {OUTCOME_STOPPED, NGHTTP2_CANCEL}, {OUTCOME_OK, NGHTTP2_NO_ERROR}};
	const nghttp2_nv get[] = {PEER_GET};

	(void)state;
	start_peer();
	for (unsigned i = 0; i < COUNT(rows); i++) {
		int32_t id = peer_request(rig->peer, get, COUNT(get), NULL, false);

		peer_pump(rig->peer);
		ear_answer(&rig->ears[i], 200, "half", false);
		peer_pump(rig->peer);
		ear_reset(&rig->ears[i], rows[i].why);
		peer_pump(rig->peer);
		assert_true(reply(id)->closed);
		assert_false(reply(id)->end);
		assert_int_equal(reply(id)->code, rows[i].code);
	}
	assert_int_equal(rig->front->n_streams, 0);
	finish();
}

static void
test_client_resets_and_leaves(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	int32_t id;

	(void)state;
	start_peer();
	id = peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	nghttp2_submit_rst_stream(rig->peer->session, 0, id, NGHTTP2_CANCEL);
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[0].closed, 1);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_CLIENT_GONE);
	assert_int_equal(rig->ears[1].closed, 0);
	memory_feed_eof(rig->mt);
	memory_pump_one(rig->turn, rig->mt);
	assert_int_equal(rig->ears[1].closed, 1);
	assert_int_equal(rig->ears[1].outcome, OUTCOME_CLIENT_GONE);
	finish();
}

static void
test_transport_breaks(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};

	(void)state;
	start_peer();
	peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	memory_break(rig->mt);
	memory_pump_one(rig->turn, rig->mt);
	assert_int_equal(rig->ears[0].closed, 1);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_CLIENT_GONE);
	finish();
}

static void
reset_at_once(struct ear *e)
{
	ear_reset(e, OUTCOME_INTERNAL);
}

static void
close_conn(struct ear *e)
{
	conn_close(&e->stream->front->conn, true);
}

/* A handler may end the stream, or the connection, inside the event. */
static void
test_end_inside_event(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};

	(void)state;
	start_peer();
	rig->on_request = reset_at_once;
	peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_request(rig->peer, get, COUNT(get), "body", false);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_ears, 2);
	assert_int_equal(rig->peer->n_resets, 2);
	rig->on_request = close_conn;
	peer_request(rig->peer, get, COUNT(get), "body", false);
	peer_request(rig->peer, get, COUNT(get), "body", false);
	peer_pump(rig->peer);
	assert_int_equal(rig->n_ears, 3);
	finish();
}

/* An answer that may not be sent ends in a reset, and closed() comes though only a verb was called. */
static void
test_bad_answers(void **state)
{
	struct field bad[] = {{TEXT("x-a"), TEXT("b\r\nc: d"), F_OTHER},
	    {TEXT("X-A"), TEXT("b"), F_OTHER}, {TEXT("x a"), TEXT("b"), F_OTHER}};
	const nghttp2_nv get[] = {PEER_GET};
	struct head h = {.status = 101, .content_length = HEAD_LENGTH_NONE};

	(void)state;
	start_peer();
	for (unsigned i = 0; i <= COUNT(bad); i++) {
		int32_t id = peer_request(rig->peer, get, COUNT(get), NULL, false);

		peer_pump(rig->peer);
		if (i < COUNT(bad))
			h = (struct head){.status = 200,
			    .content_length = HEAD_LENGTH_NONE,
			    .fields = {.items = &bad[i], .n = 1}};
		else
			h = (struct head){.status = 101, .content_length = HEAD_LENGTH_NONE};
		stream_send_head(rig->ears[i].stream, &h, false);
		assert_int_equal(rig->ears[i].closed, 0); /* not inside the verb */
		ear_body(&rig->ears[i], "x", true);
		peer_pump(rig->peer);
		assert_int_equal(rig->ears[i].closed, 1);
		assert_int_equal(rig->ears[i].outcome, OUTCOME_INTERNAL);
		assert_int_equal(reply(id)->code, NGHTTP2_INTERNAL_ERROR);
		assert_null(reply(id)->head.p);
	}
	finish();
}

/* --- refusals ------------------------------------------------------------------------------------ */

#define LINE                                                                                       \
	NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"), NV(":path", "/")

static void
refused(const nghttp2_nv *nv, size_t n, enum outcome why)
{
	start_peer();
	int32_t id = peer_request(rig->peer, nv, n, NULL, false);

	peer_pump(rig->peer);
	assert_int_equal(rig->n_ears, 1);
	assert_int_equal(rig->ears[0].refused, why);
	assert_int_equal(atoi(reply(id)->head.p + strlen(":status: ")), outcome_row(why)->status);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_OK);
	finish();
}

#define REFUSED(why, ...)                                                                          \
	do {                                                                                       \
		const nghttp2_nv nv_[] = {__VA_ARGS__};                                            \
		refused(nv_, COUNT(nv_), OUTCOME_##why);                                           \
	} while (0)

static void
test_refused_by_teal(void **state)
{
	char path[9001];

	(void)state;
	REFUSED(BAD_REQUEST, LINE, NV("host", "b.test")); /* attack 45 */
	REFUSED(BAD_REQUEST, NV(":method", "GET"), NV(":scheme", "https"),
	    NV(":authority", "u@a.test"), NV(":path", "/"));
	REFUSED(BAD_REQUEST, NV(":method", "GET"), NV(":scheme", "ftp"), NV(":authority", "a.test"),
	    NV(":path", "/"));
	REFUSED(BAD_REQUEST, NV(":method", "GET"), NV(":scheme", "https"),
	    NV(":authority", "a.test"), NV(":path", "/#x"));
	REFUSED(METHOD_REFUSED, NV(":method", "TRACE"), NV(":scheme", "https"),
	    NV(":authority", "a.test"), NV(":path", "/"));
	REFUSED(METHOD_REFUSED, NV(":method", "CONNECT"), NV(":authority", "a.test:443"));
	REFUSED(NOT_IMPLEMENTED, NV(":method", "CONNECT"),
	    NV(":protocol", "connect-udp"), /* attack 47 */
	    NV(":scheme", "https"), NV(":authority", "a.test"), NV(":path", "/"));
	REFUSED(EXPECT_REFUSED, LINE, NV("expect", "y 100-continue")); /* attack 35 */
	memset(path, 'a', 9000);
	path[0] = '/';

	nghttp2_nv nv[] = {LINE};

	nv[3].value = (uint8_t *)path;
	nv[3].valuelen = 9000;
	refused(nv, COUNT(nv), OUTCOME_URI_TOO_LONG);
}

/* OPTIONS * passes, a same Host passes. */
static void
test_allowed(void **state)
{
	const nghttp2_nv star[] = {NV(":method", "OPTIONS"), NV(":scheme", "http"),
	    NV(":authority", "a.test"), NV(":path", "*"), NV("host", "A.TEST")};

	(void)state;
	start_peer();
	peer_request(rig->peer, star, COUNT(star), NULL, false);
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[0].refused, OUTCOME_OK);
	assert_string_equal(rig->ears[0].path.p, "*");
	ear_reset(&rig->ears[0], OUTCOME_INTERNAL);
	finish();
}

/* Attacks 41 to 44: reset with PROTOCOL_ERROR, no request comes of it. */
static void
reset_by_teal(const nghttp2_nv *nv, size_t n)
{
	struct seen_frames seen;

	start_raw();
	raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, nv, n);
	raw_send(&rig->raw, rig->turn, rig->mt);
	seen = raw_seen(rig->mt);
	assert_int_equal(rig->n_ears, 0);
	assert_int_equal(seen.n[NGHTTP2_RST_STREAM], 1);
	assert_int_equal(seen.reset_code, NGHTTP2_PROTOCOL_ERROR);
	assert_int_equal(seen.goaways, 0);
	assert_int_equal(rig->front->n_streams, 0);
	finish();
}

#define RESET(...)                                                                                 \
	do {                                                                                       \
		const nghttp2_nv nv_[] = {__VA_ARGS__};                                            \
		reset_by_teal(nv_, COUNT(nv_));                                                    \
	} while (0)

static void
test_malformed_heads(void **state)
{
	(void)state;
	RESET(LINE, NV("transfer-encoding", "chunked"));
	RESET(LINE, NV("connection", "close"));
	RESET(LINE, NV("keep-alive", "1"));
	RESET(LINE, NV("proxy-connection", "close"));
	RESET(LINE, NV("upgrade", "h2c"));
	RESET(LINE, NV("te", "gzip"));
	RESET(LINE, NV("content-length", "5")); /* and END_STREAM */
	RESET(LINE, NV("content-length", "0"), NV("content-length", "0"));
	RESET(LINE, NV("content-length", "+5"));
	RESET(LINE, NV("content-length", "5,5"));
	RESET(LINE, NV("content-length", ""));
	RESET(LINE, NV("content-length", "99999999999999999999"));
	RESET(LINE, NV("x-a", "b\rc"));
	RESET(LINE, NV("x-a", "b\nc"));
	RESET(LINE, NV("x-a", "b\0c"));
	RESET(LINE, NV("x-a", " b"));
	RESET(LINE, NV("x-a", "b "));
	RESET(LINE, NV("x-a\r", "b"));
	RESET(LINE, NV("X-a", "b"));
	RESET(LINE, NV("x:a", "b"));
	RESET(LINE, NV("x\x80", "b"));
	RESET(LINE, NV("x a", "b"));
	RESET(LINE, NV("", "b"));
	RESET(LINE, NV(":status", "200"));
	RESET(LINE, NV(":what", "x"));
	RESET(LINE, NV(":path", "/2"));
	RESET(LINE, NV(":protocol", "websocket"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV("x-a", "b"), NV(":path", "/"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":path", "/"));
	RESET(NV(":scheme", "https"), NV(":authority", "a.test"), NV(":path", "/"));
	RESET(NV(":method", "GET"), NV(":authority", "a.test"), NV(":path", "/"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV(":path", ""));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV(":path", "x"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV(":path", "/ x"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV(":path", "*"));
	RESET(NV(":method", "GET\r\nx"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV(":path", "/"));
	RESET(NV(":method", "G T"), NV(":scheme", "https"), NV(":authority", "a.test"),
	    NV(":path", "/"));
	RESET(NV(":method", "GET"), NV(":scheme", "http://x"), NV(":authority", "a.test"),
	    NV(":path", "/"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":authority", "a.test/x"),
	    NV(":path", "/"));
	RESET(NV(":method", "GET"), NV(":scheme", "https"), NV(":path", "/"), NV("host", "a.test"),
	    NV("host", "a.test"));
}

/* Content-Length against DATA, both ways; trailers with pseudo-fields. */
static void
test_malformed_bodies(void **state)
{
	static const struct {
		const char *length, *body;
		bool end, pseudo_trailers;
	} rows[] = {
	    {"3", "abcd", false, false}, {"5", "abcd", true, false}, {"4", "abcd", false, true}};

	(void)state;
	for (unsigned i = 0; i < COUNT(rows); i++) {
		nghttp2_nv post[] = {PEER_POST, NV("content-length", "0")};
		const nghttp2_nv pseudo[] = {NV(":path", "/x")};
		struct seen_frames seen;

		post[4].value = (uint8_t *)(uintptr_t)rows[i].length;
		start_raw();
		raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS, 1, post, COUNT(post));
		raw_frame(&rig->raw, NGHTTP2_DATA, rows[i].end ? NGHTTP2_FLAG_END_STREAM : 0, 1,
		    rows[i].body, 4);
		if (rows[i].pseudo_trailers)
			raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM,
			    1, pseudo, 1);
		raw_send(&rig->raw, rig->turn, rig->mt);
		seen = raw_seen(rig->mt);
		assert_int_equal(seen.reset_code, NGHTTP2_PROTOCOL_ERROR);
		assert_int_equal(rig->n_ears, 1);
		assert_int_equal(rig->ears[0].closed, 1);
		assert_int_equal(rig->ears[0].outcome, OUTCOME_BAD_REQUEST);
		assert_false(rig->ears[0].ended);
		finish();
	}
}

/* --- header limits ---------------------------------------------------------------------------------- */

static void
test_header_limits(void **state)
{
	static char value[50001];
	nghttp2_nv nv[105] = {LINE};
	struct peer_stream *r;

	(void)state;
	memset(value, 'v', 50000);
	for (unsigned i = 4; i < 105; i++)
		nv[i] = (nghttp2_nv)NV("cookie", "a=b");
	start_peer();
	r = reply(peer_request(rig->peer, nv, 100, NULL, false)); /* exactly the limit, crumbs */
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[0].refused, OUTCOME_OK);
	ear_answer(&rig->ears[0], 200, NULL, true);
	r = reply(peer_request(rig->peer, nv, 101, NULL, false));
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[1].refused, OUTCOME_HEADER_TOO_LARGE);
	assert_has(r->head.p, ":status: 431\n");

	for (unsigned i = 4; i < 7; i++) { /* dropped ones count too */
		nv[i] = (nghttp2_nv)NV("x_dropped", "");
		nv[i].value = (uint8_t *)value;
		nv[i].valuelen = 20500;
	}
	r = reply(peer_request(rig->peer, nv, 7, NULL, false));
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[2].refused, OUTCOME_HEADER_TOO_LARGE);
	assert_int_equal(rig->peer->n_goaway, 0);
	finish();
}

/* Attack 12: one entry of 3000 bytes, referenced again and again; the window is shut. */
static void
test_hpack_bomb(void **state)
{
	static char value[3001];
	nghttp2_nv nv[] = {LINE, NV("cookie", "")};
	uint8_t block[16384];
	size_t n, held;

	(void)state;
	memset(value, 'v', 3000);
	nv[4].value = (uint8_t *)value;
	nv[4].valuelen = 3000;
	start_raw();
	raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, nv, 5);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(rig->n_ears, 1);
	ear_answer(&rig->ears[0], 200, NULL, true);
	n = raw_block(&rig->raw, nv, 5, block, sizeof(block)); /* its last byte is the reference */
	held = chunk_pool_bytes(rig->turn->chunks);
	memset(block + n, block[n - 1], sizeof(block) - n);
	for (int32_t id = 3; id < 63; id += 2) {
		raw_frame(&rig->raw, NGHTTP2_HEADERS,
		    NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, id, block, sizeof(block));
		raw_send(&rig->raw, rig->turn, rig->mt);
	}
	assert_int_equal(rig->n_ears, 1);
	assert_int_equal(raw_seen(rig->mt).reset_code, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_in_range(chunk_pool_bytes(rig->turn->chunks), 0, held + 200000);
	finish();
}

/* --- floods -------------------------------------------------------------------------------------------- */

static void
ping(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_PING, 0, 0, "12345678", 8);
}
static void
pong(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "12345678", 8);
}
static void
settings(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}
static void
priority(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\x10", 5);
}
static void
priority_update(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_PRIORITY_UPDATE, 0, 0, "\0\0\0\1u=3", 7);
}
static void
unknown(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, 0x42, 0, 0, "xyz", 3);
}
static void
window_update(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
}
static void
empty_data(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_DATA, 0, 1, NULL, 0);
}
static void
padded_data(struct raw *r, int32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, "\3\0\0\0", 4);
}
static void
rapid_reset(struct raw *r, int32_t i)
{
	const nghttp2_nv get[] = {PEER_GET};

	raw_headers(
	    r, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 3 + 2 * i, get, COUNT(get));
	raw_frame(r, NGHTTP2_RST_STREAM, 0, 3 + 2 * i, "\0\0\0\x08", 4);
}
static void
malformed(struct raw *r, int32_t i)
{
	const nghttp2_nv bad[] = {PEER_GET, NV("connection", "x")};

	raw_headers(
	    r, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 3 + 2 * i, bad, COUNT(bad));
}
static void
make_you_reset(struct raw *r, int32_t i)
{
	const nghttp2_nv get[] = {PEER_GET};

	raw_headers(
	    r, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 3 + 2 * i, get, COUNT(get));
	raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 3 + 2 * i, "\x7f\xff\xff\xff", 4);
}

/* A flood is ended with ENHANCE_YOUR_CALM within `most` frames; teal's memory and answers stay bounded. */
static void
flooded(void (*one)(struct raw *, int32_t), int32_t most, unsigned requests)
{
	const nghttp2_nv post[] = {PEER_POST};
	struct seen_frames seen = {0};
	unsigned goaways = 0;
	int32_t i;

	start_raw();
	raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS, 1, post, COUNT(post));
	raw_send(&rig->raw, rig->turn, rig->mt);
	for (i = 0; i < most && !rig->front->conn.closing; i += 10) {
		for (int32_t k = 0; k < 10; k++)
			one(&rig->raw, i + k);
		raw_send(&rig->raw, rig->turn, rig->mt);
		assert_true(rig->front != NULL);
	}
	seen = raw_seen(rig->mt);
	goaways = seen.goaways;
	assert_true(rig->front->conn.closing);
	assert_int_equal(seen.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_in_range(goaways, 1, 3);
	assert_in_range(rig->n_ears, 1, requests + 1);
	finish();
}

static void
test_floods(void **state)
{
	(void)state;
	flooded(ping, 1100, 0);
	flooded(pong, 1010, 0);
	flooded(settings, 1010, 0);
	flooded(priority, 1010, 0);
	flooded(priority_update, 1010, 0);
	flooded(unknown, 1010, 0);
	flooded(window_update, 1100, 0);
	flooded(empty_data, 110, 0);
	flooded(padded_data, 110, 0);
	flooded(malformed, 110, 0);
	flooded(make_you_reset, 110, 110);
}

static void
test_rapid_reset(void **state)
{
	(void)state;
	rig = NULL;
	flooded(rapid_reset, 1010, 1010);
}

/* The same without reading: what waits for the socket stays small and reading stops. */
static void
test_flood_unread(void **state)
{
	(void)state;
	start_raw();
	memory_set_room(rig->mt, 0);
	for (int i = 0; i < 20000; i++)
		ping(&rig->raw, i);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_true(rig->front == NULL || buf_bytes(&rig->front->conn.out) <= 2 * CONN_OUT_HIGH);
	finish();
}

/* The same when it is the client that resets. */
static void
test_connection_window_after_client_reset(void **state)
{
	const nghttp2_nv post[] = {PEER_POST};
	char *big = malloc(200001);

	(void)state;
	fill(big, 200000);
	start_peer();
	rig->hold_credit = true;
	for (unsigned i = 0; i < 7; i++) {
		int32_t id = peer_request(rig->peer, post, COUNT(post), big, true);

		peer_pump(rig->peer);
		assert_int_equal(rig->ears[i].body.n, 200000);
		nghttp2_submit_rst_stream(rig->peer->session, 0, id, NGHTTP2_CANCEL);
		peer_pump(rig->peer);
		assert_int_equal(rig->ears[i].outcome, OUTCOME_CLIENT_GONE);
	}
	free(big);
	finish();
}

/* A socket that takes nothing: what is framed stays at the mark, the rest waits in its stream. */
static void
test_output_is_bounded(void **state)
{
	const nghttp2_settings_entry wide[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff}};
	const nghttp2_nv get[] = {PEER_GET};
	char *big = malloc(60001);

	(void)state;
	fill(big, 60000);
	start_peer_with(wide, 1, false);
	nghttp2_submit_window_update(rig->peer->session, 0, 0, 0x7fff0000 - 65535);
	for (int i = 0; i < 30; i++)
		peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	memory_set_room(rig->mt, 0);
	for (int i = 0; i < 30; i++)
		ear_answer(&rig->ears[i], 200, big, true);
	peer_pump(rig->peer);
	assert_in_range(buf_bytes(&rig->front->conn.out), CONN_OUT_HIGH, CONN_OUT_HIGH + 16384 + 9);
	memory_set_room(rig->mt, SIZE_MAX);
	conn_ready(&rig->front->conn, false, true);
	peer_pump(rig->peer);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(rig->ears[i].drained, 60000);
		assert_int_equal(rig->ears[i].outcome, OUTCOME_OK);
	}
	free(big);
	finish();
}

/* Reading stops while answers wait: with a budget that would allow it, no PING is lost and none too many held. */
static void
test_pings_wait_for_output(void **state)
{
	unsigned acks;

	(void)state;
	start_raw();
	rig->limits.glitches = 1000000;
	budget_init(&rig->front->glitches, 1000000, rig->turn->now_ms);
	for (int i = 0; i < 20000; i++)
		ping(&rig->raw, i);
	memory_set_room(rig->mt, 0);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_false(rig->front->conn.closing);
	assert_in_range(buf_bytes(&rig->front->conn.out), CONN_OUT_HIGH, 2 * CONN_OUT_HIGH);
	memory_set_room(rig->mt, SIZE_MAX);
	memory_pump_one(rig->turn, rig->mt);
	acks = raw_seen(rig->mt).n[NGHTTP2_PING];
	assert_int_equal(acks, 20000);
	finish();
}

/* A refused request's body is read away; trailers have a limit too. */
static void
test_refused_body_and_large_trailers(void **state)
{
	const nghttp2_nv bad[] = {PEER_POST, NV("host", "b.test")}, post[] = {PEER_POST};
	static char value[16001];
	nghttp2_nv large[4] = {NV("x-t", ""), NV("x-t", ""), NV("x-t", ""), NV("x-t", "")};
	size_t n;

	(void)state;
	memset(value, 'v', 16000);
	start_raw();
	raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS, 1, bad, COUNT(bad));
	raw_frame(&rig->raw, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "body", 4);
	raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS, 3, post, COUNT(post));
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(rig->ears[0].refused, OUTCOME_BAD_REQUEST);
	assert_int_equal(rig->ears[0].closed, 1);
	assert_int_equal(rig->ears[0].body.n, 0);

	for (unsigned i = 0; i < 4; i++) {
		large[i].value = (uint8_t *)value;
		large[i].valuelen = 16000;
	}
	uint8_t *whole = malloc(65536);

	n = raw_block(&rig->raw, large, 4, whole, 65536);
	raw_frame(&rig->raw, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 3, whole, 16384);
	for (size_t at = 16384; at < n; at += 16384)
		raw_frame(&rig->raw, NGHTTP2_CONTINUATION,
		    n - at <= 16384 ? NGHTTP2_FLAG_END_HEADERS : 0, 3, whole + at,
		    n - at <= 16384 ? n - at : 16384);
	free(whole);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(rig->ears[1].closed, 1);
	assert_int_equal(rig->ears[1].outcome, OUTCOME_HEADER_TOO_LARGE);
	assert_false(rig->ears[1].ended);
	assert_int_equal(raw_seen(rig->mt).reset_code, NGHTTP2_ENHANCE_YOUR_CALM);
	finish();
}

/* Three quarters of the budget: a graceful GOAWAY; honest use goes on. */
static void
test_budget_warns(void **state)
{
	struct seen_frames seen;

	(void)state;
	start_raw();
	for (int i = 0; i < 800; i++)
		unknown(&rig->raw, i);
	raw_send(&rig->raw, rig->turn, rig->mt);
	seen = raw_seen(rig->mt);
	assert_int_equal(seen.goaways, 1);
	assert_int_equal(seen.goaway_code, NGHTTP2_NO_ERROR);
	assert_int_equal(seen.goaway_last, INT32_MAX);
	assert_false(rig->front->conn.closing);
	finish();
}

/* gRPC's pings and WINDOW_UPDATEs that go with what is read cost nothing. */
static void
test_honest_control_frames(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	char *big = malloc(BIG + 1);

	(void)state;
	fill(big, BIG);
	start_peer();
	for (unsigned i = 0; i < 20; i++) {
		peer_request(rig->peer, get, COUNT(get), NULL, false);
		peer_pump(rig->peer);
		ear_answer(&rig->ears[i], 200, big, true);
		for (int k = 0; k < 40; k++)
			nghttp2_submit_ping(rig->peer->session, 0, NULL);
		peer_pump(rig->peer);
		assert_int_equal(rig->ears[i].outcome, OUTCOME_OK);
	}
	assert_int_equal(rig->peer->n_goaway, 0);
	free(big);
	finish();
}

static void
ends_with(uint32_t code)
{
	struct seen_frames seen;

	raw_send(&rig->raw, rig->turn, rig->mt);
	seen = raw_seen(rig->mt);
	assert_int_equal(seen.goaways, 1);
	assert_int_equal(seen.goaway_code, code);
	assert_true(rig->front == NULL || rig->front->conn.closing);
	finish();
}

/* Attack 11. */
static void
test_continuation_floods(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	uint8_t block[16384];
	size_t n;

	(void)state;
	for (int i = 0; i < 3; i++) {
		start_raw();
		n = raw_block(&rig->raw, get, COUNT(get), block, sizeof(block));
		raw_frame(&rig->raw, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, block, n);
		memset(block, 0, sizeof(block));
		for (size_t k = 0; k < sizeof(block);
		     k += 0x40) /* literal, one name byte, 60 of value */
			memcpy(block + k, "\0\1x\x3c", 4);
		for (int k = 0; k < 9; k++)
			raw_frame(&rig->raw, NGHTTP2_CONTINUATION, 0, 1, block,
			    i == 0   ? 0
			    : i == 1 ? 0x40
				     : sizeof(block));
		ends_with(NGHTTP2_ENHANCE_YOUR_CALM);
	}
}

/* A block in up to eight CONTINUATIONs is fine, at any cut. */
static void
test_continuation(void **state)
{
	const nghttp2_nv get[] = {PEER_GET, NV("x-a", "some value"), NV("x-b", "another")};
	uint8_t block[1024];
	size_t n, at = 1;

	(void)state;
	start_raw();
	n = raw_block(&rig->raw, get, COUNT(get), block, sizeof(block));
	raw_frame(&rig->raw, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, block, 1);
	for (int k = 0; k < 7; k++, at += 3)
		raw_frame(&rig->raw, NGHTTP2_CONTINUATION, 0, 1, block + at, 3);
	raw_frame(&rig->raw, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, block + at, n - at);
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(rig->n_ears, 1);
	assert_string_equal(rig->ears[0].head.p, "x-a: some value\nx-b: another\n");
	assert_int_equal(raw_seen(rig->mt).goaways, 0);
	ear_reset(&rig->ears[0], OUTCOME_INTERNAL);
	finish();
}

/* A stream the client has ended, answered and forgotten by nghttp2; `more` others have come and gone since. */
static void
ended_stream(bool by_reset, int more)
{
	const nghttp2_nv get[] = {PEER_GET};

	start_raw();
	for (int32_t id = 1; id <= 1 + 2 * more; id += 2) {
		raw_headers(&rig->raw,
		    by_reset ? NGHTTP2_FLAG_END_HEADERS
			     : NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM,
		    id, get, COUNT(get));
		raw_send(&rig->raw, rig->turn, rig->mt);
		if (by_reset)
			raw_frame(&rig->raw, NGHTTP2_RST_STREAM, 0, id, "\0\0\0\10", 4);
		else
			ear_answer(&rig->ears[rig->n_ears - 1], 200, "yes", true);
		raw_send(&rig->raw, rig->turn, rig->mt);
	}
	assert_int_equal(rig->ears[0].closed, 1);
}

/* RFC 9113 5.1, closed: nothing but PRIORITY, WINDOW_UPDATE and RST_STREAM may follow for a while. */
static void
test_frames_after_the_end(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};

	(void)state;
	for (int by_reset = 0; by_reset <= 1; by_reset++) {
		for (int more = 0; more <= 70; more += 35) {
			ended_stream(by_reset == 1, more);
			raw_frame(&rig->raw, NGHTTP2_DATA, 0, 1, "late", 4);
			ends_with(NGHTTP2_STREAM_CLOSED);
			ended_stream(by_reset == 1, more);
			raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM,
			    1, get, COUNT(get));
			ends_with(NGHTTP2_STREAM_CLOSED);
		}
		ended_stream(by_reset == 1, H2_ENDED); /* longer ago: forgotten */
		raw_frame(&rig->raw, NGHTTP2_DATA, 0, 1, "late", 4);
		raw_send(&rig->raw, rig->turn, rig->mt);
		assert_int_equal(raw_seen(rig->mt).goaways, 0);
		finish();
		ended_stream(by_reset == 1, 1);
		raw_frame(&rig->raw, NGHTTP2_WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4);
		raw_frame(&rig->raw, NGHTTP2_RST_STREAM, 0, 1, "\0\0\0\10", 4);
		raw_frame(&rig->raw, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\20", 5);
		raw_send(&rig->raw, rig->turn, rig->mt);
		assert_int_equal(raw_seen(rig->mt).goaways, 0);
		finish();
	}
}

/* Attack 17, RFC 9113 5.1.1. */
static void
test_stream_ids(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	const uint8_t flags = NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM;
	struct seen_frames seen;

	(void)state;
	start_raw(); /* lower than the last */
	raw_headers(&rig->raw, flags, 5, get, COUNT(get));
	raw_headers(&rig->raw, flags, 3, get, COUNT(get));
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(rig->n_ears, 1);
	assert_int_equal(rig->ears[0].closed, 1);
	ends_with(NGHTTP2_PROTOCOL_ERROR);

	start_raw(); /* even */
	raw_headers(&rig->raw, flags, 2, get, COUNT(get));
	raw_headers(&rig->raw, flags, 4, get, COUNT(get)); /* attack 14: more after the GOAWAY */
	for (int i = 0; i < 7; i++)
		raw_frame(&rig->raw, NGHTTP2_WINDOW_UPDATE, 0, 9, "\0\0\0\0", 4);
	ends_with(NGHTTP2_PROTOCOL_ERROR);

	start_raw(); /* used twice */
	raw_headers(&rig->raw, flags, 1, get, COUNT(get));
	raw_headers(&rig->raw, flags, 1, get, COUNT(get));
	ends_with(NGHTTP2_STREAM_CLOSED);

	start_raw(); /* the last there is: a graceful end */
	raw_headers(&rig->raw, flags, INT32_MAX, get, COUNT(get));
	raw_send(&rig->raw, rig->turn, rig->mt);
	assert_int_equal(rig->n_ears, 1);
	seen = raw_seen(rig->mt);
	assert_int_equal(seen.goaway_code, NGHTTP2_NO_ERROR);
	ear_answer(&rig->ears[0], 200, NULL, true);
	memory_pump_one(rig->turn, rig->mt);
	assert_int_equal(raw_seen(rig->mt).n[NGHTTP2_HEADERS], 1);
	finish();
}

static void
test_too_many_streams(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	struct seen_frames seen;

	(void)state;
	start_raw();
	for (int32_t id = 1; id <= 2 * 101; id += 2)
		raw_headers(&rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, id, get,
		    COUNT(get));
	raw_send(&rig->raw, rig->turn, rig->mt);
	seen = raw_seen(rig->mt);
	assert_int_equal(rig->n_ears, 100);
	assert_int_equal(seen.reset_code, NGHTTP2_REFUSED_STREAM);
	assert_int_equal(seen.goaways, 0);
	finish();
}

static void
test_bad_connections(void **state)
{
	uint8_t entries[33 * 6] = {0};

	(void)state;
	start();
	bytes_text(&rig->raw.out, "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n");
	ends_with(NGHTTP2_PROTOCOL_ERROR);
	start_raw(); /* attack 8 */
	for (size_t i = 0; i < sizeof(entries); i += 6)
		memcpy(entries + i, "\0\3\0\0\0\1", 6);
	raw_frame(&rig->raw, NGHTTP2_SETTINGS, 0, 0, entries, sizeof(entries));
	ends_with(NGHTTP2_ENHANCE_YOUR_CALM);
	start_raw();
	raw_frame(&rig->raw, NGHTTP2_DATA, 0, 0, "x", 1);
	ends_with(NGHTTP2_PROTOCOL_ERROR);
	start_raw();
	raw_frame(&rig->raw, NGHTTP2_PING, 0, 0, "x", 1);
	ends_with(NGHTTP2_FRAME_SIZE_ERROR);
	start_raw();
	raw_frame(&rig->raw, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1,
	    "\xff\xff\xff\xff\xff\xff\xff", 7);
	ends_with(NGHTTP2_COMPRESSION_ERROR);
}

/* The ratio rule: bytes without payload, cheap enough each not to break the budget. */
static void
test_ratio(void **state)
{
	static char junk[16384];
	struct seen_frames seen = {0};

	(void)state;
	if (read_max == 1)
		return; /* ten megabytes */
	start_raw();
	for (int i = 0; i < 700 && !rig->front->conn.closing; i++) {
		raw_frame(&rig->raw, 0x42, 0, 0, junk, sizeof(junk));
		raw_send(&rig->raw, rig->turn, rig->mt);
	}
	seen = raw_seen(rig->mt);
	assert_true(rig->front->conn.closing);
	assert_int_equal(seen.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	finish();
}

/* Half of every frame, then silence, then FIN: attack 15. */
static void
test_half_frames(void **state)
{
	static const uint8_t types[] = {0, 1, 2, 3, 4, 6, 7, 8, 9, 16, 66};

	(void)state;
	for (unsigned i = 0; i < COUNT(types); i++) {
		for (size_t cut = 5; cut < 14; cut += 4) {
			start_raw();
			size_t keep = rig->raw.out.n + cut;

			raw_frame(&rig->raw, types[i], 0, 1, "12345678", 8);
			rig->raw.out.n = keep;
			raw_send(&rig->raw, rig->turn, rig->mt);
			assert_false(turn_end(rig->turn));
			memory_feed_eof(rig->mt);
			memory_pump_one(rig->turn, rig->mt);
			finish();
		}
	}
}

/* --- time ------------------------------------------------------------------------------------------------ */

static void
test_header_timeouts(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	uint8_t block[256];
	size_t n;

	(void)state;
	start_raw(); /* no request at all */
	raw_send(&rig->raw, rig->turn, rig->mt);
	test_advance(rig->turn, 9900);
	assert_false(rig->front->conn.closing);
	test_advance(rig->turn, 200);
	assert_true(rig->front->conn.closing);
	assert_int_equal(raw_seen(rig->mt).goaways, 1);
	finish();

	start_raw(); /* a second header block that never ends */
	raw_headers(
	    &rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, get, COUNT(get));
	raw_send(&rig->raw, rig->turn, rig->mt);
	test_advance(rig->turn, 20000); /* a request under way: no limit of ours */
	n = raw_block(&rig->raw, get, COUNT(get), block, sizeof(block));
	raw_frame(&rig->raw, NGHTTP2_HEADERS, 0, 3, block, n - 1);
	raw_send(&rig->raw, rig->turn, rig->mt);
	for (int i = 0; i < 4; i++) {
		test_advance(rig->turn, 2400);
		raw_frame(&rig->raw, NGHTTP2_CONTINUATION, 0, 3, "\0", 0);
		raw_send(&rig->raw, rig->turn, rig->mt);
	}
	assert_false(rig->front->conn.closing);
	test_advance(rig->turn, 500);
	assert_int_equal(raw_seen(rig->mt).goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_int_equal(rig->ears[0].closed, 1);
	finish();
}

/* Each block has its own time: a client that always has one under way is not late. */
static void
test_blocks_one_after_the_other(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	uint8_t block[256];
	size_t n = 0;

	(void)state;
	start_raw();
	raw_headers(
	    &rig->raw, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, get, COUNT(get));
	for (int32_t id = 3; id < 13; id += 2) {
		if (id > 3)
			raw_frame(&rig->raw, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, id - 2,
			    block + 1, n - 1);
		n = raw_block(&rig->raw, get, COUNT(get), block, sizeof(block));
		raw_frame(&rig->raw, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, id, block, 1);
		raw_send(&rig->raw, rig->turn, rig->mt);
		test_advance(rig->turn, 6000);
		assert_false(rig->front->conn.closing);
	}
	assert_int_equal(rig->n_ears, 5);
	finish();
}

static void
test_idle_timeout(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	struct seen_frames seen;
	int32_t id;

	(void)state;
	start_peer();
	peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	test_advance(rig->turn, 100000);
	ear_answer(&rig->ears[0], 200, NULL, true);
	peer_pump(rig->peer);
	test_advance(rig->turn, 59000);
	id = peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	ear_answer(&rig->ears[1], 200, NULL, true);
	peer_pump(rig->peer);
	assert_true(reply(id)->end);
	test_advance(rig->turn, 59000);
	assert_int_equal(rig->peer->n_goaway, 0);
	test_advance(rig->turn, 1100);
	seen = raw_seen(rig->mt); /* graceful: the notice first */
	assert_int_equal(seen.goaways, 1);
	assert_int_equal(seen.goaway_last, INT32_MAX);
	test_advance(rig->turn, 1100);
	seen = raw_seen(rig->mt);
	assert_int_equal(seen.goaways, 1);
	assert_int_equal(seen.goaway_code, NGHTTP2_NO_ERROR);
	assert_int_equal(seen.goaway_last, id);
	assert_true(rig->mt->shut);
	finish();
}

/* Attack 1: window 0 held, one byte a second. */
static void
test_data_dribble(void **state)
{
	const nghttp2_settings_entry shut[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0}};
	const nghttp2_nv get[] = {PEER_GET};
	int32_t slow, fine;

	(void)state;
	start_peer_with(shut, 1, true);
	slow = peer_request(rig->peer, get, COUNT(get), NULL, false);
	fine = peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	ear_answer(&rig->ears[0], 200, "a long answer that nobody reads", true);
	ear_answer(&rig->ears[1], 200, NULL, false);
	peer_pump(rig->peer);
	for (int i = 0; i < 20 && rig->ears[0].closed == 0; i++) {
		static char some[2049];

		memset(some, 'x', 2048);
		test_advance(rig->turn, 1000);
		nghttp2_submit_window_update(rig->peer->session, 0, slow, 1);
		nghttp2_submit_window_update(rig->peer->session, 0, fine, 2000);
		ear_body(&rig->ears[1], some, false);
		peer_pump(rig->peer);
		assert_true(i >= 8 || rig->ears[0].closed == 0);
	}
	assert_int_equal(rig->ears[0].closed, 1);
	assert_int_equal(rig->ears[0].outcome, OUTCOME_CLIENT_SLOW);
	assert_int_equal(reply(slow)->code, NGHTTP2_CANCEL);
	assert_int_equal(rig->ears[1].closed, 0);
	finish();
}

/* --- drain ---------------------------------------------------------------------------------------------- */

static void
test_drain(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	int32_t id;

	(void)state;
	start_peer();
	peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	front_drain(rig->front);
	front_drain(rig->front);
	id = peer_request(rig->peer, get, COUNT(get), NULL, false); /* crosses the notice */
	peer_pump(rig->peer);
	assert_int_equal(rig->peer->n_goaway, 2); /* the PING was answered */
	assert_int_equal(rig->peer->goaway_last, id);
	assert_int_equal(rig->n_ears, 2);
	ear_answer(&rig->ears[0], 200, "a", true);
	peer_pump(rig->peer);
	assert_false(rig->mt->shut);
	ear_answer(&rig->ears[1], 200, "b", true);
	peer_pump(rig->peer);
	assert_string_equal(reply(id)->body.p, "b");
	assert_true(rig->mt->shut);
	finish();

	start_raw(); /* a client that does not answer PINGs: one second */
	raw_send(&rig->raw, rig->turn, rig->mt);
	front_drain(rig->front);
	turn_end(rig->turn);
	assert_int_equal(raw_seen(rig->mt).goaway_last, INT32_MAX);
	test_advance(rig->turn, 1100);
	assert_int_equal(raw_seen(rig->mt).goaway_last, 0);
	assert_true(rig->mt->shut);
	finish();
}

static void
test_client_goaway(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};
	int32_t id;

	(void)state;
	start_peer();
	id = peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	nghttp2_submit_goaway(rig->peer->session, 0, 0, NGHTTP2_NO_ERROR, NULL, 0);
	peer_pump(rig->peer);
	assert_int_equal(rig->ears[0].closed, 0);
	ear_answer(&rig->ears[0], 200, "still", true);
	peer_pump(rig->peer);
	assert_string_equal(reply(id)->body.p, "still");
	assert_true(rig->mt->shut);
	finish();
}

/* The owner closes the connection under a running request. */
static void
test_closed_by_owner(void **state)
{
	const nghttp2_nv get[] = {PEER_GET};

	(void)state;
	start_peer();
	peer_request(rig->peer, get, COUNT(get), NULL, false);
	peer_pump(rig->peer);
	conn_close(&rig->front->conn, true);
	turn_end(rig->turn);
	assert_int_equal(rig->ears[0].closed, 1);
	finish();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_get),
	    cmocka_unit_test(test_upload_and_trailers),
	    cmocka_unit_test(test_interim_head_and_empty),
	    cmocka_unit_test(test_big_answer),
	    cmocka_unit_test(test_upload_window),
	    cmocka_unit_test(test_connection_window_does_not_leak),
	    cmocka_unit_test(test_many_streams),
	    cmocka_unit_test(test_websocket),
	    cmocka_unit_test(test_early_response),
	    cmocka_unit_test(test_early_response_and_more),
	    cmocka_unit_test(test_early_head_waits),
	    cmocka_unit_test(test_reset_ok_keeps_the_answer),
	    cmocka_unit_test(test_reset_codes),
	    cmocka_unit_test(test_client_resets_and_leaves),
	    cmocka_unit_test(test_transport_breaks),
	    cmocka_unit_test(test_end_inside_event),
	    cmocka_unit_test(test_bad_answers),
	    cmocka_unit_test(test_refused_by_teal),
	    cmocka_unit_test(test_allowed),
	    cmocka_unit_test(test_malformed_heads),
	    cmocka_unit_test(test_malformed_bodies),
	    cmocka_unit_test(test_header_limits),
	    cmocka_unit_test(test_hpack_bomb),
	    cmocka_unit_test(test_floods),
	    cmocka_unit_test(test_rapid_reset),
	    cmocka_unit_test(test_flood_unread),
	    cmocka_unit_test(test_budget_warns),
	    cmocka_unit_test(test_honest_control_frames),
	    cmocka_unit_test(test_continuation_floods),
	    cmocka_unit_test(test_continuation),
	    cmocka_unit_test(test_frames_after_the_end),
	    cmocka_unit_test(test_stream_ids),
	    cmocka_unit_test(test_too_many_streams),
	    cmocka_unit_test(test_bad_connections),
	    cmocka_unit_test(test_ratio),
	    cmocka_unit_test(test_half_frames),
	    cmocka_unit_test(test_header_timeouts),
	    cmocka_unit_test(test_idle_timeout),
	    cmocka_unit_test(test_data_dribble),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_client_goaway),
	    cmocka_unit_test(test_connection_window_after_client_reset),
	    cmocka_unit_test(test_output_is_bounded),
	    cmocka_unit_test(test_pings_wait_for_output),
	    cmocka_unit_test(test_refused_body_and_large_trailers),
	    cmocka_unit_test(test_blocks_one_after_the_other),
	    cmocka_unit_test(test_closed_by_owner),
	};
	int failed = cmocka_run_group_tests_name("front_h2", tests, NULL, NULL);

	read_max = 1;
	return failed +
	       cmocka_run_group_tests_name("front_h2, a byte at a time", tests, NULL, NULL);
}
