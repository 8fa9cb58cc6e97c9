/*
 * What backends are told about the client, what clients are told, and cookies: read off the heads that the streams
 * on either side were given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/exchange/forward.h"
#include "tests/unit/fake_worker.h"

#define PLAIN ONE("", "")
#define BEHIND(more)                                                                               \
	PLAIN "forward = { trusted = [ \"10.0.0.0/8\", \"2001:db8::/32\" ]; " more " };\n"

/* The value of the one field of this name; NULL: there is none. Valid until the next call. */
static const char *
field(const char *text, const char *name)
{
	static char value[8192];
	size_t n = strlen(name);
	const char *found = NULL;

	for (const char *p = text; *p != '\0'; p = strchr(p, '\n') + 1) {
		if (strncmp(p, name, n) != 0 || p[n] != ':')
			continue;
		assert_null(found);
		found = p + n + 2;
	}
	if (found == NULL)
		return NULL;
	n = (size_t)(strchr(found, '\n') - found);
	assert_true(n < sizeof(value));
	memcpy(value, found, n);
	value[n] = '\0';
	return value;
}

static void
has(const char *text, const char *name, const char *expected)
{
	const char *value = field(text, name);

	if (value == NULL)
		fail_msg("no %s in:\n%s", name, text);
	assert_string_equal(value, expected);
}

static void
lacks(const char *text, const char *name)
{
	if (field(text, name) != NULL)
		fail_msg("%s in:\n%s", name, text);
}

/* What the backend gets of a request with these fields.  Valid until worker_end(). */
static const char *
told(const char *fields)
{
	struct fake_stream *f = request_with("GET", "/", fields, true), *b = w.back[w.n_backs - 1];

	complete(f, b);
	return b->fields;
}

/* What the client gets of a response with these fields. */
static const char *
answered(const char *fields)
{
	struct fake_stream *f = request("GET", true);

	fire_head_with(w.back[w.n_backs - 1], 200, fields, true);
	fire_closed(w.back[w.n_backs - 1], OUTCOME_OK);
	finish_front(f);
	return f->fields;
}

#define CLAIMS                                                                                     \
	"x-forwarded-for: 6.6.6.6\nx-forwarded-for: 7.7.7.7\nx-forwarded-proto: https\n"           \
	"x-forwarded-host: evil.example\nx-forwarded-port: 666\nx-real-ip: 6.6.6.6\n"              \
	"forwarded: for=6.6.6.6\nx-request-id: mine\n"

/* A client at the edge speaks about itself: nothing of it is believed. */
static void
test_untrusted_claims(void **state)
{
	const char *t;

	(void)state;
	worker_begin(BEHIND(""));
	t = told(CLAIMS "accept: x\n");
	has(t, "x-forwarded-for", "192.0.2.7");
	has(t, "x-forwarded-proto", "http");
	has(t, "x-forwarded-host", "api.example");
	has(t, "forwarded", "for=192.0.2.7;host=\"api.example\";proto=http");
	has(t, "accept", "x");
	lacks(t, "x-real-ip");
	lacks(t, "x-forwarded-port");
	assert_string_not_equal(field(t, "x-request-id"), "mine");
	lacks(t, "via");
	worker_end();
}

static void
test_trusted_claims(void **state)
{
	const char *t;

	(void)state;
	worker_begin(BEHIND(""));
	client_from("10.1.2.3");
	t = told(CLAIMS);
	has(t, "x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.1.2.3");
	has(t, "x-forwarded-proto", "https");
	has(t, "x-forwarded-host", "evil.example");
	has(t, "forwarded", "for=6.6.6.6, for=10.1.2.3;host=\"api.example\";proto=http");
	has(t, "x-request-id", "mine");
	t = told("");
	has(t, "x-forwarded-for", "10.1.2.3");
	has(t, "x-forwarded-proto", "http");
	has(t, "x-forwarded-host", "api.example");
	has(t, "forwarded", "for=10.1.2.3;host=\"api.example\";proto=http");
	/* values that are empty add no comma */
	t = told("x-forwarded-for: \nx-forwarded-for: 6.6.6.6\nx-forwarded-for: \n");
	has(t, "x-forwarded-for", "6.6.6.6, 10.1.2.3");
	worker_end();
}

