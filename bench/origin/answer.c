/*
 * Which requests fail and how.  A worker's thread; the dice are its own and begin alike in every
 * run.
 *
 * First it is thrown for hanging, and a request that hangs does no more; then for failing, then for
 * being slow, and one that fails may be slow besides.  Health endpoints have no part in it.
 */
#include "bench/origin/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/origin/journal.h"
#include "bench/origin/worker.h"

unsigned char pattern[PATTERN];

void
pattern_init(void)
{
	/* 63 bytes, so that no piece of it looks like the one a power of two further on */
	static const char line[] =
	    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\n";

	for (size_t i = 0; i < PATTERN; i++)
		pattern[i] = (unsigned char)line[i % (sizeof line - 1)];
}

void
request_begin(struct request *r)
{
	r->head = r->grpc = r->keep = r->too_big = false;
	r->n_target = 0;
	r->body = NULL;
	r->n_body = r->room = 0;
}

void
request_end(struct request *r)
{
	free(r->body);
	r->body = NULL;
}

void
request_target(struct request *r, const void *p, size_t n)
{
	size_t left = TARGET_MAX - r->n_target;

	n = n < left ? n : left;
	memcpy(r->target + r->n_target, p, n);
	r->n_target += (unsigned)n;
}

static bool
path_is(const struct request *r, const char *path, size_t n)
{
	return r->n_target >= n && !memcmp(r->target, path, n) &&
	       (r->n_target == n || r->target[n] == '?');
}

void
request_head_done(struct request *r)
{
	r->target[r->n_target] = '\0';
	r->keep = path_is(r, "/echo", 5);
}

void
request_body(struct request *r, const void *p, size_t n)
{
	if (!r->keep || r->too_big)
		return;
	if (n > ECHO_MAX - r->n_body) {
		r->too_big = true;
		return;
	}
	if (r->n_body + n > r->room) {
		size_t room = r->room ? r->room : 4096;

		while (room < r->n_body + n)
			room *= 2;
		r->body = realloc(r->body, room);
		if (!r->body)
			abort();
		r->room = room;
	}
	memcpy(r->body + r->n_body, p, n);
	r->n_body += n;
}

/* xorshift64* */
static bool
happens(struct worker *w, uint64_t share)
{
	if (share == 0)
		return false;
	w->dice ^= w->dice >> 12;
	w->dice ^= w->dice << 25;
	w->dice ^= w->dice >> 27;
	return ((w->dice * 0x2545F4914F6CDD1DULL) >> 32) < share;
}

/* ?bytes=64k, anywhere in the query */
static bool
bytes_wanted(const struct request *r, size_t *bytes)
{
	const char *at = memchr(r->target, '?', r->n_target);

	while (at) {
		const char *word = at + 1, *end = strchr(word, '&');
		size_t n = end ? (size_t)(end - word) : strlen(word);

		if (n > 6 && !memcmp(word, "bytes=", 6))
			return script_size(word + 6, n - 6, bytes);
		at = end;
	}
	return false;
}

static bool
is_health(const struct request *r)
{
	return r->n_target > 8 && !memcmp(r->target, "/health/", 8) &&
	       (path_is(r, "/health/liveness", 16) || path_is(r, "/health/readiness", 17) ||
		   path_is(r, "/health/startup", 15));
}

static void
health(struct worker *w, struct answer *a)
{
	const struct script *s = &w->script;

	count(&w->counters.probes);
	a->status = s->unhealthy ? 503 : 200;
	a->json = a->own = true;
	a->bytes =
	    (size_t)snprintf(a->text, sizeof a->text, "{\"status\":\"%s\",\"version\":\"%s\"}",
		s->unhealthy ? "unhealthy" : "healthy", s->version);
}

static void
fail(struct worker *w, struct answer *a)
{
	const struct script *s = &w->script;

	count(&w->counters.failed);
	switch (s->how) {
	case HOW_STATUS:
		a->status = s->status;
		a->grpc_status = s->grpc_status;
		break;
	case HOW_RESET:
		a->act = ACT_RESET;
		break;
	case HOW_CLOSE:
		a->act = ACT_CLOSE;
		break;
	case HOW_TRUNCATE:
		a->act = ACT_TRUNCATE;
		break;
	}
}

static bool
fault(struct worker *w, struct answer *a)
{
	const struct script *s = &w->script;
	bool any = false;

	if (happens(w, s->hang)) {
		count(&w->counters.hung);
		a->act = ACT_HANG;
		return true;
	}
	if (happens(w, s->fail)) {
		fail(w, a);
		any = true;
	}
	if (s->latency_us && happens(w, s->slow)) {
		count(&w->counters.delayed);
		a->due_us = now_us() + s->latency_us;
		any = true;
	}
	return any;
}

void
answer_decide(struct worker *w, const struct request *r, struct answer *a)
{
	const struct script *s = &w->script;

	a->act = ACT_ANSWER;
	a->status = 200;
	a->grpc_status = 0;
	a->json = a->own = false;
	a->bytes = s->body;
	a->due_us = 0;
	if (is_health(r)) {
		health(w, a);
		return;
	}
	if (r->too_big) {
		a->status = 413;
		a->bytes = 0;
	} else if (r->keep) {
		a->own = true;
		a->bytes = r->n_body;
	} else {
		bytes_wanted(r, &a->bytes);
	}
	count(&w->counters.requests);
	bool faulty = fault(w, a);

	if (faulty) {
		uint64_t none = 0, now = now_us();

		atomic_compare_exchange_strong(&w->counters.first_fault_us, &none, now);
		atomic_store_explicit(&w->counters.last_fault_us, now, memory_order_relaxed);
	}
	if (a->act == ACT_TRUNCATE && a->bytes < 2) {
		a->own = false; /* so that there is something to leave out */
		a->bytes = 2;
	}
	if (s->log)
		journal_add(r->target, r->n_target, faulty);
}
