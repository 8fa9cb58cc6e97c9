/*
 * Events: their text, who gets which, what one who comes back has missed, and leaving at any moment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/clock.h"
#include "proxy/process/events.h"

static struct event_base *base;
static struct config config;
static struct events *events;
static char none[] = "";

static uint64_t before; /* the id before the first one */

static uint64_t
first_id(void)
{
	return (uint64_t)(clock_us(CLOCK_REALTIME) / 1000) << 11;
}

static int
setup(void **state)
{
	(void)state;
	config.announce.webhook = none;
	base = event_base_new();
	/* ids begin with the ms of the start */
	do {
		events_free(events);
		before = first_id();
		events = events_new(base, &config);
	} while (before != first_id());
	return base == NULL || events == NULL;
}

static int
teardown(void **state)
{
	(void)state;
	events_free(events);
	events = NULL;
	event_base_free(base);
	return 0;
}

/* One who listens, and may leave at the n-th event. */
struct ear {
	struct subscription *s;
	unsigned n, leave_at;
	bool ended;
	uint64_t first, last;
	char text[200000];
};

static void
hear(void *arg, const char *text, size_t n)
{
	struct ear *ear = arg;
	uint64_t id;

	assert_false(ear->ended);
	if (text == NULL) {
		assert_int_equal(n, 0);
		ear->ended = true;
		ear->s = NULL;
		return;
	}
	assert_int_equal(strlen(text), n);
	assert_true(n < sizeof(ear->text));
	strcpy(ear->text, text);
	assert_int_equal(sscanf(text, "id: %ju\n", (uintmax_t *)&id), 1);
	id -= before;
	if (ear->n++ == 0)
		ear->first = id;
	else
		assert_int_equal(id, ear->last + 1);
	ear->last = id;
	if (ear->n == ear->leave_at) {
		events_unsubscribe(ear->s);
		ear->s = NULL;
	}
}

static struct ear *
listen_after(uint64_t after)
{
	struct ear *ear = calloc(1, sizeof(*ear));

	ear->s = events_subscribe(
	    events, after == 0 || after == UINT64_MAX ? after : before + after, hear, ear);
	return ear;
}

static void
leave(struct ear *ear)
{
	if (ear->s != NULL)
		events_unsubscribe(ear->s);
	free(ear);
}

static void
emit(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		events_emit(events, "step", "api", NULL);
}

static void
test_text(void **state)
{
	struct ear *ear = listen_after(0);
	char time[25] = "";
	json_t *j;

	(void)state;
	events_emit(events, "tripped", "api",
	    json_pack(
		"{s:i, s:s, s:s}", "weight", 0, "reason", "7 of 31\nfailed", "type", "forged"));
	assert_int_equal(memcmp(ear->text, "id: ", 4), 0);
	assert_non_null(strstr(ear->text, "\nevent: tripped\ndata: {"));
	assert_non_null(strstr(ear->text, "}\n\n"));
	/* one line of data, whatever is in it */
	assert_ptr_equal(strchr(strstr(ear->text, "data: "), '\n'), strstr(ear->text, "\n\n"));
	j = json_loads(strstr(ear->text, "{"), 0, NULL);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(j, "id")), (json_int_t)(before + 1));
	assert_string_equal(json_string_value(json_object_get(j, "type")), "tripped");
	assert_string_equal(json_string_value(json_object_get(j, "service")), "api");
	assert_string_equal(json_string_value(json_object_get(j, "reason")), "7 of 31\nfailed");
	snprintf(time, sizeof(time), "%s", json_string_value(json_object_get(j, "time")));
	assert_int_equal(strlen(time), 24);
	assert_int_equal(time[10], 'T');
	assert_int_equal(time[19], '.');
	assert_int_equal(time[23], 'Z');
	json_decref(j);
	/* of no service, without data */
	events_emit(events, "certificate_near_end", "", NULL);
	assert_non_null(strstr(ear->text, "\nevent: certificate_near_end\ndata: {\"id\":"));
	assert_non_null(strstr(ear->text, "\"service\":\"\"}\n\n"));
	leave(ear);
}

static void
test_data_that_cannot_be_told(void **state)
{
	struct ear *ear = listen_after(0);
	char *big = malloc(100000);

	(void)state;
	memset(big, 'x', 99999);
	big[99999] = '\0';
	events_emit(events, "change", "api", json_pack("{s:s}", "reason", big));
	free(big);
	assert_non_null(
	    strstr(ear->text, "\"type\":\"change\",\"service\":\"api\",\"data_left_out\":true}"));
	events_emit(
	    events, "change", "api", json_pack("{s:o}", "reason", json_string_nocheck("\xff")));
	assert_int_equal(ear->last, 2);
	assert_non_null(strstr(ear->text, "\"data_left_out\":true}"));
	leave(ear);
}

/* A name that is in no table is told all the same. */
static void
test_unknown_type(void **state)
{
	struct ear *ear = listen_after(0);

	(void)state;
	events_emit(events, "frobnicated", "api", NULL);
	assert_non_null(strstr(ear->text, "event: frobnicated\n"));
	leave(ear);
}

