/*
 * What happens, numbered, kept and handed on.  See events.h.
 *
 * The text of an event is made once, as server-sent event; the hooks get the JSON inside it.
 *
 * Owner: control.  Control thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "proxy/base/clock.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/announce.h"
#include "proxy/process/events.h"
#include "proxy/process/note.h"

#define EVENTS_MAGIC       0x65766e74u
#define SUBSCRIPTION_MAGIC 0x73756273u
#define SUBSCRIBERS_MAX    32
#define EVENTS_PER_MS                                                                              \
	11 /* as a power of two: more than ever happen, so ids of two lives do not meet */
#define EVENT_BYTES_MAX (64 * 1024) /* of its JSON; a bigger one is told without its data */

struct subscription {
	uint32_t magic;
	struct events *events;
	events_listener *listener; /* NULL: has unsubscribed while events were told */
	void *arg;
	LIST_ENTRY(subscription) next;
};

struct kept {
	char *text;
	size_t n;
};

struct events {
	uint32_t magic;
	struct announce *announce;
	/* Ids go on growing over restarts: they begin with the ms of the start, below 2^53, which
	 * every JSON reader can hold. */
	uint64_t before;               /* the first one's id - 1 */
	uint64_t n;                    /* emitted */
	struct kept kept[EVENTS_KEPT]; /* by id modulo EVENTS_KEPT */
	LIST_HEAD(subscription_list, subscription) subscriptions;
	unsigned n_subscriptions;
	unsigned telling; /* depth: subscriptions are not freed meanwhile */
};

struct events *
events_new(struct event_base *base, const struct config *config)
{
	struct events *e = calloc(1, sizeof(*e));

	ENSURE(e != NULL);
	e->magic = EVENTS_MAGIC;
	LIST_INIT(&e->subscriptions);
	e->before = (uint64_t)(clock_us(CLOCK_REALTIME) / 1000) << EVENTS_PER_MS;
	e->announce = announce_new(base, &config->announce, ANNOUNCE_PAUSE_MS);
	return e;
}

/* --- subscribers ----------------------------------------------------------------------------- */

static void
subscription_free(struct subscription *s)
{
	LIST_REMOVE(s, next);
	s->magic = 0;
	free(s);
}

/* Those that left while events were told. */
static void
sweep(struct events *e)
{
	struct subscription *s, *after;

	if (e->telling > 0)
		return;
	for (s = LIST_FIRST(&e->subscriptions); s != NULL; s = after) {
		after = LIST_NEXT(s, next);
		if (s->listener == NULL)
			subscription_free(s);
	}
}

static void
tell_all(struct events *e, const char *text, size_t n)
{
	struct subscription *s;

	e->telling++;
	LIST_FOREACH(s, &e->subscriptions, next)
	{
		if (s->listener != NULL)
			s->listener(s->arg, text, n);
	}
	e->telling--;
	sweep(e);
}

/* An id of an earlier life, or one that never was: nothing of this life was seen. */
static void
tell_missed(struct subscription *s, uint64_t after)
{
	struct events *e = s->events;
	uint64_t newest = e->before + e->n;
	uint64_t first = after < e->before || after > newest ? e->before + 1 : after + 1;

	if (e->n >= EVENTS_KEPT && first <= newest - EVENTS_KEPT)
		first = newest - EVENTS_KEPT + 1;
	e->telling++;
	for (uint64_t id = first; id <= newest && s->listener != NULL; id++) {
		const struct kept *kept = &e->kept[id % EVENTS_KEPT];

		s->listener(s->arg, kept->text, kept->n);
	}
	e->telling--;
}

