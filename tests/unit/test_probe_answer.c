/*
 * What an answer means and how it is said: every byte of it is a backend's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proxy/process/probe_answer.h"

static char none[] = "", status_member[] = "status", ok_value[] = "ok";
static struct probe_config config;
static struct probe_result result;

static void
http(unsigned status, const char *body, bool member)
{
	size_t n = strlen(body);
	/* exactly as large as it is, for the sanitizers */
	unsigned char *copy = malloc(n + !n);
	struct probe p = {
	    .config = &config, .status = status, .body = n ? copy : NULL, .n_body = n};

	memcpy(copy, body, n);
	config = (struct probe_config){.status_min = 200,
	    .status_max = 299,
	    .json_member = member ? status_member : none,
	    .json_value = member ? ok_value : none};
	probe_answered(&p, &result);
	free(copy);
}

#define SAYS(ok_, saw_)                                                                            \
	do {                                                                                       \
		assert_string_equal(result.saw, saw_);                                             \
		assert_int_equal(result.ok, ok_);                                                  \
	} while (0)

static void
status(void **state)
{
	(void)state;
	http(200, "whatever", false);
	SAYS(true, "200 OK");
	http(299, "", false);
	SAYS(true, "299");
	http(199, "", false);
	SAYS(false, "199");
	http(300, "", false);
	SAYS(false, "300 Multiple Choices");
	http(503, "  down:\r\n\r\n\x1b]0;x\x07 db\xc3\xa4 ", false);
	SAYS(false, "503 Service Unavailable: down: ]0;x db??");
	http(599, "", false);
	SAYS(false, "599");
}

static void
long_body(void **state)
{
	char body[4000];

	(void)state;
	memset(body, 'x', sizeof(body));
	body[sizeof(body) - 1] = '\0';
	http(500, body, false);
	assert_int_equal(strlen(result.saw), strlen("500 Internal Server Error: ") + 100);
}

static void
member(void **state)
{
	(void)state;
	http(200, " \n{\"status\":\"ok\"}", true);
	SAYS(true, "200 OK");
	http(200, "{\"status\":\"OK\"}", true);
	SAYS(false, "200, but \"status\" is \"OK\"");
	http(200, "{\"status\":\"ok\\u0000\"}", true); /* jansson refuses NUL in a string */
	SAYS(false, "200, but the body is no JSON object");
	http(200, "{\"status\":null}", true);
	SAYS(false, "200, but \"status\" is null");
	http(200, "{\"status\":{\"db\":[1,2]}}", true);
	SAYS(false, "200, but \"status\" is {\"db\":[1,2]}");
	http(200, "{\"status\":\"\\u001b[31m\\u00e4\"}", true);
	SAYS(false, "200, but \"status\" is \"[31m??\"");
	http(200, "[1]", true);
	SAYS(false, "200, but the body is no JSON object");
	http(200, "{\"status\":\"ok\"", true);
	SAYS(false, "200, but the body is no JSON object");
	http(200, "", true);
	SAYS(false, "200, but the body is no JSON object");
	http(503, "{\"status\":\"ok\"}", true);
	SAYS(false, "503 Service Unavailable: {\"status\":\"ok\"}");
}

static void
version(void **state)
{
	char text[600];

	(void)state;
	http(200, "{\"version\":\"1.2 \\u001b x\"}", false);
	assert_string_equal(result.version, "1.2 x");
	http(503, "{\"version\":17}", false);
	assert_string_equal(result.version, "17");
	http(200, "{\"version\":[1]}", false);
	assert_string_equal(result.version, "");
	http(200, "{\"version\":true", false);
	assert_string_equal(result.version, "");
	(void)snprintf(text, sizeof(text), "{\"version\":\"%0500d\"}", 1);
	http(200, text, false);
	assert_int_equal(strlen(result.version), sizeof(result.version) - 1);
}

/* A member that is longer than what is shown of it. */
static void
huge_member(void **state)
{
	char text[3000] = "{\"status\":[";
	size_t n = strlen(text);

	(void)state;
	memset(text + n, '1', sizeof(text) - n);
	for (; n + 6 < sizeof(text); n += 2)
		text[n] = '1', text[n + 1] = ',';
	memcpy(text + n, "1]}", 4);
	http(200, text, true);
	assert_false(result.ok);
	assert_true(strlen(result.saw) < 120);
}

