/*
 * deploy: a release in one command.
 *
 *   look        is it the candidate, and is nothing under way?   else 1, nothing changed
 *   set         PUT its pool, refused when the service has changed since the look (looked at
 * again, then)
 *   ready       until every backend is up                        else 5, the pool stays, no rollout
 *   start       POST rollout
 *   --wait      follow it                                        0, 3, 4, 5
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/client.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/ready.h"
#include "proxy/tealctl/rollout.h"
#include "proxy/tealctl/rollout_view.h"
#include "proxy/tealctl/status.h"
#include "proxy/tealctl/terminal.h"
#include "proxy/tealctl/wait.h"

#define READY_MS  300000 /* --timeout left out: until the backends are up */
#define LOOKS_MAX 5      /* when somebody else changes the service all the time */

struct deploy {
	struct args args; /* a copy, shallow: to and if_epoch are filled in */
	const char *target;
	char *name; /* safe for a terminal */
	struct progress progress;
	struct poll poll;
	struct ready ready;
	json_t *service; /* as last seen */
};

/* Takes the reference. */
static void
see(struct deploy *d, json_t *service)
{
	json_decref(d->service);
	d->service = service;
}

/* --- look ------------------------------------------------------------------------------------- */

static void
refuse_rollout(const struct deploy *d)
{
	const json_t *rollout = json_object_get(d->service, "rollout");

	complain("%s: a rollout to %s is under way, in step %.0f/%zu; nothing was changed\n"
		 "  let it end, or: tealctl rollout abort %s",
	    d->name, color_name(member_color_word(rollout, "to", GREEN)),
	    member_number(rollout, "step"), json_array_size(json_object_get(rollout, "steps")),
	    d->name);
}

/* 0, or -1 and told: the service is in no state for it. */
static int
check(const struct deploy *d)
{
	enum color live = member_color_word(d->service, "live", BLUE), to = d->args.to;

	if (to == live)
		complain("%s: %s is live: a deploy goes to %s; nothing was changed", d->name,
		    color_name(to), color_name(to == BLUE ? GREEN : BLUE));
	else if (rollout_under_way(d->service))
		refuse_rollout(d);
	else if (member_true(d->service, "tripped") && !d->args.rearm)
		complain("%s: %s was tripped; nothing was changed\n"
			 "  see tealctl why %s; then: tealctl rearm %s, or deploy --rearm",
		    d->name, color_name(to), d->name, d->name);
	else if (member_number(d->service, "weight") > 0)
		complain("%s: %s has %.10g %% of the requests, by hand; nothing was changed\n"
			 "  first: tealctl weight %s 0",
		    d->name, color_name(to), member_number(d->service, "weight"), d->name);
	else
		return 0;
	return -1;
}

/* --- set -------------------------------------------------------------------------------------- */

static char *
pool_body(const struct args *a)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < a->n_backends; i++)
		(void)json_array_append_new(list, json_string(a->backends[i]));
	return print_json(with_change(a, json_pack("{s:o}", "backends", list)));
}

/* Looks and sets the pool.  0; -1: told; 1: somebody changed the service in between. */
static int
look_and_set(struct deploy *d, const struct args *given)
{
	struct answer answer;
	char *body, *pool;
	int rc = 0;

	see(d, ask(&d->args, "GET", d->target, NULL, NULL));
	if (d->service == NULL)
		return -1;
	if (!given->has_to)
		d->args.to = member_color_word(d->service, "candidate", GREEN);
	d->args.has_to = true;
	if (check(d) < 0)
		return -1;
	if (!given->has_epoch) {
		d->args.if_epoch = (uint64_t)member_number(d->service, "epoch");
		d->args.has_epoch = true;
	}
	body = pool_body(&d->args);
	pool = print("%s/pools/%s", d->target, color_name(d->args.to));
	ask_teal(&d->args, "PUT", pool, body, PATIENCE_MS, &answer);
	if (answer.json != NULL) {
		see(d, json_incref(answer.json));
	} else if (!given->has_epoch && strcmp(answer.code, "stale-epoch") == 0) {
		rc = 1;
	} else {
		complain_answer(&d->args, &answer);
		rc = -1;
	}
	answer_fini(&answer);
	free(pool);
	free(body);
	return rc;
}

static int
set_pool(struct deploy *d, const struct args *given)
{
	for (int i = 0; i < LOOKS_MAX; i++) {
		int rc = look_and_set(d, given);

		if (rc <= 0)
			return rc;
	}
	complain("%s: somebody else changes it all the time; nothing was changed", d->name);
	return -1;
}

/* --- ready ------------------------------------------------------------------------------------ */

static void
tell_ready(struct deploy *d)
{
	struct memory m;
	char *text;

	memory_begin(&m);
	ready_look(&d->ready, d->service, m.f);
	text = memory_end(&m);
	progress_say(&d->progress, text, d->service);
	free(text);
	text = print("%s: waiting for %s: %u of %u backends up", d->name, color_name(d->args.to),
	    d->ready.up, d->ready.n);
	if (d->ready.up < d->ready.n)
		progress_draw(&d->progress, text);
	free(text);
}

