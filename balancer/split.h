/*
 * Which color.  The candidate's weight is exact at small numbers of requests: the n-th
 * request of a service goes to the candidate iff the n-th point of a low-discrepancy
 * sequence (multiples of the golden ratio mod 1, Weyl 1916, rounded to hundredths of a
 * percent) lies below the weight; the counter is one for all workers.  Any 10,000
 * requests in a row get the weight exactly, any window of any length within 4 requests.
 *
 * Sticky splits use bucket = SipHash(key) mod 10,000 and candidate iff bucket < weight,
 * so raising the weight moves people one way only.
 *
 * Request path, any worker, no lock.
 */
#ifndef TEAL_SPLIT_H
#define TEAL_SPLIT_H

#include <stddef.h>

#include "balancer/fleet.h"

/* Why this color; the access log's word. */
enum split_why { WHY_SPLIT, WHY_BUCKET, WHY_FORCED, WHY_RESCUE };
const char *split_why_word(enum split_why);

/* The next request's color by weight alone (takes one number of the sequence; none when
 * the weight is 0 or 10,000, where the number could change nothing). */
enum color split_next(struct service_state *);
/* Pure part: does point n lie below weight_bp? */
bool split_takes(uint64_t n, uint32_t weight_bp);

/* bucket 0..9,999 of a client key. */
uint32_t split_bucket(const struct service_state *, const void *key, size_t n);
enum color split_by_bucket(struct service_state *, uint32_t bucket);

/* A forced color: value is "blue:SECRET", "green:SECRET", "live:SECRET" or "candidate:SECRET".
 * Compared in constant time.  true and *c set when it fits; never when no secret is configured. */
bool split_forced(const struct service *, const char *value, size_t n, enum color *c);

#endif
