/*
 * HTTP semantics: the name table, lists, and the grammar with both sides of each boundary.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/message/http.h"

static void
test_names(void **state)
{
	(void)state;
	for (unsigned id = F_OTHER + 1; id < N_FIELD_IDS; id++) {
		const struct field_row *row = &field_table[id];
		char other[64];

		assert_int_equal(row->n, strlen(row->name));
		assert_int_equal(field_lookup(row->name, row->n), id);
		/* neighbours are nobody */
		assert_int_equal(field_lookup(row->name, row->n - 1u), F_OTHER);
		memcpy(other, row->name, row->n);
		other[row->n] = 'x';
		assert_int_equal(field_lookup(other, row->n + 1u), F_OTHER);
		other[0] = '!';
		assert_int_equal(field_lookup(other, row->n), F_OTHER);
	}
	assert_int_equal(field_lookup("", 0), F_OTHER);
	assert_int_equal(field_lookup("Host", 4), F_OTHER); /* lower case is the caller's duty */
	assert_true(field_table[F_CONNECTION].flags & FIELD_HOP);
	assert_true(field_table[F_HOST].flags & FIELD_FRAMING);
	assert_true(field_table[F_COOKIE].flags & FIELD_NO_TRAILER);
	assert_int_equal(field_table[F_OTHER].flags, 0);
}

static void
test_text(void **state)
{
	(void)state;
	assert_true(text_is(TEXT("abc"), "abc"));
	assert_false(text_is(TEXT("abc"), "abcd"));
	assert_false(text_is(TEXT("Abc"), "abc"));
	assert_true(text_is((struct text){NULL, 0}, ""));
	assert_true(text_is_nocase(TEXT("ABC"), "abc"));
	assert_false(text_is_nocase(TEXT("AB"), "abc"));
}

static void
test_fields(void **state)
{
	struct chunk_pool *pool = chunk_pool_new(4);
	struct fields list = {0};
	struct arena arena;
	char name[8];

	(void)state;
	arena_init(&arena, pool);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "x-%d", i);
		fields_add(&list, &arena, i == 50 ? F_HOST : F_OTHER,
		    (struct text){arena_copy(&arena, name, strlen(name)), strlen(name)}, TEXT("v"));
	}
	assert_int_equal(list.n, 100);
	assert_int_equal(list.bytes, 10 * 3 + 90 * 4 + 100 * 33);
	assert_ptr_equal(fields_find(&list, F_HOST), &list.items[50]);
	assert_null(fields_find(&list, F_COOKIE));
	assert_ptr_equal(fields_find_name(&list, "x-99", 4), &list.items[99]);
	assert_null(fields_find_name(&list, "x-100", 5));
	fields_remove(&list, 0);
	assert_int_equal(list.n, 99);
	assert_int_equal(list.bytes, 9 * 3 + 90 * 4 + 99 * 33);
	assert_true(text_is(list.items[0].name, "x-1"));
	assert_true(text_is(list.items[98].name, "x-99"));
	fields_remove(&list, 98);
	assert_true(text_is(list.items[97].name, "x-98"));
	arena_fini(&arena);
	chunk_pool_free(pool);
}

