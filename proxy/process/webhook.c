/*
 * libcurl's multi interface on libevent.  See webhook.h.
 *
 *   curl asks for a socket or a timeout -> an event -> curl_multi_socket_action() -> is the request done?
 *
 * One easy handle for all requests, so that the connection is kept between two events.
 *
 * Owner: announce.c.  Control thread.
 */
#include <curl/curl.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/process/webhook.h"

#define WEBHOOK_MAGIC 0x77656268u
#define ANSWER_MAX    (256 * 1024) /* of the body, which nobody reads */

struct webhook {
	uint32_t magic;
	struct event_base *base;
	CURLM *multi;
	CURL *easy;
	struct curl_slist *fields;
	struct event *timer;
	bool busy;
	size_t received;
	char error[CURL_ERROR_SIZE];
	webhook_done *done;
	void *arg;
};

/* --- the loop -------------------------------------------------------------------------------- */

static void
finish(struct webhook *w, CURLcode result)
{
	long status = 0;

	(void)curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_multi_remove_handle(w->multi, w->easy);
	w->busy = false;
	/* a body cut by us: its head has said what there is to know */
	if (result == CURLE_OK || (result == CURLE_WRITE_ERROR && status != 0))
		w->done(w->arg, (unsigned)status, "");
	else
		w->done(w->arg, 0, w->error[0] != '\0' ? w->error : curl_easy_strerror(result));
}

static void
look(struct webhook *w)
{
	const CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(w->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		finish(w, message->data.result);
		return; /* there is one request */
	}
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct webhook *w = arg;
	int mask =
	    (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
	int running;

	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	(void)curl_multi_socket_action(w->multi, fd, mask, &running);
	look(w);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct webhook *w = arg;
	int running;

	(void)fd;
	(void)what;
	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	(void)curl_multi_socket_action(w->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	look(w);
}

/* curl: watch this socket so from now on. */
static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct webhook *w = arg;
	struct event *event = socket_arg;
	short events = EV_PERSIST;

	(void)easy;
	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	if (event != NULL)
		event_free(event);
	event = NULL;
	if (what != CURL_POLL_REMOVE) {
		if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
			events |= EV_READ;
		if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
			events |= EV_WRITE;
		event = event_new(w->base, fd, events, on_socket, w);
		ENSURE(event != NULL && event_add(event, NULL) == 0);
	}
	(void)curl_multi_assign(w->multi, fd, event);
	return 0;
}

/* curl: wake me after this.  Also for 0 by the loop: curl may not be called within this call. */
static int
want_timeout(CURLM *multi, long ms, void *arg)
{
	struct webhook *w = arg;
	struct timeval patience = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	(void)multi;
	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	if (ms < 0)
		(void)event_del(w->timer);
	else
		(void)event_add(w->timer, &patience);
	return 0;
}

static size_t
take_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct webhook *w = arg;

	(void)bytes;
	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	w->received += size * n;
	return w->received <= ANSWER_MAX ? size * n : 0;
}

/* --- the request ----------------------------------------------------------------------------- */

static void
add_field(struct webhook *w, const char *name, const char *value)
{
	struct curl_slist *longer;
	char *line;

	/* libcurl's word for a field that is empty is ";" */
	ENSURE(asprintf(&line, "%s%s%s", name, *value != '\0' ? ": " : ";", value) > 0);
	longer = curl_slist_append(w->fields, line);
	ENSURE(longer != NULL);
	w->fields = longer;
	free(line);
}

static void
add_fields(struct webhook *w, const struct announce_config *c)
{
	bool has_type = false;

	for (size_t i = 0; i < c->webhook_headers.n; i++) {
		const struct header_rule *rule = &c->webhook_headers.items[i];

		add_field(w, rule->name, rule->value);
		has_type = has_type || strcmp(rule->name, "content-type") == 0;
	}
	if (!has_type)
		add_field(w, "Content-Type", "application/json");
	/* none: older versions ask whether 1,025 bytes may come, and wait for the answer */
	ENSURE((w->fields = curl_slist_append(w->fields, "Expect:")) != NULL);
}

static void
set_options(struct webhook *w, const struct announce_config *c)
{
	CURL *easy = w->easy;
	CURLcode bad = CURLE_OK;

#define SET(option, value)                                                                         \
	(bad = bad != CURLE_OK ? bad : curl_easy_setopt(easy, CURLOPT_##option, value))
	SET(URL, c->webhook);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(PROTOCOLS_STR, "http,https");
#else
	SET(PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(FOLLOWLOCATION, 0L);
	SET(SSL_VERIFYPEER, 1L);
	SET(SSL_VERIFYHOST, 2L);
	if (c->webhook_ca[0] != '\0') {
		SET(CAINFO, c->webhook_ca);
		SET(CAPATH, NULL); /* these authorities and no others */
	}
	SET(NOSIGNAL, 1L);
	SET(TIMEOUT_MS, (long)c->webhook_timeout_ms);
	SET(CONNECTTIMEOUT_MS, (long)c->webhook_timeout_ms);
	SET(USERAGENT, "teal/" TEAL_VERSION);
	SET(POST, 1L);
	SET(HTTPHEADER, w->fields);
	SET(WRITEFUNCTION, take_body);
	SET(WRITEDATA, w);
	SET(ERRORBUFFER, w->error);
#undef SET
#if LIBCURL_VERSION_NUM >= 0x075700
	/* else a request that ends while its name is looked up waits for the thread that looks */
	(void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	ENSURE(bad == CURLE_OK);
}

struct webhook *
webhook_new(struct event_base *base, const struct announce_config *c, webhook_done *done, void *arg)
{
	struct webhook *w = calloc(1, sizeof(*w));

	ENSURE(w != NULL && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
	w->magic = WEBHOOK_MAGIC;
	w->base = base;
	w->done = done;
	w->arg = arg;
	w->multi = curl_multi_init();
	w->easy = curl_easy_init();
	w->timer = evtimer_new(base, on_timer, w);
	ENSURE(w->multi != NULL && w->easy != NULL && w->timer != NULL);
	(void)curl_multi_setopt(w->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	(void)curl_multi_setopt(w->multi, CURLMOPT_SOCKETDATA, w);
	(void)curl_multi_setopt(w->multi, CURLMOPT_TIMERFUNCTION, want_timeout);
	(void)curl_multi_setopt(w->multi, CURLMOPT_TIMERDATA, w);
	add_fields(w, c);
	set_options(w, c);
	return w;
}

void
webhook_free(struct webhook *w)
{
	if (w == NULL)
		return;
	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	if (w->busy)
		(void)curl_multi_remove_handle(w->multi, w->easy);
	curl_easy_cleanup(w->easy);
	(void)curl_multi_cleanup(w->multi);
	curl_slist_free_all(w->fields);
	event_free(w->timer);
	curl_global_cleanup();
	w->magic = 0;
	free(w);
}

void
webhook_post(struct webhook *w, const char *json, size_t n)
{
	CHECK_MAGIC(w, WEBHOOK_MAGIC);
	ENSURE(!w->busy);
	w->busy = true;
	w->received = 0;
	w->error[0] = '\0';
	(void)curl_easy_setopt(w->easy, CURLOPT_POSTFIELDS, json);
	(void)curl_easy_setopt(w->easy, CURLOPT_POSTFIELDSIZE, (long)n);
	/* asks for a timeout of 0, and that begins it */
	ENSURE(curl_multi_add_handle(w->multi, w->easy) == CURLM_OK);
}
