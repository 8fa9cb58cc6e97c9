/*
 * The text of a configuration: the file with its @include files put in place, and where each
 * line came from.
 *
 * libconfig could include by itself, but 1.5 looks files up in the working directory, breaks
 * absolute names when told otherwise, wraps numbers that are too big, and its scanner ends
 * the process on a file that cannot be read.  A reload must survive all of these.
 *
 * Owner: config_load(), for the length of one load.
 */
#ifndef TEAL_CONFIG_SOURCE_H
#define TEAL_CONFIG_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#define SOURCE_BYTES_MAX ((size_t)16 * 1024 * 1024) /* of all files together */
#define SOURCE_DEPTH_MAX 10                         /* of @include in @include */
#define SOURCE_FILES_MAX 1000

struct source_line {
	unsigned file; /* in files */
	unsigned line; /* from 1 */
};

struct source {
	char *text; /* NUL-terminated */
	size_t n, size;
	struct source_line *lines; /* [i] is line i + 1 of text */
	size_t n_lines, lines_size;
	char **files; /* as in messages */
	unsigned n_files;
	char *error; /* why reading failed, or NULL */
	struct source_line error_at;
};

/* Reads `file`; names in @include are relative to the including file.  0, or -1 with error and
 * error_at set.  Either way source_fini() is owed. */
int source_read(struct source *, const char *file);
void source_fini(struct source *);

/* Where line `line` (from 1) of the text came from. */
struct source_line source_where(const struct source *, unsigned line);

#endif
