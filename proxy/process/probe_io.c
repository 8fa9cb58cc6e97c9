/*
 * Asks probes.  See probe_io.h.
 *
 *   probe_begin -> ask() -> stream -> on_head, on_body, on_trailers -> on_closed -> done
 *                    ^                                                    |
 *                    +---- stale kept connection, next address -----------+
 *
 * Owner: probes.c.  Control thread.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/clock.h"
#include "proxy/base/obj.h"
#include "proxy/codec/back_conn.h"
#include "proxy/codec/h2.h"
#include "proxy/codec/tls.h"
#include "proxy/process/probe_answer.h"
#include "proxy/process/probe_io.h"

#define LINE_CONN_MAGIC 0x11aec022u
#define SEND_TIMEOUT_MS 10000 /* of a goodbye that nobody reads */

struct probe_io {
	struct turn turn;
	struct event_base *base;
	const struct config *config;
	struct event *end;  /* of the turn */
	struct event *tick; /* of the wheel */
	void (*turned)(void *);
	void *arg;
};

struct line_conn {
	struct back_conn bc; /* first */
	uint32_t magic;
	struct probe_line *line; /* NULL: the line is gone */
	LIST_ENTRY(line_conn) link;
	unsigned address;
	bool connected;
};

struct probe_line {
	struct probe_io *io;
	const struct target *target;
	LIST_HEAD(, line_conn) conns;
	LIST_HEAD(, probe) probes; /* under way */
	unsigned next_address;     /* moves on after a failed connect */
	size_t n_host;
	char host[];
};

/* --- the turn ------------------------------------------------------------------------ */

/* The turn begins: its end is put behind the callbacks that are active already. */
static void
refresh(struct turn *turn)
{
	struct probe_io *io = turn->owner;

	clock_turn(turn);
	event_active(io->end, EV_TIMEOUT, 1);
}

static void
on_end(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval at_once = {0, 0}, tick = {0, WHEEL_TICK_MS * 1000};
	struct probe_io *io = arg;

	(void)fd;
	(void)what;
	if (io->turn.stale)
		clock_turn(&io->turn); /* nobody but what the last turn has left */
	if (turn_end(&io->turn))
		event_add(io->end, &at_once);
	if (io->turn.wheel.armed != 0 && !event_pending(io->tick, EV_TIMEOUT, NULL))
		event_add(io->tick, &tick);
	io->turned(io->arg);
	io->turn.stale = true;
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct probe_io *io = arg;

	(void)fd;
	(void)what;
	turn_wake(&io->turn);
	wheel_advance(&io->turn.wheel, io->turn.now_ms);
}

struct probe_io *
probe_io_new(
    struct event_base *base, const struct config *config, void (*turned)(void *), void *arg)
{
	struct probe_io *io = calloc(1, sizeof(*io));

	ENSURE(io != NULL);
	io->base = base;
	io->config = config;
	io->turned = turned;
	io->arg = arg;
	turn_init(&io->turn, clock_us(CLOCK_MONOTONIC), clock_us(CLOCK_REALTIME) / 1000);
	io->turn.owner = io;
	io->turn.refresh = refresh;
	io->turn.stale = true;
	io->end = event_new(base, -1, 0, on_end, io);
	io->tick = event_new(base, -1, 0, on_tick, io);
	ENSURE(io->end != NULL && io->tick != NULL);
	return io;
}

void
probe_io_free(struct probe_io *io)
{
	if (io == NULL)
		return;
	while (turn_end(&io->turn))
		;
	event_free(io->end);
	event_free(io->tick);
	turn_fini(&io->turn);
	h2_stream_fini_thread();
	h2_mem_fini();
	free(io);
}

int64_t
probe_io_now(struct probe_io *io)
{
	turn_wake(&io->turn);
	return io->turn.now_ms;
}

/* --- connections ------------------------------------------------------------------------ */

static struct line_conn *
conn_of(struct back_conn *bc)
{
	struct line_conn *c = (struct line_conn *)(void *)bc;

	CHECK_MAGIC(c, LINE_CONN_MAGIC);
	return c;
}

