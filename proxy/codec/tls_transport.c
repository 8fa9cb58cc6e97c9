/*
 * TLS over a socket.
 *
 *   opened -> handshake (as the socket allows) -> established -> records both ways
 *                 \-> lost(CLIENT_GONE, BACK_TLS_FAILED)
 *
 * Reading.  Read-ahead fetches what the socket has, so readiness of the socket does not tell of
 * decrypted or buffered records: `pending` does, but only after a read that gave something. A
 * partial record is not worth another call.
 *
 * Writing.  Small pieces are gathered so that what a turn produced is one record and one system
 * call.
 *
 * The BIO below is ours.  What the socket does not take waits in `overflow`, so the library is
 * never left with half a record: it could not answer a KeyUpdate then (OpenSSL 3.0 ends the
 * connection: "bad length"), and reading would have to wait for writing.  It is bounded: a record
 * that waits has not been reported as taken, and none is made while one waits.  The BIO never
 * raises SIGPIPE, and it tells a connection that was cut from one that said close_notify without
 * breaking the other direction.
 *
 * Owner: the conn.  Thread: its worker's.
 */
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/conn.h"
#include "proxy/codec/tls_context.h"
#include "proxy/codec/wire.h"

#define RECORD_MAX   ((size_t)16384) /* plain bytes (RFC 8446 5.1) */
#define USELESS_MAX  32u /* records that carry no data: KeyUpdate, alerts, renegotiation */
#define USELESS_PER  ((size_t)65536)  /* data received that gives one of them back */
#define OVERFLOW_MAX ((size_t)131072) /* a record, or a handshake's flight with its certificates */

#define TLS_TRANSPORT_MAGIC 0x715001d5u

struct tls_transport {
	struct wire wire; /* first */
	uint32_t magic;
	SSL *ssl;                  /* NULL: a backend whose name cannot be verified */
	struct tls_server *server; /* one of the two; a reference */
	struct tls_client *client;
	struct tls_peer peer;
	bool established;
	bool failed;                /* a fatal error: the library must not be asked again */
	bool cut;                   /* the socket ended; close_notify or not */
	bool more;                  /* the last read gave something */
	bool more_follows;          /* another record is written after the one at hand */
	bool want_read, want_write; /* the conn's interest */
	bool shutting;              /* FIN follows when the overflow is out */
	unsigned useless;
	size_t received;         /* since the last one was given back */
	size_t unsent;           /* the conn's bytes in the overflow, not reported as taken yet */
	unsigned char *overflow; /* ciphertext the socket did not take; NULL: none */
	size_t overflow_at, overflow_end;
};

static _Thread_local unsigned char staging[RECORD_MAX];
static _Thread_local char failure[160];

static struct tls_transport *
self(struct transport *t)
{
	struct tls_transport *s = CONTAINER_OF(t, struct tls_transport, wire.transport);

	CHECK_MAGIC(s, TLS_TRANSPORT_MAGIC);
	return s;
}

static struct tls_transport *
of_wire(struct wire *w)
{
	return self(&w->transport);
}

static void
clean_errors(void)
{
	if (ERR_peek_error() != 0) /* somebody else's; SSL_get_error() would believe them */
		ERR_clear_error();
}

/* --- the BIO ------------------------------------------------------------------------ */

static bool
flooded(const struct tls_transport *s)
{
	return s->useless > USELESS_MAX;
}

static int
bio_read(BIO *bio, char *to, int n)
{
	struct tls_transport *s = BIO_get_data(bio);
	ssize_t got;

	BIO_clear_retry_flags(bio);
	if (n <= 0 || flooded(s))
		return -1;
	got = wire_read(&s->wire, to, (size_t)n);
	if (got > 0)
		return (int)got;
	if (got == IO_EOF)
		s->cut = true;
	if (got != IO_ERROR)
		BIO_set_retry_read(bio);
	return -1;
}

static bool
overflow_add(struct tls_transport *s, const void *p, size_t n)
{
	unsigned char *more;

	if (n > OVERFLOW_MAX - s->overflow_end)
		return false;
	more = realloc(s->overflow, s->overflow_end + n);
	ENSURE(more != NULL);
	s->overflow = more;
	memcpy(more + s->overflow_end, p, n);
	s->overflow_end += n;
	return true;
}

/* true: nothing waits any more.  An error is left to the next who reads or writes. */
static bool
overflow_flush(struct tls_transport *s)
{
	while (s->overflow != NULL) {
		struct iovec iov = {s->overflow + s->overflow_at, s->overflow_end - s->overflow_at};
		ssize_t put = wire_write(&s->wire, &iov, 1, false);

		if (put <= 0) {
			s->failed = s->failed || put == IO_ERROR;
			return false;
		}
		s->overflow_at += (size_t)put;
		if (s->overflow_at < s->overflow_end)
			continue;
		free(s->overflow);
		s->overflow = NULL;
		s->overflow_at = s->overflow_end = 0;
	}
	return true;
}

