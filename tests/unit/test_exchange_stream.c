/*
 * Bodies that are too much or too early, tunnels, and random walks: anything that two codecs may do, in any order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

/* --- too much, too early ----------------------------------------------------------------- */

static void
test_body_too_large(void **state)
{
	struct fake_stream *f, *other;
	struct head *head;

	(void)state;
	worker_begin(ONE("max_in_flight = 1;", "max_body = \"10\";"));
	f = front_new();
	head = head_of_request(f, "POST", "/", "");
	head->content_length = 11;
	hand_over(f, head, false);
	assert_int_equal(f->status, 413);
	assert_int_equal(w.n_backs, 0);
	fire_bytes(f, 11, true);
	conserved(f);
	finish_front(f);
	ended(OUTCOME_BODY_TOO_LARGE, 413);

	/* without a length it shows on the way */
	f = request("POST", false);
	fire_bytes(f, 10, false);
	fire_drained(w.back[0]);
	assert_int_equal(f->heads, 0);
	fire_bytes(f, 1, false);
	assert_int_equal(f->status, 413);
	assert_true(w.back[0]->reset);
	fire_bytes(f, 1000, false); /* what still comes is discarded, and given back */
	conserved(f);
	finish_front(f);
	ended(OUTCOME_BODY_TOO_LARGE, 413);

	/* in the queue */
	other = request("GET", true);
	f = request("POST", false);
	fire_bytes(f, 11, false);
	assert_int_equal(f->status, 413);
	finish_front(f);
	ended(OUTCOME_BODY_TOO_LARGE, 413);
	complete(other, w.back[1]);

	/* within the answer, which can only be cut */
	f = request("POST", false);
	fire_head(w.back[2], 200, false);
	fire_bytes(f, 11, false);
	assert_true(f->reset);
	worker_turn();
	ended(OUTCOME_BODY_TOO_LARGE, 200);
	assert_int_equal(tallied(BLUE).failures, 0);
	worker_end();
}

/* An answer that does not wait for the request (RFC 9113 8.1): it stands, the rest of the request goes nowhere. */
static void
test_early_response(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = request("POST", false);
	fire_bytes(f, 500, false);
	fire_head(w.back[0], 403, false);
	fire_bytes(f, 500, false); /* goes on while the answer comes */
	assert_int_equal(w.back[0]->n_sent, 1000);
	fire_body(w.back[0], "no", true);
	assert_true(f->ended);
	assert_true(w.back[0]->reset);
	assert_int_equal(w.back[0]->why, OUTCOME_OK);
	assert_int_equal(w.at[0]->inflight, 0);
	conserved(f);
	fire_bytes(f, 500, false);
	conserved(f);
	fire_trailers(f, "a: b\n");
	finish_front(f);
	ended(OUTCOME_OK, 403);
	worker_end();
}

/* How far a backend may be ahead of a client: the connection's streams share what it may have waiting, and when more than
 * that does wait, each that moves gets the least. */
static void
test_shares_of_one_connection(void **state)
{
	struct fake_stream *f[2];

	(void)state;
	worker_begin(ONE("", "") "limits = { queued_bytes = \"256k\"; };\n");
	for (unsigned i = 0; i < 2; i++) {
		f[i] = request("GET", true);
		fire_head(w.back[i], 200, false);
	}
	w.client.fc.n_streams = 16;
	fire_bytes(w.back[0], 1, false);
	assert_int_equal(w.back[0]->ahead, 65536); /* a sixteenth of four times 256k */
	w.client.fc.n_streams = 2;
	fire_bytes(w.back[0], 199999, false);
	assert_int_equal(w.back[0]->ahead, 262144);
	fire_bytes(w.back[1], 62144, false);
	assert_int_equal(w.back[1]->ahead, 262144);
	fire_bytes(w.back[1], 1, false); /* one byte more than may wait */
	assert_int_equal(w.back[1]->ahead, STREAM_HELD);
	fire_bytes(w.back[1], 70000, false);
	fire_drained(f[0]); /* more than half of it still waits */
	assert_int_equal(w.back[0]->ahead, STREAM_HELD);
	fire_drained(f[1]);
	assert_int_equal(w.back[1]->ahead, 262144);
	for (unsigned i = 0; i < 2; i++) {
		fire_body(w.back[i], "", true);
		fire_closed(w.back[i], OUTCOME_OK);
		finish_front(f[i]);
	}
	worker_end();
}

/* --- tunnels ----------------------------------------------------------------------------- */

