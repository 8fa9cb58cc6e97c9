/* --wait.  See wait.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/client.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/follow.h"
#include "proxy/tealctl/rollout_view.h"
#include "proxy/tealctl/terminal.h"
#include "proxy/tealctl/wait.h"

int64_t
deadline_of(const struct args *a, int64_t otherwise_ms)
{
	int64_t ms = a->timeout_ms != 0 ? a->timeout_ms : otherwise_ms;

	return ms == 0 ? 0 : client_now_ms() + ms;
}

/* --- asking again ----------------------------------------------------------------------------- */

static int64_t
left_ms(const struct poll *p, int64_t most)
{
	int64_t left = p->deadline_ms == 0 ? most : p->deadline_ms - client_now_ms();

	return left < most ? left : most;
}

static void
pause_ms(int64_t ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&t, &t) != 0)
		;
}

/* teal did not answer: false when it is given up. */
static bool
bear_silence(struct poll *p, const char *err)
{
	int64_t now = client_now_ms();

	if (p->lost_ms == 0) {
		p->lost_ms = now;
		progress_clear(p->progress);
		complain("%.*s; trying again", (int)strcspn(err, "\n"), err);
		return true;
	}
	if (p->deadline_ms != 0 || now - p->lost_ms < LOST_MS)
		return true;
	progress_clear(p->progress);
	complain("%s; given up after %d minutes", err, LOST_MS / 60000);
	return false;
}

enum polled
poll_next(struct poll *p, json_t **service)
{
	struct answer answer;

	*service = NULL;
	for (;;) {
		if (left_ms(p, POLL_MS) > 0)
			pause_ms(left_ms(p, POLL_MS));
		if (left_ms(p, POLL_WAIT_MS) <= 0)
			return POLL_TIMED_OUT;
		ask_teal(p->args, "GET", p->target, NULL, left_ms(p, POLL_WAIT_MS), &answer);
		if (answer.json != NULL)
			break;
		if (answer.status != 0 && answer.status < 500) {
			progress_clear(p->progress);
			complain_answer(p->args, &answer);
			answer_fini(&answer);
			return POLL_FAILED;
		}
		if (!bear_silence(p, answer.err)) {
			answer_fini(&answer);
			return POLL_FAILED;
		}
		answer_fini(&answer);
	}
	if (p->lost_ms != 0) {
		p->lost_ms = 0;
		progress_clear(p->progress);
		complain("teal answers again");
	}
	*service = json_incref(answer.json);
	answer_fini(&answer);
	return POLL_ANSWERED;
}

/* --- a rollout -------------------------------------------------------------------------------- */

/* A name, safe for a terminal; malloc'd. */
static char *
safe_name(const json_t *service)
{
	struct memory m;

	memory_begin(&m);
	put_safe(m.f, member_text(service, "name"));
	return memory_end(&m);
}

static void
draw(struct progress *progress, const json_t *service)
{
	const struct look look = terminal_look(stdout);
	struct memory m;
	char *line;

	memory_begin(&m);
	rollout_line(m.f, service, &look);
	line = memory_end(&m);
	progress_draw(progress, line);
	free(line);
}

/* One look, told. */
static enum follow_end
look(struct follow *f, struct poll *p, const json_t *service)
{
	struct memory lines, last;
	enum follow_end end;
	char *said, *why;

	memory_begin(&lines);
	memory_begin(&last);
	end = follow_look(f, service, lines.f, last.f);
	said = memory_end(&lines);
	why = memory_end(&last);
	if (p->progress->json && *said == '\0')
		progress_say(p->progress, why, service);
	else
		progress_say(p->progress, said, service);
	if (end == FOLLOW_ON) {
		draw(p->progress, service);
	} else {
		progress_clear(p->progress);
		if (*why != '\0')
			(void)fprintf(stderr, "tealctl: %s", why);
	}
	free(said);
	free(why);
	return end;
}

static int
timed_out(struct poll *p, const json_t *service, const char *name)
{
	const json_t *rollout = json_object_get(service, "rollout");

	progress_clear(p->progress);
	complain("%s: not over in time; the rollout goes on by itself, in step %.0f/%zu\n"
		 "  look: tealctl status %s\n  go back: tealctl rollout abort %s",
	    name, member_number(rollout, "step"),
	    json_array_size(json_object_get(rollout, "steps")), name, name);
	return EXIT_TIMED_OUT;
}

static int
exit_code(enum follow_end end)
{
	switch (end) {
	case FOLLOW_ON:
		break;
	case FOLLOW_PROMOTED:
		return EXIT_DONE;
	case FOLLOW_ROLLED_BACK:
		return EXIT_ROLLED_BACK;
	case FOLLOW_UNDECIDED:
		return EXIT_UNDECIDED;
	}
	return EXIT_FAILED;
}

int
wait_rollout(struct poll *p, json_t *service)
{
	char *name = safe_name(service), *farewell;
	json_t *now = json_incref(service), *next;
	struct follow f;
	enum follow_end end;
	int code = -1;

	farewell = print("tealctl: interrupted; the rollout goes on by itself\n"
			 "  look: tealctl status %s\n  go back: tealctl rollout abort %s\n",
	    name, name);
	terminal_on_interrupt(farewell);
	follow_begin(&f, service);
	while ((end = look(&f, p, now)) == FOLLOW_ON && code < 0) {
		switch (poll_next(p, &next)) {
		case POLL_ANSWERED:
			json_decref(now);
			now = next;
			break;
		case POLL_FAILED:
			code = EXIT_FAILED;
			break;
		case POLL_TIMED_OUT:
			code = timed_out(p, now, name);
			break;
		}
		if (code >= 0)
			break;
	}
	terminal_on_interrupt(NULL);
	follow_fini(&f);
	json_decref(now);
	free(farewell);
	free(name);
	return code >= 0 ? code : exit_code(end);
}
