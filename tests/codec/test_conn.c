/*
 * The connection machine with a codec that does what the test says: what is read when, what is
 * written when, how it ends, and that any callback may end it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/base/obj.h"
#include "proxy/codec/conn.h"
#include "tests/codec/memory_transport.h"

enum callback {
	AT_NONE,
	AT_INPUT,
	AT_EOF,
	AT_PRODUCE,
	AT_SENT,
	AT_ESTABLISHED,
	AT_LOST,
	N_CALLBACKS
};

static struct turn *turn;

/* A connection and everything that happened to it; outlives it. */
struct seen {
	struct probe *probe; /* NULL once freed */
	struct memory_transport *mt;
	unsigned char *got; /* input used, in order */
	size_t n_got;
	size_t got_at_eof;  /* n_got when it came */
	size_t last_unread; /* offered to the last input() */
	unsigned calls[N_CALLBACKS];
	unsigned n_fini, n_free;
	size_t sent;
	enum outcome lost_why;
	bool forbidden; /* no callback but fini may come any more */

	size_t unit;                 /* uses multiples of this only */
	size_t pause_after;          /* PAUSE_CODEC at this many bytes used; 0: never */
	size_t to_produce, produced; /* output still to be made; made */
	enum callback act_at;        /* does act() there, once */
	void (*act)(struct seen *);
	void (*on_input)(struct seen *, struct slice);
	struct buf kept; /* for on_input */
};

struct probe {
	struct conn conn;
	struct seen *seen;
};

static unsigned char
pattern(size_t i)
{
	return (unsigned char)(i * 131 + (i >> 8) * 17);
}

static struct seen *
called(struct conn *c, enum callback at)
{
	struct seen *s = CONTAINER_OF(c, struct probe, conn)->seen;

	assert_false(s->forbidden);
	assert_int_equal(s->n_fini, 0);
	s->calls[at]++;
	return s;
}

static void
act(struct seen *s, enum callback at)
{
	if (s->act_at != at)
		return;
	s->act_at = AT_NONE;
	s->act(s);
}

static size_t
on_input(struct conn *c, struct slice in)
{
	struct seen *s = called(c, AT_INPUT);
	size_t use = in.n - in.n % s->unit;

	assert_true(in.n > 0);
	assert_int_equal(c->pauses & ~(unsigned)PAUSE_EOF, 0);
	for (size_t i = 0; i < in.n; i++)
		assert_int_equal(in.p[i], pattern(s->n_got + i));
	if (s->pause_after > 0 && s->n_got + use >= s->pause_after) {
		use = s->pause_after - s->n_got;
		s->pause_after = 0;
		conn_pause(c, PAUSE_CODEC);
	}
	s->last_unread = in.n - use;
	if (s->on_input != NULL)
		s->on_input(s, (struct slice){in.chunk, in.p, use});
	if (use > 0) {
		s->got = realloc(s->got, s->n_got + use);
		assert_non_null(s->got);
		memcpy(s->got + s->n_got, in.p, use);
	}
	s->n_got += use;
	act(s, AT_INPUT);
	return use;
}

static void
on_eof(struct conn *c)
{
	struct seen *s = called(c, AT_EOF);

	s->got_at_eof = s->n_got;
	act(s, AT_EOF);
}

static void
on_produce(struct conn *c)
{
	struct seen *s = called(c, AT_PRODUCE);

	while (s->to_produce > 0 && buf_bytes(&c->out) < CONN_OUT_HIGH) {
		unsigned char piece[1000];
		size_t n = s->to_produce < sizeof piece ? s->to_produce : sizeof piece;

		for (size_t i = 0; i < n; i++)
			piece[i] = pattern(s->produced + i);
		buf_append(&c->out, piece, n);
		s->produced += n;
		s->to_produce -= n;
	}
	act(s, AT_PRODUCE);
}

static void
on_sent(struct conn *c, size_t n)
{
	struct seen *s = called(c, AT_SENT);

	assert_true(n > 0);
	s->sent += n;
	assert_int_equal(s->sent, c->bytes_out);
	act(s, AT_SENT);
}

static void
on_established(struct conn *c)
{
	act(called(c, AT_ESTABLISHED), AT_ESTABLISHED);
}

static void
on_lost(struct conn *c, enum outcome why)
{
	struct seen *s = called(c, AT_LOST);

	assert_int_equal(s->calls[AT_LOST], 1);
	s->lost_why = why;
	act(s, AT_LOST);
	s->forbidden = true;
}

static void
on_fini(struct conn *c)
{
	struct seen *s = CONTAINER_OF(c, struct probe, conn)->seen;

	assert_int_equal(s->n_free, 0);
	assert_true(c->dead);
	s->n_fini++;
}

static const struct codec_ops probe_codec = {
    .input = on_input,
    .eof = on_eof,
    .produce = on_produce,
    .sent = on_sent,
    .established = on_established,
    .lost = on_lost,
    .fini = on_fini,
};

static void
on_free(struct conn *c)
{
	struct probe *p = CONTAINER_OF(c, struct probe, conn);
	struct seen *s = p->seen;

	assert_int_equal(s->n_fini, 1);
	assert_true(s->mt->closed);
	s->n_free++;
	s->probe = NULL;
	free(p);
}

