/*
 * The access log's line: whatever bytes a client sent, it is one line, JSON that parses, and short enough.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_worker.h"

#define TEXT_FORMAT ONE("", "") "log = { format = \"text\"; };\n"

/* One refused request with this host and path; its line, the caller's. */
static char *
line_of(struct text method, struct text host, struct text path)
{
	struct fake_stream *f = front_new();
	struct head *head = head_of_request(f, "GET", "/", "");
	const char *at;
	size_t n;
	char *line;

	head->method_text = method;
	head->authority = host;
	head->path = path;
	exchange_handler.refused(&w.client.fc, &f->stream, head, OUTCOME_BAD_REQUEST);
	fire_drained(f);
	fire_closed(f, OUTCOME_OK);
	(void)turn_end(w.turn);
	n = ring_peek(&w.ring, &at);
	assert_in_range(n, 1, RING_LINE_MAX);
	/* one line, of bytes that no terminal and no reader of lines minds */
	assert_int_equal(at[n - 1], '\n');
	for (size_t i = 0; i + 1 < n; i++)
		assert_in_range(at[i], 0x20, 0x7e);
	line = strndup(at, n - 1);
	ring_take(&w.ring, n);
	assert_int_equal(ring_peek(&w.ring, &at), 0);
	/* the next begins at the ring's beginning again, in one piece */
	w.ring.written = w.ring.taken = 0;
	return line;
}

static json_t *
parsed(char *line)
{
	json_error_t error;
	json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, &error);

	if (j == NULL)
		fail_msg("%s at %d: %s", error.text, error.position, line);
	free(line);
	return j;
}

/* What was written of `sent` reads back as a beginning of it, bytes above 0x7f as the code points of the same number. */
static void
reads_back(const json_t *value, struct text sent, size_t at_least)
{
	const unsigned char *p = (const unsigned char *)json_string_value(value);
	size_t n = json_string_length(value), i = 0;

	for (size_t at = 0; at < n; at++, i++) {
		unsigned char c = p[at];

		if (c >= 0xc2)
			c = (unsigned char)((c & 3) << 6 | (p[++at] & 0x3f));
		assert_true(i < sent.n);
		assert_int_equal(c, (unsigned char)sent.p[i]);
	}
	assert_true(i >= at_least);
}

static void
test_members(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(TWO("", ""));
	f = request_with("POST", "/a?b", "", false);
	fire_body(f, "12345", true);
	turn_clock(w.turn, w.turn->now_us + 1500, w.turn->wall_ms + 1);
	fire_drained(w.back[0]);
	fire_head(w.back[0], 200, false);
	turn_clock(w.turn, w.turn->now_us + 2000, w.turn->wall_ms + 2);
	fire_body(w.back[0], "123", true);
	fire_closed(w.back[0], OUTCOME_OK);
	finish_front(f);
	assert_string_equal(logged("time"), "2023-11-14T22:13:20.000Z");
	assert_string_equal(logged("client"), "192.0.2.7");
	assert_string_equal(logged("method"), "POST");
	assert_string_equal(logged("host"), "api.example");
	assert_string_equal(logged("path"), "/a?b");
	assert_string_equal(logged("protocol"), "HTTP/1.1");
	assert_string_equal(logged("service"), "api");
	assert_string_equal(logged("color"), "blue");
	assert_string_equal(logged("why"), "split");
	assert_string_equal(logged("backend"), w.at[0]->name);
	assert_string_equal(logged("outcome"), "ok");
	assert_int_equal(logged_number("status"), 200);
	assert_int_equal(logged_number("bytes_in"), 5);
	assert_int_equal(logged_number("bytes_out"), 3);
	assert_int_equal(logged_number("tries"), 1);
	assert_float_equal(json_real_value(json_object_get(w.log, "head_ms")), 1.5, 0.0001);
	assert_float_equal(json_real_value(json_object_get(w.log, "total_ms")), 3.5, 0.0001);
	worker_end();
}

static void
test_every_byte(void **state)
{
	char all[256];
	struct text t = {all, sizeof(all)};
	json_t *j;

	(void)state;
	for (unsigned i = 0; i < sizeof(all); i++)
		all[i] = (char)(255 - i); /* NUL last: a string's end to jansson */
	t.n--;
	worker_begin(ONE("", ""));
	j = parsed(line_of(t, t, t));
	reads_back(json_object_get(j, "method"), t, t.n);
	reads_back(json_object_get(j, "host"), t, t.n);
	reads_back(json_object_get(j, "path"), t, t.n);
	json_decref(j);
	t = (struct text){"a\0b", 3};
	char *line = line_of(t, t, t);

	assert_non_null(strstr(line, "\"path\":\"a\\u0000b\""));
	free(line);
	/* nothing at all */
	j = parsed(line_of((struct text){NULL, 0}, (struct text){NULL, 0}, (struct text){NULL, 0}));
	assert_string_equal(json_string_value(json_object_get(j, "path")), "");
	json_decref(j);
	worker_end();
}

