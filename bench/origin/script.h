/*
 * What the origin does now: the answers it gives and the faults it has, as said over the control
 * socket.  Control owns the one that counts; each worker has a copy and takes a new one between two
 * turns.
 */
#ifndef ORIGIN_SCRIPT_H
#define ORIGIN_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_VERSION  32                  /* bytes of the version's text, NUL included */
#define SCRIPT_ALWAYS   ((uint64_t)1 << 32) /* the share that is everything */
#define SCRIPT_BODY_MAX ((size_t)1 << 30)

/* How a failing request fails. */
enum how {
	HOW_STATUS,   /* an answer of `status`; gRPC: of `grpc_status` */
	HOW_RESET,    /* HTTP/1.1: RST on the connection; HTTP/2: RST_STREAM */
	HOW_CLOSE,    /* the connection is closed without an answer */
	HOW_TRUNCATE, /* half the body, then the end of the connection or RST_STREAM */
};

struct script {
	uint64_t fail, hang, slow; /* shares of requests, of SCRIPT_ALWAYS */
	enum how how;
	unsigned status, grpc_status;
	uint64_t latency_us; /* of the slow ones; 0: none is slow */
	bool refuse;         /* nobody listens */
	bool unhealthy;      /* what the health endpoints say */
	bool log;            /* keep the journal */
	size_t body;         /* bytes of an answer */
	char version[SCRIPT_VERSION];
};

void script_init(struct script *);
void script_reset(struct script *); /* all faults off; body, version and log stay */
/* Applies "key=value key=value ..." (changes the text), all of it or nothing; NULL, or what is
 * wrong. */
const char *script_set(struct script *, char *text);
bool script_version(struct script *, const char *text);

/* "1024", "64k", "1m"; n bytes of text */
bool script_size(const char *text, size_t n, size_t *);

#endif
