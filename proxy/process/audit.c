/*
 * The audit log: a JSON object a line, appended by one write() and fsynced; and the last entries of
 * each service in memory.  Control thread.
 *
 *   entry -> line -> audit.log        every time opened anew: it may have been renamed away
 *         -> histories[service]       for GET history; filled from the end of audit.log at start
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/parse.h"
#include "proxy/base/log.h"
#include "proxy/process/audit.h"
#include "proxy/process/durable.h"
#include "proxy/process/note.h"

#define AUDIT_FILE     "audit.log"
#define AUDIT_TAIL_MAX (4 * 1024 * 1024) /* bytes read at start */
#define AUDIT_ALL_KEPT 50000 /* of all services; then an entry pushes out one of its own */
#define USERS_KEPT     16
#define HOST_MAX       256

struct user {
	uid_t uid;
	char name[64];
};

struct audit {
	char *directory;
	json_t *histories; /* service -> array of entries, the newest last */
	size_t n_kept;
	json_t *last;
	struct user users[USERS_KEPT]; /* asking for a name may ask a directory server */
	unsigned n_users;              /* ever asked for; the oldest is overwritten */
};

/* What is in the file's place is none: a link, a FIFO. */
static const char *
reason_for(int error)
{
	return error == ELOOP || error == EINVAL ? "it is not a regular file" : strerror(error);
}

/* --- memory ---------------------------------------------------------------------------------- */

static void
remember(struct audit *a, json_t *entry)
{
	const char *service = json_string_value(json_object_get(entry, "service"));
	json_t *list = json_object_get(a->histories, service);
	size_t n = json_array_size(list);

	if (list == NULL) {
		list = json_array();
		if (json_object_set_new(a->histories, service, list) < 0)
			return;
	}
	if (n >= AUDIT_KEPT || (n > 0 && a->n_kept >= AUDIT_ALL_KEPT)) {
		(void)json_array_remove(list, 0);
		a->n_kept--;
	}
	if (json_array_append(list, entry) == 0)
		a->n_kept++;
}

json_t *
audit_history(const struct audit *a, const char *service)
{
	json_t *list = json_object_get(a->histories, service);

	return list == NULL ? json_array() : json_copy(list);
}

json_t *
audit_last(const struct audit *a)
{
	return json_incref(a->last);
}

/* --- at start -------------------------------------------------------------------------------- */

/* What history can show: a service, a time and what was done. */
static bool
is_entry(const json_t *line)
{
	const char *service = json_string_value(json_object_get(line, "service"));
	char err[256];

	return service != NULL &&
	       (*service == '\0' || check_name(service, err, sizeof(err)) == 0) &&
	       json_is_string(json_object_get(line, "time")) &&
	       json_is_string(json_object_get(line, "action"));
}

/* `text` ends with a newline, or with a line that a crash cut off. */
static unsigned
read_lines(struct audit *a, const char *text, size_t n)
{
	unsigned skipped = 0;

	while (n > 0) {
		const char *end = memchr(text, '\n', n);
		size_t length = end == NULL ? n : (size_t)(end - text);
		json_t *line = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);

		if (is_entry(line))
			remember(a, line);
		else if (length > 0)
			skipped++;
		json_decref(line);
		length += end != NULL;
		text += length;
		n -= length;
	}
	return skipped;
}

