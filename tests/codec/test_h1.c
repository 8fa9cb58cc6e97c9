/*
 * teal's own rules for HTTP/1.1 heads, without llhttp in front of them: what one reading refuses the other
 * refuses too, and neither leans on the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/codec/h1.h"
#include "proxy/codec/h1_grammar.h"

/* --- scanning --------------------------------------------------------------------- */

static const struct {
	const char *in;
	enum h1_found found;
	size_t first_line;
	unsigned lines;
} scans[] = {
    {"GET / HTTP/1.1\r\n\r\n", H1_WHOLE, 14, 1},
    {"a\r\nb\r\nc\r\n\r\n", H1_WHOLE, 1, 3},
    {"a\r\nb\r\n\r", H1_MORE, 1, 2},
    {"", H1_MORE, 0, 0},
    {"a", H1_MORE, 0, 0},
    {"a\nb", H1_BAD, 0, 0},
    {"\n", H1_BAD, 0, 0},
    {"\r\n\r\n", H1_BAD, 0, 0},
    {"a\r\n\n", H1_BAD, 1, 1},
    {"a\r\nb\n\r\n", H1_BAD, 1, 1},
    {"a\r\n b\r\n\r\n", H1_BAD, 1, 1},
    {"a\r\nb\r\n\tc\r\n\r\n", H1_BAD, 1, 2},
    {"aaaaaaaaaaaaaaaaaaaa\r\n", H1_MORE, 20, 1},
    {"aaaaaaaaaaaaaaaaaaaaa\r\n", H1_LINE_TOO_LONG, 21, 0},
    {"aaaaaaaaaaaaaaaaaaaaaa", H1_LINE_TOO_LONG, 0, 0},
    {"a\r\nbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", H1_MORE, 1, 1},
    {"a\r\nbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", H1_TOO_LARGE, 1, 1},
};

static void
test_scan(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scans) / sizeof(scans[0]); i++) {
		const unsigned char *p = (const unsigned char *)scans[i].in;
		size_t length = strlen(scans[i].in);

		for (size_t part = 1; part <= length + 1; part++) {
			struct h1_scan s = {0};
			enum h1_found found = H1_MORE;

			for (size_t n = 0; n < length && found == H1_MORE;) {
				n = n + part < length ? n + part : length;
				found = h1_scan(&s, p, n, 20, 40);
			}
			if (found != scans[i].found)
				print_message("\"%s\" by %zu\n", scans[i].in, part);
			assert_int_equal(found, scans[i].found);
			if (found == H1_WHOLE)
				assert_int_equal(s.at, length);
			if (found == H1_MORE || found == H1_WHOLE) {
				assert_int_equal(s.first_line, scans[i].first_line);
				assert_int_equal(s.lines, scans[i].lines);
			}
		}
	}
}

/* --- sorting ------------------------------------------------------------------------ */

