/*
 * TLS contexts: certificates by SNI for a listener, verification towards backends.  Made on the control
 * thread, immutable afterwards and shared by all workers (SSL_CTX is reference counted and thread safe), so that a
 * session ticket of one worker is good on every other.
 */
#ifndef TEAL_TLS_H
#define TEAL_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

struct tls_server;
struct tls_client;
struct transport;
struct turn;
struct event_base;
struct sockaddr;
struct conn;

/* Loads chains and keys (key must fit its chain).  NULL with a sentence in err. TLS 1.2 at least, no renegotiation, no
 * compression, no 0-RTT, server preference, tickets per config. ALPN: h2 and http/1.1 as configured; a client whose list has neither gets a
 * no_application_protocol alert (RFC 7301 3.2); no ALPN = http/1.1. Certificate by SNI: exact, then wildcard; the first certificate otherwise. */
struct tls_server *tls_server_new(const struct listener_tls *, char *err, size_t err_size);
void tls_server_free(struct tls_server *);
/* notAfter of certificate i as seconds since 1970. */
int64_t tls_server_not_after(const struct tls_server *, size_t i);

/* Verification on by default against `ca` or the system's store, name = server_name or the backend's host (IP literals are verified as IP).
 * Sessions are resumed. ALPN is h2 for an h2 pool (and must then be chosen), else http/1.1. */
struct tls_client *tls_client_new(const struct back_tls *, bool h2, char *err, size_t err_size);
void tls_client_free(struct tls_client *);

/* Does the certificate this connection presented cover `host` (no port)? For 421 (RFC 9110 7.4). True for clear text. */
bool transport_covers(struct transport *, const char *host, size_t n);
/* Why the last handshake on this thread failed ("certificate verify failed: self-signed certificate"), for the log and
 * status; worth reading from within conn_lost(BACK_TLS_FAILED) only. Never NULL. */
const char *tls_failure(void);

/* --- transports with a socket -------------------------------------------- */

/* An accepted socket (already non-blocking, TCP_NODELAY set here for TCP).  tls NULL: clear text; conn_established() comes at once (inside
 * transport_start).  Takes the fd. */
struct transport *transport_accepted(struct event_base *, int fd, struct tls_server *tls);
/* Starts a connect.  Never fails at once: the outcome comes as conn_established() or conn_lost(CONNECT_REFUSED, CONNECT_FAILED,
 * BACK_TLS_FAILED), the earliest in a later turn.  name: for SNI and verification when the config has no server_name. */
struct transport *transport_connect(struct event_base *, const struct sockaddr *, unsigned len,
    struct tls_client *tls, const char *name);
/* Binds to its conn and starts the handshake. */
void transport_start(struct transport *, struct conn *);

#endif
