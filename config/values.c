/*
 * What a row does with its field: set it from text or a number, append, fill in the default,
 * free.  The types of options.h are known here and in dump.c, nowhere else.
 *
 * Pure but for memory; any thread.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/alloc.h"
#include "config/options.h"

/* --- words ---------------------------------------------------------------- */

int
option_word_find(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (int i = 0;; i++) {
		size_t len = strcspn(words, "|");

		if (len == n && memcmp(words, word, n) == 0)
			return i;
		if (words[len] == '\0')
			return -1;
		words += len + 1;
	}
}

void
option_word(const char *words, int position, char out[OPTION_WORD_SIZE])
{
	size_t len;

	out[0] = '\0';
	for (; position > 0; position--) {
		words += strcspn(words, "|");
		if (*words++ == '\0')
			return;
	}
	len = strcspn(words, "|");
	if (len >= OPTION_WORD_SIZE)
		len = OPTION_WORD_SIZE - 1;
	memcpy(out, words, len);
	out[len] = '\0';
}

static int
wrong_word(const struct option *o, const char *text, char *err, size_t err_size)
{
	size_t n = (size_t)snprintf(err, err_size, "must be");
	int last = 0;
	char word[OPTION_WORD_SIZE];

	for (const char *p = o->words; *p != '\0'; p++)
		last += *p == '|';
	for (int i = 0; i <= last && n < err_size; i++) {
		option_word(o->words, i, word);
		n += (size_t)snprintf(err + n, err_size - n, "%s \"%s\"",
		    i == 0      ? ""
		    : i == last ? " or"
				: ",",
		    word);
	}
	if (n < err_size)
		snprintf(err + n, err_size - n, ", not \"%s\"", text);
	return -1;
}

/* --- numbers -------------------------------------------------------------- */

static void
number_print(const struct option *o, int64_t n, char out[UNIT_TEXT_SIZE])
{
	if (o->type == OPTION_DURATION)
		duration_print(n, out);
	else if (o->type == OPTION_SIZE)
		size_print((size_t)n, out);
	else if (o->type == OPTION_PERCENT)
		snprintf(out, UNIT_TEXT_SIZE, "%" PRId64 ".%02" PRId64, n / 100, n % 100);
	else
		snprintf(out, UNIT_TEXT_SIZE, "%" PRId64, n);
}

void
option_range(const struct option *o, char out[OPTION_RANGE_SIZE])
{
	char lo[UNIT_TEXT_SIZE], hi[UNIT_TEXT_SIZE];
	bool list = o->type == OPTION_LIST || o->type == OPTION_BACKENDS ||
		    o->type == OPTION_STRINGS || o->type == OPTION_NETWORKS ||
		    o->type == OPTION_RULES || o->type == OPTION_REMOVALS;

	out[0] = '\0';
	if (o->max == 0 || (o->words != NULL && !list))
		return;
	number_print(o, o->min, lo);
	number_print(o, o->max, hi);
	if (!list)
		snprintf(out, OPTION_RANGE_SIZE, "%s to %s", lo, hi);
	else if (o->min > 0)
		snprintf(out, OPTION_RANGE_SIZE, "%s to %s items", lo, hi);
	else
		snprintf(out, OPTION_RANGE_SIZE, "at most %s items", hi);
}

int
option_set_number(const struct option *o, void *base, int64_t n, char *err, size_t err_size)
{
	void *field = option_at(o, base);

	if (o->words != NULL) {
		char text[UNIT_TEXT_SIZE];

		number_print(o, n, text);
		if (option_word_find(o->words, text) < 0)
			return wrong_word(o, text, err, err_size);
	} else if (n < o->min || n > o->max) {
		char range[OPTION_RANGE_SIZE];

		option_range(o, range);
		snprintf(err, err_size, "is out of range: %s", range);
		return -1;
	}
	if (o->type == OPTION_SIZE)
		*(size_t *)field = (size_t)n;
	else if (o->type == OPTION_DURATION)
		*(int64_t *)field = n;
	else
		*(unsigned *)field = (unsigned)n;
	return 0;
}

