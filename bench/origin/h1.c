/*
 * HTTP/1.1: llhttp reads, one request at a time; the next one of a pipeline is looked at when
 * this one is answered.
 *
 * llhttp keeps its place in a head that came in part, so input is stored only while a request
 * waits for its moment or the socket is full.
 */
#include "bench/origin/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LATER_MAX ((size_t)65536)

/* --- llhttp tells ------------------------------------------------------------- */

static int
on_begin(llhttp_t *parser)
{
	struct conn *c = parser->data;
	struct h1 *h = &c->h1;

	request_begin(&h->request);
	h->expects = h->websocket = false;
	h->n_name = h->n_value = 0;
	h->key[0] = '\0';
	c->active = 1;
	return 0;
}

static int
on_url(llhttp_t *parser, const char *p, size_t n)
{
	struct conn *c = parser->data;

	request_target(&c->h1.request, p, n);
	return 0;
}

/* Of names that begin like none that counts, nothing is kept. */
static int
on_field(llhttp_t *parser, const char *p, size_t n)
{
	struct conn *c = parser->data;
	struct h1 *h = &c->h1;

	if (h->n_name == 0 && !strchr("EeSsUu", *p))
		h->n_name = sizeof h->name; /* none of ours */
	if (h->n_name + n > sizeof h->name) {
		h->n_name = sizeof h->name;
		return 0;
	}
	memcpy(h->name + h->n_name, p, n);
	h->n_name += (unsigned)n;
	return 0;
}

static bool
named(const struct h1 *h, const char *name, size_t n)
{
	return h->n_name == n && !strncasecmp(h->name, name, n);
}

static int
on_value(llhttp_t *parser, const char *p, size_t n)
{
	struct conn *c = parser->data;
	struct h1 *h = &c->h1;

	if (h->n_name >= sizeof h->name)
		return 0;
	if (h->n_value + n >= sizeof h->value)
		n = sizeof h->value - 1 - h->n_value;
	memcpy(h->value + h->n_value, p, n);
	h->n_value += (unsigned)n;
	return 0;
}

static int
on_value_done(llhttp_t *parser)
{
	struct conn *c = parser->data;
	struct h1 *h = &c->h1;

	h->value[h->n_value] = '\0';
	if (named(h, "expect", 6))
		h->expects = true;
	else if (named(h, "upgrade", 7))
		h->websocket = !strcasecmp(h->value, "websocket");
	else if (named(h, "sec-websocket-key", 17) && h->n_value == sizeof h->key - 1)
		memcpy(h->key, h->value, sizeof h->key);
	h->n_name = h->n_value = 0;
	return 0;
}

static int
on_head(llhttp_t *parser)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct conn *c = parser->data;
	struct h1 *h = &c->h1;

	h->request.head = parser->method == HTTP_HEAD;
	request_head_done(&h->request);
	if (h->expects)
		conn_put(c, go_on, sizeof go_on - 1);
	return 0;
}

static int
on_body(llhttp_t *parser, const char *p, size_t n)
{
	struct conn *c = parser->data;

	request_body(&c->h1.request, p, n);
	return 0;
}

static int
on_done(llhttp_t *parser)
{
	(void)parser;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_done,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_done,
};

/* --- answers ------------------------------------------------------------------ */

static const char *
reason(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 413:
		return "Content Too Large";
	case 429:
		return "Too Many Requests";
	case 500:
		return "Internal Server Error";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	default:
		return "Fault";
	}
}

/* A head but for the bytes of its length. */
static int
head(const struct worker *w, const struct answer *a, bool closes, char *to, size_t room)
{
	return snprintf(to, room,
	    "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nX-Version: %s\r\n%sContent-Length: ", a->status,
	    reason(a->status), a->json ? "application/json" : "text/plain", w->script.version,
	    closes ? "Connection: close\r\n" : "");
}

static void
put_head(struct conn *c, const struct answer *a)
{
	struct worker *w = c->worker;
	char text[256], digits[24];
	size_t n = 0;

	if (a->status == 200 && !c->last && !a->json) {
		if (w->n_usual == 0)
			w->n_usual = (size_t)head(w, a, false, w->usual, sizeof w->usual);
		conn_put(c, w->usual, w->n_usual);
	} else {
		conn_put(c, text, (size_t)head(w, a, c->last, text, sizeof text));
	}
	size_t left = a->bytes, at = sizeof digits;

	memcpy(digits + (at -= 4), "\r\n\r\n", 4);
	do {
		digits[--at] = (char)('0' + left % 10);
		n++;
	} while ((left /= 10) > 0);
	conn_put(c, digits + at, n + 4);
}

