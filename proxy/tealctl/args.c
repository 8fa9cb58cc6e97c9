/* What the operator typed.  See args.h. */
#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/args.h"

enum {
	OPTION_JSON = 256,
	OPTION_REASON,
	OPTION_EPOCH,
	OPTION_WAIT,
	OPTION_TIMEOUT,
	OPTION_TO,
	OPTION_STEPS,
	OPTION_REARM,
	OPTION_FULL,
	OPTION_BACKENDS,
};

static const struct option options[] = {{"socket", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'}, {"json", no_argument, NULL, OPTION_JSON},
    {"watch", no_argument, NULL, 'w'}, {"reason", required_argument, NULL, OPTION_REASON},
    {"if-epoch", required_argument, NULL, OPTION_EPOCH}, {"wait", no_argument, NULL, OPTION_WAIT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"to", required_argument, NULL, OPTION_TO}, {"steps", required_argument, NULL, OPTION_STEPS},
    {"rearm", no_argument, NULL, OPTION_REARM}, {"full", no_argument, NULL, OPTION_FULL},
    {"backends", required_argument, NULL, OPTION_BACKENDS}, {NULL, 0, NULL, 0}};

static int
read_epoch(struct args *a, const char *text, char *err, size_t err_size)
{
	char *end;

	a->if_epoch = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end != '\0' || strlen(text) > 18) {
		(void)snprintf(err, err_size, "--if-epoch takes a whole number, not \"%s\"", text);
		return -1;
	}
	a->has_epoch = true;
	return 0;
}

static int
read_steps(struct args *a, const char *text, char *err, size_t err_size)
{
	char why[256];

	free(a->steps);
	a->steps = NULL;
	a->n_steps = 0;
	if (steps_parse(text, &a->steps, &a->n_steps, why, sizeof(why)) == 0)
		return 0;
	(void)snprintf(err, err_size, "--steps %s", why);
	return -1;
}

static int
add_backend(struct args *a, const char *text, size_t n, char *err, size_t err_size)
{
	struct address address;
	char why[256], *copy, **grown;

	if (a->n_backends == ARGS_BACKENDS_MAX) {
		(void)snprintf(
		    err, err_size, "--backends: more than %d addresses", ARGS_BACKENDS_MAX);
		return -1;
	}
	grown = realloc(a->backends, (a->n_backends + 1) * sizeof(*grown));
	if (grown != NULL)
		a->backends = grown;
	if (grown == NULL || (copy = strndup(text, n)) == NULL) {
		(void)snprintf(err, err_size, "out of memory");
		return -1;
	}
	a->backends[a->n_backends++] = copy;
	if (address_parse(&address, copy, why, sizeof(why)) < 0) {
		(void)snprintf(err, err_size, "--backends: \"%s\": %s", copy, why);
		return -1;
	}
	address_fini(&address);
	for (unsigned i = 0; i + 1 < a->n_backends; i++)
		if (strcmp(a->backends[i], copy) == 0) {
			(void)snprintf(err, err_size, "--backends: %s is there twice", copy);
			return -1;
		}
	return 0;
}

/* "A,B"; may be given more than once. */
static int
read_backends(struct args *a, const char *text, char *err, size_t err_size)
{
	for (;;) {
		size_t n = strcspn(text, ",");

		if (add_backend(a, text, n, err, err_size) < 0)
			return -1;
		if (text[n] == '\0')
			return 0;
		text += n + 1;
	}
}

/* Options with an argument. */
static int
read_value(struct args *a, int option, const char *text, char *err, size_t err_size)
{
	switch (option) {
	case 's':
		a->socket = text;
		return 0;
	case OPTION_REASON:
		a->reason = text;
		return 0;
	case OPTION_EPOCH:
		return read_epoch(a, text, err, err_size);
	case OPTION_TIMEOUT:
		if (duration_parse(text, &a->timeout_ms) == 0 && a->timeout_ms > 0)
			return 0;
		(void)snprintf(err, err_size,
		    "--timeout takes a duration like 90s, 10m or 1h, not \"%s\"", text);
		return -1;
	case OPTION_TO:
		if (color_parse(text, &a->to) == 0) {
			a->has_to = true;
			return 0;
		}
		(void)snprintf(err, err_size, "--to takes blue or green, not \"%s\"", text);
		return -1;
	case OPTION_STEPS:
		return read_steps(a, text, err, err_size);
	case OPTION_BACKENDS:
		return read_backends(a, text, err, err_size);
	default:
		return 0;
	}
}

static int
read_options(struct args *a, int argc, char **argv, char *err, size_t err_size)
{
	int c;

	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":s:hw", options, NULL)) != -1) {
		switch (c) {
		case 'h':
			a->help = true;
			break;
		case 'w':
			a->watch = true;
			break;
		case OPTION_JSON:
			a->json = true;
			break;
		case OPTION_WAIT:
			a->wait = true;
			break;
		case OPTION_REARM:
			a->rearm = true;
			break;
		case OPTION_FULL:
			a->full = true;
			break;
		case ':':
			(void)snprintf(err, err_size, "%s needs an argument", argv[optind - 1]);
			return -1;
		case '?':
			(void)snprintf(err, err_size, "unknown option %s", argv[optind - 1]);
			return -1;
		default:
			if (read_value(a, c, optarg, err, err_size) < 0)
				return -1;
		}
	}
	return 0;
}