/* Session tickets of TLS 1.3 are awaited by nobody: they leave with the first answer, or when the kernel's patience (0.2 s) ends. */
static bool
may_wait(const struct tls_transport *s)
{
	return s->more_follows ||
	       (s->client == NULL && SSL_get_state(s->ssl) == TLS_ST_SW_SESSION_TICKET);
}

/* Takes everything, or fails. */
static int
bio_write(BIO *bio, const char *from, int n)
{
	struct tls_transport *s = BIO_get_data(bio);
	struct iovec iov = {(char *)(uintptr_t)from, (size_t)n};
	ssize_t put = 0;

	BIO_clear_retry_flags(bio);
	if (n <= 0 || flooded(s))
		return -1;
	if (s->overflow == NULL)
		put = wire_write(&s->wire, &iov, 1, may_wait(s));
	if (put == IO_AGAIN)
		put = 0;
	if (put < 0 || (put < n && !overflow_add(s, from + put, (size_t)(n - put))))
		return -1;
	return n;
}

static long
bio_ctrl(BIO *bio, int command, long number, void *arg)
{
	(void)bio;
	(void)number;
	(void)arg;
	return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method;

static void
make_bio_method(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "teal wire");
	ENSURE(bio_method != NULL && BIO_meth_set_read(bio_method, bio_read) == 1 &&
	       BIO_meth_set_write(bio_method, bio_write) == 1 &&
	       BIO_meth_set_ctrl(bio_method, bio_ctrl) == 1);
}

static void
attach(struct tls_transport *s)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *bio;

	ENSURE(pthread_once(&once, make_bio_method) == 0);
	bio = BIO_new(bio_method);
	ENSURE(bio != NULL);
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(s->ssl, bio, bio); /* one reference for both */
}

/* SSL_CTX_set_msg_callback(3): counts what is not data after the handshake, so that neither
 * a KeyUpdate flood nor refused renegotiations keep the worker busy. */
static void
count_record(int writing, int version, int kind, const void *bytes, size_t n, SSL *ssl, void *arg)
{
	struct tls_transport *s = arg;
	const unsigned char *type = bytes; /* TLS 1.2 shows it in the header, 1.3 inside */

	(void)version;
	(void)ssl;
	if (writing != 0 || !s->established || n == 0)
		return;
	if ((kind == SSL3_RT_HEADER || kind == SSL3_RT_INNER_CONTENT_TYPE) &&
	    *type != SSL3_RT_APPLICATION_DATA)
		s->useless++;
}

static void
give_back(struct tls_transport *s, size_t got)
{
	s->received += got;
	if (s->received < USELESS_PER)
		return;
	s->received = 0;
	if (s->useless > 0)
		s->useless--;
}

/* --- interest ------------------------------------------------------------------------ */

static void
update_interest(struct tls_transport *s)
{
	wire_want(&s->wire, s->want_read, s->want_write || s->overflow != NULL);
}

static void
want(struct transport *t, bool read, bool write)
{
	struct tls_transport *s = self(t);

	s->want_read = read;
	s->want_write = write;
	if (s->established)
		update_interest(s);
}

/* --- the handshake --------------------------------------------------------------------- */

static void
explain_failure(struct tls_transport *s)
{
	long verdict = s->ssl != NULL ? SSL_get_verify_result(s->ssl) : X509_V_OK;
	bool library = ERR_peek_last_error() != 0;
	const char *reason = s->ssl == NULL ? "there is no name that could be verified"
			     : library      ? tls_reason()
			     : s->cut       ? "the peer closed"
			     : s->peer.client != NULL && tls_client_h2(s->peer.client) &&
				     SSL_is_init_finished(s->ssl)
				 ? "h2 was not chosen by ALPN"
				 : "the connection broke";

	if (verdict != X509_V_OK && s->peer.client != NULL)
		(void)snprintf(failure, sizeof failure, "%s: %s", reason,
		    X509_verify_cert_error_string(verdict));
	else
		(void)snprintf(failure, sizeof failure, "%s", reason);
}

const char *
tls_failure(void)
{
	return failure;
}

static void
handshake_failed(struct tls_transport *s)
{
	explain_failure(s);
	s->failed = true;
	conn_lost(
	    s->wire.transport.conn, s->wire.client ? OUTCOME_BACK_TLS_FAILED : OUTCOME_CLIENT_GONE);
}