/* The end of the file from the first line that is whole.  -1 with errno. */
static int
read_tail(struct audit *a, int fd, unsigned *skipped)
{
	struct stat st;
	off_t from;
	size_t n = 0, size;
	ssize_t got;
	char *text, *begin;

	if (fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	/* one byte more, to see whether a line begins there */
	from = st.st_size > AUDIT_TAIL_MAX ? st.st_size - AUDIT_TAIL_MAX - 1 : 0;
	size = (size_t)(st.st_size - from);
	if ((text = malloc(size + 1)) == NULL)
		return -1;
	while (n < size && (got = pread(fd, text + n, size - n, from + (off_t)n)) > 0)
		n += (size_t)got;
	begin = from == 0 ? text : memchr(text, '\n', n);
	if (begin != NULL)
		*skipped = read_lines(a, begin, n - (size_t)(begin - text));
	free(text);
	return 0;
}

static void
load(struct audit *a)
{
	int dir = open(a->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1, failed;
	unsigned skipped = 0;

	if (dir >= 0)
		fd = openat(dir, AUDIT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	failed = fd < 0 || read_tail(a, fd, &skipped) < 0;
	if (failed && errno != ENOENT)
		log_warn("cannot read %s/%s, history is empty: %s", a->directory, AUDIT_FILE,
		    reason_for(errno));
	if (skipped > 0)
		log_warn("%s/%s: lines skipped because they are no entries: %u", a->directory,
		    AUDIT_FILE, skipped);
	if (fd >= 0)
		(void)close(fd);
	if (dir >= 0)
		(void)close(dir);
}

struct audit *
audit_open(const char *directory)
{
	struct audit *a = calloc(1, sizeof(*a));

	if (a == NULL || (a->directory = strdup(directory)) == NULL ||
	    (a->histories = json_object()) == NULL) {
		/* as everywhere at start: without memory there is no teal */
		log_error("audit log: out of memory");
		abort();
	}
	load(a);
	return a;
}

void
audit_close(struct audit *a)
{
	if (a == NULL)
		return;
	json_decref(a->histories);
	json_decref(a->last);
	free(a->directory);
	free(a);
}

/* --- an entry -------------------------------------------------------------------------------- */

/* "" when nobody has this number. */
static const char *
user_name(struct audit *a, uid_t uid)
{
	unsigned n = a->n_users < USERS_KEPT ? a->n_users : USERS_KEPT;
	struct passwd pw, *found = NULL;
	struct user *u;
	char buf[4096];

	for (unsigned i = 0; i < n; i++)
		if (a->users[i].uid == uid)
			return a->users[i].name;
	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) != 0 || found == NULL)
		return "";
	u = &a->users[a->n_users++ % USERS_KEPT];
	u->uid = uid;
	(void)snprintf(u->name, sizeof(u->name), "%s", pw.pw_name);
	return u->name;
}

static json_t *
by_json(struct audit *a, const struct change *by)
{
	if (by == NULL)
		return json_string("teal");
	return json_pack("{s:I, s:o, s:I, s:I}", "uid", (json_int_t)by->uid, "user",
	    note_text(user_name(a, by->uid)), "gid", (json_int_t)by->gid, "pid",
	    (json_int_t)by->pid);
}

static json_t *
now_json(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return note_time((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

static const char *
reason_of(const struct audit_entry *e)
{
	if (e->by != NULL && e->by->reason != NULL && *e->by->reason != '\0')
		return e->by->reason;
	return e->reason == NULL ? "" : e->reason;
}

/* NULL out of memory.  from, to, rule and verdict are left out where there is none. */
static json_t *
entry_json(struct audit *a, const struct audit_entry *e)
{
	json_t *o = json_object();
	char host[HOST_MAX] = "";
	int failed = 0;

	(void)gethostname(
	    host, sizeof(host) - 1); /* asked each time: it may be set after the start */
	failed |= json_object_set_new(o, "time", now_json());
	failed |= json_object_set_new(o, "service", note_text(e->service));
	failed |= json_object_set_new(o, "action", note_text(e->action));
	if (e->from != NULL)
		failed |= json_object_set_new(o, "from", note_text(e->from));
	if (e->to != NULL)
		failed |= json_object_set_new(o, "to", note_text(e->to));
	failed |= json_object_set_new(o, "epoch", json_integer((json_int_t)e->epoch));
	failed |= json_object_set_new(o, "by", by_json(a, e->by));
	failed |= json_object_set_new(o, "host", note_text(host));
	failed |= json_object_set_new(o, "reason", note_text(reason_of(e)));
	if (e->verdict != NULL) {
		failed |= json_object_set_new(o, "rule", json_string(rule_name(e->verdict->rule)));
		failed |= json_object_set_new(o, "verdict", note_text(e->verdict->reason));
	}
	if (failed == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* --- the file -------------------------------------------------------------------------------- */

/* "\n" + entry + "\n", malloc'd: the first byte closes a line that a crash has cut off and is left
 * out otherwise. */
static char *
line_text(const json_t *entry, size_t *n)
{
	size_t length = json_dumpb(entry, NULL, 0, JSON_COMPACT);
	char *text = malloc(length + 2);

	if (text == NULL || length == 0) {
		free(text);
		return NULL;
	}
	text[0] = '\n';
	(void)json_dumpb(entry, text + 1, length, JSON_COMPACT);
	text[length + 1] = '\n';
	*n = length + 2;
	return text;
}

/* One write(), all or nothing.  -1 with errno. */
static int
write_once(int fd, off_t before, const char *text, size_t n)
{
	struct stat st;
	ssize_t wrote;

	do
		wrote = write(fd, text, n);
	while (wrote < 0 && errno == EINTR);
	if (wrote == (ssize_t)n)
		return fsync(fd);
	if (wrote < 0)
		return -1;
	/* The disk is full: half a line is taken back, unless somebody has cut the file
	 * meanwhile. */
	if (fstat(fd, &st) == 0 && st.st_size == before + wrote)
		(void)!ftruncate(fd, before);
	errno = ENOSPC;
	return -1;
}

/* -1 with errno. */
static int
append(int dir, int fd, const char *text, size_t n)
{
	struct stat st;
	char last = '\n';

	if (fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) < 0)
		return -1;
	if (last == '\n') {
		text++;
		n--;
	}
	if (write_once(fd, st.st_size, text, n) < 0)
		return -1;
	/* a new file's name must be on the disk too; EINVAL: this file system has no such thing */
	return st.st_size == 0 && fsync(dir) < 0 && errno != EINVAL ? -1 : 0;
}

/* -1 with errno. */
static int
write_line(const struct audit *a, const char *text, size_t n)
{
	int dir = durable_directory(a->directory), fd, failed, saved;

	if (dir < 0)
		return -1;
	fd = openat(dir, AUDIT_FILE,
	    O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
	failed = fd < 0 || append(dir, fd, text, n) < 0;
	saved = errno;
	if (fd >= 0)
		(void)close(fd);
	(void)close(dir);
	errno = saved;
	return failed ? -1 : 0;
}

int
audit_write(struct audit *a, const struct audit_entry *e, char *err, size_t err_size)
{
	json_t *entry = entry_json(a, e);
	char *text = NULL;
	size_t n = 0;
	int failed = 0;

	json_decref(a->last);
	a->last = entry;
	if (entry != NULL) {
		remember(a, entry);
		text = line_text(entry, &n);
	}
	if (text == NULL) {
		(void)snprintf(
		    err, err_size, "cannot write %s/%s: out of memory", a->directory, AUDIT_FILE);
		return -1;
	}
	failed = write_line(a, text, n);
	if (failed < 0)
		(void)snprintf(err, err_size, "cannot write %s/%s: %s", a->directory, AUDIT_FILE,
		    reason_for(errno));
	free(text);
	return failed;
}