/* RFC 7239 6: v6 in brackets and quotes.  RFC 7239 4: host with its port is quoted too. */
static void
test_forwarded_over_v6_and_tls(void **state)
{
	struct fake_stream *f;
	struct head *head;
	const char *t;

	(void)state;
	worker_begin(PLAIN);
	w.client.fc.tls = true;
	client_from("2001:db8::7");
	f = front_new();
	head = head_of_request(f, "GET", "/", "");
	head->authority = TEXT("api.example:8443");
	hand_over(f, head, true);
	t = w.back[0]->fields;
	has(t, "x-forwarded-for", "2001:db8::7");
	has(t, "x-forwarded-proto", "https");
	has(t, "x-forwarded-host", "api.example:8443");
	has(t, "forwarded", "for=\"[2001:db8::7]\";host=\"api.example:8443\";proto=https");
	complete(f, w.back[0]);
	/* HTTP/1.0 without Host */
	f = front_new();
	head = head_of_request(f, "GET", "/", "");
	head->authority = (struct text){"", 0};
	hand_over(f, head, true);
	t = w.back[1]->fields;
	lacks(t, "x-forwarded-host");
	has(t, "forwarded", "for=\"[2001:db8::7]\";proto=https");
	complete(f, w.back[1]);
	worker_end();

	worker_begin(BEHIND("forwarded = false;"));
	lacks(told("forwarded: for=6.6.6.6\n"), "forwarded");
	worker_end();
}

static void
id_of(const char *given, bool taken)
{
	char fields[512];
	const char *id;

	snprintf(fields, sizeof(fields), "x-request-id: %s\n", given);
	id = field(told(fields), "x-request-id");
	assert_int_equal(strcmp(id, given) == 0, taken);
	if (!taken) {
		assert_int_equal(strlen(id), 32);
		assert_int_equal(strspn(id, "0123456789abcdef"), 32);
	}
	assert_string_equal(logged("id"), id);
}

static void
test_request_ids(void **state)
{
	char longest[REQUEST_ID_MAX + 2];
	char *first;

	(void)state;
	worker_begin(BEHIND(""));
	client_from("10.1.2.3");
	memset(longest, 'a', sizeof(longest));
	longest[REQUEST_ID_MAX + 1] = '\0';
	id_of(longest, false);
	longest[REQUEST_ID_MAX] = '\0';
	id_of(longest, true);
	id_of("A-z_0.9", true);
	id_of("", false);
	id_of("two words", false);
	id_of("quo\"te", false);
	id_of("a:b", false);
	id_of("\xc3\xa9", false);
	client_from("11.1.2.3");
	id_of("A-z_0.9", false);
	first = strdup(field(told(""), "x-request-id"));
	assert_string_not_equal(field(told(""), "x-request-id"), first);
	free(first);
	worker_end();
}

/* RFC 9110 7.6.3: appended on the way there and on the way back. */
static void
test_via(void **state)
{
	struct fake_stream *f;
	struct head *head;

	(void)state;
	worker_begin(BEHIND("via = \"edge\";"));
	has(told(""), "via", "1.1 edge");
	has(told("via: 1.0 a\nvia: 1.1 b\n"), "via", "1.0 a, 1.1 b, 1.1 edge");
	has(answered("via: 1.1 back\n"), "via", "1.1 back, 1.1 edge");
	f = front_new();
	head = head_of_request(f, "GET", "/", "");
	head->minor = 0;
	head->h2 = true;
	hand_over(f, head, true);
	has(w.back[w.n_backs - 1]->fields, "via", "2 edge");
	complete(f, w.back[w.n_backs - 1]);
	f = front_new();
	head = head_of_request(f, "GET", "/", "");
	head->minor = 0;
	hand_over(f, head, true);
	has(w.back[w.n_backs - 1]->fields, "via", "1.0 edge");
	complete(f, w.back[w.n_backs - 1]);
	worker_end();

	worker_begin(PLAIN);
	has(told("via: 1.1 a\n"), "via", "1.1 a"); /* not ours to take away */
	worker_end();
}

