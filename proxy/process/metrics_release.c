/*
 * Metrics of releases: rollouts, trips, rescues, and what was announced of them.  See metrics.h.
 */
#include <inttypes.h>

#include "proxy/process/events.h"
#include "proxy/process/metrics_private.h"
#include "proxy/process/release.h"

/* One 0 or 1 per service and state. */
static void
rollouts(const struct scrape *m)
{
	metrics_family(
	    m, "teal_rollout_state", "gauge", "1 for the state the service's rollout is in.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];
		const struct release *r = control_release(m->control, s);

		for (int k = 0; k < N_ROLLOUT_STATES; k++) {
			fputs("teal_rollout_state{", m->out);
			metrics_label(m->out, "service", s->config->name);
			fprintf(m->out, ",state=\"%s\"} %d\n",
			    rollout_state_name((enum rollout_state)k), (int)r->rollout.state == k);
		}
	}
}

static void
trips(const struct scrape *m)
{
	metrics_family(
	    m, "teal_tripped", "gauge", "1 while the candidate is locked out after a trip.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];

		fputs("teal_tripped{", m->out);
		metrics_label(m->out, "service", s->config->name);
		fprintf(m->out, "} %d\n", control_release(m->control, s)->trip.on);
	}
	metrics_family(
	    m, "teal_trips_total", "counter", "Candidates thrown out, by the rule they broke.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];
		const struct release *r = control_release(m->control, s);

		for (int k = RULE_NONE + 1; k < N_RULES; k++) {
			fputs("teal_trips_total{", m->out);
			metrics_label(m->out, "service", s->config->name);
			fprintf(m->out, ",rule=\"%s\"} %" PRIu64 "\n", rule_name((enum rule)k),
			    r->trips[k]);
		}
	}
}

static void
rescues(const struct scrape *m)
{
	metrics_family(m, "teal_rescues_total", "counter",
	    "Candidates' failures replayed on the live color, by what the client got; refused: no "
	    "budget.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];
		const struct {
			const char *result;
			_Atomic uint64_t *n;
		} rows[] = {{"ok", &s->state->rescues_ok}, {"failed", &s->state->rescues_failed},
		    {"refused", &s->state->rescues_refused}};

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			fputs("teal_rescues_total{", m->out);
			metrics_label(m->out, "service", s->config->name);
			fprintf(m->out, ",result=\"%s\"} %" PRIu64 "\n", rows[k].result,
			    atomic_load_explicit(rows[k].n, memory_order_relaxed));
		}
	}
}

void
metrics_release(const struct scrape *m)
{
	rollouts(m);
	trips(m);
	rescues(m);
}

void
metrics_announcements(const struct scrape *m)
{
	struct events_counters n;

	events_counters(control_events(m->control), &n);
	metrics_single(m, "teal_events_total", "counter", "Events emitted.", n.emitted);
	metrics_results(m, "teal_announce_exec_total", "Events given to the exec hook.", "ok",
	    n.exec_ok, "failed", n.exec_failed);
	metrics_results(m, "teal_announce_webhook_total", "Events posted to the webhook.", "ok",
	    n.webhook_ok, "failed", n.webhook_failed);
	metrics_single(m, "teal_announce_dropped_total", "counter",
	    "Events dropped because a hook's queue was full.", n.dropped);
}
