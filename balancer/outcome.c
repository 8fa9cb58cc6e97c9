/* The rows of outcome.def as a table. */
#include "balancer/outcome.h"

#define FINE    false
#define FAILURE true

const struct outcome_row outcome_table[N_OUTCOMES] = {
#define OUTCOME(name, status, retry, blame, failure, word, sentence)                               \
	[OUTCOME_##name] = {status, retry, BLAME_##blame, failure, word, sentence},
#include "balancer/outcome.def"
#undef OUTCOME
};
