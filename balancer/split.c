/* Which color, see split.h.  Request path, any worker, no lock, no allocation. */
#include <string.h>

#include "balancer/hash.h"
#include "balancer/split.h"

#define ALL_BP 10000u

/*
 * The golden ratio in 1/10,000, rounded to a number prime to 10,000, so that n -> point is a
 * permutation of 0..9,999: a pure irrational step would be off by up to 3 even over 10,000
 * requests, and 0.01 % of 10,000 must be one.  It starts in the middle: a weight of 0.01 %
 * must not take the very first request, and 25 % takes one of the first four, not two.
 */
#define GOLDEN_STEP 6181u
#define FIRST_POINT 5000u

const char *
split_why_word(enum split_why why)
{
	switch (why) {
	case WHY_SPLIT:
		return "split";
	case WHY_BUCKET:
		return "bucket";
	case WHY_FORCED:
		return "forced";
	case WHY_RESCUE:
		return "rescue";
	}
	return "?";
}

bool
split_takes(uint64_t n, uint32_t weight_bp)
{
	return (n % ALL_BP * GOLDEN_STEP + FIRST_POINT) % ALL_BP < weight_bp;
}

enum color
split_next(struct service_state *state)
{
	uint32_t course = service_course(state), weight_bp = course_weight(course);
	enum color live = course_live(course);

	/* no rollout under way, the usual case: leave the shared cache line alone */
	if (weight_bp == 0)
		return live;
	if (weight_bp >= ALL_BP)
		return color_other(live);
	uint64_t n = atomic_fetch_add_explicit(&state->sequence, 1, memory_order_relaxed);
	return split_takes(n, weight_bp) ? color_other(live) : live;
}

uint32_t
split_bucket(const struct service_state *state, const void *key, size_t n)
{
	/* control may be writing a new key: then one request gets the bucket of a mixed key,
	 * as random as the old one and the new one */
	const uint64_t sip_key[2] = {
	    atomic_load_explicit(&state->split_key[0], memory_order_relaxed),
	    atomic_load_explicit(&state->split_key[1], memory_order_relaxed),
	};

	return (uint32_t)(hash_sip(sip_key, key, n) % ALL_BP);
}

enum color
split_by_bucket(struct service_state *state, uint32_t bucket)
{
	uint32_t course = service_course(state), weight_bp = course_weight(course);
	enum color live = course_live(course);

	return bucket < weight_bp ? color_other(live) : live;
}

/* Takes the same time wherever they differ; how long they are is no secret. */
static bool
same_secret(const char *a, size_t a_len, const char *b, size_t b_len)
{
	volatile unsigned char differ = 0;

	if (a_len != b_len)
		return false;
	for (size_t i = 0; i < a_len; i++)
		differ = (unsigned char)(differ | (a[i] ^ b[i]));
	return differ == 0;
}

static bool
parse_word(const struct service *s, const char *word, size_t n, enum color *c)
{
	enum color live = service_live(s);
	const struct {
		const char *word;
		enum color color;
	} words[] = {
	    {"blue", BLUE},
	    {"green", GREEN},
	    {"live", live},
	    {"candidate", color_other(live)},
	};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strlen(words[i].word) == n && memcmp(words[i].word, word, n) == 0) {
			*c = words[i].color;
			return true;
		}
	}
	return false;
}

bool
split_forced(const struct service *s, const char *value, size_t n, enum color *c)
{
	const char *secret = s->config->split.force_secret;
	const char *colon = n == 0 ? NULL : memchr(value, ':', n);
	enum color found;

	if (secret[0] == '\0' || colon == NULL)
		return false;
	size_t word_len = (size_t)(colon - value);
	if (!parse_word(s, value, word_len, &found))
		return false;
	if (!same_secret(colon + 1, n - word_len - 1, secret, strlen(secret)))
		return false;
	*c = found;
	return true;
}
