/*
 * A control that only notes what it is asked, with a fleet of one or two services, for the tests
 * of the admin API.  Included by one file of a test program: it defines what control.o and tally.o
 * would, so that neither is linked.
 */
#ifndef TEST_FAKE_CONTROL_H
#define TEST_FAKE_CONTROL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "balancer/tally.h"
#include "proxy/process/control.h"
#include "proxy/process/events.h"
#include "proxy/process/release.h"

/* Told apart by address only; the fake tally looks no further. */
static char fake_tallies[N_COLORS];

struct control {
	/* what was asked last */
	unsigned asked;
	char what[32];
	char text[512]; /* the arguments */
	struct change change;
	char reason[2048];
	/* how it is answered */
	struct change_result result;
	bool later; /* keep it until fake_finish() */
	change_done *done;
	void *arg;
	/* the world */
	bool draining;
	struct config config;
	struct listener_config listener;
	struct step_config steps[2];
	struct service_config service_configs[2];
	struct service_state states[2];
	struct service services[2];
	struct fleet fleet;
	struct backend backends[3];
	struct release releases[2];
	struct events *events;       /* the test's */
	json_t *evidence;            /* NULL: none */
	const struct health *health; /* of the first backend; NULL: it has no probes */
	struct member members[3];
};

static inline void
fake_control_init(struct control *c)
{
	static char host[] = "api.example", path[] = "/", api[] = "api", web[] = "web";
	static char *hosts[] = {host}, *paths[] = {path};
	static char names[3][32] = {"10.0.0.1:80", "unix:/run/b.sock", "[::1]:81"};
	static char listen[] = "[::]:443";

	*c = (struct control){.result = {.http_status = 200}};
	c->listener.address.text = listen;
	c->config.listeners = &c->listener;
	c->config.n_listeners = 1;
	c->config.services = c->service_configs;
	c->config.n_services = 2;
	c->steps[0] = (struct step_config){.weight_bp = 2550, .hold_ms = 300000};
	c->steps[1] = (struct step_config){.weight_bp = 10000, .hold_ms = 250};
	for (unsigned i = 0; i < 2; i++) {
		c->service_configs[i].name = i == 0 ? api : web;
		c->service_configs[i].hosts = (struct string_list){hosts, 1};
		c->service_configs[i].paths = (struct string_list){paths, 1};
		c->service_configs[i].rollout.steps = c->steps;
		c->service_configs[i].rollout.n_steps = 2;
		c->service_configs[i].rollout.limits.window_ms = 30000;
		c->states[i].course = course_of(BLUE, i == 0 ? 1225 : 0);
		c->services[i].config = &c->service_configs[i];
		c->services[i].state = &c->states[i];
		c->services[i].index = i;
		for (int k = 0; k < N_COLORS; k++)
			c->states[i].tally[k] = (struct tally *)(void *)&fake_tallies[k];
	}
	c->states[0].course = course_of(BLUE, 1225);
	c->states[0].epoch = 7;
	c->states[0].retries_ok = 4;
	for (unsigned i = 0; i < 3; i++) {
		c->backends[i].name = names[i];
		c->backends[i].state = i == 1 ? BACKEND_DOWN : BACKEND_UP;
		c->backends[i].inflight = i;
		c->members[i] = (struct member){.backend = &c->backends[i], .weight = 1};
	}
	c->services[0].pools[BLUE].members = c->members;
	c->services[0].pools[BLUE].n_members = 2;
	c->services[0].pools[GREEN].members = c->members + 2;
	c->services[0].pools[GREEN].n_members = 1;
	c->fleet = (struct fleet){.config = &c->config, .services = c->services, .n_services = 2};
}

static inline void
fake_finish(struct control *c)
{
	change_done *done = c->done;

	c->done = NULL;
	done(c->arg, &c->result);
}

static inline void
fake_ask(
    struct control *c, const char *what, const struct change *change, change_done *done, void *arg)
{
	c->asked++;
	snprintf(c->what, sizeof(c->what), "%s", what);
	c->change = *change;
	snprintf(c->reason, sizeof(c->reason), "%s", change->reason);
	c->done = done;
	c->arg = arg;
	if (!c->later)
		fake_finish(c);
}

void
control_weight(struct control *c, struct service *s, unsigned bp, const struct change *change,
    change_done *done, void *arg)
{
	snprintf(c->text, sizeof(c->text), "%s %u", s->config->name, bp);
	if (c->result.http_status == 200)
		s->state->course = course_of(service_live(s), bp);
	fake_ask(c, "weight", change, done, arg);
}

void
control_flip(struct control *c, struct service *s, enum color color, const struct change *change,
    change_done *done, void *arg)
{
	snprintf(c->text, sizeof(c->text), "%s %s", s->config->name, color_name(color));
	fake_ask(c, "flip", change, done, arg);
}

void
control_maintenance(struct control *c, struct service *s, bool on, const struct change *change,
    change_done *done, void *arg)
{
	snprintf(c->text, sizeof(c->text), "%s %d", s->config->name, on);
	fake_ask(c, "maintenance", change, done, arg);
}

void
control_rearm(
    struct control *c, struct service *s, const struct change *change, change_done *done, void *arg)
{
	snprintf(c->text, sizeof(c->text), "%s", s->config->name);
	fake_ask(c, "rearm", change, done, arg);
}

