/*
 * Bytes over TCP, a Unix socket or TLS, non-blocking, and when they can move.  libevent gives
 * readiness only (event_assign, persistent, level-triggered); reads and writes go straight to the
 * socket or to SSL_read/SSL_write.  The tests have one in memory.
 *
 * Owner: the conn it was given to.  Thread: that worker's.
 */
#ifndef TEAL_TRANSPORT_H
#define TEAL_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "balancer/outcome.h"

struct conn;
struct transport;

enum { IO_EOF = 0, IO_AGAIN = -1, IO_ERROR = -2 };

struct transport_ops {
	/* > 0 bytes, IO_EOF (orderly end: FIN, close_notify; a TLS connection cut without close_notify is IO_ERROR
	 * for a backend: truncation, RFC 9110 / RFC 8446 6.1), IO_AGAIN, IO_ERROR. */
	ssize_t (*read)(struct transport *, void *, size_t);
	/* bytes taken (maybe fewer than offered), IO_AGAIN, IO_ERROR */
	ssize_t (*writev)(struct transport *, const struct iovec *, int n);
	/* Interest.  `read` false after EOF still notices a reset (edge-triggered), see conn_lost(). */
	void (*want)(struct transport *, bool read, bool write);
	/* Bytes already decrypted wait inside: readiness of the socket will not tell of them. */
	bool (*pending)(struct transport *);
	void (*shutdown)(struct transport *); /* no more writes: FIN, close_notify */
	void (*close)(struct transport *); /* frees; with `abort` set before: RST instead of FIN */
};

struct transport {
	const struct transport_ops *ops;
	struct conn *conn; /* who is told: conn_established, conn_ready, conn_lost */
	bool abort;        /* close with RST (SO_LINGER 0) */
	bool tls;
	bool alpn_h2; /* after the handshake: "h2" was chosen */
	bool resumed; /* after the handshake: a TLS session was resumed */
};

#endif