static struct seen *
open_probe(bool front)
{
	struct seen *s = calloc(1, sizeof *s);
	struct probe *p = calloc(1, sizeof *p);

	assert_non_null(s);
	assert_non_null(p);
	p->seen = s;
	s->probe = p;
	s->unit = 1;
	s->mt = memory_transport_new();
	buf_init(&s->kept, turn->chunks);
	conn_init(&p->conn, turn, &s->mt->transport, on_free);
	p->conn.front = front;
	conn_set_codec(&p->conn, &probe_codec, s);
	return s;
}

static struct conn *
conn_of(struct seen *s)
{
	assert_non_null(s->probe);
	return &s->probe->conn;
}

static void
pump(struct seen *s)
{
	memory_pump_one(turn, s->mt);
}

static struct seen *
open_front(void)
{
	struct seen *s = open_probe(true);

	pump(s);
	return s;
}

/* Ends it if the test has not, and sees that it ended once. */
static void
put_away(struct seen *s)
{
	if (s->probe != NULL)
		conn_close(&s->probe->conn, false);
	turn_end(turn);
	assert_int_equal(s->n_fini, 1);
	assert_int_equal(s->n_free, 1);
	assert_true(s->mt->closed);
	buf_fini(&s->kept);
	memory_transport_free(s->mt);
	free(s->got);
	free(s);
}

static void
feed(struct seen *s, size_t from, size_t n)
{
	unsigned char *p = malloc(n + 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = pattern(from + i);
	memory_feed(s->mt, p, n);
	free(p);
}

static void
expect_written(struct seen *s, size_t n)
{
	assert_int_equal(s->mt->n_written, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal((unsigned char)s->mt->written[i], pattern(i));
}

static void
produce(struct seen *s, size_t n)
{
	s->to_produce += n;
	conn_output(conn_of(s));
}

static int
setup(void **state)
{
	(void)state;
	turn = test_turn_new();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(turn->wheel.armed, 0);
	test_turn_free(turn);
	return 0;
}

/* --- reading ------------------------------------------------------------------- */

static void
input_however_it_is_cut(void **state)
{
	(void)state;
	static const size_t units[] = {
	    1, 2, 100, 4096, CHUNK_LARGE - 1, CHUNK_LARGE, CHUNK_LARGE + 1, 40000, 100000};
	static const size_t cuts[] = {1, 7, 4095, 4096, CHUNK_LARGE, SIZE_MAX};

	for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
		for (size_t k = units[u] > 5000; k < sizeof cuts / sizeof cuts[0]; k++) {
			struct seen *s = open_front();
			size_t total = units[u] * 3 < 9000 ? 9000 : units[u] * 3;

			s->unit = units[u];
			memory_set_read_max(s->mt, cuts[k]);
			feed(s, 0, total);
			pump(s);
			assert_int_equal(s->n_got, total - total % units[u]);
			assert_int_equal(conn_of(s)->bytes_in, total);
			put_away(s);
		}
	}
}

static void
an_idle_connection_holds_no_chunk(void **state)
{
	(void)state;
	struct seen *s = open_front();

	feed(s, 0, 100);
	produce(s, 100);
	pump(s);
	assert_null(conn_of(s)->in);
	assert_null(conn_of(s)->out.head);
	assert_int_equal(turn->wheel.armed, 0);
	assert_int_equal(s->mt->n_wants, 1); /* read, for good */
	s->unit = 60;
	feed(s, 100, 100);
	pump(s);
	assert_non_null(conn_of(s)->in);
	feed(s, 200, 20);
	pump(s);
	assert_null(conn_of(s)->in);
	put_away(s);
}

static void
unread_input_has_a_limit(void **state)
{
	(void)state;
	static const size_t limits[] = {100, 5000, CHUNK_LARGE, CHUNK_LARGE + 1, 100000};

	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		for (int over = 0; over < 2; over++) {
			struct seen *s = open_front();

			conn_of(s)->in_max = limits[i];
			s->unit = limits[i] + (size_t)over;
			feed(s, 0, 2 * s->unit);
			pump(s);
			assert_int_equal(s->n_got, over ? 0 : 2 * limits[i]);
			assert_int_equal(s->calls[AT_LOST], over);
			assert_true(s->last_unread <= limits[i]);
			put_away(s);
		}
	}
}

static void
keep(struct seen *s, struct slice in)
{
	/* by reference, whatever the size */
	for (size_t at = 0; at < in.n; at += 3000) {
		size_t n = in.n - at < 3000 ? in.n - at : 3000;

		buf_append_slice(&s->kept, (struct slice){in.chunk, in.p + at, n});
	}
}

static void
kept_slices_are_never_written_over(void **state)
{
	(void)state;
	static const size_t cuts[] = {2100, 2999, 8000, SIZE_MAX};
	static const size_t units[] = {1, 2500, 10000, 17000};

	for (size_t k = 0; k < sizeof cuts / sizeof cuts[0]; k++) {
		for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
			struct seen *s = open_front();
			const size_t total = 170000;
			size_t at = 0;

			s->on_input = keep;
			s->unit = units[u];
			memory_set_read_max(s->mt, cuts[k]);
			feed(s, 0, total);
			pump(s);
			assert_int_equal(s->n_got, total - total % units[u]);
			assert_int_equal(buf_bytes(&s->kept), s->n_got);
			while (buf_bytes(&s->kept) > 0) {
				struct iovec v;
				const unsigned char *p;

				assert_int_equal(buf_iov(&s->kept, &v, 1), 1);
				p = v.iov_base;
				for (size_t i = 0; i < v.iov_len; i++)
					assert_int_equal(p[i], pattern(at + i));
				at += v.iov_len;
				buf_consume(&s->kept, v.iov_len);
			}
			put_away(s);
		}
	}
}

