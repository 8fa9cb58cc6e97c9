/*
 * Reading an HTTP response, cut at every byte, and telling the operator why there is none.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>

#include "proxy/tealctl/client.c" /* no part of the library the tests link */

/* Parses every prefix, NUL-terminated in memory of its own size: nothing is read beyond. */
static int
parse_prefixes(const char *text, size_t n, struct response *r)
{
	for (size_t i = 0; i <= n; i++) {
		char *copy = malloc(i + 1);
		int done;

		assert_non_null(copy);
		memcpy(copy, text, i);
		copy[i] = '\0';
		done = response_parse(copy, i, false, r);
		free(copy);
		if (done != 0) {
			if (i < n && done > 0)
				free(r->body);
			return i < n ? -2 : done;
		}
	}
	return 0;
}

static void
complete(const char *text, unsigned status, const char *body)
{
	struct response r;

	assert_int_equal(parse_prefixes(text, strlen(text), &r), 1);
	assert_int_equal(r.status, status);
	assert_string_equal(r.body, body);
	assert_int_equal(r.n, strlen(body));
	free(r.body);
}

static void
whole_responses(void **state)
{
	(void)state;
	complete("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
	complete("HTTP/1.1 204 \r\ncontent-length:0\r\n\r\n", 204, "");
	complete("HTTP/1.1 409 Conflict\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "5\r\nhello\r\nA;x=y\r\n, world!!!\r\n0\r\n",
	    409, "hello, world!!!");
	complete(
	    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x");
}

static void
up_to_the_end(void **state)
{
	static const char text[] = "HTTP/1.0 200 OK\r\n\r\nall of it";
	struct response r;

	(void)state;
	assert_int_equal(parse_prefixes(text, strlen(text), &r), 0);
	assert_int_equal(response_parse(text, strlen(text), true, &r), 1);
	assert_string_equal(r.body, "all of it");
	free(r.body);
}

static void
broken_responses(void **state)
{
	static const char *const texts[] = {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/2 200\r\n\r\n",
	    "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"};
	/* each whole and fine, but the peer has closed before the end */
	static const char *const cut[] = {"", "HTTP/1.1 200 OK\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"};
	struct response r;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (response_parse(texts[i], strlen(texts[i]), false, &r) != -1)
			fail_msg("taken: %s", texts[i]);
	for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		assert_int_equal(response_parse(cut[i], strlen(cut[i]), false, &r), 0);
		assert_int_equal(response_parse(cut[i], strlen(cut[i]), true, &r), -1);
	}
}

static void
segments(void **state)
{
	static const char *const cases[][2] = {{"10.0.0.1:80", "10.0.0.1:80"},
	    {"[::1]:81", "%5B::1%5D:81"}, {"unix:/run/b c", "unix:%2Frun%2Fb%20c"},
	    {"a%?#&=+\xc3\xa4", "a%25%3F%23%26%3D%2B%C3%A4"}, {"", ""}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *segment = client_segment(cases[i][0]);

		assert_string_equal(segment, cases[i][1]);
		free(segment);
	}
}

static void
explains(const char *path, const char *what)
{
	struct response r;
	char err[1024] = "";

	assert_int_equal(client_ask(path, "GET", "/", NULL, 5000, &r, err, sizeof(err)), -1);
	if (strstr(err, what) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", what, err);
}

static void
dead_sockets(void **state)
{
	char directory[] = "/tmp/teal-client-XXXXXX", path[64], longest[200];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	explains(path, "is teal running?");
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	explains(path, "has left its socket behind");
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	explains(path, "nobody answers"); /* the kernel says the same of a plain file */
	unlink(path);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	explains(path, "is not teal's admin socket");
	close(fd);
	unlink(path);
	rmdir(directory);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	explains(longest, "too long");
}

static void
permission_is_explained(void **state)
{
	char err[1024];

	(void)state;
	explain_connect("/", EACCES, err, sizeof(err));
	assert_non_null(strstr(err, "it belongs to root:root"));
	explain_connect("/no/such/file", EACCES, err, sizeof(err));
	assert_non_null(strstr(err, "directories"));
	explain_connect("/x", EAGAIN, err, sizeof(err));
	assert_non_null(strstr(err, "does not accept"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whole_responses),
	    cmocka_unit_test(up_to_the_end),
	    cmocka_unit_test(broken_responses),
	    cmocka_unit_test(segments),
	    cmocka_unit_test(dead_sockets),
	    cmocka_unit_test(permission_is_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
