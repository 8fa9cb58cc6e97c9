/*
 * One cell per worker; only that worker writes it, so a counter grows by a plain load and
 * store.  Whoever asks reads all cells as they are: each number is right, and two of them
 * may be one exchange apart.
 *
 * The window is a ring of one-second slots.  A writer that enters a second clears the slot
 * first and stamps it last (release), so a reader that sees the stamp sees it cleared.  The
 * slot being cleared was 64 seconds old, and no reader wants more than 61.
 *
 * tally_restart() only counts a generation on.  A cell says which generation its slots belong
 * to; its worker empties them when it first counts something newer, and readers pass over a
 * cell that is behind.  A reader under whose eyes that happened reads again.
 *
 * The histogram is log-linear (as HdrHistogram): 8 buckets per power of two, so a bucket is
 * at most an eighth as wide as the values in it.  Bucket 0 is below 100 us, the last is all
 * above 14 minutes.  A slot notes which groups of 8 it used: latencies have few, so reading
 * and clearing touch few.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/tally.h"

#define CACHE_LINE    64u
#define SUB_BITS      3 /* 8 buckets per octave */
#define SUBS          (1u << SUB_BITS)
#define OCTAVES       23u
#define BUCKETS       (1u + OCTAVES * SUBS + 1u)
#define GROUPS        ((BUCKETS + 7u) / 8u) /* bits of slot.used */
#define HEADS         (GROUPS * 8u)
#define BASE_US       100
#define LONGEST_US    INT64_C(1000000000000)
#define WINDOW_MIN_MS 1000
#define WINDOW_MAX_MS 60000

struct slot {
	_Atomic uint32_t requests, failures;
	_Atomic uint32_t used; /* bit g: heads[8 g .. 8 g + 7] are not all 0 */
	_Atomic uint32_t heads[HEADS];
};

struct cell {
	_Alignas(CACHE_LINE) _Atomic uint64_t requests;
	_Atomic uint64_t failures, inflight, sum_us;
	_Atomic uint64_t codes[TALLY_CODES];
	_Atomic int64_t first_ms;    /* 0: no request yet */
	_Atomic uint64_t overdue;    /* generation << 32 | how many */
	_Atomic uint32_t generation; /* of the slots */
	_Atomic uint64_t heads[HEADS];
	_Atomic int64_t
	    seconds[TALLY_SLOTS]; /* which each slot is; side by side, all are looked at */
	struct slot slots[TALLY_SLOTS];
};

struct tally {
	_Atomic uint32_t generation;
	_Atomic int64_t began_ms; /* of the generation; 0: the first */
	unsigned n_cells;
	void *block;
	struct cell *cells; /* in block */
};

#define NEVER INT64_C(-1) /* a slot's second when it is empty */

#define GET(p)    atomic_load_explicit(p, memory_order_relaxed)
#define SET(p, v) atomic_store_explicit(p, v, memory_order_relaxed)

struct tally *
tally_new(unsigned n_workers)
{
	struct tally *t = malloc(sizeof *t);

	if (t == NULL)
		return NULL;
	/* calloc, aligned by hand: a cell is 50 KiB, and most of a quiet service's pages are
	 * never touched */
	atomic_init(&t->generation, 0);
	atomic_init(&t->began_ms, 0);
	t->n_cells = n_workers;
	t->block = calloc((size_t)n_workers + 1, sizeof *t->cells);
	if (t->block == NULL) {
		free(t);
		return NULL;
	}
	size_t past = (uintptr_t)t->block % CACHE_LINE;
	char *first = (char *)t->block + (past == 0 ? 0 : CACHE_LINE - past);
	t->cells = (struct cell *)(void *)first;
	return t;
}

void
tally_free(struct tally *t)
{
	if (t == NULL)
		return;
	free(t->block);
	free(t);
}

/* --- buckets --------------------------------------------------------------- */

static unsigned
bucket_of(int64_t us)
{
	if (us < BASE_US)
		return 0;
	/* in eighths of the base: SUBS.. */
	uint64_t x = (uint64_t)(us < LONGEST_US ? us : LONGEST_US) * SUBS / BASE_US;
	unsigned octave = 63u - SUB_BITS - (unsigned)__builtin_clzll(x);
	if (octave >= OCTAVES)
		return BUCKETS - 1;
	return 1 + octave * SUBS + (unsigned)((x >> octave) & (SUBS - 1));
}