static void
a_pause_is_lazy_and_stops_reading(void **state)
{
	(void)state;
	struct seen *s = open_front();

	feed(s, 0, 1000);
	s->pause_after = 300;
	pump(s);
	assert_int_equal(s->n_got, 300);
	assert_int_equal(s->mt->n_wants, 1); /* nothing has come since: no system call */
	assert_true(s->mt->want_read);

	unsigned reads = s->mt->n_reads;

	feed(s, 1000, 1000000);
	pump(s);
	assert_int_equal(s->n_got, 300);
	assert_int_equal(s->mt->n_reads, reads);
	assert_false(s->mt->want_read);
	assert_true(chunk_pool_bytes(turn->chunks) < 100000);

	unsigned inputs = s->calls[AT_INPUT];

	conn_resume(conn_of(s), PAUSE_CODEC);
	assert_int_equal(s->calls[AT_INPUT], inputs); /* not inside the call */
	pump(s);
	assert_int_equal(s->n_got, 1001000);
	assert_true(s->mt->want_read);
	put_away(s);
}

static void
resume_without_readiness_costs_nothing(void **state)
{
	(void)state;
	struct seen *s = open_front();

	feed(s, 0, 10);
	s->pause_after = 10; /* everything used, and paused */
	pump(s);
	conn_resume(conn_of(s), PAUSE_CREDIT); /* not the reason */
	assert_int_equal(conn_of(s)->pauses, PAUSE_CODEC);
	conn_pause(conn_of(s), PAUSE_CREDIT);
	conn_resume(conn_of(s), PAUSE_CODEC);
	assert_false(conn_of(s)->run_task.queued);
	conn_resume(conn_of(s), PAUSE_CREDIT);
	assert_false(conn_of(s)->run_task.queued);
	assert_int_equal(s->mt->n_wants, 1);
	feed(s, 10, 10);
	s->pause_after = 15; /* now something is left */
	pump(s);
	assert_int_equal(s->n_got, 15);
	conn_resume(conn_of(s), PAUSE_CODEC);
	pump(s);
	assert_int_equal(s->n_got, 20);
	assert_int_equal(s->mt->n_wants, 1);
	put_away(s);

	s = open_front(); /* paused in the middle of a long read: that was the last */
	feed(s, 0, 100000);
	s->pause_after = 300;
	pump(s);
	assert_int_equal(s->mt->n_reads, 1);
	put_away(s);
}

/* Half of something, then silence: nothing runs by itself. */
static void
incomplete_input_does_not_spin(void **state)
{
	(void)state;
	struct seen *s = open_front();

	s->unit = 100;
	feed(s, 0, 50);
	pump(s);
	assert_int_equal(s->calls[AT_INPUT], 1);
	for (int i = 0; i < 10; i++)
		assert_false(turn_end(turn));
	assert_int_equal(s->calls[AT_INPUT], 1);
	assert_int_equal(s->mt->n_reads, 1); /* a short read needs no second one */
	put_away(s);
}

static void
one_peer_does_not_starve_the_rest(void **state)
{
	(void)state;
	for (int buffered = 0; buffered < 2; buffered++) {
		struct seen *a = open_front(), *b = open_front();
		struct memory_transport *both[2] = {a->mt, b->mt};

		a->mt->buffered = b->mt->buffered = buffered;
		feed(a, 0, 1000000);
		feed(b, 0, 10);
		assert_true(memory_pump_once(turn, both, 2));
		assert_int_equal(a->n_got, CONN_TURN_BYTES);
		assert_int_equal(b->n_got, 10);
		memory_pump(turn, both, 2);
		assert_int_equal(a->n_got, 1000000);
		put_away(a);
		put_away(b);
	}
}

static void
what_tls_holds_back_is_not_forgotten(void **state)
{
	(void)state;
	for (size_t at = 1050; at <= 1100; at += 50) {
		struct seen *s = open_probe(true);

		s->mt->buffered = true;
		memory_set_read_max(s->mt, 100);
		feed(s, 0, 1000);
		s->mt->unseen = false; /* came with the end of the handshake */
		pump(s);
		assert_int_equal(s->n_got, 1000);
		feed(s, 1000, 1000);
		s->pause_after = at;
		pump(s);
		assert_int_equal(s->n_got, at);
		assert_false(turn_end(turn)); /* paused: nothing to do */
		conn_resume(conn_of(s), PAUSE_CODEC);
		pump(s);
		assert_int_equal(s->n_got, 2000);
		put_away(s);
	}
}

static struct seen *second;

static size_t
second_input(struct conn *c, struct slice in)
{
	assert_ptr_equal(c->codec_state, second);
	return on_input(c, in);
}

static void
change_codec(struct seen *s)
{
	static struct codec_ops other;

	other = probe_codec;
	other.input = second_input;
	second = s;
	s->unit = 1;
	conn_set_codec(conn_of(s), &other, s);
}

