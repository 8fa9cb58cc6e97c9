/* The opening handshake's key and its answer (RFC 6455 section 4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proxy/message/websocket.h"

static void
accept_is_the_rfcs(void **state)
{
	static const char key[] = "dGhlIHNhbXBsZSBub25jZQ=="; /* RFC 6455 1.3 */
	char out[WEBSOCKET_ACCEPT + 1];

	(void)state;
	websocket_accept(key, strlen(key), out);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
keys_are_valid_and_differ(void **state)
{
	char one[WEBSOCKET_KEY + 1], other[WEBSOCKET_KEY + 1];

	(void)state;
	websocket_key(one);
	websocket_key(other);
	assert_int_equal(strlen(one), WEBSOCKET_KEY);
	assert_true(websocket_key_valid(one, strlen(one)));
	assert_true(websocket_key_valid(other, strlen(other)));
	assert_string_not_equal(one, other);
}

static void
only_sixteen_bytes_in_base64_are_a_key(void **state)
{
	static const char *const bad[] = {
	    "",
	    "dGhlIHNhbXBsZSBub25jZQ=",
	    "dGhlIHNhbXBsZSBub25jZQ===",
	    "dGhlIHNhbXBsZSBub25jZQAA",
	    "dGhlIHNhbXBsZSBub25jZQA=",
	    "dGhlIHNhbXBsZSBub25j=Q==",
	    "dGhlIHNhbXBsZSBub25j Q==",
	    "dGhlIHNhbXBsZSBub25j-_==",
	    "dGhlIHNhbXBsZSBub25j\r\n==",
	};
	static const char nul[] = "dGhlIHNhbXBsZSBub25j\0Q==";

	(void)state;
	assert_true(websocket_key_valid("dGhlIHNhbXBsZSBub25jZQ==", 24));
	assert_true(websocket_key_valid("+/hlIHNhbXBsZSBub25jZQ==", 24));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(websocket_key_valid(bad[i], strlen(bad[i])));
	assert_false(websocket_key_valid(nul, sizeof nul - 1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(accept_is_the_rfcs),
	    cmocka_unit_test(keys_are_valid_and_differ),
	    cmocka_unit_test(only_sixteen_bytes_in_base64_are_a_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