/* A number as text, in the unit of its type. */
static int
number_parse(const struct option *o, const char *text, int64_t *n)
{
	size_t size;
	unsigned bp;

	if (o->type == OPTION_DURATION)
		return duration_parse(text, n);
	if (o->type == OPTION_PERCENT) {
		if (percent_parse(text, &bp) < 0)
			return -1;
		*n = bp;
		return 0;
	}
	if (size_parse(text, &size) < 0 ||
	    (o->type == OPTION_UNSIGNED && text[strspn(text, "0123456789")] != '\0'))
		return -1;
	*n = (int64_t)size;
	return 0;
}

/* --- strings -------------------------------------------------------------- */

static char *
copy_string(const struct option *o, const char *text)
{
	char *copy = must_copy(text);

	if (o->flags & OPTION_LOWER)
		for (char *p = copy; *p != '\0'; p++)
			*p = (char)tolower((unsigned char)*p);
	return copy;
}

static int
string_parse(const struct option *o, char **field, const char *text, const char *directory,
    char *err, size_t err_size)
{
	bool is_word = o->words != NULL && option_word_find(o->words, text) >= 0;
	char *copy;

	if (o->type == OPTION_STRING && o->words != NULL && !is_word)
		return wrong_word(o, text, err, err_size);
	if (o->type == OPTION_FILE && !is_word && text[0] != '/' && text[0] != '\0')
		copy = must_print("%s/%s", directory, text);
	else
		copy = copy_string(o, text);
	if (o->check != NULL && o->check(copy, err, err_size) < 0) {
		free(copy);
		return -1;
	}
	free(*field);
	*field = copy;
	return 0;
}

static int
address_set(
    const struct option *o, struct address *field, const char *text, char *err, size_t err_size)
{
	struct address a;

	if (*text == '\0' && !(o->flags & OPTION_REQUIRED)) {
		memset(&a, 0, sizeof(a));
		a.text = must_copy("");
	} else if (address_parse(&a, text, err, err_size) < 0) {
		return -1;
	}
	address_fini(field);
	*field = a;
	return 0;
}

static int
word_parse(const struct option *o, void *field, const char *text, char *err, size_t err_size)
{
	int position = option_word_find(o->words, text);

	if (position < 0)
		return wrong_word(o, text, err, err_size);
	memcpy(field, &position, sizeof(position));
	return 0;
}

static int
bool_parse(bool *field, const char *text)
{
	*field = strcmp(text, "true") == 0;
	return 0;
}

int
option_parse(const struct option *o, void *base, const char *text, const char *directory, char *err,
    size_t err_size)
{
	void *field = option_at(o, base);
	int64_t n;

	switch (o->type) {
	case OPTION_BOOL:
		return bool_parse(field, text);
	case OPTION_UNSIGNED:
	case OPTION_SIZE:
	case OPTION_DURATION:
	case OPTION_PERCENT:
		if (number_parse(o, text, &n) == 0)
			return option_set_number(o, base, n, err, err_size);
		snprintf(err, err_size, "must be %s, not \"%s\"", option_expects(o), text);
		return -1;
	case OPTION_WORD:
		return word_parse(o, field, text, err, err_size);
	case OPTION_STRING:
	case OPTION_FILE:
		return string_parse(o, field, text, directory, err, err_size);
	case OPTION_ADDRESS:
		return address_set(o, field, text, err, err_size);
	case OPTION_FORM:
		return o->form->parse(base, text, err, err_size);
	case OPTION_STRINGS:
	case OPTION_NETWORKS:
	case OPTION_GROUP:
	case OPTION_LIST:
	case OPTION_BACKENDS:
	case OPTION_RULES:
	case OPTION_REMOVALS:
		break;
	}
	snprintf(err, err_size, "must be %s", option_expects(o));
	return -1;
}

