/*
 * tealctl: the operator's tool, a client of the admin socket and nothing more.
 *
 * To add a command: a row here, a function, and a line in tealctl(1) and the
 * completion.
 */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy/tealctl/commands.h"
#include "proxy/tealctl/text.h"

#define ANY ARGS_WORDS_MAX

#define WAIT_HELP                                                                                  \
	"  --wait          follow it until it has ended\n"                                         \
	"  --timeout D     with --wait: for so long at most\n"                                     \
	"\n"                                                                                       \
	"With --wait it exits with 0 promoted, 3 rolled back, 4 inconclusive, paused or waiting\n" \
	"for promote, 5 not over in time.  Ctrl-C ends the waiting; the rollout goes on.\n"

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
    {"rollout start", "[SERVICE] [--to COLOR] [--steps STEPS] [--wait]",
	"bring the candidate in, step by step",
	"  --to COLOR      whom to bring in; refused when it is live (the candidate)\n"
	"  --steps STEPS   WEIGHT:HOLD,... up to 100, like 25:5m,50:5m,100:10m (as configured)\n"
	"  --rearm         also after a trip\n" WAIT_HELP,
	0, 1, TAKES_CHANGE | TAKES_WAIT | TAKES_PLAN, run_rollout_start},
    {"rollout pause", "[SERVICE]", "stay at this weight until resume", "", 0, 1, TAKES_CHANGE,
	run_rollout_pause},
    {"rollout resume", "[SERVICE] [--wait]", "go on", WAIT_HELP, 0, 1, TAKES_CHANGE | TAKES_WAIT,
	run_rollout_resume},
    {"rollout promote", "[SERVICE] [--full] [--wait]", "the next step, now",
	"  --full          to the end: the candidate becomes live\n" WAIT_HELP, 0, 1,
	TAKES_CHANGE | TAKES_WAIT | TAKES_FULL, run_rollout_promote},
    {"rollout abort", "[SERVICE]", "everything back to the live color, now", "", 0, 1, TAKES_CHANGE,
	run_rollout_abort},
    {"rearm", "[SERVICE]", "allow rollouts again after a trip", "", 0, 1, TAKES_CHANGE, run_rearm},
    {"deploy", "[SERVICE] --backends A,B [--to COLOR] [--wait]",
	"set the candidate's pool, wait until it is ready, start a rollout",
	"  --backends A,B  the whole pool; HOST:PORT, [V6]:PORT or unix:/PATH; may be given again\n"
	"  --to COLOR      whose pool; refused when it is live (the candidate)\n"
	"  --steps STEPS   WEIGHT:HOLD,... up to 100, like 25:5m,50:5m,100:10m (as configured)\n"
	"  --rearm         also after a trip\n"
	"  --wait          follow the rollout until it has ended\n"
	"  --timeout D     for all of it (5m until the backends are up, then as long as it takes)\n"
	"\n"
	"Exits with 5 when a backend is not up in time: the pool stays set, no rollout is\n"
	"started.  With --wait: 0 promoted, 3 rolled back, 4 inconclusive, paused or waiting for\n"
	"promote, 5 not over in time (it goes on by itself).  Without: 0 when it was started.\n",
	0, 1, TAKES_CHANGE | TAKES_WAIT | TAKES_PLAN | TAKES_BACKENDS, run_deploy},
    {"why", "[SERVICE]", "the evidence of the last rollback", "", 0, 1, 0, run_why},
    {"history", "[SERVICE]", "who changed what, when and why", "", 0, 1, 0, run_history},
    {"events", "", "what happens, as it happens",
	"Until Ctrl-C.  With --json each event as teal tells it, one a line.\n", 0, 0, 0,
	run_events},
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
		char left[96];
		int n =
		    snprintf(left, sizeof(left), "%s %s", commands[i].name, commands[i].arguments);

		(void)fprintf(out, n > 42 ? "  %s\n  %-42s %s\n" : "  %-42s%s %s\n", left, "",
		    commands[i].summary);
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

/* What is on stdout is part of the work, but for a reader who has had enough (head). */
static int
finish_output(int code)
{
	struct pollfd reader = {.fd = STDOUT_FILENO};

	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	if (errno == EPIPE || (poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR) != 0))
		return code;
	(void)fprintf(stderr, "tealctl: cannot write: %s\n", strerror(errno));
	return code == EXIT_DONE ? EXIT_FAILED : code;
}

int
main(int argc, char **argv)
{
	struct args a;
	char err[512];
	int code;

	(void)setlocale(LC_CTYPE, "");
	text_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	if (args_parse(&a, commands, N_COMMANDS, argc, argv, err, sizeof(err)) < 0) {
		(void)fprintf(stderr, "tealctl: %s\n", err);
		if (a.command == NULL)
			(void)fputs("tealctl --help lists the commands\n", stderr);
		args_fini(&a);
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
	args_fini(&a);
	return finish_output(code);
}