/* The backend must have chosen what the pool speaks; a pool of HTTP/1.1 takes no choice for it. */
static bool
read_alpn(struct tls_transport *s)
{
	const unsigned char *chosen;
	unsigned n;

	SSL_get0_alpn_selected(s->ssl, &chosen, &n);
	s->wire.transport.alpn_h2 = n == 2 && memcmp(chosen, "h2", 2) == 0;
	return s->client == NULL || s->wire.transport.alpn_h2 == tls_client_h2(s->client);
}

static void
handshake(struct tls_transport *s)
{
	int done;

	if (s->ssl == NULL) {
		handshake_failed(s);
		return;
	}
	clean_errors();
	done = SSL_do_handshake(s->ssl);
	if (done == 1) {
		if (!read_alpn(s)) {
			handshake_failed(s);
			return;
		}
		s->wire.transport.resumed = SSL_session_reused(s->ssl) == 1;
		s->established = true;
		s->more = true; /* the first request may have come with the Finished */
		update_interest(s);
		conn_established(s->wire.transport.conn);
		return;
	}

	if (SSL_get_error(s->ssl, done) == SSL_ERROR_WANT_READ && !s->cut)
		wire_want(&s->wire, true, s->overflow != NULL);
	else
		handshake_failed(s);
}

/* --- data ---------------------------------------------------------------------------------- */

static ssize_t
failed_for_good(struct tls_transport *s)
{
	clean_errors();
	s->failed = true;
	return IO_ERROR;
}

/* Cut without close_notify: clients do that and half-close like that, and the framing above tells
 * whether a request is whole. Of a backend's answer it may be the only end there is (RFC 9112
 * 9.8). */
static ssize_t
cut(struct tls_transport *s)
{
	return s->wire.client ? failed_for_good(s) : IO_EOF;
}

static ssize_t
read_bytes(struct transport *t, void *to, size_t n)
{
	struct tls_transport *s = self(t);
	int got;

	if (s->failed || !s->established)
		return s->failed ? IO_ERROR : IO_AGAIN;
	clean_errors();
	got = SSL_read(s->ssl, to, n < INT32_MAX ? (int)n : INT32_MAX);
	s->more = got > 0;
	if (s->overflow != NULL)
		update_interest(s); /* an answer to a KeyUpdate may be in it */
	if (flooded(s))
		return failed_for_good(s);
	if (got > 0) {
		give_back(s, (size_t)got);
		return got;
	}
	switch (SSL_get_error(s->ssl, got)) {
	case SSL_ERROR_WANT_READ:
		return s->cut ? cut(s) : IO_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return IO_EOF;
	default:
		return failed_for_good(s);
	}
}

static bool
pending(struct transport *t)
{
	const struct tls_transport *s = self(t);

	return s->established && !s->failed && s->more && SSL_has_pending(s->ssl) == 1;
}

struct cursor {
	const struct iovec *iov;
	int n;
	size_t at; /* within the first */
};

static void
advance(struct cursor *c, size_t n)
{
	while (c->n > 0 && n >= c->iov->iov_len - c->at) {
		n -= c->iov->iov_len - c->at;
		c->iov++;
		c->n--;
		c->at = 0;
	}
	c->at += n;
}

/* The next record's bytes: as they lie when one piece fills it or is the last, else gathered.
 * Returns how many, at most `most`; 0 at the end. */
static size_t
gather(const struct cursor *c, size_t most, const unsigned char **bytes)
{
	size_t n = 0, at = c->at;

	if (c->n == 0)
		return 0;
	*bytes = (const unsigned char *)c->iov->iov_base + at;
	n = c->iov->iov_len - at;
	if (n >= most || c->n == 1)
		return n < most ? n : most;
	n = 0;
	for (int i = 0; i < c->n && n < most; i++, at = 0) {
		size_t part = c->iov[i].iov_len - at;

		if (part > most - n)
			part = most - n;
		memcpy(staging + n, (const unsigned char *)c->iov[i].iov_base + at, part);
		n += part;
	}
	*bytes = staging;
	return n;
}

static ssize_t
write_bytes(struct transport *t, const struct iovec *iov, int n_iov)
{
	struct tls_transport *s = self(t);
	struct cursor at = {iov, n_iov, 0};
	const unsigned char *bytes = NULL;
	size_t taken = 0, left = 0, n;

	if (s->failed || !s->established)
		return s->failed ? IO_ERROR : IO_AGAIN;
	if (!overflow_flush(s))
		return s->failed ? IO_ERROR : IO_AGAIN;
	if (s->unsent != 0) { /* the same bytes are offered again: they are out now */
		taken = s->unsent;
		s->unsent = 0;
		advance(&at, taken);
	}
	for (int i = 0; i < n_iov; i++)
		left += iov[i].iov_len;
	while ((n = gather(&at, RECORD_MAX, &bytes)) > 0) {
		clean_errors();
		/* the kernel makes packets of several records, not one or two of each */
		s->more_follows = taken + n < left;
		int put = SSL_write(s->ssl, bytes, (int)n);

		s->more_follows = false;
		if (put <= 0 || flooded(s)) {
			(void)failed_for_good(s);
			break;
		}
		if (s->overflow != NULL) {
			s->unsent = (size_t)put;
			break;
		}
		taken += (size_t)put;
		advance(&at, (size_t)put);
	}
	if (taken > 0)
		return (ssize_t)taken;
	return s->failed ? IO_ERROR : IO_AGAIN;
}

