/* How a command that takes its time tells of it.  See progress.h. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/ask.h"
#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/progress.h"
#include "proxy/tealctl/terminal.h"

void
progress_begin(struct progress *p, const struct args *a)
{
	*p = (struct progress){.json = a->json, .drawing = !a->json && terminal_is_one(stdout)};
	(void)signal(SIGPIPE, SIG_IGN);
}

void
progress_clear(struct progress *p)
{
	if (p->drawn)
		(void)fputs("\r\033[K", stdout);
	p->drawn = false;
	terminal_line_open(false);
	(void)fflush(stdout);
}

void
progress_say(struct progress *p, const char *lines, const json_t *service)
{
	if (*lines == '\0')
		return;
	progress_clear(p);
	if (p->json) {
		(void)json_dumpf(service, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
		(void)fputc('\n', stdout);
	} else {
		(void)fputs(lines, stdout);
	}
	(void)fflush(stdout);
}

void
progress_draw(struct progress *p, const char *line)
{
	struct look look;

	if (!p->drawing)
		return;
	look = terminal_look(stdout);
	if (look.width > 1) /* the last column would wrap on some */
		look.width--;
	(void)fputc('\r', stdout);
	put_clipped(stdout, line, &look);
	(void)fputs("\033[K", stdout);
	(void)fflush(stdout);
	p->drawn = true;
	terminal_line_open(true);
}

void
memory_begin(struct memory *m)
{
	*m = (struct memory){0};
	if ((m->f = open_memstream(&m->text, &m->n)) == NULL) {
		complain("out of memory");
		exit(EXIT_FAILED);
	}
}

char *
memory_end(struct memory *m)
{
	if (fclose(m->f) != 0 || m->text == NULL) {
		complain("out of memory");
		exit(EXIT_FAILED);
	}
	m->f = NULL;
	return m->text;
}
