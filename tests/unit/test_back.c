/*
 * The pool of connections to backends, over real sockets on loopback: which connection a stream gets, which are kept,
 * what becomes of them when the fleet or the worker changes.  The test is the backend.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/exchange/back.h"
#include "proxy/exchange/exchange.h"
#include "proxy/process/snapshot.h"
#include "tests/codec/loop.h"
#include "tests/unit/config_files.h"

#define POOL(more)                                                                                 \
	LISTEN "services = ( { name = \"api\"; blue = { backends = [ \"10.0.0.1:80\" ]; " more     \
	       " }; } );\n"

static struct loop loop;
static struct config *config;
static struct roster roster;
static struct engine engine;
static struct fleet_ref ref;
static int listening[2];

static void
keep(struct fleet_ref *r)
{
	(void)r;
}

/* The one backend has these two addresses; the second one counts when `n` is 2. */
static void
adopt(unsigned n)
{
	roster.backends[0]->target.n = n;
	assert_int_equal(roster_snapshot(&roster), 0);
	roster.current->holders = 1;
	ref = (struct fleet_ref){.fleet = &roster.current->fleet, .refs = 1, .release = keep};
	engine.fleet = &ref;
}

static const struct member *
member(void)
{
	return &roster.current->fleet.services[0].pools[BLUE].members[0];
}

static uint32_t
connections(void)
{
	return roster.backends[0]->backend.connections;
}

static void
begin(const char *text)
{
	struct state none = {0};
	char err[256];

	config = conf_load_ok(text);
	loop_init(&loop);
	memset(&engine, 0, sizeof(engine));
	assert_int_equal(roster_init(&roster, config, 1, &none, err, sizeof(err)), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct target *t = &roster.backends[0]->target;

		listening[i] = tcp_listen(&t->at[i].address, &t->at[i].length);
	}
	engine.turn = &loop.turn;
	engine.base = loop.base;
	engine.config = config;
	adopt(1);
	exchange_engine_init(&engine);
}

static void
end(void)
{
	back_stop(&engine);
	LOOP_UNTIL(&loop, back_open_connections(&engine) == 0);
	assert_int_equal(connections(), 0);
	back_fini(&engine);
	exchange_engine_fini(&engine);
	for (unsigned i = 0; i < 2; i++) {
		if (listening[i] != -1)
			close(listening[i]);
	}
	roster_fini(&roster);
	loop_fini(&loop);
	config_free(config);
}

/* --- a call: one request without a body -------------------------------------------- */

struct call {
	struct stream *stream;
	unsigned status;
	bool closed;
	enum outcome why;
};

static void
on_head(void *user, const struct head *head, bool last)
{
	struct call *c = user;

	assert_true(last);
	c->status = head->status;
}

static void
on_body(void *user, struct slice s, bool last)
{
	(void)user;
	(void)s;
	(void)last;
	fail();
}

static void
on_drained(void *user, size_t n)
{
	(void)user;
	(void)n;
}

static void
on_closed(void *user, enum outcome why)
{
	struct call *c = user;

	c->closed = true;
	c->why = why;
}

static enum back_result
call_with(struct call *c, unsigned *tried)
{
	static const struct stream_events events = {
	    .head = on_head, .body = on_body, .drained = on_drained, .closed = on_closed};
	struct head head = {.method = METHOD_GET,
	    .method_text = TEXT("GET"),
	    .scheme = TEXT("http"),
	    .authority = TEXT("api.example"),
	    .path = TEXT("/"),
	    .content_length = HEAD_LENGTH_NONE,
	    .no_body = true};
	enum back_result result;

	*c = (struct call){0};
	result = back_stream(&engine, member(), tried, &c->stream);
	if (result != BACK_OPENED)
		return result;
	c->stream->events = &events;
	c->stream->user = c;
	stream_send_head(c->stream, &head, true);
	return result;
}

static struct call *
call(struct call *c)
{
	unsigned tried = 0;

	assert_int_equal(call_with(c, &tried), BACK_OPENED);
	return c;
}

/* The backend's end of the connection on which the request came. */
static int
accepted(unsigned which)
{
	int fd;

	for (unsigned i = 0; i < 3; i++)
		loop_once(&loop);
	fd = tcp_accept(listening[which]);
	assert_true(fd >= 0);
	return fd;
}