static void
another_codec_gets_the_unread_bytes(void **state)
{
	(void)state;
	static const size_t units[] = {1000, 10, 1};

	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		struct seen *s = open_front();

		s->unit = units[i]; /* the first uses none, some or all */
		s->act_at = AT_INPUT;
		s->act = change_codec;
		feed(s, 0, 15);
		pump(s);
		assert_int_equal(s->n_got, 15);
		put_away(s);

		s = open_front(); /* and before the end, if that is known already */
		s->unit = 1000;
		feed(s, 0, 15);
		pump(s);
		s->act_at = AT_INPUT;
		s->act = change_codec;
		memory_feed_eof(s->mt);
		pump(s);
		assert_int_equal(s->calls[AT_EOF], 1);
		assert_int_equal(s->got_at_eof, 15);
		put_away(s);
	}
}

static void
a_codec_may_come_late(void **state)
{
	(void)state;
	struct seen *s = open_probe(true);

	conn_set_codec(conn_of(s), NULL, NULL);
	feed(s, 0, 100);
	pump(s);
	assert_int_equal(s->mt->n_reads, 0);
	conn_set_codec(conn_of(s), &probe_codec, s);
	pump(s);
	assert_int_equal(s->n_got, 100);
	put_away(s);
}

/* --- FIN and resets --------------------------------------------------------------- */

static void
eof_comes_after_the_input_and_once(void **state)
{
	(void)state;
	static const size_t units[] = {1, 300, 5000};

	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		struct seen *s = open_front();

		s->unit = units[i];
		feed(s, 0, 1000);
		memory_feed_eof(s->mt);
		while (s->calls[AT_EOF] == 0)
			memory_pump_once(turn, &s->mt, 1);
		assert_int_equal(s->got_at_eof, 1000 - 1000 % units[i]);
		assert_int_equal(s->calls[AT_EOF], 1);
		assert_true(conn_of(s)->pauses & PAUSE_EOF);
		assert_false(s->mt->want_read);
		pump(s);
		assert_int_equal(s->calls[AT_EOF], 1);
		produce(s, 500); /* half open: answers still go out */
		pump(s);
		expect_written(s, 500);
		put_away(s);
	}
}

static void
eof_waits_for_paused_input(void **state)
{
	(void)state;
	for (size_t at = 1; at <= 1000; at += 333) {
		struct seen *s = open_front();

		feed(s, 0, 1000);
		memory_feed_eof(s->mt);
		s->pause_after = at;
		pump(s);
		assert_int_equal(s->n_got, at);
		assert_int_equal(s->calls[AT_EOF], 0);
		conn_resume(conn_of(s), PAUSE_CODEC);
		assert_int_equal(s->calls[AT_EOF], 0);
		pump(s);
		assert_int_equal(s->n_got, 1000);
		assert_int_equal(s->calls[AT_EOF], 1);
		put_away(s);
	}
}

static void
pause_credit(struct seen *s)
{
	conn_pause(conn_of(s), PAUSE_CREDIT);
}

/* The FIN is known; then pauses come, with and without something unread. */
static void
eof_waits_for_pauses_after_it(void **state)
{
	(void)state;
	struct seen *s = open_front();

	s->unit = 1000;
	feed(s, 0, 500);
	pump(s);
	s->act_at = AT_INPUT;
	s->act = pause_credit;
	memory_feed_eof(s->mt);
	pump(s);
	assert_true(conn_of(s)->eof);
	assert_int_equal(s->calls[AT_EOF], 0);
	s->unit = 1;
	s->pause_after = 500;
	conn_resume(conn_of(s), PAUSE_CREDIT);
	pump(s);
	assert_int_equal(s->n_got, 500);
	assert_int_equal(s->calls[AT_EOF], 0);
	conn_resume(conn_of(s), PAUSE_CODEC);
	pump(s);
	assert_int_equal(s->calls[AT_EOF], 1);
	put_away(s);
}

static void
a_reset_is_told_once(void **state)
{
	(void)state;
	static const enum outcome expect[] = {OUTCOME_BACK_RESET, OUTCOME_CLIENT_GONE};

	for (int front = 0; front < 2; front++) {
		for (int paused = 0; paused < 2; paused++) {
			struct seen *s = open_probe(front);

			pump(s);
			if (paused) {
				conn_pause(conn_of(s), PAUSE_CREDIT);
				feed(s, 0, 100);
				pump(s);
				assert_int_equal(s->n_got, 0);
			}
			memory_break(s->mt);
			pump(s);
			assert_int_equal(s->calls[AT_LOST], 1);
			assert_int_equal(s->lost_why, expect[front]);
			assert_int_equal(s->n_free, 1);
			put_away(s);
		}
	}
}

static void
the_front_has_words_of_its_own(void **state)
{
	(void)state;
	static const enum outcome told[][2] = {{OUTCOME_BACK_TLS_FAILED, OUTCOME_CLIENT_GONE},
	    {OUTCOME_BACK_RESET, OUTCOME_CLIENT_GONE}, {OUTCOME_CLIENT_SLOW, OUTCOME_CLIENT_SLOW},
	    {OUTCOME_STOPPED, OUTCOME_STOPPED}};

	for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
		struct seen *s = open_front();

		conn_lost(conn_of(s), told[i][0]);
		assert_int_equal(s->lost_why, told[i][1]);
		put_away(s);
	}
}

