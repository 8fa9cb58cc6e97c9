/*
 * TLS over real sockets against the library itself as the peer: which certificate, which protocol,
 * which sessions; and what must not work: renegotiation, floods, cuts, plaintext, wrong names.
 */
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "config/config.h"
#include "proxy/codec/tls.h"
#include "proxy/codec/tls_context.h"
#include "tests/codec/certificates.h"
#include "tests/codec/loop.h"

#define H2    "\x02h2"
#define H1    "\x08http/1.1"
#define OTHER "\x05h3-29"

static struct loop loop;
static struct certificate a_ecdsa, a_rsa, b_ecdsa, by_cn, backend;

/* --- the peer: plain OpenSSL on the other end ------------------------------------- */

struct raw {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
	SSL_SESSION *session; /* the newest ticket */
	bool failed;
	unsigned records; /* of data received */
};

struct asks { /* what a client asks for */
	const char *sni, *alpn;
	SSL_SESSION *session;
	int version; /* TLS1_2_VERSION, TLS1_3_VERSION; 0: any */
	const char *sigalgs;
};

static int
keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct raw *r = SSL_get_app_data(ssl);

	SSL_SESSION_free(r->session);
	r->session = session;
	return 1;
}

static void
count_records(int writing, int version, int kind, const void *p, size_t n, SSL *ssl, void *arg)
{
	struct raw *r = arg;

	(void)version;
	(void)n;
	(void)ssl;
	if (writing == 0 && kind == SSL3_RT_INNER_CONTENT_TYPE &&
	    *(const unsigned char *)p == SSL3_RT_APPLICATION_DATA)
		r->records++;
}

