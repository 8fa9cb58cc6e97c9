/*
 * The file to structs: walks the rows of options.c beside libconfig's tree.
 *
 * Every problem is noted and loading goes on, so that one run shows all of them.
 * config_load() may run on any thread; nothing is shared between two loads.
 */
#include "config/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/alloc.h"
#include "config/options.h"

#define WHY_SIZE 512

static void load_group(struct loading *, config_setting_t *, const struct option *rows, void *base);

/* --- values --------------------------------------------------------------- */

static const char *
type_name(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_GROUP:
		return "a group";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a whole number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a point";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_ARRAY:
		return "an array";
	case CONFIG_TYPE_LIST:
		return "a list";
	default: /* libconfig's types are ints */
		return "nothing";
	}
}

static void
wrong_type(struct loading *l, config_setting_t *s, const struct option *o)
{
	loading_refuse(l, s, "must be %s, not %s", option_expects(o), type_name(s));
}

static bool
is_integer(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT ||
	       config_setting_type(s) == CONFIG_TYPE_INT64;
}

static long long
integer(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT ? config_setting_get_int(s)
							 : config_setting_get_int64(s);
}

static void
load_number(struct loading *l, config_setting_t *s, const struct option *o, void *base, int64_t n)
{
	char why[WHY_SIZE];

	if (option_set_number(o, base, n, why, sizeof(why)) < 0)
		loading_refuse(l, s, "%s", why);
}

/* Two decimals exactly: 0.015 is refused, not rounded. */
static void
load_percent(struct loading *l, config_setting_t *s, const struct option *o, void *base)
{
	double percent = config_setting_type(s) == CONFIG_TYPE_FLOAT ? config_setting_get_float(s)
								     : (double)integer(s);
	double bp = percent * 100.0;
	int64_t n;

	if (!(bp > -1e9 && bp < 1e9)) {
		load_number(l, s, o, base, -1);
		return;
	}
	n = (int64_t)(bp < 0 ? bp - 0.5 : bp + 0.5);
	if (bp - (double)n > 1e-6 || (double)n - bp > 1e-6)
		loading_refuse(l, s, "must be %s", option_expects(o));
	else
		load_number(l, s, o, base, n);
}

static void
check_readable(struct loading *l, config_setting_t *s, const char *file)
{
	struct stat st;

	if (*file == '\0')
		return;
	if (stat(file, &st) < 0 || access(file, R_OK) < 0)
		loading_refuse(
		    l, s, "names a file that cannot be read: \"%s\": %s", file, strerror(errno));
	else if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		loading_refuse(l, s, "must name a file: \"%s\"", file);
}

static void
load_text(struct loading *l, config_setting_t *s, const struct option *o, void *base)
{
	char why[WHY_SIZE];

	if (config_setting_type(s) != CONFIG_TYPE_STRING)
		wrong_type(l, s, o);
	else if (option_parse(
		     o, base, config_setting_get_string(s), l->directory, why, sizeof(why)) < 0)
		loading_refuse(l, s, "%s", why);
	else if (o->flags & OPTION_READABLE)
		check_readable(l, s, *(char **)option_at(o, base));
}

/* --- lists ---------------------------------------------------------------- */

/* An array or list with an allowed number of items: its length, else -1. */
static int
list_length(struct loading *l, config_setting_t *s, const struct option *o)
{
	int n;

	if (config_setting_type(s) != CONFIG_TYPE_LIST &&
	    config_setting_type(s) != CONFIG_TYPE_ARRAY) {
		wrong_type(l, s, o);
		return -1;
	}
	n = config_setting_length(s);
	if (n < o->min || n > o->max) {
		char range[OPTION_RANGE_SIZE];

		option_range(o, range);
		loading_refuse(l, s, "has %d items; it may have %s", n, range);
		return -1;
	}
	return n;
}

/* The first word of a command.  PATH is not searched: it is another one under systemd than in the
 * operator's shell. */
