/*
 * The queues of the two hooks, and how often what fails is repeated.  See announce.h.
 *
 *      queue -> current -> begin -> ended: told -> the next
 *                 ^                   |
 *                 +---- the pause ----+ failed, and repetitions are left
 *
 * A notice is shared by both queues and counted.
 *
 * Owner: events.c.  Control thread.
 */
#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/parse.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/announce.h"
#include "proxy/process/run.h"
#include "proxy/process/webhook.h"

#define HOOK_MAGIC   0x686f6f6bu
#define PAUSE_MAX_MS 60000

/* What is told; the strings follow it in the same piece of memory. */
struct notice {
	unsigned refs;
	char *type, *service, *json;
	size_t n;
};

struct hook {
	uint32_t magic;
	const char *name;
	struct announce *announce;
	void (*begin)(struct hook *); /* of current; hook_ended() is called later */
	struct notice *current;       /* being told, or waiting to be told again */
	unsigned attempts;            /* of current, that failed */
	struct event *pause;
	struct notice *queue[ANNOUNCE_QUEUE];
	unsigned head, n;
	bool overflowed; /* said in the log, until the queue is empty again */
	struct hook_counters counters;
};

struct announce {
	struct event_base *base;
	const struct announce_config *config;
	int64_t pause_ms;
	struct hook exec, webhook; /* begin NULL: not configured */
	struct run *run;
	struct webhook *client;
};

/* --- notices --------------------------------------------------------------------------------- */

static struct notice *
notice_new(const char *type, const char *service, const char *json, size_t n)
{
	size_t n_type = strlen(type) + 1, n_service = strlen(service) + 1;
	struct notice *notice = malloc(sizeof(*notice) + n_type + n_service + n + 2);

	ENSURE(notice != NULL);
	notice->refs = 1;
	notice->type = (char *)(notice + 1);
	memcpy(notice->type, type, n_type);
	notice->service = notice->type + n_type;
	memcpy(notice->service, service, n_service);
	notice->json = notice->service + n_service;
	memcpy(notice->json, json, n);
	notice->json[n] = '\n'; /* a line, for commands that read lines */
	notice->json[n + 1] = '\0';
	notice->n = n;
	return notice;
}

static void
notice_release(struct notice *notice)
{
	if (notice != NULL && --notice->refs == 0)
		free(notice);
}

/* --- a queue --------------------------------------------------------------------------------- */

static void
tell_next(struct hook *h)
{
	if (h->n == 0) {
		h->overflowed = false;
		return;
	}
	h->current = h->queue[h->head];
	h->head = (h->head + 1) % ANNOUNCE_QUEUE;
	h->n--;
	h->attempts = 0;
	h->begin(h);
}

static void
hook_put(struct hook *h, struct notice *notice)
{
	if (h->begin == NULL)
		return;
	if (h->n == ANNOUNCE_QUEUE) {
		notice_release(h->queue[h->head]);
		h->head = (h->head + 1) % ANNOUNCE_QUEUE;
		h->n--;
		h->counters.dropped++;
		if (!h->overflowed)
			log_warn("announce: %s is too slow: %u events wait, the oldest are dropped",
			    h->name, ANNOUNCE_QUEUE);
		h->overflowed = true;
	}
	notice->refs++;
	h->queue[(h->head + h->n++) % ANNOUNCE_QUEUE] = notice;
	if (h->current == NULL)
		tell_next(h);
}

enum told { TOLD, FAILED, REFUSED }; /* REFUSED: saying it again would change nothing */

/* 1, 2, 4, ... times the first, at most a minute. */
static int64_t
pause_ms(const struct hook *h)
{
	int64_t ms = h->announce->pause_ms;

	for (unsigned i = 1; i < h->attempts && ms < PAUSE_MAX_MS; i++)
		ms *= 2;
	return ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
}

static void
tell_later(struct hook *h, const char *why)
{
	int64_t ms = pause_ms(h);
	struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	char text[UNIT_TEXT_SIZE];

	duration_print(ms, text);
	log_info(
	    "announce: %s: \"%s\" not told: %s; again in %s", h->name, h->current->type, why, text);
	(void)event_add(h->pause, &pause);
}

static void
hook_ended(struct hook *h, enum told told, const char *why)
{
	if (told == FAILED && ++h->attempts <= h->announce->config->retries) {
		tell_later(h, why);
		return;
	}
	if (told == TOLD) {
		h->counters.ok++;
	} else {
		h->counters.failed++;
		log_warn("announce: %s: \"%s\" of service \"%s\" was not told: %s", h->name,
		    h->current->type, h->current->service, why);
	}
	notice_release(h->current);
	h->current = NULL;
	tell_next(h);
}