static void
raw_init(struct raw *r, SSL_CTX *ctx, int fd)
{
	*r = (struct raw){.ctx = ctx, .fd = fd};
	assert_non_null(ctx);
	(void)SSL_CTX_set_session_cache_mode(
	    ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	r->ssl = SSL_new(ctx);
	assert_non_null(r->ssl);
	SSL_set_app_data(r->ssl, r);
	SSL_set_msg_callback(r->ssl, count_records);
	SSL_set_msg_callback_arg(r->ssl, r);
	(void)SSL_set_mode(
	    r->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	assert_int_equal(SSL_set_fd(r->ssl, fd), 1);
}

static void
raw_client(struct raw *r, int fd, const struct asks *asks)
{
	raw_init(r, SSL_CTX_new(TLS_client_method()), fd);
	SSL_set_connect_state(r->ssl);
	if (asks->sni != NULL)
		assert_int_equal(SSL_set_tlsext_host_name(r->ssl, asks->sni), 1);
	if (asks->alpn != NULL)
		assert_int_equal(SSL_set_alpn_protos(r->ssl, (const unsigned char *)asks->alpn,
				     (unsigned)strlen(asks->alpn)),
		    0);
	if (asks->version != 0) {
		assert_int_equal(SSL_set_min_proto_version(r->ssl, asks->version), 1);
		assert_int_equal(SSL_set_max_proto_version(r->ssl, asks->version), 1);
	}
	if (asks->sigalgs != NULL)
		assert_int_equal(SSL_set1_sigalgs_list(r->ssl, asks->sigalgs), 1);
	if (asks->session != NULL)
		assert_int_equal(SSL_set_session(r->ssl, asks->session), 1);
}

static void
raw_server(struct raw *r, int fd, const struct certificate *c)
{
	raw_init(r, SSL_CTX_new(TLS_server_method()), fd);
	SSL_set_accept_state(r->ssl);
	assert_int_equal(SSL_use_certificate_chain_file(r->ssl, c->chain), 1);
	assert_int_equal(SSL_use_PrivateKey_file(r->ssl, c->key, SSL_FILETYPE_PEM), 1);
}

static bool
again(struct raw *r, int result)
{
	int error = SSL_get_error(r->ssl, result);

	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		r->failed = true;
	ERR_clear_error();
	return false;
}

/* One step; true when done. */
static bool
raw_handshake(struct raw *r)
{
	int done = SSL_do_handshake(r->ssl);

	return done == 1 || again(r, done);
}

static size_t
raw_read(struct raw *r, void *to, size_t n)
{
	int got = SSL_read(r->ssl, to, (int)n);

	if (got > 0)
		return (size_t)got;
	return again(r, got) ? 1 : 0;
}

static bool
raw_hears(struct raw *r, const char *text)
{
	char got[256];
	size_t n = raw_read(r, got, strlen(text));

	if (n == 0)
		return false;
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
	return true;
}

static void
raw_says(struct raw *r, const void *p, size_t n)
{
	assert_int_equal(SSL_write(r->ssl, p, (int)n), n);
}

static bool
raw_ended(struct raw *r)
{
	char byte;

	(void)raw_read(r, &byte, 1);
	return r->failed;
}

static void
raw_fini(struct raw *r)
{
	SSL_set_shutdown(r->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(r->ssl);
	SSL_CTX_free(r->ctx);
	SSL_SESSION_free(r->session);
	if (r->fd >= 0)
		close(r->fd);
}

/* --- what is tested ----------------------------------------------------------------- */

#define MAX_CERTIFICATES 4

static struct listener_tls
listener(struct certificate_config *rows, const struct certificate *const *certificates)
{
	struct listener_tls l = {.on = true,
	    .certificates = rows,
	    .min_version = (char *)(uintptr_t) "1.2",
	    .ciphers = (char *)(uintptr_t) "",
	    .ciphersuites = (char *)(uintptr_t) "",
	    .http2 = true,
	    .session_tickets = true};

	for (; certificates[l.n_certificates] != NULL; l.n_certificates++) {
		const struct certificate *c = certificates[l.n_certificates];

		rows[l.n_certificates].chain = (char *)(uintptr_t)c->chain;
		rows[l.n_certificates].key = (char *)(uintptr_t)c->key;
	}
	return l;
}

static struct tls_server *
server_with(const struct certificate *const *certificates, bool http2, bool tickets)
{
	struct certificate_config rows[MAX_CERTIFICATES];
	struct listener_tls l = listener(rows, certificates);
	char err[256] = "";
	struct tls_server *server;

	l.http2 = http2;
	l.session_tickets = tickets;
	server = tls_server_new(&l, err, sizeof err);
	if (server == NULL)
		fail_msg("%s", err);
	return server;
}

static struct tls_server *
server_ab(void)
{
	const struct certificate *const both[] = {&a_ecdsa, &b_ecdsa, NULL};

	return server_with(both, true, true);
}

/* A client of `asks` before a transport of `server`, handshake done. */
static struct side *
meet(struct raw *r, struct tls_server *server, const struct asks *asks)
{
	int fd[2];
	struct side *s;

	tcp_pair(fd);
	s = side_new(&loop, transport_accepted(loop.base, fd[0], server), true);
	raw_client(r, fd[1], asks);
	LOOP_UNTIL(&loop, raw_handshake(r) && s->n_established == 1);
	return s;
}

static void
part(struct raw *r, struct side *s)
{
	side_free(s);
	raw_fini(r);
}

static bool
presented(struct raw *r, const struct certificate *c)
{
	FILE *f = fopen(c->chain, "r");
	X509 *want = PEM_read_X509(f, NULL, NULL, NULL);
	X509 *got = SSL_get1_peer_certificate(r->ssl);
	bool same;

	assert_non_null(want);
	assert_non_null(got);
	same = X509_cmp(want, got) == 0;
	X509_free(want);
	X509_free(got);
	fclose(f);
	return same;
}

static bool
covers(struct side *s, const char *host)
{
	return transport_covers(s->conn.transport, host, strlen(host));
}

/* --- the listener's side --------------------------------------------------------------- */

static void
bytes_go_both_ways(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test"};
	struct raw r;
	struct side *s = meet(&r, server, &asks);

	(void)state;
	s->echo = true;
	raw_says(&r, "hello", 5);
	LOOP_UNTIL(&loop, raw_hears(&r, "hello"));
	assert_false(s->conn.transport->resumed);
	tls_server_free(server); /* a reload: the connection keeps what it needs */
	assert_true(covers(s, "a.test"));
	raw_says(&r, "again", 5);
	LOOP_UNTIL(&loop, raw_hears(&r, "again"));
	part(&r, s);
}

static void
alpn(void **state)
{
	static const struct {
		const char *offer;
		bool http2, h2;
	} rows[] = {{H2 H1, true, true}, {H1 H2, true, true}, {H1, true, false},
	    {NULL, true, false}, {H2 H1, false, false}, {OTHER H1, true, false}};
	const struct certificate *const one[] = {&a_ecdsa, NULL};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tls_server *server = server_with(one, rows[i].http2, true);
		struct asks asks = {.sni = "a.test", .alpn = rows[i].offer};
		struct raw r;
		struct side *s = meet(&r, server, &asks);

		assert_int_equal(s->conn.transport->alpn_h2, rows[i].h2);
		part(&r, s);
		tls_server_free(server);
	}
}

static void
handshake_fails(struct tls_server *server, const struct asks *asks, int alert)
{
	int fd[2];
	struct side *s;
	struct raw r;
	unsigned long code;

	tcp_pair(fd);
	s = side_new(&loop, transport_accepted(loop.base, fd[0], server), true);
	raw_client(&r, fd[1], asks);
	for (int done; (done = SSL_do_handshake(r.ssl)) != 1;) {
		if (SSL_get_error(r.ssl, done) == SSL_ERROR_SSL)
			break;
		ERR_clear_error();
		loop_once(&loop);
	}
	code = ERR_peek_error();
	ERR_clear_error();
	assert_int_equal(ERR_GET_REASON(code), SSL_AD_REASON_OFFSET + alert);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->n_established, 0);
	assert_int_equal(s->n_lost, 1);
	assert_int_equal(s->why, OUTCOME_CLIENT_GONE);
	part(&r, s);
}

static void
alpn_without_a_match_is_an_alert(void **state)
{
	const struct certificate *const one[] = {&a_ecdsa, NULL};
	struct tls_server *both = server_with(one, true, true);
	struct tls_server *only_h1 = server_with(one, false, true);

	(void)state;
	handshake_fails(both, &(struct asks){.alpn = OTHER}, SSL_AD_NO_APPLICATION_PROTOCOL);
	handshake_fails(only_h1, &(struct asks){.alpn = H2}, SSL_AD_NO_APPLICATION_PROTOCOL);
	tls_server_free(both);
	tls_server_free(only_h1);
}

static void
names_with_odd_bytes_are_refused(void **state)
{
	struct tls_server *server = server_ab();

	(void)state;
	handshake_fails(server, &(struct asks){.sni = "a.test\r\nx"}, SSL_AD_UNRECOGNIZED_NAME);
	handshake_fails(server, &(struct asks){.sni = "a test"}, SSL_AD_UNRECOGNIZED_NAME);
	tls_server_free(server);
}

static void
certificate_by_name(void **state)
{
	/* a.test,*.w.a.test | b.test,192.0.2.1,2001:db8::1 */
	static const struct {
		const char *sni;
		bool a;
	} rows[] = {{"a.test", true}, {"A.TEST", true}, {"b.test", false}, {"x.w.a.test", true},
	    {"X.W.A.test", true}, {"unknown.test", true}, {NULL, true}, {"y.x.w.a.test", true}};
	struct tls_server *server = server_ab();

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
			struct asks asks = {.sni = rows[i].sni, .version = version};
			struct raw r;
			struct side *s = meet(&r, server, &asks);

			assert_true(presented(&r, rows[i].a ? &a_ecdsa : &b_ecdsa));
			part(&r, s);
		}
	}
	tls_server_free(server);
}