/* The least value of bucket i, which is the end of the one before. */
static double
bucket_floor_us(unsigned i)
{
	if (i == 0)
		return 0;
	unsigned octave = (i - 1) / SUBS, sub = (i - 1) % SUBS;
	return (double)((uint64_t)(SUBS + sub) << octave) * BASE_US / SUBS;
}

static double
bucket_end_us(unsigned i)
{
	/* the last has none: what is in it counts as its least */
	return bucket_floor_us(i < BUCKETS - 1 ? i + 1 : i);
}

/* --- writing: worker w only ------------------------------------------------ */

static inline void
bump(_Atomic uint64_t *counter, uint64_t by)
{
	SET(counter, GET(counter) + by);
}

static inline void
bump32(_Atomic uint32_t *counter)
{
	SET(counter, GET(counter) + 1);
}

static struct cell *
cell_of(struct tally *t, unsigned w)
{
	assert(w < t->n_cells);
	return &t->cells[w];
}

static struct slot *
enter_second(struct cell *c, int64_t second)
{
	unsigned i = (unsigned)((uint64_t)second % TALLY_SLOTS);
	struct slot *s = &c->slots[i];

	if (GET(&c->seconds[i]) == second)
		return s;
	SET(&s->requests, 0);
	SET(&s->failures, 0);
	for (uint32_t used = GET(&s->used); used != 0; used &= used - 1) {
		unsigned group = (unsigned)__builtin_ctz(used);

		for (unsigned b = group * 8; b < group * 8 + 8; b++)
			SET(&s->heads[b], 0);
	}
	SET(&s->used, 0);
	atomic_store_explicit(&c->seconds[i], second, memory_order_release);
	return s;
}

/* Does what began in `generation` still count in the window?  The first that does empties the
 * cell's. */
static bool
counts_in_window(const struct tally *t, struct cell *c, uint32_t generation)
{
	if (generation != GET(&t->generation))
		return false;
	if (GET(&c->generation) == generation)
		return true;
	for (unsigned i = 0; i < TALLY_SLOTS; i++)
		SET(&c->seconds[i], NEVER);
	atomic_store_explicit(&c->generation, generation, memory_order_release);
	return true;
}

static unsigned
code_class(unsigned status)
{
	return status >= 100 && status <= 599 ? status / 100 - 1 : TALLY_CODES - 1;
}

static void
add_head(struct cell *c, struct slot *s, int64_t head_us)
{
	unsigned bucket = bucket_of(head_us);

	bump(&c->sum_us, (uint64_t)head_us);
	bump(&c->heads[bucket], 1);
	if (s == NULL)
		return;
	uint32_t bit = 1u << bucket / 8, used = GET(&s->used);
	if ((used & bit) == 0)
		SET(&s->used, used | bit);
	bump32(&s->heads[bucket]);
}

void
tally_add(struct tally *t, unsigned w, const struct tally_sample *sample)
{
	struct cell *c = cell_of(t, w);
	struct slot *s = NULL;

	if (!sample->unknown && counts_in_window(t, c, sample->generation))
		s = enter_second(c, sample->now_ms / 1000);
	if (GET(&c->first_ms) == 0)
		SET(&c->first_ms, sample->now_ms > 0 ? sample->now_ms : 1);
	bump(&c->requests, 1);
	bump(&c->codes[code_class(sample->status)], 1);
	if (s != NULL)
		bump32(&s->requests);
	if (sample->failure) {
		bump(&c->failures, 1);
		if (s != NULL)
			bump32(&s->failures);
	}
	if (sample->head_us >= 0)
		add_head(c, s, sample->head_us);
}

void
tally_begin(struct tally *t, unsigned w)
{
	bump(&cell_of(t, w)->inflight, 1);
}

void
tally_end(struct tally *t, unsigned w)
{
	struct cell *c = cell_of(t, w);
	uint64_t n = GET(&c->inflight);

	assert(n != 0);
	SET(&c->inflight, n - 1);
}

