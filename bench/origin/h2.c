/*
 * HTTP/2 through nghttp2.  Bodies are not copied into nghttp2's frames: they go from the pattern
 * to the stage.  A stream's memory is used again by later ones of its worker.
 */
#include "bench/origin/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STREAMS       10000u
#define STREAM_WINDOW     (1u << 20)
#define CONNECTION_WINDOW (16 << 20)

/* A request on a stream and its answer.  Belongs to its connection until nghttp2 closes the
 * stream, then to the worker's free list. */
struct stream {
	struct conn *conn;
	struct stream *next, **prev; /* in use: of the connection; free: of the worker, by next */
	int32_t id;
	bool asked; /* the request is whole */
	struct timer timer;
	size_t sent, end; /* bytes of the body; gRPC's prefix included */
	struct request request;
	struct answer answer;
};

/* --- streams ------------------------------------------------------------------ */

static void due(struct timer *);

static struct stream *
stream_new(struct conn *c, int32_t id)
{
	struct worker *w = c->worker;
	struct stream *s = w->streams;

	if (s)
		w->streams = s->next;
	else if (!(s = malloc(sizeof *s)))
		abort();
	s->conn = c;
	s->id = id;
	s->asked = false;
	s->timer = (struct timer){.fire = due};
	s->sent = s->end = 0;
	request_begin(&s->request);
	s->next = c->h2.streams;
	s->prev = &c->h2.streams;
	if (s->next)
		s->next->prev = &s->next;
	c->h2.streams = s;
	c->active++;
	return s;
}

static void
stream_free(struct stream *s)
{
	struct worker *w = s->conn->worker;

	timer_clear(&w->timers, &s->timer);
	request_end(&s->request);
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->conn->active--;
	s->next = w->streams;
	w->streams = s;
}

void
h2_streams_free(struct worker *w)
{
	struct stream *s;

	while ((s = w->streams)) {
		w->streams = s->next;
		free(s);
	}
}

/* --- answers ------------------------------------------------------------------ */

#define FIELD(name, value, n)                                                                      \
	(nghttp2_nv)                                                                               \
	{                                                                                          \
		(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), sizeof(name) - 1,     \
		    (n), NGHTTP2_NV_FLAG_NO_COPY_NAME                                              \
	}

static int
put_trailers(nghttp2_session *session, struct stream *s)
{
	nghttp2_nv ok = FIELD("grpc-status", "0", 1);

	return nghttp2_submit_trailer(session, s->id, &ok, 1);
}

/* How much of the body goes into the next frame; the bytes themselves follow in on_send. */
static ssize_t
on_body_wanted(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
    nghttp2_data_source *source, void *arg)
{
	struct stream *s = source->ptr;
	size_t left = s->end - s->sent;

	(void)id;
	(void)buf;
	(void)arg;
	if (left == 0 && s->answer.act == ACT_TRUNCATE)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM */
	n = n < left ? n : left;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n == left && s->answer.act != ACT_TRUNCATE) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->request.grpc) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (put_trailers(session, s))
				return NGHTTP2_ERR_CALLBACK_FAILURE;
		}
	}
	return (ssize_t)n;
}

/* n bytes of the body from offset `at` on. */
static void
put_body(struct conn *c, const struct stream *s, size_t at, size_t n)
{
	if (s->answer.own) {
		conn_put(c, answer_own(&s->request, &s->answer) + at, n);
		return;
	}
	while (n) {
		size_t from = at % PATTERN, some = PATTERN - from < n ? PATTERN - from : n;

		conn_put(c, pattern + from, some);
		at += some;
		n -= some;
	}
}

/* gRPC's message: a byte that says it is not compressed, four of length.  An echo has the prefix
 * it came with. */
static bool
has_prefix(const struct stream *s)
{
	return s->request.grpc && !s->answer.own;
}

