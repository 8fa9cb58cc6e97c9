/*
 * The access log's line.  Formatted here into the worker's buffer, put on its ring, written by the log
 * thread.  What clients sent is escaped: no byte below 0x20, no DEL, no quote, no byte above 0x7e
 * reaches the file as it is (log injection).
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proxy/base/obj.h"
#include "proxy/exchange/access_log.h"

#define VALUE_MAX 1400 /* of one value as written; longer ones are cut. Five of them fit a line. */

struct line {
	char *p;
	size_t n;
};

static void
put(struct line *l, const char *s, size_t n)
{
	if (n == 0)
		return; /* an empty text may have no address */
	if (n > RING_LINE_MAX - 2 - l->n)
		n = RING_LINE_MAX - 2 - l->n;
	memcpy(l->p + l->n, s, n);
	l->n += n;
}

static void
put_escaped(struct line *l, struct text t)
{
	static const char hex[] = "0123456789abcdef";
	size_t end = l->n + VALUE_MAX, n = t.n < VALUE_MAX ? t.n : VALUE_MAX, plain = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)t.p[i];
		char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			continue;
		put(l, t.p + plain, i - plain);
		put(l, escape, sizeof(escape));
		plain = i + 1;
		if (l->n + (n - plain) > end && l->n + 6 > end)
			return;
		if (l->n + (n - plain) > end)
			n = plain + (end - l->n);
	}
	put(l, t.p + plain, n - plain);
}

static void __attribute__((format(printf, 2, 3))) put_format(struct line *l, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		put(l, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void
put_member(struct line *l, const char *name, struct text value)
{
	put_format(l, ",\"%s\":\"", name);
	put_escaped(l, value);
	put(l, "\"", 1);
}

/* RFC 3339 in UTC with milliseconds; the date part is made once a second. */
static const char *
wall_text(struct engine *e, int64_t wall_ms)
{
	time_t second = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (second != e->wall_second || e->wall_text[0] == '\0') {
		gmtime_r(&second, &tm);
		strftime(e->wall_text, sizeof(e->wall_text), "%Y-%m-%dT%H:%M:%S", &tm);
		e->wall_second = second;
	}
	return e->wall_text;
}

static const char *
protocol(const struct exchange *x)
{
	if (x->request->h2)
		return "HTTP/2";
	return x->request->minor == 0 ? "HTTP/1.0" : "HTTP/1.1";
}

static double
ms_since_start(const struct exchange *x, int64_t us)
{
	return us == 0 ? 0 : (double)(us - x->start_us) / 1000.0;
}

static const char *
backend_name(const struct exchange *x)
{
	if (x->member != NULL)
		return x->member->backend->name;
	return x->n_tried > 0 ? x->tried[x->n_tried - 1]->name : "";
}

static void
format_json(struct exchange *x, struct line *l)
{
	put_format(l, "{\"time\":\"%s.%03dZ\"", wall_text(x->engine, x->wall_ms),
	    (int)(x->wall_ms % 1000));
	put_member(l, "id", (struct text){x->id, x->id_length});
	put_member(l, "client", text_of(x->fc->address_text));
	put_member(l, "method", x->request->method_text);
	put_member(l, "host", x->request->authority);
	put_member(l, "path", x->request->path);
	put_format(l, ",\"protocol\":\"%s\",\"status\":%u,\"bytes_in\":%llu,\"bytes_out\":%llu",
	    protocol(x), x->status, (unsigned long long)x->front->bytes_in,
	    (unsigned long long)x->front->bytes_out);
	put_format(l, ",\"head_ms\":%.3f,\"total_ms\":%.3f", ms_since_start(x, x->head_us),
	    ms_since_start(x, x->engine->turn->now_us));
	put_member(l, "service", text_of(x->service != NULL ? x->service->config->name : ""));
	put_member(l, "color", text_of(x->colored ? color_name(x->color) : ""));
	put_member(l, "why", text_of(x->colored ? split_why_word(x->why) : ""));
	put_member(l, "backend", text_of(backend_name(x)));
	put_format(l, ",\"tries\":%u", x->tries_before + x->tries);
	if (x->rescued)
		put_format(l, ",\"rescued_from\":\"%s\",\"rescued_why\":\"%s\"",
		    color_name(x->rescued_from), outcome_row(x->rescued_why)->word);
	put_format(l, ",\"outcome\":\"%s\"}", outcome_row(x->outcome)->word);
}

static struct text
or_dash(struct text t)
{
	return t.n == 0 ? TEXT("-") : t;
}

static void
format_text(struct exchange *x, struct line *l)
{
	put_format(l, "%s.%03dZ %s %s \"", wall_text(x->engine, x->wall_ms),
	    (int)(x->wall_ms % 1000), x->id, x->fc->address_text);
	put_escaped(l, or_dash(x->request->method_text));
	put(l, " ", 1);
	put_escaped(l, or_dash(x->request->authority));
	put(l, " ", 1);
	put_escaped(l, or_dash(x->request->path));
	put_format(l, " %s\" %u %llu %llu %.3f %.3f ", protocol(x), x->status,
	    (unsigned long long)x->front->bytes_in, (unsigned long long)x->front->bytes_out,
	    ms_since_start(x, x->head_us), ms_since_start(x, x->engine->turn->now_us));
	put_escaped(l, or_dash(text_of(x->service != NULL ? x->service->config->name : "")));
	put_format(l, " %s %s ", x->colored ? color_name(x->color) : "-",
	    x->colored ? split_why_word(x->why) : "-");
	put_escaped(l, or_dash(text_of(backend_name(x))));
	put_format(l, " %u %s", x->tries_before + x->tries, outcome_row(x->outcome)->word);
}

void
access_log(struct exchange *x)
{
	struct line l = {x->engine->line, 0};

	switch (x->engine->access_format) {
	case LOG_FORMAT_JSON:
		format_json(x, &l);
		break;
	case LOG_FORMAT_TEXT:
		format_text(x, &l);
		break;
	}
	l.p[l.n++] = '\n';
	ring_put(x->engine->access, l.p, l.n);
}