static bool
readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void
answer(int fd, struct call *c)
{
	static const char text[] = "HTTP/1.1 204 No Content\r\n\r\n";
	char request[4096];

	LOOP_UNTIL(&loop, readable(fd));
	assert_true(read(fd, request, sizeof(request)) > 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	LOOP_UNTIL(&loop, c->closed);
	assert_int_equal(c->why, OUTCOME_OK);
	assert_int_equal(c->status, 204);
}

static void
hung_up(int fd)
{
	char byte;

	LOOP_UNTIL(&loop, readable(fd));
	assert_true(read(fd, &byte, 1) <= 0);
	close(fd);
}

/* --- which connection -------------------------------------------------------------------- */

static void
test_hottest_first(void **state)
{
	struct call a, b, c;
	int one, two;

	(void)state;
	begin(POOL(""));
	call(&a);
	one = accepted(0);
	call(&b);
	two = accepted(0);
	answer(one, &a);
	answer(two, &b);
	assert_int_equal(connections(), 2);
	/* the one that came back last has the warmer caches */
	call(&c);
	answer(two, &c);
	call(&c);
	call(&a);
	answer(two, &c);
	answer(one, &a);
	assert_int_equal(connections(), 2);
	end();
	hung_up(one);
	hung_up(two);
}

static void
test_idle_connections_are_bounded(void **state)
{
	struct call a, b;
	int one, two;

	(void)state;
	begin(POOL("idle_connections = 1;"));
	call(&a);
	one = accepted(0);
	call(&b);
	two = accepted(0);
	answer(one, &a);
	answer(two, &b);
	assert_int_equal(connections(), 2); /* a burst may want both again */
	LOOP_UNTIL(&loop, connections() == 1);
	hung_up(one); /* the one that lay idle longer */
	call(&a);
	answer(two, &a);
	end();
	close(two);

	begin(POOL("idle_connections = 0;"));
	call(&a);
	one = accepted(0);
	answer(one, &a);
	hung_up(one);
	LOOP_UNTIL(&loop, connections() == 0);
	end();
}

/* Two idle ones where one is kept, and it is `ms` later. */
static void
two_idle(int fd[2], int64_t ms)
{
	struct call a, b;

	call(&a);
	fd[0] = accepted(0);
	call(&b);
	fd[1] = accepted(0);
	answer(fd[0], &a);
	answer(fd[1], &b);
	assert_int_equal(connections(), 2);
	loop.turn.now_ms += ms;
}

/* A stop and the tick that closes the excess may come in one turn. */
static void
test_stop_with_excess(void **state)
{
	int fd[2];

	(void)state;
	begin(POOL("idle_connections = 1;"));
	two_idle(fd, 1000);
	back_stop(&engine);
	wheel_advance(&loop.turn.wheel, loop.turn.now_ms);
	end();
	close(fd[0]);
	close(fd[1]);
}

/* The half second of grace is no longer life: a backend's own keep-alive may be shorter. */
static void
test_excess_keeps_idle_timeout(void **state)
{
	int fd[2];

	(void)state;
	begin(POOL("idle_connections = 1; idle_timeout = \"100ms\";"));
	two_idle(fd, 200);
	wheel_advance(&loop.turn.wheel, loop.turn.now_ms);
	(void)turn_end(&loop.turn);
	assert_int_equal(connections(), 0);
	end();
	close(fd[0]);
	close(fd[1]);
}

static void
test_idle_timeout(void **state)
{
	struct call a;
	int one;

	(void)state;
	begin(POOL("idle_timeout = \"100ms\";"));
	call(&a);
	one = accepted(0);
	answer(one, &a);
	assert_int_equal(connections(), 1);
	LOOP_UNTIL(&loop, connections() == 0);
	hung_up(one);
	end();
}

static void
test_max_connections(void **state)
{
	struct call a, b;
	unsigned tried = 0;
	int one;

	(void)state;
	begin(POOL("max_connections = 1;"));
	call(&a);
	assert_int_equal(call_with(&b, &tried), BACK_FULL);
	assert_int_equal(tried, 0);
	assert_int_equal(connections(), 1);
	one = accepted(0);
	answer(one, &a);
	call(&b); /* the one there is */
	/* somebody waits on another worker, who cannot take ours: it is closed for him */
	roster.states[0].waiting[BLUE] = 1;
	answer(one, &b);
	hung_up(one);
	LOOP_UNTIL(&loop, connections() == 0);
	/* and so is one that was idle already */
	roster.states[0].waiting[BLUE] = 0;
	call(&a);
	one = accepted(0);
	answer(one, &a);
	assert_int_equal(connections(), 1);
	roster.states[0].waiting[BLUE] = 1;
	LOOP_UNTIL(&loop, connections() == 0);
	roster.states[0].waiting[BLUE] = 0;
	close(one);
	end();
}

/* --- addresses -------------------------------------------------------------------------------- */

static void
refused(struct call *c)
{
	LOOP_UNTIL(&loop, c->closed);
	assert_int_equal(c->why, OUTCOME_CONNECT_REFUSED);
}

static void
test_addresses_in_turn(void **state)
{
	struct backend *b;
	struct call a, again;
	unsigned tried = 0;
	int two;

	(void)state;
	begin(POOL(""));
	adopt(2);
	b = &roster.backends[0]->backend;
	close(listening[0]);
	listening[0] = -1;
	assert_int_equal(call_with(&a, &tried), BACK_OPENED);
	assert_int_equal(tried, 1);
	/* before anybody knows how that ends */
	assert_int_equal(call_with(&again, &tried), BACK_OPENED);
	assert_int_equal(tried, 3);
	stream_reset(again.stream, OUTCOME_CLIENT_GONE);
	close(accepted(1));
	tried = 1;
	refused(&a);
	assert_int_equal(b->held_until_ms, 0); /* it has another address */
	assert_int_equal(call_with(&a, &tried), BACK_OPENED);
	assert_int_equal(tried, 3);
	two = accepted(1);
	answer(two, &a);
	/* a new one begins with what was not refused */
	call(&a);
	tried = 0;
	assert_int_equal(call_with(&again, &tried), BACK_OPENED);
	assert_int_equal(tried, 2);
	answer(two, &a);
	close(two);
	two = accepted(1);
	answer(two, &again);
	close(two);
	LOOP_UNTIL(&loop, connections() == 0);
	/* all refuse: held down */
	close(listening[1]);
	listening[1] = -1;
	tried = 0;
	assert_int_equal(call_with(&a, &tried), BACK_OPENED);
	refused(&a);
	assert_int_equal(call_with(&a, &tried), BACK_OPENED);
	refused(&a);
	assert_int_equal(tried, 3);
	LOOP_UNTIL(&loop, connections() == 0);
	assert_int_not_equal(b->held_until_ms, 0);
	assert_int_equal(b->connect_failures, 1);
	end();
}

/* Many fail at once at the same address: that says nothing of the other one. */
static void
test_one_dead_address_is_no_dead_backend(void **state)
{
	struct call calls[3];

	(void)state;
	begin(POOL(""));
	adopt(2);
	close(listening[0]);
	listening[0] = -1;
	for (unsigned i = 0; i < 3; i++)
		call(&calls[i]);
	for (unsigned i = 0; i < 3; i++)
		refused(&calls[i]);
	LOOP_UNTIL(&loop, connections() == 0);
	assert_int_equal(roster.backends[0]->backend.held_until_ms, 0);
	end();
}

static void
test_unresolved(void **state)
{
	struct call a;
	unsigned tried = 0;

	(void)state;
	begin(POOL(""));
	adopt(0);
	assert_int_equal(call_with(&a, &tried), BACK_UNRESOLVED);
	assert_int_equal(connections(), 0);
	end();
}

/* --- changes ------------------------------------------------------------------------------------- */

/* The name resolves anew: idle connections to where it was are let go, those under way finish. */
static void
test_backend_moves(void **state)
{
	const struct member *old;
	struct call a, b;
	unsigned tried = 0;
	int one, two, three;

	(void)state;
	begin(POOL(""));
	old = member();
	call(&a);
	one = accepted(0);
	answer(one, &a);
	call(&b); /* under way on the first */
	roster.backends[0]->target.generation++;
	roster.backends[0]->target.at[0] = roster.backends[0]->target.at[1];
	adopt(1);
	call(&a);
	two = accepted(1);
	answer(two, &a);
	answer(one, &b);
	/* hottest is now the old one: closed when it is looked at */
	call(&a);
	answer(two, &a);
	hung_up(one);
	/* who still holds the old fleet may use a newer connection */
	assert_int_equal(back_stream(&engine, old, &tried, &a.stream), BACK_OPENED);
	assert_int_equal(tried, 0);
	stream_reset(a.stream, OUTCOME_CLIENT_GONE);
	hung_up(two);
	call(&a);
	three = accepted(1);
	answer(three, &a);
	close(three);
	end();
}

static void
test_sweep(void **state)
{
	struct call a, b;
	int one, two;

	(void)state;
	begin(POOL(""));
	call(&a);
	one = accepted(0);
	call(&b);
	two = accepted(0);
	answer(one, &a);
	back_sweep(&engine); /* it is in the fleet: nothing */
	loop_once(&loop);
	assert_int_equal(connections(), 2);
	roster.backends[0]->member = false;
	assert_int_equal(roster_snapshot(&roster), 0);
	ref.fleet = &roster.current->fleet;
	back_sweep(&engine);
	hung_up(one);
	answer(two, &b); /* what is under way finishes */
	end();
	close(two);
}

/* The backend is dead: who waits on one of its connections is told, whatever became of the connection so far. */
static void
test_close(void **state)
{
	struct call idle, kept, fresh, connecting;
	struct backend *b;
	int one, two;

	(void)state;
	begin(POOL(""));
	b = &roster.backends[0]->backend;
	call(&idle);
	one = accepted(0);
	answer(one, &idle);
	back_close(&engine, b); /* only an idle one */
	hung_up(one);
	LOOP_UNTIL(&loop, connections() == 0);
	call(&kept);
	one = accepted(0);
	answer(one, &kept);
	call(&kept);
	call(&fresh);
	two = accepted(0);
	LOOP_UNTIL(&loop, readable(one) && readable(two));
	call(&connecting);
	back_close(&engine, b);
	assert_true(kept.closed && fresh.closed && connecting.closed);
	assert_int_equal(kept.why, OUTCOME_BACK_STALE);
	assert_int_equal(fresh.why, OUTCOME_BACK_RESET);
	assert_int_equal(connecting.why, OUTCOME_BACK_GOAWAY);
	LOOP_UNTIL(&loop, connections() == 0);
	assert_int_equal(b->held_until_ms, 0); /* it was us */
	assert_int_equal(b->connect_failures, 0);
	close(one);
	close(two);
	/* one this worker never spoke to */
	b = &(struct backend){.id = 7};
	back_close(&engine, b);
	end();
}

/* Idle, busy, connecting: all are gone at once. */
static void
test_stop(void **state)
{
	struct call a, b, c;
	int one, two;

	(void)state;
	begin(POOL(""));
	call(&a);
	one = accepted(0);
	call(&b);
	two = accepted(0);
	answer(one, &a);
	stream_reset(b.stream, OUTCOME_STOPPED);
	call(&a);
	call(&c);
	stream_reset(a.stream, OUTCOME_STOPPED);
	stream_reset(c.stream, OUTCOME_STOPPED);
	back_stop(&engine);
	(void)turn_end(&loop.turn);
	assert_int_equal(back_open_connections(&engine), 0);
	assert_int_equal(roster.backends[0]->backend.held_until_ms, 0); /* it was us */
	end();
	close(one);
	close(two);
}

/* Streams of an h2 connection that a peer does not read from linger in the codec: the stop does not wait for them. */
static void
test_stop_with_streams_in_h2(void **state)
{
	struct call a, b;
	int one;

	(void)state;
	begin(POOL("protocol = \"h2\"; streams = 2;"));
	call(&a);
	call(&b);
	one = accepted(0);
	assert_int_equal(connections(), 1); /* one for both */
	stream_reset(a.stream, OUTCOME_STOPPED);
	stream_reset(b.stream, OUTCOME_STOPPED);
	back_stop(&engine);
	(void)turn_end(&loop.turn);
	assert_int_equal(back_open_connections(&engine), 0);
	end();
	close(one);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hottest_first),
	    cmocka_unit_test(test_idle_connections_are_bounded),
	    cmocka_unit_test(test_stop_with_excess),
	    cmocka_unit_test(test_excess_keeps_idle_timeout),
	    cmocka_unit_test(test_idle_timeout),
	    cmocka_unit_test(test_max_connections),
	    cmocka_unit_test(test_addresses_in_turn),
	    cmocka_unit_test(test_one_dead_address_is_no_dead_backend),
	    cmocka_unit_test(test_unresolved),
	    cmocka_unit_test(test_backend_moves),
	    cmocka_unit_test(test_sweep),
	    cmocka_unit_test(test_close),
	    cmocka_unit_test(test_stop),
	    cmocka_unit_test(test_stop_with_streams_in_h2),
	};

	return cmocka_run_group_tests_name("back", tests, config_files_begin, config_files_end);
}
