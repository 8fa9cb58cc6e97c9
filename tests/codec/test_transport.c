/* Clear text over real sockets: bytes, ends, resets, failed connects, and that nobody spins. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "proxy/codec/tls.h"
#include "tests/codec/loop.h"

#define MANY ((size_t)4 << 20)

static struct loop loop;

static int
setup(void **state)
{
	(void)state;
	loop_init(&loop);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_fini(&loop);
	return 0;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool
heard(int fd, const char *text)
{
	char got[256] = "";
	ssize_t n = recv(fd, got, sizeof got - 1, MSG_PEEK | MSG_DONTWAIT);

	return n >= 0 && strcmp(got, text) == 0;
}

static bool
heard_eof(int fd)
{
	char rest[65536];
	ssize_t n;

	do
		n = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
	while (n > 0);
	return n == 0;
}

static void
reset_by_peer(int fd)
{
	struct linger now = {1, 0};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	close(fd);
}

static struct side *
accepted(int fd[2])
{
	tcp_pair(fd);
	return side_new(&loop, transport_accepted(loop.base, fd[0], NULL), true);
}

static void
bytes_go_both_ways(void **state)
{
	int fd[2];
	struct side *s = accepted(fd);

	(void)state;
	assert_int_equal(s->n_established, 1); /* inside start */
	s->echo = true;
	say(fd[1], "hello");
	LOOP_UNTIL(&loop, heard(fd[1], "hello"));
	assert_string_equal(s->received, "hello");
	assert_true(transport_covers(s->conn.transport, "any.test", 8));
	side_free(s);
	close(fd[1]);
}

static void
half_closed_peer_gets_its_answer(void **state)
{
	int fd[2];
	struct side *s = accepted(fd);

	(void)state;
	say(fd[1], "question");
	shutdown(fd[1], SHUT_WR);
	LOOP_UNTIL(&loop, s->n_eof == 1);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	assert_int_equal(s->n_lost, 0);
	side_send(s, "answer", 6);
	LOOP_UNTIL(&loop, heard(fd[1], "answer"));
	conn_shutdown_write(&s->conn);
	LOOP_UNTIL(&loop, heard_eof(fd[1]));
	side_free(s);
	close(fd[1]);
}

static void
reset_is_noticed_after_eof(void **state)
{
	int fd[2];
	struct side *s = accepted(fd);

	(void)state;
	shutdown(fd[1], SHUT_WR);
	LOOP_UNTIL(&loop, s->n_eof == 1);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	reset_by_peer(fd[1]);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->n_lost, 1);
	assert_int_equal(s->why, OUTCOME_CLIENT_GONE);
	side_free(s);
}

static void
reset_is_noticed_while_paused(void **state)
{
	int fd[2];
	struct side *s = accepted(fd);

	(void)state;
	s->keep = true;
	say(fd[1], "one");
	LOOP_UNTIL(&loop, s->conn.pauses != 0);
	say(fd[1], "two"); /* not read: the socket is watched for its end only */
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	assert_int_equal(s->n_lost, 0);
	reset_by_peer(fd[1]);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->why, OUTCOME_CLIENT_GONE);
	side_free(s);
}

static void
paused_reader_goes_on(void **state)
{
	int fd[2];
	struct side *s = accepted(fd);

	(void)state;
	s->keep = true;
	say(fd[1], "one");
	LOOP_UNTIL(&loop, s->conn.pauses != 0);
	say(fd[1], "two");
	loop_idle_rounds(&loop);
	s->keep = false;
	conn_resume(&s->conn, PAUSE_CODEC);
	LOOP_UNTIL(&loop, s->n_received == 6);
	assert_string_equal(s->received, "onetwo");
	say(fd[1], "three");
	LOOP_UNTIL(&loop, s->n_received == 11);
	side_free(s);
	close(fd[1]);
}

