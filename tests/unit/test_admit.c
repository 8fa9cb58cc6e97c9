/*
 * Before a backend is asked: which service, may this client, which color.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/exchange/admit.h"
#include "tests/unit/fake_worker.h"

#define GREEN_POOL "green = { backends = [ \"127.0.0.1:8081\" ]; };"
#define BOTH(more) LISTEN "services = ( { name = \"api\"; " BLUE_POOL GREEN_POOL more " } );\n"

/* A request with this authority and path.  What became of it stays in *x for a look. */
static enum outcome
admitted(const char *authority, const char *path, const char *fields, struct exchange *x)
{
	struct fake_stream *f = front_new();
	struct head *head = head_of_request(f, "GET", path, fields);
	int64_t after_s = -1;
	enum outcome o;

	head->authority = (struct text){authority, strlen(authority)};
	*x = (struct exchange){.engine = &w.engine,
	    .fleet = w.engine.fleet,
	    .fc = &w.client.fc,
	    .front = &f->stream,
	    .request = head};
	o = admit(x, &after_s);
	assert_int_equal(x->colored, o == OUTCOME_OK);
	assert_true(after_s >= 0);
	f->open = false;
	return o;
}

static enum outcome
outcome_for(const char *authority, const char *path)
{
	struct exchange x;

	return admitted(authority, path, "", &x);
}

static enum color
color_for(const char *fields)
{
	struct exchange x;

	assert_int_equal(admitted("api.example", "/", fields, &x), OUTCOME_OK);
	return x.color;
}

static void
weigh(enum color live, uint32_t weight_bp)
{
	w.roster.states[0].course = course_of(live, weight_bp);
}

/* --- redirects and routes -------------------------------------------------------------- */

static void
test_redirect_comes_first(void **state)
{
	(void)state;
	worker_begin(
	    "listen = ( { address = \"127.0.0.1:80\"; redirect_to_https = true; } );\n"
	    "services = ( { name = \"api\"; hosts = [ \"api.example\" ]; " BLUE_POOL " } );\n");
	w.roster.states[0].maintenance = true;
	assert_int_equal(outcome_for("api.example", "/"), OUTCOME_REDIRECTED);
	assert_int_equal(outcome_for("other.example", "/"), OUTCOME_REDIRECTED);
	/* no Location could be made of these */
	assert_int_equal(outcome_for("", "/"), OUTCOME_BAD_REQUEST);
	assert_int_equal(outcome_for("api.example", "*"), OUTCOME_BAD_REQUEST);
	worker_end();
}

#define HOSTS                                                                                      \
	LISTEN "services = ( { name = \"a\"; hosts = [ \"a.example\" ]; paths = [ \"/x\" "         \
	       "]; " BLUE_POOL " }, { name = \"b\"; hosts = [ \"*.b.example\" ]; " BLUE_POOL       \
	       " } );\n"

static void
test_routes(void **state)
{
	struct exchange x;

	(void)state;
	worker_begin(HOSTS);
	assert_int_equal(admitted("a.example", "/x/1", "", &x), OUTCOME_OK);
	assert_string_equal(x.service->config->name, "a");
	assert_int_equal(admitted("a.example:8080", "/x?y", "", &x), OUTCOME_OK);
	assert_string_equal(x.service->config->name, "a");
	assert_int_equal(admitted("www.b.example", "/", "", &x), OUTCOME_OK);
	assert_string_equal(x.service->config->name, "b");
	assert_int_equal(outcome_for("a.example", "/xy"), OUTCOME_NO_ROUTE);
	assert_int_equal(outcome_for("c.example", "/x"), OUTCOME_MISDIRECTED);
	assert_int_equal(outcome_for("b.example", "/"), OUTCOME_MISDIRECTED);
	assert_int_equal(outcome_for("", "/"), OUTCOME_BAD_REQUEST);
	worker_end();

	worker_begin(HOSTS "unknown_host = 404;\n");
	assert_int_equal(outcome_for("c.example", "/x"), OUTCOME_NO_ROUTE);
	worker_end();
	worker_begin(BOTH("")); /* a service for all takes HTTP/1.0 without Host */
	assert_int_equal(outcome_for("", "/"), OUTCOME_OK);
	worker_end();
}

static void
test_declared_length(void **state)
{
	static const struct {
		int64_t length;
		enum outcome o;
	} cases[] = {{HEAD_LENGTH_NONE, OUTCOME_OK}, {0, OUTCOME_OK}, {1024, OUTCOME_OK},
	    {1025, OUTCOME_BODY_TOO_LARGE}, {INT64_MAX, OUTCOME_BODY_TOO_LARGE}};

	(void)state;
	worker_begin(BOTH("max_body = \"1k\";"));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct exchange x;
		int64_t after_s;

		(void)admitted("api.example", "/", "", &x);
		x.request->content_length = cases[i].length;
		assert_int_equal(admit(&x, &after_s), cases[i].o);
	}
	worker_end();
}