void
control_rollout(struct control *c, struct service *s, const struct rollout_request *q,
    const struct change *change, change_done *done, void *arg)
{
	static const char *const orders[] = {"start", "pause", "resume", "promote", "abort"};
	size_t at = (size_t)snprintf(c->text, sizeof(c->text), "%s %s%s%s%s", s->config->name,
	    orders[q->order], q->has_to ? " to " : "", q->has_to ? color_name(q->to) : "",
	    q->full    ? " full"
	    : q->rearm ? " rearm"
		       : "");

	for (size_t i = 0; i < q->n_steps && at < sizeof(c->text); i++)
		at += (size_t)snprintf(c->text + at, sizeof(c->text) - at, " %u:%lld",
		    q->steps[i].weight_bp, (long long)q->steps[i].hold_ms);
	fake_ask(c, "rollout", change, done, arg);
}

struct json_t *
control_evidence(struct control *c, const struct service *s)
{
	(void)s;
	return json_incref(c->evidence);
}

struct json_t *
control_history(struct control *c, const struct service *s)
{
	(void)c;
	return json_pack("[{s:s, s:s}]", "service", s->config->name, "action", "flip");
}

const struct release *
control_release(struct control *c, const struct service *s)
{
	return &c->releases[s->index];
}

struct events *
control_events(struct control *c)
{
	return c->events;
}

static inline void
fake_list(struct control *c, const struct service *s, enum color color,
    const char *const *addresses, unsigned n)
{
	size_t at =
	    (size_t)snprintf(c->text, sizeof(c->text), "%s %s", s->config->name, color_name(color));

	for (unsigned i = 0; i < n && at < sizeof(c->text); i++)
		at += (size_t)snprintf(c->text + at, sizeof(c->text) - at, " %s", addresses[i]);
}

void
control_pool_set(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *change, change_done *done,
    void *arg)
{
	fake_list(c, s, color, addresses, n);
	fake_ask(c, "set", change, done, arg);
}

void
control_backend_add(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *change, change_done *done,
    void *arg)
{
	fake_list(c, s, color, addresses, n);
	fake_ask(c, "add", change, done, arg);
}

void
control_backend_remove(struct control *c, struct service *s, enum color color,
    const char *const *addresses, unsigned n, const struct change *change, change_done *done,
    void *arg)
{
	fake_list(c, s, color, addresses, n);
	fake_ask(c, "remove", change, done, arg);
}

void
control_backend_drain(struct control *c, struct service *s, enum color color, const char *address,
    bool drain, const struct change *change, change_done *done, void *arg)
{
	fake_list(c, s, color, &address, 1);
	fake_ask(c, drain ? "drain" : "undrain", change, done, arg);
}

const struct fleet *
control_fleet(struct control *c)
{
	return &c->fleet;
}

struct service *
control_service(struct control *c, const char *name)
{
	for (unsigned i = 0; i < c->fleet.n_services; i++)
		if (strcmp(c->services[i].config->name, name) == 0)
			return &c->services[i];
	return NULL;
}

int64_t
control_now_ms(void)
{
	return 1000000;
}

int64_t
control_started_wall_ms(struct control *c)
{
	(void)c;
	return 1700000000000;
}

const struct health *
control_health(struct control *c, const struct backend *b)
{
	return b == &c->backends[0] ? c->health : NULL;
}

void
control_backend_reason(struct control *c, const struct backend *b, char *out, size_t n)
{
	(void)c;
	snprintf(
	    out, n, "%s", b->state == BACKEND_DOWN ? "connect refused (3 in a row) \"\xff\"" : "");
}

void
control_totals(struct control *c, struct control_totals *out)
{
	for (size_t i = 0; out->listener_open != NULL && i < c->config.n_listeners; i++)
		out->listener_open[i] = 5;
	out->connections_open = 5;
	out->connections_total = 12;
	out->log_lines_lost = 3;
	out->outcomes[0] = 99;
}

unsigned
control_certificates(struct control *c, struct control_certificate *out, unsigned max)
{
	(void)c;
	for (unsigned i = 0; i < max && i < 2; i++)
		out[i] = (struct control_certificate){
		    .file = "/etc/a \"b\\c\n.pem", .not_after = 1800000000};
	return 2;
}

bool
control_draining(struct control *c)
{
	return c->draining;
}

/* Blue has seen 300 in the window, green 100. */
void
tally_sum(const struct tally *t, int64_t now_ms, int64_t window_ms, struct tally_sum *out)
{
	bool is_blue = (const void *)t == &fake_tallies[BLUE];

	(void)now_ms;
	(void)window_ms;
	*out = (struct tally_sum){.requests = is_blue ? 3000 : 1000,
	    .failures = 3,
	    .codes = {0, 2000, 0, 1, 2, 3},
	    .inflight = 4,
	    .window_requests = is_blue ? 300 : 100,
	    .rps = 10.123456,
	    .failure_rate = 0.25,
	    .p50_ms = 1.5,
	    .p95_ms = 12.3456789,
	    .p99_ms = 40};
}

void
tally_histogram(const struct tally *t, const int64_t *bounds_us, unsigned n, uint64_t *counts,
    uint64_t *count, uint64_t *sum_us)
{
	(void)t;
	for (unsigned i = 0; i < n; i++)
		counts[i] = bounds_us[i] >= 1000 ? 10 : 0;
	*count = 12;
	*sum_us = 1500000;
}

#endif
