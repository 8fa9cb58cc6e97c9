/*
 * What crosses threads: letters from many senders in the order of each, and log lines through a ring that loses
 * whole lines or none.  Meant to be run under ThreadSanitizer too.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/base/mailbox.h"
#include "proxy/base/ring.h"

/* --- letters ------------------------------------------------------------------------- */

#define SENDERS 3
#define LETTERS 20000

struct mail {
	struct letter letter; /* first */
	unsigned sender, number;
};

struct office {
	struct mailbox box;
	unsigned next[SENDERS], n;
};

static void
deliver(struct letter *l, void *receiver)
{
	struct mail *m = (struct mail *)(void *)l;
	struct office *o = receiver;

	assert_int_equal(m->number, o->next[m->sender]++);
	o->n++;
	free(m);
}

static void
post(struct mailbox *box, unsigned sender, unsigned number)
{
	struct mail *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->letter.deliver = deliver;
	m->sender = sender;
	m->number = number;
	mailbox_post(box, &m->letter);
}

static bool
readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void
test_letters_in_order(void **state)
{
	struct office o = {.n = 0};

	(void)state;
	assert_int_equal(mailbox_init(&o.box), 0);
	assert_false(readable(o.box.fd));
	mailbox_deliver(&o.box, &o); /* nothing there is nothing wrong */
	for (unsigned i = 0; i < 5; i++)
		post(&o.box, 0, i);
	assert_true(readable(o.box.fd));
	mailbox_deliver(&o.box, &o);
	assert_int_equal(o.n, 5);
	assert_false(readable(o.box.fd));
	mailbox_fini(&o.box);
	mailbox_fini(&o.box);
}

struct sender {
	struct office *office;
	unsigned index;
	pthread_t thread;
};

static void *
send_all(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < LETTERS; i++)
		post(&s->office->box, s->index, i);
	return NULL;
}

static void
test_letters_of_many_threads(void **state)
{
	struct office o = {.n = 0};
	struct sender senders[SENDERS];
	struct pollfd p;

	(void)state;
	assert_int_equal(mailbox_init(&o.box), 0);
	p = (struct pollfd){.fd = o.box.fd, .events = POLLIN};
	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){.office = &o, .index = i};
		assert_int_equal(
		    pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
	}
	while (o.n < SENDERS * LETTERS) { /* a letter without a wake-up would end here */
		assert_int_equal(poll(&p, 1, 20000), 1);
		mailbox_deliver(&o.box, &o);
	}
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(senders[i].thread, NULL);
	mailbox_fini(&o.box);
}

/* --- lines ------------------------------------------------------------------------------ */

static void
test_ring_wraps(void **state)
{
	struct ring r;
	const char *at;

	(void)state;
	assert_int_equal(ring_init(&r, 16), 0);
	assert_int_equal(ring_peek(&r, &at), 0);
	assert_true(ring_put(&r, "0123456789\n", 11));
	assert_int_equal(ring_peek(&r, &at), 11);
	ring_take(&r, 11);
	assert_true(ring_put(&r, "abcdefgh\n", 9)); /* five bytes, then round the end */
	assert_int_equal(ring_peek(&r, &at), 5);
	assert_memory_equal(at, "abcde", 5);
	ring_take(&r, 5);
	assert_int_equal(ring_peek(&r, &at), 4);
	assert_memory_equal(at, "fgh\n", 4);
	ring_take(&r, 4);
	ring_fini(&r);
}

static void
test_full_ring_loses_whole_lines(void **state)
{
	struct ring r;
	const char *at;

	(void)state;
	assert_int_equal(ring_init(&r, 16), 0);
	assert_true(ring_put(&r, "0123456789\n", 11));
	assert_false(ring_put(&r, "abcde\n", 6));
	assert_true(ring_put(&r, "abcd\n", 5)); /* to the last byte */
	assert_false(ring_put(&r, "\n", 1));
	assert_int_equal(r.lost, 2);
	assert_int_equal(ring_peek(&r, &at), 16);
	assert_memory_equal(at, "0123456789\nabcd\n", 16);
	ring_take(&r, 11);
	assert_false(ring_put(&r, "0123456789ab\n", 13));
	assert_true(ring_put(&r, "0123456789\n", 11));
	ring_fini(&r);
}

#define LINES 200000

struct writer {
	struct ring ring;
	_Atomic bool done;
};

static void *
write_lines(void *arg)
{
	struct writer *w = arg;

	for (unsigned i = 0; i < LINES; i++) {
		char line[64];
		int n = snprintf(line, sizeof(line), "%u %.*s\n", i, (int)(i % 40),
		    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");

		ring_put(&w->ring, line, (size_t)n);
	}
	w->done = true;
	return NULL;
}

/* Numbers only grow, every line is whole, and what is missing was counted. */
static void
test_ring_between_threads(void **state)
{
	struct writer w = {.done = false};
	pthread_t thread;
	char line[64];
	size_t n_line = 0;
	unsigned seen = 0;
	long last = -1;
	bool done;

	(void)state;
	assert_int_equal(ring_init(&w.ring, 1024), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_lines, &w), 0);
	do {
		const char *at;
		size_t n;

		done = w.done;
		while ((n = ring_peek(&w.ring, &at)) > 0) {
			for (size_t i = 0; i < n; i++) {
				long number;
				char *rest;

				assert_true(n_line < sizeof(line));
				line[n_line++] = at[i];
				if (at[i] != '\n')
					continue;
				number = strtol(line, &rest, 10);
				assert_true(number > last && number < LINES);
				assert_int_equal(rest + 1 + number % 40 + 1 - line, n_line);
				last = number;
				n_line = 0;
				seen++;
			}
			ring_take(&w.ring, n);
		}
	} while (!done);
	pthread_join(thread, NULL);
	assert_int_equal(n_line, 0);
	assert_int_equal(seen + w.ring.lost, LINES);
	assert_true(seen > 0);
	ring_fini(&w.ring);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_letters_in_order),
	    cmocka_unit_test(test_letters_of_many_threads),
	    cmocka_unit_test(test_ring_wraps),
	    cmocka_unit_test(test_full_ring_loses_whole_lines),
	    cmocka_unit_test(test_ring_between_threads),
	};

	return cmocka_run_group_tests_name("mailbox_ring", tests, NULL, NULL);
}
