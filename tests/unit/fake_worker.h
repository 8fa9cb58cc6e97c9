/*
 * A worker without sockets: an engine with a fleet made from a configuration, a client, and a pool of
 * connections that hands out fake streams.  Included by one file of a test program: it defines what
 * exchange/back.o would, so that is not linked.
 */
#ifndef TEST_FAKE_WORKER_H
#define TEST_FAKE_WORKER_H

#include <arpa/inet.h>
#include <jansson.h>

#include "balancer/guard.h"
#include "balancer/pick.h"
#include "balancer/tally.h"
#include "proxy/exchange/back.h"
#include "proxy/exchange/client.h"
#include "proxy/exchange/crowd.h"
#include "proxy/exchange/exchange.h"
#include "proxy/process/snapshot.h"
#include "tests/codec/memory_transport.h"
#include "tests/unit/config_files.h"
#include "tests/unit/fake_stream.h"

#define BACKS_MAX 96

static bool outcomes_seen[N_OUTCOMES]; /* in the log, by any test of this program */

static struct fake_worker {
	struct config *config;
	struct roster roster;
	struct turn *turn;
	struct engine engine;
	struct client client;
	struct ring ring;
	const char *pages[8];
	struct fake_list streams;
	struct fake_stream *back[BACKS_MAX]; /* as they were opened */
	const struct backend *at[BACKS_MAX]; /* and to whom */
	unsigned n_backs;
	unsigned full;        /* so many more calls find max_connections reached */
	unsigned unreachable; /* calls of back_unreachable() */
	json_t *log;          /* the last line */
	unsigned lines;
	unsigned failed; /* calls of engine.failed() */
	enum outcome failed_why;
	unsigned failed_status;
	unsigned tripped; /* calls of engine.tripped() */
	struct verdict verdict;
} w;

/* --- in place of back.o ------------------------------------------------------------- */

enum back_result
back_stream(struct engine *e, const struct member *m, unsigned *tried, struct stream **out)
{
	const struct target *t = m->addresses;
	unsigned address = 0;

	ENSURE(e == &w.engine && w.n_backs < BACKS_MAX);
	if (t->n == 0)
		return BACK_UNRESOLVED;
	if (w.full > 0) {
		w.full--;
		return BACK_FULL;
	}
	while ((*tried & 1U << address) != 0)
		address++;
	ENSURE(address < t->n);
	*tried |= 1U << address;
	w.at[w.n_backs] = m->backend;
	w.back[w.n_backs] = fake_stream_new(&w.streams, w.turn->chunks);
	*out = &w.back[w.n_backs++]->stream;
	return BACK_OPENED;
}

void
back_unreachable(
    struct engine *e, struct backend *b, const struct pool_config *pool, enum outcome why)
{
	(void)why;
	w.unreachable++;
	backend_connect_failed(b, pool, e->turn->now_ms);
}

static inline void
fake_failed(struct engine *e, const struct exchange *x, enum outcome why)
{
	ENSURE(e == &w.engine && x->color != service_live(x->service));
	w.failed++;
	w.failed_why = why;
	w.failed_status = x->back_status;
}

static inline void
fake_tripped(struct engine *e, const struct service *s, const struct verdict *v)
{
	ENSURE(e == &w.engine && course_tripped(service_course(s->state)));
	w.tripped++;
	w.verdict = *v;
}

/* --- life ------------------------------------------------------------------------------ */

static inline void
fake_release(struct fleet_ref *r)
{
	struct snapshot *s = CONTAINER_OF((void *)(uintptr_t)r->fleet, struct snapshot, fleet);

	s->holders--;
	free(r);
}

/* The roster's newest fleet, as a worker adopts it. */
static inline void
worker_adopts(void)
{
	struct fleet_ref *old = w.engine.fleet, *r = calloc(1, sizeof(*r));

	ENSURE(r != NULL && roster_snapshot(&w.roster) == 0);
	w.roster.current->holders = 1;
	r->fleet = &w.roster.current->fleet;
	r->refs = 1;
	r->release = fake_release;
	w.engine.fleet = r;
	if (old != NULL)
		fleet_ref_drop(old);
	roster_collect(&w.roster);
}

