/*
 * How an exchange ended: one row of outcome.def.  Pure data, any thread.
 */
#ifndef TEAL_OUTCOME_H
#define TEAL_OUTCOME_H

#include <stdbool.h>

enum retry { RETRY_NEVER, RETRY_IDEMPOTENT, RETRY_ANY };
enum blame { BLAME_NOBODY, BLAME_CLIENT, BLAME_BACKEND, BLAME_EDGE };

enum outcome {
#define OUTCOME(name, status, retry, blame, failure, word, sentence) OUTCOME_##name,
#include "balancer/outcome.def"
#undef OUTCOME
	N_OUTCOMES
};

struct outcome_row {
	unsigned short status; /* 0: none of ours */
	unsigned char retry;   /* enum retry */
	unsigned char blame;   /* enum blame */
	bool failure;          /* of the color */
	const char *word;      /* for the access log */
	const char *sentence;  /* for the error page */
};

extern const struct outcome_row outcome_table[N_OUTCOMES];

static inline const struct outcome_row *
outcome_row(enum outcome o)
{
	return &outcome_table[o];
}

#endif
