/*
 * From a request to what is done about it, for HTTP/1.1 and HTTP/2 alike.
 */
#ifndef ORIGIN_ANSWER_H
#define ORIGIN_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;

#define TARGET_MAX ((size_t)240)      /* bytes of a request target that are looked at and kept */
#define ECHO_MAX   ((size_t)64 << 20) /* bytes of a body that is given back; more is answered 413 */

struct request {
	bool head;    /* the method is HEAD */
	bool grpc;    /* the content-type says so */
	bool keep;    /* the body is kept: /echo */
	bool too_big; /* ECHO_MAX */
	unsigned n_target;
	unsigned char *body; /* owned; NULL without `keep` */
	size_t n_body, room;
	char target[TARGET_MAX + 1];
};

void request_begin(struct request *);
void request_end(struct request *);                          /* frees the body */
void request_target(struct request *, const void *, size_t); /* appends */
void request_head_done(struct request *);                    /* before its body */
void request_body(struct request *, const void *, size_t);

enum act {
	ACT_ANSWER,
	ACT_RESET,
	ACT_CLOSE,
	ACT_TRUNCATE,
	ACT_HANG,
};

struct answer {
	enum act act;
	unsigned status;
	unsigned grpc_status;
	bool json;
	bool own; /* its bytes are text[] or the request's body, not the pattern */
	size_t bytes;
	uint64_t due_us; /* 0: at once */
	char text[96];
};

/* Throws the dice, counts and journals. */
void answer_decide(struct worker *, const struct request *, struct answer *);
/* The bytes of an answer's own. */
static inline const unsigned char *
answer_own(const struct request *r, const struct answer *a)
{
	return a->json ? (const unsigned char *)a->text : r->body;
}

/* All other bodies: the byte at offset i is the pattern's at i modulo its size. */
#define PATTERN ((size_t)65536)
extern unsigned char pattern[PATTERN];
void pattern_init(void);

#endif
