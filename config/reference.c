/*
 * The reference of teal.conf(5): every row as mdoc(7), a subsection per group.
 *
 * Any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "config/alloc.h"
#include "config/options.h"

/* Text for roff: no escapes, no control lines. */
static void
put_text(FILE *out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		if (p == text && (*p == '.' || *p == '\''))
			fputs("\\&", out);
		if (*p == '\\')
			fputs("\\e", out);
		else if (*p == '-')
			fputs("\\-", out);
		else if (*p == '"')
			fputs("\\(dq", out);
		else
			fputc(*p, out);
	}
}

static const char *
type_word(const struct option *o)
{
	switch (o->type) {
	case OPTION_BOOL:
		return "true | false";
	case OPTION_UNSIGNED:
		return "number";
	case OPTION_SIZE:
		return "size";
	case OPTION_DURATION:
		return "duration";
	case OPTION_PERCENT:
		return "percent";
	case OPTION_WORD:
	case OPTION_STRING:
	case OPTION_FORM:
		return "string";
	case OPTION_FILE:
		return "file";
	case OPTION_ADDRESS:
		return "address";
	case OPTION_STRINGS:
	case OPTION_REMOVALS:
		return "list of strings";
	case OPTION_NETWORKS:
		return "list of networks";
	case OPTION_GROUP:
		return "group";
	case OPTION_LIST:
	case OPTION_RULES:
		return "list of groups";
	case OPTION_BACKENDS:
		return "list of addresses or groups";
	}
	return "";
}

/* The default as it would be written. */
static void
put_default(FILE *out, const struct option *o)
{
	bool bare = o->type == OPTION_BOOL || o->type == OPTION_UNSIGNED ||
		    o->type == OPTION_PERCENT ||
		    (o->type == OPTION_SIZE && strcmp(o->text, "0") == 0);

	fputs("Default: ", out);
	if (o->type == OPTION_LIST) {
		put_text(out, o->text);
	} else {
		const char *open = o->type == OPTION_STRINGS ? "[ \"" : bare ? "" : "\"";
		const char *close = o->type == OPTION_STRINGS ? "\" ]" : bare ? "" : "\"";

		put_text(out, open);
		put_text(out, o->text);
		put_text(out, close);
	}
	fputs(".\n", out);
}

/* "One of a, b, c." or "1 to 256." or "Required." and the default. */
static void
put_facts(FILE *out, const struct option *o)
{
	char range[OPTION_RANGE_SIZE];

	option_range(o, range);
	if (o->words != NULL) {
		fputs(o->type == OPTION_FILE      ? "A file, or one of: "
		      : o->type == OPTION_STRINGS ? "Of: "
						  : "One of: ",
		    out);
		for (const char *p = o->words; *p != '\0'; p++)
			fputs(*p == '|' ? ", " : (char[]){*p, '\0'}, out);
		fputs(".\n", out);
	} else if (o->type == OPTION_FORM) {
		fputs("Takes ", out);
		put_text(out, o->form->name);
		fputs(".\n", out);
	} else if (*range != '\0') {
		fputs("Range: ", out);
		put_text(out, range);
		fputs(".\n", out);
	}
	if (o->flags & OPTION_REQUIRED)
		fputs("Required.\n", out);
	else if (o->type == OPTION_STRINGS && o->words != NULL)
		fputs("Default: all of them.\n", out);
	/* what an empty string means is in the doc */
	else if (o->text != NULL && o->text[0] != '\0')
		put_default(out, o);
}

static void
put_row(FILE *out, const struct option *o, const char *above)
{
	fputs(".It Cm ", out);
	put_text(out, above);
	if (*above != '\0')
		fputc('.', out);
	put_text(out, o->key);
	fputs(" Pq ", out);
	put_text(out, type_word(o));
	fputc('\n', out);
	put_text(out, o->doc);
	fputc('\n', out);
	put_facts(out, o);
}

static void
put_table(FILE *out, const struct option *rows, const char *above)
{
	fputs(".Ss ", out);
	put_text(out, *above != '\0' ? above : "Top level");
	fputs("\n.Bl -tag -width 4n\n", out);
	for (const struct option *o = rows; o->key != NULL; o++)
		put_row(out, o, above);
	fputs(".El\n", out);
	for (const struct option *o = rows; o->key != NULL; o++) {
		char *path;

		if (o->rows == NULL || (o->flags & OPTION_ALIKE) || o->type == OPTION_REMOVALS)
			continue;
		path = must_print("%s%s%s%s", above, *above != '\0' ? "." : "", o->key,
		    o->type == OPTION_GROUP ? "" : "[]");
		put_table(out, o->rows, path);
		free(path);
	}
}

void
config_reference(FILE *out)
{
	put_table(out, config_options, "");
}
