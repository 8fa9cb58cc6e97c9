/*
 * Putting @include files in place, line by line: see source.h.
 *
 * A scanner of libconfig's lexical grammar that knows just enough to tell text from comments and
 * strings.  States of the scanner:
 *
 *	        '"'               '#' or '//'
 *	STRING <---- NORMAL ----------> LINE_COMMENT     (back at '"'; at the end of the line)
 *	                  | '/' '*'
 *	                  +-----------> BLOCK_COMMENT    (back at '*' '/')
 */
#include "config/source.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/alloc.h"

enum scan { NORMAL, STRING, LINE_COMMENT, BLOCK_COMMENT };

struct scanner {
	struct source *source;
	const char *p, *end;
	struct source_line at;
	struct source_line opened; /* where the string or comment began */
	unsigned depth;
	enum scan state;
};

static int include(struct source *, const char *file, const struct scanner *from);

static int
fail(struct source *s, struct source_line at, char *error)
{
	free(s->error);
	s->error = error;
	s->error_at = at;
	return -1;
}

static void
put(struct source *s, char c)
{
	if (s->n + 1 >= s->size) {
		s->size = s->size > 0 ? s->size * 2 : 4096;
		s->text = must_resize(s->text, s->size, 1);
	}
	s->text[s->n++] = c;
	s->text[s->n] = '\0';
}

static void
line_begin(struct source *s, struct source_line at)
{
	if (s->n_lines == s->lines_size) {
		s->lines_size = s->lines_size > 0 ? s->lines_size * 2 : 256;
		s->lines = must_resize(s->lines, s->lines_size, sizeof(*s->lines));
	}
	s->lines[s->n_lines++] = at;
}

/* The whole of a regular file; NULL with *why set. */
static char *
slurp(const char *file, size_t max, size_t *n, const char **why)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st = {0};
	char *text = NULL;
	size_t got = 0;

	*why = NULL;
	if (fd < 0 || fstat(fd, &st) < 0)
		*why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
		*why = "not a regular file";
	else if (st.st_size < 0 || (size_t)st.st_size > max)
		*why = "too big";
	if (*why == NULL) {
		size_t size = (size_t)st.st_size;

		text = must_alloc(size + 1, 1);
		while (got < size) {
			ssize_t r = read(fd, text + got, size - got);

			if (r == 0)
				break;
			if (r > 0) {
				got += (size_t)r;
			} else if (errno != EINTR) {
				*why = strerror(errno);
				break;
			}
		}
	}
	if (fd >= 0)
		close(fd);
	if (*why != NULL) {
		free(text);
		return NULL;
	}
	*n = got;
	return text;
}

/* Does the line at p say @include "..."?  Then the name, and *after behind the closing quote. */
static char *
include_name(const char *p, const char *end, const char **after)
{
	static const char word[] = "@include";
	const char *name;

	while (p < end && isblank((unsigned char)*p))
		p++;
	if ((size_t)(end - p) < sizeof(word) || memcmp(p, word, sizeof(word) - 1) != 0)
		return NULL;
	p += sizeof(word) - 1;
	while (p < end && isblank((unsigned char)*p))
		p++;
	if (p == end || *p != '"')
		return NULL;
	name = ++p;
	while (p < end && *p != '"' && *p != '\n')
		p++;
	if (p == end || *p != '"')
		return NULL;
	*after = p + 1;
	return must_copy_n(name, (size_t)(p - name));
}

/* Only a comment or nothing may follow on the line of an @include. */
static bool
is_rest_empty(const char *p, const char *end)
{
	while (p < end && (isblank((unsigned char)*p) || *p == ';' || *p == '\r'))
		p++;
	return p == end || *p == '\n' || *p == '#' || (end - p > 1 && p[0] == '/' && p[1] == '/');
}

/* At the beginning of a line.  1: an @include was put in place; 0: there is none; -1: error. */
static int
scan_include(struct scanner *c)
{
	const char *after;
	char *name, *file;
	int rc;

	if (c->state != NORMAL || (name = include_name(c->p, c->end, &after)) == NULL)
		return 0;
	if (!is_rest_empty(after, c->end)) {
		free(name);
		return fail(c->source, c->at,
		    must_copy("nothing but a comment may follow an @include on its line"));
	}
	if (name[0] == '/') {
		file = must_copy(name);
	} else {
		const char *from = c->source->files[c->at.file];
		const char *slash = strrchr(from, '/');

		file =
		    must_print("%.*s%s", slash != NULL ? (int)(slash - from + 1) : 0, from, name);
	}
	rc = include(c->source, file, c);
	free(name);
	free(file);
	while (after < c->end && *after != '\n')
		after++;
	c->p = after < c->end ? after + 1 : after;
	return rc < 0 ? -1 : 1;
}