static void
what_came_before_a_reset_is_read(void **state)
{
	(void)state;
	struct seen *s = open_probe(false);

	pump(s);
	feed(s, 0, 5000);
	memory_break(s->mt);
	pump(s);
	assert_int_equal(s->n_got, 5000);
	assert_int_equal(s->calls[AT_LOST], 1);
	put_away(s);

	/* a backend that answered and closed while the request was being written */
	s = open_probe(false);
	pump(s);
	feed(s, 0, 5000);
	memory_break(s->mt);
	produce(s, 100);
	turn_end(turn);
	assert_int_equal(s->n_got, 5000);
	assert_int_equal(s->lost_why, OUTCOME_BACK_RESET);
	put_away(s);
}

static void
the_back_hears_why_the_connect_failed(void **state)
{
	(void)state;
	static const enum outcome why[] = {OUTCOME_CONNECT_REFUSED, OUTCOME_CONNECT_FAILED,
	    OUTCOME_CONNECT_TIMEOUT, OUTCOME_BACK_TLS_FAILED};

	for (size_t i = 0; i < sizeof why / sizeof why[0]; i++) {
		struct seen *s = open_probe(false);

		s->mt->connects = false;
		produce(s, 10);
		pump(s);
		conn_lost(conn_of(s), why[i]);
		conn_lost(conn_of(s), OUTCOME_BACK_RESET);
		assert_int_equal(s->lost_why, why[i]);
		assert_int_equal(s->calls[AT_LOST], 1);
		assert_int_equal(s->n_free, 0); /* not inside the call */
		put_away(s);
	}
}

/* --- writing ----------------------------------------------------------------------- */

static void
output_waits_for_the_connect(void **state)
{
	(void)state;
	struct seen *s = open_probe(false);

	s->mt->connects = false;
	produce(s, 100);
	pump(s);
	assert_int_equal(s->mt->n_writes, 0);
	assert_int_equal(s->calls[AT_PRODUCE], 0);
	s->mt->connects = true;
	pump(s);
	assert_int_equal(s->calls[AT_ESTABLISHED], 1);
	expect_written(s, 100);
	put_away(s);
}

static void
a_turn_is_one_write(void **state)
{
	(void)state;
	struct seen *s = open_front();

	for (int i = 0; i < 50; i++)
		produce(s, 20);
	assert_int_equal(s->mt->n_writes, 0);
	pump(s);
	assert_int_equal(s->mt->n_writes, 1);
	expect_written(s, 1000);
	assert_int_equal(s->sent, 1000);
	assert_int_equal(s->mt->n_wants, 1); /* write interest only after IO_AGAIN */
	put_away(s);
}

static void
more_pieces_than_iovecs(void **state)
{
	(void)state;
	struct seen *s = open_front();
	struct chunk *c = chunk_new(turn->chunks, CHUNK_LARGE);

	for (size_t i = 0; i < 50; i++) {
		unsigned char byte = pattern(i * 2001);

		buf_append(&conn_of(s)->out, &byte, 1); /* keeps the slices apart */
		s->produced += 2001;
		memset(c->data, 0, 2000);
		buf_append_slice(&conn_of(s)->out, (struct slice){c, c->data, BUF_REF_MIN});
	}
	conn_output(conn_of(s));
	pump(s);
	assert_int_equal(s->mt->n_written, 50 * (1 + BUF_REF_MIN));
	assert_int_equal(s->sent, 50 * (1 + BUF_REF_MIN));
	assert_int_equal(c->refs, 1);
	assert_false(s->mt->want_write);
	chunk_unref(c);
	put_away(s);
}

static void
a_full_socket_at_every_byte(void **state)
{
	(void)state;
	const size_t total = 300;

	for (int tls = 0; tls < 2; tls++) {
		for (size_t room = 0; room <= total; room++) {
			struct seen *s = open_front();

			s->mt->transport.tls = tls;
			memory_set_room(s->mt, room);
			produce(s, total);
			pump(s);
			expect_written(s, room);
			assert_int_equal(s->sent, room);
			assert_int_equal(s->mt->want_write, room < total);
			/* a short write says it all, but for TLS, which may have cut at a record */
			assert_int_equal(s->mt->n_writes, tls && room > 0 && room < total ? 2 : 1);
			memory_set_room(s->mt, SIZE_MAX);
			pump(s);
			expect_written(s, total);
			assert_int_equal(s->sent, total);
			assert_false(s->mt->want_write);
			assert_null(conn_of(s)->out.head);
			put_away(s);
		}
	}
}

static void
a_socket_that_takes_one_byte_at_a_time(void **state)
{
	(void)state;
	struct seen *s = open_front();

	memory_set_room(s->mt, 0);
	produce(s, 1000);
	for (size_t i = 0; i < 1000; i++) {
		pump(s);
		assert_int_equal(s->sent, i);
		memory_set_room(s->mt, 1);
	}
	pump(s);
	expect_written(s, 1000);
	put_away(s);
}

