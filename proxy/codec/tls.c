/*
 * A listener's TLS: one SSL_CTX per set of names, chosen by the client's SNI.
 *
 * The choice is made in the ClientHello callback, before a ticket is looked at: the session id
 * context is then already that of the chosen certificate, so a session of a.test is not resumed
 * for b.test (the servername callback comes too late for TLS 1.3; compare CVE-2025-23419).  That
 * context is a hash of the certificate's names: the same after a reload, and after a renewal.
 *
 * Owner: the snapshot; connections keep a reference.  Immutable, any thread.
 */
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/base/obj.h"
#include "proxy/codec/tls_context.h"

/* AEAD with forward secrecy only (RFC 9113 9.2.2, RFC 9325 4.2); the cheaper AES first */
#define CIPHERS_12                                                                                 \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                               \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                               \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS        "X25519:P-256:P-384"
#define KEY_TYPES_MAX 4 /* certificates for the same names: RSA, ECDSA, EdDSA */

struct tls_certificate {
	SSL_CTX *ctx;
	struct tls_names names;
	int key_types[KEY_TYPES_MAX];
	unsigned n_key_types;
};

struct name_row {
	const char *name; /* the certificate's */
	size_t order;
	const struct tls_certificate *certificate;
};

struct tls_server {
	atomic_uint refs;
	bool http2;
	struct tls_certificate *certificates;
	size_t n_certificates;
	int64_t *not_after; /* by the configuration's index */
	size_t n_not_after;
	struct name_row *rows; /* sorted by name; the first certificate that has it wins */
	size_t n_rows;
};

const char *
tls_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return reason != NULL ? reason : "an error in the TLS library";
}

/* --- choosing ------------------------------------------------------------------- */

static int
by_name(const void *a, const void *b)
{
	const struct name_row *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order != 0)
		return order;
	return x->order < y->order ? -1 : x->order > y->order;
}

static const struct tls_certificate *
find(const struct tls_server *server, const char *name)
{
	size_t low = 0, high = server->n_rows;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(server->rows[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == server->n_rows || strcmp(server->rows[low].name, name) != 0)
		return NULL;
	return server->rows[low].certificate;
}

static const struct tls_certificate *
choose(const struct tls_server *server, const char *sni)
{
	const struct tls_certificate *certificate = find(server, sni);
	char wild[TLS_NAME_MAX + 1];

	if (certificate == NULL && tls_wildcard(sni, strlen(sni), wild))
		certificate = find(server, wild);
	return certificate;
}

/* The host_name of a server_name extension (RFC 6066 3), lower case. NULL: malformed. */
static char *
sni_parse(const unsigned char *p, size_t n)
{
	size_t length;
	char *sni;

	if (n < 5 || (size_t)(p[0] << 8 | p[1]) != n - 2 || p[2] != TLSEXT_NAMETYPE_host_name)
		return NULL;
	length = (size_t)(p[3] << 8 | p[4]);
	p += 5;
	if (length != n - 5 || length == 0 || length > TLS_NAME_MAX)
		return NULL;
	for (size_t i = 0; i < length; i++) {
		if (!isalnum(p[i]) && strchr("-._:[]", p[i]) == NULL)
			return NULL;
		if (p[i] == '\0')
			return NULL;
	}
	if (length > 1 && p[length - 1] == '.')
		length--;
	sni = malloc(length + 1);
	ENSURE(sni != NULL);
	for (size_t i = 0; i < length; i++)
		sni[i] = (char)tolower(p[i]);
	sni[length] = '\0';
	return sni;
}

/* SSL_CTX_set_client_hello_cb(3); once more after a HelloRetryRequest */
static int
client_hello(SSL *ssl, int *alert, void *arg)
{
	const struct tls_server *server = arg;
	struct tls_peer *peer = SSL_get_app_data(ssl);
	const struct tls_certificate *certificate;
	const unsigned char *p;
	size_t n;
	char *sni;

	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) != 1)
		return SSL_CLIENT_HELLO_SUCCESS;
	sni = sni_parse(p, n);
	if (sni == NULL) {
		*alert = SSL_AD_UNRECOGNIZED_NAME;
		return SSL_CLIENT_HELLO_ERROR;
	}
	free(peer->sni);
	peer->sni = sni;
	certificate = choose(server, sni);
	peer->named = certificate != NULL;
	peer->certificate = peer->named ? certificate : &server->certificates[0];
	if (SSL_set_SSL_CTX(ssl, peer->certificate->ctx) == NULL) {
		*alert = SSL_AD_INTERNAL_ERROR;
		return SSL_CLIENT_HELLO_ERROR;
	}
	return SSL_CLIENT_HELLO_SUCCESS;
}