static int
not_ready(struct deploy *d)
{
	struct memory m;
	char *text;

	memory_begin(&m);
	ready_lacking(&d->ready, d->service, m.f);
	text = memory_end(&m);
	if (*text != '\0') /* without its last newline */
		text[strlen(text) - 1] = '\0';
	progress_clear(&d->progress);
	complain(
	    "%s: %s is not ready in time: %u of %u backends are up; no rollout was started\n%s",
	    d->name, color_name(d->args.to), d->ready.up, d->ready.n, text);
	free(text);
	return EXIT_TIMED_OUT;
}

/* EXIT_DONE when all are up. */
static int
wait_ready(struct deploy *d)
{
	json_t *next;

	for (;;) {
		tell_ready(d);
		if (d->ready.missing > 0) {
			progress_clear(&d->progress);
			complain("%s: somebody else changed the pool of %s; no rollout was started",
			    d->name, color_name(d->args.to));
			return EXIT_FAILED;
		}
		if (d->ready.up == d->ready.n)
			return EXIT_DONE;
		switch (poll_next(&d->poll, &next)) {
		case POLL_ANSWERED:
			see(d, next);
			break;
		case POLL_FAILED:
			complain("%s: no rollout was started", d->name);
			return EXIT_FAILED;
		case POLL_TIMED_OUT:
			return not_ready(d);
		}
	}
}

/* --- start ------------------------------------------------------------------------------------ */

/* EXIT_DONE: started; -1: a backend is gone again, to be waited for. */
static int
start_once(struct deploy *d)
{
	char *target = print("%s/rollout", d->target);
	char *body = print_json(with_change(&d->args, rollout_start_body(&d->args)));
	struct answer answer;
	int code = EXIT_DONE;

	ask_teal(&d->args, "POST", target, body, PATIENCE_MS, &answer);
	progress_clear(&d->progress);
	if (answer.json != NULL) {
		see(d, json_incref(answer.json));
	} else if (strcmp(answer.code, "not-ready") == 0) {
		code = -1;
	} else {
		complain_answer(&d->args, &answer);
		if (answer.status == 0)
			complain(
			    "%s: whether the rollout was started is not known: tealctl status %s",
			    d->name, d->name);
		else
			complain("%s: no rollout was started", d->name);
		code = EXIT_FAILED;
	}
	answer_fini(&answer);
	free(body);
	free(target);
	return code;
}

/* Ready, and started. */
static int
start(struct deploy *d)
{
	char *waiting =
	    print("tealctl: interrupted; the pool of %s is set, no rollout was started\n",
		color_name(d->args.to));
	char *starting = print(
	    "tealctl: interrupted; a rollout may have been started: tealctl status %s\n", d->name);
	json_t *next;
	int code;

	for (;;) {
		terminal_on_interrupt(waiting);
		if ((code = wait_ready(d)) != EXIT_DONE)
			break;
		terminal_on_interrupt(starting);
		if ((code = start_once(d)) >= 0)
			break;
		switch (poll_next(&d->poll, &next)) {
		case POLL_ANSWERED:
			see(d, next);
			continue;
		case POLL_FAILED:
			code = EXIT_FAILED;
			break;
		case POLL_TIMED_OUT:
			code = not_ready(d);
			break;
		}
		break;
	}
	terminal_on_interrupt(NULL);
	free(waiting);
	free(starting);
	return code;
}

static void
show_started(const struct deploy *d)
{
	if (!d->args.json) {
		status_line(stdout, d->service);
		return;
	}
	(void)json_dumpf(d->service, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
	(void)fputc('\n', stdout);
}

/* All of it; the pool is set. */
static int
finish(struct deploy *d, const struct args *given)
{
	int code;

	/* ours was the last change that --if-epoch knows of */
	d->args.has_epoch = given->has_epoch;
	d->args.if_epoch = (uint64_t)member_number(d->service, "epoch");
	ready_begin(&d->ready, d->args.to, given->backends, given->n_backends);
	code = start(d);
	ready_fini(&d->ready);
	if (code != EXIT_DONE)
		return code;
	if (!given->wait) {
		show_started(d);
		return EXIT_DONE;
	}
	if (given->timeout_ms == 0)
		d->poll.deadline_ms = 0;
	return wait_rollout(&d->poll, d->service);
}

int
run_deploy(const struct args *a)
{
	struct deploy d = {.args = *a};
	int code;
	char *target = service_target(a, a->n_words == 1 ? a->words[0] : NULL, &code);
	struct memory name;

	if (target == NULL)
		return code;
	d.target = target;
	memory_begin(&name);
	put_safe(name.f, strrchr(target, '/') + 1);
	d.name = memory_end(&name);
	progress_begin(&d.progress, a);
	d.poll = (struct poll){.args = &d.args,
	    .progress = &d.progress,
	    .target = target,
	    .deadline_ms = deadline_of(a, READY_MS)};
	code = set_pool(&d, a) < 0 ? EXIT_FAILED : finish(&d, a);
	json_decref(d.service);
	free(d.name);
	free(target);
	return code;
}