static void
a_blocked_socket_is_not_asked_again(void **state)
{
	(void)state;
	struct seen *s = open_front();

	memory_set_room(s->mt, 10);
	produce(s, 100);
	pump(s);

	unsigned writes = s->mt->n_writes;

	for (int i = 0; i < 20; i++) {
		produce(s, 10);
		pump(s);
	}
	assert_int_equal(s->mt->n_writes, writes);
	memory_set_room(s->mt, SIZE_MAX);
	pump(s);
	expect_written(s, 300);
	put_away(s);
}

static void
produce_more(struct seen *s)
{
	produce(s, 77);
}

/* sent() fires events, events call verbs, verbs have output: all in this turn. */
static void
output_from_sent_goes_out_in_the_same_turn(void **state)
{
	(void)state;
	struct seen *s = open_front();

	s->act_at = AT_SENT;
	s->act = produce_more;
	produce(s, 100);
	assert_false(turn_end(turn));
	expect_written(s, 177);
	put_away(s);
}

static void
an_endless_answer_does_not_hold_the_turn(void **state)
{
	(void)state;
	struct seen *s = open_front();
	const size_t total = 3 * CONN_FLUSH_BYTES + 1000;

	produce(s, total);
	assert_true(turn_end(turn));
	assert_true(s->mt->n_written >= CONN_FLUSH_BYTES);
	assert_true(s->mt->n_written < CONN_FLUSH_BYTES + CONN_OUT_HIGH + 1000);
	assert_false(s->mt->want_write);
	pump(s);
	expect_written(s, total);
	put_away(s);
}

static void
who_does_not_read_is_not_read_from(void **state)
{
	(void)state;
	struct seen *s = open_front();

	memory_set_room(s->mt, 0);
	produce(s, CONN_OUT_HIGH - 1);
	pump(s);
	assert_int_equal(conn_of(s)->pauses, 0);
	feed(s, 0, 10);
	pump(s);
	assert_int_equal(s->n_got, 10);

	produce(s, 500000);
	pump(s);
	assert_int_equal(conn_of(s)->pauses, PAUSE_OUTPUT);
	assert_true(buf_bytes(&conn_of(s)->out) < CONN_OUT_HIGH + 1000); /* bounded */
	feed(s, 10, 10);
	pump(s);
	assert_int_equal(s->n_got, 10);

	size_t total = CONN_OUT_HIGH - 1 + 500000;

	memory_set_room(s->mt, total - CONN_OUT_LOW - 1);
	pump(s);
	assert_int_equal(buf_bytes(&conn_of(s)->out), CONN_OUT_LOW + 1);
	assert_int_equal(s->n_got, 10);
	memory_set_room(s->mt, 1);
	pump(s);
	assert_int_equal(conn_of(s)->pauses, 0);
	assert_int_equal(s->n_got, 20);
	memory_set_room(s->mt, SIZE_MAX);
	pump(s);
	expect_written(s, total);
	put_away(s);
}

/* A verb that floods stops the input in the middle of what was read. */
static void
flood(struct seen *s, struct slice in)
{
	(void)in;
	for (int i = 0; i < 70; i++) {
		static const char zeros[1000];

		buf_append(&conn_of(s)->out, zeros, sizeof zeros);
	}
	conn_output(conn_of(s));
}

static void
a_flood_of_answers_pauses_at_once(void **state)
{
	(void)state;
	struct seen *s = open_front();

	memory_set_room(s->mt, 0);
	s->on_input = flood;
	feed(s, 0, CONN_TURN_BYTES);
	pump(s);
	assert_int_equal(s->calls[AT_INPUT], 1);
	assert_int_equal(buf_bytes(&conn_of(s)->out), 70000);
	put_away(s);
}

static void
half_close_after_the_output(void **state)
{
	(void)state;
	struct seen *s = open_front();

	memory_set_room(s->mt, 50);
	produce(s, 100);
	conn_shutdown_write(conn_of(s));
	pump(s);
	assert_false(s->mt->shut);
	memory_set_room(s->mt, SIZE_MAX);
	pump(s);
	expect_written(s, 100);
	assert_true(s->mt->shut);
	feed(s, 0, 100); /* the other half stays open */
	pump(s);
	assert_int_equal(s->n_got, 100);
	conn_output(conn_of(s)); /* the transport sees to it that there is no second FIN */
	pump(s);
	put_away(s);
}

/* --- the send timeout --------------------------------------------------------------- */

static void
who_takes_nothing_for_too_long_is_lost(void **state)
{
	(void)state;
	static const enum outcome expect[] = {OUTCOME_BACK_RESET, OUTCOME_CLIENT_SLOW};

	for (int front = 0; front < 2; front++) {
		struct seen *s = open_probe(front);

		conn_of(s)->send_timeout_ms = 1000;
		memory_set_room(s->mt, 10);
		produce(s, 100);
		pump(s);
		test_advance(turn, 900);
		memory_set_room(s->mt, 1); /* progress */
		pump(s);
		test_advance(turn, 999);
		assert_int_equal(s->calls[AT_LOST], 0);
		conn_output(conn_of(s)); /* no progress */
		pump(s);
		test_advance(turn, 1 + WHEEL_TICK_MS);
		assert_int_equal(s->calls[AT_LOST], 1);
		assert_int_equal(s->lost_why, expect[front]);
		put_away(s);
	}
}

