/*
 * The hooks, with real commands and a small HTTP server on the same loop: what they get, in which order, what is repeated and
 * what is not, and that one never waits for the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/process/announce.h"

#define DEADLINE_S 20
#define PAUSE_MS   2 /* instead of a second */
#define N(a)       (sizeof(a) / sizeof((a)[0]))

static struct event_base *base;
static struct announce *announce;
static struct announce_config config;
static char none[] = "", url[64], directory[32], file[64];
static char step[] = "step", tripped[] = "tripped";
static char *both[] = {step, tripped};
static char sh[] = "/bin/sh", dash_c[] = "-c", script[512];
static char *argv[] = {sh, dash_c, script};

/* --- the server ------------------------------------------------------------------------------ */

static struct {
	struct evhttp *http;
	unsigned n;
	int statuses[8]; /* of the first requests; 0: 204 */
	bool silent;     /* never answers */
	size_t answer;   /* bytes of the answer's body */
	char bodies[512][64];
	char type[64], agent[64], authorization[64], expect[64], empty[8];
	enum evhttp_cmd_type method;
	struct evhttp_request *held;
} server;

static void
keep_field(struct evhttp_request *r, const char *name, char *out, size_t size)
{
	const struct evkeyval *field = evhttp_request_get_input_headers(r)->tqh_first;
	unsigned n = 0;

	snprintf(out, size, "(none)");
	for (; field != NULL; field = field->next.tqe_next) {
		if (strcasecmp(field->key, name) == 0) {
			assert_int_equal(n++, 0); /* once at most */
			snprintf(out, size, "%s", field->value);
		}
	}
}

static void
on_request(struct evhttp_request *r, void *arg)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(r), *out = evbuffer_new();
	int status = server.n < N(server.statuses) ? server.statuses[server.n] : 0;
	size_t n = evbuffer_get_length(in);

	(void)arg;
	assert_true(server.n < N(server.bodies) && n < sizeof(server.bodies[0]));
	evbuffer_remove(in, server.bodies[server.n++], n);
	keep_field(r, "Content-Type", server.type, sizeof(server.type));
	keep_field(r, "User-Agent", server.agent, sizeof(server.agent));
	keep_field(r, "Authorization", server.authorization, sizeof(server.authorization));
	keep_field(r, "Expect", server.expect, sizeof(server.expect));
	keep_field(r, "X-Empty", server.empty, sizeof(server.empty));
	server.method = evhttp_request_get_command(r);
	if (server.silent) {
		server.held = r;
		evbuffer_free(out);
		return;
	}
	if (status / 100 == 3)
		evhttp_add_header(evhttp_request_get_output_headers(r), "Location", "/elsewhere");
	for (size_t i = 0; i < server.answer; i++)
		evbuffer_add(out, "x", 1);
	evhttp_send_reply(r, status != 0 ? status : server.answer > 0 ? 200 : 204, NULL, out);
	evbuffer_free(out);
}

static void
server_start(void)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);
	struct evhttp_bound_socket *s;

	server.http = evhttp_new(base);
	s = evhttp_bind_socket_with_handle(server.http, "127.0.0.1", 0);
	assert_non_null(s);
	assert_int_equal(getsockname(evhttp_bound_socket_get_fd(s), (struct sockaddr *)&a, &n), 0);
	evhttp_set_gencb(server.http, on_request, NULL);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/hook?x=1", ntohs(a.sin_port));
	config.webhook = url;
}

/* --- a world --------------------------------------------------------------------------------- */

static int
setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN); /* as main does */
	log_set_level(LOG_LEVEL_WARN);
	memset(&server, 0, sizeof(server));
	config = (struct announce_config){.exec_timeout_ms = 30000,
	    .webhook = none,
	    .webhook_timeout_ms = 10000,
	    .webhook_ca = none,
	    .retries = 2,
	    .events = {both, 2}};
	snprintf(directory, sizeof(directory), "/tmp/teal-announce-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(file, sizeof(file), "%s/out", directory);
	base = event_base_new();
	return base == NULL;
}

