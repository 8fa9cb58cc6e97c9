/*
 * See proxy_protocol.h.  Section numbers are those of doc/proxy-protocol.txt.
 *
 * Nothing is repaired: a header that is not exactly as the document says is refused, for who may
 * speak it is trusted with the client's address.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/codec/proxy_protocol.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
enum { V2_HEAD = 16, V2_INET = 12, V2_INET6 = 36, V2_UNIX = 216 };
enum { TLV_HEAD = 3, TLV_CRC32C = 3, CRC = 4 };

/* --- version 1: a line of text (2.1) ---------------------------------------------------- */

/* The next word up to a single space or the end; false when it is empty or too long. */
static bool
next_word(const char **at, char *word, size_t room)
{
	size_t n = strcspn(*at, " ");

	if (n == 0 || n >= room)
		return false;
	memcpy(word, *at, n);
	word[n] = '\0';
	*at += n;
	if (**at == ' ')
		(*at)++;
	return true;
}

static bool
v1_address(const char **at, bool v6, uint8_t out[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	char word[INET6_ADDRSTRLEN];

	if (!next_word(at, word, sizeof word))
		return false;
	if (v6)
		return inet_pton(AF_INET6, word, out) == 1;
	memcpy(out, mapped, sizeof mapped);
	return inet_pton(AF_INET, word, out + 12) == 1;
}

static bool
v1_port(const char **at, uint16_t *port)
{
	char word[6];
	unsigned n = 0;

	if (!next_word(at, word, sizeof word) || (word[0] == '0' && word[1] != '\0'))
		return false;
	for (const char *p = word; *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			return false;
		n = n * 10 + (unsigned)(*p - '0');
	}
	*port = (uint16_t)n;
	return n <= UINT16_MAX;
}

/* `line` without CR LF */
static enum proxy_result
v1_line(const char *line, struct proxy_header *h)
{
	const char *at = line + strlen("PROXY ");
	size_t n = strlen(line);
	char word[8];
	bool v6;

	if (!next_word(&at, word, sizeof word))
		return PROXY_BAD;
	if (strcmp(word, "UNKNOWN") == 0)
		return PROXY_DONE; /* what follows must be ignored */
	v6 = strcmp(word, "TCP6") == 0;
	if ((!v6 && strcmp(word, "TCP4") != 0) || line[n - 1] == ' ')
		return PROXY_BAD;
	if (!v1_address(&at, v6, h->source) || !v1_address(&at, v6, h->destination) ||
	    !v1_port(&at, &h->source_port) || !v1_port(&at, &h->destination_port) || *at != '\0')
		return PROXY_BAD;
	h->known = true;
	return PROXY_DONE;
}

static enum proxy_result
v1_parse(const unsigned char *p, size_t n, struct proxy_header *h, size_t *used)
{
	static const char start[] = "PROXY ";
	char line[PROXY_V1_MAX + 1];
	size_t most = n < PROXY_V1_MAX ? n : PROXY_V1_MAX;

	for (size_t i = 0; i < most; i++) {
		if (i < sizeof start - 1) {
			if (p[i] != (unsigned char)start[i])
				return PROXY_BAD;
		} else if (p[i] == '\n') {
			if (p[i - 1] != '\r')
				return PROXY_BAD;
			memcpy(line, p, i - 1);
			line[i - 1] = '\0';
			*used = i + 1;
			return v1_line(line, h);
		} else if (p[i - 1] == '\r' || ((p[i] < 0x20 || p[i] > 0x7e) && p[i] != '\r')) {
			return PROXY_BAD;
		}
	}
	*used = n;
	return most == PROXY_V1_MAX ? PROXY_BAD : PROXY_MORE;
}

/* --- version 2: binary (2.2) --------------------------------------------------------------- */

static unsigned
get16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t
get32(const unsigned char *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* RFC 9260 appendix A; bit by bit, a header is short */
static uint32_t
crc32c(const unsigned char *p, size_t n, size_t zero_at)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		crc ^= i >= zero_at && i < zero_at + CRC ? 0u : p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
	}
	return ~crc;
}