static void
on_connected(struct back_conn *bc)
{
	conn_of(bc)->connected = true;
}

static bool
idle(const struct line_conn *c)
{
	return c->connected && c->bc.n_streams == 0 && back_slots(&c->bc) > 0;
}

/* One is kept. */
static void
on_available(struct back_conn *bc)
{
	struct line_conn *c = conn_of(bc), *other;

	if (c->line == NULL) {
		back_retire(bc);
		return;
	}
	if (!idle(c))
		return;
	LIST_FOREACH(other, &c->line->conns, link)
	{
		if (other != c && idle(other)) {
			back_retire(bc);
			return;
		}
	}
}

static void
on_retired(struct back_conn *bc)
{
	(void)bc; /* back_slots() says so */
}

static void
on_gone(struct back_conn *bc)
{
	struct line_conn *c = conn_of(bc);

	if (c->line != NULL)
		LIST_REMOVE(c, link);
}

static void
free_conn(struct conn *conn)
{
	struct line_conn *c = conn_of((struct back_conn *)(void *)conn);

	c->magic = 0;
	free(c);
}

/* Never set: a connection has the patience of its probe. */
static void
on_timer(struct timeout *t)
{
	(void)t;
}

/* The next address in turn that was not tried yet. */
static unsigned
choose_address(const struct probe_line *l, unsigned tried)
{
	for (unsigned i = 0; i < l->target->n; i++) {
		unsigned at = (l->next_address + i) % l->target->n;

		if ((tried & 1U << at) == 0)
			return at;
	}
	return l->next_address % l->target->n;
}

static struct line_conn *
connect_new(struct probe_line *l, unsigned tried)
{
	static const struct back_owner owner = {.connected = on_connected,
	    .available = on_available,
	    .retired = on_retired,
	    .gone = on_gone};
	const struct target *t = l->target;
	struct probe_io *io = l->io;
	struct line_conn *c = calloc(1, sizeof(*c));
	struct transport *transport;

	ENSURE(c != NULL);
	c->magic = LINE_CONN_MAGIC;
	c->line = l;
	c->address = choose_address(l, tried);
	transport = transport_connect(io->base,
	    (const struct sockaddr *)(const void *)&t->at[c->address].address,
	    (unsigned)t->at[c->address].length, t->tls, t->host);
	back_init(&c->bc, &io->turn, transport, t->pool->protocol, &owner, free_conn);
	c->bc.max_streams = t->pool->protocol == BACK_H2 ? N_PROBES : 1;
	c->bc.header_bytes = io->config->limits.header_bytes;
	c->bc.header_count = io->config->limits.header_count;
	c->bc.conn.send_timeout_ms = SEND_TIMEOUT_MS;
	timeout_init(&c->bc.timer, on_timer);
	LIST_INSERT_HEAD(&l->conns, c, link);
	back_begin(&c->bc);
	return c;
}

/* A kept one that can take a stream, or NULL. */
static struct line_conn *
kept(const struct probe_line *l)
{
	struct line_conn *c;

	LIST_FOREACH(c, &l->conns, link)
	{
		if (c->connected && !c->bc.retired && conn_usable(&c->bc.conn) &&
		    back_slots(&c->bc) > 0)
			return c;
	}
	return NULL;
}

/* --- one probe ----------------------------------------------------------------------------- */

static const struct stream_events events;

static void
send_request(struct probe *p)
{
	static const unsigned char empty[5]; /* a message of no bytes, not compressed: service "" */
	struct field items[] = {
	    {TEXT("user-agent"), TEXT("teal/" TEAL_VERSION " (health)"), F_USER_AGENT},
	    {TEXT("content-type"), TEXT("application/grpc"), F_CONTENT_TYPE},
	};
	const struct probe_line *l = p->line;
	bool grpc = p->config->grpc;
	struct head head = {.method = grpc ? METHOD_POST : METHOD_GET,
	    .method_text = grpc ? TEXT("POST") : TEXT("GET"),
	    .scheme = l->target->tls != NULL ? TEXT("https") : TEXT("http"),
	    .authority = {l->host, l->n_host},
	    .path = grpc ? TEXT("/grpc.health.v1.Health/Check") : text_of(p->config->path),
	    .content_length = HEAD_LENGTH_NONE,
	    .no_body = !grpc,
	    .fields = {.items = items, .n = grpc ? 2 : 1, .room = 2}};

	for (unsigned i = 0; i < head.fields.n; i++)
		head.fields.bytes += items[i].name.n + items[i].value.n + 32;
	stream_send_head(p->stream, &head, !grpc);
	if (grpc)
		stream_send_body(p->stream, slice_borrowed(empty, sizeof(empty)), true);
}