static int
on_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
    nghttp2_data_source *source, void *arg)
{
	struct conn *c = arg;
	struct stream *s = source->ptr;

	(void)session;
	(void)frame; /* no padding is asked for */
	conn_put(c, head, 9);
	size_t prefix = has_prefix(s) ? 5 : 0;

	if (s->sent < prefix) {
		size_t bytes = s->answer.bytes, some = prefix - s->sent < n ? prefix - s->sent : n;
		unsigned char text[5] = {0, (unsigned char)(bytes >> 24),
		    (unsigned char)(bytes >> 16), (unsigned char)(bytes >> 8),
		    (unsigned char)bytes};

		conn_put(c, text + s->sent, some);
		s->sent += some;
		n -= some;
	}
	put_body(c, s, s->sent - prefix, n);
	s->sent += n;
	return 0;
}

/* Trailers-Only: what a gRPC server says when it fails. */
static int
put_grpc_failure(struct stream *s)
{
	struct conn *c = s->conn;
	const char *version = c->worker->script.version;
	char status[12];
	int n = snprintf(status, sizeof status, "%u", s->answer.grpc_status);
	nghttp2_nv fields[] = {
	    FIELD(":status", "200", 3),
	    FIELD("content-type", "application/grpc", 16),
	    FIELD("x-version", version, strlen(version)),
	    FIELD("grpc-status", status, (size_t)n),
	    FIELD("grpc-message", "fault", 5),
	};

	return nghttp2_submit_response(
	    c->h2.session, s->id, fields, sizeof fields / sizeof *fields, NULL);
}

static int
put_answer(struct stream *s)
{
	struct conn *c = s->conn;
	const struct answer *a = &s->answer;
	bool grpc = s->request.grpc;
	const char *version = c->worker->script.version;
	const char *type = grpc ? "application/grpc" : a->json ? "application/json" : "text/plain";
	char status[12], length[24];
	int n_length = snprintf(length, sizeof length, "%zu", a->bytes);
	nghttp2_nv fields[] = {
	    FIELD(":status", status, (size_t)snprintf(status, sizeof status, "%u", a->status)),
	    FIELD("content-type", type, strlen(type)),
	    FIELD("x-version", version, strlen(version)),
	    FIELD("content-length", length, (size_t)n_length),
	};
	nghttp2_data_provider body = {.source.ptr = s, .read_callback = on_body_wanted};

	s->end = a->bytes + (has_prefix(s) ? 5 : 0);
	if (a->act == ACT_TRUNCATE)
		s->end /= 2;
	return nghttp2_submit_response(c->h2.session, s->id, fields, grpc ? 3 : 4,
	    s->request.head || (s->end == 0 && !grpc && a->act != ACT_TRUNCATE) ? NULL : &body);
}

static void
act(struct stream *s)
{
	struct conn *c = s->conn;
	nghttp2_session *session = c->h2.session;
	int bad = 0;

	switch (s->answer.act) {
	case ACT_ANSWER:
		bad =
		    s->request.grpc && s->answer.grpc_status ? put_grpc_failure(s) : put_answer(s);
		break;
	case ACT_TRUNCATE:
		bad = put_answer(s);
		break;
	case ACT_RESET:
		bad = nghttp2_submit_rst_stream(
		    session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
		break;
	case ACT_CLOSE:
		c->last = true;
		break;
	case ACT_HANG:
		break;
	}
	if (bad)
		c->dead = true;
}

static void
due(struct timer *timer)
{
	struct stream *s = (struct stream *)((char *)timer - offsetof(struct stream, timer));
	struct conn *c = s->conn;

	act(s);
	conn_settle(c);
}

/* --- nghttp2 tells ------------------------------------------------------------ */

static int
on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct stream *s = stream_new(arg, frame->hd.stream_id);

	return nghttp2_session_set_stream_user_data(session, s->id, s);
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name,
    const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
	struct stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)flags;
	(void)arg;
	if (!s || s->asked)
		return 0;
	switch (n_name) {
	case 5:
		if (!memcmp(name, ":path", 5))
			request_target(&s->request, value, n_value);
		break;
	case 7:
		if (!memcmp(name, ":method", 7))
			s->request.head = n_value == 4 && !memcmp(value, "HEAD", 4);
		break;
	case 12:
		if (!memcmp(name, "content-type", 12))
			s->request.grpc = n_value >= 16 && !memcmp(value, "application/grpc", 16);
		break;
	default:
		break;
	}
	return 0;
}

