/* Server-sent events.  See stream.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/stream.h"

void
stream_begin(struct stream *s, stream_event *event, void *arg)
{
	*s = (struct stream){.event = event, .arg = arg};
}

void
stream_fini(struct stream *s)
{
	free(s->head.text);
	free(s->line.text);
	free(s->data.text);
	*s = (struct stream){0};
}

/* Stays NUL-terminated.  0, or -1: too long, or out of memory. */
static int
append(struct stream_text *t, const char *bytes, size_t n)
{
	if (t->n + n + 1 > t->size) {
		size_t size = t->size == 0 ? 1024 : t->size;
		char *grown;

		while (size < t->n + n + 1)
			size *= 2;
		if (size > 2 * STREAM_LINE_MAX || (grown = realloc(t->text, size)) == NULL)
			return -1;
		t->text = grown;
		t->size = size;
	}
	memcpy(t->text + t->n, bytes, n);
	t->n += n;
	t->text[t->n] = '\0';
	return 0;
}

/* --- events ----------------------------------------------------------------------------------- */

static void
dispatch(struct stream *s)
{
	if (s->data.n > 0) /* without its last newline */
		s->data.text[s->data.n - 1] = '\0';
	if (s->data.n > 0)
		s->event(s->arg, s->id, s->type, s->data.text);
	s->data.n = 0;
	s->type[0] = '\0';
}

static int
read_field(struct stream *s, char *line)
{
	char *value = strchr(line, ':');

	if (value == NULL)
		value = line + strlen(line);
	else
		*value++ = '\0';
	if (*value == ' ')
		value++;
	if (strcmp(line, "data") == 0)
		return append(&s->data, value, strlen(value)) < 0 || append(&s->data, "\n", 1) < 0
			   ? -1
			   : 0;
	if (strcmp(line, "id") == 0 && strlen(value) < sizeof(s->id))
		memcpy(s->id, value, strlen(value) + 1);
	if (strcmp(line, "event") == 0 && strlen(value) < sizeof(s->type))
		memcpy(s->type, value, strlen(value) + 1);
	return 0; /* a comment: an empty name; others do not concern us */
}

static int
body_bytes(struct stream *s, const char *bytes, size_t n)
{
	while (n > 0) {
		const char *end = memchr(bytes, '\n', n);
		size_t have = end == NULL ? n : (size_t)(end - bytes);

		if (append(&s->line, bytes, have) < 0)
			return -1;
		if (end == NULL)
			return 0;
		if (s->line.n > 0 && s->line.text[s->line.n - 1] == '\r')
			s->line.text[--s->line.n] = '\0';
		if (s->line.n == 0)
			dispatch(s);
		else if (read_field(s, s->line.text) < 0)
			return -1;
		s->line.n = 0;
		bytes += have + 1;
		n -= have + 1;
	}
	return 0;
}

/* --- the response ----------------------------------------------------------------------------- */

static int
end_head(struct stream *s)
{
	const char *head = s->head.text;

	if (strncmp(head, "HTTP/1.", 7) != 0 || s->head.n < 12 || head[8] != ' ' ||
	    !isdigit((unsigned char)head[9]))
		return -1;
	s->status = (unsigned)strtoul(head + 9, NULL, 10);
	s->chunked = strcasestr(head, "\r\nTransfer-Encoding:") != NULL;
	s->state = s->chunked ? STREAM_SIZE : STREAM_PLAIN;
	return s->status == 200 ? 0 : 1;
}

static int
head_byte(struct stream *s, char byte)
{
	if (s->head.n > 65536 || append(&s->head, &byte, 1) < 0)
		return -1;
	if (s->head.n < 4 || memcmp(s->head.text + s->head.n - 4, "\r\n\r\n", 4) != 0)
		return 0;
	return end_head(s);
}

static int
size_byte(struct stream *s, char byte)
{
	char *end;

	if (byte != '\n') {
		if (s->size_n + 1 == sizeof(s->size))
			return -1;
		s->size[s->size_n++] = byte;
		return 0;
	}
	s->size[s->size_n] = '\0';
	s->left = strtoul(s->size, &end, 16);
	s->size_n = 0;
	if (!isxdigit((unsigned char)s->size[0]) || s->left > STREAM_LINE_MAX ||
	    (*end != '\r' && *end != ';'))
		return -1;
	s->state = s->left == 0 ? STREAM_OVER : STREAM_CHUNK;
	return 0;
}

static int
chunk_end_byte(struct stream *s, char byte)
{
	if (byte == '\n')
		s->state = STREAM_SIZE;
	return byte == '\n' || byte == '\r' ? 0 : -1;
}

static int
chunk_bytes(struct stream *s, const char *bytes, size_t n)
{
	s->left -= n;
	if (s->left == 0)
		s->state = STREAM_CHUNK_END;
	return body_bytes(s, bytes, n);
}

int
stream_feed(struct stream *s, const char *bytes, size_t n)
{
	while (n > 0) {
		size_t used = 1;
		int rc = 1;

		switch (s->state) {
		case STREAM_HEAD:
			rc = head_byte(s, *bytes);
			break;
		case STREAM_PLAIN:
			used = n;
			rc = body_bytes(s, bytes, n);
			break;
		case STREAM_SIZE:
			rc = size_byte(s, *bytes);
			break;
		case STREAM_CHUNK:
			used = n < s->left ? n : s->left;
			rc = chunk_bytes(s, bytes, used);
			break;
		case STREAM_CHUNK_END:
			rc = chunk_end_byte(s, *bytes);
			break;
		case STREAM_OVER:
			break;
		}
		if (rc != 0)
			return rc;
		bytes += used;
		n -= used;
	}
	return s->state == STREAM_OVER;
}
