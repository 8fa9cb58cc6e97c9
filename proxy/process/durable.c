/*
 * Small files that are whole after any crash, see durable.h.  Control thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/process/durable.h"

int
durable_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT || mkdir(path, 0750) < 0)
		return fd;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int
write_all(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t wrote = write(fd, text, n);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return -1;
		text += wrote;
		n -= (size_t)wrote;
	}
	return 0;
}

/* A new file on the disk.  -1 with errno. */
static int
write_new(int directory, const char *name, const char *text, size_t n)
{
	int fd, failed, saved;

	/* what a crash has left there is nobody's; and whatever it is, it is not written through */
	(void)unlinkat(directory, name, 0);
	fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	failed = write_all(fd, text, n) < 0 || fsync(fd) < 0;
	saved = errno;
	if (close(fd) < 0 && !failed) {
		failed = 1;
		saved = errno;
	}
	errno = saved;
	return failed ? -1 : 0;
}

/* -1 with errno; the old file is untouched then, but for the case told below. */
static int
replace(int directory, const char *name, const char *text, size_t n)
{
	char temporary[256];

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", name) >= sizeof(temporary)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (write_new(directory, temporary, text, n) < 0 ||
	    renameat(directory, temporary, directory, name) < 0) {
		int saved = errno;

		(void)unlinkat(directory, temporary, 0);
		errno = saved;
		return -1;
	}
	/* Renamed but perhaps not durable: reported as a failure, because a crash may bring the old
	 * one back.  The next write repeats it.  File systems that cannot do this say EINVAL. */
	return fsync(directory) < 0 && errno != EINVAL ? -1 : 0;
}

int
durable_write(
    const char *directory, const char *name, const char *text, size_t n, char *err, size_t err_size)
{
	int fd = durable_directory(directory), failed;

	if (fd < 0) {
		(void)snprintf(err, err_size, "cannot open the state directory %s: %s", directory,
		    strerror(errno));
		return -1;
	}
	failed = replace(fd, name, text, n);
	if (failed < 0)
		(void)snprintf(
		    err, err_size, "cannot write %s/%s: %s", directory, name, strerror(errno));
	(void)close(fd);
	return failed;
}

/* The text of an open file. */
static char *
read_open(int fd, size_t max, size_t *n)
{
	struct stat st;
	char *text;
	size_t size;
	ssize_t got;

	if (fstat(fd, &st) < 0)
		return NULL;
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (size_t)st.st_size > max) {
		errno = EFBIG;
		return NULL;
	}
	size = (size_t)st.st_size;
	if ((text = malloc(size + 1)) == NULL)
		return NULL;
	*n = 0;
	while (*n < size && (got = read(fd, text + *n, size - *n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int saved = errno;

			free(text);
			errno = saved;
			return NULL;
		}
		*n += (size_t)got;
	}
	text[*n] = '\0';
	return text;
}

char *
durable_read(const char *directory, const char *name, size_t max, size_t *n)
{
	int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, saved;
	char *text;

	if (dir < 0)
		return NULL;
	/* O_NONBLOCK: nobody would ever write into a FIFO in its place */
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	saved = errno;
	(void)close(dir);
	if (fd < 0) {
		errno = saved == ELOOP || saved == ENXIO ? EFBIG : saved;
		return NULL;
	}
	text = read_open(fd, max, n);
	saved = errno;
	(void)close(fd);
	errno = saved;
	return text;
}