static void
test_tunnel(void **state)
{
	struct fake_stream *f, *b;

	(void)state;
	worker_begin(ONE("", TIMES "max_body = \"10\";"));
	f = upgrade();
	b = w.back[0];
	assert_true(b->websocket);
	assert_false(b->ended);
	fire_head(b, 101, false);
	assert_int_equal(f->status, 101);
	worker_waits(3000);
	fire_bytes(f, 100, false); /* max_body is for requests */
	fire_drained(b);
	conserved(f);
	worker_waits(3000);
	fire_bytes(b, 100, false);
	fire_drained(f);
	conserved(b);
	worker_waits(3000);
	/* the client ends its half, then the backend its own */
	fire_body(f, "bye", true);
	assert_true(b->ended);
	assert_int_equal(w.at[0]->inflight, 1);
	fire_drained(b);
	fire_body(b, "bye", true);
	assert_true(f->ended);
	fire_closed(b, OUTCOME_OK);
	assert_int_equal(w.at[0]->inflight, 0);
	finish_front(f);
	conserved(f);
	ended(OUTCOME_TUNNEL, 101);
	assert_int_equal(tallied(BLUE).failures, 0);
	worker_end();
}

static void
test_tunnel_idle(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", TIMES));
	f = upgrade();
	fire_head(w.back[0], 101, false);
	worker_waits(4100);
	assert_true(f->reset);
	ended(OUTCOME_TUNNEL, 101);

	/* half-closed by the backend, and a client that does not care */
	f = upgrade();
	fire_head(w.back[1], 101, false);
	worker_waits(3000);
	fire_body(w.back[1], "", true);
	worker_waits(3000);
	assert_true(w.back[1]->open);
	worker_waits(1100);
	assert_true(f->reset);
	assert_true(w.back[1]->reset);
	ended(OUTCOME_TUNNEL, 101);
	worker_end();
}

static void
test_tunnel_breaks(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = upgrade();
	fire_head(w.back[0], 101, false);
	fire_closed(w.back[0], OUTCOME_BACK_TRUNCATED);
	assert_true(f->reset);
	worker_turn();
	ended(OUTCOME_TUNNEL, 101);
	assert_int_equal(w.at[0]->failures, 0);

	f = upgrade();
	fire_head(w.back[1], 101, false);
	fire_bytes(f, 10, false);
	fire_closed(f, OUTCOME_CLIENT_GONE);
	assert_true(w.back[1]->reset);
	worker_turn();
	ended(OUTCOME_CLIENT_GONE, 101);
	worker_end();
}

static void
test_upgrade_refused(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = upgrade();
	fire_head(w.back[0], 403, false);
	fire_bytes(f, 10, false); /* meant for the tunnel */
	conserved(f);
	assert_int_equal(w.back[0]->n_sent, 0);
	fire_body(w.back[0], "no", true);
	assert_true(w.back[0]->open); /* there was no body to wait for: its codec decides */
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	ended(OUTCOME_OK, 403);
	worker_end();
}

/* RFC 6455 4.1: a client waits for the answer; bytes before it are not passed on (attack 34). */
static void
test_bytes_before_the_upgrade(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	f = upgrade();
	fire_bytes(f, 10, false);
	assert_int_equal(w.back[0]->n_sent, 0);
	assert_true(w.back[0]->reset);
	assert_int_equal(f->status, 400);
	conserved(f);
	finish_front(f);
	ended(OUTCOME_BAD_REQUEST, 400);
	worker_end();
}

static void
test_upgrade_is_tried_again(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", ""));
	f = upgrade();
	fire_closed(w.back[0], OUTCOME_CONNECT_REFUSED);
	assert_true(w.back[1]->websocket);
	assert_false(w.back[1]->ended);
	fire_head(w.back[1], 101, false);
	fire_closed(w.back[1], OUTCOME_OK);
	worker_turn();
	ended(OUTCOME_TUNNEL, 101);
	assert_true(f->reset);
	worker_end();
}

/* --- anything, in any order -------------------------------------------------------------- */

static struct random dice;

static unsigned
roll(unsigned n)
{
	return (unsigned)(random_next(&dice) % n);
}

struct pair {
	struct fake_stream *f;
	bool asked_all; /* the client's message is complete */
};

/* Something that a client's codec may do now. */
static void
client_does(struct pair *p)
{
	static const enum outcome whys[] = {
	    OUTCOME_CLIENT_GONE, OUTCOME_CLIENT_SLOW, OUTCOME_STOPPED, OUTCOME_BAD_REQUEST};
	struct fake_stream *f = p->f;

	switch (roll(8)) {
	case 0:
	case 1:
	case 2:
		if (!p->asked_all)
			fire_bytes(f, 1 + roll(9000), p->asked_all = roll(4) == 0);
		break;
	case 3:
		if (!p->asked_all && roll(4) == 0) {
			p->asked_all = true;
			fire_trailers(f, "a: b\n");
		}
		break;
	case 4:
	case 5:
	case 6:
		fire_drained(f);
		if (f->open && f->ended && (p->asked_all || f->status != 101))
			fire_closed(f, OUTCOME_OK);
		break;
	default:
		if (roll(6) == 0)
			fire_closed(f, whys[roll(4)]);
		break;
	}
}