static void
test_methods(void **state)
{
	static const struct {
		const char *word;
		enum method method;
		bool idempotent;
	} rows[] = {
	    {"GET", METHOD_GET, true},
	    {"HEAD", METHOD_HEAD, true},
	    {"POST", METHOD_POST, false},
	    {"PUT", METHOD_PUT, true},
	    {"DELETE", METHOD_DELETE, true},
	    {"OPTIONS", METHOD_OPTIONS, true},
	    {"PATCH", METHOD_PATCH, false},
	    {"TRACE", METHOD_TRACE, true},
	    {"CONNECT", METHOD_CONNECT, false},
	    {"get", METHOD_OTHER, false},
	    {"GETX", METHOD_OTHER, false},
	    {"", METHOD_OTHER, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(method_lookup(rows[i].word, strlen(rows[i].word)), rows[i].method);
		assert_int_equal(method_idempotent(rows[i].method), rows[i].idempotent);
	}
}

struct row {
	const char *text;
	bool valid;
};

static void
check(const struct row *rows, size_t n, bool (*valid)(const char *, size_t))
{
	for (size_t i = 0; i < n; i++) {
		/* at the end of its memory: reading on is seen by the sanitizer */
		size_t length = strlen(rows[i].text);
		char *copy = malloc(length + (length == 0));

		assert_non_null(copy);
		memcpy(copy, rows[i].text, length);
		if (valid(copy, length) != rows[i].valid)
			print_message("\"%s\"\n", rows[i].text);
		assert_int_equal(valid(copy, length), rows[i].valid);
		free(copy);
	}
}

static void
test_tokens(void **state)
{
	static const struct row rows[] = {
	    {"GET", true},
	    {"!#$%&'*+-.^_`|~09azAZ", true},
	    {"", false},
	    {"a b", false},
	    {"a:", false},
	    {"a\t", false},
	    {"a(", false},
	    {"a)", false},
	    {"a<", false},
	    {"a>", false},
	    {"a@", false},
	    {"a,", false},
	    {"a;", false},
	    {"a\\", false},
	    {"a\"", false},
	    {"a/", false},
	    {"a[", false},
	    {"a]", false},
	    {"a?", false},
	    {"a=", false},
	    {"a{", false},
	    {"a}", false},
	    {"a\x7f", false},
	    {"a\x80", false},
	    {"\xff", false},
	    {"a\r", false},
	};

	(void)state;
	check(rows, sizeof(rows) / sizeof(rows[0]), token_valid);
	assert_false(token_valid("a\0b", 3));
}

static void
test_values(void **state)
{
	static const struct row rows[] = {
	    {"", true},
	    {"a", true},
	    {"a b\tc", true},
	    {"\x80\xff", true},
	    {" a", false},
	    {"a ", false},
	    {"\ta", false},
	    {"a\t", false},
	    {" ", false},
	    {"a\rb", false},
	    {"a\nb", false},
	};
	char value[40];

	(void)state;
	check(rows, sizeof(rows) / sizeof(rows[0]), field_value_valid);
	/* every byte at every place of the words it is checked by */
	for (size_t n = 3; n <= 33; n++) {
		for (size_t at = 1; at < n - 1; at++) {
			for (unsigned c = 0; c < 256; c++) {
				bool valid = c == '\t' || (c >= 0x20 && c != 0x7f);

				memset(value, 'v', sizeof(value));
				value[at] = (char)c;
				assert_int_equal(field_value_valid(value, n), valid);
			}
		}
	}
}

static void
test_paths(void **state)
{
	static const struct row rows[] = {
	    {"/", true},
	    {"*", true},
	    {"/a?b=c&d", true},
	    {"//evil", true},
	    {"/%2e%2e/%00", true},
	    {"/{a}|\"<>^`", true},
	    {"", false},
	    {"a", false},
	    {"**", false},
	    {"*/", false},
	    {"/a b", false},
	    {"/a#b", false},
	    {"/a\\b", false},
	    {"/\x7f", false},
	    {"/\x80", false},
	    {"/\r\n", false},
	    {"/\t", false},
	    {"http://h/", false},
	    {"?a", false},
	};

	(void)state;
	check(rows, sizeof(rows) / sizeof(rows[0]), path_valid);
	assert_false(path_valid("/\0", 2));
}

static void
test_authorities(void **state)
{
	static const struct row rows[] = {
	    {"h", true},
	    {"a.example.com", true},
	    {"a_b-c.~d", true},
	    {"10.0.0.1:80", true},
	    {"h:", true},
	    {"h:1", true},
	    {"h:65535", true},
	    {"[::1]", true},
	    {"[::1]:443", true},
	    {"[::ffff:1.2.3.4]", true},
	    {"h.", true},
	    {"", false},
	    {":80", false},
	    {"h:0", false},
	    {"h:65536", false},
	    {"h:99999", false},
	    {"h:000080", false},
	    {"h:8o", false},
	    {"h:+1", false},
	    {"h:80:80", false},
	    {"u@h", false},
	    {"u:p@h", false},
	    {"a,b", false},
	    {"a b", false},
	    {"a/b", false},
	    {"a?b", false},
	    {"a#b", false},
	    {"a\\b", false},
	    {"a%00", false},
	    {"a;b", false},
	    {"[", false},
	    {"[]", false},
	    {"[::1", false},
	    {"[::1]x", false},
	    {"[::1]:x", false},
	    {"[1.2.3.4]", false},
	    {"[::1%eth0]", false},
	    {"[v1.x]", false},
	    {"::1", false},
	    {"h\r\n", false},
	    {"\x80", false},
	    {"*.a", false},
	    {"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]", false},
	};
	char name[257];

	(void)state;
	check(rows, sizeof(rows) / sizeof(rows[0]), authority_valid);
	memset(name, 'a', sizeof(name));
	assert_true(authority_valid(name, 255));
	assert_false(authority_valid(name, 256));
	assert_false(authority_valid("[::1\0]", 6));
	assert_false(authority_valid("h\0", 2));
}

static void
test_lengths(void **state)
{
	static const struct {
		const char *text;
		int64_t length;
	} rows[] = {
	    {"0", 0},
	    {"5", 5},
	    {"007", 7},
	    {"9223372036854775807", INT64_MAX},
	    {"9223372036854775808", -1},
	    {"18446744073709551616", -1},
	    {"99999999999999999999", -1},
	    {"", -1},
	    {"+5", -1},
	    {"-5", -1},
	    {" 5", -1},
	    {"5 ", -1},
	    {"5,5", -1},
	    {"0x5", -1},
	    {"1_0", -1},
	    {"1e3", -1},
	    {"\xd9\xa5", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
		    content_length_parse(rows[i].text, strlen(rows[i].text)), rows[i].length);
}

static void
test_lists(void **state)
{
	(void)state;
	assert_true(list_has(TEXT("close"), "close"));
	assert_true(list_has(TEXT("Keep-Alive, \tClose "), "close"));
	assert_true(list_has(TEXT(",, close,"), "close"));
	assert_false(list_has(TEXT("closed"), "close"));
	assert_false(list_has(TEXT("clos"), "close"));
	assert_false(list_has(TEXT("a close"), "close"));
	assert_false(list_has(TEXT(""), "close"));
	assert_false(list_has((struct text){NULL, 0}, "close"));
}

static void
test_reasons(void **state)
{
	(void)state;
	assert_string_equal(status_reason(200), "OK");
	assert_string_equal(status_reason(431), "Request Header Fields Too Large");
	assert_string_equal(status_reason(511), "Network Authentication Required");
	assert_string_equal(status_reason(299), "");
	assert_string_equal(status_reason(0), "");
	assert_string_equal(status_reason(512), "");
	assert_string_equal(status_reason(99999), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_text),
	    cmocka_unit_test(test_fields),
	    cmocka_unit_test(test_methods),
	    cmocka_unit_test(test_tokens),
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_authorities),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_lists),
	    cmocka_unit_test(test_reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