/* Only says that the name was used (RFC 6066 3); the choice was made above. */
static int
servername(SSL *ssl, int *alert, void *arg)
{
	const struct tls_peer *peer = SSL_get_app_data(ssl);

	(void)alert;
	(void)arg;
	return peer->named ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* Our order decides (RFC 7301 3.2). */
static int
alpn(SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *in,
    unsigned n_in, void *arg)
{
	static const unsigned char both[] = "\x02h2\x08http/1.1";
	const struct tls_server *server = arg;
	const unsigned char *ours = server->http2 ? both : both + 3;
	unsigned n_ours = (unsigned)sizeof both - 1 - (server->http2 ? 0 : 3);
	unsigned char *chosen = NULL;

	(void)ssl;
	if (SSL_select_next_proto(&chosen, n_out, ours, n_ours, in, n_in) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --- loading ---------------------------------------------------------------------- */

static void
explain(char *err, size_t err_size, const char *what, const char *file)
{
	(void)snprintf(err, err_size, "%s %s: %s", what, file, tls_reason());
}

/* Never asks a terminal for a passphrase. */
static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static X509 *
read_leaf(const char *file, char *err, size_t err_size)
{
	BIO *bio = BIO_new_file(file, "r");
	X509 *leaf = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;

	if (leaf == NULL)
		explain(err, err_size, "certificate", file);
	BIO_free(bio);
	return leaf;
}

static EVP_PKEY *
read_key(const char *file, char *err, size_t err_size)
{
	BIO *bio = BIO_new_file(file, "r");
	EVP_PKEY *key =
	    bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;

	if (key == NULL)
		explain(err, err_size, "private key", file);
	BIO_free(bio);
	return key;
}

/* Sessions are bound to the names they were made for. */
static bool
set_session_context(SSL_CTX *ctx, const struct tls_names *names)
{
	unsigned char hash[SHA256_DIGEST_LENGTH];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

	for (size_t i = 0; ok && i < names->n; i++)
		ok = EVP_DigestUpdate(md, names->items[i], strlen(names->items[i]) + 1) == 1;
	ok = ok && EVP_DigestFinal_ex(md, hash, NULL) == 1 &&
	     SSL_CTX_set_session_id_context(ctx, hash, sizeof hash) == 1;
	EVP_MD_CTX_free(md);
	return ok;
}

static void
set_sessions(SSL_CTX *ctx, bool tickets)
{
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (tickets) {
		tls_tickets_use(ctx);
		(void)SSL_CTX_set_num_tickets(ctx, 2);
	} else {
		(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		(void)SSL_CTX_set_num_tickets(ctx, 0);
	}
}

static SSL_CTX *
new_context(struct tls_server *server, const struct listener_tls *config,
    const struct tls_names *names, char *err, size_t err_size)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	bool only_13 = strcmp(config->min_version, "1.3") == 0;
	const char *list = config->ciphers[0] != '\0' ? config->ciphers : CIPHERS_12;
	const char *suites = config->ciphersuites[0] != '\0' ? config->ciphersuites : CIPHERS_13;

	ENSURE(ctx != NULL);
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					   SSL_OP_CIPHER_SERVER_PREFERENCE |
					   SSL_OP_PRIORITIZE_CHACHA);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	set_sessions(ctx, config->session_tickets);
	SSL_CTX_set_client_hello_cb(ctx, client_hello, server);
	(void)SSL_CTX_set_tlsext_servername_callback(ctx, servername);
	SSL_CTX_set_alpn_select_cb(ctx, alpn, server);
	if (SSL_CTX_set_min_proto_version(ctx, only_13 ? TLS1_3_VERSION : TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set1_groups_list(ctx, GROUPS) != 1 || !set_session_context(ctx, names))
		explain(err, err_size, "TLS", "context");
	else if (SSL_CTX_set_cipher_list(ctx, list) != 1)
		explain(err, err_size, "ciphers", list);
	else if (SSL_CTX_set_ciphersuites(ctx, suites) != 1)
		explain(err, err_size, "ciphersuites", suites);
	else
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

/* The certificate with the same names and without a key of this type yet: RSA and ECDSA side by
 * side, the library picks by what the client can verify. */
static struct tls_certificate *
find_sibling(struct tls_server *server, const struct tls_names *names, int key_type)
{
	for (size_t i = 0; i < server->n_certificates; i++) {
		struct tls_certificate *c = &server->certificates[i];
		bool free_type = c->n_key_types < KEY_TYPES_MAX;

		for (unsigned j = 0; j < c->n_key_types; j++)
			free_type = free_type && c->key_types[j] != key_type;
		if (free_type && tls_names_equal(&c->names, names))
			return c;
	}
	return NULL;
}

static struct tls_certificate *
place(struct tls_server *server, const struct listener_tls *config, X509 *leaf, int key_type,
    char *err, size_t err_size)
{
	struct tls_names names;
	struct tls_certificate *c;

	tls_names_read(&names, leaf);
	c = find_sibling(server, &names, key_type);
	if (c != NULL) {
		tls_names_fini(&names);
	} else {
		SSL_CTX *ctx = new_context(server, config, &names, err, err_size);

		if (ctx == NULL) {
			tls_names_fini(&names);
			return NULL;
		}
		c = &server->certificates[server->n_certificates++];
		c->ctx = ctx;
		c->names = names;
	}
	c->key_types[c->n_key_types++] = key_type;
	return c;
}

static int64_t
not_after(const X509 *leaf)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &tm) != 1)
		return 0;
	return (int64_t)timegm(&tm);
}

static bool
load_one(struct tls_server *server, const struct listener_tls *config,
    const struct certificate_config *files, char *err, size_t err_size)
{
	X509 *leaf = read_leaf(files->chain, err, err_size);
	EVP_PKEY *key = leaf != NULL ? read_key(files->key, err, err_size) : NULL;
	struct tls_certificate *c;
	bool ok = false;

	if (key == NULL)
		goto out;
	if (X509_check_private_key(leaf, key) != 1) {
		ERR_clear_error();
		(void)snprintf(err, err_size,
		    "private key %s: it does not belong to certificate %s", files->key,
		    files->chain);
		goto out;
	}
	c = place(server, config, leaf, EVP_PKEY_get_base_id(key), err, err_size);
	if (c == NULL)
		goto out;
	if (SSL_CTX_use_certificate_chain_file(c->ctx, files->chain) != 1)
		explain(err, err_size, "certificate", files->chain);
	else if (SSL_CTX_use_PrivateKey(c->ctx, key) != 1)
		explain(err, err_size, "private key", files->key);
	else
		ok = true;
	server->not_after[server->n_not_after++] = not_after(leaf);
out:
	EVP_PKEY_free(key);
	X509_free(leaf);
	return ok;
}

static void
index_names(struct tls_server *server)
{
	size_t n = 0;

	for (size_t i = 0; i < server->n_certificates; i++)
		n += server->certificates[i].names.n;
	server->rows = calloc(n + 1, sizeof *server->rows);
	ENSURE(server->rows != NULL);
	for (size_t i = 0; i < server->n_certificates; i++) {
		const struct tls_certificate *c = &server->certificates[i];

		for (size_t j = 0; j < c->names.n; j++)
			server->rows[server->n_rows++] = (struct name_row){c->names.items[j], i, c};
	}
	qsort(server->rows, server->n_rows, sizeof *server->rows, by_name);
}

struct tls_server *
tls_server_new(const struct listener_tls *config, char *err, size_t err_size)
{
	struct tls_server *server = calloc(1, sizeof *server);

	ENSURE(server != NULL);
	atomic_init(&server->refs, 1);
	server->http2 = config->http2;
	server->certificates = calloc(config->n_certificates + 1, sizeof *server->certificates);
	server->not_after = calloc(config->n_certificates + 1, sizeof *server->not_after);
	ENSURE(server->certificates != NULL && server->not_after != NULL);
	ERR_clear_error();
	if (config->n_certificates == 0) {
		(void)snprintf(err, err_size, "no certificate is configured");
		tls_server_free(server);
		return NULL;
	}
	for (size_t i = 0; i < config->n_certificates; i++) {
		if (!load_one(server, config, &config->certificates[i], err, err_size)) {
			tls_server_free(server);
			return NULL;
		}
	}
	index_names(server);
	return server;
}

void
tls_server_free(struct tls_server *server)
{
	if (server == NULL ||
	    atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < server->n_certificates; i++) {
		SSL_CTX_free(server->certificates[i].ctx);
		tls_names_fini(&server->certificates[i].names);
	}
	free(server->certificates);
	free(server->not_after);
	free(server->rows);
	free(server);
}

int64_t
tls_server_not_after(const struct tls_server *server, size_t i)
{
	return i < server->n_not_after ? server->not_after[i] : 0;
}

SSL *
tls_server_ssl(struct tls_server *server, struct tls_peer *peer)
{
	SSL *ssl = SSL_new(server->certificates[0].ctx);

	ENSURE(ssl != NULL);
	atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
	peer->certificate = &server->certificates[0];
	ENSURE(SSL_set_app_data(ssl, peer) == 1);
	SSL_set_accept_state(ssl);
	return ssl;
}

bool
tls_certificate_covers(const struct tls_certificate *c, const char *name, size_t n)
{
	return tls_names_cover(&c->names, name, n);
}