static void
no_output_no_send_timeout(void **state)
{
	(void)state;
	struct seen *s = open_front();

	conn_of(s)->send_timeout_ms = 1000;
	memory_set_room(s->mt, 10);
	produce(s, 100);
	pump(s);
	assert_int_equal(turn->wheel.armed, 1);
	memory_set_room(s->mt, SIZE_MAX);
	pump(s);
	assert_int_equal(turn->wheel.armed, 0);
	test_advance(turn, 100000);
	assert_int_equal(s->calls[AT_LOST], 0);
	conn_of(s)->send_timeout_ms = 0;
	memory_set_room(s->mt, 0);
	produce(s, 100);
	pump(s);
	assert_int_equal(turn->wheel.armed, 0);
	put_away(s);
}

/* --- the end --------------------------------------------------------------------------- */

static void
close_now(struct seen *s)
{
	conn_close(conn_of(s), false);
	conn_close(conn_of(s), true); /* idempotent: the first word counts */
	s->forbidden = true;
}

static void
abort_now(struct seen *s)
{
	conn_close(conn_of(s), true);
	conn_output(conn_of(s)); /* verbs on a dead connection are harmless */
	conn_resume(conn_of(s), PAUSE_OUTPUT);
	conn_close_after_flush(conn_of(s));
	conn_shutdown_write(conn_of(s));
	conn_lost(conn_of(s), OUTCOME_CLIENT_GONE);
	conn_ready(conn_of(s), true, true);
	s->forbidden = true;
}

static void
lose_now(struct seen *s)
{
	conn_lost(conn_of(s), OUTCOME_CLIENT_GONE);
}

static void
close_after_flush(struct seen *s)
{
	conn_close_after_flush(conn_of(s));
}

static void
close_in_every_callback(void **state)
{
	(void)state;
	static void (*const acts[])(struct seen *) = {
	    close_now, abort_now, lose_now, close_after_flush};

	for (enum callback at = AT_INPUT; at < N_CALLBACKS; at++) {
		for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
			for (int front = 0; front < 2; front++) {
				struct seen *s = open_probe(front);

				s->act_at = at;
				s->act = acts[i];
				s->unit = 100;
				feed(s, 0, 150);
				memory_feed_eof(s->mt);
				produce(s, 100);
				memory_set_room(s->mt, 60);
				pump(s);
				memory_set_room(s->mt, SIZE_MAX);
				pump(s);
				if (at == AT_LOST) {
					assert_int_equal(s->n_free, 0);
					memory_break(s->mt);
					pump(s);
				}
				assert_int_equal(s->act_at, AT_NONE); /* it did happen */
				assert_int_equal(s->n_free, 1);
				assert_int_equal(
				    s->mt->aborted, at != AT_LOST && acts[i] == abort_now);
				put_away(s);
			}
		}
	}
}

static void
closed_between_turns(void **state)
{
	(void)state;
	struct seen *s = open_front();

	produce(s, 100);
	conn_resume(conn_of(s), PAUSE_CODEC);
	close_now(s);
	conn_ready(conn_of(s), true, true); /* an event that was under way already */
	assert_int_equal(s->n_free, 0);
	turn_end(turn);
	assert_int_equal(s->n_free, 1);
	assert_int_equal(s->mt->n_writes, 0);
	put_away(s);
}

/* The grave comes although the connection still stood in a list when the turn's passes ran out. */
static void
keep_running(struct seen *s)
{
	s->act_at = AT_PRODUCE;
	conn_output(conn_of(s));
	if (s->calls[AT_PRODUCE] == TURN_PASSES)
		close_now(s);
}

static void
buried_in_the_last_pass(void **state)
{
	(void)state;
	struct seen *s = open_probe(true);

	s->act_at = AT_PRODUCE;
	s->act = keep_running;
	conn_established(conn_of(s));
	assert_false(turn_end(turn));
	assert_int_equal(s->calls[AT_PRODUCE], TURN_PASSES);
	assert_int_equal(s->n_free, 1);
	put_away(s);
}

static void
an_orderly_close_lingers(void **state)
{
	(void)state;
	struct seen *s = open_front();

	memory_set_room(s->mt, 40);
	produce(s, 100);
	conn_close_after_flush(conn_of(s));
	conn_close_after_flush(conn_of(s));
	feed(s, 0, 1000);
	pump(s);
	assert_false(s->mt->shut);
	assert_int_equal(s->n_got, 0);
	memory_set_room(s->mt, SIZE_MAX);
	pump(s);
	expect_written(s, 100);
	assert_true(s->mt->shut);
	assert_int_equal(s->sent, 100); /* the codec hears of it all */
	assert_int_equal(s->n_free, 0);
	assert_int_equal(s->mt->input_at, 1000); /* read, but not told */
	assert_int_equal(s->n_got, 0);
	memory_feed_eof(s->mt);
	pump(s);
	assert_int_equal(s->n_free, 1);
	assert_int_equal(s->calls[AT_EOF], 0);
	assert_int_equal(s->calls[AT_LOST], 0);
	assert_false(s->mt->aborted);
	put_away(s);
}

