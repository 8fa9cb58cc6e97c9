/*
 * See h2_peer.h.  Owner: the test.  One thread.
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
#include "tests/codec/h2_peer.h"

void
bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n + 1 > b->room) {
		b->room = 2 * (b->n + n + 1);
		b->p = realloc(b->p, b->room);
	}
	assert_non_null(b->p);
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = '\0';
}

void
bytes_text(struct bytes *b, const char *text)
{
	bytes_add(b, text, strlen(text));
}

void
bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){0};
}

static void
add_line(struct bytes *b, const void *name, size_t n_name, const void *value, size_t n_value)
{
	bytes_add(b, name, n_name);
	bytes_text(b, ": ");
	bytes_add(b, value, n_value);
	bytes_text(b, "\n");
}

/* --- the speaking peer ------------------------------------------------------------------ */

struct peer_stream *
peer_stream(struct h2_peer *p, int32_t id)
{
	for (unsigned i = 0; i < p->n_streams; i++) {
		if (p->streams[i].id == id)
			return &p->streams[i];
	}
	assert_true(p->n_streams < PEER_STREAMS);
	p->streams[p->n_streams].id = id;
	return &p->streams[p->n_streams++];
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name,
    const uint8_t *value, size_t n_value, uint8_t flags, void *user)
{
	struct peer_stream *s = peer_stream(user, frame->hd.stream_id);

	(void)session;
	(void)flags;
	if (n_name == 7 && memcmp(name, ":status", 7) == 0)
		s->interim = value[0] == '1';
	add_line(s->head_done ? &s->trailers : &s->head, name, n_name, value, n_value);
	return 0;
}

static int
on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_peer *p = user;
	struct peer_stream *s;

	(void)session;
	switch (frame->hd.type) {
	case NGHTTP2_GOAWAY:
		p->n_goaway++;
		p->goaway_code = frame->goaway.error_code;
		p->goaway_last = frame->goaway.last_stream_id;
		return 0;
	case NGHTTP2_RST_STREAM:
		p->n_resets++;
		return 0;
	case NGHTTP2_HEADERS:
		s = peer_stream(p, frame->hd.stream_id);
		if (s->interim)
			bytes_text(&s->head, "--\n");
		else
			s->head_done = true;
		break;
	case NGHTTP2_DATA:
		break;
	default:
		return 0;
	}
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		peer_stream(p, frame->hd.stream_id)->end = true;
	return 0;
}

static int
on_data(
    nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
	struct h2_peer *p = user;

	(void)flags;
	bytes_add(&peer_stream(p, id)->body, data, n);
	if (!p->keep_window)
		nghttp2_session_consume(session, id, n);
	return 0;
}

static int
on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
	struct peer_stream *s = peer_stream(user, id);

	(void)session;
	s->closed = true;
	s->code = code;
	return 0;
}

struct h2_peer *
peer_new(struct turn *turn, struct memory_transport *mt, bool server,
    const nghttp2_settings_entry *settings, size_t n, bool keep_window)
{
	struct h2_peer *p = calloc(1, sizeof(*p));
	nghttp2_session_callbacks *cb;
	nghttp2_option *o;

	assert_non_null(p);
	p->turn = turn;
	p->mt = mt;
	p->keep_window = keep_window;
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_option_new(&o);
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_http_messaging(o, 1);
	nghttp2_option_set_peer_max_concurrent_streams(o, 1000);
	if (server)
		nghttp2_session_server_new2(&p->session, cb, p, o);
	else
		nghttp2_session_client_new2(&p->session, cb, p, o);
	nghttp2_option_del(o);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(p->session, NGHTTP2_FLAG_NONE, settings, n);
	return p;
}

void
peer_free(struct h2_peer *p)
{
	for (unsigned i = 0; i < p->n_streams; i++) {
		bytes_free(&p->streams[i].head);
		bytes_free(&p->streams[i].trailers);
		bytes_free(&p->streams[i].body);
		bytes_free(&p->streams[i].to_send);
	}
	nghttp2_session_del(p->session);
	free(p);
}

static bool
peer_talk(struct h2_peer *p)
{
	const uint8_t *out;
	bool moved = false;
	ssize_t n;
	size_t got;
	char *in;

	while (!p->mt->closed && (n = nghttp2_session_mem_send(p->session, &out)) > 0) {
		memory_feed(p->mt, out, (size_t)n);
		moved = true;
	}
	memory_pump_one(p->turn, p->mt);
	in = memory_take(p->mt, &got);
	if (got > 0)
		assert_int_equal(
		    nghttp2_session_mem_recv(p->session, (const uint8_t *)in, got), (ssize_t)got);
	free(in);
	return moved || got > 0;
}

