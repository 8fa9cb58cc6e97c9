/*
 * What the TLS contexts (tls.c, tls_client.c) and the transport (tls_transport.c) share.
 * Contexts are immutable and reference-counted: a reload frees its own reference, connections
 * keep theirs.
 */
#ifndef TEAL_TLS_CONTEXT_H
#define TEAL_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/codec/tls.h"

/* --- names of a certificate (tls_names.c) ------------------------------------- */

#define TLS_NAME_MAX 253 /* RFC 1035 2.3.4, as text */

/* Lower case, sorted, unique: "a.test", "*.a.test", "192.0.2.1", "2001:db8::1". */
struct tls_names {
	char **items;
	size_t n;
};
/* From subjectAltName; from the common name only when there is no subjectAltName (RFC 9525 2). */
void tls_names_read(struct tls_names *, X509 *);
void tls_names_fini(struct tls_names *);
bool tls_names_equal(const struct tls_names *, const struct tls_names *);
/* Exact, or a wildcard for exactly the first label (RFC 9525 6.3).  `name` is lower case. */
bool tls_names_cover(const struct tls_names *, const char *name, size_t n);
/* "b.a.test" -> "*.a.test" in out; false when there is no such name. */
bool tls_wildcard(const char *name, size_t n, char out[TLS_NAME_MAX + 1]);

/* --- session tickets (tls_tickets.c) -------------------------------------------- */

#define TICKET_LIFE_S 14400 /* a session, and a key before the next one takes over */

/* Tickets under keys of the whole process: good on every worker, listener and configuration. */
void tls_tickets_use(SSL_CTX *);
/* A new key now; tickets under the key before it are still good, older ones are not. */
void tls_tickets_rotate(void);

/* --- what the contexts' callbacks learn of a connection -------------------------- */

struct tls_certificate;
struct tls_peer {                                  /* SSL_set_app_data() */
	const struct tls_certificate *certificate; /* server: the one presented */
	bool named;                                /* server: it was chosen by name */
	char *sni; /* server: what was asked for, lower case; malloc'd, or NULL */
	struct tls_client *client;
	char *name; /* client: what was verified, key of its sessions; malloc'd */
};

/* A connection's SSL on the first certificate; takes a reference of the server. */
SSL *tls_server_ssl(struct tls_server *, struct tls_peer *);
bool tls_certificate_covers(const struct tls_certificate *, const char *name, size_t n);
/* ... towards `host` (or the configured name).  NULL: there is no name that could be verified. */
SSL *tls_client_ssl(struct tls_client *, const char *host, struct tls_peer *);
struct tls_client *tls_client_ref(struct tls_client *);
bool tls_client_h2(const struct tls_client *);

/* "certificate verify failed", ...: the newest error of this thread's queue, which is emptied. */
const char *tls_reason(void);

#endif
