/*
 * Session tickets (RFC 5077, RFC 8446 4.6.1) under two keys of the whole process, made at random
 * and never stored: the current one seals, both open.  A key seals for TICKET_LIFE_S and
 * opens for as long again, so a key that leaks tells of hours, not of months.
 *
 * What keeps a ticket to its certificate is not the key but the session id context (tls.c).
 *
 * Any thread; the lock is held for a copy, once per handshake.
 */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "proxy/base/obj.h"
#include "proxy/codec/tls_context.h"

#define KEY_NAME 16
#define IV       16

struct ticket_key {
	unsigned char name[KEY_NAME];
	unsigned char aes[32];
	unsigned char mac[32];
};

static struct {
	pthread_mutex_t lock;
	struct ticket_key current, previous;
	time_t since; /* 0: no key yet */
} ring = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
rotate(time_t now)
{
	bool first = ring.since == 0;

	ring.previous = ring.current;
	ENSURE(RAND_bytes((unsigned char *)&ring.current, sizeof ring.current) == 1);
	if (first || now - ring.since >= 2 * (time_t)TICKET_LIFE_S) /* too old to open either */
		ENSURE(RAND_bytes((unsigned char *)&ring.previous, sizeof ring.previous) == 1);
	ring.since = now;
}

void
tls_tickets_rotate(void)
{
	time_t now = time(NULL);

	ENSURE(pthread_mutex_lock(&ring.lock) == 0);
	rotate(now);
	ENSURE(pthread_mutex_unlock(&ring.lock) == 0);
}

static void
key_to_seal(struct ticket_key *key)
{
	time_t now = time(NULL);

	ENSURE(pthread_mutex_lock(&ring.lock) == 0);
	if (ring.since == 0 || now - ring.since >= TICKET_LIFE_S || now < ring.since)
		rotate(now);
	*key = ring.current;
	ENSURE(pthread_mutex_unlock(&ring.lock) == 0);
}

/* 0: unknown; 1: the current key; 2: the one before, give a new ticket */
static int
key_to_open(struct ticket_key *key, const unsigned char name[KEY_NAME])
{
	time_t now = time(NULL);
	int found = 0;

	ENSURE(pthread_mutex_lock(&ring.lock) == 0);
	if (ring.since != 0 && now - ring.since >= TICKET_LIFE_S)
		rotate(now);
	if (memcmp(name, ring.current.name, KEY_NAME) == 0) {
		*key = ring.current;
		found = 1;
	} else if (memcmp(name, ring.previous.name, KEY_NAME) == 0) {
		*key = ring.previous;
		found = 2;
	}
	ENSURE(pthread_mutex_unlock(&ring.lock) == 0);
	return found;
}

static EVP_CIPHER *cipher;

static void
fetch(void)
{
	cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	ENSURE(cipher != NULL);
}

static bool
begin_mac(EVP_MAC_CTX *mac, struct ticket_key *key)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
	    OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3) */
static int
ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *crypt,
    EVP_MAC_CTX *mac, int seal)
{
	struct ticket_key key;
	int result = -1;

	(void)ssl;
	if (seal != 0) {
		key_to_seal(&key);
		memcpy(name, key.name, KEY_NAME);
		if (RAND_bytes(iv, IV) == 1 &&
		    EVP_EncryptInit_ex2(crypt, cipher, key.aes, iv, NULL) == 1 &&
		    begin_mac(mac, &key))
			result = 1;
	} else {
		int found = key_to_open(&key, name);

		if (found == 0)
			return 0; /* a full handshake */
		if (EVP_DecryptInit_ex2(crypt, cipher, key.aes, iv, NULL) == 1 &&
		    begin_mac(mac, &key))
			result = found;
	}
	OPENSSL_cleanse(&key, sizeof key);
	return result;
}

void
tls_tickets_use(SSL_CTX *ctx)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	ENSURE(pthread_once(&once, fetch) == 0);
	ENSURE(SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key) == 1);
	(void)SSL_CTX_set_timeout(ctx, TICKET_LIFE_S);
}