static void
much_goes_through_a_narrow_socket(void **state)
{
	int fd[2], small = 4096;
	struct side *s = accepted(fd);
	char *bytes = malloc(MANY), *got = malloc(MANY);
	size_t n = 0;

	(void)state;
	assert_non_null(bytes);
	assert_non_null(got);
	assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
	for (size_t i = 0; i < MANY; i++)
		bytes[i] = (char)(i * 7 + i / 1000);
	side_send(s, bytes, MANY);
	LOOP_UNTIL(&loop, s->conn.blocked);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX); /* blocked is not busy */
	while (n < MANY) {
		ssize_t part = recv(fd[1], got + n, MANY - n, MSG_DONTWAIT);

		if (part > 0)
			n += (size_t)part;
		else
			loop_once(&loop);
	}
	assert_memory_equal(bytes, got, MANY);
	LOOP_UNTIL(&loop, !s->conn.writing);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	free(bytes);
	free(got);
	side_free(s);
	close(fd[1]);
}

static void
reset_while_blocked_is_noticed(void **state)
{
	int fd[2];
	struct side *s = accepted(fd);
	char *bytes = calloc(1, 2 * MANY);

	(void)state;
	assert_non_null(bytes);
	s->keep = true;
	say(fd[1], "x");
	LOOP_UNTIL(&loop, s->conn.pauses != 0);
	side_send(s, bytes, 2 * MANY);
	LOOP_UNTIL(&loop, s->conn.blocked);
	reset_by_peer(fd[1]);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->why, OUTCOME_CLIENT_GONE);
	free(bytes);
	side_free(s);
}

static void
abort_is_a_reset(void **state)
{
	int fd[2];
	char byte;
	struct side *s = accepted(fd);

	(void)state;
	conn_close(&s->conn, true);
	LOOP_UNTIL(&loop, s->gone);
	errno = 0;
	while (recv(fd[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
		loop_once(&loop);
	assert_int_equal(errno, ECONNRESET);
	side_free(s);
	close(fd[1]);
}

/* --- connecting ------------------------------------------------------------------ */

static struct side *
connecting(const struct sockaddr_storage *to, unsigned len)
{
	return side_new(&loop,
	    transport_connect(loop.base, (const struct sockaddr *)to, len, NULL, "a.test"), false);
}

static void
connect_and_talk(void **state)
{
	struct sockaddr_storage to;
	unsigned len;
	int listener = tcp_listen(&to, &len), fd;
	struct side *s = connecting(&to, len);

	(void)state;
	assert_int_equal(s->n_established, 0); /* never inside start */
	side_send(s, "early", 5);
	LOOP_UNTIL(&loop, s->n_established == 1);
	fd = tcp_accept(listener);
	LOOP_UNTIL(&loop, heard(fd, "early"));
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	say(fd, "answer");
	LOOP_UNTIL(&loop, s->n_received == 6);
	shutdown(fd, SHUT_WR);
	LOOP_UNTIL(&loop, s->n_eof == 1);
	side_free(s);
	close(fd);
	close(listener);
}

/* Connected, and its codec wants nothing for now: nobody asks whether it is writable. */
static void
paused_connection_does_not_spin(void **state)
{
	struct sockaddr_storage to;
	unsigned len;
	int listener = tcp_listen(&to, &len), fd;
	struct side *s = connecting(&to, len);

	(void)state;
	conn_pause(&s->conn, PAUSE_CODEC);
	LOOP_UNTIL(&loop, s->n_established == 1);
	fd = tcp_accept(listener);
	say(fd, "later");
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	conn_resume(&s->conn, PAUSE_CODEC);
	LOOP_UNTIL(&loop, s->n_received == 5);
	side_free(s);
	close(fd);
	close(listener);
}

static void
refused_is_told_later(void **state)
{
	struct sockaddr_storage to;
	unsigned len;
	struct side *s;

	(void)state;
	close(tcp_listen(&to, &len));
	s = connecting(&to, len);
	assert_false(s->conn.dead);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->n_established, 0);
	assert_int_equal(s->n_lost, 1);
	assert_int_equal(s->why, OUTCOME_CONNECT_REFUSED);
	side_free(s);
}

/* That this process is short of descriptors is not the backend's fault. */
static void
no_descriptor_is_left(void **state)
{
	struct sockaddr_storage to;
	struct rlimit old, none;
	unsigned len;
	struct side *s;
	int listener = tcp_listen(&to, &len);

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	s = connecting(&to, len);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->why, OUTCOME_NO_SOCKET);
	side_free(s);
	close(listener);
}

static void
unix_sockets(void **state)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)&storage;
	char directory[] = "/tmp/teal-test-XXXXXX";
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	struct side *s;

	(void)state;
	assert_non_null(mkdtemp(directory));
	un->sun_family = AF_UNIX;
	(void)snprintf(un->sun_path, sizeof un->sun_path, "%s/socket", directory);
	s = connecting(&storage, sizeof *un);
	assert_false(s->conn.dead);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->why, OUTCOME_CONNECT_FAILED); /* ENOENT */
	side_free(s);

	assert_int_equal(bind(listener, (struct sockaddr *)un, sizeof *un), 0);
	s = connecting(&storage, sizeof *un);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->why, OUTCOME_CONNECT_REFUSED); /* nobody listens */
	side_free(s);

	assert_int_equal(listen(listener, 4), 0);
	s = connecting(&storage, sizeof *un);
	assert_int_equal(s->n_established, 0);
	LOOP_UNTIL(&loop, s->n_established == 1);
	fd = tcp_accept(listener);
	say(fd, "unix");
	LOOP_UNTIL(&loop, s->n_received == 4);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	side_free(s);
	close(fd);
	close(listener);
	unlink(un->sun_path);
	rmdir(directory);
}