static void
wildcards_choose_too(void **state)
{
	const struct certificate *const b_first[] = {&b_ecdsa, &a_ecdsa, NULL};
	struct tls_server *server = server_with(b_first, true, true);
	static const struct {
		const char *sni;
		bool a;
	} rows[] = {{"x.w.a.test", true}, {"w.a.test", false}, {"y.x.w.a.test", false},
	    {".w.a.test", false}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct asks asks = {.sni = rows[i].sni};
		struct raw r;
		struct side *s = meet(&r, server, &asks);

		assert_true(presented(&r, rows[i].a ? &a_ecdsa : &b_ecdsa));
		part(&r, s);
	}
	tls_server_free(server);
}

static void
what_a_connection_covers(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test"};
	struct raw r;
	struct side *s = meet(&r, server, &asks);

	(void)state;
	assert_true(covers(s, "a.test"));
	assert_true(covers(s, "a.test."));
	assert_true(covers(s, "x.w.a.test"));
	assert_false(covers(s, "y.x.w.a.test"));
	assert_false(covers(s, "w.a.test"));
	assert_false(covers(s, "b.test"));
	assert_false(covers(s, "*.w.a.test"));
	assert_false(covers(s, "a.tes"));
	assert_false(covers(s, "xa.test"));
	assert_false(covers(s, ""));
	part(&r, s);

	asks.sni = "b.test";
	s = meet(&r, server, &asks);
	assert_true(covers(s, "b.test"));
	assert_true(covers(s, "192.0.2.1"));
	assert_true(covers(s, "[2001:db8::1]"));
	assert_true(covers(s, "[2001:DB8:0:0::1]"));
	assert_false(covers(s, "192.0.2.2"));
	assert_false(covers(s, "a.test"));
	part(&r, s);

	asks.sni = "unknown.test"; /* the first certificate is presented, and does not cover it */
	s = meet(&r, server, &asks);
	assert_false(covers(s, "unknown.test"));
	assert_true(covers(s, "a.test"));
	part(&r, s);
	tls_server_free(server);
}

static void
common_name_without_alternatives(void **state)
{
	const struct certificate *const both[] = {&a_ecdsa, &by_cn, NULL};
	struct tls_server *server = server_with(both, true, true);
	struct asks asks = {.sni = "cn.test"};
	struct raw r;
	struct side *s = meet(&r, server, &asks);

	(void)state;
	assert_true(presented(&r, &by_cn));
	assert_true(covers(s, "cn.test"));
	part(&r, s);
	asks.sni = "ignored.test"; /* a's common name: it has alternatives */
	s = meet(&r, server, &asks);
	assert_false(covers(s, "ignored.test"));
	part(&r, s);
	tls_server_free(server);
}

static void
rsa_and_ecdsa_for_the_same_names(void **state)
{
	const struct certificate *const both[] = {&a_ecdsa, &a_rsa, NULL};
	struct tls_server *server = server_with(both, true, true);
	struct raw r;
	struct side *s;

	(void)state;
	s = meet(&r, server, &(struct asks){.sni = "a.test", .sigalgs = "ECDSA+SHA256"});
	assert_true(presented(&r, &a_ecdsa));
	part(&r, s);
	s = meet(&r, server, &(struct asks){.sni = "a.test", .sigalgs = "RSA-PSS+SHA256"});
	assert_true(presented(&r, &a_rsa));
	part(&r, s);
	assert_true(tls_server_not_after(server, 0) > 0);
	assert_true(tls_server_not_after(server, 1) > 0);
	assert_int_equal(tls_server_not_after(server, 2), 0);
	tls_server_free(server);
}

