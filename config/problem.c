/*
 * The problems of one load: kept with their lines, printed in the order of the text.
 *
 * Owner: config_load(), one thread.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/alloc.h"
#include "config/load.h"

void
loading_note(struct loading *l, unsigned line, struct source_line at, const char *text)
{
	struct problem *p;

	l->problems = must_resize(l->problems, (size_t)l->n_problems + 1, sizeof(*l->problems));
	p = &l->problems[l->n_problems];
	p->line = line;
	p->seq = l->n_problems++;
	p->message = must_print("%s:%u: %s", l->source.files[at.file], at.line, text);
}

char *
loading_key(config_setting_t *s)
{
	config_setting_t *parent = config_setting_parent(s);
	char *above, *path;

	if (parent == NULL)
		return must_copy("");
	above = loading_key(parent);
	if (config_setting_name(s) != NULL)
		path =
		    must_print("%s%s%s", above, *above != '\0' ? "." : "", config_setting_name(s));
	else
		path = must_print("%s[%d]", above, config_setting_index(s));
	free(above);
	return path;
}

/* Any address will do as a mark: the hook of a bad setting is not NULL. */
static void
mark_bad(struct loading *l, config_setting_t *s)
{
	for (; s != NULL; s = config_setting_parent(s))
		config_setting_set_hook(s, l);
}

bool
loading_is_bad(const config_setting_t *s)
{
	return s != NULL && config_setting_get_hook(s) != NULL;
}

static void
note_at(struct loading *l, config_setting_t *s, const char *text)
{
	unsigned line = s != NULL ? config_setting_source_line(s) : 0;

	loading_note(l, line, source_where(&l->source, line), text);
	mark_bad(l, s);
}

void
loading_problem(struct loading *l, config_setting_t *s, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = must_copy("?");
	va_end(ap);
	note_at(l, s, text);
	free(text);
}

void
loading_refuse(struct loading *l, config_setting_t *s, const char *format, ...)
{
	char *key = loading_key(s), *text, *whole;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = must_copy("?");
	va_end(ap);
	whole = must_print("%s%s%s", key, *key != '\0' ? " " : "", text);
	note_at(l, s, whole);
	free(whole);
	free(text);
	free(key);
}

config_setting_t *
loading_near(config_setting_t *from, const char *path)
{
	while (*path != '\0' && config_setting_is_group(from)) {
		char key[64];
		size_t n = strcspn(path, ".");
		config_setting_t *next;

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		next = config_setting_get_member(from, key);
		if (next == NULL)
			break;
		from = next;
		path += n + (path[n] == '.');
	}
	return from;
}

config_setting_t *
loading_find(config_setting_t *from, const char *path)
{
	config_setting_t *s = loading_near(from, path);
	const char *last = strrchr(path, '.');

	last = last != NULL ? last + 1 : path;
	/* nothing between a group and its namesake: no path names a key twice in a row */
	if (s == from || config_setting_name(s) == NULL ||
	    strcmp(config_setting_name(s), last) != 0)
		return NULL;
	return s;
}

static int
problem_order(const void *a, const void *b)
{
	const struct problem *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

void
loading_report(struct loading *l, FILE *errors)
{
	if (l->n_problems > 0)
		qsort(l->problems, l->n_problems, sizeof(*l->problems), problem_order);
	for (unsigned i = 0; i < l->n_problems; i++) {
		fprintf(errors, "%s\n", l->problems[i].message);
		free(l->problems[i].message);
	}
	free(l->problems);
}
