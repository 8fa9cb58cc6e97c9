/*
 * The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): whom a load balancer
 * before teal speaks for.
 *
 * proxy_parse() is pure.  proxy_read() takes exactly the header from a socket: what follows, a TLS
 * handshake or a request, stays there for the transport.  One thread.
 */
#ifndef TEAL_PROXY_PROTOCOL_H
#define TEAL_PROXY_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_V1_MAX ((size_t)107)  /* with CR LF (2.1) */
#define PROXY_V2_MAX ((size_t)4096) /* with addresses and TLVs; our limit, the protocol has none */

enum proxy_result {
	PROXY_MORE, /* a beginning of a header */
	PROXY_DONE,
	PROXY_BAD, /* no header, or a malformed one: close, silently */
};

struct proxy_header {
	bool known; /* false: LOCAL, UNKNOWN, AF_UNSPEC, AF_UNIX: the socket's own address counts */
	uint8_t source[16], destination[16]; /* v4 mapped */
	uint16_t source_port, destination_port;
};

/* Looks at the first n bytes of a connection.  *used: how many of them belong to the header (all
 * of them with PROXY_MORE). *out is filled with PROXY_DONE only. */
enum proxy_result proxy_parse(const void *bytes, size_t n, struct proxy_header *out, size_t *used);

struct proxy_reader {
	size_t n;
	unsigned char bytes[PROXY_V2_MAX];
};
/* Call when the non-blocking socket is readable, with a reader that was zeroed (n = 0) at first.
 * PROXY_MORE: call again when it is readable; nothing of the header is left in the socket, so
 * level-triggered readiness does not spin.  End of file and errors are PROXY_BAD. */
enum proxy_result proxy_read(struct proxy_reader *, int fd, struct proxy_header *out);

#endif