static void
bad_files_are_refused(void **state)
{
	struct certificate mixed = a_ecdsa, missing = a_ecdsa, swapped = a_rsa;
	const struct certificate *const rows[][3] = {
	    {&mixed, NULL, NULL}, {&missing, NULL, NULL}, {&a_rsa, &swapped, NULL}};

	(void)state;
	strcpy(mixed.key, b_ecdsa.key);
	strcpy(missing.chain, "/nonexistent.pem");
	strcpy(
	    swapped.chain, a_ecdsa.chain); /* the key fits the other certificate of these names */
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct certificate_config files[MAX_CERTIFICATES];
		struct listener_tls l = listener(files, rows[i]);
		char err[256] = "";

		assert_null(tls_server_new(&l, err, sizeof err));
		assert_string_not_equal(err, "");
	}
	struct certificate_config files[MAX_CERTIFICATES];
	const struct certificate *const one[] = {&a_ecdsa, NULL};
	struct listener_tls l = listener(files, one);
	char err[256] = "";

	l.ciphers = (char *)(uintptr_t) "NO-SUCH-CIPHER";
	assert_null(tls_server_new(&l, err, sizeof err));
	assert_non_null(strstr(err, "NO-SUCH-CIPHER"));
}

/* --- sessions ------------------------------------------------------------------------------ */

/* A session of `server`; the caller's. */
static SSL_SESSION *
session_of(struct tls_server *server, const char *sni, int version)
{
	struct asks asks = {.sni = sni, .version = version};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	SSL_SESSION *session;

	s->echo = true;
	raw_says(&r, "x", 1);
	LOOP_UNTIL(&loop, raw_hears(&r, "x")); /* the tickets came before it */
	session = r.session;
	r.session = NULL;
	part(&r, s);
	return session;
}

static bool
resumes(struct tls_server *server, const char *sni, int version, SSL_SESSION *session)
{
	/* a copy: after one use the library thinks a TLS 1.3 session is used up */
	struct asks asks = {.sni = sni, .version = version, .session = SSL_SESSION_dup(session)};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	bool resumed = SSL_session_reused(r.ssl) == 1;

	assert_int_equal(s->conn.transport->resumed, resumed);
	part(&r, s);
	SSL_SESSION_free(asks.session);
	return resumed;
}

static void
sessions_resume(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_server *server = server_ab(), *reloaded = server_ab();
		SSL_SESSION *a = session_of(server, "a.test", version);
		SSL_SESSION *b = session_of(server, "b.test", version);

		assert_non_null(a);
		assert_true(resumes(server, "a.test", version, a));
		assert_true(resumes(reloaded, "a.test", version, a));
		assert_true(resumes(reloaded, "b.test", version, b));
		/* not for another certificate, neither way */
		assert_false(resumes(server, "b.test", version, a));
		assert_false(resumes(server, "a.test", version, b));
		assert_false(resumes(server, NULL, version, b));
		SSL_SESSION_free(a);
		SSL_SESSION_free(b);
		tls_server_free(server);
		tls_server_free(reloaded);
	}
}

static void
ticket_keys_grow_old(void **state)
{
	struct tls_server *server = server_ab();
	SSL_SESSION *session = session_of(server, "a.test", TLS1_3_VERSION);

	(void)state;
	tls_tickets_rotate();
	assert_true(resumes(server, "a.test", TLS1_3_VERSION, session));
	tls_tickets_rotate();
	assert_false(resumes(server, "a.test", TLS1_3_VERSION, session));
	SSL_SESSION_free(session);
	tls_server_free(server);
}

static void
no_tickets_when_switched_off(void **state)
{
	const struct certificate *const one[] = {&a_ecdsa, NULL};
	struct tls_server *server = server_with(one, true, false);

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_SESSION *session = session_of(server, "a.test", version);

		if (session != NULL)
			assert_false(resumes(server, "a.test", version, session));
		SSL_SESSION_free(session);
	}
	tls_server_free(server);
}

/* --- what must not work ----------------------------------------------------------------------- */

static void
garbage_and_cuts_end_the_handshake(void **state)
{
	static const char *const openings[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", ""};
	struct tls_server *server = server_ab();

	(void)state;
	for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
		int fd[2];
		struct side *s;
		size_t n = strlen(openings[i]);

		tcp_pair(fd);
		s = side_new(&loop, transport_accepted(loop.base, fd[0], server), true);
		assert_int_equal(send(fd[1], openings[i], n, MSG_NOSIGNAL), n);
		if (i > 0) {
			assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
			assert_false(s->gone); /* it may still go on */
			shutdown(fd[1], SHUT_WR);
		}
		LOOP_UNTIL(&loop, s->gone);
		assert_int_equal(s->n_established, 0);
		assert_int_equal(s->why, OUTCOME_CLIENT_GONE);
		side_free(s);
		close(fd[1]);
	}
	tls_server_free(server);
}

static void
old_versions_are_refused(void **state)
{
	struct tls_server *server = server_ab();
	struct certificate_config rows[MAX_CERTIFICATES];
	const struct certificate *const one[] = {&a_ecdsa, NULL};
	struct listener_tls l = listener(rows, one);
	char err[256];
	struct tls_server *modern;

	(void)state;
	l.min_version = (char *)(uintptr_t) "1.3";
	modern = tls_server_new(&l, err, sizeof err);
	assert_non_null(modern);
	handshake_fails(modern, &(struct asks){.version = TLS1_2_VERSION}, SSL_AD_PROTOCOL_VERSION);
	tls_server_free(server);
	tls_server_free(modern);
}

