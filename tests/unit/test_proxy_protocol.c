/* PROXY protocol: every header at every split, what is refused, and that not a byte too many is
 * taken. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "proxy/codec/proxy_protocol.h"

#define REST "GET / HTTP/1.1\r\n"

struct bytes {
	unsigned char p[8192];
	size_t n;
};

static void
put(struct bytes *b, const void *p, size_t n)
{
	assert_true(b->n + n <= sizeof b->p);
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void
put_text(struct bytes *b, const char *text)
{
	put(b, text, strlen(text));
}

static void
put16(struct bytes *b, unsigned n)
{
	unsigned char two[2] = {(unsigned char)(n >> 8), (unsigned char)n};

	put(b, two, 2);
}

static void
v2(struct bytes *b, unsigned command, unsigned family, size_t length)
{
	unsigned char two[2] = {(unsigned char)command, (unsigned char)family};

	b->n = 0;
	put(b, "\r\n\r\n\0\r\nQUIT\n", 12);
	put(b, two, 2);
	put16(b, (unsigned)length);
}

static void
v2_tcp4(struct bytes *b, size_t tlvs)
{
	v2(b, 0x21, 0x11, 12 + tlvs);
	put(b, "\xc0\x00\x02\x01\xc6\x33\x64\x02", 8);
	put16(b, 51234);
	put16(b, 443);
}

static void
is_address(const uint8_t address[16], const char *text)
{
	char mapped[INET6_ADDRSTRLEN];

	assert_non_null(inet_ntop(AF_INET6, address, mapped, sizeof mapped));
	assert_string_equal(mapped, text);
}

/* Whole, with bytes behind it, and every beginning of it: MORE that takes all. */
static enum proxy_result
parse(const struct bytes *b, struct proxy_header *h)
{
	struct bytes longer = *b;
	enum proxy_result result;
	size_t used = 0;

	memset(h, 0xee, sizeof *h);
	put_text(&longer, REST);
	result = proxy_parse(longer.p, longer.n, h, &used);
	if (result != PROXY_DONE)
		return result;
	assert_int_equal(used, b->n);
	for (size_t n = 0; n < b->n; n++) {
		struct proxy_header untouched = {.source_port = 7};

		assert_int_equal(proxy_parse(b->p, n, &untouched, &used), PROXY_MORE);
		assert_int_equal(used, n);
		assert_int_equal(untouched.source_port, 7);
	}
	return result;
}

static enum proxy_result
parse_text(const char *text, struct proxy_header *h)
{
	struct bytes b = {.n = 0};

	put_text(&b, text);
	return parse(&b, h);
}

static void
v1_tcp4(void **state)
{
	struct proxy_header h;

	(void)state;
	assert_int_equal(
	    parse_text("PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n", &h), PROXY_DONE);
	assert_true(h.known);
	is_address(h.source, "::ffff:192.0.2.1");
	is_address(h.destination, "::ffff:198.51.100.2");
	assert_int_equal(h.source_port, 51234);
	assert_int_equal(h.destination_port, 443);
	assert_int_equal(
	    parse_text("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", &h), PROXY_DONE);
}

static void
v1_tcp6(void **state)
{
	static const char longest[] = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
				      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
	struct proxy_header h;

	(void)state;
	assert_int_equal(parse_text("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", &h), PROXY_DONE);
	is_address(h.source, "2001:db8::1");
	assert_int_equal(parse_text(longest, &h), PROXY_DONE);
}

static void
v1_unknown(void **state)
{
	char line[200];
	struct proxy_header h;

	(void)state;
	assert_int_equal(parse_text("PROXY UNKNOWN\r\n", &h), PROXY_DONE);
	assert_false(h.known);
	assert_int_equal(parse_text("PROXY UNKNOWN whatever it says \r\n", &h), PROXY_DONE);
	assert_false(h.known);
	/* 107 bytes with CR LF is the longest; both sides of it */
	(void)snprintf(line, sizeof line, "PROXY UNKNOWN %091d\r\n", 0);
	assert_int_equal(strlen(line), PROXY_V1_MAX);
	assert_int_equal(parse_text(line, &h), PROXY_DONE);
	(void)snprintf(line, sizeof line, "PROXY UNKNOWN %092d\r\n", 0);
	assert_int_equal(parse_text(line, &h), PROXY_BAD);
}