void
peer_pump(struct h2_peer *p)
{
	while (peer_talk(p))
		continue;
}

static ssize_t
read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
    nghttp2_data_source *source, void *user)
{
	struct peer_stream *s = peer_stream(user, id);
	size_t n = s->to_send.n - s->sent;

	(void)source;
	if (n == 0 && s->hold)
		return NGHTTP2_ERR_DEFERRED;
	if (n > room)
		n = room;
	if (n > 0)
		memcpy(to, s->to_send.p + s->sent, n);
	s->sent += n;
	if (s->sent == s->to_send.n && !s->hold) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->end_trailers != NULL) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			nghttp2_submit_trailer(session, id, s->end_trailers, s->n_end_trailers);
		}
	}
	return (ssize_t)n;
}

static const nghttp2_data_provider provider = {.read_callback = read_body};

int32_t
peer_request(struct h2_peer *p, const nghttp2_nv *nv, size_t n, const char *body, bool hold)
{
	int32_t id =
	    nghttp2_submit_request(p->session, NULL, nv, n, body != NULL ? &provider : NULL, NULL);
	struct peer_stream *s;

	assert_true(id > 0);
	s = peer_stream(p, id);
	s->hold = hold;
	if (body != NULL)
		bytes_text(&s->to_send, body);
	return id;
}

void
peer_respond(
    struct h2_peer *p, int32_t id, const nghttp2_nv *nv, size_t n, const char *body, bool hold)
{
	struct peer_stream *s = peer_stream(p, id);

	s->hold = hold;
	if (body != NULL)
		bytes_text(&s->to_send, body);
	assert_int_equal(
	    nghttp2_submit_response(p->session, id, nv, n, body != NULL ? &provider : NULL), 0);
}

void
peer_more(struct h2_peer *p, int32_t id, const void *data, size_t n, bool end)
{
	struct peer_stream *s = peer_stream(p, id);

	bytes_add(&s->to_send, data, n);
	s->hold = !end;
	nghttp2_session_resume_data(p->session, id);
}

/* --- raw frames -------------------------------------------------------------------------- */

