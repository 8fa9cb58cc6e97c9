/*
 * Rise and fall, the startup gate.  See health.h.
 *
 * What was seen is kept apart from what follows from it: results change struct probe_health,
 * judge() derives the state from all of them, and move() is the one place that changes it.
 */
#include <stdio.h>
#include <string.h>

#include "config/parse.h"
#include "health/health.h"

const char *
probe_name(enum probe_kind kind)
{
	switch (kind) {
	case PROBE_LIVENESS:
		return "liveness";
	case PROBE_READINESS:
		return "readiness";
	case PROBE_STARTUP:
		return "startup";
	}
	return "";
}

/* --- what follows ------------------------------------------------------------ */

/* It has not decided, and nothing is known from before a restart. */
static bool
missing(const struct health *h, enum probe_kind kind)
{
	return h->config[kind].on && !h->probes[kind].known && !h->assumed;
}

static bool
failed(const struct health *h, enum probe_kind kind)
{
	return h->config[kind].on && h->probes[kind].known && !h->probes[kind].well;
}

static enum health_state
judge(const struct health *h)
{
	if (!h->started && h->late)
		return HEALTH_DEAD;
	if (!h->started && (missing(h, PROBE_STARTUP) || failed(h, PROBE_STARTUP)))
		return HEALTH_STARTING;
	if (failed(h, PROBE_LIVENESS))
		return HEALTH_DEAD;
	if (failed(h, PROBE_READINESS))
		return HEALTH_NOT_READY;
	if (missing(h, PROBE_LIVENESS) || missing(h, PROBE_READINESS))
		return HEALTH_STARTING;
	return HEALTH_UP;
}

static bool
move(struct health *h, int64_t now_ms)
{
	enum health_state was = h->state;

	h->state = judge(h);
	if (h->state == was)
		return false;
	h->changed_ms = now_ms;
	return true;
}

/* --- what is seen -------------------------------------------------------------- */

void
health_init(struct health *h, const struct probe_config *config, bool known_good, int64_t now_ms)
{
	memset(h, 0, sizeof(*h));
	h->config = config;
	h->assumed = known_good;
	h->started = !config[PROBE_STARTUP].on;
	h->began_ms = h->changed_ms = now_ms;
	h->state = judge(h);
}

static void
count(struct probe_health *p, const struct probe_config *c, enum probe_kind kind, bool ok)
{
	if (!p->known || (kind == PROBE_STARTUP && ok)) {
		p->known = true;
		p->well = ok;
		p->in_a_row = 0;
	} else if (ok == p->well) {
		p->in_a_row = 0;
	} else if (++p->in_a_row >= (ok ? c->rise : c->fall)) {
		p->well = ok;
		p->in_a_row = 0;
	}
}

static void
note(struct probe_health *p, bool ok, const char *saw, int64_t now_ms)
{
	if (ok)
		p->passed++;
	else
		p->failed++;
	p->last_ms = now_ms;
	if (strcmp(p->saw, saw) != 0) /* mostly it is */
		snprintf(p->saw, sizeof(p->saw), "%s", saw);
}

bool
health_observe(struct health *h, enum probe_kind kind, bool ok, const char *saw,
    const char *version, int64_t now_ms)
{
	struct probe_health *p = &h->probes[kind];
	bool was_dead = failed(h, PROBE_LIVENESS);

	note(p, ok, saw, now_ms);
	if (version[0] != '\0' && strcmp(h->version, version) != 0)
		snprintf(h->version, sizeof(h->version), "%s", version);
	count(p, &h->config[kind], kind, ok);
	if (kind == PROBE_STARTUP && p->well)
		h->started = true;
	else if (kind == PROBE_STARTUP)
		h->assumed = false; /* it is another process than the one that was known */
	if (!was_dead && failed(h, PROBE_LIVENESS))
		h->probes[PROBE_READINESS].known = h->assumed = false;
	return move(h, now_ms);
}

int64_t
health_deadline(const struct health *h)
{
	if (h->started || h->late)
		return INT64_MAX;
	return h->began_ms + h->config[PROBE_STARTUP].deadline_ms;
}

bool
health_tick(struct health *h, int64_t now_ms)
{
	if (now_ms < health_deadline(h))
		return false;
	h->late = true;
	return move(h, now_ms);
}

bool
health_asks(const struct health *h, enum probe_kind kind)
{
	if (!h->config[kind].on)
		return false;
	return kind == PROBE_STARTUP ? !h->started : h->started;
}

/* --- in words ---------------------------------------------------------------------- */

/* What it saw last; when that was good, how far it has come. */
static void
words(const struct health *h, enum probe_kind kind, const char *what, char *out, unsigned n)
{
	const struct probe_health *p = &h->probes[kind];

	if (p->in_a_row != 0)
		snprintf(out, n, "%s: %s (%u of %u passed)", what, p->saw, p->in_a_row,
		    h->config[kind].rise);
	else
		snprintf(out, n, "%s: %s", what, p->saw);
}

static void
starting(const struct health *h, char *out, unsigned n)
{
	enum probe_kind kind = !h->started ? PROBE_STARTUP
			       : h->config[PROBE_LIVENESS].on && !h->probes[PROBE_LIVENESS].known
				   ? PROBE_LIVENESS
				   : PROBE_READINESS;

	if (h->probes[kind].known)
		words(h, kind, "starting", out, n);
	else
		snprintf(out, n, "starting: waits for its first %s probe", probe_name(kind));
}

static void
dead(const struct health *h, char *out, unsigned n)
{
	char what[64], deadline[UNIT_TEXT_SIZE];

	if (h->started) {
		words(h, PROBE_LIVENESS, "not alive", out, n);
		return;
	}
	duration_print(h->config[PROBE_STARTUP].deadline_ms, deadline);
	snprintf(what, sizeof(what), "not started within %s", deadline);
	if (h->probes[PROBE_STARTUP].known)
		words(h, PROBE_STARTUP, what, out, n);
	else
		snprintf(out, n, "%s", what);
}

void
health_reason(const struct health *h, char *out, unsigned n)
{
	switch (h->state) {
	case HEALTH_STARTING:
		starting(h, out, n);
		break;
	case HEALTH_UP:
		snprintf(out, n, "%s", "");
		break;
	case HEALTH_NOT_READY:
		words(h, PROBE_READINESS, "not ready", out, n);
		break;
	case HEALTH_DEAD:
		dead(h, out, n);
		break;
	}
}
