/* status --watch.  See watch.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/progress.h"
#include "proxy/tealctl/status.h"
#include "proxy/tealctl/terminal.h"
#include "proxy/tealctl/watch.h"

#define ANSWER_MS 5000

struct watch {
	const struct args *args;
	const char *target;
	bool terminal;
	json_t *answer; /* the last; NULL: never one */
	char err[1024]; /* why there is no newer one; "" */
	struct trail trail;
};

static unsigned
count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

char *
watch_screen(const char *text, unsigned height)
{
	unsigned lines = count_lines(text), shown = lines;
	struct memory m;

	if (height > 1 && lines >= height) /* the cursor stands below the last line */
		shown = height - 2;
	memory_begin(&m);
	(void)fputs("\033[H", m.f);
	for (unsigned i = 0; i < shown; i++) {
		size_t n = strcspn(text, "\n");

		(void)fwrite(text, 1, n, m.f);
		(void)fputs("\033[K\n", m.f);
		text += n + 1;
	}
	if (shown < lines)
		(void)fprintf(m.f, "(%u more lines)\033[K", lines - shown);
	(void)fputs("\033[J", m.f);
	return memory_end(&m);
}

static void
show(const struct watch *w)
{
	struct look look = terminal_look(stdout);
	struct memory m;
	char *text, *screen;

	look.trail = &w->trail;
	memory_begin(&m);
	if (*w->err != '\0') {
		struct memory line;
		char *told;

		memory_begin(&line);
		put_style(line.f, &look, "31;1");
		(void)fprintf(line.f, "%.*s", (int)strcspn(w->err, "\n"), w->err);
		put_plain(line.f, &look);
		(void)fputs("; as it was:\n\n", line.f);
		told = memory_end(&line);
		put_clipped(m.f, told, &look);
		free(told);
	}
	status_render(m.f, w->answer, &look);
	text = memory_end(&m);
	if (w->terminal) {
		screen = watch_screen(text, look.height);
		terminal_draw(screen, strlen(screen));
		free(screen);
	} else {
		(void)fputs(text, stdout);
		(void)fputc('\n', stdout);
	}
	free(text);
}

/* Asks once; false: never got an answer, told. */
static bool
look_again(struct watch *w)
{
	struct answer answer;
	json_t *services;

	ask_teal(w->args, "GET", w->target, NULL, ANSWER_MS, &answer);
	if (answer.json == NULL && w->answer == NULL) {
		complain_answer(w->args, &answer);
		answer_fini(&answer);
		return false;
	}
	if (answer.json != NULL) {
		json_decref(w->answer);
		w->answer = json_incref(answer.json);
		services = status_services(w->answer);
		trail_add(&w->trail, services);
		json_decref(services);
	}
	(void)snprintf(w->err, sizeof(w->err), "%s", answer.json == NULL ? answer.err : "");
	answer_fini(&answer);
	return true;
}

static void
tell(struct watch *w)
{
	if (!w->args->json) {
		show(w);
	} else if (*w->err == '\0') {
		(void)json_dumpf(w->answer, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
		(void)fputc('\n', stdout);
	}
}

/* The rest of this second; a resize draws again what is known. */
static void
wait_second(struct watch *w, struct timespec *next)
{
	struct timespec now;

	/* teal was slow to answer: what was missed is not made up for */
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if (next->tv_sec < now.tv_sec)
		*next = now;
	next->tv_sec++;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) != 0)
		if (terminal_resized() && w->terminal)
			show(w);
}

int
watch_status(const struct args *a, const char *target)
{
	static struct watch w;
	struct timespec next;

	w = (struct watch){
	    .args = a, .target = target, .terminal = !a->json && terminal_is_one(stdout)};
	(void)clock_gettime(CLOCK_MONOTONIC, &next);
	while (look_again(&w)) {
		if (w.terminal)
			terminal_screen();
		tell(&w);
		if (fflush(stdout) != 0)
			break;
		wait_second(&w, &next);
	}
	json_decref(w.answer);
	return EXIT_FAILED;
}