static void
renegotiation_is_refused(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test", .version = TLS1_2_VERSION};
	struct raw r;
	struct side *s = meet(&r, server, &asks);

	(void)state;
	assert_int_equal(SSL_renegotiate(r.ssl), 1);
	LOOP_UNTIL(&loop, raw_handshake(&r) || r.failed);
	assert_true(r.failed); /* no_renegotiation (RFC 5246 7.2.2) */
	part(&r, s);
	tls_server_free(server);
}

/* Hand-made TLS 1.3 KeyUpdates: the library's own API would wait for answers. */
static void
key_updates(struct raw *r, int n)
{
	for (int i = 0; i < n && !r->failed; i++) {
		assert_int_equal(SSL_key_update(r->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		if (SSL_do_handshake(r->ssl) != 1)
			r->failed = true;
	}
	ERR_clear_error();
}

static void
a_few_key_updates_are_fine(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test", .version = TLS1_3_VERSION};
	struct raw r;
	struct side *s = meet(&r, server, &asks);

	(void)state;
	s->echo = true;
	key_updates(&r, 32);
	raw_says(&r, "still here", 10);
	LOOP_UNTIL(&loop, raw_hears(&r, "still here"));
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	part(&r, s);
	tls_server_free(server);
}

static void
a_flood_of_key_updates_ends_it(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test", .version = TLS1_3_VERSION};
	struct raw r;
	struct side *s = meet(&r, server, &asks);

	(void)state;
	key_updates(&r, 33);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->why, OUTCOME_CLIENT_GONE);
	part(&r, s);
	tls_server_free(server);
}

/* The peer asks for new keys while half a record of ours waits for the socket: both get through. */
static void
key_update_while_blocked(void **state)
{
	const size_t many = (size_t)16 << 20;
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test", .version = TLS1_3_VERSION};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	struct transport *t = s->conn.transport;
	char *bytes = malloc(many), *got = malloc(many), ping[8] = "";
	size_t put = 0, n = 0;
	ssize_t taken, pinged = IO_AGAIN;

	(void)state;
	assert_non_null(bytes);
	assert_non_null(got);
	for (size_t i = 0; i < many; i++)
		bytes[i] = (char)(i * 13 + i / 999);
	do {
		struct iovec iov = {bytes + put, many - put};

		taken = t->ops->writev(t, &iov, 1);
		if (taken > 0)
			put += (size_t)taken;
	} while (taken > 0 && put < many);
	assert_int_equal(taken, IO_AGAIN);
	key_updates(&r, 3);
	raw_says(&r, "ping", 4);
	while (n < many || pinged <= 0) {
		struct iovec iov = {bytes + put, many - put};
		size_t part = raw_read(&r, got + n, many - n);

		assert_false(r.failed);
		n += part;
		if (pinged <= 0) {
			pinged = t->ops->read(t, ping, sizeof ping);
			assert_true(pinged == IO_AGAIN || pinged == 4);
			assert_true(pinged > 0 || !t->ops->pending(t));
		}
		if (part > 0 || put == many)
			continue;
		taken = t->ops->writev(t, &iov, 1);
		assert_true(taken > 0 || taken == IO_AGAIN);
		if (taken > 0)
			put += (size_t)taken;
	}
	assert_true(memcmp(bytes, got, many) == 0);
	assert_string_equal(ping, "ping");
	free(bytes);
	free(got);
	part(&r, s);
	tls_server_free(server);
}

static void
blocked_output_does_not_spin(void **state)
{
	const size_t many = (size_t)16 << 20;
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test"};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	char *bytes = calloc(1, many), got[16384];
	size_t n = 0;

	(void)state;
	assert_non_null(bytes);
	side_send(s, bytes, many);
	LOOP_UNTIL(&loop, s->conn.blocked);
	raw_says(&r, "unread", 6); /* paused: the output stands too high */
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	while (n < many) {
		size_t part = raw_read(&r, got, sizeof got);

		assert_false(r.failed);
		n += part;
		if (part == 0)
			loop_once(&loop);
	}
	LOOP_UNTIL(&loop, s->n_received == 6);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	free(bytes);
	part(&r, s);
	tls_server_free(server);
}

/* Half a record, then silence (attack: CPU spin on partial input). */
static void
half_a_record_does_not_spin(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test"};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	BIO *memory = BIO_new(BIO_s_mem());
	char *record;
	long n;

	(void)state;
	raw_says(&r, "first", 5);
	LOOP_UNTIL(&loop, s->n_received == 5);
	SSL_set0_wbio(r.ssl, memory);
	raw_says(&r, "second", 6);
	n = BIO_get_mem_data(memory, &record);
	assert_true(n > 10);
	for (long at = 0; at < n; at++) { /* at every byte of it */
		assert_int_equal(s->n_received, 5);
		assert_int_equal(send(r.fd, record + at, 1, MSG_NOSIGNAL), 1);
		if (at == 2 || at == 7)
			assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
		else
			loop_once(&loop);
	}
	LOOP_UNTIL(&loop, s->n_received == 11);
	assert_string_equal(s->received, "firstsecond");
	part(&r, s);
	tls_server_free(server);
}

static void
cut_client_is_at_its_end(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test"};

	(void)state;
	for (int notify = 0; notify < 2; notify++) {
		struct raw r;
		struct side *s = meet(&r, server, &asks);

		raw_says(&r, "question", 8);
		if (notify != 0)
			(void)SSL_shutdown(r.ssl);
		shutdown(r.fd, SHUT_WR);
		LOOP_UNTIL(&loop, s->n_eof == 1);
		assert_string_equal(s->received, "question");
		assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
		assert_int_equal(s->n_lost, 0);
		side_send(s, "answer", 6); /* half-closed: it still reads */
		LOOP_UNTIL(&loop, raw_hears(&r, "answer"));
		conn_shutdown_write(&s->conn);
		LOOP_UNTIL(&loop, raw_ended(&r));
		assert_true((SSL_get_shutdown(r.ssl) & SSL_RECEIVED_SHUTDOWN) != 0);
		part(&r, s);
	}
	tls_server_free(server);
}

/* --- records ------------------------------------------------------------------------ */

static void
small_pieces_are_one_record(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test", .version = TLS1_3_VERSION};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	char big[8192], got[16384];
	size_t n = 0;
	struct iovec iov[3] = {{big, 9}, {big + 9, 8000}, {big + 8009, 100}};

	(void)state;
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 3);
	assert_int_equal(s->conn.transport->ops->writev(s->conn.transport, iov, 3), 8109);
	LOOP_UNTIL(&loop, (n = raw_read(&r, got, sizeof got)) > 0);
	assert_int_equal(n, 8109);
	assert_memory_equal(got, big, n);
	assert_int_equal(r.records, 1);
	part(&r, s);
	tls_server_free(server);
}