struct subscription *
events_subscribe(struct events *e, uint64_t after, events_listener *listener, void *arg)
{
	struct subscription *s;

	CHECK_MAGIC(e, EVENTS_MAGIC);
	if (e->n_subscriptions == SUBSCRIBERS_MAX)
		return NULL;
	s = calloc(1, sizeof(*s));
	ENSURE(s != NULL);
	*s = (struct subscription){
	    .magic = SUBSCRIPTION_MAGIC, .events = e, .listener = listener, .arg = arg};
	LIST_INSERT_HEAD(&e->subscriptions, s, next);
	e->n_subscriptions++;
	if (after > 0)
		tell_missed(s, after);
	return s;
}

void
events_unsubscribe(struct subscription *s)
{
	CHECK_MAGIC(s, SUBSCRIPTION_MAGIC);
	ENSURE(s->listener != NULL);
	s->listener = NULL;
	s->events->n_subscriptions--;
	sweep(s->events);
}

/* --- events ---------------------------------------------------------------------------------- */

static json_t *
head(uint64_t id, const char *type, const char *service)
{
	json_t *j = json_object();

	(void)json_object_set_new(j, "id", json_integer((json_int_t)id));
	(void)json_object_set_new(j, "time", note_time(clock_us(CLOCK_REALTIME) / 1000));
	(void)json_object_set_new(j, "type", json_string(type));
	(void)json_object_set_new(j, "service", json_string(service));
	return j;
}

/* As one line; the caller's.  What cannot be written (not UTF-8, too big) goes without its data. */
static char *
body(uint64_t id, const char *type, const char *service, json_t *data)
{
	json_t *j = head(id, type, service);
	char *text;

	/* the four are the event's: a member of the same name stays behind */
	(void)json_object_update_missing(j, data);
	text = json_dumps(j, JSON_COMPACT);
	if (text == NULL || strlen(text) > EVENT_BYTES_MAX) {
		free(text);
		json_decref(j);
		j = head(id, type, service);
		(void)json_object_set_new(j, "data_left_out", json_true());
		text = json_dumps(j, JSON_COMPACT);
		log_warn("events: the data of event %" PRIu64 " (%s) cannot be told", id, type);
	}
	json_decref(j);
	ENSURE(text != NULL);
	return text;
}

void
events_emit(struct events *e, const char *type, const char *service, json_t *data)
{
	struct kept *kept;
	uint64_t id;
	char *json, *text;
	int n;

	CHECK_MAGIC(e, EVENTS_MAGIC);
	if (!announce_event_known(type)) /* then nobody can choose it in announce.events */
		log_error("events: \"%s\" is not in the table of events", type);
	id = e->before + ++e->n;
	json = body(id, type, service != NULL ? service : "", data);
	json_decref(data);
	n = asprintf(&text, "id: %" PRIu64 "\nevent: %s\ndata: %s\n\n", id, type, json);
	ENSURE(n > 0);
	announce_tell(e->announce, type, service != NULL ? service : "", json, strlen(json));
	free(json);
	kept = &e->kept[id % EVENTS_KEPT];
	free(kept->text);
	*kept = (struct kept){text, (size_t)n};
	tell_all(e, text, (size_t)n);
}

void
events_counters(const struct events *e, struct events_counters *out)
{
	struct hook_counters exec, webhook;

	announce_counters(e->announce, &exec, &webhook);
	*out = (struct events_counters){.emitted = e->n,
	    .exec_ok = exec.ok,
	    .exec_failed = exec.failed,
	    .webhook_ok = webhook.ok,
	    .webhook_failed = webhook.failed,
	    .dropped = exec.dropped + webhook.dropped};
}

void
events_free(struct events *e)
{
	struct subscription *s, *after;

	if (e == NULL)
		return;
	CHECK_MAGIC(e, EVENTS_MAGIC);
	tell_all(e, NULL, 0);
	for (s = LIST_FIRST(&e->subscriptions); s != NULL; s = after) {
		after = LIST_NEXT(s, next);
		subscription_free(s);
	}
	announce_free(e->announce);
	for (unsigned i = 0; i < EVENTS_KEPT; i++)
		free(e->kept[i].text);
	e->magic = 0;
	free(e);
}