/* A hundred Via of a hundred bytes must not cost a hundred times their sum. */
static void
test_many_fields_of_one_name(void **state)
{
	char fields[20000] = "", expected[20000] = "";
	size_t before;

	(void)state;
	worker_begin(BEHIND("via = \"edge\";"));
	for (unsigned i = 0; i < 100; i++) {
		char value[128];

		snprintf(value, sizeof(value), "1.1 %0100u", i);
		strcat(strcat(strcat(fields, "via: "), value), "\n");
		strcat(strcat(expected, value), ", ");
	}
	strcat(expected, "1.1 edge");
	before = chunk_pool_bytes(w.turn->chunks);
	struct fake_stream *f = request_with("GET", "/", fields, true);

	assert_non_null(strstr(w.back[0]->fields, expected));
	assert_true(chunk_pool_bytes(w.turn->chunks) - before < 200000);
	complete(f, w.back[0]);
	worker_end();
}

static void
test_server(void **state)
{
	(void)state;
	worker_begin(PLAIN);
	has(answered("server: theirs\n"), "server", "theirs");
	lacks(answered(""), "server");
	worker_end();
	worker_begin(BEHIND("server = \"teal\";"));
	has(answered("server: theirs\nserver: more\n"), "server", "teal");
	has(answered(""), "server", "teal");
	worker_end();
}

/* --- header rules -------------------------------------------------------------------- */

static void
test_header_rules(void **state)
{
	const char *t;

	(void)state;
	worker_begin(ONE("",
	    "response_headers = { set = ( { name = \"X-Frame\"; value = \"deny\"; } ); "
	    "remove = [ \"x-powered-by\", \"etag\" ]; "
	    "add = ( { name = \"link\"; value = \"<b>\"; } ); };") "response_headers = { set = ( { "
								   "name = \"x-frame\"; value = "
								   "\"all\"; }, "
								   "{ name = \"x-all\"; value = "
								   "\"1\"; } ); };\n");
	t = answered(
	    "x-frame: theirs\nx-frame: twice\nx-powered-by: php\netag: \"1\"\nx-power: stays\n");
	has(t, "x-frame", "deny"); /* the service's after the top level's */
	has(t, "x-all", "1");
	lacks(t, "x-powered-by");
	lacks(t, "etag");
	has(t, "x-power", "stays");
	t = answered("link: <a>\n");
	assert_non_null(strstr(t, "link: <a>\n"));
	assert_non_null(strstr(t, "link: <b>\n"));
	worker_end();
}

/* RFC 6797 7.2: never over clear text, whoever says it. */
static void
test_strict_transport_security(void **state)
{
	(void)state;
	worker_begin(ONE("", "response_headers = { set = ( { name = \"strict-transport-security\"; "
			     "value = \"max-age=1\"; } ); };"));
	lacks(answered("strict-transport-security: max-age=9\n"), "strict-transport-security");
	w.client.fc.tls = true;
	has(answered("strict-transport-security: max-age=9\n"), "strict-transport-security",
	    "max-age=1");
	worker_end();
	worker_begin(
	    ONE("", "response_headers = { remove = [ \"strict-transport-security\" ]; };"));
	lacks(answered("strict-transport-security: max-age=9\n"), "strict-transport-security");
	worker_end();
}

