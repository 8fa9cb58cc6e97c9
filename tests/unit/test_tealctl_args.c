/*
 * What the operator typed, and which words mean what.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "proxy/tealctl/args.c" /* no part of the library the tests link */

static const struct command table[] = {
    {.name = "status", .arguments = "[SERVICE]", .max_words = 1, .takes = TAKES_WATCH},
    {.name = "weight",
	.arguments = "[SERVICE] PERCENT",
	.min_words = 1,
	.max_words = 2,
	.takes = TAKES_CHANGE},
    {.name = "backend add",
	.arguments = "[SERVICE] COLOR ADDRESS...",
	.min_words = 2,
	.max_words = ARGS_WORDS_MAX,
	.takes = TAKES_CHANGE},
    {.name = "backend drain", .arguments = "...", .min_words = 2, .max_words = ARGS_WORDS_MAX},
    {.name = "rollout start",
	.arguments = "[SERVICE]",
	.max_words = 1,
	.takes = TAKES_CHANGE | TAKES_WAIT | TAKES_PLAN},
    {.name = "rollout promote", .max_words = 1, .takes = TAKES_CHANGE | TAKES_WAIT | TAKES_FULL},
    {.name = "deploy",
	.arguments = "[SERVICE] --backends A,B",
	.max_words = 1,
	.takes = TAKES_CHANGE | TAKES_WAIT | TAKES_PLAN | TAKES_BACKENDS},
};

static struct args args;
static char err[512];

/* Splits at blanks; the words live until the next call. */
static int
parse(const char *line)
{
	static char copy[16384];
	static char *argv[ARGS_WORDS_MAX + 16];
	char *rest = copy;
	int argc = 0;

	snprintf(copy, sizeof(copy), "tealctl %s", line);
	while ((argv[argc] = strsep(&rest, " ")) != NULL)
		if (*argv[argc] != '\0')
			argc++;
	err[0] = '\0';
	args_fini(&args);
	return args_parse(
	    &args, table, sizeof(table) / sizeof(table[0]), argc, argv, err, sizeof(err));
}

static void
refused(const char *line, const char *why)
{
	assert_int_equal(parse(line), -1);
	if (strstr(err, why) == NULL)
		fail_msg("%s: \"%s\" is not in \"%s\"", line, why, err);
}

static void
options_anywhere(void **state)
{
	(void)state;
	assert_int_equal(parse("weight 25"), 0);
	assert_ptr_equal(args.command, &table[1]);
	assert_int_equal(args.n_words, 1);
	assert_string_equal(args.words[0], "25");
	assert_null(args.socket);
	assert_null(args.reason);
	assert_false(args.has_epoch || args.json || args.watch || args.help);
	assert_int_equal(parse("weight api --json 25 -s /run/x --reason=OPS-1 --if-epoch 7"), 0);
	assert_int_equal(args.n_words, 2);
	assert_string_equal(args.words[1], "25");
	assert_string_equal(args.socket, "/run/x");
	assert_string_equal(args.reason, "OPS-1");
	assert_true(args.has_epoch && args.json);
	assert_int_equal(args.if_epoch, 7);
	assert_int_equal(parse("--socket /a status --watch"), 0);
	assert_true(args.watch);
	assert_int_equal(parse("status -w web"), 0);
	assert_true(args.watch);
	assert_int_equal(parse("weight -- --odd 5"), 0);
	assert_string_equal(args.words[0], "--odd");
}

static void
two_words(void **state)
{
	(void)state;
	assert_int_equal(parse("backend add blue a:1 b:2"), 0);
	assert_ptr_equal(args.command, &table[2]);
	assert_int_equal(args.n_words, 3);
	refused("backend", "backend takes one of: add, drain");
	refused("backend bogus", "backend takes one of: add, drain");
	refused("back add blue a:1", "unknown command \"back\"");
	refused("backends", "unknown command");
}

static void
wrong_usage(void **state)
{
	(void)state;
	refused("", "no command");
	refused("frobnicate", "unknown command \"frobnicate\"");
	refused("weight", "usage: tealctl weight [SERVICE] PERCENT");
	refused("weight a b c", "usage: ");
	refused("weight 5 --watch", "does not take --watch");
	refused("status --reason x", "does not take --reason");
	refused("status --if-epoch 1", "does not take --if-epoch");
	refused("weight 5 --reason", "--reason needs an argument");
	refused("weight 5 -s", "-s needs an argument");
	refused("weight 5 --bogus", "unknown option --bogus");
	refused("weight 5 -x", "unknown option -x");
	refused("weight -5", "unknown option");
	refused("weight 5 --if-epoch x", "whole number");
	refused("weight 5 --if-epoch=-1", "whole number");
	refused("weight 5 --if-epoch 1234567890123456789", "whole number");
}

