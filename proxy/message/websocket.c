/*
 * The opening handshake of RFC 6455.  Pure but for the random key; any thread.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/message/websocket.h"

#define GUID    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define KEY_RAW 16
#define SHA1    20

void
websocket_key(char key[WEBSOCKET_KEY + 1])
{
	unsigned char raw[KEY_RAW];

	ENSURE(RAND_bytes(raw, sizeof raw) == 1);
	ENSURE(EVP_EncodeBlock((unsigned char *)key, raw, sizeof raw) == WEBSOCKET_KEY);
}

void
websocket_accept(const char *key, size_t n, char accept[WEBSOCKET_ACCEPT + 1])
{
	unsigned char text[WEBSOCKET_KEY + sizeof GUID];
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n_hash = 0;

	ENSURE(n == WEBSOCKET_KEY); /* websocket_key_valid() was asked */
	memcpy(text, key, n);
	memcpy(text + n, GUID, sizeof GUID - 1);
	ENSURE(EVP_Digest(text, n + sizeof GUID - 1, hash, &n_hash, EVP_sha1(), NULL) == 1 &&
	       n_hash == SHA1);
	ENSURE(EVP_EncodeBlock((unsigned char *)accept, hash, SHA1) == WEBSOCKET_ACCEPT);
}

static bool
is_base64(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '+' || c == '/';
}

/* RFC 6455 4.2.1 item 5.  What the last character has beyond the 16 bytes is not looked at:
 * decoders differ about it and nothing depends on it. */
bool
websocket_key_valid(const char *key, size_t n)
{
	if (n != WEBSOCKET_KEY || key[n - 1] != '=' || key[n - 2] != '=')
		return false;
	for (size_t i = 0; i < n - 2; i++) {
		if (!is_base64((unsigned char)key[i]))
			return false;
	}
	return true;
}
