/*
 * Addresses and networks.
 *
 * Pure; any thread.  No name is resolved here: that is the process's work.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config/parse.h"

/* RFC 1035 section 2.3.4, in text */
#define HOST_MAX  253
#define LABEL_MAX 63

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Letters, digits, '-' and '_' in labels of 1..63.  A name whose last label is a number
 * would be a mistyped IPv4 address (RFC 3986 section 3.2.2 reads it as one). */
static bool
is_host_name(const char *host)
{
	size_t label = 0, length = strlen(host);
	bool digits = true;

	if (length == 0 || length > HOST_MAX)
		return false;
	for (const char *p = host; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '.') {
			if (label == 0 || p[-1] == '-')
				return false;
			label = 0;
			digits = true;
			continue;
		}
		if (!(isalnum(c) && c < 0x80) && c != '_' && !(c == '-' && label > 0))
			return false;
		if (++label > LABEL_MAX)
			return false;
		digits = digits && isdigit(c);
	}
	return label > 0 && !digits && host[length - 1] != '-';
}

static bool
is_v4(const char *host)
{
	struct in_addr a;

	return inet_pton(AF_INET, host, &a) == 1;
}

static bool
is_v6(const char *host)
{
	struct in6_addr a;

	return inet_pton(AF_INET6, host, &a) == 1;
}

/* A whole IPv6 literal in brackets. */
static bool
is_bracketed_v6(const char *host)
{
	char inner[INET6_ADDRSTRLEN];
	size_t n = strlen(host);

	if (n < 4 || n - 2 >= sizeof(inner) || host[0] != '[' || host[n - 1] != ']')
		return false;
	memcpy(inner, host + 1, n - 2);
	inner[n - 2] = '\0';
	return is_v6(inner);
}

static int
port_parse(const char *text, uint16_t *port)
{
	unsigned n = 0;

	if (*text == '\0')
		return -1;
	for (; *text != '\0'; text++) {
		if (!isdigit((unsigned char)*text))
			return -1;
		n = n * 10 + (unsigned)(*text - '0');
		if (n > UINT16_MAX)
			return -1;
	}
	if (n == 0)
		return -1;
	*port = (uint16_t)n;
	return 0;
}

static int
unix_parse(struct address *a, const char *path, char *err, size_t err_size)
{
	if (path[0] != '/') {
		snprintf(err, err_size, "must name an absolute path after \"unix:\"");
		return -1;
	}
	if (strlen(path) > UNIX_PATH_MAX_LEN) {
		snprintf(err, err_size, "must have a path of at most %d bytes", UNIX_PATH_MAX_LEN);
		return -1;
	}
	a->path = strdup(path);
	return 0;
}

static int
host_port_parse(struct address *a, const char *text, char *err, size_t err_size)
{
	const char *colon = strrchr(text, ':');
	bool bracketed = text[0] == '[';
	size_t n;

	if (colon == NULL || (bracketed && strchr(text, ']') > colon)) {
		snprintf(err, err_size, "must have a port: \"host:port\", not \"%s\"", text);
		return -1;
	}
	if (!bracketed && strchr(text, ':') != colon) {
		snprintf(err, err_size, "must have the IPv6 address in brackets: \"[v6]:port\"");
		return -1;
	}
	if (port_parse(colon + 1, &a->port) < 0) {
		snprintf(err, err_size, "must have a port from 1 to 65535, not \"%s\"", colon + 1);
		return -1;
	}
	n = (size_t)(colon - text);
	a->host = strndup(text, n);
	if (a->host == NULL)
		return 0;
	if (bracketed ? !is_bracketed_v6(a->host) : !is_v4(a->host) && !is_host_name(a->host)) {
		snprintf(err, err_size, "must have a host name or IP address, not \"%s\"", a->host);
		return -1;
	}
	if (bracketed) {
		memmove(a->host, a->host + 1, n - 2);
		a->host[n - 2] = '\0';
	}
	return 0;
}

int
address_parse(struct address *a, const char *text, char *err, size_t err_size)
{
	int rc;

	memset(a, 0, sizeof(*a));
	rc = strncmp(text, "unix:", 5) == 0 ? unix_parse(a, text + 5, err, err_size)
					    : host_port_parse(a, text, err, err_size);
	if (rc == 0) {
		a->text = strdup(text);
		if (a->text != NULL && (a->host != NULL || a->path != NULL))
			return 0;
		snprintf(err, err_size, "cannot be kept: out of memory");
	}
	address_fini(a);
	return -1;
}

void
address_fini(struct address *a)
{
	free(a->text);
	free(a->host);
	free(a->path);
	memset(a, 0, sizeof(*a));
}

/* Clears the bits behind the prefix; true when there were any. */
static bool
mask(uint8_t bits[16], unsigned prefix)
{
	bool any = false;

	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = prefix > i * 8 ? prefix - i * 8 : 0;
		uint8_t m = (uint8_t)(keep >= 8 ? 0xff : 0xff << (8 - keep));

		any = any || (bits[i] & (uint8_t)~m) != 0;
		bits[i] &= m;
	}
	return any;
}

/* "24" of "10.0.0.0/24"; at most `max`. */
static int
prefix_parse(const char *text, unsigned max, unsigned *prefix)
{
	unsigned n = 0;

	if (*text == '\0' || strlen(text) > 3)
		return -1;
	for (; *text != '\0'; text++) {
		if (!isdigit((unsigned char)*text))
			return -1;
		n = n * 10 + (unsigned)(*text - '0');
	}
	if (n > max)
		return -1;
	*prefix = n;
	return 0;
}

