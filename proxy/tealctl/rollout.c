/* The commands that move a rollout, and rearm. */
#include <stdlib.h>

#include "config/parse.h"
#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/rollout.h"
#include "proxy/tealctl/status.h"
#include "proxy/tealctl/terminal.h"
#include "proxy/tealctl/wait.h"

json_t *
rollout_start_body(const struct args *a)
{
	json_t *body = json_pack("{s:s}", "action", "start"), *steps;
	char hold[UNIT_TEXT_SIZE];

	if (a->has_to)
		(void)json_object_set_new(body, "to", json_string(color_name(a->to)));
	if (a->rearm)
		(void)json_object_set_new(body, "rearm", json_true());
	if (a->n_steps == 0)
		return body;
	steps = json_array();
	for (size_t i = 0; i < a->n_steps; i++) {
		duration_print(a->steps[i].hold_ms, hold);
		(void)json_array_append_new(steps,
		    json_pack("{s:f, s:s}", "weight", a->steps[i].weight_bp / 100.0, "hold", hold));
	}
	(void)json_object_set_new(body, "steps", steps);
	return body;
}

/* POST TARGET/rollout, and --wait when given; takes the body. */
static int
post(const struct args *a, const char *target, json_t *body)
{
	char *text = print_json(with_change(a, body)), *raw = NULL,
	     *rollout = print("%s/rollout", target);
	struct poll poll = {.args = a, .target = target, .deadline_ms = deadline_of(a, 0)};
	struct progress progress;
	json_t *answer;
	int code = EXIT_DONE;

	if (a->wait) {
		progress_begin(&progress, a);
		poll.progress = &progress;
		terminal_on_interrupt(
		    "tealctl: interrupted; teal may have got the command: tealctl status\n");
	}
	answer = ask(a, "POST", rollout, text, &raw);
	if (answer == NULL)
		code = EXIT_FAILED;
	else if (a->wait)
		code = wait_rollout(&poll, answer);
	else
		show_change(a, answer, raw, NULL);
	json_decref(answer);
	free(raw);
	free(rollout);
	free(text);
	return code;
}

static int
act(const struct args *a, json_t *body)
{
	int code;
	char *target = service_target(a, a->n_words == 1 ? a->words[0] : NULL, &code);

	if (target == NULL) {
		json_decref(body);
		return code;
	}
	code = post(a, target, body);
	free(target);
	return code;
}

int
run_rollout_start(const struct args *a)
{
	return act(a, rollout_start_body(a));
}

int
run_rollout_pause(const struct args *a)
{
	return act(a, json_pack("{s:s}", "action", "pause"));
}

int
run_rollout_resume(const struct args *a)
{
	return act(a, json_pack("{s:s}", "action", "resume"));
}

int
run_rollout_promote(const struct args *a)
{
	json_t *body = json_pack("{s:s}", "action", "promote");

	if (a->full)
		(void)json_object_set_new(body, "full", json_true());
	return act(a, body);
}

int
run_rollout_abort(const struct args *a)
{
	return act(a, json_pack("{s:s}", "action", "abort"));
}

int
run_rearm(const struct args *a)
{
	return change_service(
	    a, a->n_words == 1 ? a->words[0] : NULL, "POST", "rearm", json_object());
}
