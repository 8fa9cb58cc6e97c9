/*
 * Those who listen to GET /v1/events.  See admin_events.h.
 *
 *   open -> head, what was missed -> events as they come, a comment now and then -> closed
 *                                        |                                            ^
 *                                        +-- the reader is too slow: cut, next turn --+
 *
 * A connection ends with its stream: the client closes it, or it is cut.  evhttp leaves a request
 * whose client has gone to whoever answers it; so a stream whose request has lost its connection
 * frees the request.
 *
 * Owner: admin.c.  Control thread.
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/admin_events.h"
#include "proxy/process/control.h"
#include "proxy/process/events.h"

#define STREAM_MAGIC       0x73736521u
#define OUTPUT_MAX         (256 * 1024) /* waiting for a reader, beside what it had missed */
#define INPUT_MAX          4096         /* nothing is to be said by a client that listens */
#define KEEP_ALIVE_SECONDS 15
#define STUCK_SECONDS      60 /* without a byte taken */
#define READ_ONLY_MAX      24 /* of the 32 subscriptions of events.c */

struct stream {
	uint32_t magic;
	struct event_streams *streams;
	struct evhttp_request *request;
	struct evhttp_connection *connection;
	struct subscription *subscription; /* NULL: cut, and waits for its turn to be closed */
	struct event *beat;
	bool read_only;
	struct evbuffer *missed; /* is being given what it missed: written behind the head */
	size_t ahead;            /* of it, what still waits */
	LIST_ENTRY(stream) next;
};

struct event_streams {
	struct event_base *base;
	struct control *control;
	LIST_HEAD(stream_list, stream) all;
	unsigned n_read_only;
};

struct event_streams *
event_streams_new(struct event_base *base, struct control *control)
{
	struct event_streams *e = calloc(1, sizeof(*e));

	ENSURE(e != NULL);
	e->base = base;
	e->control = control;
	LIST_INIT(&e->all);
	return e;
}

/* --- the end --------------------------------------------------------------------------------- */

/* The connection is somebody else's to free. */
static void
stream_free(struct stream *s)
{
	LIST_REMOVE(s, next);
	s->streams->n_read_only -= s->read_only;
	if (s->subscription != NULL)
		events_unsubscribe(s->subscription);
	event_free(s->beat);
	if (evhttp_request_get_connection(s->request) == NULL)
		evhttp_request_free(s->request);
	s->magic = 0;
	free(s);
}

static void
stream_close(struct stream *s)
{
	struct evhttp_connection *connection = s->connection;

	stream_free(s);
	evhttp_connection_free(connection); /* its request with it */
}

void
event_streams_closed(struct event_streams *e, struct evhttp_connection *connection)
{
	struct stream *s;

	LIST_FOREACH(s, &e->all, next)
	{
		if (s->connection == connection) {
			stream_free(s);
			return;
		}
	}
}

void
event_streams_free(struct event_streams *e)
{
	struct stream *s, *after;

	if (e == NULL)
		return;
	for (s = LIST_FIRST(&e->all); s != NULL; s = after) {
		after = LIST_NEXT(s, next);
		stream_close(s);
	}
	free(e);
}

/* Not at once: an event may come from within evhttp's own work. */
static void
stream_cut(struct stream *s)
{
	s->subscription = NULL;
	event_active(s->beat, EV_TIMEOUT, 1);
}

/* --- what is written ------------------------------------------------------------------------- */

/* HTML Standard, section 9.2.6: a line that says nothing. */
static const char comment[] = ":\n\n";

static size_t
output_length(const struct stream *s)
{
	return evbuffer_get_length(
	    bufferevent_get_output(evhttp_connection_get_bufferevent(s->connection)));
}

static void
stream_write(struct stream *s, const char *text, size_t n)
{
	struct evbuffer *out = evbuffer_new();

	ENSURE(out != NULL && evbuffer_add(out, text, n) == 0);
	evhttp_send_reply_chunk(s->request, out);
	evbuffer_free(out);
}

static void
on_event(void *arg, const char *text, size_t n)
{
	struct stream *s = arg;
	size_t waiting;

	CHECK_MAGIC(s, STREAM_MAGIC);
	if (text == NULL) { /* teal ends */
		stream_cut(s);
		return;
	}
	if (s->missed != NULL) {
		ENSURE(evbuffer_add(s->missed, text, n) == 0);
		return;
	}
	waiting = output_length(s);
	s->ahead = s->ahead < waiting ? s->ahead : waiting;
	if (waiting + n > s->ahead + OUTPUT_MAX) {
		log_warn("admin: a reader of /v1/events is too slow: closed");
		events_unsubscribe(s->subscription);
		stream_cut(s);
		return;
	}
	stream_write(s, text, n);
}

