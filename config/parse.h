/*
 * The grammar of single values, for config/ only: each check says whether a text
 * is allowed and, when not, why, as the end of a sentence that begins with the key.
 *
 * Pure; any thread.  The public parsers (address, network, duration, size,
 * percent, steps, color) are in config.h.
 */
#ifndef TEAL_CONFIG_PARSE_H
#define TEAL_CONFIG_PARSE_H

#include <stddef.h>

#include "config/config.h"

/* The longest path that fits in sockaddr_un.sun_path with its NUL. */
#define UNIX_PATH_MAX_LEN 107

/* 0, or -1 with the rest of a sentence ("must be ...") in err. */
typedef int text_check(const char *text, char *err, size_t err_size);

text_check check_name;        /* of a service: used in URLs, metrics and files */
text_check check_host;        /* "a.example", "*.a.example", "*", an IP address; lower case */
text_check check_path;        /* a URL path prefix: begins with '/', RFC 3986 characters */
text_check check_token;       /* RFC 9110 section 5.6.2; "" allowed: the option is off */
text_check check_field_name;  /* a token that is not framing or hop-by-hop */
text_check check_field_value; /* RFC 9110 section 5.5 */
text_check check_pseudonym;   /* of Via, RFC 9110 section 7.6.3 */
text_check check_secret;      /* cookie-octets (RFC 6265 section 4.1.1), 8 or more */
text_check check_socket_path; /* fits sun_path */
text_check check_file;        /* a file name at all */
text_check check_tls_name;    /* SNI: a host name without wildcard, or "" */
text_check check_url; /* http or https with a host, no user information, no fragment; or "" */

/* Characters of RFC 9110 section 5.6.2 only, at least one. */
int is_token(const char *text);

/* Writes the form the parsers read back: "5m", "250ms"; "64k" or "1000". */
#define UNIT_TEXT_SIZE 32
void duration_print(int64_t ms, char out[UNIT_TEXT_SIZE]);
void size_print(size_t bytes, char out[UNIT_TEXT_SIZE]);

#define NETWORK_TEXT_SIZE 64
void network_print(const struct network *, char out[NETWORK_TEXT_SIZE]);

#endif