static inline void
client_from(const char *address)
{
	struct in6_addr v6;

	memset(w.client.fc.address, 0, 16);
	if (strchr(address, ':') != NULL) {
		ENSURE(inet_pton(AF_INET6, address, &v6) == 1);
		memcpy(w.client.fc.address, &v6, 16);
	} else {
		w.client.fc.address[10] = w.client.fc.address[11] = 0xff;
		ENSURE(inet_pton(AF_INET, address, w.client.fc.address + 12) == 1);
	}
	snprintf(w.client.fc.address_text, sizeof(w.client.fc.address_text), "%s", address);
}

static inline void
worker_begin(const char *config)
{
	struct state none = {0};
	char err[256];

	memset(&w, 0, sizeof(w));
	w.config = conf_load_ok(config);
	w.turn = test_turn_new();
	if (roster_init(&w.roster, w.config, 2, &none, err, sizeof(err)) == -1)
		fail_msg("%s", err);
	for (unsigned i = 0; i < w.roster.n_backends; i++)
		w.roster.backends[i]->target.n = 1;
	ENSURE(ring_init(&w.ring, 1 << 16) == 0);
	random_seed(&w.engine.random, 1);
	w.engine.turn = w.turn;
	w.engine.config = w.config;
	w.engine.rates = rate_new(64);
	w.engine.maintenance_pages = w.pages;
	w.engine.access = &w.ring;
	w.engine.access_format = w.config->log_format;
	w.engine.failed = fake_failed;
	w.engine.tripped = fake_tripped;
	worker_adopts();
	exchange_engine_init(&w.engine);
	w.client.magic = CLIENT_MAGIC;
	w.client.engine = &w.engine;
	w.client.listener = &w.config->listeners[0];
	w.client.fc.limits = &w.config->limits;
	client_from("192.0.2.7");
}

static inline void
note_outcome(void)
{
	const char *word = json_string_value(json_object_get(w.log, "outcome"));

	for (unsigned o = 0; o < N_OUTCOMES; o++) {
		if (strcmp(outcome_table[o].word, word) == 0)
			outcomes_seen[o] = true;
	}
}

/* Ends the turn and reads what was logged. */
static inline void
worker_turn(void)
{
	const char *at;
	size_t n;

	(void)turn_end(w.turn);
	while ((n = ring_peek(&w.ring, &at)) > 0) {
		size_t length = (size_t)((const char *)memchr(at, '\n', n) - at) + 1;

		w.lines++;
		if (w.config->log_format == LOG_FORMAT_JSON) {
			json_error_t error;

			json_decref(w.log);
			w.log = json_loadb(at, length, JSON_REJECT_DUPLICATES, &error);
			if (w.log == NULL)
				fail_msg("%s: %.*s", error.text, (int)length, at);
			note_outcome();
		}
		ring_take(&w.ring, length);
	}
}

static inline void
worker_waits(int64_t ms)
{
	test_advance(w.turn, ms);
	worker_turn();
}

static inline const char *
logged(const char *key)
{
	return w.log != NULL ? json_string_value(json_object_get(w.log, key)) : NULL;
}

static inline long
logged_number(const char *key)
{
	return w.log != NULL ? (long)json_integer_value(json_object_get(w.log, key)) : -1;
}

static inline const struct service *
the_service(unsigned i)
{
	return &w.engine.fleet->fleet->services[i];
}

/* Control sets the first service's course, as after a change by hand. */
static inline void
set_course(enum color live, uint32_t weight_bp)
{
	struct service_state *state = the_service(0)->state;
	bool begins = service_live(the_service(0)) != live || service_weight(the_service(0)) == 0;

	guard_weight(state, begins, weight_bp, w.turn->now_ms);
	atomic_store(&state->course, course_of(live, weight_bp));
}

static inline struct tally_sum
tallied(enum color c)
{
	struct tally_sum sum;

	tally_sum(the_service(0)->state->tally[c], w.turn->now_ms, 60000, &sum);
	return sum;
}