static void
on_beat(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;

	(void)fd;
	(void)what;
	CHECK_MAGIC(s, STREAM_MAGIC);
	if (s->subscription == NULL)
		stream_close(s);
	else
		stream_write(s, comment, sizeof(comment) - 1);
}

/* --- the beginning --------------------------------------------------------------------------- */

bool
event_streams_wanted(struct evhttp_request *request)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri == NULL ? NULL : evhttp_uri_get_path(uri);

	return evhttp_request_get_command(request) == EVHTTP_REQ_GET && path != NULL &&
	       strcmp(path, "/v1/events") == 0;
}

/* A decimal number without sign. */
static int
id_parse(const char *text, uint64_t *id)
{
	uint64_t n = 0;

	if (*text == '\0')
		return -1;
	for (; *text != '\0'; text++) {
		unsigned digit = (unsigned)*text - '0';

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return -1;
		n = n * 10 + digit;
	}
	*id = n;
	return 0;
}

/* The field is what an EventSource sends when it comes back, with the URL it began with: it counts
 * before the query.  0 and *id 0 without either; -1: no number. */
static int
last_id(struct evhttp_request *request, uint64_t *id)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *query = uri == NULL ? NULL : evhttp_uri_get_query(uri);
	const char *text =
	    evhttp_find_header(evhttp_request_get_input_headers(request), "Last-Event-ID");
	struct evkeyvalq in_query;
	int rc = 0;

	*id = 0;
	if (text != NULL)
		return id_parse(text, id);
	if (query == NULL || evhttp_parse_query_str(query, &in_query) < 0)
		return 0;
	if ((text = evhttp_find_header(&in_query, "last_event_id")) != NULL)
		rc = id_parse(text, id);
	evhttp_clear_headers(&in_query);
	return rc;
}

static void
send_head(struct evhttp_request *request)
{
	struct evkeyvalq *out = evhttp_request_get_output_headers(request);

	(void)evhttp_add_header(out, "Content-Type", "text/event-stream");
	(void)evhttp_add_header(out, "Cache-Control", "no-store");
	(void)evhttp_add_header(out, "X-Content-Type-Options", "nosniff");
	evhttp_send_reply_start(request, HTTP_OK, NULL);
}

/* What holds for the others on this server does not for one who only listens. */
static void
set_limits(struct evhttp_connection *connection)
{
	const struct timeval stuck = {.tv_sec = STUCK_SECONDS};
	struct bufferevent *bev = evhttp_connection_get_bufferevent(connection);

	(void)bufferevent_set_timeouts(bev, NULL, &stuck);
	bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
}

static void
stream_begin(struct stream *s)
{
	static const struct timeval keep_alive = {.tv_sec = KEEP_ALIVE_SECONDS};

	set_limits(s->connection);
	send_head(s->request);
	/* a client that shows the head with the first bytes behind it (curl -i) shows it now */
	stream_write(s, comment, sizeof(comment) - 1);
	evhttp_send_reply_chunk(s->request, s->missed);
	evbuffer_free(s->missed);
	s->missed = NULL;
	s->ahead = output_length(s);
	(void)event_add(s->beat, &keep_alive);
}

enum stream_opened
event_streams_open(struct event_streams *e, struct evhttp_request *request, bool read_only)
{
	struct stream *s;
	uint64_t after;

	if (last_id(request, &after) < 0)
		return STREAM_BAD_ID;
	if (read_only && e->n_read_only == READ_ONLY_MAX)
		return STREAM_TOO_MANY;
	s = calloc(1, sizeof(*s));
	ENSURE(s != NULL);
	s->magic = STREAM_MAGIC;
	s->streams = e;
	s->read_only = read_only;
	s->request = request;
	s->connection = evhttp_request_get_connection(request);
	s->beat = event_new(e->base, -1, EV_PERSIST, on_beat, s);
	s->missed = evbuffer_new();
	ENSURE(s->beat != NULL && s->missed != NULL);
	s->subscription = events_subscribe(control_events(e->control), after, on_event, s);
	if (s->subscription == NULL) {
		event_free(s->beat);
		evbuffer_free(s->missed);
		free(s);
		return STREAM_TOO_MANY;
	}
	LIST_INSERT_HEAD(&e->all, s, next);
	e->n_read_only += read_only;
	stream_begin(s);
	return STREAM_OPEN;
}