static void
close_before_the_outcome(void **state)
{
	struct sockaddr_storage to;
	unsigned len;
	int listener = tcp_listen(&to, &len);
	struct side *s = connecting(&to, len);

	(void)state;
	conn_close(&s->conn, false);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->n_established + s->n_lost, 0);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	side_free(s);
	close(listener);
}

/* What a backend sent before it reset the connection is still an answer. */
static void
unread_answer_outlives_a_reset(void **state)
{
	struct sockaddr_storage to;
	unsigned len;
	int listener = tcp_listen(&to, &len), fd;
	struct side *s = connecting(&to, len);

	(void)state;
	LOOP_UNTIL(&loop, s->n_established == 1);
	fd = tcp_accept(listener);
	s->keep = true;
	say(fd, "ans");
	LOOP_UNTIL(&loop, s->conn.pauses != 0);
	say(fd, "wer");
	loop_idle_rounds(&loop);
	reset_by_peer(fd);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	assert_int_equal(s->n_lost, 0);
	s->keep = false;
	conn_resume(&s->conn, PAUSE_CODEC);
	LOOP_UNTIL(&loop, s->gone);
	assert_string_equal(s->received, "answer");
	assert_int_equal(s->n_eof, 0);
	assert_int_equal(s->why, OUTCOME_BACK_RESET);
	side_free(s);
	close(listener);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(bytes_go_both_ways),
	    TEST(half_closed_peer_gets_its_answer),
	    TEST(reset_is_noticed_after_eof),
	    TEST(reset_is_noticed_while_paused),
	    TEST(paused_reader_goes_on),
	    TEST(much_goes_through_a_narrow_socket),
	    TEST(reset_while_blocked_is_noticed),
	    TEST(abort_is_a_reset),
	    TEST(connect_and_talk),
	    TEST(paused_connection_does_not_spin),
	    TEST(refused_is_told_later),
	    TEST(no_descriptor_is_left),
	    TEST(unix_sockets),
	    TEST(close_before_the_outcome),
	    TEST(unread_answer_outlives_a_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