/* Values of any length and of any mixture of plain and escaped bytes. */
static void
test_lengths(void **state)
{
	static const char *const kinds[] = {"a", "\"", "aaaaaaaaaa\"", "\"\"\"\"\"a", "\xff"};
	static char bytes[20000];

	(void)state;
	worker_begin(ONE("", ""));
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		size_t period = strlen(kinds[k]);

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = kinds[k][i % period];
		for (size_t n = 0; n <= sizeof(bytes); n += n < 1500 ? 7 : 1823) {
			struct text t = {bytes, n};
			json_t *j = parsed(line_of(t, t, t));

			reads_back(json_object_get(j, "path"), t, n < 200 ? n : 200);
			assert_string_equal(
			    json_string_value(json_object_get(j, "outcome")), "bad-request");
			json_decref(j);
		}
	}
	worker_end();
}

/* The longest of everything at once still ends in a brace. */
static void
test_longest_line(void **state)
{
	static char bytes[4000], host[256], config[1024];
	struct fake_stream *f;
	struct head *head;

	(void)state;
	memset(bytes, '"', sizeof(bytes));
	memset(host, 'h', sizeof(host) - 1);
	for (unsigned i = 50; i < sizeof(host) - 1; i += 50)
		host[i] = '.';
	snprintf(config, sizeof(config),
	    LISTEN
	    "services = ( { name = \"%.*s\"; blue = { backends = [ \"%.250s:65535\" ]; }; } );\n"
	    "forward = { trusted = [ \"192.0.2.7\" ]; };\n",
	    63, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn", host);
	worker_begin(config);
	f = front_new();
	head = head_of_request(f, "GET", "/",
	    "x-request-id: iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii\n");
	head->method_text = head->authority = head->path = (struct text){bytes, sizeof(bytes)};
	head->path.p = "/";
	head->path.n = 1;
	hand_over(f, head, true);
	head->path = head->authority;
	complete(f, w.back[0]); /* parses what was logged */
	assert_string_equal(logged("outcome"), "ok");
	assert_int_equal(strlen(logged("id")), REQUEST_ID_MAX);
	worker_end();
}

static void
test_text_format(void **state)
{
	char *line, expected[256];

	(void)state;
	worker_begin(TEXT_FORMAT);
	line = line_of(TEXT("GET"), TEXT("a.example"), TEXT("/x\" 200\n2023"));
	snprintf(expected, sizeof(expected),
	    "192.0.2.7 \"GET a.example /x\\u0022 200\\u000a2023 HTTP/1.1\" 400 0 ");
	assert_memory_equal(line, "2023-11-14T22:13:20.000Z ", 25);
	assert_non_null(strstr(line, expected));
	assert_string_equal(strstr(line, " 0 bad-request"), " 0 bad-request");
	free(line);
	line = line_of((struct text){NULL, 0}, (struct text){NULL, 0}, (struct text){NULL, 0});
	assert_non_null(strstr(line, " \"- - - HTTP/1.1\" "));
	free(line);
	worker_end();
}

/* A ring nobody empties loses lines and counts them; the requests go on. */
static void
test_full_ring(void **state)
{
	struct fake_stream *f;

	(void)state;
	worker_begin(ONE("", ""));
	for (unsigned i = 0; i < 400; i++) {
		struct head *head;

		f = front_new();
		head = head_of_request(f, "GET", "/", "");
		exchange_handler.refused(&w.client.fc, &f->stream, head, OUTCOME_BAD_REQUEST);
		fire_drained(f);
		fire_closed(f, OUTCOME_OK);
		(void)turn_end(w.turn);
	}
	assert_true(w.ring.lost > 0);
	worker_turn();
	assert_int_equal(w.lines + w.ring.lost, 400);
	assert_int_equal(w.engine.counters.outcomes[OUTCOME_BAD_REQUEST], 400);
	worker_end();
}

/* Another day in the clock's text only when it is another second. */
static void
test_time(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} times[] = {{0, "1970-01-01T00:00:00.000Z"}, {999, "1970-01-01T00:00:00.999Z"},
	    {1709210096005, "2024-02-29T12:34:56.005Z"},
	    {4102444799999, "2099-12-31T23:59:59.999Z"}};

	(void)state;
	worker_begin(ONE("", ""));
	for (unsigned i = 0; i < 8; i++) {
		json_t *j;

		turn_clock(w.turn, w.turn->now_us, times[i % 4].ms);
		j = parsed(line_of(TEXT("GET"), TEXT("a"), TEXT("/")));
		assert_string_equal(
		    json_string_value(json_object_get(j, "time")), times[i % 4].text);
		json_decref(j);
	}
	worker_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_members),
	    cmocka_unit_test(test_every_byte),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_longest_line),
	    cmocka_unit_test(test_text_format),
	    cmocka_unit_test(test_full_ring),
	    cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests_name(
	    "access_log", tests, config_files_begin, config_files_end);
}