void
tally_overdue(struct tally *t, unsigned w, uint32_t n)
{
	SET(&cell_of(t, w)->overdue, (uint64_t)GET(&t->generation) << 32 | n);
}

/* --- control ---------------------------------------------------------------- */

void
tally_restart(struct tally *t, int64_t now_ms)
{
	SET(&t->began_ms, now_ms);
	atomic_fetch_add_explicit(&t->generation, 1, memory_order_release);
}

/* --- reading: any thread --------------------------------------------------- */

static void
add_life(const struct cell *c, struct tally_sum *out)
{
	out->requests += GET(&c->requests);
	out->failures += GET(&c->failures);
	out->inflight += GET(&c->inflight);
	for (unsigned i = 0; i < TALLY_CODES; i++)
		out->codes[i] += GET(&c->codes[i]);
}

struct window {
	uint64_t requests, failures;
	uint64_t heads[HEADS];
};

static void
add_slot(const struct slot *s, struct window *out)
{
	out->requests += GET(&s->requests);
	out->failures += GET(&s->failures);
	for (uint32_t used = GET(&s->used); used != 0; used &= used - 1) {
		unsigned group = (unsigned)__builtin_ctz(used);

		for (unsigned b = group * 8; b < group * 8 + 8; b++)
			out->heads[b] += GET(&s->heads[b]);
	}
}

static uint32_t
generation_now(const struct tally *t)
{
	return atomic_load_explicit(&t->generation, memory_order_acquire);
}

/* All slots of this generation from second `oldest` on. */
static void
sum_window(const struct tally *t, int64_t oldest, struct window *out)
{
	uint32_t generation;

	do {
		memset(out, 0, sizeof *out);
		generation = generation_now(t);
		for (unsigned w = 0; w < t->n_cells; w++) {
			const struct cell *c = &t->cells[w];

			if (atomic_load_explicit(&c->generation, memory_order_acquire) !=
			    generation)
				continue;
			/* a worker's clock may be a little ahead of the reader's: no upper bound */
			for (unsigned i = 0; i < TALLY_SLOTS; i++)
				if (atomic_load_explicit(&c->seconds[i], memory_order_acquire) >=
				    oldest)
					add_slot(&c->slots[i], out);
		}
	} while (generation_now(t) != generation);
}

/* The slot in which the window begins counts whole: better a second too much than a failure
 * missed. */
static int64_t
oldest_second(int64_t now_ms, int64_t window_ms)
{
	if (window_ms < WINDOW_MIN_MS)
		window_ms = WINDOW_MIN_MS;
	if (window_ms > WINDOW_MAX_MS)
		window_ms = WINDOW_MAX_MS;
	return now_ms > window_ms ? (now_ms - window_ms) / 1000 : 0;
}

/* The value with `per_mille` of all at or below it, taken as evenly spread in its bucket. */
static double
quantile_ms(const uint64_t heads[HEADS], unsigned per_mille)
{
	uint64_t n = 0, before = 0;

	for (unsigned i = 0; i < BUCKETS; i++)
		n += heads[i];
	if (n == 0)
		return 0;
	uint64_t rank = (n * per_mille + 999) / 1000; /* 1..n */
	unsigned i = 0;
	while (before + heads[i] < rank)
		before += heads[i++];
	double part = ((double)(rank - before) - 0.5) / (double)heads[i];
	double low = bucket_floor_us(i), high = bucket_end_us(i);
	return (low + part * (high - low)) / 1000;
}

/* When the first request of all came, ms; -1: none did. */
static int64_t
first_request_ms(const struct tally *t)
{
	int64_t first = -1;

	for (unsigned w = 0; w < t->n_cells; w++) {
		int64_t ms = GET(&t->cells[w].first_ms);

		if (ms != 0 && (first < 0 || ms < first))
			first = ms;
	}
	return first;
}