/* What a rollout takes, and that nothing else takes it. */
static void
rollouts(void **state)
{
	(void)state;
	assert_int_equal(parse("rollout start api --to green --steps 12.5:90s,100:10m --rearm "
			       "--wait --timeout 2h"),
	    0);
	assert_ptr_equal(args.command, &table[4]);
	assert_true(args.has_to && args.to == GREEN && args.rearm && args.wait && !args.full);
	assert_int_equal(args.n_steps, 2);
	assert_int_equal(args.steps[0].weight_bp, 1250);
	assert_int_equal(args.steps[0].hold_ms, 90000);
	assert_int_equal(args.timeout_ms, 7200000);
	assert_int_equal(
	    parse("rollout start --to blue --to green --steps 100:1s --steps 100:2s"), 0);
	assert_int_equal(args.to, GREEN);
	assert_int_equal(args.steps[0].hold_ms, 2000);
	assert_int_equal(parse("rollout promote --full"), 0);
	assert_true(args.full);
	refused("rollout", "rollout takes one of: start, promote");
	refused("rollout start --full", "rollout start does not take --full");
	refused("rollout promote --rearm", "does not take --rearm");
	refused("weight 5 --wait", "weight does not take --wait");
	refused("status --backends a:1", "does not take --backends");
	refused("rollout start --timeout 5s", "--timeout needs --wait");
	refused("rollout start --wait --timeout 5", "--timeout takes a duration like");
	refused("rollout start --wait --timeout 0s", "--timeout takes a duration like");
	refused("rollout start --to teal", "--to takes blue or green, not \"teal\"");
	refused("rollout start --steps 25:5m", "--steps must end at weight 100");
	refused("rollout start --steps", "--steps needs an argument");
}

static void
deploys(void **state)
{
	static char line[ARGS_BACKENDS_MAX * 8 + 64];
	size_t n;

	(void)state;
	assert_int_equal(parse("deploy --backends a:1,unix:/b --backends [::1]:2 --timeout 5m"), 0);
	assert_int_equal(args.n_backends, 3);
	assert_string_equal(args.backends[0], "a:1");
	assert_string_equal(args.backends[1], "unix:/b");
	assert_string_equal(args.backends[2], "[::1]:2");
	refused("deploy", "deploy needs --backends ADDRESS,ADDRESS");
	refused("deploy --backends a:1,", "--backends: \"\": ");
	refused("deploy --backends a:1,a:2,a:1", "--backends: a:1 is there twice");
	refused("deploy --backends a:99999", "--backends: \"a:99999\": ");
	n = (size_t)snprintf(line, sizeof(line), "deploy --backends b:1");
	for (int i = 1; i < ARGS_BACKENDS_MAX; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, ",a:%d", i);
	assert_int_equal(parse(line), 0);
	assert_int_equal(args.n_backends, ARGS_BACKENDS_MAX);
	(void)snprintf(line + n, sizeof(line) - n, ",c:1");
	refused(line, "more than 1000");
}

static void
help_needs_nothing(void **state)
{
	(void)state;
	assert_int_equal(parse("--help"), 0);
	assert_true(args.help);
	assert_null(args.command);
	assert_int_equal(parse("weight --help"), 0);
	assert_true(args.help);
	assert_ptr_equal(args.command, &table[1]);
}

static void
too_many_words(void **state)
{
	static char line[2 * (ARGS_WORDS_MAX + 8) + 32] = "backend add";

	(void)state;
	for (int i = 0; i < ARGS_WORDS_MAX; i++)
		strcat(line, " a");
	assert_int_equal(parse(line), 0);
	strcat(line, " a");
	refused(line, "too many");
}

static void
targets(void **state)
{
	struct target t;

	(void)state;
	assert_int_equal(parse("backend add blue a:1 unix:/b"), 0);
	assert_int_equal(args_target(&args, &t, err, sizeof(err)), 0);
	assert_null(t.service);
	assert_int_equal(t.color, BLUE);
	assert_int_equal(t.n, 2);
	assert_string_equal(t.addresses[1], "unix:/b");
	assert_int_equal(parse("backend add api green [::1]:1"), 0);
	assert_int_equal(args_target(&args, &t, err, sizeof(err)), 0);
	assert_string_equal(t.service, "api");
	assert_int_equal(t.color, GREEN);
	assert_int_equal(t.n, 1);
	/* a service called like a color */
	assert_int_equal(parse("backend add blue green a:1"), 0);
	assert_int_equal(args_target(&args, &t, err, sizeof(err)), 0);
	assert_string_equal(t.service, "blue");
	assert_int_equal(t.color, GREEN);
}

static void
bad_targets(void **state)
{
	static const struct {
		const char *line, *why;
	} cases[] = {{"backend add api red a:1", "usage: "}, {"backend add a:1 b:2", "usage: "},
	    {"backend add api blue", "which ADDRESS"}, {"backend add blue green", "which ADDRESS"},
	    {"backend add blue nonsense", "\"nonsense\": "},
	    {"backend add blue a:1 a:99999", "a:99999"}};
	struct target t;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].line), 0);
		assert_int_equal(args_target(&args, &t, err, sizeof(err)), -1);
		if (strstr(err, cases[i].why) == NULL)
			fail_msg("%s: %s", cases[i].line, err);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(options_anywhere),
	    cmocka_unit_test(two_words),
	    cmocka_unit_test(wrong_usage),
	    cmocka_unit_test(rollouts),
	    cmocka_unit_test(deploys),
	    cmocka_unit_test(help_needs_nothing),
	    cmocka_unit_test(too_many_words),
	    cmocka_unit_test(targets),
	    cmocka_unit_test(bad_targets),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	args_fini(&args);
	return failed;
}