int
network_parse(struct network *n, const char *text, char *err, size_t err_size)
{
	char host[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "/");
	unsigned max = 32, prefix;
	struct in_addr v4;

	memset(n, 0, sizeof(*n));
	if (len >= sizeof(host))
		goto bad;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, &v4) == 1) {
		memcpy(n->bits, v4_mapped, sizeof(v4_mapped));
		memcpy(n->bits + 12, &v4, 4);
	} else if (inet_pton(AF_INET6, host, n->bits) == 1) {
		max = 128;
	} else {
		goto bad;
	}
	prefix = max;
	if (text[len] == '/' && prefix_parse(text + len + 1, max, &prefix) < 0) {
		snprintf(err, err_size, "must have a prefix from 0 to %u: \"%s\"", max, text);
		return -1;
	}
	n->prefix = prefix + 128 - max;
	if (mask(n->bits, n->prefix)) {
		char should[NETWORK_TEXT_SIZE];

		/* rejected, not repaired: either half may be the slip */
		network_print(n, should);
		snprintf(err, err_size,
		    "must have no bits set behind the prefix: \"%s\" (did you mean \"%s\"?)", text,
		    should);
		return -1;
	}
	return 0;
bad:
	snprintf(err, err_size, "must be an address or network such as \"10.0.0.0/8\", not \"%s\"",
	    text);
	return -1;
}

void
network_print(const struct network *n, char out[NETWORK_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN];
	bool v4 = n->prefix >= 96 && memcmp(n->bits, v4_mapped, sizeof(v4_mapped)) == 0;
	unsigned prefix = v4 ? n->prefix - 96 : n->prefix;

	if (inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? n->bits + 12 : n->bits, host, sizeof(host)) ==
	    NULL)
		host[0] = '\0';
	snprintf(out, NETWORK_TEXT_SIZE, "%s/%u", host, prefix);
}

bool
network_list_has(const struct network_list *l, const uint8_t addr[16])
{
	for (size_t i = 0; i < l->n; i++) {
		const struct network *n = &l->items[i];
		unsigned bytes = n->prefix / 8, rest = n->prefix % 8;

		if (memcmp(n->bits, addr, bytes) != 0)
			continue;
		if (rest == 0 || ((n->bits[bytes] ^ addr[bytes]) >> (8 - rest)) == 0)
			return true;
	}
	return false;
}

static bool
has_non_ascii(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text >= 0x80)
			return true;
	return false;
}

int
check_host(const char *text, char *err, size_t err_size)
{
	const char *name = strncmp(text, "*.", 2) == 0 ? text + 2 : text;

	if (strcmp(text, "*") == 0 || is_host_name(name))
		return 0;
	if (name == text && (is_v4(text) || is_bracketed_v6(text)))
		return 0;
	snprintf(err, err_size,
	    "must be a host (\"a.example\"), a wildcard (\"*.a.example\") or \"*\", "
	    "without port, not \"%s\"%s",
	    text, has_non_ascii(text) ? " (write IDNA names as xn--...)" : "");
	return -1;
}

int
check_tls_name(const char *text, char *err, size_t err_size)
{
	if (*text == '\0' || is_host_name(text) || is_v4(text) || is_v6(text))
		return 0;
	snprintf(err, err_size, "must be a host name, not \"%s\"", text);
	return -1;
}

/* host, host:port, [v6] or [v6]:port */
static bool
is_authority(const char *text)
{
	char host[HOST_MAX + 1];
	const char *end = strchr(text, ']');
	size_t n;
	uint16_t port;

	n = end != NULL ? (size_t)(end + 1 - text) : strcspn(text, ":");
	if (n > HOST_MAX || (text[n] == ':' && port_parse(text + n + 1, &port) < 0) ||
	    (text[n] != '\0' && text[n] != ':'))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	return is_v4(host) || is_host_name(host) || is_bracketed_v6(host);
}

int
check_url(const char *text, char *err, size_t err_size)
{
	const char *rest = strncmp(text, "http://", 7) == 0    ? text + 7
			   : strncmp(text, "https://", 8) == 0 ? text + 8
							       : NULL;
	char authority[HOST_MAX + sizeof(":65535")];
	size_t n;

	if (*text == '\0')
		return 0;
	if (rest == NULL) {
		snprintf(err, err_size, "must begin with \"http://\" or \"https://\"");
		return -1;
	}
	n = strcspn(rest, "/?#");
	/* RFC 3986 section 3.2.1: a password here would be shown wherever the URL is */
	if (memchr(rest, '@', n) != NULL) {
		snprintf(err, err_size, "must have no user information: use webhook_headers");
		return -1;
	}
	if (n < sizeof(authority)) {
		memcpy(authority, rest, n);
		authority[n] = '\0';
	}
	if (n >= sizeof(authority) || !is_authority(authority)) {
		snprintf(err, err_size, "must have a host, or host:port, behind \"//\"");
		return -1;
	}
	/* RFC 3986 section 2: the rest is these characters; a fragment is not sent */
	for (rest += n; *rest != '\0'; rest++) {
		unsigned char c = (unsigned char)*rest;

		if (c <= 0x20 || c >= 0x7f || strchr("\"#<>\\^`{|}", c) != NULL) {
			snprintf(err, err_size,
			    "must have only characters of a URL (RFC 3986), and no fragment");
			return -1;
		}
	}
	return 0;
}