static const struct {
	const char *fields; /* "name=value|name=value" */
	unsigned minor;
	enum outcome why;
	const char *kept;
} sorts[] = {
    {"content-length=5", 1, OUTCOME_OK, ""},
    {"content-length=5|content-length=5", 1, OUTCOME_BAD_REQUEST, ""},
    {"content-length=5|content-length=6", 1, OUTCOME_BAD_REQUEST, ""},
    {"content-length=", 1, OUTCOME_BAD_REQUEST, ""},
    {"content-length=+5", 1, OUTCOME_BAD_REQUEST, ""},
    {"content-length=5, 5", 1, OUTCOME_BAD_REQUEST, ""},
    {"transfer-encoding=chunked", 1, OUTCOME_OK, ""},
    {"transfer-encoding=CHUNKED", 1, OUTCOME_OK, ""},
    {"transfer-encoding=chunked", 0, OUTCOME_BAD_REQUEST, ""},
    {"transfer-encoding=chunked|transfer-encoding=chunked", 1, OUTCOME_BAD_REQUEST, ""},
    {"transfer-encoding=chunked|transfer-encoding=gzip", 1, OUTCOME_BAD_REQUEST, ""},
    {"transfer-encoding=gzip", 1, OUTCOME_NOT_IMPLEMENTED, ""},
    {"transfer-encoding=gzip, chunked", 1, OUTCOME_BAD_REQUEST, ""},
    {"transfer-encoding=chunked|content-length=5", 1, OUTCOME_BAD_REQUEST, ""},
    {"content-length=5|transfer-encoding=chunked", 1, OUTCOME_BAD_REQUEST, ""},
    {"connection=x-a, x-b|x-a=1|x-c=2|x-b=3", 1, OUTCOME_OK, "x-c"},
    {"connection=X-A|connection=x-b|x-a=1|x-c=2|x-b=3", 1, OUTCOME_OK, "x-c"},
    {"connection=host", 1, OUTCOME_BAD_REQUEST, ""},
    {"connection=Content-Length|content-length=5", 1, OUTCOME_BAD_REQUEST, ""},
    {"connection=transfer-encoding", 1, OUTCOME_BAD_REQUEST, ""},
    {"connection=cookie, authorization|cookie=1|authorization=2", 1, OUTCOME_OK,
	"cookie,authorization"},
    {"connection=connection, close|x=1", 1, OUTCOME_OK, "x"},
    {"connection=a b", 1, OUTCOME_BAD_REQUEST, ""},
    {"te=trailers|keep-alive=1|upgrade=h2c|http2-settings=A|proxy-connection=x|trailer=x", 1,
	OUTCOME_OK, "trailer"},
    {"expect=100-continue|sec-websocket-key=1|sec-websocket-accept=2|host=h", 1, OUTCOME_OK, ""},
};

static void
fill(struct fields *list, struct arena *arena, const char *text)
{
	while (*text != '\0') {
		size_t name = strcspn(text, "="), value = strcspn(text + name + 1, "|");

		fields_add(list, arena, field_lookup(text, name), (struct text){text, name},
		    (struct text){text + name + 1, value});
		text += name + 1 + value;
		text += *text == '|';
	}
}

static void
test_sort(void **state)
{
	struct chunk_pool *pool = chunk_pool_new(4);

	(void)state;
	for (size_t i = 0; i < sizeof(sorts) / sizeof(sorts[0]); i++) {
		struct h1_head h = {.content_length = HEAD_LENGTH_NONE, .minor = sorts[i].minor};
		struct arena arena;
		char kept[256] = "";
		size_t bytes = 0;
		enum outcome why;

		arena_init(&arena, pool);
		fill(&h.fields, &arena, sorts[i].fields);
		why = h1_sort_fields(&h);
		for (unsigned f = 0; f < h.fields.n; f++) {
			if (f > 0)
				strcat(kept, ",");
			strncat(kept, h.fields.items[f].name.p, h.fields.items[f].name.n);
			bytes += h.fields.items[f].name.n + h.fields.items[f].value.n + 32;
		}
		if (why != sorts[i].why || strcmp(kept, sorts[i].kept) != 0)
			print_message("\"%s\"\n", sorts[i].fields);
		assert_int_equal(why, sorts[i].why);
		assert_string_equal(kept, sorts[i].kept);
		assert_int_equal(h.fields.bytes, bytes);
		arena_fini(&arena);
	}
	chunk_pool_free(pool);
}

static void
test_sort_takes_out(void **state)
{
	struct chunk_pool *pool = chunk_pool_new(4);
	struct h1_head h = {.content_length = HEAD_LENGTH_NONE, .minor = 1};
	struct arena arena;

	(void)state;
	arena_init(&arena, pool);
	fill(&h.fields, &arena,
	    "connection=Close, keep-alive ,UPGRADE|upgrade=h2c, "
	    "WebSocket|host=h|content-length=7|expect=x|"
	    "sec-websocket-key=k|sec-websocket-accept=a|sec-websocket-accept=b");
	assert_int_equal(h1_sort_fields(&h), OUTCOME_OK);
	assert_true(h.close && h.keep_alive && h.upgrade && h.websocket);
	assert_true(h.expect_other && !h.expect_continue && !h.chunked);
	assert_int_equal(h.content_length, 7);
	assert_int_equal(h.n_hosts, 1);
	assert_true(text_is(h.host, "h"));
	assert_true(text_is(h.websocket_key, "k"));
	assert_true(text_is(h.websocket_accept, "-")); /* two are none */
	arena_fini(&arena);
	chunk_pool_free(pool);
}