/* TLVs fill the rest of the header exactly; of them only the checksum is looked at (2.2.4). */
static bool
v2_tlvs(const unsigned char *p, size_t at, size_t end)
{
	bool checked = false;

	while (at < end) {
		size_t length;

		if (end - at < TLV_HEAD)
			return false;
		length = get16(p + at + 1);
		if (length > end - at - TLV_HEAD)
			return false;
		if (p[at] == TLV_CRC32C) {
			size_t value = at + TLV_HEAD;

			if (checked || length != CRC || crc32c(p, end, value) != get32(p + value))
				return false;
			checked = true;
		}
		at += TLV_HEAD + length;
	}
	return true;
}

static void
map_v4(uint8_t out[16], const unsigned char *v4)
{
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, v4, 4);
}

/* The addresses of family and protocol; how many bytes they take, or -1. */
static int
v2_addresses(const unsigned char *p, size_t length, struct proxy_header *h)
{
	switch (p[13]) {
	case 0x00: /* AF_UNSPEC: the rest is ignored */
		return (int)length;
	case 0x11: /* TCP over IPv4 */
		if (length < V2_INET)
			return -1;
		map_v4(h->source, p + V2_HEAD);
		map_v4(h->destination, p + V2_HEAD + 4);
		h->source_port = (uint16_t)get16(p + V2_HEAD + 8);
		h->destination_port = (uint16_t)get16(p + V2_HEAD + 10);
		h->known = true;
		return V2_INET;
	case 0x21: /* TCP over IPv6 */
		if (length < V2_INET6)
			return -1;
		memcpy(h->source, p + V2_HEAD, 16);
		memcpy(h->destination, p + V2_HEAD + 16, 16);
		h->source_port = (uint16_t)get16(p + V2_HEAD + 32);
		h->destination_port = (uint16_t)get16(p + V2_HEAD + 34);
		h->known = true;
		return V2_INET6;
	case 0x31: /* a Unix stream */
		return length < V2_UNIX ? -1 : V2_UNIX;
	default: /* datagrams do not come this way; the rest does not exist */
		return -1;
	}
}

static enum proxy_result
v2_whole(const unsigned char *p, size_t end, struct proxy_header *h)
{
	struct proxy_header found = {0};
	size_t length = end - V2_HEAD;
	int addresses = (p[12] & 0x0f) == 0 ? (int)length /* LOCAL: discarded */
					    : v2_addresses(p, length, &found);

	if (addresses < 0 || !v2_tlvs(p, V2_HEAD + (size_t)addresses, end))
		return PROXY_BAD;
	*h = found;
	return PROXY_DONE;
}

static enum proxy_result
v2_parse(const unsigned char *p, size_t n, struct proxy_header *h, size_t *used)
{
	size_t end;

	*used = n;
	if (memcmp(p, SIGNATURE, n < 12 ? n : 12) != 0)
		return PROXY_BAD;
	if (n > 12 && p[12] != 0x20 && p[12] != 0x21) /* version 2, LOCAL or PROXY */
		return PROXY_BAD;
	if (n < V2_HEAD)
		return PROXY_MORE;
	end = V2_HEAD + get16(p + 14);
	if (end > PROXY_V2_MAX)
		return PROXY_BAD;
	if (n < end)
		return PROXY_MORE;
	*used = end;
	return v2_whole(p, end, h);
}

enum proxy_result
proxy_parse(const void *bytes, size_t n, struct proxy_header *out, size_t *used)
{
	struct proxy_header h = {0};
	const unsigned char *p = bytes;
	enum proxy_result result;

	*used = 0;
	if (n == 0)
		return PROXY_MORE;
	result = p[0] == 'P' ? v1_parse(p, n, &h, used) : v2_parse(p, n, &h, used);
	if (result == PROXY_DONE)
		*out = h;
	return result;
}

/* Looks first, then takes what belongs to the header. */
enum proxy_result
proxy_read(struct proxy_reader *r, int fd, struct proxy_header *out)
{
	size_t room = sizeof r->bytes - r->n, used, take;
	enum proxy_result result;
	ssize_t got;

	do
		got = recv(fd, r->bytes + r->n, room, MSG_PEEK | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? PROXY_MORE : PROXY_BAD;
	if (got == 0)
		return PROXY_BAD;
	result = proxy_parse(r->bytes, r->n + (size_t)got, out, &used);
	if (result == PROXY_BAD)
		return PROXY_BAD;
	take = used - r->n;
	if (recv(fd, r->bytes + r->n, take, MSG_DONTWAIT) != (ssize_t)take)
		return PROXY_BAD;
	r->n = used;
	return result;
}
