/*
 * What names, paths, header fields and secrets may look like.
 *
 * Pure; any thread.  What passes here is later written to the wire without a
 * second look, so nothing that could end a line or a field passes.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "config/parse.h"

#define NAME_MAX_LEN   64
#define PATH_MAX_LEN   1024
#define TOKEN_MAX_LEN  256
#define VALUE_MAX_LEN  8192
#define SECRET_MIN_LEN 8
#define SECRET_MAX_LEN 256

/* Fields that say where a message ends or what this connection does: teal writes them itself
 * (RFC 9110 sections 7.2, 7.6.1 and 7.8, RFC 9112 section 6, RFC 9113 section 8.2.2). */
static const char *const framing_fields[] = {"connection", "content-length", "host",
    "http2-settings", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade"};

static bool
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int
is_token(const char *text)
{
	if (*text == '\0')
		return 0;
	for (; *text != '\0'; text++)
		if (!is_alnum(*text) && strchr("!#$%&'*+-.^_`|~", *text) == NULL)
			return 0;
	return 1;
}

int
check_name(const char *text, char *err, size_t err_size)
{
	const char *p = text;

	while (is_alnum(*p) || (p > text && *p != '\0' && strchr("-_.", *p) != NULL))
		p++;
	if (*p == '\0' && p > text && p - text <= NAME_MAX_LEN)
		return 0;
	snprintf(err, err_size,
	    "must be 1 to %d letters, digits, '-', '_' or '.', the first a letter or digit",
	    NAME_MAX_LEN);
	return -1;
}

int
check_path(const char *text, char *err, size_t err_size)
{
	const char *p = text;

	/* RFC 3986 section 3.3: pchar and '/'; '%' is not looked behind */
	while (is_alnum(*p) || (*p != '\0' && strchr("/-._~!$&'()*+,;=:@%", *p) != NULL))
		p++;
	if (*text == '/' && *p == '\0' && p - text <= PATH_MAX_LEN)
		return 0;
	snprintf(
	    err, err_size, "must begin with '/' and have no space, '?' or '#', not \"%s\"", text);
	return -1;
}

int
check_token(const char *text, char *err, size_t err_size)
{
	if (*text == '\0' || (is_token(text) && strlen(text) <= TOKEN_MAX_LEN))
		return 0;
	snprintf(err, err_size, "must be a token (RFC 9110 section 5.6.2), not \"%s\"", text);
	return -1;
}

int
check_field_name(const char *text, char *err, size_t err_size)
{
	if (!is_token(text) || strlen(text) > TOKEN_MAX_LEN) {
		snprintf(err, err_size,
		    "must be a field name, a token (RFC 9110 section 5.1), not \"%s\"", text);
		return -1;
	}
	for (size_t i = 0; i < sizeof(framing_fields) / sizeof(framing_fields[0]); i++) {
		if (strcasecmp(text, framing_fields[i]) == 0) {
			snprintf(err, err_size,
			    "must not be \"%s\": teal writes framing and connection fields itself",
			    text);
			return -1;
		}
	}
	return 0;
}

int
check_field_value(const char *text, char *err, size_t err_size)
{
	size_t n = strlen(text);

	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			snprintf(err, err_size,
			    "must have no control characters (RFC 9110 section 5.5)");
			return -1;
		}
	}
	if (n > 0 && (isblank((unsigned char)text[0]) || isblank((unsigned char)text[n - 1]))) {
		snprintf(
		    err, err_size, "must not begin or end with a blank (RFC 9110 section 5.5)");
		return -1;
	}
	if (n > VALUE_MAX_LEN) {
		snprintf(err, err_size, "must be at most %d bytes", VALUE_MAX_LEN);
		return -1;
	}
	return 0;
}

int
check_pseudonym(const char *text, char *err, size_t err_size)
{
	const char *colon = strchr(text, ':');
	char host[TOKEN_MAX_LEN + 1];
	size_t n = colon != NULL ? (size_t)(colon - text) : strlen(text);

	if (*text == '\0')
		return 0;
	if (n < sizeof(host)) {
		memcpy(host, text, n);
		host[n] = '\0';
		if (is_token(host) &&
		    (colon == NULL ||
			(colon[1] != '\0' && colon[1 + strspn(colon + 1, "0123456789")] == '\0')))
			return 0;
	}
	snprintf(err, err_size,
	    "must be a token or host[:port] (RFC 9110 section 7.6.3), not \"%s\"", text);
	return -1;
}

int
check_secret(const char *text, char *err, size_t err_size)
{
	size_t n = strlen(text);

	if (n == 0)
		return 0;
	if (n < SECRET_MIN_LEN || n > SECRET_MAX_LEN) {
		snprintf(
		    err, err_size, "must have %d to %d characters", SECRET_MIN_LEN, SECRET_MAX_LEN);
		return -1;
	}
	for (; *text != '\0'; text++) {
		if (*text <= 0x20 || *text >= 0x7f || strchr("\",;\\", *text) != NULL) {
			snprintf(err, err_size,
			    "must be visible ASCII without quotes, ',', ';' or '\\' "
			    "(RFC 6265 section 4.1.1)");
			return -1;
		}
	}
	return 0;
}

int
check_socket_path(const char *text, char *err, size_t err_size)
{
	if (strlen(text) <= UNIX_PATH_MAX_LEN)
		return 0;
	snprintf(err, err_size, "must be a path of at most %d bytes", UNIX_PATH_MAX_LEN);
	return -1;
}

int
check_file(const char *text, char *err, size_t err_size)
{
	if (*text != '\0')
		return 0;
	snprintf(err, err_size, "must name a file");
	return -1;
}
