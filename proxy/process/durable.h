/*
 * Small files that are whole after any crash: written beside, fsynced, renamed into place, the
 * directory fsynced.  A reader sees the old one or the new one and never a mixture.
 *
 * Control thread.  Nothing here follows a symbolic link in the place of the file.
 */
#ifndef TEAL_DURABLE_H
#define TEAL_DURABLE_H

#include <stddef.h>

/* A descriptor of the directory, whose last component is made when it is missing; -1 with errno. */
int durable_directory(const char *path);

/*
 * DIRECTORY/NAME becomes `text`, mode 0600.  0, or -1 with a sentence in err: nothing has changed
 * on disk then, unless it was the last step (the directory's fsync) that failed; the next write
 * repeats it.  NAME.new is used on the way.
 */
int durable_write(const char *directory, const char *name, const char *text, size_t n, char *err,
    size_t err_size);

/*
 * The whole file, malloc'd, with a NUL after its *n bytes.  NULL with errno: ENOENT; EFBIG when it
 * is larger than `max` or no regular file; ...
 */
char *durable_read(const char *directory, const char *name, size_t max, size_t *n);

#endif
