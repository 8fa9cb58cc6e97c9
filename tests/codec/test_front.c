/* Which codec a client's connection gets, how long it may take to say so, its budget; and what a
 * back connection does whatever its protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proxy/base/obj.h"
#include "proxy/codec/back_conn.h"
#include "proxy/codec/front.h"
#include "tests/codec/memory_transport.h"

#define PREFACE  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define GET      "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

static struct turn *turn;
static struct memory_transport *mt;
static struct front_conn front;
static struct front_limits limits;
static struct front_timeouts timeouts;
static unsigned n_requests, n_refused, n_gone, n_freed;

static void
closed(void *user, enum outcome why)
{
	(void)user;
	(void)why;
}

static const struct stream_events events = {.closed = closed};

static void
answer(struct stream *s, unsigned status)
{
	struct head head = {.status = status, .content_length = 0};

	s->events = &events;
	stream_send_head(s, &head, true);
}

static void
on_request(struct front_conn *f, struct stream *s, struct head *head, bool end)
{
	(void)f;
	assert_true(end);
	assert_memory_equal(head->path.p, "/", 1);
	n_requests++;
	answer(s, 200);
}

static void
on_refused(struct front_conn *f, struct stream *s, struct head *head, enum outcome why)
{
	(void)f;
	(void)head;
	n_refused++;
	answer(s, outcome_row(why)->status);
}

static void
on_gone(struct front_conn *f)
{
	assert_ptr_equal(f, &front);
	assert_int_equal(n_freed, 0);
	n_gone++;
}

static const struct front_handler handler = {on_request, on_refused, on_gone};

static void
freed(struct conn *c)
{
	(void)c;
	n_freed++;
}

static void
begin(bool tls, bool alpn_h2)
{
	mt->transport.tls = tls;
	mt->transport.alpn_h2 = alpn_h2;
	front_init(&front, turn, &mt->transport, &handler, &limits, &timeouts, freed);
	front_begin(&front);
}

static void
pump(void)
{
	memory_pump_one(turn, mt);
}

static int
setup(void **state)
{
	(void)state;
	turn = test_turn_new();
	mt = memory_transport_new();
	memset(&front, 0, sizeof front);
	limits = (struct front_limits){.streams = 10,
	    .header_bytes = 8192,
	    .header_count = 50,
	    .request_line = 1024,
	    .queued_bytes = 65536,
	    .glitches = 100,
	    .glitches_per_second = 10};
	timeouts = (struct front_timeouts){.header_ms = 1000,
	    .send_ms = 30000,
	    .idle_ms = 5000,
	    .tls_handshake_ms = 300,
	    .drain_ms = 5000};
	n_requests = n_refused = n_gone = n_freed = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	if (front.magic == FRONT_MAGIC) {
		conn_close(&front.conn, true);
		(void)turn_end(turn);
	}
	assert_int_equal(n_gone, n_freed);
	memory_transport_free(mt);
	test_turn_free(turn);
	return 0;
}

static bool
wrote(const char *text)
{
	return strncmp(mt->written, text, strlen(text)) == 0;
}

/* The first frame of a server is SETTINGS (RFC 9113 3.4). */
static bool
wrote_settings(void)
{
	return mt->n_written > 9 && mt->written[3] == 4 && mt->written[4] == 0;
}

static void
http1_in_clear_text(void **state)
{
	(void)state;
	begin(false, false);
	memory_feed_text(mt, GET);
	pump();
	assert_int_equal(n_requests, 1);
	assert_false(front.h2);
	assert_true(wrote("HTTP/1.1 200"));
}

static void
http2_by_preface(void **state)
{
	(void)state;
	begin(false, false);
	memory_feed_text(mt, PREFACE);
	memory_feed(mt, SETTINGS, 9);
	pump();
	assert_true(front.h2);
	assert_true(wrote_settings());
	assert_false(front.conn.dead);
}

static void
byte_by_byte(void **state)
{
	(void)state;
	memory_set_read_max(mt, 1);
	http2_by_preface(state);
}

static void
http1_byte_by_byte(void **state)
{
	(void)state;
	memory_set_read_max(mt, 1);
	http1_in_clear_text(state);
}

/* A method may begin like the preface. */
static void
almost_a_preface_is_http1(void **state)
{
	(void)state;
	begin(false, false);
	memory_feed_text(mt, "PR");
	pump();
	assert_false(front.h2);
	assert_int_equal(mt->n_written, 0);
	memory_feed_text(mt, "INT / HTTP/1.1\r\nHost: a.test\r\n\r\n");
	pump();
	assert_false(front.h2);
	assert_int_equal(n_requests + n_refused, 1);
	assert_true(wrote("HTTP/1.1 "));
}

static void
damaged_preface_is_refused(void **state)
{
	(void)state;
	begin(false, false);
	memory_feed_text(mt, "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX");
	pump();
	assert_false(front.h2);
	assert_int_equal(n_requests, 0);
	assert_true(wrote("HTTP/1.1 4") || wrote("HTTP/1.1 5"));
}

static void
alpn_decides_with_tls(void **state)
{
	(void)state;
	begin(true, true);
	memory_feed_text(mt, PREFACE);
	memory_feed(mt, SETTINGS, 9);
	pump();
	assert_true(front.h2);
	assert_true(wrote_settings());
}

static void
no_preface_without_alpn(void **state)
{
	(void)state;
	begin(true, false);
	memory_feed_text(mt, PREFACE);
	pump();
	assert_false(front.h2);
	assert_int_equal(n_requests, 0);
	assert_true(wrote("HTTP/1.1 4") || wrote("HTTP/1.1 5"));
}