const char *
option_expects(const struct option *o)
{
	switch (o->type) {
	case OPTION_BOOL:
		return "true or false";
	case OPTION_UNSIGNED:
		return "a whole number";
	case OPTION_SIZE:
		return "a size such as \"64k\"";
	case OPTION_DURATION:
		return "a duration such as \"250ms\"";
	case OPTION_PERCENT:
		return "a percentage of at most two decimals";
	case OPTION_WORD:
	case OPTION_STRING:
		return "a string";
	case OPTION_FILE:
		return "a file name";
	case OPTION_ADDRESS:
		return "an address: \"host:port\", \"[v6]:port\" or \"unix:/path\"";
	case OPTION_FORM:
		return o->form->name;
	case OPTION_STRINGS:
	case OPTION_REMOVALS:
		return "a list of strings: [ \"...\" ]";
	case OPTION_NETWORKS:
		return "a list of networks: [ \"10.0.0.0/8\" ]";
	case OPTION_GROUP:
		return "a group: { ... }";
	case OPTION_LIST:
	case OPTION_RULES:
		return "a list of groups: ( { ... } )";
	case OPTION_BACKENDS:
		return "a list of backends: [ \"host:port\" ] or ( { address = \"host:port\"; } )";
	}
	return "";
}

/* --- lists ---------------------------------------------------------------- */

/* memcpy, because the struct in config.h is another type with the same beginning */
struct option_vector
option_vector(const struct option *o, const void *base)
{
	struct option_vector v;

	memcpy(&v, option_at_const(o, base), sizeof(v));
	return v;
}

void
option_vector_set(const struct option *o, void *base, struct option_vector v)
{
	memcpy(option_at(o, base), &v, sizeof(v));
}

static void *
append_zeroed(const struct option *o, void *base, size_t size)
{
	struct option_vector v = option_vector(o, base);
	char *item;

	v.items = must_resize(v.items, v.n + 1, size);
	item = (char *)v.items + v.n++ * size;
	memset(item, 0, size);
	option_vector_set(o, base, v);
	return item;
}

static void
append_removal(const struct option *o, void *base, const char *text)
{
	struct header_rule *rule = append_zeroed(o, base, sizeof(*rule));

	rule->action = HEADER_REMOVE;
	rule->name = copy_string(o, text);
	rule->value = must_copy("");
}

/* Of a list of words: which is wrong is said with the nearest, for there may be many. */
static int
word_of_list(const struct option *o, const char *text, char *err, size_t err_size)
{
	char nearest[OPTION_WORD_SIZE];

	if (option_word_find(o->words, text) >= 0)
		return 0;
	option_word_nearest(o->words, text, nearest);
	if (nearest[0] != '\0')
		snprintf(err, err_size,
		    "must be one of the known words, not \"%s\"; did you mean \"%s\"?", text,
		    nearest);
	else
		snprintf(err, err_size, "must be one of the known words, not \"%s\"", text);
	return -1;
}

int
option_append(const struct option *o, void *base, const char *text, char *err, size_t err_size)
{
	if (o->type == OPTION_NETWORKS) {
		struct network n, *item;

		if (network_parse(&n, text, err, err_size) < 0)
			return -1;
		item = append_zeroed(o, base, sizeof(*item));
		*item = n;
		return 0;
	}
	if (o->words != NULL && word_of_list(o, text, err, err_size) < 0)
		return -1;
	if (o->check != NULL) {
		char *copy = copy_string(o, text);
		int rc = o->check(copy, err, err_size);

		free(copy);
		if (rc < 0)
			return -1;
	}
	if (o->type == OPTION_REMOVALS) {
		append_removal(o, base, text);
	} else {
		char **item = append_zeroed(o, base, sizeof(*item));

		*item = copy_string(o, text);
	}
	return 0;
}