static void
v1_refused(void **state)
{
	static const char *const bad[] = {
	    "GET / HTTP/1.1\r\n",
	    "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
	    "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
	    "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
	    "PROXY UNKNOWNS\r\n",
	    "PROXY \r\n",
	    "PROXY TCP4\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
	    "PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
	    "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
	    "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
	    "PROXY TCP4 ::1 ::1 1 2\r\n",
	    "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r",
	    "PROXY TCP4 192.0.2.1 192.0.2.2\r1 2\r\n",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\xff\r\n",
	};
	struct proxy_header h;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (parse_text(bad[i], &h) != PROXY_BAD)
			fail_msg("accepted: %s", bad[i]);
	}
}

static void
v2_families(void **state)
{
	struct bytes b;
	struct proxy_header h;
	char zeros[256] = {0};

	(void)state;
	v2_tcp4(&b, 0);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	assert_true(h.known);
	is_address(h.source, "::ffff:192.0.2.1");
	is_address(h.destination, "::ffff:198.51.100.2");
	assert_int_equal(h.source_port, 51234);
	assert_int_equal(h.destination_port, 443);

	v2(&b, 0x21, 0x21, 36);
	put(&b, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	put(&b, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
	put16(&b, 1);
	put16(&b, 2);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	is_address(h.source, "2001:db8::1");
	assert_int_equal(h.destination_port, 2);

	v2(&b, 0x21, 0x31, 216);
	put(&b, zeros, 216);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	assert_false(h.known);
}

static void
v2_without_an_address(void **state)
{
	struct bytes b;
	struct proxy_header h;

	(void)state;
	v2(&b, 0x20, 0x00, 0); /* LOCAL, as health checks send it */
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	assert_false(h.known);
	v2(&b, 0x20, 0x11, 12); /* LOCAL with an address: not believed */
	put(&b, "\xc0\x00\x02\x01\xc6\x33\x64\x02\0\1\0\2", 12);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	assert_false(h.known);
	v2(&b, 0x21, 0x00, 5); /* AF_UNSPEC */
	put(&b, "hello", 5);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	assert_false(h.known);
}

static void
v2_tlvs(void **state)
{
	struct bytes b;
	struct proxy_header h;

	(void)state;
	v2_tcp4(&b, 3 + 2 + 3);
	put(&b, "\x01\0\2h2\x04\0\0", 8);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	assert_true(h.known);
	v2_tcp4(&b, 3 + 2); /* one byte too long for the header */
	put(&b, "\x01\0\3h2", 5);
	assert_int_equal(parse(&b, &h), PROXY_BAD);
	v2_tcp4(&b, 2); /* not even a TLV's head */
	put(&b, "\x01\0", 2);
	assert_int_equal(parse(&b, &h), PROXY_BAD);
}

/* The checksum was made by other code, which gives the known e3069283 for "123456789". */
static void
v2_checksum(void **state)
{
	struct bytes b;
	struct proxy_header h;

	(void)state;
	v2_tcp4(&b, 7);
	put(&b,
	    "\x03\0\4"
	    "\x85\xc9\x34\x33",
	    7);
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	for (size_t i = 16; i < 28; i++) {
		struct bytes damaged = b;

		damaged.p[i] ^= 1;
		assert_int_equal(parse(&damaged, &h), PROXY_BAD);
	}
	b.p[34] ^= 0x80;
	assert_int_equal(parse(&b, &h), PROXY_BAD);
	v2_tcp4(&b, 6); /* three bytes are no checksum */
	put(&b, "\x03\0\3\0\0\0", 6);
	assert_int_equal(parse(&b, &h), PROXY_BAD);
}

static void
v2_refused(void **state)
{
	struct bytes b;
	struct proxy_header h;

	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		bool good = byte == 0x20 || byte == 0x21;

		v2(&b, byte, 0x00, 0);
		assert_int_equal(parse(&b, &h), good ? PROXY_DONE : PROXY_BAD);
	}
	for (unsigned byte = 0; byte < 256; byte++) {
		bool good = byte == 0x00 || byte == 0x11 || byte == 0x21 || byte == 0x31;
		char zeros[216] = {0};

		v2(&b, 0x21, byte, 216);
		put(&b, zeros, 216);
		assert_int_equal(parse(&b, &h), good ? PROXY_DONE : PROXY_BAD);
	}
	v2(&b, 0x21, 0x11, 11);
	put(&b, "\0\0\0\0\0\0\0\0\0\0\0", 11);
	assert_int_equal(parse(&b, &h), PROXY_BAD);
	for (size_t i = 0; i < 12; i++) {
		v2_tcp4(&b, 0);
		b.p[i] ^= 1;
		assert_int_equal(parse(&b, &h), PROXY_BAD);
	}
}

static void
v2_longest(void **state)
{
	struct bytes b;
	struct proxy_header h;
	size_t value = PROXY_V2_MAX - 16 - 12 - 3;

	(void)state;
	v2_tcp4(&b, 3 + value);
	put(&b, "\x04", 1);
	put16(&b, (unsigned)value);
	memset(b.p + b.n, 0, value);
	b.n += value;
	assert_int_equal(parse(&b, &h), PROXY_DONE);
	v2(&b, 0x21, 0x11, PROXY_V2_MAX - 16 + 1); /* refused before it is waited for */
	assert_int_equal(parse(&b, &h), PROXY_BAD);
}

/* --- from a socket ---------------------------------------------------------------- */

static void
split_at_every_byte(const struct bytes *b)
{
	for (size_t first = 1; first < b->n; first++) {
		struct proxy_reader *r = calloc(1, sizeof *r);
		struct proxy_header h = {0};
		char rest[sizeof REST] = "", byte;
		int fd[2];

		assert_non_null(r);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_int_equal(proxy_read(r, fd[0], &h), PROXY_MORE);
		assert_int_equal(send(fd[1], b->p, first, 0), first);
		assert_int_equal(proxy_read(r, fd[0], &h), PROXY_MORE);
		/* taken: a level-triggered poll has nothing to tell */
		assert_int_equal(recv(fd[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
		assert_int_equal(send(fd[1], b->p + first, b->n - first, 0), b->n - first);
		assert_int_equal(send(fd[1], REST, sizeof REST - 1, 0), sizeof REST - 1);
		assert_int_equal(proxy_read(r, fd[0], &h), PROXY_DONE);
		assert_true(h.known);
		assert_int_equal(h.source_port, 51234);
		assert_int_equal(recv(fd[0], rest, sizeof rest, MSG_DONTWAIT), sizeof REST - 1);
		assert_string_equal(rest, REST);
		close(fd[0]);
		close(fd[1]);
		free(r);
	}
}

static void
reader_takes_the_header_only(void **state)
{
	struct bytes b = {.n = 0};

	(void)state;
	put_text(&b, "PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n");
	split_at_every_byte(&b);
	v2_tcp4(&b, 3);
	put(&b, "\x04\0\0", 3);
	split_at_every_byte(&b);
}

static void
reader_refuses(void **state)
{
	static struct proxy_reader r;
	struct proxy_header h = {0};
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(send(fd[1], "PROXY TCP4", 10, 0), 10);
	assert_int_equal(proxy_read(&r, fd[0], &h), PROXY_MORE);
	close(fd[1]); /* ends within the header */
	assert_int_equal(proxy_read(&r, fd[0], &h), PROXY_BAD);
	close(fd[0]);
	r.n = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(send(fd[1], REST, sizeof REST - 1, 0), sizeof REST - 1);
	assert_int_equal(proxy_read(&r, fd[0], &h), PROXY_BAD);
	close(fd[0]);
	close(fd[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(v1_tcp4),
	    cmocka_unit_test(v1_tcp6),
	    cmocka_unit_test(v1_unknown),
	    cmocka_unit_test(v1_refused),
	    cmocka_unit_test(v2_families),
	    cmocka_unit_test(v2_without_an_address),
	    cmocka_unit_test(v2_tlvs),
	    cmocka_unit_test(v2_checksum),
	    cmocka_unit_test(v2_refused),
	    cmocka_unit_test(v2_longest),
	    cmocka_unit_test(reader_takes_the_header_only),
	    cmocka_unit_test(reader_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
