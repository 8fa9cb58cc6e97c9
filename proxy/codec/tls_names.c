/*
 * Whom a certificate speaks for: its names read once, so that a request's check is two binary
 * searches and no X.509.
 *
 * Owner: a tls_certificate.  Immutable once read; any thread.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/tls_context.h"

static void
add(struct tls_names *names, const char *text, size_t n)
{
	char **items = realloc(names->items, (names->n + 1) * sizeof *items);
	char *copy = malloc(n + 1);

	ENSURE(items != NULL && copy != NULL);
	for (size_t i = 0; i < n; i++)
		copy[i] = (char)tolower((unsigned char)text[i]);
	copy[n] = '\0';
	names->items = items;
	names->items[names->n++] = copy;
}

/* A name that could not be asked for is left out: bytes that are no host name's, a wildcard
 * elsewhere than as the whole first label or right below the root. */
static void
add_dns(struct tls_names *names, const ASN1_STRING *s)
{
	const char *p = (const char *)ASN1_STRING_get0_data(s);
	int length = ASN1_STRING_length(s);
	size_t n = length > 0 ? (size_t)length : 0;
	size_t from = 0, dots = 0;

	if (n > 1 && p[n - 1] == '.')
		n--;
	if (n == 0 || n > TLS_NAME_MAX)
		return;
	if (n > 2 && p[0] == '*' && p[1] == '.')
		from = 2;
	for (size_t i = from; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c == '.')
			dots++;
		else if (!isalnum(c) && c != '-' && c != '_')
			return;
	}
	if (from == 0 || dots > 0)
		add(names, p, n);
}

static void
add_ip(struct tls_names *names, const ASN1_STRING *s)
{
	char text[INET6_ADDRSTRLEN];
	int family;

	switch (ASN1_STRING_length(s)) {
	case 4:
		family = AF_INET;
		break;
	case 16:
		family = AF_INET6;
		break;
	default:
		return;
	}
	if (inet_ntop(family, ASN1_STRING_get0_data(s), text, sizeof text) != NULL)
		add(names, text, strlen(text));
}

static void
add_common_name(struct tls_names *names, X509 *x)
{
	X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	if (at >= 0)
		add_dns(names, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
sort(struct tls_names *names)
{
	size_t kept = 0;

	if (names->n == 0)
		return;
	qsort(names->items, names->n, sizeof *names->items, by_text);
	for (size_t i = 1; i < names->n; i++) {
		if (strcmp(names->items[kept], names->items[i]) == 0)
			free(names->items[i]);
		else
			names->items[++kept] = names->items[i];
	}
	names->n = kept + 1;
}

void
tls_names_read(struct tls_names *names, X509 *x)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

	*names = (struct tls_names){0};
	if (all == NULL)
		add_common_name(names, x);
	for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);

		if (name->type == GEN_DNS)
			add_dns(names, name->d.dNSName);
		else if (name->type == GEN_IPADD)
			add_ip(names, name->d.iPAddress);
	}
	GENERAL_NAMES_free(all);
	sort(names);
}

void
tls_names_fini(struct tls_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i]);
	free(names->items);
	*names = (struct tls_names){0};
}

bool
tls_names_equal(const struct tls_names *a, const struct tls_names *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	}
	return true;
}

bool
tls_wildcard(const char *name, size_t n, char out[TLS_NAME_MAX + 1])
{
	const char *dot = memchr(name, '.', n);
	size_t rest;

	if (dot == NULL || dot == name || n > TLS_NAME_MAX)
		return false;
	rest = n - (size_t)(dot - name);
	if (rest + 1 > TLS_NAME_MAX)
		return false;
	out[0] = '*';
	memcpy(out + 1, dot, rest);
	out[rest + 1] = '\0';
	return true;
}

static bool
has(const struct tls_names *names, const char *name)
{
	return names->n > 0 &&
	       bsearch(&name, names->items, names->n, sizeof *names->items, by_text) != NULL;
}

/* Addresses are compared as numbers: one of them has many texts. */
static bool
cover_v6(const struct tls_names *names, const char *text)
{
	struct in6_addr address;
	char canonical[INET6_ADDRSTRLEN];

	return inet_pton(AF_INET6, text, &address) == 1 &&
	       inet_ntop(AF_INET6, &address, canonical, sizeof canonical) != NULL &&
	       has(names, canonical);
}

bool
tls_names_cover(const struct tls_names *names, const char *name, size_t n)
{
	char text[TLS_NAME_MAX + 1], wild[TLS_NAME_MAX + 1];
	struct in_addr v4;

	if (n > 2 && name[0] == '[' && name[n - 1] == ']') {
		name++;
		n -= 2;
	}
	if (n > 1 && name[n - 1] == '.')
		n--; /* the root's dot: the same name */
	if (n == 0 || n > TLS_NAME_MAX || name[0] == '*' || memchr(name, '\0', n) != NULL)
		return false;
	memcpy(text, name, n);
	text[n] = '\0';
	if (memchr(name, ':', n) != NULL)
		return cover_v6(names, text);
	if (has(names, text))
		return true;
	return tls_wildcard(text, n, wild) && has(names, wild) &&
	       inet_pton(AF_INET, text, &v4) != 1;
}