/* --- maintenance, testers --------------------------------------------------------------------- */

#define FORCE                                                                                      \
	"split = { force = { header = \"x-color\"; cookie = \"color\"; secret = \"geheimnis\"; "   \
	"}; };"                                                                                    \
	"maintenance = { retry_after = \"1500ms\"; };"

static void
test_maintenance_lets_testers_through(void **state)
{
	struct exchange x;
	int64_t after_s;

	(void)state;
	worker_begin(BOTH(FORCE));
	w.roster.states[0].maintenance = true;
	assert_int_equal(outcome_for("api.example", "/"), OUTCOME_MAINTENANCE);
	assert_int_equal(
	    admitted("api.example", "/", "x-color: green:geheimnis\n", &x), OUTCOME_OK);
	assert_int_equal(x.color, GREEN);
	assert_int_equal(x.why, WHY_FORCED);
	assert_int_equal(
	    admitted("api.example", "/", "x-color: green:falsch123\n", &x), OUTCOME_MAINTENANCE);
	assert_int_equal(admit(&x, &after_s), OUTCOME_MAINTENANCE);
	assert_int_equal(after_s, 2);
	worker_end();
}

static void
test_forced_colors(void **state)
{
	(void)state;
	worker_begin(BOTH(FORCE));
	weigh(GREEN, 0);
	assert_int_equal(color_for(""), GREEN);
	assert_int_equal(color_for("x-color: blue:geheimnis\n"), BLUE);
	assert_int_equal(color_for("x-color: candidate:geheimnis\n"), BLUE);
	assert_int_equal(color_for("x-color: live:geheimnis\n"), GREEN);
	assert_int_equal(color_for("x-color: blue:geheimni\n"), GREEN);
	assert_int_equal(color_for("x-color: blue:\n"), GREEN);
	assert_int_equal(color_for("cookie: a=b; color=blue:geheimnis\n"), BLUE);
	assert_int_equal(color_for("x-color: nonsense\ncookie: color=blue:geheimnis\n"), BLUE);
	assert_int_equal(color_for("cookie: colors=blue:geheimnis\n"), GREEN);
	worker_end();
	/* without a secret there is no forcing */
	worker_begin(BOTH(""));
	assert_int_equal(color_for("x-color: green:\ncookie: =green:\n"), BLUE);
	worker_end();
}

/* --- rates --------------------------------------------------------------------------------------- */

static void
test_rates(void **state)
{
	struct exchange x;
	int64_t after_s;

	(void)state;
	worker_begin(BOTH("rate_exempt = [ \"10.0.0.0/8\" ]; rates = ( "
			  "{ path = \"/\"; requests = 2; burst = 2; }, "
			  "{ path = \"/slow\"; requests = 1; burst = 1; } );"));
	assert_int_equal(outcome_for("api.example", "/slow"), OUTCOME_OK);
	assert_int_equal(outcome_for("api.example", "/slow/er?x"), OUTCOME_RATE_LIMITED);
	assert_int_equal(outcome_for("api.example", "/slower"), OUTCOME_OK); /* the rule of "/" */
	assert_int_equal(outcome_for("api.example", "/"), OUTCOME_OK);
	assert_int_equal(admitted("api.example", "/", "", &x), OUTCOME_RATE_LIMITED);
	assert_int_equal(admit(&x, &after_s), OUTCOME_RATE_LIMITED);
	assert_int_equal(after_s, 1);
	client_from("192.0.2.8"); /* somebody else */
	assert_int_equal(outcome_for("api.example", "/slow"), OUTCOME_OK);
	client_from("10.9.9.9");
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(outcome_for("api.example", "/slow"), OUTCOME_OK);
	client_from("192.0.2.7");
	test_advance(w.turn, 1000);
	assert_int_equal(outcome_for("api.example", "/slow"), OUTCOME_OK);
	assert_int_equal(w.engine.counters.rate_limited, 3);
	worker_end();
}

/* --- splits ---------------------------------------------------------------------------------------- */

static unsigned
greens(unsigned n, const char *fields)
{
	unsigned green = 0;

	for (unsigned i = 0; i < n; i++)
		green += color_for(fields) == GREEN;
	return green;
}