/* How many words name the command: 0 when these do not. */
static int
command_fits(const struct command *c, int argc, char **argv)
{
	const char *blank = strchr(c->name, ' ');
	size_t n = blank == NULL ? strlen(c->name) : (size_t)(blank - c->name);

	if (argc < 1 || strlen(argv[0]) != n || memcmp(argv[0], c->name, n) != 0)
		return 0;
	if (blank == NULL)
		return 1;
	return argc >= 2 && strcmp(argv[1], blank + 1) == 0 ? 2 : 0;
}

/* "backend" alone, or with a word it does not know: says which words it knows. */
static void
explain_unknown(
    const struct command *table, size_t n, char **argv, int argc, char *err, size_t size)
{
	size_t used = 0, length = argc < 1 ? 0 : strlen(argv[0]);

	for (size_t i = 0; i < n && argc >= 1 && used < size; i++) {
		if (strncmp(table[i].name, argv[0], length) != 0 || table[i].name[length] != ' ')
			continue;
		used +=
		    (size_t)snprintf(err + used, size - used, "%s%s%s", used == 0 ? argv[0] : "",
			used == 0 ? " takes one of: " : ", ", table[i].name + length + 1);
	}
	if (used > 0)
		return;
	if (argc < 1)
		(void)snprintf(err, size, "no command given");
	else
		(void)snprintf(err, size, "unknown command \"%s\"", argv[0]);
}

/* An option that the command does not take: its name, or NULL. */
static const char *
stray_option(const struct args *a)
{
	const struct {
		bool given;
		unsigned taken;
		const char *name;
	} all[] = {{a->watch, TAKES_WATCH, "--watch"}, {a->wait, TAKES_WAIT, "--wait"},
	    {a->timeout_ms != 0, TAKES_WAIT, "--timeout"}, {a->has_to, TAKES_PLAN, "--to"},
	    {a->n_steps != 0, TAKES_PLAN, "--steps"}, {a->rearm, TAKES_PLAN, "--rearm"},
	    {a->full, TAKES_FULL, "--full"}, {a->n_backends != 0, TAKES_BACKENDS, "--backends"}};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].given && !(a->command->takes & all[i].taken))
			return all[i].name;
	return NULL;
}

static int
check_fit(const struct args *a, char *err, size_t err_size)
{
	const struct command *c = a->command;
	const char *stray = stray_option(a);

	if (stray != NULL) {
		(void)snprintf(err, err_size, "%s does not take %s", c->name, stray);
		return -1;
	}
	if ((a->reason != NULL || a->has_epoch) && !(c->takes & TAKES_CHANGE)) {
		(void)snprintf(err, err_size, "%s changes nothing: it does not take %s", c->name,
		    a->reason != NULL ? "--reason" : "--if-epoch");
		return -1;
	}
	if (a->n_words < c->min_words || a->n_words > c->max_words) {
		(void)snprintf(err, err_size, "usage: tealctl %s %s", c->name, c->arguments);
		return -1;
	}
	if ((c->takes & TAKES_BACKENDS) && a->n_backends == 0) {
		(void)snprintf(err, err_size, "%s needs --backends ADDRESS,ADDRESS", c->name);
		return -1;
	}
	if (a->timeout_ms != 0 && !a->wait && !(c->takes & TAKES_BACKENDS)) {
		(void)snprintf(err, err_size, "--timeout needs --wait");
		return -1;
	}
	return 0;
}

void
args_fini(struct args *a)
{
	free(a->steps);
	for (unsigned i = 0; i < a->n_backends; i++)
		free(a->backends[i]);
	free((void *)a->backends);
	*a = (struct args){0};
}

int
args_parse(struct args *a, const struct command *table, size_t n, int argc, char **argv, char *err,
    size_t err_size)
{
	int used = 0;

	*a = (struct args){0};
	if (read_options(a, argc, argv, err, err_size) < 0)
		return -1;
	argv += optind;
	argc -= optind;
	for (size_t i = 0; i < n && used == 0; i++)
		if ((used = command_fits(&table[i], argc, argv)) != 0)
			a->command = &table[i];
	if (a->help)
		return 0;
	if (a->command == NULL) {
		explain_unknown(table, n, argv, argc, err, err_size);
		return -1;
	}
	for (int i = used; i < argc; i++) {
		if (a->n_words == ARGS_WORDS_MAX) {
			(void)snprintf(err, err_size, "too many arguments");
			return -1;
		}
		a->words[a->n_words++] = argv[i];
	}
	return check_fit(a, err, err_size);
}

int
args_target(const struct args *a, struct target *t, char *err, size_t err_size)
{
	struct address address;
	enum color second;
	unsigned at = 0;

	*t = (struct target){0};
	/* the first word is the color, unless the second is one: a service may be called "blue" */
	if (a->n_words > 1 && color_parse(a->words[1], &second) == 0)
		t->service = a->words[at++];
	if (a->n_words <= at || color_parse(a->words[at], &t->color) < 0) {
		(void)snprintf(
		    err, err_size, "usage: tealctl %s %s", a->command->name, a->command->arguments);
		return -1;
	}
	t->addresses = a->words + at + 1;
	t->n = a->n_words - at - 1;
	if (t->n == 0) {
		(void)snprintf(err, err_size, "%s: which ADDRESS?", a->command->name);
		return -1;
	}
	for (unsigned i = 0; i < t->n; i++) {
		char why[256];

		if (address_parse(&address, t->addresses[i], why, sizeof(why)) < 0) {
			(void)snprintf(err, err_size, "\"%s\": %s", t->addresses[i], why);
			return -1;
		}
		address_fini(&address);
	}
	return 0;
}