static void
odd_pieces_keep_their_order(void **state)
{
	static const size_t sizes[] = {1, 16384, 9, 16383, 2, 40000, 3, 5000, 4096};
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test", .version = TLS1_3_VERSION};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	struct iovec iov[sizeof sizes / sizeof *sizes];
	size_t total = 0, n = 0;
	char *bytes = malloc(100000), *got = malloc(100000);

	(void)state;
	assert_non_null(bytes);
	assert_non_null(got);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		iov[i] = (struct iovec){bytes + total, sizes[i]};
		total += sizes[i];
	}
	for (size_t i = 0; i < total; i++)
		bytes[i] = (char)(i * 31 + i / 501);
	assert_int_equal(s->conn.transport->ops->writev(s->conn.transport, iov, 9), total);
	while (n < total) {
		n += raw_read(&r, got + n, total - n);
		assert_false(r.failed);
	}
	assert_memory_equal(got, bytes, total);
	assert_int_equal(r.records, (total + 16383) / 16384);
	free(bytes);
	free(got);
	part(&r, s);
	tls_server_free(server);
}

static void
many_records_in_one_packet(void **state)
{
	struct tls_server *server = server_ab();
	struct asks asks = {.sni = "a.test"};
	struct raw r;
	struct side *s = meet(&r, server, &asks);
	BIO *memory = BIO_new(BIO_s_mem());
	char *bytes;
	long n;

	(void)state;
	SSL_set0_wbio(r.ssl, memory);
	for (int i = 0; i < 100; i++)
		raw_says(&r, "0123456789", 10);
	n = BIO_get_mem_data(memory, &bytes);
	assert_int_equal(send(r.fd, bytes, (size_t)n, MSG_NOSIGNAL), n);
	LOOP_UNTIL(&loop, s->n_received == 1000);
	assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
	part(&r, s);
	tls_server_free(server);
}

/* The request comes in the same packet as the client's Finished. */
static void
data_with_the_finished(void **state)
{
	struct tls_server *server = server_ab();
	int fd[2];
	struct raw r;
	struct side *s;

	(void)state;
	tcp_pair(fd);
	s = side_new(&loop, transport_accepted(loop.base, fd[0], server), true);
	raw_client(&r, fd[1], &(struct asks){.sni = "a.test", .version = TLS1_3_VERSION});
	assert_false(raw_handshake(&r));
	while (SSL_get_state(r.ssl) != TLS_ST_OK) {
		BIO *memory = BIO_new(BIO_s_mem());
		char *bytes;
		long n;

		loop_once(&loop);
		SSL_set0_wbio(r.ssl, memory);
		if (raw_handshake(&r))
			raw_says(&r, "at once", 7);
		n = BIO_get_mem_data(memory, &bytes);
		if (n > 0)
			assert_int_equal(send(r.fd, bytes, (size_t)n, MSG_NOSIGNAL), n);
	}
	LOOP_UNTIL(&loop, s->n_received == 7);
	part(&r, s);
	tls_server_free(server);
}

/* --- towards backends --------------------------------------------------------------- */

static struct back_tls
trusting(const struct certificate *c)
{
	return (struct back_tls){.on = true,
	    .verify = true,
	    .ca = (char *)(uintptr_t)(c != NULL ? c->chain : ""),
	    .server_name = (char *)(uintptr_t) "",
	    .certificate = (char *)(uintptr_t) "",
	    .key = (char *)(uintptr_t) ""};
}

static struct tls_client *
client_of(const struct back_tls *config, bool h2)
{
	char err[256] = "";
	struct tls_client *client = tls_client_new(config, h2, err, sizeof err);

	if (client == NULL)
		fail_msg("%s", err);
	return client;
}