static void
load_command(struct loading *l, config_setting_t *s, char **name)
{
	struct stat st;

	if (strchr(*name, '/') == NULL) {
		loading_refuse(l, s,
		    "must be a path with a '/' in it, not \"%s\": PATH is not searched", *name);
		return;
	}
	if (**name != '/') {
		char *whole = must_print("%s/%s", l->directory, *name);

		free(*name);
		*name = whole;
	}
	if (stat(*name, &st) < 0 || access(*name, X_OK) < 0)
		loading_refuse(
		    l, s, "names a command that cannot be run: \"%s\": %s", *name, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		loading_refuse(l, s, "must name a file: \"%s\"", *name);
}

static void
load_strings(struct loading *l, config_setting_t *s, const struct option *o, void *base)
{
	int n = list_length(l, s, o);
	char why[WHY_SIZE];

	if (n < 0)
		return;
	/* a list of rules is shared by set, add and remove; the others replace their default */
	if (o->type != OPTION_REMOVALS)
		option_clear(o, base);
	for (int i = 0; i < n; i++) {
		config_setting_t *item = config_setting_get_elem(s, (unsigned)i);

		if (config_setting_type(item) != CONFIG_TYPE_STRING)
			loading_refuse(l, item, "must be a string, not %s", type_name(item));
		else if (option_append(o, base, config_setting_get_string(item), why, sizeof(why)) <
			 0)
			loading_refuse(l, item, "%s", why);
		else if (i == 0 && (o->flags & OPTION_COMMAND))
			load_command(l, item, option_vector(o, base).items);
	}
}

static void
load_item(struct loading *l, config_setting_t *s, const struct option *o, void *item)
{
	option_defaults(o->rows, item);
	if (config_setting_is_group(s))
		load_group(l, s, o->rows, item);
	else if (o->type == OPTION_BACKENDS && config_setting_type(s) == CONFIG_TYPE_STRING)
		load_text(l, s, &o->rows[0], item);
	else if (o->type == OPTION_BACKENDS)
		loading_refuse(l, s, "must be an address or a group, not %s", type_name(s));
	else
		loading_refuse(l, s, "must be a group, not %s", type_name(s));
}

static void
load_list(struct loading *l, config_setting_t *s, const struct option *o, void *base)
{
	int n = list_length(l, s, o);
	struct option_vector v;

	if (n < 0)
		return;
	option_clear(o, base);
	v.n = (size_t)n;
	v.items = n > 0 ? must_alloc(v.n, o->size) : NULL;
	option_vector_set(o, base, v);
	for (int i = 0; i < n; i++)
		load_item(l, config_setting_get_elem(s, (unsigned)i), o,
		    (char *)v.items + (size_t)i * o->size);
}

static void
load_rules(struct loading *l, config_setting_t *s, const struct option *o, void *base)
{
	int n = list_length(l, s, o);
	struct option_vector v = option_vector(o, base);

	if (n <= 0)
		return;
	v.items = must_resize(v.items, v.n + (size_t)n, o->size);
	memset((char *)v.items + v.n * o->size, 0, (size_t)n * o->size);
	for (int i = 0; i < n; i++) {
		struct header_rule *rule = (struct header_rule *)v.items + v.n + i;

		rule->action = o->action;
		load_item(l, config_setting_get_elem(s, (unsigned)i), o, rule);
	}
	v.n += (size_t)n;
	option_vector_set(o, base, v);
}

/* --- the walk ------------------------------------------------------------- */

static void
load_value(struct loading *l, config_setting_t *s, const struct option *o, void *base)
{
	switch (o->type) {
	case OPTION_BOOL:
		if (config_setting_type(s) == CONFIG_TYPE_BOOL)
			*(bool *)option_at(o, base) = config_setting_get_bool(s) != 0;
		else
			wrong_type(l, s, o);
		return;
	case OPTION_UNSIGNED:
		if (is_integer(s))
			load_number(l, s, o, base, integer(s));
		else
			wrong_type(l, s, o);
		return;
	case OPTION_SIZE:
		if (is_integer(s))
			load_number(l, s, o, base, integer(s));
		else
			load_text(l, s, o, base);
		return;
	case OPTION_PERCENT:
		if (config_setting_is_number(s))
			load_percent(l, s, o, base);
		else
			wrong_type(l, s, o);
		return;
	case OPTION_DURATION:
	case OPTION_WORD:
	case OPTION_STRING:
	case OPTION_FILE:
	case OPTION_ADDRESS:
	case OPTION_FORM:
		load_text(l, s, o, base);
		return;
	case OPTION_STRINGS:
	case OPTION_NETWORKS:
	case OPTION_REMOVALS:
		load_strings(l, s, o, base);
		return;
	case OPTION_GROUP:
		if (!config_setting_is_group(s)) {
			wrong_type(l, s, o);
			return;
		}
		if (o->presence != 0)
			*(bool *)((char *)base + o->presence) = true;
		load_group(l, s, o->rows, option_at(o, base));
		return;
	case OPTION_LIST:
	case OPTION_BACKENDS:
		load_list(l, s, o, base);
		return;
	case OPTION_RULES:
		load_rules(l, s, o, base);
		return;
	}
}

static void
load_unknown(struct loading *l, config_setting_t *s, const struct option *rows)
{
	const char *nearest = option_nearest(rows, config_setting_name(s));
	char *key = loading_key(s);

	if (nearest != NULL)
		loading_problem(l, s, "unknown key %s; did you mean \"%s\"?", key, nearest);
	else
		loading_problem(l, s, "unknown key %s", key);
	free(key);
}

static void
load_group(struct loading *l, config_setting_t *s, const struct option *rows, void *base)
{
	int n = config_setting_length(s);

	for (int i = 0; i < n; i++) {
		config_setting_t *child = config_setting_get_elem(s, (unsigned)i);
		const struct option *o = rows;

		while (o->key != NULL && strcmp(o->key, config_setting_name(child)) != 0)
			o++;
		if (o->key == NULL)
			load_unknown(l, child, rows);
	}
	/* in the order of the rows, so that remove, set, add come as documented */
	for (const struct option *o = rows; o->key != NULL; o++) {
		config_setting_t *child = config_setting_get_member(s, o->key);

		if (child != NULL) {
			load_value(l, child, o, base);
		} else if (o->flags & OPTION_REQUIRED) {
			char *key = loading_key(s);

			loading_problem(
			    l, s, "%s%s%s is missing", key, *key != '\0' ? "." : "", o->key);
			free(key);
		}
	}
}

/* --- the whole ------------------------------------------------------------ */

/* Messages about a listener or service that is running need its line. */
static void
keep_lines(struct loading *l)
{
	config_setting_t *root = config_root_setting(&l->tree), *list;
	struct config *c = l->config;

	list = config_setting_get_member(root, "listen");
	for (size_t i = 0; i < c->n_listeners; i++)
		c->listeners[i].line = source_where(&l->source,
		    config_setting_source_line(config_setting_get_elem(list, (unsigned)i)))
					   .line;
	list = config_setting_get_member(root, "services");
	for (size_t i = 0; i < c->n_services; i++)
		c->services[i].line = source_where(&l->source,
		    config_setting_source_line(config_setting_get_elem(list, (unsigned)i)))
					  .line;
}

/* Both paths absolute, without resolving links: what the operator sees is what is named. */
static void
find_directory(struct loading *l, const char *file)
{
	char *cwd = file[0] == '/' ? NULL : getcwd(NULL, 0);
	char *whole = cwd != NULL ? must_print("%s/%s", cwd, file) : must_copy(file);
	const char *slash = strrchr(whole, '/');

	if (slash != NULL)
		l->directory = must_copy_n(whole, (size_t)(slash - whole));
	else
		l->directory = must_copy(".");
	l->config->file = whole;
	free(cwd);
}

static void
load(struct loading *l, const char *file)
{
	if (source_read(&l->source, file) < 0) {
		loading_note(l, 0, l->source.error_at, l->source.error);
		return;
	}
	if (config_read_string(&l->tree, l->source.text) != CONFIG_TRUE) {
		const char *why = config_error_text(&l->tree);
		int line = config_error_line(&l->tree);

		loading_note(l, 0, source_where(&l->source, line > 0 ? (unsigned)line : 1),
		    why != NULL ? why : "syntax error");
		return;
	}
	find_directory(l, file);
	load_group(l, config_root_setting(&l->tree), config_options, l->config);
	keep_lines(l);
	check_config(l);
}

const char *
config_library(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "libconfig %d.%d.%d", LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR,
	    LIBCONFIG_VER_REVISION);
	return text;
}

struct config *
config_load(const char *file, FILE *errors)
{
	struct loading l = {.n_problems = 0};
	bool ok;

	l.config = must_alloc(1, sizeof(*l.config));
	option_defaults(config_options, l.config);
	config_init(&l.tree);
	load(&l, file);
	ok = l.n_problems == 0;
	loading_report(&l, errors);
	config_destroy(&l.tree);
	source_fini(&l.source);
	free(l.directory);
	if (ok)
		return l.config;
	config_free(l.config);
	return NULL;
}

void
config_free(struct config *c)
{
	if (c == NULL)
		return;
	option_free_all(config_options, c);
	free(c->file);
	free(c);
}
