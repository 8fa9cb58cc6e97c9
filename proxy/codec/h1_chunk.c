/*
 * The chunked coding's framing, one byte at a time (RFC 9112 7.1).
 *
 *   SIZE -> [EXTENSIONS] -> LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ... -> LF of "0" -> trailers
 *
 * By hand and not by llhttp: llhttp takes what it should not (any bytes as an extension, blanks behind the
 * size), keeps no count of extension bytes, and delivers nothing this small machine does not.
 * Data is not copied or even looked at: the caller takes it from the input.
 *
 * Owner: struct h1.  One thread.
 */
#include "proxy/base/obj.h"
#include "proxy/codec/h1.h"

enum {
	SIZE,
	EXT_BLANK,      /* BWS: only ";" may follow */
	EXT_NAME_FIRST, /* behind ";" */
	EXT_NAME,
	EXT_NAME_BLANK,
	EXT_VALUE_FIRST, /* behind "=" */
	EXT_TOKEN,
	EXT_QUOTED,
	EXT_ESCAPED,
	EXT_QUOTED_END,
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
};

void
h1_chunk_init(struct h1_chunks *c)
{
	*c = (struct h1_chunks){.state = SIZE};
}

static int
hex(unsigned char b)
{
	if (b >= '0' && b <= '9')
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static bool
blank(unsigned char b)
{
	return b == ' ' || b == '\t';
}

static bool
token_byte(unsigned char b)
{
	return token_valid((const char *)&b, 1);
}

/* 1*HEXDIG, at most 16 of them, and the sum must be a length we can count down */
static int
size_byte(struct h1_chunks *c, unsigned char b)
{
	int digit = hex(b);

	if (digit >= 0) {
		if (c->digits == 16 || c->left > (uint64_t)INT64_MAX >> 4)
			return -1;
		c->digits++;
		c->left = c->left << 4 | (unsigned)digit;
		return SIZE;
	}
	if (c->digits == 0)
		return -1;
	if (b == '\r')
		return SIZE_LF;
	if (b == ';')
		return EXT_NAME_FIRST;
	return blank(b) ? EXT_BLANK : -1;
}

/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), RFC 9112 7.1.1.  -1 when not. */
static int
extension_byte(int state, unsigned char b)
{
	switch (state) {
	case EXT_BLANK:
		if (blank(b))
			return EXT_BLANK;
		return b == ';' ? EXT_NAME_FIRST : -1;
	case EXT_NAME_FIRST:
		if (blank(b))
			return EXT_NAME_FIRST;
		return token_byte(b) ? EXT_NAME : -1;
	case EXT_NAME:
		if (token_byte(b))
			return EXT_NAME;
		/* fallthrough */
	case EXT_NAME_BLANK:
		if (b == '=')
			return EXT_VALUE_FIRST;
		if (blank(b))
			return EXT_NAME_BLANK;
		break;
	case EXT_VALUE_FIRST:
		if (blank(b))
			return EXT_VALUE_FIRST;
		if (b == '"')
			return EXT_QUOTED;
		return token_byte(b) ? EXT_TOKEN : -1;
	case EXT_TOKEN:
		if (token_byte(b))
			return EXT_TOKEN;
		if (blank(b))
			return EXT_BLANK;
		break;
	case EXT_QUOTED:
		if (b == '"')
			return EXT_QUOTED_END;
		if (b == '\\')
			return EXT_ESCAPED;
		/* no CTL: CR and LF in quotes are what "funky chunks" are made of */
		return b == '\t' || (b >= 0x20 && b != 0x7f) ? EXT_QUOTED : -1;
	case EXT_ESCAPED:
		return b == '\t' || (b >= 0x20 && b != 0x7f) ? EXT_QUOTED : -1;
	case EXT_QUOTED_END:
		if (blank(b))
			return EXT_BLANK;
		break;
	}
	/* an extension is complete: another, or the end of the line; blanks must be followed by ";" */
	if (b == ';')
		return EXT_NAME_FIRST;
	return b == '\r' && state != EXT_NAME_BLANK ? SIZE_LF : -1;
}

/* One byte of framing.  The next state, or -1. */
static int
framing_byte(struct h1_chunks *c, unsigned char b)
{
	if (c->state == DATA_CR)
		return b == '\r' ? DATA_LF : -1;
	if (c->state == DATA_LF)
		return b == '\n' ? SIZE : -1;
	if (++c->line > H1_CHUNK_LINE_MAX)
		return -1;
	if (c->state == SIZE)
		return size_byte(c, b);
	if (c->state == SIZE_LF)
		return b == '\n' ? DATA : -1;
	c->extended = true;
	if (++c->extensions > H1_CHUNK_EXT_MAX)
		return -1;
	return extension_byte(c->state, b);
}

enum h1_chunk
h1_chunk_next(struct h1_chunks *c, const unsigned char *p, size_t n, size_t *used)
{
	*used = 0;
	if (c->state == DATA)
		return H1_CHUNK_DATA;
	while (*used < n) {
		int next = framing_byte(c, p[*used]);

		if (next < 0)
			return H1_CHUNK_BAD;
		(*used)++;
		c->state = (unsigned char)next;
		if (next != DATA)
			continue;
		c->line = 0;
		c->digits = 0;
		if (c->left == 0)
			return H1_CHUNK_TRAILERS;
		c->n_chunks++;
		return H1_CHUNK_BEGUN;
	}
	return H1_CHUNK_MORE;
}

void
h1_chunk_took(struct h1_chunks *c, size_t n)
{
	ENSURE(c->state == DATA && n <= c->left);
	c->left -= n;
	if (c->left == 0) {
		c->state = DATA_CR;
		c->extended = false;
	}
}