static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in,
    unsigned n_in, void *arg)
{
	const char *only = arg;
	unsigned char *chosen;

	(void)ssl;
	if (SSL_select_next_proto(&chosen, n, (const unsigned char *)only, (unsigned)strlen(only),
		in, n_in) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* A transport of `client` before a backend with that certificate, as far as it goes. */
static struct side *
call(struct raw *r, struct tls_client *client, const char *name, const struct certificate *c,
    const char *alpn_choice)
{
	struct sockaddr_storage to;
	unsigned len;
	int listener_fd = tcp_listen(&to, &len);
	struct side *s = side_new(
	    &loop, transport_connect(loop.base, (struct sockaddr *)&to, len, client, name), false);

	raw_server(r, tcp_accept(listener_fd), c);
	if (alpn_choice != NULL)
		SSL_CTX_set_alpn_select_cb(r->ctx, choose_alpn, (char *)(uintptr_t)alpn_choice);
	close(listener_fd);
	while (s->n_established == 0 && !s->gone) {
		if (!r->failed)
			(void)raw_handshake(r);
		loop_once(&loop);
	}
	return s;
}

static void
backend_is_verified(void **state)
{
	/* backend: b1.test, 127.0.0.1, ::1 */
	static const struct {
		const char *server_name, *host, *sni;
		bool good;
	} rows[] = {{"", "b1.test", "b1.test", true}, {"", "b1.test.", "b1.test", true},
	    {"", "other.test", NULL, false}, {"b1.test", "10.0.0.1", "b1.test", true},
	    {"other.test", "b1.test", NULL, false}, {"", "127.0.0.1", "", true},
	    {"", "::1", "", true}, {"", "127.0.0.2", NULL, false}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct back_tls config = trusting(&backend);
		struct tls_client *client;
		struct raw r;
		struct side *s;

		config.server_name = (char *)(uintptr_t)rows[i].server_name;
		client = client_of(&config, false);
		s = call(&r, client, rows[i].host, &backend, NULL);
		if (rows[i].good) {
			const char *sni = SSL_get_servername(r.ssl, TLSEXT_NAMETYPE_host_name);

			assert_int_equal(s->n_established, 1);
			assert_string_equal(sni != NULL ? sni : "", rows[i].sni);
		} else {
			assert_int_equal(s->n_established, 0);
			assert_int_equal(s->why, OUTCOME_BACK_TLS_FAILED);
			assert_non_null(strstr(tls_failure(), "certificate verify failed"));
		}
		part(&r, s);
		tls_client_free(client);
	}
}

static void
backend_nobody_vouches_for(void **state)
{
	struct back_tls config = trusting(NULL); /* the system's store */
	struct tls_client *client = client_of(&config, false);
	struct raw r;
	struct side *s = call(&r, client, "b1.test", &backend, NULL);

	(void)state;
	assert_int_equal(s->why, OUTCOME_BACK_TLS_FAILED);
	part(&r, s);
	tls_client_free(client);
	config.verify = false;
	client = client_of(&config, false);
	s = call(&r, client, "other.test", &backend, NULL);
	assert_int_equal(s->n_established, 1);
	part(&r, s);
	tls_client_free(client);
}

static void
backend_without_a_name_is_not_verified_blindly(void **state)
{
	struct back_tls config = trusting(&backend);
	struct tls_client *client = client_of(&config, false);
	struct raw r;
	struct side *s = call(&r, client, NULL, &backend, NULL);

	(void)state;
	assert_int_equal(s->n_established, 0);
	assert_int_equal(s->why, OUTCOME_BACK_TLS_FAILED);
	part(&r, s);
	tls_client_free(client);
}

static void
backend_must_choose_h2(void **state)
{
	struct back_tls config = trusting(&backend);
	struct tls_client *h2 = client_of(&config, true), *h1 = client_of(&config, false);
	struct raw r;
	struct side *s;

	(void)state;
	s = call(&r, h2, "b1.test", &backend, H2);
	assert_int_equal(s->n_established, 1);
	assert_true(s->conn.transport->alpn_h2);
	part(&r, s);
	s = call(&r, h2, "b1.test", &backend, NULL);
	assert_int_equal(s->n_established, 0);
	assert_int_equal(s->why, OUTCOME_BACK_TLS_FAILED);
	assert_non_null(strstr(tls_failure(), "ALPN"));
	part(&r, s);
	s = call(&r, h1, "b1.test", &backend, H1);
	assert_int_equal(s->n_established, 1);
	assert_false(s->conn.transport->alpn_h2);
	part(&r, s);
	tls_client_free(h2);
	tls_client_free(h1);
}

static void
backend_talks_before_the_handshake(void **state)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	struct back_tls config = trusting(&backend);
	struct tls_client *client = client_of(&config, false);
	struct sockaddr_storage to;
	unsigned len;
	int listener_fd = tcp_listen(&to, &len), fd;
	struct side *s = side_new(&loop,
	    transport_connect(loop.base, (struct sockaddr *)&to, len, client, "b1.test"), false);

	(void)state;
	fd = tcp_accept(listener_fd);
	assert_int_equal(send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL), sizeof answer - 1);
	LOOP_UNTIL(&loop, s->gone);
	assert_int_equal(s->n_established, 0);
	assert_int_equal(s->n_received, 0);
	assert_int_equal(s->why, OUTCOME_BACK_TLS_FAILED);
	side_free(s);
	close(fd);
	close(listener_fd);
	tls_client_free(client);
}

