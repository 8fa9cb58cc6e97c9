/*
 * teal -T and the reference: the rows printed, once with what holds, once with what could.
 *
 * config_dump()'s output is a configuration file again and dumps to itself; the
 * unit test holds it to that.  Any thread.
 */
#include <inttypes.h>
#include <string.h>

#include "config/options.h"

static void dump_rows(FILE *, const struct option *rows, const void *base, int depth);

static void
indent(FILE *out, int depth)
{
	for (int i = 0; i < depth; i++)
		fputs("    ", out);
}

/* libconfig's escapes; bytes above ASCII pass as they are. */
static void
dump_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void
dump_size(FILE *out, size_t n)
{
	char text[UNIT_TEXT_SIZE];

	size_print(n, text);
	/* as a number only while libconfig reads it as one */
	fprintf(out, n < 1024 ? "%s" : "\"%s\"", text);
}

static void
dump_scalar(FILE *out, const struct option *o, const void *base)
{
	const void *field = option_at_const(o, base);
	char text[UNIT_TEXT_SIZE], word[OPTION_WORD_SIZE];
	unsigned n;
	int position;

	switch (o->type) {
	case OPTION_BOOL:
		fputs(*(const bool *)field ? "true" : "false", out);
		return;
	case OPTION_UNSIGNED:
		fprintf(out, "%u", *(const unsigned *)field);
		return;
	case OPTION_SIZE:
		dump_size(out, *(const size_t *)field);
		return;
	case OPTION_DURATION:
		duration_print(*(const int64_t *)field, text);
		fprintf(out, "\"%s\"", text);
		return;
	case OPTION_PERCENT:
		n = *(const unsigned *)field;
		fprintf(out, "%u.%02u", n / 100, n % 100);
		return;
	case OPTION_WORD:
		memcpy(&position, field, sizeof(position));
		option_word(o->words, position, word);
		dump_string(out, word);
		return;
	case OPTION_STRING:
	case OPTION_FILE:
		dump_string(out, *(char *const *)field);
		return;
	case OPTION_ADDRESS:
		dump_string(out, ((const struct address *)field)->text);
		return;
	case OPTION_FORM:
		/* words and tokens: nothing in them needs an escape */
		fputc('"', out);
		o->form->print(base, out);
		fputc('"', out);
		return;
	case OPTION_STRINGS:
	case OPTION_NETWORKS:
	case OPTION_GROUP:
	case OPTION_LIST:
	case OPTION_BACKENDS:
	case OPTION_RULES:
	case OPTION_REMOVALS:
		return;
	}
}

/* A list of strings, of networks, or of the names of the rules that remove. */
static void
dump_strings(FILE *out, const struct option *o, const void *base)
{
	struct option_vector v = option_vector(o, base);
	const char *comma = " ";

	fputs("[", out);
	for (size_t i = 0; i < v.n; i++) {
		char network[NETWORK_TEXT_SIZE];
		const char *text;

		if (o->type == OPTION_NETWORKS) {
			network_print((const struct network *)v.items + i, network);
			text = network;
		} else if (o->type == OPTION_REMOVALS) {
			const struct header_rule *rule = (const struct header_rule *)v.items + i;

			if (rule->action != HEADER_REMOVE)
				continue;
			text = rule->name;
		} else {
			text = ((char *const *)v.items)[i];
		}
		fputs(comma, out);
		dump_string(out, text);
		comma = ", ";
	}
	fputs(" ]", out);
}

static void
dump_list(FILE *out, const struct option *o, const void *base, int depth)
{
	struct option_vector v = option_vector(o, base);
	const char *comma = "\n";

	fputs("(", out);
	for (size_t i = 0; i < v.n; i++) {
		const char *item = (const char *)v.items + i * o->size;

		if (o->type == OPTION_RULES &&
		    ((const struct header_rule *)(const void *)item)->action != o->action)
			continue;
		fputs(comma, out);
		indent(out, depth + 1);
		fputs("{\n", out);
		dump_rows(out, o->rows, item, depth + 2);
		indent(out, depth + 1);
		fputs("}", out);
		comma = ",\n";
	}
	fputs(" )", out);
}

static void
dump_rows(FILE *out, const struct option *rows, const void *base, int depth)
{
	for (const struct option *o = rows; o->key != NULL; o++) {
		/* an optional group that was not written is off: writing it would turn it on */
		if (o->presence != 0 && !*(const bool *)((const char *)base + o->presence))
			continue;
		indent(out, depth);
		fprintf(out, "%s = ", o->key);
		switch (o->type) {
		case OPTION_GROUP:
			fputs("{\n", out);
			dump_rows(out, o->rows, option_at_const(o, base), depth + 1);
			indent(out, depth);
			fputs("}", out);
			break;
		case OPTION_LIST:
		case OPTION_BACKENDS:
		case OPTION_RULES:
			dump_list(out, o, base, depth);
			break;
		case OPTION_STRINGS:
		case OPTION_NETWORKS:
		case OPTION_REMOVALS:
			dump_strings(out, o, base);
			break;
		case OPTION_BOOL:
		case OPTION_UNSIGNED:
		case OPTION_SIZE:
		case OPTION_DURATION:
		case OPTION_PERCENT:
		case OPTION_WORD:
		case OPTION_STRING:
		case OPTION_FILE:
		case OPTION_ADDRESS:
		case OPTION_FORM:
			dump_scalar(out, o, base);
			break;
		}
		fputs(";\n", out);
	}
}

void
config_dump(const struct config *c, FILE *out)
{
	dump_rows(out, config_options, c, 0);
}
