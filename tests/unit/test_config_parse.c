/*
 * The parsers of single values at their edges, the nearest key, the reference.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/options.h"

/* --- parsers ---------------------------------------------------------------------- */

static void
test_duration(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {{"0", 0}, {"0s", 0}, {"1ms", 1}, {"250ms", 250}, {"30s", 30000}, {"5m", 300000},
	    {"1h", 3600000}, {"1d", 86400000}, {"007s", 7000},
	    {"9223372036854775807ms", INT64_MAX}};
	static const char *const bad[] = {"", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s",
	    "5S", "5M", "5sec", "1h30m", "9223372036854775808ms", "9223372036854775807s",
	    "99999999999999999999s", "0x5s"};
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(duration_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(duration_parse(bad[i], &ms), -1);
}

static void
test_size(void **state)
{
	static const char *const bad[] = {"", "k", "-1", "1.5k", "1kb", "1 k", "1t",
	    "9223372036854775807k", "99999999999999999999"};
	size_t n;

	(void)state;
	assert_int_equal(size_parse("0", &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(size_parse("1023", &n), 0);
	assert_int_equal(n, 1023);
	assert_int_equal(size_parse("64k", &n), 0);
	assert_int_equal(n, 65536);
	assert_int_equal(size_parse("64K", &n), 0);
	assert_int_equal(n, 65536);
	assert_int_equal(size_parse("1m", &n), 0);
	assert_int_equal(n, 1048576);
	assert_int_equal(size_parse("2g", &n), 0);
	assert_int_equal(n, INT64_C(2147483648));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(size_parse(bad[i], &n), -1);
}

static void
test_percent(void **state)
{
	static const struct {
		const char *text;
		unsigned bp;
	} good[] = {{"0", 0}, {"25", 2500}, {"0.5", 50}, {"12.25", 1225}, {"99.99", 9999},
	    {"100", 10000}, {"100.00", 10000}, {"5%", 500}, {"0.01", 1}};
	static const char *const bad[] = {
	    "", "%", "101", "100.01", "-1", "1.234", "1.", ".5", "1e1", " 1", "1 ", "1%%", "x"};
	unsigned bp;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(percent_parse(good[i].text, &bp), 0);
		assert_int_equal(bp, good[i].bp);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(percent_parse(bad[i], &bp), -1);
}

/* "1:1s,2:1s,...,100:1s" with n steps. */
static const char *
many_steps(char *out, size_t size, int n)
{
	size_t at = 0;

	for (int i = 1; i < n; i++)
		at += (size_t)snprintf(out + at, size - at, "%d:1s,", i);
	snprintf(out + at, size - at, "100:1s");
	return out;
}

static void
test_steps(void **state)
{
	static const char *const bad[] = {"", "25", "25:", ":5m", "25:5m", "25:5m,", ",100:1m",
	    "50:1m,50:1m,100:1m", "100:1m,50:1m", "0:1m,100:1m", "100:x", "101:1m", "25:5m;100:1m",
	    "0000000000000000000000000000000000000000000000100:1m"};
	struct step_config *steps;
	char err[256], many[65 * 16];
	size_t n;

	(void)state;
	assert_int_equal(steps_parse("0.5:30s,100:0s", &steps, &n, err, sizeof(err)), 0);
	assert_int_equal(n, 2);
	assert_int_equal(steps[0].weight_bp, 50);
	assert_int_equal(steps[0].hold_ms, 30000);
	assert_int_equal(steps[1].weight_bp, 10000);
	free(steps);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		assert_int_equal(steps_parse(bad[i], &steps, &n, err, sizeof(err)), -1);
		assert_true(err[0] != '\0');
	}
	/* 64 fit, 65 do not */
	assert_int_equal(
	    steps_parse(many_steps(many, sizeof(many), 64), &steps, &n, err, sizeof(err)), 0);
	assert_int_equal(n, 64);
	free(steps);
	assert_int_equal(
	    steps_parse(many_steps(many, sizeof(many), 65), &steps, &n, err, sizeof(err)), -1);
}

static void
test_color(void **state)
{
	enum color c = GREEN;

	(void)state;
	assert_int_equal(color_parse("blue", &c), 0);
	assert_int_equal(c, BLUE);
	assert_int_equal(color_parse("green", &c), 0);
	assert_int_equal(c, GREEN);
	assert_int_equal(color_parse("Blue", &c), -1);
	assert_int_equal(color_parse("", &c), -1);
	assert_string_equal(color_name(BLUE), "blue");
	assert_string_equal(color_name(GREEN), "green");
}

static void
test_address(void **state)
{
	static const char *const bad[] = {"", ":", ":80", "a", "a:", "a:0", "a:65536",
	    "a:99999999999", "a:8o", "a:-1", "a:+1", "a: 1", "::1:80", "[::1]", "[::1]80",
	    "[::1:80", "[]:80", "[a]:80", "[127.0.0.1]:80", "::1", "300.1.1.1:80", "1.2.3:80",
	    "a b:80", "a..b:80", "*:80", "-a:80", "unix:", "unix:a", "unix:./a", "a/b:80",
	    "\xc3\xa9:80", "[::1%lo]:80"};
	char err[256], path[128];
	struct address a;

	(void)state;
	assert_int_equal(address_parse(&a, "Host-1.example:8080", err, sizeof(err)), 0);
	assert_string_equal(a.text, "Host-1.example:8080");
	assert_string_equal(a.host, "Host-1.example");
	assert_int_equal(a.port, 8080);
	assert_null(a.path);
	address_fini(&a);
	assert_null(a.text);
	assert_int_equal(address_parse(&a, "[2001:db8::1]:65535", err, sizeof(err)), 0);
	assert_string_equal(a.host, "2001:db8::1");
	assert_int_equal(a.port, 65535);
	address_fini(&a);
	assert_int_equal(address_parse(&a, "10.0.0.1:1", err, sizeof(err)), 0);
	address_fini(&a);
	assert_int_equal(address_parse(&a, "unix:/run/x:y", err, sizeof(err)), 0);
	assert_string_equal(a.path, "/run/x:y");
	assert_null(a.host);
	address_fini(&a);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		assert_int_equal(address_parse(&a, bad[i], err, sizeof(err)), -1);
		assert_true(err[0] != '\0');
	}
	/* sun_path: 107 bytes fit, 108 do not */
	memset(path, 'x', sizeof(path));
	memcpy(path, "unix:/", 6);
	path[5 + 107] = '\0';
	assert_int_equal(address_parse(&a, path, err, sizeof(err)), 0);
	address_fini(&a);
	path[5 + 107] = 'x';
	path[5 + 108] = '\0';
	assert_int_equal(address_parse(&a, path, err, sizeof(err)), -1);
}

static bool
has(const char *network, const char *address)
{
	struct network n;
	struct network_list l = {&n, 1};
	uint8_t bits[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	char err[256];

	assert_int_equal(network_parse(&n, network, err, sizeof(err)), 0);
	if (inet_pton(AF_INET, address, bits + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, address, bits), 1);
	return network_list_has(&l, bits);
}

static void
test_network(void **state)
{
	static const char *const bad[] = {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
	    "10.0.0.0/8x", "10.0.0.0/0008", "10.0.0/8", "::/129", "10.0.0.1/8", "fd00::1/8",
	    "localhost", "10.0.0.0/8/8", "[::1]", "::1%lo"};
	struct network_list none = {NULL, 0};
	struct network n;
	uint8_t any[16] = {0};
	char err[256];

	(void)state;
	assert_true(has("10.0.0.0/8", "10.255.255.255"));
	assert_false(has("10.0.0.0/8", "11.0.0.0"));
	assert_false(has("10.0.0.0/8", "9.255.255.255"));
	assert_true(has("192.0.2.128/25", "192.0.2.128"));
	assert_false(has("192.0.2.128/25", "192.0.2.127"));
	assert_true(has("127.0.0.1", "127.0.0.1"));
	assert_false(has("127.0.0.1", "127.0.0.2"));
	assert_true(has("0.0.0.0/0", "8.8.8.8"));
	assert_false(has("0.0.0.0/0", "2001:db8::1"));
	assert_true(has("::/0", "8.8.8.8"));
	assert_true(has("::/0", "2001:db8::1"));
	assert_true(has("fd00::/8", "fdff::1"));
	assert_false(has("fd00::/8", "fe00::1"));
	assert_true(has("::1", "::1"));
	assert_false(has("::1", "::2"));
	assert_true(has("::ffff:10.0.0.0/104", "10.1.2.3"));
	assert_false(network_list_has(&none, any));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		assert_int_equal(network_parse(&n, bad[i], err, sizeof(err)), -1);
		assert_true(err[0] != '\0');
	}
}

static void
test_nearest(void **state)
{
	(void)state;
	assert_string_equal(option_nearest(config_options, "listne"), "listen");
	assert_string_equal(option_nearest(config_options, "Services"), "services");
	assert_string_equal(option_nearest(config_options, "service"), "services");
	assert_string_equal(option_nearest(config_options, "timeout"), "timeouts");
	assert_string_equal(option_nearest(config_options, "logs"), "log");
	assert_null(option_nearest(config_options, "x"));
	assert_null(option_nearest(config_options, "frobnicate"));
	assert_null(option_nearest(config_options, "listenlistenlistenlistenlistenlisten"));
}

static void
test_reference(void **state)
{
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	(void)state;
	config_reference(f);
	fclose(f);
	assert_non_null(strstr(text, "\n.It Cm services[].blue.queue_timeout Pq duration\n"));
	assert_non_null(strstr(text, "\n.Ss services[].rollout.limits\n"));
	assert_non_null(strstr(text, "Default: \\(dq5s\\(dq.\n"));
	/* green is like blue and not repeated */
	assert_null(strstr(text, ".Ss services[].green"));
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_duration),
	    cmocka_unit_test(test_size),
	    cmocka_unit_test(test_percent),
	    cmocka_unit_test(test_steps),
	    cmocka_unit_test(test_color),
	    cmocka_unit_test(test_address),
	    cmocka_unit_test(test_network),
	    cmocka_unit_test(test_nearest),
	    cmocka_unit_test(test_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