void
tally_sum(const struct tally *t, int64_t now_ms, int64_t window_ms, struct tally_sum *out)
{
	int64_t oldest = oldest_second(now_ms, window_ms);
	struct window window;

	memset(out, 0, sizeof *out);
	for (unsigned w = 0; w < t->n_cells; w++)
		add_life(&t->cells[w], out);
	sum_window(t, oldest, &window);
	if (window.requests == 0)
		return;
	out->window_requests = window.requests;
	out->window_failures = window.failures;
	/* over the time that was really looked at, at least a second: the first request is no
	 * thousand per second */
	int64_t first = first_request_ms(t), began = GET(&t->began_ms);
	int64_t begin = first > oldest * 1000 ? first : oldest * 1000;
	if (began > begin)
		begin = began;
	int64_t span = now_ms - begin > 1000 ? now_ms - begin : 1000;
	out->rps = (double)out->window_requests * 1000 / (double)span;
	out->failure_rate = (double)out->window_failures * 100 / (double)out->window_requests;
	out->p50_ms = quantile_ms(window.heads, 500);
	out->p95_ms = quantile_ms(window.heads, 950);
	out->p99_ms = quantile_ms(window.heads, 990);
}

/* Only buckets that are slow as a whole count: nobody is blamed for a bucket's width. */
static uint64_t
count_slow(const uint64_t heads[HEADS], int64_t slow_us)
{
	unsigned first = bucket_of(slow_us);
	uint64_t n = 0;

	if (bucket_floor_us(first) < (double)slow_us)
		first++;
	for (unsigned i = first; i < BUCKETS; i++)
		n += heads[i];
	return n;
}

static uint64_t
count_overdue(const struct tally *t)
{
	uint32_t generation = generation_now(t);
	uint64_t n = 0;

	for (unsigned w = 0; w < t->n_cells; w++) {
		uint64_t overdue = GET(&t->cells[w].overdue);

		/* said of an older generation: its worker has not ticked since */
		if (overdue >> 32 == generation)
			n += overdue & UINT32_MAX;
	}
	return n;
}

void
tally_look(const struct tally *t, int64_t now_ms, int64_t window_ms, int64_t slow_us,
    struct tally_look *out)
{
	struct window window;

	sum_window(t, oldest_second(now_ms, window_ms), &window);
	*out = (struct tally_look){.requests = window.requests,
	    .failures = window.failures,
	    .p95_ms = quantile_ms(window.heads, 950)};
	if (slow_us > 0) {
		out->slow = count_slow(window.heads, slow_us);
		out->overdue = count_overdue(t);
	}
}

uint32_t
tally_generation(const struct tally *t)
{
	return GET(&t->generation);
}

uint64_t
tally_inflight(const struct tally *t)
{
	uint64_t n = 0;

	for (unsigned w = 0; w < t->n_cells; w++)
		n += GET(&t->cells[w].inflight);
	return n;
}

uint64_t
tally_requests(const struct tally *t)
{
	uint64_t n = 0;

	for (unsigned w = 0; w < t->n_cells; w++)
		n += GET(&t->cells[w].requests);
	return n;
}

/* How many of `heads` are at or below a bound; a bucket it cuts counts in proportion. */
static uint64_t
count_below(const uint64_t heads[HEADS], int64_t bound_us)
{
	double bound = (double)bound_us;
	uint64_t n = 0;

	for (unsigned i = 0; i < BUCKETS && bucket_floor_us(i) < bound; i++) {
		double low = bucket_floor_us(i), high = bucket_end_us(i);

		if (high <= bound && high > low)
			n += heads[i];
		else if (high > low)
			n += (uint64_t)((double)heads[i] * (bound - low) / (high - low));
	}
	return n;
}

void
tally_histogram(const struct tally *t, const int64_t *bounds_us, unsigned n, uint64_t *counts,
    uint64_t *count, uint64_t *sum_us)
{
	uint64_t heads[HEADS] = {0};

	*count = *sum_us = 0;
	for (unsigned w = 0; w < t->n_cells; w++) {
		*sum_us += GET(&t->cells[w].sum_us);
		for (unsigned i = 0; i < BUCKETS; i++)
			heads[i] += GET(&t->cells[w].heads[i]);
	}
	for (unsigned i = 0; i < BUCKETS; i++)
		*count += heads[i];
	for (unsigned i = 0; i < n; i++)
		counts[i] = count_below(heads, bounds_us[i]);
}