/* Everything is given back: exchanges, places, counts, fleets, memory. */
static inline void
worker_end(void)
{
	struct fake_stream *s;

	worker_turn();
	assert_int_equal(w.engine.n_exchanges, 0);
	assert_int_equal(w.engine.exchanges.n_used, 0);
	assert_int_equal(w.engine.fleet->refs, 1);
	assert_int_equal(w.client.fc.queued, 0);
	for (unsigned i = 0; i < w.roster.n_backends; i++)
		assert_int_equal(w.roster.backends[i]->backend.inflight, 0);
	for (unsigned i = 0; i < w.config->n_services; i++) {
		for (unsigned c = 0; c < N_COLORS; c++) {
			struct tally_sum sum;

			assert_int_equal(w.roster.states[i].waiting[c], 0);
			tally_sum(w.roster.states[i].tally[c], w.turn->now_ms, 60000, &sum);
			assert_int_equal(sum.inflight, 0);
			assert_true(TAILQ_EMPTY(&w.engine.crowds[i].colors[c].waiting));
			assert_true(TAILQ_EMPTY(&w.engine.crowds[i].colors[c].relaying));
			assert_int_equal(w.engine.crowds[i].colors[c].overdue, 0);
		}
	}
	LIST_FOREACH(s, &w.streams, link)
	{
		assert_false(s->open);
	}
	while ((s = LIST_FIRST(&w.streams)) != NULL)
		fake_stream_free(s);
	fleet_ref_drop(w.engine.fleet);
	exchange_engine_fini(&w.engine);
	roster_fini(&w.roster);
	rate_free(w.engine.rates);
	ring_fini(&w.ring);
	test_turn_free(w.turn);
	json_decref(w.log);
	config_free(w.config);
}

/* --- requests ----------------------------------------------------------------------------- */

/* A head as a codec would make it, in the stream's arena; the authority is "api.example". */
static inline struct head *
head_of_request(struct fake_stream *f, const char *method, const char *path, const char *fields)
{
	struct arena *a = &f->stream.arena;
	struct head *head = arena_alloc(a, sizeof(*head));

	*head = (struct head){.method = method_lookup(method, strlen(method)),
	    .method_text = {arena_copy(a, method, strlen(method)), strlen(method)},
	    .scheme = w.client.fc.tls ? TEXT("https") : TEXT("http"),
	    .authority = TEXT("api.example"),
	    .path = {arena_copy(a, path, strlen(path)), strlen(path)},
	    .minor = 1,
	    .content_length = HEAD_LENGTH_NONE};
	fake_fields(&head->fields, a, fields);
	return head;
}

static inline struct fake_stream *
front_new(void)
{
	struct fake_stream *f = fake_stream_new(&w.streams, w.turn->chunks);

	f->stream.front = &w.client.fc;
	return f;
}

static inline void
hand_over(struct fake_stream *f, struct head *head, bool end)
{
	head->no_body = end;
	exchange_handler.request(&w.client.fc, &f->stream, head, end);
}

static inline struct fake_stream *
request_with(const char *method, const char *path, const char *fields, bool end)
{
	struct fake_stream *f = front_new();

	hand_over(f, head_of_request(f, method, path, fields), end);
	return f;
}

static inline struct fake_stream *
request(const char *method, bool end)
{
	return request_with(method, "/", "", end);
}

static inline struct exchange *
exchange_on(const struct fake_stream *f)
{
	return f->stream.user;
}

/* The client takes all of its answer, and the connection says so. */
static inline void
finish_front(struct fake_stream *f)
{
	fire_drained(f);
	fire_closed(f, OUTCOME_OK);
	worker_turn();
}

/* --- words the tests of the exchange share -------------------------------------------------- */