static void
grpc(const void *body, size_t n, const char *grpc_status, const char *message)
{
	unsigned char *copy = malloc(n + !n);
	struct probe p = {.config = &config, .status = 200, .body = n ? copy : NULL, .n_body = n};

	memcpy(copy, body, n);
	(void)snprintf(p.grpc_status, sizeof(p.grpc_status), "%s", grpc_status);
	(void)snprintf(p.grpc_message, sizeof(p.grpc_message), "%s", message);
	config = (struct probe_config){.grpc = true};
	probe_answered(&p, &result);
	free(copy);
}
#define GRPC(literal) grpc(literal, sizeof(literal) - 1, "0", "")

static void
grpc_health(void **state)
{
	(void)state;
	GRPC("\0\0\0\0\2\x08\1");
	SAYS(true, "SERVING");
	GRPC("\0\0\0\0\2\x08\2");
	SAYS(false, "NOT_SERVING");
	GRPC("\0\0\0\0\2\x08\3");
	SAYS(false, "SERVICE_UNKNOWN");
	GRPC("\0\0\0\0\0");
	SAYS(false, "UNKNOWN");
	GRPC("\0\0\0\0\3\x08\x81\1");
	SAYS(false, "an unknown status");
	/* fields of a later version before and behind it: varint, 64 bits, bytes, 32 bits; the last one counts */
	GRPC("\0\0\0\0\x18\x10\5\x19"
	     "12345678"
	     "\x22\2ab\x2d"
	     "1234"
	     "\x08\2\x08\1");
	SAYS(true, "SERVING");
	grpc("", 0, "12", "unimplemented");
	SAYS(false, "grpc-status 12: unimplemented");
	grpc("\0\0\0\0\2\x08\1", 7, "14", "");
	SAYS(false, "grpc-status 14");
	grpc("\0\0\0\0\2\x08\1", 7, "", "");
	SAYS(false, "200, but no grpc-status");
}

static void
grpc_nonsense(void **state)
{
	(void)state;
#define NONSENSE(literal)                                                                          \
	do {                                                                                       \
		GRPC(literal);                                                                     \
		SAYS(false, "not a grpc.health.v1 answer");                                        \
	} while (0)
	NONSENSE("");
	NONSENSE("\0\0\0\0");
	NONSENSE("\1\0\0\0\2\x08\1"); /* compressed */
	NONSENSE("\0\0\0\0\3\x08\1"); /* shorter than it says */
	NONSENSE("\0\0\0\0\1\x08\1"); /* longer */
	NONSENSE("\0\xff\xff\xff\xff\x08\1");
	NONSENSE("\0\0\0\0\1\x08");     /* no value */
	NONSENSE("\0\0\0\0\2\x08\x81"); /* a varint that does not end */
	NONSENSE(
	    "\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"); /* too long a one */
	NONSENSE("\0\0\0\0\2\x0a\5"); /* bytes that are not there */
	NONSENSE("\0\0\0\0\4\x0d\1\1\1");
	NONSENSE("\0\0\0\0\2\x0b\1"); /* groups are no more */
	NONSENSE("\0\0\0\0\x0b\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\1");
}

static void
failures(void **state)
{
	struct probe p = {.config = &config};

	(void)state;
	probe_failed(OUTCOME_CONNECT_REFUSED, "", &result);
	SAYS(false, "connect refused");
	probe_failed(OUTCOME_BACK_TLS_FAILED, "certificate verify failed\n", &result);
	SAYS(false, "TLS: certificate verify failed");
	config.timeout_ms = 1000;
	probe_timed_out(&p, true, &result);
	SAYS(false, "timed out after 1s");
	config.timeout_ms = 250;
	probe_timed_out(&p, false, &result);
	SAYS(false, "timed out after 250ms connecting");
	p.status = 200;
	probe_timed_out(&p, true, &result);
	SAYS(false, "timed out after 250ms within its answer");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(status),
	    cmocka_unit_test(long_body),
	    cmocka_unit_test(member),
	    cmocka_unit_test(version),
	    cmocka_unit_test(huge_member),
	    cmocka_unit_test(grpc_health),
	    cmocka_unit_test(grpc_nonsense),
	    cmocka_unit_test(failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