static int
teardown(void **state)
{
	(void)state;
	announce_free(announce);
	announce = NULL;
	if (server.http != NULL)
		evhttp_free(server.http);
	event_base_free(base);
	unlink(file);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, no zombie */
	return rmdir(directory);
}

static void
start(void)
{
	announce = announce_new(base, &config, PAUSE_MS);
}

/* A script; $OUT is the file. */
static void
command(const char *text)
{
	setenv("OUT", file, 1);
	snprintf(script, sizeof(script), "%s", text);
	config.exec = (struct string_list){argv, 3};
}

static void
tell(const char *type, unsigned number)
{
	char json[64];

	snprintf(json, sizeof(json), "{\"n\":%u}", number);
	announce_tell(announce, type, "api", json, strlen(json));
}

static void
too_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	fail_msg("not within %d s", DEADLINE_S);
}

static void
counters(struct hook_counters *exec, struct hook_counters *webhook)
{
	announce_counters(announce, exec, webhook);
}

/* Turns the loop until both hooks have ended so many. */
static void
loop_until(uint64_t n_exec, uint64_t n_webhook)
{
	struct timeval patience = {.tv_sec = DEADLINE_S};
	struct event *deadline = evtimer_new(base, too_late, NULL);
	struct hook_counters e, w;

	evtimer_add(deadline, &patience);
	for (counters(&e, &w); e.ok + e.failed < n_exec || w.ok + w.failed < n_webhook;
	     counters(&e, &w))
		event_base_loop(base, EVLOOP_ONCE);
	event_free(deadline);
}

static void
assert_counted(uint64_t exec_ok, uint64_t exec_failed, uint64_t webhook_ok, uint64_t webhook_failed)
{
	struct hook_counters e, w;

	counters(&e, &w);
	assert_int_equal(e.ok, exec_ok);
	assert_int_equal(e.failed, exec_failed);
	assert_int_equal(w.ok, webhook_ok);
	assert_int_equal(w.failed, webhook_failed);
}

static const char *
contents(void)
{
	static char text[8192];
	FILE *f = fopen(file, "r");

	text[0] = '\0';
	if (f != NULL) {
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		fclose(f);
	}
	return text;
}

/* --- the command ----------------------------------------------------------------------------- */

static void
test_command(void **state)
{
	(void)state;
	command("{ echo $TEAL_EVENT $TEAL_SERVICE; cat; } >>$OUT");
	start();
	tell("step", 1);
	tell("tripped", 2);
	tell("promoted", 3); /* nobody wants it */
	tell("step", 4);
	loop_until(3, 0);
	assert_string_equal(
	    contents(), "step api\n{\"n\":1}\ntripped api\n{\"n\":2}\nstep api\n{\"n\":4}\n");
	assert_counted(3, 0, 0, 0);
}

static void
test_command_repeated(void **state)
{
	(void)state;
	/* fails twice, then takes it; the next comes after */
	command("cat >>$OUT; [ $(wc -l <$OUT) -ge 3 ]");
	start();
	tell("step", 1);
	tell("step", 2);
	loop_until(2, 0);
	assert_string_equal(contents(), "{\"n\":1}\n{\"n\":1}\n{\"n\":1}\n{\"n\":2}\n");
	assert_counted(2, 0, 0, 0);
}

static void
test_command_given_up(void **state)
{
	(void)state;
	command("cat >>$OUT; exit 1");
	start();
	tell("step", 1);
	tell("tripped", 2);
	loop_until(2, 0);
	/* once, and two repetitions, each */
	assert_string_equal(
	    contents(), "{\"n\":1}\n{\"n\":1}\n{\"n\":1}\n{\"n\":2}\n{\"n\":2}\n{\"n\":2}\n");
	assert_counted(0, 2, 0, 0);
}