/* Answers made here follow the rules, too. */
static void
test_rules_of_local_answers(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", "response_headers = { set = ( { name = \"x-a\"; value = \"b\"; } ); "
			     "};") "forward = { server = \"teal\"; via = \"edge\"; };\n");
	w.roster.backends[0]->backend.state = BACKEND_DOWN;
	f = request("GET", true);
	has(f->fields, "x-a", "b");
	has(f->fields, "server", "teal");
	has(f->fields, "via", "1.1 edge");
	finish_front(f);
	worker_end();
}

/* --- secrets and cookies ------------------------------------------------------------------ */

static void
test_forcing_header_is_withheld(void **state)
{
	const char *t;

	(void)state;
	worker_begin(
	    ONE("", "split = { force = { header = \"x-color\"; secret = \"geheimnis\"; }; };"));
	t = told("x-color: blue:geheimnis\nx-colors: stay\n");
	lacks(t, "x-color");
	has(t, "x-colors", "stay");
	worker_end();
}

static void
test_split_cookie(void **state)
{
	const char *t;

	(void)state;
	worker_begin(
	    ONE("", "split = { by = \"cookie\"; cookie = \"side\"; cookie_max_age = \"1h\"; };"));
	t = answered("set-cookie: a=b\n");
	assert_non_null(strstr(t, "set-cookie: a=b\n"));
	t = strstr(t, "set-cookie: side=");
	assert_non_null(t);
	t += strlen("set-cookie: side=");
	assert_int_equal(strspn(t, "0123456789abcdef"), 16);
	assert_memory_equal(t + 16, "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax\n", 47);
	w.client.fc.tls = true;
	assert_non_null(strstr(answered(""), "SameSite=Lax; Secure\n"));
	/* who has one gets no other */
	struct fake_stream *f = request_with("GET", "/", "cookie: x=y; side=abc\n", true);

	fire_head(w.back[w.n_backs - 1], 200, true);
	lacks(f->fields, "set-cookie");
	finish_front(f);
	worker_end();
}

static void
cookie(const char *fields, const char *name, const char *expected)
{
	struct fields list = {0};
	struct arena a;
	struct text found;

	arena_init(&a, w.turn->chunks);
	fake_fields(&list, &a, fields);
	found = cookie_find(&list, name);
	assert_int_equal(found.n, strlen(expected));
	assert_memory_equal(found.p, expected, found.n);
	arena_fini(&a);
}

static void
test_cookies(void **state)
{
	(void)state;
	worker_begin(PLAIN);
	cookie("", "a", "");
	cookie("cookie: a=1\n", "a", "1");
	cookie("cookie: a=1; b=2\n", "b", "2");
	cookie("cookie: a=1;b=2;c=3\n", "c", "3");
	cookie("cookie: a=1;   b=2\n", "b", "2");
	cookie("cookie: aa=1; a=2\n", "a", "2");
	cookie("cookie: a=1; a=2\n", "a", "1");
	cookie("cookie: a\n", "a", "");
	cookie("cookie: a=\n", "a", "");
	cookie("cookie: a=b=c\n", "a", "b=c");
	cookie("cookie: x=a=1\n", "a", "");
	cookie("cookie: ;;; ;a=1;\n", "a", "1");
	cookie("cookie: A=1\n", "a", ""); /* names keep their case */
	cookie("cookie: x=1\ncookie: a=2\n", "a", "2");
	cookie("x-cookie: a=1\n", "a", "");
	cookie("cookie: ab\n", "abc", "");
	/* not a byte behind the value is looked at */
	struct field f = {TEXT("cookie"), {"a=1", 1}, F_COOKIE};
	struct fields list = {&f, 1, 1, 0};

	assert_int_equal(cookie_find(&list, "a").n, 0);
	worker_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_untrusted_claims),
	    cmocka_unit_test(test_trusted_claims),
	    cmocka_unit_test(test_forwarded_over_v6_and_tls),
	    cmocka_unit_test(test_request_ids),
	    cmocka_unit_test(test_via),
	    cmocka_unit_test(test_many_fields_of_one_name),
	    cmocka_unit_test(test_server),
	    cmocka_unit_test(test_header_rules),
	    cmocka_unit_test(test_strict_transport_security),
	    cmocka_unit_test(test_rules_of_local_answers),
	    cmocka_unit_test(test_forcing_header_is_withheld),
	    cmocka_unit_test(test_split_cookie),
	    cmocka_unit_test(test_cookies),
	};

	return cmocka_run_group_tests_name("forward", tests, config_files_begin, config_files_end);
}