static void
test_split_by_request(void **state)
{
	struct exchange x;

	(void)state;
	worker_begin(BOTH(""));
	weigh(BLUE, 2500);
	assert_int_equal(greens(400, ""), 100);
	(void)admitted("api.example", "/", "", &x);
	assert_int_equal(x.why, WHY_SPLIT);
	weigh(BLUE, 10000);
	assert_int_equal(greens(10, ""), 10);
	weigh(BLUE, 0);
	assert_int_equal(greens(10, ""), 0);
	worker_end();
}

/* The same client, the same color; and as many of all clients as the weight says, about. */
static void
test_split_by_key(void **state)
{
	static const char *const by[] = {"header:x-user", "cookie", "client-ip"};

	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		char config[512];
		unsigned green = 0;

		snprintf(config, sizeof(config),
		    BOTH("split = { by = \"%s\"; cookie = \"side\"; };"), by[kind]);
		worker_begin(config);
		weigh(BLUE, 3000);
		for (unsigned i = 0; i < 400; i++) {
			char fields[128], address[32];
			struct exchange x;

			snprintf(
			    fields, sizeof(fields), "x-user: u%u\ncookie: side=%08x\n", i, i * 77);
			snprintf(address, sizeof(address), "10.1.%u.%u", i / 250, i % 250);
			client_from(address);
			(void)admitted("api.example", "/", fields, &x);
			assert_int_equal(x.why, WHY_BUCKET);
			assert_int_equal(x.split_token[0], '\0');
			assert_int_equal(greens(3, fields), x.color == GREEN ? 3 : 0);
			green += x.color == GREEN;
		}
		assert_in_range(green, 80, 160);
		worker_end();
	}
}

/* Who does not say who it is: a new cookie, or by weight alone. */
static void
test_split_without_a_key(void **state)
{
	struct exchange x, y;

	(void)state;
	worker_begin(BOTH("split = { by = \"header:x-user\"; };"));
	weigh(BLUE, 5000);
	assert_int_equal(greens(100, ""), 50);
	(void)admitted("api.example", "/", "", &x);
	assert_int_equal(x.why, WHY_SPLIT);
	worker_end();
	worker_begin(BOTH("split = { by = \"cookie\"; cookie = \"side\"; };"));
	weigh(BLUE, 5000);
	(void)admitted("api.example", "/", "", &x);
	assert_int_equal(strlen(x.split_token), 16);
	assert_int_equal(x.why, WHY_BUCKET);
	/* what the new cookie says next time is what it meant this time */
	for (unsigned i = 0; i < 50; i++) {
		char fields[64];

		(void)admitted("api.example", "/", "", &x);
		snprintf(fields, sizeof(fields), "cookie: side=%s\n", x.split_token);
		(void)admitted("api.example", "/", fields, &y);
		assert_int_equal(y.color, x.color);
	}
	worker_end();
}

/* --- the key of a hashing pool -------------------------------------------------------------------------- */

static uint64_t
pick_key(const char *fields)
{
	struct exchange x;

	(void)admitted("api.example", "/", fields, &x);
	return admit_pick_key(&x, x.service->pools[BLUE].config);
}

static void
test_pick_keys(void **state)
{
	static const char *const by[] = {
	    "hash:header:x-user", "hash:cookie:user", "hash:client-ip"};
	uint64_t none;

	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		char config[512];

		snprintf(config, sizeof(config),
		    LISTEN
		    "services = ( { name = \"api\"; blue = { backends = [ \"127.0.0.1:1\" ]; "
		    "balance = \"%s\"; }; } );\n",
		    by[kind]);
		worker_begin(config);
		none = pick_key("");
		if (kind < 2) {
			assert_int_equal(pick_key("x-user: a\ncookie: user=a\n"),
			    pick_key("x-user: a\ncookie: user=a\n"));
			assert_int_not_equal(pick_key("x-user: a\ncookie: user=a\n"),
			    pick_key("x-user: b\ncookie: user=b\n"));
		}
		/* those without a key are spread by address, not heaped on one backend */
		client_from("192.0.2.99");
		assert_int_not_equal(pick_key(""), none);
		worker_end();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_redirect_comes_first),
	    cmocka_unit_test(test_routes),
	    cmocka_unit_test(test_declared_length),
	    cmocka_unit_test(test_maintenance_lets_testers_through),
	    cmocka_unit_test(test_forced_colors),
	    cmocka_unit_test(test_rates),
	    cmocka_unit_test(test_split_by_request),
	    cmocka_unit_test(test_split_by_key),
	    cmocka_unit_test(test_split_without_a_key),
	    cmocka_unit_test(test_pick_keys),
	};

	return cmocka_run_group_tests_name("admit", tests, config_files_begin, config_files_end);
}