#define POOL(more, backends) "blue = { backends = [ " backends " ]; " more " };"
#define API(pool, more)      LISTEN "services = ( { name = \"api\"; " pool more " } );\n"
#define ONE(pool, more)      API(POOL(pool, "\"10.0.0.1:80\""), more)
#define TWO(pool, more)      API(POOL(pool, "\"10.0.0.1:80\", \"10.0.0.2:80\""), more)
/* Two backends of each color; blue is live. */
#define COLORS(blue, green, more)                                                                  \
	API("blue = { backends = [ \"10.0.0.1:80\", \"10.0.0.2:80\" ]; " blue " }; "               \
	    "green = { backends = [ \"10.0.1.1:80\", \"10.0.1.2:80\" ]; " green " }; ",            \
	    more)
#define TIMES                                                                                      \
	"timeouts = { response = \"1s\"; body = \"2s\"; request_body = \"3s\"; websocket_idle = "  \
	"\"4s\"; };"

/* The one exchange of the last turn ended so. */
static inline void
ended(enum outcome o, unsigned status)
{
	assert_string_equal(logged("outcome"), outcome_row(o)->word);
	assert_int_equal(logged_number("status"), status);
}

static inline void
conserved(const struct fake_stream *f)
{
	assert_int_equal(f->consumed, f->given);
}

/* A whole answer from this backend, taken by this client. */
static inline void
complete(struct fake_stream *f, struct fake_stream *b)
{
	fire_head(b, 200, false);
	fire_body(b, "yes", true);
	fire_drained(f);
	conserved(b);
	if (b->open)
		fire_closed(b, OUTCOME_OK);
	finish_front(f);
	conserved(f);
	assert_string_equal(f->sent, "yes");
}

#define WHOLE 10000
/* limits that the few failures of a test do not reach */
#define PATIENT "rollout = { limits = { min_failures = 1000; }; };"
#define TESTER  "split = { force = { header = \"x-color\"; secret = \"sesame-open-sesame\"; }; };"
#define FORCED  "x-color: green:sesame-open-sesame\n"

/* Green, the candidate, has all of the weight. */
static inline void
green_begin(const char *config)
{
	worker_begin(config);
	set_course(BLUE, WHOLE);
}

static inline void
assert_tallied(enum color c, unsigned requests, unsigned failures)
{
	struct tally_sum sum = tallied(c);

	assert_int_equal(sum.requests, requests);
	assert_int_equal(sum.failures, failures);
}

/* The answer is the live color's, and the log says why. */
static inline void
rescued_by(struct fake_stream *f, struct fake_stream *b, enum outcome why)
{
	assert_int_equal(f->heads, 0);
	fire_drained(b);
	complete(f, b);
	ended(OUTCOME_OK, 200);
	assert_string_equal(logged("color"), "blue");
	assert_string_equal(logged("why"), "rescue");
	assert_string_equal(logged("rescued_from"), "green");
	assert_string_equal(logged("rescued_why"), outcome_row(why)->word);
}

/* What a back codec may say before the head. */
static inline bool
of_backend(enum outcome o)
{
	switch (o) {
	case OUTCOME_CONNECT_REFUSED:
	case OUTCOME_CONNECT_FAILED:
	case OUTCOME_CONNECT_TIMEOUT:
	case OUTCOME_NO_SOCKET:
	case OUTCOME_BACK_TLS_FAILED:
	case OUTCOME_BACK_REFUSED:
	case OUTCOME_BACK_GOAWAY:
	case OUTCOME_BACK_STALE:
	case OUTCOME_BACK_RESET:
	case OUTCOME_BACK_MALFORMED:
	case OUTCOME_BACK_TOO_LARGE:
	case OUTCOME_BACK_TRUNCATED:
	case OUTCOME_NOT_IMPLEMENTED: /* a websocket that an h2 backend does not know */
	case OUTCOME_INTERNAL:        /* a codec would not write the request */
		return true;
	default:
		return false;
	}
}

/* A websocket. */
static inline struct fake_stream *
upgrade(void)
{
	struct fake_stream *f = front_new();
	struct head *head = head_of_request(f, "GET", "/chat", "sec-websocket-version: 13\n");

	head->websocket = true;
	hand_over(f, head, false);
	return f;
}

#endif