static void
test_command_too_slow(void **state)
{
	(void)state;
	config.retries = 0;
	config.exec_timeout_ms = 50;
	command("sleep 100");
	start();
	tell("step", 1);
	loop_until(1, 0);
	assert_counted(0, 1, 0, 0);
}

static void
test_end_under_way(void **state)
{
	(void)state;
	server_start();
	server.silent = true;
	command("sleep 100");
	start();
	tell("step", 1);
	tell("step", 2);
	while (server.n == 0)
		event_base_loop(base, EVLOOP_ONCE);
	/* teardown ends both, and looks for what is left */
	announce_free(announce);
	announce = NULL;
}

static void
test_end_while_waiting(void **state)
{
	(void)state;
	server_start();
	server.statuses[0] = 500;
	start();
	announce_free(announce);
	announce = announce_new(base, &config, 60000);
	tell("step", 1);
	while (server.n == 0)
		event_base_loop(base, EVLOOP_ONCE);
}

/* --- the webhook ----------------------------------------------------------------------------- */

static void
test_webhook(void **state)
{
	char a[] = "authorization", b[] = "Bearer x", c[] = "x-empty";
	struct header_rule rules[] = {{HEADER_SET, a, b}, {HEADER_SET, c, none}};

	(void)state;
	config.webhook_headers = (struct header_rules){rules, 2};
	server_start();
	start();
	tell("tripped", 7);
	tell("promoted", 8);
	loop_until(0, 1);
	assert_int_equal(server.n, 1);
	assert_int_equal(server.method, EVHTTP_REQ_POST);
	assert_string_equal(server.bodies[0], "{\"n\":7}");
	assert_string_equal(server.type, "application/json");
	assert_int_equal(strncmp(server.agent, "teal/", 5), 0);
	assert_string_equal(server.authorization, "Bearer x");
	assert_string_equal(server.empty, "");
	assert_string_equal(server.expect, "(none)");
	assert_counted(0, 0, 1, 0);
}

static void
test_webhook_own_type(void **state)
{
	char a[] = "content-type", b[] = "application/x-mine";
	struct header_rule rules[] = {{HEADER_SET, a, b}};

	(void)state;
	config.webhook_headers = (struct header_rules){rules, 1};
	server_start();
	start();
	tell("step", 1);
	loop_until(0, 1);
	assert_string_equal(server.type, "application/x-mine");
}

static void
test_webhook_order(void **state)
{
	(void)state;
	server_start();
	server.statuses[0] = 500;
	server.statuses[1] = 429;
	server.statuses[3] = 408;
	start();
	for (unsigned i = 1; i <= 5; i++)
		tell("step", i);
	loop_until(0, 5);
	assert_int_equal(server.n, 8);
	assert_string_equal(server.bodies[0], "{\"n\":1}");
	assert_string_equal(server.bodies[1], "{\"n\":1}");
	assert_string_equal(server.bodies[2], "{\"n\":1}");
	assert_string_equal(server.bodies[3], "{\"n\":2}");
	assert_string_equal(server.bodies[4], "{\"n\":2}");
	assert_string_equal(server.bodies[5], "{\"n\":3}");
	assert_string_equal(server.bodies[7], "{\"n\":5}");
	assert_counted(0, 0, 5, 0);
}

/* How often is it sent when the answer is always this one? */
static unsigned
sent_for(int status)
{
	unsigned before = server.n;
	struct hook_counters e, w;

	for (unsigned i = 0; i < N(server.statuses); i++)
		server.statuses[i] = status;
	server.n = 0;
	counters(&e, &w);
	tell("step", (unsigned)status);
	loop_until(0, w.ok + w.failed + 1);
	before = server.n;
	return before;
}

