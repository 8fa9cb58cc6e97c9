/*
 * The JSON that GET answers: what is configured beside what happens, in the operator's words.
 *
 * Control thread; only reads.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "balancer/eject.h"
#include "balancer/tally.h"
#include "health/health.h"
#include "proxy/process/admin_api.h"
#include "proxy/process/note.h"
#include "proxy/process/release_view.h"

json_t *
view_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy;

	if (json != NULL || (copy = strdup(text)) == NULL)
		return json;
	for (char *p = copy; *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	json = json_string(copy);
	free(copy);
	return json;
}

static json_t *
count_json(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static void
put(json_t *object, const char *key, json_t *value)
{
	/* out of memory leaves a member out; the answer as a whole then fails to print */
	(void)json_object_set_new(object, key, value);
}

json_t *
view_time(int64_t seconds)
{
	char text[32];
	time_t t = (time_t)seconds;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return json_null();
	return json_string(text);
}

static json_t *
list_json(const struct string_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->n; i++)
		(void)json_array_append_new(array, view_text(list->items[i]));
	return array;
}

static json_t *
probe_json(const struct probe_health *p, int64_t now_ms)
{
	json_t *o = json_object();

	put(o, "well", p->known ? json_boolean(p->well) : json_null());
	put(o, "saw", view_text(p->saw));
	put(o, "passed", count_json(p->passed));
	put(o, "failed", count_json(p->failed));
	put(o, "ago_ms", p->last_ms != 0 ? json_integer(now_ms - p->last_ms) : json_null());
	return o;
}

/* Empty when nobody asks. */
static json_t *
probes_json(const struct health *h, int64_t now_ms)
{
	json_t *o = json_object();

	for (int i = 0; h != NULL && i < N_PROBES; i++) {
		if (h->config[i].on)
			put(o, probe_name((enum probe_kind)i), probe_json(&h->probes[i], now_ms));
	}
	return o;
}

static json_t *
backend_json(struct control *control, const struct member *m)
{
	struct backend *b = m->backend;
	const struct health *health = control_health(control, b);
	json_t *o = json_object();
	char reason[256] = "";
	int64_t now_ms = control_now_ms();
	int64_t held = atomic_load_explicit(&b->held_until_ms, memory_order_relaxed) - now_ms;
	int state = atomic_load_explicit(&b->state, memory_order_relaxed);

	control_backend_reason(control, b, reason, sizeof(reason));
	put(o, "address", view_text(b->name));
	put(o, "state", json_string(backend_state_name((enum backend_state)state)));
	put(o, "reason", view_text(reason));
	put(o, "inflight", json_integer(atomic_load_explicit(&b->inflight, memory_order_relaxed)));
	put(o, "connections",
	    json_integer(atomic_load_explicit(&b->connections, memory_order_relaxed)));
	put(o, "requests", count_json(atomic_load_explicit(&b->requests, memory_order_relaxed)));
	put(o, "failures", count_json(atomic_load_explicit(&b->failures, memory_order_relaxed)));
	put(o, "held_ms", json_integer(held > 0 ? held : 0));
	put(o, "ejected", json_boolean(backend_ejected(b, now_ms)));
	put(o, "version", view_text(health != NULL ? health->version : ""));
	put(o, "probes", probes_json(health, now_ms));
	put(o, "weight", json_integer(m->weight));
	put(o, "backup", json_boolean(m->backup));
	return o;
}

static json_t *
codes_json(const struct tally_sum *sum)
{
	static const char *const names[TALLY_CODES] = {"1xx", "2xx", "3xx", "4xx", "5xx", "failed"};
	json_t *o = json_object();

	for (int i = 0; i < TALLY_CODES; i++)
		put(o, names[i], count_json(sum->codes[i]));
	return o;
}

static json_t *
color_json(struct control *control, const struct service *s, enum color color, uint32_t course,
    const struct tally_sum sums[N_COLORS])
{
	const struct tally_sum *sum = &sums[color];
	const struct pool *pool = &s->pools[color];
	unsigned bp = course_weight(course);
	uint64_t all = sums[BLUE].window_requests + sums[GREEN].window_requests;
	json_t *o = json_object(), *backends = json_array();

	put(o, "weight", note_percent(color == course_live(course) ? 10000 - bp : bp));
	put(o, "share",
	    note_number(all == 0 ? 0 : 100.0 * (double)sum->window_requests / (double)all, 100));
	put(o, "requests", count_json(sum->requests));
	put(o, "failures", count_json(sum->failures));
	put(o, "codes", codes_json(sum));
	put(o, "window_requests", count_json(sum->window_requests));
	put(o, "window_failures", count_json(sum->window_failures));
	put(o, "failure_rate", note_number(sum->failure_rate, 1000));
	put(o, "rps", note_number(sum->rps, 100));
	put(o, "p50_ms", note_number(sum->p50_ms, 1000));
	put(o, "p95_ms", note_number(sum->p95_ms, 1000));
	put(o, "p99_ms", note_number(sum->p99_ms, 1000));
	put(o, "inflight", count_json(sum->inflight));
	put(o, "waiting",
	    json_integer(atomic_load_explicit(&s->state->waiting[color], memory_order_relaxed)));
	for (unsigned i = 0; i < pool->n_members; i++)
		(void)json_array_append_new(backends, backend_json(control, &pool->members[i]));
	put(o, "backends", backends);
	return o;
}

