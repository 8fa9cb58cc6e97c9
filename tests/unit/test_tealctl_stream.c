/*
 * Server-sent events, cut at every byte.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "proxy/tealctl/stream.c" /* no part of the library the tests link */

static char heard[8192];

static void
hear(void *arg, const char *id, const char *type, const char *data)
{
	size_t n = strlen(heard);

	(void)arg;
	(void)snprintf(heard + n, sizeof(heard) - n, "[%s|%s|%s]", id, type, data);
}

/* All of it at once, then in pieces of every size. */
static void
hears(const char *text, int want, const char *events)
{
	size_t n = strlen(text);

	for (size_t piece = 1; piece <= n; piece++) {
		struct stream s;
		int rc = 0;

		heard[0] = '\0';
		stream_begin(&s, hear, NULL);
		for (size_t i = 0; i < n && rc == 0; i += piece) {
			size_t some = n - i < piece ? n - i : piece;
			char *copy = malloc(some); /* nothing is read beyond */

			assert_non_null(copy);
			memcpy(copy, text + i, some);
			rc = stream_feed(&s, copy, some);
			free(copy);
		}
		if (rc != want)
			fail_msg("pieces of %zu: %d, not %d", piece, rc, want);
		assert_string_equal(heard, events);
		stream_fini(&s);
	}
}

static void
plain(void **state)
{
	(void)state;
	hears("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	      ": a comment\n\nid: 7\nevent: step\ndata: {\"a\": 1}\n\n"
	      "data:one\r\ndata: two\r\n\r\nevent: nothing\n\nretry: 5\nid\ndata\n\ndata: cut",
	    0, "[7|step|{\"a\": 1}][7||one\ntwo][||]");
}

static void
chunks(void **state)
{
	(void)state;
	hears("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
	      "A\r\nid: 1\ndata\r\n6;x=y\r\n: a\n\nd\r\n7\r\nata: b\n\r\n1\r\n\n\r\n0\r\n\r\n",
	    1, "[1||a][1||b]");
}

static void
no_streams(void **state)
{
	struct stream s;

	(void)state;
	hears("SSH-2.0-OpenSSH_9\r\n\r\n", -1, "");
	hears("HTTP/1.1 abc\r\n\r\n", -1, "");
	hears("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", -1, "");
	hears("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", -1, "");
	hears("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", -1, "");
	hears("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX", -1, "");
	hears("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
	      "chunked\r\n\r\n1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	    -1, "");
	stream_begin(&s, hear, NULL);
	assert_int_equal(stream_feed(&s, "HTTP/1.1 503 No\r\n\r\n{", 20), 1);
	assert_int_equal(s.status, 503);
	stream_fini(&s);
}

static void
bounded(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\n\r\ndata: ";
	static char block[65536];
	struct stream s;
	int rc = 0;

	(void)state;
	memset(block, 'a', sizeof(block));
	stream_begin(&s, hear, NULL);
	assert_int_equal(stream_feed(&s, head, sizeof(head) - 1), 0);
	for (int i = 0; i < 1000 && rc == 0; i++)
		rc = stream_feed(&s, block, sizeof(block));
	assert_int_equal(rc, -1);
	stream_fini(&s);
	/* a head that never ends */
	stream_begin(&s, hear, NULL);
	for (int i = 0; i < 1000 && rc != 1; i++)
		if ((rc = stream_feed(&s, block, sizeof(block))) < 0)
			break;
	assert_int_equal(rc, -1);
	stream_fini(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(plain),
	    cmocka_unit_test(chunks),
	    cmocka_unit_test(no_streams),
	    cmocka_unit_test(bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