static void
ask(struct probe *p)
{
	struct probe_line *l = p->line;
	struct line_conn *c = p->fresh ? NULL : kept(l);

	if (c == NULL) {
		c = connect_new(l, p->tried);
		p->tried |= 1U << c->address;
	}
	p->reused = c->bc.served > 0;
	p->conn = c;
	p->stream = back_open(&c->bc);
	p->stream->events = &events;
	p->stream->user = p;
	p->status = 0;
	send_request(p);
}

static void
clear(struct probe *p)
{
	free(p->body);
	p->body = NULL;
	p->n_body = 0;
	LIST_REMOVE(p, link);
	p->line = NULL;
	p->conn = NULL;
	p->stream = NULL;
}

/* The last word about the probe here: done() may begin it again, or free the line. */
static void
finish(struct probe *p, const struct probe_result *r)
{
	clear(p);
	p->done(p, r);
}

static void
on_head(void *user, const struct head *head, bool end)
{
	struct probe *p = user;
	const struct field *status = fields_find(&head->fields, F_GRPC_STATUS);

	(void)end; /* closed() tells */
	if (head->status < 200)
		return;
	p->status = head->status;
	if (status != NULL && p->config->grpc) /* an answer of trailers only */
		events.trailers(p, &head->fields);
}

static void
keep_text(char *to, size_t size, const struct field *f)
{
	size_t n = 0;

	for (; f != NULL && n < f->value.n && n + 1 < size; n++)
		to[n] = (char)(f->value.p[n] >= ' ' && f->value.p[n] < 0x7f ? f->value.p[n] : '?');
	to[n] = '\0';
}

static void
on_trailers(void *user, const struct fields *fields)
{
	struct probe *p = user;

	keep_text(p->grpc_status, sizeof(p->grpc_status), fields_find(fields, F_GRPC_STATUS));
	keep_text(p->grpc_message, sizeof(p->grpc_message),
	    fields_find_name(fields, "grpc-message", strlen("grpc-message")));
}

static void
drop_stream(struct probe *p)
{
	struct stream *s = p->stream;

	p->stream = NULL;
	if (s != NULL)
		stream_reset(s, OUTCOME_OK);
}

static const struct probe_result *
answered(struct probe *p)
{
	if (p->last.status == p->status && p->last.n == p->n_body && !p->config->grpc &&
	    (p->n_body == 0 || memcmp(p->last.body, p->body, p->n_body) == 0))
		return &p->last.result;
	probe_answered(p, &p->last.result);
	p->last.status = p->status;
	p->last.n = p->n_body;
	free(p->last.body);
	p->last.body = p->body;
	p->body = NULL;
	return &p->last.result;
}

void
probe_fini(struct probe *p)
{
	ENSURE(p->line == NULL);
	free(p->last.body);
	p->last.body = NULL;
	p->last.status = 0;
}

static void
on_body(void *user, struct slice s, bool end)
{
	struct probe *p = user;
	const struct probe_result *r;
	size_t n = s.n < PROBE_BODY_MAX - p->n_body ? s.n : PROBE_BODY_MAX - p->n_body;

	(void)end;
	if (s.n == 0)
		return;
	if (n != 0) {
		p->body = realloc(p->body, p->n_body + n);
		ENSURE(p->body != NULL);
		memcpy(p->body + p->n_body, s.p, n);
	}
	p->n_body += n;
	if (n == s.n) {
		stream_consumed(p->stream, s.n);
		return;
	}
	r = answered(p);
	drop_stream(p);
	finish(p, r);
}

