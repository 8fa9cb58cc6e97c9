/*
 * What control can tell of the whole: the fleet as it is, totals over all workers.  Control thread.
 */
#include <stdio.h>
#include <string.h>

#include "balancer/pick.h"
#include "proxy/base/obj.h"
#include "proxy/codec/tls.h"
#include "proxy/process/control_private.h"

const struct fleet *
control_fleet(struct control *c)
{
	return &c->roster.current->fleet;
}

struct service *
control_service(struct control *c, const char *name)
{
	struct fleet *f = &c->roster.current->fleet;

	for (unsigned i = 0; i < f->n_services; i++) {
		if (strcmp(f->services[i].config->name, name) == 0)
			return &f->services[i];
	}
	return NULL;
}

int64_t
control_started_wall_ms(struct control *c)
{
	return c->started_wall_ms;
}

bool
control_draining(struct control *c)
{
	return c->draining;
}

void
control_backend_reason(struct control *c, const struct backend *b, char *out, size_t n)
{
	const struct known_backend *k = c->roster.backends[b->id];
	const struct health *h = probes_of(c->probes, k);
	int64_t held = atomic_load(&b->held_until_ms) - control_now_ms();

	out[0] = '\0';
	if (k->drained)
		snprintf(out, n, "drained by an operator");
	else if (k->target.n == 0)
		snprintf(out, n, "its name could not be resolved");
	else if (h != NULL && h->state != HEALTH_UP)
		health_reason(h, out, (unsigned)n);
	else if (held > 0 && atomic_load(&b->connect_failures) == 0)
		snprintf(out, n, "ejected for %lld ms: it failed while its neighbours did not",
		    (long long)held);
	else if (held > 0)
		snprintf(out, n, "connecting failed (%u in a row), held down for %lld ms",
		    atomic_load(&b->connect_failures), (long long)held);
}

struct events *
control_events(struct control *c)
{
	return c->events;
}

void
control_totals(struct control *c, struct control_totals *t)
{
	uint64_t *listener_open = t->listener_open;

	memset(t, 0, sizeof(*t));
	t->listener_open = listener_open;
	_Static_assert(N_OUTCOMES <= sizeof(t->outcomes) / sizeof(t->outcomes[0]), "room for all");
	if (listener_open != NULL)
		memset(listener_open, 0, c->config->n_listeners * sizeof(uint64_t));
	for (unsigned i = 0; i < c->n_workers; i++) {
		const struct worker_counters *w = worker_counters(c->workers[i]);
		const struct counters *e = worker_engine_counters(c->workers[i]);

		t->connections_open += worker_connections(c->workers[i]);
		t->connections_total += atomic_load(&w->accepted);
		t->connections_refused += atomic_load(&w->refused);
		t->tls_handshakes_ok += atomic_load(&w->handshakes_ok);
		t->tls_handshakes_failed += atomic_load(&w->handshakes_failed);
		t->tls_resumed += atomic_load(&w->resumed);
		t->glitches_closed += atomic_load(&w->glitches_closed);
		t->rate_limited += atomic_load(&e->rate_limited);
		t->bad_requests += atomic_load(&e->outcomes[OUTCOME_BAD_REQUEST]);
		for (unsigned o = 0; o < N_OUTCOMES; o++)
			t->outcomes[o] += atomic_load(&e->outcomes[o]);
		for (size_t l = 0; listener_open != NULL && l < c->config->n_listeners; l++)
			listener_open[l] += atomic_load(&w->listener_open[l]);
	}
	t->log_lines_lost = logger_lost(c->logger);
}

unsigned
control_certificates(struct control *c, struct control_certificate *out, unsigned max)
{
	unsigned n = 0;

	for (size_t i = 0; i < c->config->n_listeners; i++) {
		const struct listener_tls *tls = &c->config->listeners[i].tls;

		for (size_t j = 0; tls->on && j < tls->n_certificates; j++, n++) {
			if (n < max)
				out[n] = (struct control_certificate){tls->certificates[j].chain,
				    tls_server_not_after(c->edge.tls[i], j)};
		}
	}
	return n;
}