/* --- the end ------------------------------------------------------------------------ */

static void
say_goodbye(struct tls_transport *s)
{
	if (!s->established || s->failed || (SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN) != 0)
		return;
	clean_errors();
	(void)SSL_shutdown(s->ssl); /* 0: the peer has not said it yet */
	clean_errors();
}

static void
shut(struct transport *t)
{
	struct tls_transport *s = self(t);

	say_goodbye(s);
	s->shutting = s->overflow != NULL;
	if (s->shutting)
		update_interest(s);
	else
		wire_shutdown(&s->wire);
}

static void
close_transport(struct transport *t)
{
	struct tls_transport *s = self(t);

	if (s->ssl != NULL) {
		if (!t->abort)
			say_goodbye(s);
		/* a connection that just ends does not make its session a bad one */
		SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(s->ssl);
		clean_errors();
	}
	wire_fini(&s->wire);
	tls_server_free(s->server);
	tls_client_free(s->client);
	free(s->peer.sni);
	free(s->peer.name);
	free(s->overflow);
	s->magic = 0;
	free(s);
}

const struct transport_ops tls_transport_ops = {
    .read = read_bytes,
    .writev = write_bytes,
    .want = want,
    .pending = pending,
    .shutdown = shut,
    .close = close_transport,
};

/* --- from the socket ---------------------------------------------------------------- */

static void
opened(struct wire *w)
{
	struct tls_transport *s = of_wire(w);

	if (w->client)
		handshake(s); /* the first word is ours */
	else
		wire_want(w, true, false);
}

/* The overflow first: it is older than what the conn has to write.  false: it is still there. */
static bool
writable_now(struct tls_transport *s)
{
	if (!overflow_flush(s))
		return false;
	if (s->shutting) {
		s->shutting = false;
		wire_shutdown(&s->wire);
	}
	update_interest(s);
	return true;
}

static void
ready(struct wire *w, bool readable, bool writable)
{
	struct tls_transport *s = of_wire(w);

	if (w->transport.conn->dead)
		return;
	if (!s->established) {
		if (writable)
			(void)overflow_flush(s);
		handshake(s);
		return;
	}
	writable = writable && writable_now(s) && s->want_write;
	readable = readable && s->want_read;
	if (s->failed)
		conn_lost(w->transport.conn, w->client ? OUTCOME_BACK_RESET : OUTCOME_CLIENT_GONE);
	else if (readable || writable)
		conn_ready(w->transport.conn, readable, writable);
}

const struct wire_kind tls_wire_kind = {
    .opened = opened,
    .ready = ready,
};

static struct tls_transport *
new_transport(void)
{
	struct tls_transport *s = calloc(1, sizeof *s);

	ENSURE(s != NULL);
	s->magic = TLS_TRANSPORT_MAGIC;
	s->wire.transport.ops = &tls_transport_ops;
	s->wire.transport.tls = true;
	return s;
}

static void
prepare(struct tls_transport *s)
{
	if (s->ssl == NULL)
		return;
	attach(s);
	SSL_set_msg_callback(s->ssl, count_record);
	ENSURE(SSL_set_msg_callback_arg(s->ssl, s) == 1);
}

struct wire *
tls_transport_accepted(struct tls_server *server)
{
	struct tls_transport *s = new_transport();

	s->server = server;
	s->ssl = tls_server_ssl(server, &s->peer);
	prepare(s);
	return &s->wire;
}

struct wire *
tls_transport_connecting(struct tls_client *client, const char *name)
{
	struct tls_transport *s = new_transport();

	s->client = tls_client_ref(client);
	s->ssl = tls_client_ssl(client, name, &s->peer);
	prepare(s);
	return &s->wire;
}

/* --- what others ask ---------------------------------------------------------------- */

static struct tls_transport *
tls_of(struct transport *t)
{
	return t != NULL && t->ops == &tls_transport_ops ? self(t) : NULL;
}

bool
transport_covers(struct transport *t, const char *host, size_t n)
{
	const struct tls_transport *s = tls_of(t);

	if (s == NULL || s->server == NULL)
		return true;
	if (s->peer.named && strlen(s->peer.sni) == n && memcmp(s->peer.sni, host, n) == 0)
		return true; /* the usual case: what it was chosen by */
	return tls_certificate_covers(s->peer.certificate, host, n);
}
