/*
 * TLS towards the backends of a pool: whom to trust, whom to expect, and the newest session for
 * each name.
 *
 * Owner: the snapshot; connections keep a reference.  Immutable but for the sessions, which a
 * lock guards: it is taken once per connect and per ticket.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/codec/tls_context.h"

#define SESSIONS_MAX 64 /* names with a session kept; the oldest gives way */

struct session_slot {
	char *name;
	SSL_SESSION *session;
};

struct tls_client {
	atomic_uint refs;
	SSL_CTX *ctx;
	bool h2, verify;
	char *server_name; /* "": the backend's host */
	pthread_mutex_t lock;
	struct session_slot sessions[SESSIONS_MAX];
	unsigned n_sessions, next;
};

/* --- sessions ------------------------------------------------------------------------ */

static struct session_slot *
slot_of(struct tls_client *client, const char *name)
{
	for (unsigned i = 0; i < client->n_sessions; i++) {
		if (strcmp(client->sessions[i].name, name) == 0)
			return &client->sessions[i];
	}
	return NULL;
}

static struct session_slot *
new_slot(struct tls_client *client, const char *name)
{
	struct session_slot *slot;

	if (client->n_sessions < SESSIONS_MAX) {
		slot = &client->sessions[client->n_sessions++];
	} else {
		slot = &client->sessions[client->next++ % SESSIONS_MAX];
		SSL_SESSION_free(slot->session);
		free(slot->name);
	}
	slot->session = NULL;
	slot->name = strdup(name);
	ENSURE(slot->name != NULL);
	return slot;
}

/* SSL_CTX_sess_set_new_cb(3): 1 keeps the reference */
static int
new_session(SSL *ssl, SSL_SESSION *session)
{
	const struct tls_peer *peer = SSL_get_app_data(ssl);
	struct tls_client *client = peer->client;
	struct session_slot *slot;
	SSL_SESSION *old;

	if (SSL_SESSION_is_resumable(session) != 1)
		return 0;
	ENSURE(pthread_mutex_lock(&client->lock) == 0);
	slot = slot_of(client, peer->name);
	if (slot == NULL)
		slot = new_slot(client, peer->name);
	old = slot->session;
	slot->session = session;
	ENSURE(pthread_mutex_unlock(&client->lock) == 0);
	SSL_SESSION_free(old);
	return 1;
}

/* A copy: the library lets a TLS 1.3 session be used once and marks it, but connections come in
 * bursts. */
static void
use_session(struct tls_client *client, SSL *ssl, const char *name)
{
	const struct session_slot *slot;
	SSL_SESSION *session = NULL;

	ENSURE(pthread_mutex_lock(&client->lock) == 0);
	slot = slot_of(client, name);
	if (slot != NULL)
		session = SSL_SESSION_dup(slot->session);
	ENSURE(pthread_mutex_unlock(&client->lock) == 0);
	if (session != NULL)
		(void)SSL_set_session(ssl, session); /* refused: a full handshake */
	SSL_SESSION_free(session);
}

/* --- one connection -------------------------------------------------------------------- */

static bool
is_address(const char *name)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* What is expected of the certificate (RFC 9525 6), and asked for (RFC 6066 3: names only). */
static bool
expect_name(const struct tls_client *client, SSL *ssl, const char *name)
{
	if (name[0] == '\0')
		return !client->verify; /* a Unix socket without server_name: nothing to verify */
	if (is_address(name))
		return !client->verify ||
		       X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	if (SSL_set_tlsext_host_name(ssl, name) != 1)
		return false;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return !client->verify || SSL_set1_host(ssl, name) == 1;
}

static char *
name_of(const struct tls_client *client, const char *host)
{
	const char *from = client->server_name[0] != '\0' ? client->server_name : host;
	char *name = strdup(from != NULL ? from : "");
	size_t n;

	ENSURE(name != NULL);
	n = strlen(name);
	if (n > 1 && name[n - 1] == '.')
		name[n - 1] = '\0';
	return name;
}