static void
assert_missed(uint64_t after, unsigned n, uint64_t first, uint64_t last)
{
	struct ear *ear = listen_after(after);

	assert_int_equal(ear->n, n);
	if (n > 0) {
		assert_int_equal(ear->first, first);
		assert_int_equal(ear->last, last);
	}
	leave(ear);
}

static void
test_missed(void **state)
{
	(void)state;
	assert_missed(0, 0, 0, 0);
	assert_missed(5, 0, 0, 0);
	emit(10);
	assert_missed(0, 0, 0, 0);
	assert_missed(1, 9, 2, 10);
	assert_missed(9, 1, 10, 10);
	assert_missed(10, 0, 0, 0);
	/* of an earlier life: all there is */
	{
		struct ear *ear = calloc(1, sizeof(*ear));

		ear->s = events_subscribe(events, before - 1000, hear, ear);
		assert_int_equal(ear->n, 10);
		leave(ear);
	}
	assert_missed(11, 10, 1, 10);
	assert_missed(UINT64_MAX, 10, 1, 10);
	emit(EVENTS_KEPT - 11);
	assert_missed(UINT64_MAX, EVENTS_KEPT - 1, 1, EVENTS_KEPT - 1);
	emit(1);
	assert_missed(UINT64_MAX, EVENTS_KEPT, 1, EVENTS_KEPT);
	emit(1);
	assert_missed(UINT64_MAX, EVENTS_KEPT, 2, EVENTS_KEPT + 1);
	assert_missed(1, EVENTS_KEPT, 2, EVENTS_KEPT + 1);
	assert_missed(2, EVENTS_KEPT - 1, 3, EVENTS_KEPT + 1);
	emit(3 * EVENTS_KEPT);
	assert_missed(1, EVENTS_KEPT, 3 * EVENTS_KEPT + 2, 4 * EVENTS_KEPT + 1);
}

static void
test_goes_on_after_missed(void **state)
{
	struct ear *ear;

	(void)state;
	emit(3);
	ear = listen_after(1);
	assert_int_equal(ear->n, 2);
	emit(2);
	assert_int_equal(ear->n, 4);
	assert_int_equal(ear->last, 5);
	leave(ear);
}

static void
test_at_most(void **state)
{
	struct ear *ears[32];
	unsigned n = 0;

	(void)state;
	for (; n < 32; n++) {
		ears[n] = listen_after(0);
		assert_non_null(ears[n]->s);
	}
	assert_null(events_subscribe(events, 0, hear, ears[0]));
	emit(1);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(ears[i]->n, 1);
	/* one leaves, one may come */
	leave(ears[7]);
	ears[7] = listen_after(0);
	assert_non_null(ears[7]->s);
	assert_null(events_subscribe(events, 0, hear, ears[0]));
	while (n > 0)
		leave(ears[--n]);
}

static void
test_leaving_while_told(void **state)
{
	struct ear *a = listen_after(0), *b = listen_after(0), *c = listen_after(0);

	(void)state;
	b->leave_at = 1;
	a->leave_at = c->leave_at = 2;
	emit(3);
	assert_int_equal(a->n, 2);
	assert_int_equal(b->n, 1);
	assert_int_equal(c->n, 2);
	leave(a);
	leave(b);
	leave(c);
}

/* Takes another's subscription away. */
static unsigned n_heard;
static struct subscription *early;
static void
hear_and_count(void *arg, const char *text, size_t n)
{
	(void)arg;
	(void)text;
	(void)n;
	n_heard++;
	if (early != NULL) {
		events_unsubscribe(early);
		early = NULL;
	}
}

static void
test_leaving_others(void **state)
{
	struct ear *other = listen_after(0);
	struct subscription *s;

	(void)state;
	n_heard = 0;
	/* the newest is told first; it takes the other away, who then must not be told */
	early = other->s;
	other->s = NULL;
	s = events_subscribe(events, 0, hear_and_count, NULL);
	emit(1);
	assert_int_equal(n_heard, 1);
	assert_int_equal(other->n, 0);
	events_unsubscribe(s);
	leave(other);
}

static void
test_end_is_told(void **state)
{
	struct ear *ear = listen_after(0);

	(void)state;
	events_free(events);
	assert_true(ear->ended);
	free(ear);
	events_free(NULL);
	events = events_new(base, &config);
}

static void
test_counters(void **state)
{
	struct events_counters n;

	(void)state;
	emit(5);
	events_counters(events, &n);
	assert_int_equal(n.emitted, 5);
	assert_int_equal(
	    n.exec_ok + n.exec_failed + n.webhook_ok + n.webhook_failed + n.dropped, 0);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_text),
	    TEST(test_data_that_cannot_be_told),
	    TEST(test_unknown_type),
	    TEST(test_missed),
	    TEST(test_goes_on_after_missed),
	    TEST(test_at_most),
	    TEST(test_leaving_while_told),
	    TEST(test_leaving_others),
	    TEST(test_end_is_told),
	    TEST(test_counters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