static void
handshake_has_its_time(void **state)
{
	(void)state;
	mt->connects = false;
	begin(true, false);
	test_advance(turn, 250);
	assert_int_equal(n_gone, 0);
	test_advance(turn, 150);
	assert_int_equal(n_gone, 1);
	assert_true(mt->closed);
	assert_int_equal(mt->n_written, 0);
}

static void
first_bytes_have_their_time(void **state)
{
	(void)state;
	begin(false, false);
	memory_feed_text(mt, "PRI * HT");
	pump();
	test_advance(turn, 900);
	assert_int_equal(n_gone, 0);
	test_advance(turn, 200);
	assert_int_equal(n_gone, 1);
	assert_int_equal(n_freed, 1);
}

static void
ends_before_it_said_anything(void **state)
{
	(void)state;
	begin(false, false);
	memory_feed_text(mt, "PRI *");
	memory_feed_eof(mt);
	pump();
	assert_int_equal(n_gone, 1);
	assert_int_equal(n_requests + n_refused, 0);
}

static void
draining_still_answers_who_just_came(void **state)
{
	(void)state;
	begin(false, false);
	pump();
	front_drain(&front);
	pump();
	assert_int_equal(n_gone, 0);
	memory_feed_text(mt, GET);
	pump();
	assert_int_equal(n_requests, 1);
	assert_true(wrote("HTTP/1.1 200"));
	assert_true(mt->shut || mt->closed); /* its first answer was its last */
}

static void
draining_http2_says_goaway(void **state)
{
	(void)state;
	begin(false, false);
	pump();
	front_drain(&front);
	memory_feed_text(mt, PREFACE);
	memory_feed(mt, SETTINGS, 9);
	pump();
	bool goaway = false;

	for (size_t at = 0; at + 9 <= mt->n_written;) {
		const unsigned char *frame = (const unsigned char *)mt->written + at;

		goaway = goaway || frame[3] == 7;
		at += 9 + ((size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2]);
	}
	assert_true(goaway);
}

static void
useless_work_has_a_budget(void **state)
{
	bool graceful = false;

	(void)state;
	begin(false, false);
	assert_true(front_glitch(&front, 74, &graceful));
	assert_false(graceful);
	assert_true(front_glitch(&front, 1, &graceful)); /* three quarters */
	assert_true(graceful);
	assert_true(front_glitch(&front, 25, &graceful)); /* all of it */
	assert_false(front_glitch(&front, 1, &graceful)); /* one too many */
	test_advance(turn, 60000); /* the connection is gone by now, the budget is plain data */
	graceful = false;
	assert_true(front_glitch(&front, 74, &graceful));
	assert_false(graceful);
}

/* --- back connections -------------------------------------------------------------- */

static struct back_conn back;
static unsigned n_connected, n_retired, n_back_gone;

static void
back_connected(struct back_conn *b)
{
	(void)b;
	n_connected++;
}

static void
back_available(struct back_conn *b)
{
	(void)b;
}

static void
back_retired(struct back_conn *b)
{
	assert_true(b->retired);
	n_retired++;
}

static void
back_gone(struct back_conn *b)
{
	assert_int_equal(b->magic, BACK_MAGIC);
	assert_int_equal(n_freed, 0);
	n_back_gone++;
}

static const struct back_owner owner = {back_connected, back_available, back_retired, back_gone};

static void
begin_back(enum back_protocol protocol)
{
	memset(&back, 0, sizeof back);
	memset(&front, 0, sizeof front);
	n_connected = n_retired = n_back_gone = 0;
	back_init(&back, turn, &mt->transport, protocol, &owner, freed);
	back.max_streams = protocol == BACK_H2 ? 10 : 1;
	back.header_bytes = 8192;
	back.header_count = 50;
	back_begin(&back);
}

static void
idle_back_retires_at_once(enum back_protocol protocol)
{
	begin_back(protocol);
	assert_int_equal(back_slots(&back), protocol == BACK_H2 ? 10 : 1);
	pump();
	assert_int_equal(n_connected, 1);
	back_retire(&back);
	assert_int_equal(n_retired, 1);
	assert_int_equal(back_slots(&back), 0);
	back_retire(&back);
	assert_int_equal(n_retired, 1);
	pump();
	assert_int_equal(n_back_gone, 1);
	assert_int_equal(n_freed, 1);
	assert_true(mt->closed);
	n_gone = n_freed;
}

static void
idle_http1_back_retires_at_once(void **state)
{
	(void)state;
	idle_back_retires_at_once(BACK_H1);
}

static void
idle_http2_back_retires_at_once(void **state)
{
	(void)state;
	idle_back_retires_at_once(BACK_H2);
}

static void
lost_back_is_gone_once(void **state)
{
	(void)state;
	begin_back(BACK_H1);
	conn_lost(&back.conn, OUTCOME_CONNECT_REFUSED);
	pump();
	assert_int_equal(n_connected, 0);
	assert_int_equal(n_back_gone, 1);
	n_gone = n_freed;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(http1_in_clear_text),
	    TEST(http2_by_preface),
	    TEST(byte_by_byte),
	    TEST(http1_byte_by_byte),
	    TEST(almost_a_preface_is_http1),
	    TEST(damaged_preface_is_refused),
	    TEST(alpn_decides_with_tls),
	    TEST(no_preface_without_alpn),
	    TEST(handshake_has_its_time),
	    TEST(first_bytes_have_their_time),
	    TEST(ends_before_it_said_anything),
	    TEST(draining_still_answers_who_just_came),
	    TEST(draining_http2_says_goaway),
	    TEST(useless_work_has_a_budget),
	    TEST(idle_http1_back_retires_at_once),
	    TEST(idle_http2_back_retires_at_once),
	    TEST(lost_back_is_gone_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