/* --- llhttp's reading ------------------------------------------------------------------ */

struct seen {
	char text[256];
	unsigned stop_after;
};

static bool
see(void *user, const char *name, size_t name_n, const char *value, size_t value_n)
{
	struct seen *s = user;

	strncat(s->text, name, name_n);
	strcat(s->text, "=");
	strncat(s->text, value, value_n);
	strcat(s->text, "|");
	return s->stop_after == 0 || --s->stop_after > 0;
}

static void
test_grammar(void **state)
{
	static const char head[] =
	    "GET / HTTP/1.1\r\nA: b\r\nEmpty:\r\nConnection: x\r\nContent-Length: 5\r\n\r\n";
	static const char answer[] = "HTTP/1.1 101 x\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n";
	struct seen s = {.text = ""};

	(void)state;
	assert_int_equal(h1_grammar(true, head, sizeof(head) - 1, see, &s), H1_GRAMMAR_OK);
	assert_string_equal(s.text, "A=b|Empty=|Connection=x|Content-Length=5|");
	s = (struct seen){.stop_after = 2};
	assert_int_equal(h1_grammar(true, head, sizeof(head) - 1, see, &s), H1_GRAMMAR_STOPPED);
	assert_string_equal(s.text, "A=b|Empty=|");
	s = (struct seen){.text = ""};
	assert_int_equal(
	    h1_grammar(true, head, sizeof(head) - 3, see, &s), H1_GRAMMAR_BAD); /* cut */
	assert_int_equal(
	    h1_grammar(true, "FOO / HTTP/1.1\r\n\r\n", 18, see, &s), H1_GRAMMAR_METHOD);
	s = (struct seen){.text = ""};
	assert_int_equal(h1_grammar(false, answer, sizeof(answer) - 1, see, &s), H1_GRAMMAR_OK);
	assert_string_equal(s.text, "Upgrade=a|Connection=upgrade|");
}

/* --- writing -------------------------------------------------------------------------------- */

static void
test_date(void **state)
{
	(void)state;
	assert_string_equal(
	    h1_date(784111777999), "Sun, 06 Nov 1994 08:49:37 GMT"); /* RFC 9110 5.6.7 */
	assert_string_equal(h1_date(784111778000), "Sun, 06 Nov 1994 08:49:38 GMT");
	assert_string_equal(h1_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
}

static void
test_numbers(void **state)
{
	static const struct {
		uint64_t n;
		unsigned base;
		const char *text;
	} rows[] = {{0, 10, "0"}, {7, 10, "7"}, {1234567890, 10, "1234567890"},
	    {UINT64_MAX, 10, "18446744073709551615"}, {0, 16, "0"}, {255, 16, "ff"},
	    {UINT64_MAX, 16, "ffffffffffffffff"}};
	struct chunk_pool *pool = chunk_pool_new(4);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct h1_writer w;
		struct iovec v;
		struct buf b;

		buf_init(&b, pool);
		h1_write_begin(&w, &b, 0);
		h1_write_number(&w, rows[i].n, rows[i].base);
		assert_int_equal(h1_write_end(&w), strlen(rows[i].text));
		assert_int_equal(buf_iov(&b, &v, 1), 1);
		assert_int_equal(v.iov_len, strlen(rows[i].text));
		assert_memory_equal(v.iov_base, rows[i].text, v.iov_len);
		buf_fini(&b);
	}
	chunk_pool_free(pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_scan),
	    cmocka_unit_test(test_sort),
	    cmocka_unit_test(test_sort_takes_out),
	    cmocka_unit_test(test_grammar),
	    cmocka_unit_test(test_date),
	    cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