static void
on_pause(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;

	(void)fd;
	(void)what;
	CHECK_MAGIC(h, HOOK_MAGIC);
	h->begin(h);
}

static void
hook_init(struct hook *h, struct announce *a, const char *name, void (*begin)(struct hook *))
{
	h->magic = HOOK_MAGIC;
	h->name = name;
	h->announce = a;
	h->begin = begin;
	h->pause = evtimer_new(a->base, on_pause, h);
	ENSURE(h->pause != NULL);
}

static void
hook_fini(struct hook *h)
{
	for (unsigned i = 0; i < h->n; i++)
		notice_release(h->queue[(h->head + i) % ANNOUNCE_QUEUE]);
	notice_release(h->current);
	if (h->pause != NULL)
		event_free(h->pause);
	h->magic = 0;
}

/* --- the command ----------------------------------------------------------------------------- */

static void
command_ended(void *arg, const struct run_result *r)
{
	struct hook *h = arg;

	CHECK_MAGIC(h, HOOK_MAGIC);
	h->announce->run = NULL;
	hook_ended(h, r->end == RUN_EXITED && r->code == 0 ? TOLD : FAILED, r->sentence);
}

static void
begin_command(struct hook *h)
{
	struct announce *a = h->announce;
	const struct notice *notice = h->current;
	const char *environment[3] = {NULL, NULL, NULL};
	char *event, *service;

	ENSURE(asprintf(&event, "TEAL_EVENT=%s", notice->type) > 0);
	ENSURE(asprintf(&service, "TEAL_SERVICE=%s", notice->service) > 0);
	environment[0] = event;
	environment[1] = service;
	a->run = run_start(a->base, &a->config->exec, environment, notice->json, notice->n + 1,
	    a->config->exec_timeout_ms, command_ended, h);
	free(event);
	free(service);
}

/* --- the webhook ----------------------------------------------------------------------------- */

static void
post_ended(void *arg, unsigned status, const char *error)
{
	struct hook *h = arg;
	bool refused = status / 100 == 4 && status != 408 && status != 429;
	char why[32];

	CHECK_MAGIC(h, HOOK_MAGIC);
	(void)snprintf(why, sizeof(why), "status %u", status);
	hook_ended(h,
	    status / 100 == 2 ? TOLD
	    : refused         ? REFUSED
			      : FAILED,
	    *error != '\0' ? error : why);
}

static void
begin_post(struct hook *h)
{
	webhook_post(h->announce->client, h->current->json, h->current->n);
}

/* --- both ------------------------------------------------------------------------------------ */

struct announce *
announce_new(struct event_base *base, const struct announce_config *config, int64_t first_pause_ms)
{
	struct announce *a = calloc(1, sizeof(*a));

	ENSURE(a != NULL);
	a->base = base;
	a->config = config;
	a->pause_ms = first_pause_ms;
	if (config->exec.n > 0)
		hook_init(&a->exec, a, "exec", begin_command);
	if (config->webhook != NULL && config->webhook[0] != '\0') {
		hook_init(&a->webhook, a, "webhook", begin_post);
		a->client = webhook_new(base, config, post_ended, &a->webhook);
	}
	return a;
}

void
announce_free(struct announce *a)
{
	if (a == NULL)
		return;
	if (a->run != NULL)
		run_cancel(a->run);
	webhook_free(a->client);
	hook_fini(&a->exec);
	hook_fini(&a->webhook);
	free(a);
}

static bool
is_wanted(const struct announce_config *c, const char *type)
{
	for (size_t i = 0; i < c->events.n; i++)
		if (strcmp(c->events.items[i], type) == 0)
			return true;
	return false;
}

void
announce_tell(struct announce *a, const char *type, const char *service, const char *json, size_t n)
{
	struct notice *notice;

	if ((a->exec.begin == NULL && a->webhook.begin == NULL) || !is_wanted(a->config, type))
		return;
	notice = notice_new(type, service, json, n);
	hook_put(&a->exec, notice);
	hook_put(&a->webhook, notice);
	notice_release(notice);
}

void
announce_counters(
    const struct announce *a, struct hook_counters *exec, struct hook_counters *webhook)
{
	*exec = a->exec.counters;
	*webhook = a->webhook.counters;
}