static void
test_webhook_statuses(void **state)
{
	(void)state;
	server_start();
	start();
	assert_int_equal(sent_for(200), 1);
	assert_int_equal(sent_for(299), 1);
	assert_counted(0, 0, 2, 0);
	assert_int_equal(sent_for(400), 1);
	assert_int_equal(sent_for(404), 1);
	assert_int_equal(sent_for(410), 1);
	assert_int_equal(sent_for(408), 3);
	assert_int_equal(sent_for(429), 3);
	assert_int_equal(sent_for(500), 3);
	assert_int_equal(sent_for(503), 3);
	/* a redirect is not followed: a POST with a secret goes where it was told to go */
	assert_int_equal(sent_for(302), 3);
	assert_int_equal(sent_for(307), 3);
	assert_counted(0, 0, 2, 9);
}

static void
test_webhook_nobody_there(void **state)
{
	(void)state;
	server_start();
	evhttp_free(server.http);
	server.http = NULL;
	start();
	tell("step", 1);
	tell("step", 2);
	loop_until(0, 2);
	assert_counted(0, 0, 0, 2);
}

static void
test_webhook_too_slow(void **state)
{
	(void)state;
	config.retries = 0;
	config.webhook_timeout_ms = 50;
	server_start();
	server.silent = true;
	start();
	tell("step", 1);
	loop_until(0, 1);
	assert_counted(0, 0, 0, 1);
	assert_int_equal(server.n, 1);
}

/* The status is what counts; nobody waits for a long body. */
static void
test_webhook_long_answer(void **state)
{
	(void)state;
	server_start();
	server.answer = 1000000;
	start();
	tell("step", 1);
	tell("step", 2);
	loop_until(0, 2);
	assert_counted(0, 0, 2, 0);
}

/* --- both ------------------------------------------------------------------------------------ */

static void
test_one_does_not_wait_for_the_other(void **state)
{
	(void)state;
	server_start();
	server.silent = true;
	command("cat >>$OUT");
	start();
	for (unsigned i = 1; i <= 3; i++)
		tell("step", i);
	loop_until(3, 0);
	assert_string_equal(contents(), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
	assert_counted(3, 0, 0, 0);
}

static void
test_too_many(void **state)
{
	struct hook_counters e, w;
	char expected[64];

	(void)state;
	server_start();
	start();
	/* the loop does not turn: one is under way, 256 wait, three of them are too many */
	for (unsigned i = 0; i < 1 + ANNOUNCE_QUEUE; i++)
		tell("step", i);
	counters(&e, &w);
	assert_int_equal(w.dropped, 0);
	for (unsigned i = 0; i < 3; i++)
		tell("step", 1 + ANNOUNCE_QUEUE + i);
	counters(&e, &w);
	assert_int_equal(w.dropped, 3);
	assert_int_equal(e.dropped, 0); /* not configured: nothing waits for it */
	loop_until(0, 1 + ANNOUNCE_QUEUE);
	assert_int_equal(server.n, 1 + ANNOUNCE_QUEUE);
	assert_string_equal(server.bodies[0], "{\"n\":0}");
	/* the oldest are gone, the newest is there */
	assert_string_equal(server.bodies[1], "{\"n\":4}");
	snprintf(expected, sizeof(expected), "{\"n\":%u}", ANNOUNCE_QUEUE + 3);
	assert_string_equal(server.bodies[ANNOUNCE_QUEUE], expected);
}

static void
test_none(void **state)
{
	(void)state;
	start();
	tell("step", 1);
	assert_counted(0, 0, 0, 0);
	assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 1); /* nothing is awaited */
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_command),
	    TEST(test_command_repeated),
	    TEST(test_command_given_up),
	    TEST(test_command_too_slow),
	    TEST(test_end_under_way),
	    TEST(test_end_while_waiting),
	    TEST(test_webhook),
	    TEST(test_webhook_own_type),
	    TEST(test_webhook_order),
	    TEST(test_webhook_statuses),
	    TEST(test_webhook_nobody_there),
	    TEST(test_webhook_too_slow),
	    TEST(test_webhook_long_answer),
	    TEST(test_one_does_not_wait_for_the_other),
	    TEST(test_too_many),
	    TEST(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
