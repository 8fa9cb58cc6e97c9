/*
 * tealctl: the operator's tool, a client of the admin socket and nothing more.
 *
 * To add a command: a row here, a function in commands.c, and a line in tealctl(1) and the
 * completion.
 */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "proxy/tealctl/commands.h"

#define ANY ARGS_WORDS_MAX

static const struct command commands[] = {
    {"status", "[SERVICE] [--watch]", "colors, weights, rates, latencies, backends",
	"Without SERVICE: all services.  --watch (-w) draws it again each second, with the last\n"
	"minute of p95; with --json it prints one JSON document per line.\n",
	0, 1, TAKES_WATCH, run_status},
    {"weight", "[SERVICE] PERCENT", "set the candidate's share of new requests",
	"PERCENT is 0 to 100 with at most two decimals.  The live color stays what it is, even at\n"
	"100; flip changes it.  tealctl returns when every worker obeys and the change is on "
	"disk.\n",
	1, 2, TAKES_CHANGE, run_weight},
    {"flip", "[SERVICE] COLOR", "all new requests to COLOR, now; it becomes live",
	"COLOR is blue or green.  The weight becomes 0: the other color gets nothing.\n", 1, 2,
	TAKES_CHANGE, run_flip},
    {"backend add", "[SERVICE] COLOR ADDRESS...", "add backends to a pool",
	"ADDRESS is HOST:PORT, [V6]:PORT or unix:/PATH.\n", 2, ANY, TAKES_CHANGE, run_backend_add},
    {"backend remove", "[SERVICE] COLOR ADDRESS...", "take backends out; what runs there finishes",
	"", 2, ANY, TAKES_CHANGE, run_backend_remove},
    {"backend drain", "[SERVICE] COLOR ADDRESS...", "no new requests to these backends",
	"They stay in the pool and what runs there finishes; undrain brings them back.\n", 2, ANY,
	TAKES_CHANGE, run_backend_drain},
    {"backend undrain", "[SERVICE] COLOR ADDRESS...", "new requests again", "", 2, ANY,
	TAKES_CHANGE, run_backend_undrain},
    {"backend set", "[SERVICE] COLOR ADDRESS...", "replace the pool, draining what leaves", "", 2,
	ANY, TAKES_CHANGE, run_backend_set},
    {"maintenance", "on|off [SERVICE]", "answer 503 with the configured page",
	"Testers with the forced color get through.  It is kept over a restart of teal.\n", 1, 2,
	TAKES_CHANGE, run_maintenance},
    {"metrics", "", "the Prometheus metrics", "", 0, 0, 0, run_metrics},
    {"version", "", "the versions of tealctl and teal", "", 0, 0, 0, run_version},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *out)
{
	(void)fputs("usage: tealctl [-s SOCKET] [--json] COMMAND ...\n\n", out);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		char left[64];

		(void)snprintf(
		    left, sizeof(left), "%s %s", commands[i].name, commands[i].arguments);
		(void)fprintf(out, "  %-42s %s\n", left, commands[i].summary);
	}
	(void)fputs(
	    "\nSERVICE may be left out when there is one.  Commands that change something take\n"
	    "--reason TEXT, and --if-epoch N: refused when somebody else changed it since.\n"
	    "The socket is SOCKET, $TEAL_SOCKET or " DEFAULT_SOCKET ".\n"
	    "tealctl COMMAND --help says more; see also tealctl(1).\n",
	    out);
}

static void
command_help(const struct command *c)
{
	(void)printf("usage: tealctl [-s SOCKET] [--json] %s %s%s\n\n  %s\n", c->name, c->arguments,
	    c->takes & TAKES_CHANGE ? " [--reason TEXT] [--if-epoch N]" : "", c->summary);
	if (*c->more != '\0')
		(void)printf("\n%s", c->more);
}

int
main(int argc, char **argv)
{
	struct args a;
	char err[512];
	int code;

	(void)setlocale(LC_CTYPE, "");
	if (args_parse(&a, commands, N_COMMANDS, argc, argv, err, sizeof(err)) < 0) {
		(void)fprintf(stderr, "tealctl: %s\n", err);
		if (a.command == NULL)
			(void)fputs("tealctl --help lists the commands\n", stderr);
		return EXIT_USAGE;
	}
	if (a.help) {
		if (a.command != NULL)
			command_help(a.command);
		else
			usage(stdout);
		code = EXIT_DONE;
	} else {
		code = a.command->run(&a);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		(void)fprintf(stderr, "tealctl: cannot write: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	return code;
}