static void
cut_backend_is_an_error(void **state)
{
	struct back_tls config = trusting(&backend);
	struct tls_client *client = client_of(&config, false);

	(void)state;
	for (int notify = 0; notify < 2; notify++) {
		struct raw r;
		struct side *s = call(&r, client, "b1.test", &backend, NULL);

		LOOP_UNTIL(&loop, raw_handshake(&r));
		raw_says(&r, "half an ans", 11);
		if (notify != 0)
			(void)SSL_shutdown(r.ssl);
		shutdown(r.fd, SHUT_WR);
		LOOP_UNTIL(&loop, s->n_eof == 1 || s->gone);
		assert_int_equal(s->n_received, 11);
		assert_int_equal(s->n_eof, notify);
		if (notify == 0)
			assert_int_equal(s->why, OUTCOME_BACK_RESET);
		part(&r, s);
	}
	tls_client_free(client);
}

/* teal before teal: both transports, sessions resumed at connect. */
static void
back_sessions_resume(void **state)
{
	const struct certificate *const one[] = {&backend, NULL};
	struct tls_server *server = server_with(one, true, true);
	struct back_tls config = trusting(&backend);
	struct tls_client *client = client_of(&config, true);
	struct sockaddr_storage to;
	unsigned len;
	int listener_fd = tcp_listen(&to, &len);

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct side *back = side_new(&loop,
		    transport_connect(loop.base, (struct sockaddr *)&to, len, client, "b1.test"),
		    false);
		struct side *front = side_new(
		    &loop, transport_accepted(loop.base, tcp_accept(listener_fd), server), true);

		front->echo = true;
		side_send(back, "early", 5); /* waits for the handshake */
		LOOP_UNTIL(&loop, back->n_received == 5);
		assert_int_equal(front->conn.transport->resumed, i > 0);
		assert_int_equal(back->conn.transport->resumed, i > 0);
		assert_true(front->conn.transport->alpn_h2);
		assert_true(loop_idle_rounds(&loop) < IDLE_ROUNDS_MAX);
		conn_close_after_flush(&back->conn);
		LOOP_UNTIL(&loop, front->n_eof == 1);
		side_free(back);
		side_free(front);
	}
	close(listener_fd);
	tls_server_free(server);
	tls_client_free(client);
}

static void
bad_client_files_are_refused(void **state)
{
	struct back_tls config = trusting(&backend);
	char err[256] = "";

	(void)state;
	config.ca = (char *)(uintptr_t) "/nonexistent.pem";
	assert_null(tls_client_new(&config, false, err, sizeof err));
	assert_non_null(strstr(err, "/nonexistent.pem"));
	config = trusting(&backend);
	config.certificate = a_ecdsa.chain;
	config.key = b_ecdsa.key;
	assert_null(tls_client_new(&config, false, err, sizeof err));
}

static int
setup(void **state)
{
	(void)state;
	loop_init(&loop);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_fini(&loop);
	return 0;
}

static int
make_certificates(void **state)
{
	(void)state;
	certificate_make(&a_ecdsa, "ignored.test", "DNS:a.test,DNS:*.w.a.test", false);
	certificate_make(&a_rsa, "ignored.test", "DNS:*.w.a.test,DNS:A.test", true);
	certificate_make(&b_ecdsa, "b", "DNS:b.test,IP:192.0.2.1,IP:2001:db8::1", false);
	certificate_make(&by_cn, "cn.test", "", false);
	certificate_make(&backend, "backend", "DNS:b1.test,IP:127.0.0.1,IP:::1", false);
	return 0;
}

static int
remove_certificates(void **state)
{
	(void)state;
	certificates_remove();
	return 0;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(bytes_go_both_ways),
	    TEST(alpn),
	    TEST(alpn_without_a_match_is_an_alert),
	    TEST(names_with_odd_bytes_are_refused),
	    TEST(certificate_by_name),
	    TEST(wildcards_choose_too),
	    TEST(what_a_connection_covers),
	    TEST(common_name_without_alternatives),
	    TEST(rsa_and_ecdsa_for_the_same_names),
	    TEST(bad_files_are_refused),
	    TEST(sessions_resume),
	    TEST(ticket_keys_grow_old),
	    TEST(no_tickets_when_switched_off),
	    TEST(garbage_and_cuts_end_the_handshake),
	    TEST(old_versions_are_refused),
	    TEST(renegotiation_is_refused),
	    TEST(a_few_key_updates_are_fine),
	    TEST(a_flood_of_key_updates_ends_it),
	    TEST(key_update_while_blocked),
	    TEST(blocked_output_does_not_spin),
	    TEST(half_a_record_does_not_spin),
	    TEST(cut_client_is_at_its_end),
	    TEST(small_pieces_are_one_record),
	    TEST(odd_pieces_keep_their_order),
	    TEST(many_records_in_one_packet),
	    TEST(data_with_the_finished),
	    TEST(backend_is_verified),
	    TEST(backend_nobody_vouches_for),
	    TEST(backend_without_a_name_is_not_verified_blindly),
	    TEST(backend_must_choose_h2),
	    TEST(backend_talks_before_the_handshake),
	    TEST(cut_backend_is_an_error),
	    TEST(back_sessions_resume),
	    TEST(bad_client_files_are_refused),
	};

	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
