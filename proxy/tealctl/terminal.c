/* The terminal.  See terminal.h. */
#include <errno.h>
#include <langinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "proxy/tealctl/terminal.h"

#define ENTER "\033[?1049h\033[?25l" /* the alternate screen, cursor off */
#define LEAVE "\033[?25h\033[?1049l"

/* Handlers read these. */
static const char *volatile farewell;
static volatile sig_atomic_t on_screen, line_open, resized;

bool
terminal_is_one(FILE *out)
{
	const char *term = getenv("TERM");

	return isatty(fileno(out)) == 1 && (term == NULL || strcmp(term, "dumb") != 0);
}

struct look
terminal_look(FILE *out)
{
	const char *no_color = getenv("NO_COLOR"), *columns = getenv("COLUMNS");
	struct look look = {.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0};
	struct winsize size;
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	look.now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	/* no-color.org: set and not empty */
	look.color = terminal_is_one(out) && (no_color == NULL || *no_color == '\0');
	if (isatty(fileno(out)) != 1)
		return look;
	if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
		look.width = size.ws_col;
		look.height = size.ws_row;
	} else if (columns != NULL) {
		look.width = (unsigned)strtoul(columns, NULL, 10);
	}
	return look;
}

/* --- signals: only what is async-signal-safe -------------------------------------------------- */

static void
put(int fd, const char *text, size_t n)
{
	int saved = errno;

	while (n > 0) {
		ssize_t sent = write(fd, text, n);

		if (sent < 0 && errno != EINTR)
			break;
		if (sent > 0) {
			text += sent;
			n -= (size_t)sent;
		}
	}
	errno = saved;
}

static void
leave(void)
{
	if (on_screen)
		put(STDOUT_FILENO, LEAVE, sizeof(LEAVE) - 1);
}

/* SIGINT, SIGTERM, SIGHUP; the signal is blocked until the handler returns, then it kills. */
static void
end(int sig)
{
	const char *last = farewell;

	leave();
	on_screen = 0;
	if (line_open)
		put(STDOUT_FILENO, "\n", 1);
	if (last != NULL)
		put(STDERR_FILENO, last, strlen(last));
	(void)signal(
	    sig, SIG_DFL); /* NOLINT(bugprone-signal-handler,cert-sig30-c): POSIX says it is safe */
	(void)raise(sig);  /* NOLINT(bugprone-signal-handler,cert-sig30-c) */
}

static void
note_size(int sig)
{
	(void)sig;
	resized = 1;
}

/* Ctrl-Z: the shell gets its screen back; fg gives us ours. */
static void
suspend(int sig)
{
	(void)sig;
	leave();
	(void)raise(SIGSTOP); /* NOLINT(bugprone-signal-handler,cert-sig30-c) */
	if (on_screen)
		put(STDOUT_FILENO, ENTER, sizeof(ENTER) - 1);
	resized = 1;
}

/* A signal that is ignored, by nohup say, stays so.  flags: without SA_RESTART a sleep ends. */
static void
handle(int sig, void (*handler)(int), int flags)
{
	struct sigaction now, action = {.sa_handler = handler, .sa_flags = flags};

	if (sigaction(sig, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
		(void)sigaction(sig, &action, NULL);
}

static void
handle_ends(void)
{
	handle(SIGINT, end, SA_RESTART);
	handle(SIGTERM, end, SA_RESTART);
	handle(SIGHUP, end, SA_RESTART);
}

void
terminal_on_interrupt(const char *last_words)
{
	farewell = last_words;
	handle_ends();
}

void
terminal_line_open(bool open)
{
	line_open = open;
}

void
terminal_screen(void)
{
	if (on_screen)
		return;
	handle_ends();
	handle(SIGQUIT, end, SA_RESTART);
	handle(SIGPIPE, end, SA_RESTART);
	handle(SIGTSTP, suspend, 0);
	handle(SIGWINCH, note_size, 0);
	if (atexit(leave) != 0)
		return;
	on_screen = 1;
	put(STDOUT_FILENO, ENTER, sizeof(ENTER) - 1);
}

void
terminal_draw(const char *text, size_t n)
{
	put(STDOUT_FILENO, text, n);
}

bool
terminal_resized(void)
{
	bool was = resized != 0;

	resized = 0;
	return was;
}