/* --- defaults and freeing ------------------------------------------------- */

static void
default_steps(const struct option *o, void *base)
{
	struct step_config *steps = NULL;
	struct option_vector v = {NULL, 0};
	char err[128];

	/* the only list of groups with a default that is not empty */
	if (steps_parse(o->text, &steps, &v.n, err, sizeof(err)) < 0)
		abort();
	v.items = steps;
	option_vector_set(o, base, v);
}

/* The default of a list of strings: one, or several of its words. */
static void
default_strings(const struct option *o, void *base)
{
	char err[256], word[OPTION_WORD_SIZE];

	if (o->text == NULL)
		return;
	if (o->words == NULL) {
		if (option_append(o, base, o->text, err, sizeof(err)) < 0)
			abort();
		return;
	}
	for (int i = 0; option_word(o->text, i, word), word[0] != '\0'; i++)
		if (option_append(o, base, word, err, sizeof(err)) < 0)
			abort();
}

static void
option_default(const struct option *o, void *base)
{
	char err[256];

	switch (o->type) {
	case OPTION_STRING:
	case OPTION_FILE:
		/* unchecked: "" stands for "not written" where it could not be written */
		*(char **)option_at(o, base) = must_copy(o->text);
		return;
	case OPTION_ADDRESS:
		((struct address *)option_at(o, base))->text = must_copy("");
		return;
	case OPTION_STRINGS:
		default_strings(o, base);
		return;
	case OPTION_GROUP:
		option_defaults(o->rows, option_at(o, base));
		return;
	case OPTION_LIST:
		if (o->text != NULL)
			default_steps(o, base);
		return;
	case OPTION_NETWORKS:
	case OPTION_BACKENDS:
	case OPTION_RULES:
	case OPTION_REMOVALS:
		return;
	case OPTION_BOOL:
	case OPTION_UNSIGNED:
	case OPTION_SIZE:
	case OPTION_DURATION:
	case OPTION_PERCENT:
	case OPTION_WORD:
	case OPTION_FORM:
		/* a default its own row refuses is a bug in the row */
		if (option_parse(o, base, o->text, "", err, sizeof(err)) < 0)
			abort();
		return;
	}
}

void
option_defaults(const struct option *rows, void *base)
{
	for (; rows->key != NULL; rows++)
		option_default(rows, base);
}

void
option_clear(const struct option *o, void *base)
{
	struct option_vector v = option_vector(o, base);

	for (size_t i = 0; i < v.n; i++) {
		if (o->type == OPTION_STRINGS)
			free(((char **)v.items)[i]);
		else if (o->rows != NULL)
			option_free_all(o->rows, (char *)v.items + i * o->size);
	}
	free(v.items);
	/* set, add and remove share one list: whoever comes first frees it */
	option_vector_set(o, base, (struct option_vector){NULL, 0});
}

void
option_free_all(const struct option *rows, void *base)
{
	for (const struct option *o = rows; o->key != NULL; o++) {
		switch (o->type) {
		case OPTION_STRING:
		case OPTION_FILE:
			free(*(char **)option_at(o, base));
			break;
		case OPTION_ADDRESS:
			address_fini(option_at(o, base));
			break;
		case OPTION_FORM:
			if (o->owned != 0)
				free(*(char **)((char *)base + o->owned));
			break;
		case OPTION_GROUP:
			option_free_all(o->rows, option_at(o, base));
			break;
		case OPTION_STRINGS:
		case OPTION_NETWORKS:
		case OPTION_LIST:
		case OPTION_BACKENDS:
		case OPTION_RULES:
		case OPTION_REMOVALS:
			option_clear(o, base);
			break;
		case OPTION_BOOL:
		case OPTION_UNSIGNED:
		case OPTION_SIZE:
		case OPTION_DURATION:
		case OPTION_PERCENT:
		case OPTION_WORD:
			break;
		}
	}
}