/* A whole number without the suffix L becomes an int in libconfig, silently cut to 32 bits. */
static int
scan_number(const struct scanner *c)
{
	char digits[32];
	size_t n = 0;
	bool hex = c->end - c->p > 1 && c->p[0] == '0' && (c->p[1] == 'x' || c->p[1] == 'X');
	unsigned long long value;
	char *rest;

	while (c->p + n < c->end && (isalnum((unsigned char)c->p[n]) || c->p[n] == '.'))
		n++;
	if (n >= sizeof(digits))
		return fail(c->source, c->at, must_copy("a number is too long"));
	memcpy(digits, c->p, n);
	digits[n] = '\0';
	errno = 0;
	value = strtoull(digits, &rest, hex ? 16 : 10);
	if (*rest == '.' || *rest == 'e' || *rest == 'E')
		return 0;
	if (errno == 0 && value <= (*rest == 'L' ? (unsigned long long)INT64_MAX : INT_MAX))
		return 0;
	return fail(c->source, c->at, must_print("the number %s is too big", digits));
}

/* Moves the state over the character at p. */
static void
scan_state(struct scanner *c)
{
	char now = *c->p, next = '\0';

	if (c->end - c->p > 1)
		next = c->p[1];
	switch (c->state) {
	case NORMAL:
		c->opened = c->at;
		if (now == '"')
			c->state = STRING;
		else if (now == '#' || (now == '/' && next == '/'))
			c->state = LINE_COMMENT;
		else if (now == '/' && next == '*')
			c->state = BLOCK_COMMENT;
		else
			break;
		if (now == '/')
			put(c->source, *c->p++);
		break;
	case STRING:
		if (now == '"')
			c->state = NORMAL;
		else if (now == '\\' && next != '\0' && next != '\n')
			put(c->source, *c->p++);
		break;
	case LINE_COMMENT:
		if (now == '\n')
			c->state = NORMAL;
		break;
	case BLOCK_COMMENT:
		if (now == '*' && next == '/') {
			put(c->source, *c->p++);
			c->state = NORMAL;
		}
		break;
	}
	put(c->source, *c->p++);
}

static int
scan_line(struct scanner *c)
{
	bool in_word = false;

	line_begin(c->source, c->at);
	while (c->p < c->end) {
		char now = *c->p;

		if (now == '\0')
			return fail(c->source, c->at, must_copy("there is a NUL byte here"));
		/* libconfig would end the string there and drop the rest of it */
		if (c->state == STRING && c->end - c->p >= 4 && memcmp(c->p, "\\x00", 4) == 0)
			return fail(c->source, c->at, must_copy("there is a NUL in a string"));
		if (c->state == NORMAL && !in_word && isdigit((unsigned char)now) &&
		    scan_number(c) < 0)
			return -1;
		/* "a-5" is a name, "-5" a number */
		in_word = isalnum((unsigned char)now) || strchr("_*.", now) != NULL ||
			  (now == '-' && in_word);
		scan_state(c);
		if (now == '\n')
			return 0;
	}
	put(c->source, '\n');
	return 0;
}

static int
scan(struct scanner *c)
{
	while (c->p < c->end) {
		int rc = scan_include(c);

		if (rc == 0)
			rc = scan_line(c);
		if (rc < 0)
			return -1;
		c->at.line++;
		if (c->source->n > SOURCE_BYTES_MAX)
			return fail(c->source, c->at, must_copy("the configuration is too big"));
	}
	/* it must not swallow the lines of the including file, and libconfig leaks an open string */
	if (c->state == STRING || c->state == BLOCK_COMMENT)
		return fail(c->source, c->opened,
		    must_print("this %s is not closed", c->state == STRING ? "string" : "comment"));
	return 0;
}

static int
include(struct source *s, const char *file, const struct scanner *from)
{
	struct scanner c = {.source = s, .depth = from != NULL ? from->depth + 1 : 0};
	struct source_line at = from != NULL ? from->at : (struct source_line){0, 0};
	const char *why;
	char *text;
	size_t n;
	int rc;

	if (c.depth > SOURCE_DEPTH_MAX)
		return fail(s, at, must_print("@include goes deeper than %d", SOURCE_DEPTH_MAX));
	if (s->n_files == SOURCE_FILES_MAX)
		return fail(s, at, must_print("there are more than %d files", SOURCE_FILES_MAX));
	s->files = must_resize(s->files, (size_t)s->n_files + 1, sizeof(*s->files));
	s->files[s->n_files++] = must_copy(file);
	text = slurp(file, SOURCE_BYTES_MAX, &n, &why);
	if (text == NULL)
		return fail(s, at, must_print("cannot read \"%s\": %s", file, why));
	c.p = text;
	c.end = text + n;
	c.at = (struct source_line){s->n_files - 1, 1};
	rc = scan(&c);
	free(text);
	return rc;
}

int
source_read(struct source *s, const char *file)
{
	memset(s, 0, sizeof(*s));
	put(s, '\n');
	s->n = 0;
	s->text[0] = '\0';
	return include(s, file, NULL);
}

void
source_fini(struct source *s)
{
	for (unsigned i = 0; i < s->n_files; i++)
		free(s->files[i]);
	free(s->files);
	free(s->lines);
	free(s->text);
	free(s->error);
	memset(s, 0, sizeof(*s));
}

struct source_line
source_where(const struct source *s, unsigned line)
{
	if (s->n_lines == 0)
		return (struct source_line){0, 1};
	if (line == 0)
		line = 1;
	return s->lines[(line > s->n_lines ? s->n_lines : line) - 1];
}
