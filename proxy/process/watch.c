/*
 * What backends' health makes of the states that workers look at.
 *
 *      operator (drained) > probes (starting, up, not ready, dead) -> backend.state -> every pick
 *
 * Control thread.
 */
#include <stdio.h>
#include <string.h>

#include "balancer/eject.h"
#include "proxy/base/log.h"
#include "proxy/process/control_private.h"

static enum backend_state
state_of(const struct control *c, const struct known_backend *k)
{
	const struct health *h = probes_of(c->probes, k);

	if (k->drained)
		return BACKEND_DRAINING;
	if (h == NULL)
		return BACKEND_UP;
	switch (h->state) {
	case HEALTH_STARTING:
		return BACKEND_STARTING;
	case HEALTH_UP:
		return BACKEND_UP;
	case HEALTH_NOT_READY:
	case HEALTH_DEAD:
		break;
	}
	return BACKEND_DOWN;
}

/* The state it was in. */
static enum backend_state
show(struct control *c, struct known_backend *k)
{
	enum backend_state now = state_of(c, k);
	enum backend_state was = (enum backend_state)atomic_exchange(&k->backend.state, (int)now);

	if (now == BACKEND_UP && was != BACKEND_UP) /* slow start counts from here */
		atomic_store(&k->backend.up_since_ms, control_now_ms());
	return was;
}

void
watch_show(struct control *c)
{
	/* Who has left the pool keeps its state: a worker that has not adopted the new fleet yet
	 * may still send it something. */
	for (unsigned i = 0; i < c->roster.n_backends; i++) {
		if (c->roster.backends[i]->member)
			(void)show(c, c->roster.backends[i]);
	}
}

static void
tell(struct control *c, const struct known_backend *k, enum backend_state was,
    enum backend_state now)
{
	const char *service = c->config->services[k->service].name;
	const char *color = color_name(k->backend.color);
	char reason[HEALTH_SAW_MAX + 64];

	control_backend_reason(c, &k->backend, reason, sizeof(reason));
	if (now == BACKEND_UP) {
		log_info("%s: backend %s (%s) is up", service, k->backend.name, color);
		events_emit(c->events, "backend_up", service,
		    json_pack("{s:s, s:s}", "backend", k->backend.name, "color", color));
	} else if (was == BACKEND_UP || now == BACKEND_DOWN) {
		log_warn("%s: backend %s (%s) is %s: %s", service, k->backend.name, color,
		    backend_state_name(now), reason);
		events_emit(c->events, "backend_down", service,
		    json_pack("{s:s, s:s, s:o}", "backend", k->backend.name, "color", color,
			"reason", json_string_nocheck(reason)));
	}
}

void
watch_changed(void *control, struct known_backend *k, bool close_connections)
{
	struct control *c = control;
	enum backend_state was = show(c, k);
	enum backend_state now = (enum backend_state)atomic_load(&k->backend.state);

	if (close_connections)
		control_close_backend(c, &k->backend);
	if (was == now)
		return;
	tell(c, k, was, now);
	c->save_soon = true;
}

void
watch_second(struct control *c)
{
	for (unsigned i = 0; i < c->roster.n_backends; i++) {
		struct known_backend *k = c->roster.backends[i];
		bool ejected = backend_ejected(&k->backend, control_now_ms());

		if (ejected && !k->ejected)
			events_emit(c->events, "backend_ejected",
			    c->config->services[k->service].name,
			    json_pack("{s:s, s:s}", "backend", k->backend.name, "color",
				color_name(k->backend.color)));
		k->ejected = ejected;
	}
}

const struct health *
control_health(struct control *c, const struct backend *b)
{
	return probes_of(c->probes, c->roster.backends[b->id]);
}
