/* A heap of moments.  See prober.h. */
#include <stdlib.h>
#include <string.h>

#include "health/prober.h"

/* --- the heap: WIDTH children each, none earlier than its parent ---------------------------- */

#define WIDTH ((size_t)4) /* half as deep as with 2: each move touches a slot somewhere in memory */

static void
put(struct prober *p, size_t i, struct entry e)
{
	p->heap[i] = e;
	e.slot->place = i + 1;
}

static void
up(struct prober *p, size_t i)
{
	struct entry e = p->heap[i];

	for (size_t parent; i > 0; i = parent) {
		parent = (i - 1) / WIDTH;
		if (p->heap[parent].at_ms <= e.at_ms)
			break;
		put(p, i, p->heap[parent]);
	}
	put(p, i, e);
}

static void
down(struct prober *p, size_t i)
{
	struct entry e = p->heap[i];

	for (size_t least; i * WIDTH + 1 < p->n; i = least) {
		least = i * WIDTH + 1;
		for (size_t c = least + 1; c <= i * WIDTH + WIDTH && c < p->n; c++) {
			if (p->heap[c].at_ms < p->heap[least].at_ms)
				least = c;
		}
		if (p->heap[least].at_ms >= e.at_ms)
			break;
		put(p, i, p->heap[least]);
	}
	put(p, i, e);
}

void
prober_forget(struct prober *p, struct slot *s)
{
	size_t place = s->place;
	struct entry last;

	if (place == 0)
		return;
	s->place = 0;
	last = p->heap[--p->n];
	if (last.slot == s)
		return;
	p->heap[place - 1] = last;
	if (place > 1 && p->heap[(place - 2) / WIDTH].at_ms > last.at_ms)
		up(p, place - 1);
	else
		down(p, place - 1);
}

static void
file(struct prober *p, struct slot *s, int64_t at_ms)
{
	prober_forget(p, s);
	s->at_ms = at_ms;
	if (p->n == p->room) {
		p->room = 2 * p->room + 16;
		p->heap = realloc(p->heap, p->room * sizeof(struct entry));
		if (p->heap == NULL)
			abort();
	}
	p->heap[p->n] = (struct entry){at_ms, s};
	up(p, p->n++);
}

/* --- moments --------------------------------------------------------------------------------- */

void
prober_init(struct prober *p, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	p->random = seed;
}

void
prober_fini(struct prober *p)
{
	free(p->heap);
	p->heap = NULL;
	p->n = p->room = 0;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t
draw(struct prober *p)
{
	uint64_t z = (p->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void
prober_first(struct prober *p, struct slot *s, int64_t interval_ms, int64_t now_ms)
{
	int64_t spread = interval_ms < FIRST_SPREAD_MS ? interval_ms : FIRST_SPREAD_MS;

	if (p->first_ms < now_ms || p->first_ms > now_ms + spread)
		p->first_ms = now_ms;
	s->asking = false;
	s->begun_ms = 0;
	file(p, s, p->first_ms);
	p->first_ms += FIRST_GAP_MS;
}

void
prober_ask(struct prober *p, struct slot *s, int64_t timeout_ms, int64_t now_ms)
{
	s->asking = true;
	s->begun_ms = now_ms;
	s->stalls_ms = p->stalls_ms;
	file(p, s, now_ms + timeout_ms);
}

/* The nearest multiple: with a tenth of the interval it stays within the jitter. */
static int64_t
on_grid(int64_t at_ms, int64_t interval_ms)
{
	int64_t grid = interval_ms / GRID_PARTS;

	if (grid > GRID_MAX_MS)
		grid = GRID_MAX_MS;
	return grid <= 1 ? at_ms : (at_ms + grid / 2) / grid * grid;
}

void
prober_again(struct prober *p, struct slot *s, int64_t interval_ms, int64_t now_ms)
{
	int64_t tenth = interval_ms / 10;
	int64_t jitter = (int64_t)(draw(p) % (uint64_t)(2 * tenth + 1)) - tenth;
	int64_t at = s->begun_ms + interval_ms + jitter;

	s->asking = false;
	at = on_grid(at, interval_ms);
	file(p, s, at > now_ms ? at : now_ms);
}

void
prober_at(struct prober *p, struct slot *s, int64_t at_ms)
{
	s->asking = false;
	file(p, s, at_ms);
}

struct slot *
prober_due(struct prober *p, int64_t now_ms)
{
	while (p->n > 0 && p->heap[0].at_ms <= now_ms) {
		struct slot *s = p->heap[0].slot;
		int64_t stalled = p->stalls_ms - s->stalls_ms;

		if (!s->asking || stalled == 0) {
			prober_forget(p, s);
			return s;
		}
		/* its answer may be here already: it is looked for first */
		s->stalls_ms = p->stalls_ms;
		file(p, s, s->at_ms + stalled);
	}
	return NULL;
}

int64_t
prober_next(const struct prober *p)
{
	return p->n > 0 ? p->heap[0].at_ms : INT64_MAX;
}

void
prober_stalled(struct prober *p, int64_t ms)
{
	p->stalls_ms += ms;
}