static void
put_answer(struct conn *c, const struct answer *a, size_t bytes)
{
	const struct request *r = &c->h1.request;

	put_head(c, a);
	if (r->head)
		return;
	if (a->own)
		conn_put(c, answer_own(r, a), bytes);
	else
		conn_put_body(c, bytes);
}

/* The request is over; `waiting` and `active` say so. */
static void
done(struct conn *c)
{
	request_end(&c->h1.request);
	c->h1.waiting = false;
	c->active = 0;
}

static void
upgrade(struct conn *c)
{
	struct h1 *h = &c->h1;
	char accept[29], text[256];

	websocket_accept(h->key, accept);
	int n = snprintf(text, sizeof text,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "X-Version: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
	    c->worker->script.version, accept);

	conn_put(c, text, (size_t)n);
	done(c);
	h1_end(c);
	c->speaks = SPEAKS_WEBSOCKET;
	c->active = 1; /* a tunnel is not idle */
	websocket_begin(c);
}

static void
act(struct conn *c)
{
	struct h1 *h = &c->h1;
	struct answer *a = &h->answer;

	if (a->act == ACT_HANG) {
		h->waiting = true;
		return;
	}
	if (!llhttp_should_keep_alive(&h->parser))
		c->last = true;
	switch (a->act) {
	case ACT_ANSWER:
		if (h->parser.upgrade && h->websocket && h->key[0] && a->status == 200) {
			upgrade(c);
			return;
		}
		put_answer(c, a, a->bytes);
		break;
	case ACT_TRUNCATE:
		put_answer(c, a, a->bytes / 2);
		c->last = true;
		break;
	case ACT_CLOSE:
		c->last = true;
		break;
	case ACT_RESET:
		conn_reset(c);
		break;
	case ACT_HANG:
		break;
	}
	done(c);
}

static void
due(struct timer *timer)
{
	struct conn *c = (struct conn *)((char *)timer - offsetof(struct conn, h1.timer));

	act(c);
	conn_settle(c);
}

/* The request has been read to its end. */
static void
decide(struct conn *c)
{
	struct h1 *h = &c->h1;

	answer_decide(c->worker, &h->request, &h->answer);
	if (h->answer.due_us) {
		h->waiting = true;
		timer_set(&c->worker->timers, &h->timer, h->answer.due_us);
	} else {
		act(c);
	}
}

/* --- input -------------------------------------------------------------------- */

static void
later(struct conn *c, const unsigned char *p, size_t n)
{
	struct h1 *h = &c->h1;

	if (h->n_later + n > h->room) {
		h->room = h->n_later + n;
		h->later = realloc(h->later, h->room);
		if (!h->later)
			abort();
	}
	memcpy(h->later + h->n_later, p, n);
	h->n_later += n;
	if (h->n_later > LATER_MAX)
		c->deaf = true;
}

static void
refuse_to_read(struct conn *c)
{
	static const char text[] =
	    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

	conn_put(c, text, sizeof text - 1);
	c->last = true;
	done(c);
}

void
h1_input(struct conn *c, unsigned char *p, size_t n)
{
	struct h1 *h = &c->h1;

	while (n && !c->dead && !c->last) {
		if (c->speaks == SPEAKS_WEBSOCKET) { /* since a moment ago */
			websocket_input(c, p, n);
			return;
		}
		if (h->waiting || conn_blocked(c)) {
			later(c, p, n);
			return;
		}
		enum llhttp_errno e = llhttp_execute(&h->parser, (const char *)p, n);

		if (e == HPE_OK)
			return;
		if (e != HPE_PAUSED && e != HPE_PAUSED_UPGRADE) {
			refuse_to_read(c);
			return;
		}
		if (e == HPE_PAUSED_UPGRADE) { /* it was answered, and not by an upgrade */
			llhttp_resume_after_upgrade(&h->parser);
			continue;
		}
		size_t used = (size_t)(llhttp_get_error_pos(&h->parser) - (const char *)p);

		n -= used;
		p += used;
		llhttp_resume(&h->parser);
		decide(c);
	}
}

bool
h1_resume(struct conn *c)
{
	struct h1 *h = &c->h1;

	if (h->waiting || (h->n_later == 0 && !c->deaf))
		return false;
	unsigned char *p = h->later;
	size_t n = h->n_later;

	h->later = NULL;
	h->n_later = h->room = 0;
	c->deaf = false;
	h1_input(c, p, n);
	free(p);
	return true;
}

void
h1_begin(struct conn *c)
{
	struct h1 *h = &c->h1;

	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = c;
	h->timer.fire = due;
	request_begin(&h->request);
}

void
h1_end(struct conn *c)
{
	struct h1 *h = &c->h1;

	timer_clear(&c->worker->timers, &h->timer);
	request_end(&h->request);
	free(h->later);
	h->later = NULL;
	h->n_later = 0;
}