void
raw_frame(struct raw *r, uint8_t type, uint8_t flags, int32_t id, const void *payload, size_t n)
{
	uint8_t head[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags,
	    (uint8_t)((uint32_t)id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

	bytes_add(&r->out, head, 9);
	bytes_add(&r->out, payload, n);
}

void
raw_begin(struct raw *r, bool client)
{
	*r = (struct raw){0};
	assert_int_equal(nghttp2_hd_deflate_new(&r->deflater, 4096), 0);
	if (client)
		bytes_text(&r->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

void
raw_end(struct raw *r)
{
	if (r->deflater != NULL)
		nghttp2_hd_deflate_del(r->deflater);
	bytes_free(&r->out);
}

size_t
raw_block(struct raw *r, const nghttp2_nv *nv, size_t n, uint8_t *to, size_t room)
{
	ssize_t used = nghttp2_hd_deflate_hd(r->deflater, to, room, nv, n);

	assert_true(used >= 0);
	return (size_t)used;
}

void
raw_headers(struct raw *r, uint8_t flags, int32_t id, const nghttp2_nv *nv, size_t n)
{
	uint8_t block[16384];

	raw_frame(r, NGHTTP2_HEADERS, flags, id, block, raw_block(r, nv, n, block, sizeof(block)));
}

void
raw_send(struct raw *r, struct turn *turn, struct memory_transport *mt)
{
	if (!mt->closed)
		memory_feed(mt, r->out.p, r->out.n);
	bytes_free(&r->out);
	memory_pump_one(turn, mt);
}

static uint32_t
be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct seen_frames
raw_seen(struct memory_transport *mt)
{
	struct seen_frames seen = {0};
	size_t n, at = 0;
	char *text = memory_take(mt, &n);
	const unsigned char *p = (const unsigned char *)text;

	if (n >= 24 && memcmp(p, "PRI * HTTP/2.0", 14) == 0)
		at = 24; /* a client's preface */
	while (n - at >= 9) {
		size_t length = be32(p + at) >> 8;
		int32_t id = (int32_t)be32(p + at + 5);
		uint8_t type = p[at + 3];

		if (n - at - 9 < length)
			break;
		if (type < 16)
			seen.n[type]++;
		if (type == NGHTTP2_DATA)
			seen.data += length;
		if (type == NGHTTP2_GOAWAY) {
			seen.goaways++;
			seen.goaway_last = (int32_t)be32(p + at + 9);
			seen.goaway_code = be32(p + at + 13);
		}
		if (type == NGHTTP2_RST_STREAM) {
			seen.reset_id = id;
			seen.reset_code = be32(p + at + 9);
		}
		at += 9 + length;
	}
	seen.torn = at != n;
	free(text);
	return seen;
}

/* --- the ear ------------------------------------------------------------------------------ */

static struct ear *
alive(void *user)
{
	struct ear *e = user;

	assert_non_null(e);
	assert_int_equal(e->closed, 0); /* nothing comes after closed() */
	assert_non_null(e->stream);     /* nor after reset() */
	return e;
}

void
ear_take_head(struct ear *e, const struct head *h, bool end)
{
	e->copy = *h;
	e->head_end = end;
	bytes_add(&e->method, h->method_text.p, h->method_text.n);
	bytes_add(&e->path, h->path.p, h->path.n);
	bytes_add(&e->authority, h->authority.p, h->authority.n);
	bytes_text(&e->head, "");
	for (unsigned i = 0; i < h->fields.n; i++)
		add_line(&e->head, h->fields.items[i].name.p, h->fields.items[i].name.n,
		    h->fields.items[i].value.p, h->fields.items[i].value.n);
}

static void
on_ear_head(void *user, const struct head *h, bool end)
{
	struct ear *e = alive(user);
	char text[16];

	assert_false(e->ended || e->head_end);
	if (h->status < 200 && h->status != 101) {
		assert_false(end);
		snprintf(text, sizeof(text), "%u ", h->status);
		bytes_text(&e->interim, text);
		return;
	}
	ear_take_head(e, h, end);
	if (e->on_head != NULL)
		e->on_head(e);
}

static void
on_ear_body(void *user, struct slice body, bool end)
{
	struct ear *e = alive(user);

	assert_false(e->ended);
	bytes_add(&e->body, body.p, body.n);
	e->ended = end;
	e->unconsumed += body.n;
	if (!e->hold_credit && body.n > 0) {
		e->unconsumed -= body.n;
		stream_consumed(e->stream, body.n);
	}
	if (e->on_body != NULL)
		e->on_body(e);
}

static void
on_ear_trailers(void *user, const struct fields *t)
{
	struct ear *e = alive(user);

	assert_false(e->ended);
	e->ended = true;
	for (unsigned i = 0; i < t->n; i++)
		add_line(&e->trailers, t->items[i].name.p, t->items[i].name.n, t->items[i].value.p,
		    t->items[i].value.n);
}

static void
on_ear_drained(void *user, size_t n)
{
	struct ear *e = alive(user);

	assert_true(n > 0);
	e->drained += n;
	if (e->on_drained != NULL)
		e->on_drained(e, n);
}

static void
on_ear_closed(void *user, enum outcome o)
{
	struct ear *e = alive(user);

	e->closed++;
	e->outcome = o;
	e->stream = NULL;
	if (e->on_closed != NULL)
		e->on_closed(e);
}

const struct stream_events ear_events = {
    on_ear_head, on_ear_body, on_ear_trailers, on_ear_drained, on_ear_closed};

void
ear_listen(struct ear *e, struct stream *s)
{
	e->stream = s;
	s->events = &ear_events;
	s->user = e;
}

void
ear_reset(struct ear *e, enum outcome why)
{
	struct stream *s = e->stream;

	e->stream = NULL;
	stream_reset(s, why);
}

void
ear_free(struct ear *e)
{
	bytes_free(&e->head);
	bytes_free(&e->interim);
	bytes_free(&e->method);
	bytes_free(&e->path);
	bytes_free(&e->authority);
	bytes_free(&e->body);
	bytes_free(&e->trailers);
}

void
ear_answer(struct ear *e, unsigned status, const char *body, bool end)
{
	struct head head = {.status = status, .content_length = HEAD_LENGTH_NONE, .no_body = end};

	if (body != NULL && end)
		head.content_length = (int64_t)strlen(body);
	stream_send_head(e->stream, &head, end && body == NULL);
	if (body != NULL)
		ear_body(e, body, end);
}

void
ear_body(struct ear *e, const char *body, bool end)
{
	stream_send_body(e->stream, slice_borrowed(body, strlen(body)), end);
}
