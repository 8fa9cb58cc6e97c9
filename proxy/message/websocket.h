/*
 * The opening handshake of RFC 6455 section 4, which each hop does for itself: teal checks the backend's
 * Sec-WebSocket-Accept against a key of its own and computes the client's from the client's key.
 */
#ifndef TEAL_WEBSOCKET_H
#define TEAL_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>

#define WEBSOCKET_KEY    24
#define WEBSOCKET_ACCEPT 28

void websocket_key(char key[WEBSOCKET_KEY + 1]); /* random; never fails (ENSURE) */
void websocket_accept(const char *key, size_t n, char accept[WEBSOCKET_ACCEPT + 1]);
bool websocket_key_valid(const char *key, size_t n); /* 16 bytes in base64 */

#endif
