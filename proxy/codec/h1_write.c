/*
 * HTTP/1.1 heads and trailers, written straight into the output queue: one reservation, no formatting
 * functions.  Whoever calls has checked the tokens with h1_fields_valid().
 *
 * Owner: the codec's conn.  One thread; the date is cached per thread.
 */
#include <string.h>
#include <time.h>

#include "proxy/base/obj.h"
#include "proxy/codec/h1.h"

#define RESERVE_MIN ((size_t)512)

static void
reserve(struct h1_writer *w, size_t n)
{
	if (n < RESERVE_MIN)
		n = RESERVE_MIN;
	if (n > CHUNK_LARGE)
		n = CHUNK_LARGE;
	w->begin = w->at = buf_reserve(w->to, n);
	w->end = w->begin + n;
}

void
h1_write_begin(struct h1_writer *w, struct buf *to, size_t estimate)
{
	w->to = to;
	w->total = 0;
	reserve(w, estimate);
}

void
h1_write_long(struct h1_writer *w, const void *p, size_t n)
{
	const unsigned char *from = p;

	w->total += n;
	while (n > (size_t)(w->end - w->at)) {
		size_t part = (size_t)(w->end - w->at);

		memcpy(w->at, from, part);
		buf_commit(w->to, (size_t)(w->at - w->begin) + part);
		from += part;
		n -= part;
		reserve(w, n);
	}
	memcpy(w->at, from, n);
	w->at += n;
}

size_t
h1_write_end(struct h1_writer *w)
{
	buf_commit(w->to, (size_t)(w->at - w->begin));
	w->begin = w->at = w->end = NULL;
	return w->total;
}

void
h1_write_number(struct h1_writer *w, uint64_t number, unsigned base)
{
	char digits[DIGITS];
	size_t at = sizeof(digits);
	struct text decimal;

	if (base == 10) {
		decimal = text_decimal(digits, number);
		h1_write(w, decimal.p, decimal.n);
		return;
	}
	ENSURE(base == 16);
	do {
		digits[--at] = "0123456789abcdef"[number & 15];
		number >>= 4;
	} while (number > 0);
	h1_write(w, digits + at, sizeof(digits) - at);
}

void
h1_write_field(
    struct h1_writer *w, const char *name, size_t name_n, const char *value, size_t value_n)
{
	h1_write(w, name, name_n);
	H1_WRITE(w, ": ");
	h1_write(w, value, value_n);
	H1_WRITE(w, "\r\n");
}

void
h1_write_fields(struct h1_writer *w, const struct fields *list)
{
	for (unsigned i = 0; i < list->n; i++) {
		const struct field *f = &list->items[i];

		if (field_table[f->id].flags & (FIELD_HOP | FIELD_FRAMING))
			continue;
		if (f->id == F_EXPECT || f->id == F_SEC_WEBSOCKET_KEY ||
		    f->id == F_SEC_WEBSOCKET_ACCEPT)
			continue;
		h1_write_field(w, f->name.p, f->name.n, f->value.p, f->value.n);
	}
}

size_t
h1_write_trailers(struct buf *to, const struct fields *list)
{
	struct h1_writer w;

	h1_write_begin(&w, to, list->bytes + 8);
	H1_WRITE(&w, "0\r\n");
	for (unsigned i = 0; i < list->n; i++) {
		const struct field *f = &list->items[i];

		if ((field_table[f->id].flags & FIELD_NO_TRAILER) == 0)
			h1_write_field(&w, f->name.p, f->name.n, f->value.p, f->value.n);
	}
	H1_WRITE(&w, "\r\n");
	return h1_write_end(&w);
}

bool
h1_fields_valid(const struct fields *list)
{
	for (unsigned i = 0; i < list->n; i++) {
		const struct field *f = &list->items[i];

		/* a name that is the table's own is one */
		bool known = f->id != F_OTHER && f->name.p == field_table[f->id].name &&
			     f->name.n == field_table[f->id].n;

		if ((!known && !token_valid(f->name.p, f->name.n)) ||
		    !field_value_valid(f->value.p, f->value.n))
			return false;
	}
	return true;
}

const char *
h1_date(int64_t wall_ms)
{
	static _Thread_local time_t made = -1;
	static _Thread_local char text[32];
	time_t now = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (now != made) {
		/* RFC 9110 5.6.7; the C locale is never left */
		ENSURE(gmtime_r(&now, &tm) != NULL);
		ENSURE(strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm) == 29);
		made = now;
	}
	return text;
}

size_t
h1_write_refusal(struct buf *to, enum outcome why, int64_t wall_ms)
{
	const struct outcome_row *row = outcome_row(why);
	const char *reason = status_reason(row->status);
	size_t body = strlen(row->sentence) + 1;
	struct h1_writer w;

	h1_write_begin(&w, to, RESERVE_MIN);
	H1_WRITE(&w, "HTTP/1.1 ");
	h1_write_number(&w, row->status, 10);
	H1_WRITE(&w, " ");
	h1_write(&w, reason, strlen(reason));
	H1_WRITE(&w, "\r\ncontent-type: text/plain\r\ncontent-length: ");
	h1_write_number(&w, body, 10);
	H1_WRITE(&w, "\r\nconnection: close\r\ndate: ");
	h1_write(&w, h1_date(wall_ms), 29);
	H1_WRITE(&w, "\r\n\r\n");
	h1_write(&w, row->sentence, body - 1);
	H1_WRITE(&w, "\n");
	return h1_write_end(&w);
}