static void
lingering_has_an_end(void **state)
{
	(void)state;
	struct seen *s = open_front();

	conn_close_after_flush(conn_of(s));
	pump(s);
	assert_true(s->mt->shut);
	test_advance(turn, CONN_LINGER_MS - 1);
	assert_int_equal(s->n_free, 0);
	test_advance(turn, 1 + WHEEL_TICK_MS);
	assert_int_equal(s->n_free, 1);
	put_away(s);

	s = open_front(); /* a verb that comes too late changes nothing */
	conn_close_after_flush(conn_of(s));
	pump(s);
	produce(s, 100);
	pump(s);
	test_advance(turn, CONN_LINGER_MS + WHEEL_TICK_MS);
	assert_int_equal(s->n_free, 1);
	assert_int_equal(s->mt->n_written, 0);
	put_away(s);

	for (int over = 0; over < 2; over++) {
		s = open_front();
		conn_close_after_flush(conn_of(s));
		pump(s);
		feed(s, 0, CONN_LINGER_BYTES - 1 + (size_t)over);
		pump(s);
		assert_int_equal(s->n_free, over);
		put_away(s);
	}

	s = open_front(); /* a reset now loses nothing */
	conn_close_after_flush(conn_of(s));
	pump(s);
	memory_break(s->mt);
	pump(s);
	assert_int_equal(s->n_free, 1);
	assert_int_equal(s->calls[AT_LOST], 0);
	put_away(s);

	s = open_front();
	conn_close_after_flush(conn_of(s));
	pump(s);
	conn_lost(conn_of(s), OUTCOME_CLIENT_GONE);
	assert_int_equal(s->calls[AT_LOST], 0);
	put_away(s);
}

static void
some_do_not_linger(void **state)
{
	(void)state;
	struct seen *s = open_probe(false); /* a backend */

	pump(s);
	produce(s, 100);
	conn_close_after_flush(conn_of(s));
	pump(s);
	expect_written(s, 100);
	assert_int_equal(s->n_free, 1);
	put_away(s);

	s = open_front(); /* the peer has ended already */
	memory_feed_eof(s->mt);
	pump(s);
	produce(s, 100);
	conn_close_after_flush(conn_of(s));
	pump(s);
	expect_written(s, 100);
	assert_true(s->mt->shut);
	assert_int_equal(s->n_free, 1);
	put_away(s);

	s = open_probe(true); /* nobody to flush to */
	s->mt->connects = false;
	conn_close_after_flush(conn_of(s));
	turn_end(turn);
	assert_int_equal(s->n_free, 1);
	put_away(s);
}

static void
a_close_that_cannot_flush(void **state)
{
	(void)state;
	struct seen *s = open_front();

	conn_of(s)->send_timeout_ms = 1000;
	memory_set_room(s->mt, 0);
	produce(s, 100);
	conn_close_after_flush(conn_of(s));
	pump(s);
	test_advance(turn, 1000 + WHEEL_TICK_MS);
	assert_int_equal(s->lost_why, OUTCOME_CLIENT_SLOW); /* the answer did not arrive */
	assert_int_equal(s->calls[AT_LOST], 1);
	put_away(s);

	s = open_front();
	memory_set_room(s->mt, 0);
	produce(s, 100);
	conn_close_after_flush(conn_of(s));
	pump(s);
	memory_break(s->mt);
	pump(s);
	assert_int_equal(s->lost_why, OUTCOME_CLIENT_GONE);
	put_away(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(input_however_it_is_cut),
	    TEST(an_idle_connection_holds_no_chunk),
	    TEST(unread_input_has_a_limit),
	    TEST(kept_slices_are_never_written_over),
	    TEST(a_pause_is_lazy_and_stops_reading),
	    TEST(resume_without_readiness_costs_nothing),
	    TEST(incomplete_input_does_not_spin),
	    TEST(one_peer_does_not_starve_the_rest),
	    TEST(what_tls_holds_back_is_not_forgotten),
	    TEST(another_codec_gets_the_unread_bytes),
	    TEST(a_codec_may_come_late),
	    TEST(eof_comes_after_the_input_and_once),
	    TEST(eof_waits_for_paused_input),
	    TEST(eof_waits_for_pauses_after_it),
	    TEST(a_reset_is_told_once),
	    TEST(the_front_has_words_of_its_own),
	    TEST(what_came_before_a_reset_is_read),
	    TEST(the_back_hears_why_the_connect_failed),
	    TEST(output_waits_for_the_connect),
	    TEST(a_turn_is_one_write),
	    TEST(more_pieces_than_iovecs),
	    TEST(a_full_socket_at_every_byte),
	    TEST(a_socket_that_takes_one_byte_at_a_time),
	    TEST(a_blocked_socket_is_not_asked_again),
	    TEST(output_from_sent_goes_out_in_the_same_turn),
	    TEST(an_endless_answer_does_not_hold_the_turn),
	    TEST(who_does_not_read_is_not_read_from),
	    TEST(a_flood_of_answers_pauses_at_once),
	    TEST(half_close_after_the_output),
	    TEST(who_takes_nothing_for_too_long_is_lost),
	    TEST(no_output_no_send_timeout),
	    TEST(close_in_every_callback),
	    TEST(closed_between_turns),
	    TEST(buried_in_the_last_pass),
	    TEST(an_orderly_close_lingers),
	    TEST(lingering_has_an_end),
	    TEST(some_do_not_linger),
	    TEST(a_close_that_cannot_flush),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