static void
backend_does(struct fake_stream *b, bool *headed, bool *answered)
{
	switch (roll(7)) {
	case 0:
		if (!*headed) {
			*headed = true;
			if (b->websocket && roll(2) == 0) {
				fire_head(b, 101, false);
				break;
			}
			*answered = roll(3) == 0;
			fire_head(b, roll(5) == 0 ? 500 : 200, *answered);
		}
		break;
	case 1:
		if (!*headed)
			fire_head(b, roll(2) == 0 ? 100 : 103, false);
		break;
	case 2:
	case 3:
		if (*headed && !*answered)
			fire_bytes(b, 1 + roll(9000), *answered = roll(4) == 0);
		break;
	case 4:
	case 5:
		fire_drained(b);
		if (b->open && *answered && b->ended)
			fire_closed(b, OUTCOME_OK);
		break;
	default:
		if (roll(4) == 0) {
			enum outcome o;

			do
				o = (enum outcome)roll(N_OUTCOMES);
			while (!of_backend(o));
			fire_closed(b, o);
		}
		break;
	}
}

/* Something that an operator, or another worker, may do now. */
static void
control_does(void)
{
	switch (roll(4)) {
	case 0:
		set_course(roll(4) == 0 ? GREEN : BLUE, roll(3) * 5000);
		break;
	case 1:
		(void)guard_trip(the_service(0)->state, service_course(the_service(0)->state));
		break;
	default:
		exchange_leave(&w.engine, 0, (enum color)roll(2), roll(2) == 0);
		break;
	}
}

static void
walk(bool controlled)
{
	bool headed[BACKS_MAX] = {false}, answered_all[BACKS_MAX] = {false};
	struct pair pairs[4] = {{0}};

	for (unsigned step = 0; step < 120; step++) {
		struct pair *p = &pairs[roll(4)];
		unsigned back = w.n_backs > 0 ? roll(w.n_backs) : 0;

		if ((p->f == NULL || !p->f->open) && step < 90 && w.n_backs < BACKS_MAX - 40) {
			static const char *const methods[] = {"GET", "POST", "PUT"};

			p->asked_all = roll(2) == 0;
			p->f = roll(6) == 0 ? upgrade() : request(methods[roll(3)], p->asked_all);
			if (exchange_on(p->f)->request->websocket)
				p->asked_all = false;
		} else if (p->f != NULL && p->f->open) {
			client_does(p);
		}
		if (w.n_backs > 0 && w.back[back]->open)
			backend_does(w.back[back], &headed[back], &answered_all[back]);
		if (roll(3) == 0)
			worker_turn();
		if (roll(10) == 0)
			worker_waits(roll(4000));
		if (roll(30) == 0)
			w.full = roll(3);
		if (roll(40) == 0)
			worker_adopts();
		if (controlled && roll(8) == 0)
			control_does();
	}
	for (unsigned i = 0; i < 4; i++) {
		if (pairs[i].f != NULL && pairs[i].f->open)
			fire_closed(pairs[i].f, OUTCOME_CLIENT_GONE);
	}
}

static void
test_any_order(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		random_seed(&dice, seed);
		worker_begin(TWO("max_in_flight = 2; queue = 2; queue_timeout = \"1s\";",
		    TIMES "max_body = \"64k\"; rescue = { max_body = \"8k\"; };"));
		walk(false);
		worker_end();
	}
}

/* The same while weights move, a candidate trips, and colors are left. */
static void
test_any_order_of_two_colors(void **state)
{
	uint64_t trips = 0, rescues = 0, moved = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 600; seed++) {
		random_seed(&dice, seed);
		worker_begin(COLORS("max_in_flight = 2; queue = 2; queue_timeout = \"1s\";",
		    "max_in_flight = 1; queue = 4; queue_timeout = \"1s\";",
		    TIMES
		    "max_body = \"64k\"; rescue = { max_body = \"8k\"; }; rollout = { limits = "
		    "{ p95 = \"300ms\"; }; drain = { rate = 5; timeout = \"3s\"; }; };"));
		set_course(BLUE, WHOLE / 2);
		walk(true);
		trips += w.tripped;
		rescues += w.roster.states[0].rescues_ok + w.roster.states[0].rescues_failed;
		moved += w.engine.counters.outcomes[OUTCOME_COLOR_LEFT];
		worker_end();
	}
	/* it was no walk around the thing */
	assert_true(trips > 20 && rescues > 200 && moved > 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_body_too_large),
	    cmocka_unit_test(test_early_response),
	    cmocka_unit_test(test_shares_of_one_connection),
	    cmocka_unit_test(test_tunnel),
	    cmocka_unit_test(test_tunnel_idle),
	    cmocka_unit_test(test_tunnel_breaks),
	    cmocka_unit_test(test_upgrade_refused),
	    cmocka_unit_test(test_bytes_before_the_upgrade),
	    cmocka_unit_test(test_upgrade_is_tried_again),
	    cmocka_unit_test(test_any_order),
	    cmocka_unit_test(test_any_order_of_two_colors),
	};

	return cmocka_run_group_tests_name(
	    "exchange_stream", tests, config_files_begin, config_files_end);
}