SSL *
tls_client_ssl(struct tls_client *client, const char *host, struct tls_peer *peer)
{
	SSL *ssl = SSL_new(client->ctx);

	ENSURE(ssl != NULL);
	peer->client = client;
	peer->name = name_of(client, host);
	ENSURE(SSL_set_app_data(ssl, peer) == 1);
	SSL_set_connect_state(ssl);
	if (!expect_name(client, ssl, peer->name)) {
		ERR_clear_error();
		SSL_free(ssl);
		return NULL;
	}
	use_session(client, ssl, peer->name);
	return ssl;
}

bool
tls_client_h2(const struct tls_client *client)
{
	return client->h2;
}

/* --- the context -------------------------------------------------------------------------- */

static void
explain(char *err, size_t err_size, const char *what, const char *file)
{
	(void)snprintf(err, err_size, "%s %s: %s", what, file, tls_reason());
}

static bool
set_trust(SSL_CTX *ctx, const struct back_tls *config, char *err, size_t err_size)
{
	SSL_CTX_set_verify(ctx, config->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!config->verify)
		return true;
	if (config->ca[0] == '\0') {
		if (SSL_CTX_set_default_verify_paths(ctx) == 1)
			return true;
		explain(err, err_size, "certificates of", "the system");
		return false;
	}
	/* what the file holds is trusted as it is, an intermediate or a leaf too */
	(void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
	if (SSL_CTX_load_verify_locations(ctx, config->ca, NULL) == 1)
		return true;
	explain(err, err_size, "ca", config->ca);
	return false;
}

static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static bool
set_identity(SSL_CTX *ctx, const struct back_tls *config, char *err, size_t err_size)
{
	if (config->certificate[0] == '\0')
		return true;
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	if (SSL_CTX_use_certificate_chain_file(ctx, config->certificate) != 1)
		explain(err, err_size, "certificate", config->certificate);
	else if (SSL_CTX_use_PrivateKey_file(ctx, config->key, SSL_FILETYPE_PEM) != 1 ||
		 SSL_CTX_check_private_key(ctx) != 1)
		explain(err, err_size, "private key", config->key);
	else
		return true;
	return false;
}

static bool
set_protocol(SSL_CTX *ctx, bool h2)
{
	static const unsigned char only_h2[] = "\x02h2", only_h1[] = "\x08http/1.1";

	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	(void)SSL_CTX_set_session_cache_mode(
	    ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, new_session);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_alpn_protos(ctx, h2 ? only_h2 : only_h1,
		   (unsigned)(h2 ? sizeof only_h2 : sizeof only_h1) - 1) == 0;
}

struct tls_client *
tls_client_new(const struct back_tls *config, bool h2, char *err, size_t err_size)
{
	struct tls_client *client = calloc(1, sizeof *client);

	ENSURE(client != NULL);
	atomic_init(&client->refs, 1);
	ENSURE(pthread_mutex_init(&client->lock, NULL) == 0);
	client->h2 = h2;
	client->verify = config->verify;
	client->server_name = strdup(config->server_name);
	client->ctx = SSL_CTX_new(TLS_client_method());
	ENSURE(client->server_name != NULL && client->ctx != NULL);
	ERR_clear_error();
	if (!set_protocol(client->ctx, h2))
		explain(err, err_size, "TLS", "context");
	else if (set_trust(client->ctx, config, err, err_size) &&
		 set_identity(client->ctx, config, err, err_size))
		return client;
	tls_client_free(client);
	return NULL;
}

struct tls_client *
tls_client_ref(struct tls_client *client)
{
	atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
	return client;
}

void
tls_client_free(struct tls_client *client)
{
	if (client == NULL ||
	    atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < client->n_sessions; i++) {
		SSL_SESSION_free(client->sessions[i].session);
		free(client->sessions[i].name);
	}
	SSL_CTX_free(client->ctx);
	free(client->server_name);
	(void)pthread_mutex_destroy(&client->lock);
	free(client);
}