static void
decide(struct stream *s)
{
	struct worker *w = s->conn->worker;

	s->asked = true;
	answer_decide(w, &s->request, &s->answer);
	if (s->request.grpc && s->answer.act == ACT_ANSWER && s->answer.status != 200 &&
	    !s->answer.grpc_status)
		s->answer.grpc_status = 8; /* RESOURCE_EXHAUSTED: too much to echo */
	if (s->answer.due_us)
		timer_set(&w->timers, &s->timer, s->answer.due_us);
	else
		act(s);
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	(void)arg;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	struct stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (!s || s->asked)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		request_head_done(&s->request);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		decide(s);
	return 0;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *arg)
{
	struct stream *s = nghttp2_session_get_stream_user_data(session, id);

	(void)flags;
	(void)arg;
	if (s)
		request_body(&s->request, p, n);
	return 0;
}

static int
on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct stream *s = nghttp2_session_get_stream_user_data(session, id);

	(void)code;
	(void)arg;
	if (s)
		stream_free(s);
	return 0;
}

int
h2_init(struct origin *o)
{
	if (nghttp2_session_callbacks_new(&o->h2) || nghttp2_option_new(&o->h2_options))
		return -1;
	nghttp2_session_callbacks_set_on_begin_headers_callback(o->h2, on_begin);
	nghttp2_session_callbacks_set_on_header_callback(o->h2, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(o->h2, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(o->h2, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(o->h2, on_close);
	nghttp2_session_callbacks_set_send_data_callback(o->h2, on_send);
	nghttp2_option_set_no_closed_streams(o->h2_options, 1); /* no memory of what is over */
	return 0;
}

void
h2_fini(struct origin *o)
{
	nghttp2_session_callbacks_del(o->h2);
	nghttp2_option_del(o->h2_options);
}

int
h2_begin(struct conn *c)
{
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, MAX_STREAMS},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
	};
	struct origin *o = c->worker->origin;

	c->h2.streams = NULL;
	if (nghttp2_session_server_new2(&c->h2.session, o->h2, c, o->h2_options))
		return -1;
	if (nghttp2_submit_settings(c->h2.session, NGHTTP2_FLAG_NONE, settings, 2) ||
	    nghttp2_session_set_local_window_size(
		c->h2.session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)) {
		nghttp2_session_del(c->h2.session);
		return -1;
	}
	return 0;
}

void
h2_end(struct conn *c)
{
	while (c->h2.streams)
		stream_free(c->h2.streams);
	nghttp2_session_del(c->h2.session);
}

/* --- bytes -------------------------------------------------------------------- */

void
h2_input(struct conn *c, const unsigned char *p, size_t n)
{
	if (nghttp2_session_mem_recv(c->h2.session, p, n) < 0)
		c->dead = true;
	if (conn_blocked(c))
		c->deaf = true; /* until it is not */
}

void
h2_output(struct conn *c)
{
	nghttp2_session *session = c->h2.session;

	while (!conn_blocked(c) && !c->dead && !c->last) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(session, &p);

		if (n < 0)
			c->dead = true;
		if (n <= 0)
			break;
		conn_put(c, p, (size_t)n);
	}
	if (!nghttp2_session_want_read(session) && !nghttp2_session_want_write(session))
		c->last = true;
}

void
h2_refuse(struct conn *c)
{
	nghttp2_session *session = c->h2.session;

	if (c->going)
		return;
	c->going = true;
	nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE,
	    nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR, NULL, 0);
	h2_output(c);
	conn_flush(c);
}
