/*
 * Which backend of a pool: least in-flight of two random choices (Mitzenmacher 2001),
 * weighted round robin, or a consistent hash (Maglev, Eisenbud et al., NSDI 2016).
 *
 * Pure: told the time and given random bits.  O(1) in the number of backends in the
 * usual case.  Request path, any worker, no lock, no allocation.
 */
#ifndef TEAL_PICK_H
#define TEAL_PICK_H

#include "balancer/fleet.h"

#define PICK_TRIED_MAX 8

struct pick_request {
	int64_t now_ms;
	uint64_t random;                             /* fresh random bits */
	uint64_t key_hash;                           /* for BALANCE_HASH */
	const struct backend *tried[PICK_TRIED_MAX]; /* avoid these while there is another */
	unsigned n_tried;
};

enum pick_result {
	PICK_OK,
	PICK_NONE_UP, /* nobody is up (held down backends count as down) */
	PICK_ALL_FULL /* somebody is up, all are at max_in_flight */
};

/*
 * Chooses a member and, with PICK_OK, *has already counted it in* (backend->inflight + 1;
 * the caller owes pick_release()).  Not chosen: DRAINING, DOWN, STARTING, held down, full.
 * Weights count, and a slow-starting backend has (age / slow_start) of its weight, at
 * least a tenth.  Backups only when no primary is up (full primaries do not wake backups).
 * When every backend that is up was tried already, PICK_NONE_UP: a retry has nobody left
 * (and a primary that is up, tried or not, does not wake backups either).
 * When all that are UP are held down, the one not yet tried whose hold ends first is used (a
 * pool with one backend must not answer 503 for a second because of one failed connect).
 */
enum pick_result pick_member(
    const struct pool *, const struct pick_request *, const struct member **out);
void pick_release(struct backend *);

/* May `b` take a request now, fullness aside? */
bool backend_usable(const struct backend *b, int64_t now_ms);

/* After a connect: success clears the hold; the n-th failure in a row holds for
 * hold_down_ms * 2^(n-1), at most 32 x.  Failures that come in while it is held are part of
 * the one that began the hold: a hundred connects under way fail together, and must not
 * make half a minute of one second. */
void backend_connected(struct backend *);
void backend_connect_failed(struct backend *, const struct pool_config *, int64_t now_ms);

#endif