static const char *
split_word(enum split_by by)
{
	switch (by) {
	case SPLIT_REQUEST:
		return "request";
	case SPLIT_COOKIE:
		return "cookie";
	case SPLIT_HEADER:
		return "header";
	case SPLIT_CLIENT_IP:
		return "client-ip";
	}
	return "";
}

json_t *
view_service(struct control *control, const struct service *s)
{
	const struct service_config *config = s->config;
	const struct release *release = control_release(control, s);
	struct tally_sum sums[N_COLORS];
	int64_t now_ms = control_now_ms(), window_ms = config->rollout.limits.window_ms;
	json_t *o = json_object(), *colors = json_object();
	uint32_t course = service_course(s->state); /* once: a worker may trip meanwhile */

	for (int c = 0; c < N_COLORS; c++)
		tally_sum(s->state->tally[c], now_ms, window_ms, &sums[c]);
	put(o, "name", view_text(config->name));
	put(o, "hosts", list_json(&config->hosts));
	put(o, "paths", list_json(&config->paths));
	put(o, "epoch", count_json(atomic_load_explicit(&s->state->epoch, memory_order_relaxed)));
	put(o, "live", json_string(color_name(course_live(course))));
	put(o, "candidate", json_string(color_name(color_other(course_live(course)))));
	put(o, "weight", note_percent(course_weight(course)));
	put(o, "split", json_string(split_word(config->split.by)));
	put(o, "maintenance",
	    json_boolean(atomic_load_explicit(&s->state->maintenance, memory_order_relaxed)));
	/* told when control has heard of it and written it down, not when a worker's flip is
	 * seen */
	put(o, "tripped", json_boolean(release->trip.on));
	put(o, "trip", view_trip(release, course));
	put(o, "window_ms", json_integer(window_ms));
	put(o, "rollout", view_rollout(release, &config->rollout));
	for (int c = 0; c < N_COLORS; c++)
		put(colors, color_name((enum color)c),
		    color_json(control, s, (enum color)c, course, sums));
	put(o, "colors", colors);
	return o;
}

static json_t *
certificates_json(struct control *control)
{
	unsigned n = control_certificates(control, NULL, 0);
	struct control_certificate *all = calloc(n + 1, sizeof(*all));
	json_t *array = json_array();

	if (all != NULL) {
		unsigned have = control_certificates(control, all, n);

		for (unsigned i = 0; i < have && i < n; i++) {
			json_t *o = json_object();

			put(o, "file", view_text(all[i].file));
			put(o, "not_after", view_time(all[i].not_after));
			(void)json_array_append_new(array, o);
		}
	}
	free(all);
	return array;
}

json_t *
view_status(struct control *control)
{
	const struct fleet *fleet = control_fleet(control);
	struct control_totals totals = {0};
	int64_t started = control_started_wall_ms(control), now = (int64_t)time(NULL) * 1000;
	json_t *o = json_object(), *services = json_array(), *connections = json_object();
	uint64_t *open = calloc(fleet->config->n_listeners + 1, sizeof(*open));

	totals.listener_open = open;
	control_totals(control, &totals);
	free(open);
	put(o, "version", json_string(TEAL_VERSION));
	put(o, "pid", json_integer(getpid()));
	put(o, "started", view_time(started / 1000));
	put(o, "uptime_ms", json_integer(now > started ? now - started : 0));
	put(o, "draining", json_boolean(control_draining(control)));
	put(connections, "open", count_json(totals.connections_open));
	put(connections, "total", count_json(totals.connections_total));
	put(connections, "refused", count_json(totals.connections_refused));
	put(o, "connections", connections);
	put(o, "log_lines_lost", count_json(totals.log_lines_lost));
	put(o, "certificates", certificates_json(control));
	for (unsigned i = 0; i < fleet->n_services; i++)
		(void)json_array_append_new(services, view_service(control, &fleet->services[i]));
	put(o, "services", services);
	return o;
}