static void
on_drained(void *user, size_t n)
{
	(void)user;
	(void)n;
}

static bool
unreachable(enum outcome why)
{
	return why == OUTCOME_CONNECT_REFUSED || why == OUTCOME_CONNECT_FAILED ||
	       why == OUTCOME_CONNECT_TIMEOUT || why == OUTCOME_BACK_TLS_FAILED;
}

/* Is it asked once more, elsewhere? */
static bool
again(struct probe *p, enum outcome why)
{
	const struct probe_line *l = p->line;

	if (p->reused && p->status == 0 && !p->fresh) {
		p->fresh = true; /* what was kept was stale: that says nothing of the backend */
		return true;
	}
	if (!unreachable(why))
		return false;
	p->line->next_address = p->conn->address + 1;
	return p->tried != (1U << l->target->n) - 1 && l->target->n > 1;
}

static void
on_closed(void *user, enum outcome why)
{
	struct probe *p = user;
	struct probe_result r;

	p->stream = NULL;
	if (why == OUTCOME_OK) {
		finish(p, answered(p));
	} else if (why == OUTCOME_NO_SOCKET) {
		finish(p, NULL);
	} else if (again(p, why)) {
		p->n_body = 0;
		ask(p);
	} else {
		probe_failed(why, why == OUTCOME_BACK_TLS_FAILED ? tls_failure() : "", &r);
		finish(p, &r);
	}
}

static const struct stream_events events = {
    .head = on_head,
    .body = on_body,
    .trailers = on_trailers,
    .drained = on_drained,
    .closed = on_closed,
};

bool
probe_line_busy(const struct probe_line *l)
{
	return !LIST_EMPTY(&l->probes) && kept(l) == NULL;
}

void
probe_begin(struct probe *p, struct probe_line *l, const struct probe_config *config)
{
	ENSURE(p->line == NULL && l->target->n > 0);
	p->line = l;
	p->config = config;
	p->tried = 0;
	p->fresh = false;
	p->grpc_status[0] = p->grpc_message[0] = '\0';
	LIST_INSERT_HEAD(&l->probes, p, link);
	turn_wake(&l->io->turn);
	ask(p);
}

void
probe_expire(struct probe *p)
{
	struct line_conn *c = p->conn;
	struct probe_result r;

	turn_wake(&p->line->io->turn);
	probe_timed_out(p, c->connected, &r);
	if (!c->connected)
		p->line->next_address = c->address + 1;
	drop_stream(p);
	/* h2: it may be the connection that is dead; another probe on it is asked again on a fresh
	 * one */
	conn_lost(&c->bc.conn, OUTCOME_BACK_RESET);
	finish(p, &r);
}

/* --- lines ----------------------------------------------------------------------------------- */

struct probe_line *
probe_line_new(struct probe_io *io, const struct target *target, const char *host)
{
	size_t n = strlen(host);
	struct probe_line *l = calloc(1, sizeof(*l) + n + 1);

	ENSURE(l != NULL);
	l->io = io;
	l->target = target;
	l->n_host = n;
	memcpy(l->host, host, n);
	LIST_INIT(&l->conns);
	LIST_INIT(&l->probes);
	return l;
}

void
probe_line_moved(struct probe_line *l)
{
	struct line_conn *c, *next;

	turn_wake(&l->io->turn);
	for (c = LIST_FIRST(&l->conns); c != NULL; c = next) {
		next = LIST_NEXT(c, link);
		back_retire(&c->bc);
	}
}

void
probe_line_free(struct probe_line *l)
{
	struct line_conn *c;
	struct probe *p;

	if (l == NULL)
		return;
	turn_wake(&l->io->turn);
	while ((p = LIST_FIRST(&l->probes)) != NULL) {
		drop_stream(p);
		clear(p);
	}
	while ((c = LIST_FIRST(&l->conns)) != NULL) {
		LIST_REMOVE(c, link);
		c->line = NULL;
		conn_close(&c->bc.conn, false);
	}
	free(l);
}
