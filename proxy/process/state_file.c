/*
 * The durable state: one JSON file, written whole and renamed into place, so that a reader sees
 * the old or the new one and never a mixture.  Control thread.
 *
 *   { "teal_state": 1,
 *     "checksum": "0123456789abcdef",       SipHash of "services", compact, keys sorted
 *     "services": [ { "name", "live", "weight_bp", "maintenance", "epoch", "split_key": [2],
 *                     "pools": { "blue": null | { "backends": [...], "drained": [...] }, ... } } ] }
 *
 * Anything that is not exactly this is set aside and not repaired: half a state could send
 * traffic where nobody wants it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "balancer/hash.h"
#include "config/parse.h"
#include "proxy/process/state_file.h"

#define STATE_FILE      "state.json"
#define STATE_TEMPORARY "state.json.new"
#define STATE_VERSION   1
#define STATE_BYTES_MAX (16u * 1024 * 1024)
#define SERVICES_MAX    10000
#define BACKENDS_MAX    10000 /* of one pool */

/* Not a secret: the checksum finds damage, not forgery. */
static const uint64_t checksum_key[2] = {0x7465616c20737461u, 0x74652066696c6531u};

/* --- struct state ---------------------------------------------------------------------------- */

static void
list_fini(struct string_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct string_list){0};
}

void
state_free(struct state *state)
{
	if (state == NULL)
		return;
	for (unsigned i = 0; i < state->n_services; i++) {
		struct state_service *s = &state->services[i];

		free(s->name);
		for (int c = 0; c < N_COLORS; c++) {
			list_fini(&s->pools[c].backends);
			list_fini(&s->pools[c].drained);
		}
	}
	free(state->services);
	free(state);
}

struct state_service *
state_find(struct state *state, const char *name, bool make)
{
	struct state_service *grown;
	char *copy;

	for (unsigned i = 0; i < state->n_services; i++)
		if (strcmp(state->services[i].name, name) == 0)
			return &state->services[i];
	if (!make || (copy = strdup(name)) == NULL)
		return NULL;
	grown = reallocarray(state->services, state->n_services + 1, sizeof(*grown));
	if (grown == NULL) {
		free(copy);
		return NULL;
	}
	state->services = grown;
	grown += state->n_services++;
	*grown = (struct state_service){.name = copy, .live = BLUE};
	return grown;
}

/* --- to JSON --------------------------------------------------------------------------------- */

static json_t *
list_json(const struct string_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->n; i++)
		if (json_array_append_new(array, json_string(list->items[i])) < 0) {
			json_decref(array); /* not UTF-8: better no file than a backend less */
			return NULL;
		}
	return array;
}

static json_t *
pool_json(const struct state_pool *pool)
{
	/* drained alone is no change of the list, but must be kept too */
	if (!pool->changed && pool->drained.n == 0 && pool->backends.n == 0)
		return json_null();
	return json_pack("{s:b, s:o, s:o}", "changed", pool->changed, "backends",
	    list_json(&pool->backends), "drained", list_json(&pool->drained));
}

/* 64 bits do not fit into the numbers of every JSON reader. */
static json_t *
key_json(uint64_t key)
{
	char text[17];

	(void)snprintf(text, sizeof(text), "%016" PRIx64, key);
	return json_string(text);
}

static json_t *
services_json(const struct state *state)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < state->n_services; i++) {
		const struct state_service *s = &state->services[i];

		(void)json_array_append_new(array,
		    json_pack("{s:s, s:s, s:i, s:b, s:I, s:[o,o], s:{s:o, s:o}}", "name", s->name,
			"live", color_name(s->live), "weight_bp", (int)s->weight_bp, "maintenance",
			s->maintenance, "epoch", (json_int_t)s->epoch, "split_key",
			key_json(s->split_key[0]), key_json(s->split_key[1]), "pools", "blue",
			pool_json(&s->pools[BLUE]), "green", pool_json(&s->pools[GREEN])));
	}
	return array;
}

/* Over the canonical form, so that it does not matter how the file is laid out. */
static int
checksum(const json_t *services, char out[17])
{
	char *text = json_dumps(services, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (text == NULL)
		return -1;
	(void)snprintf(out, 17, "%016" PRIx64, hash_sip(checksum_key, text, strlen(text)));
	free(text);
	return 0;
}

/* The file's text; NULL when out of memory or a name is not UTF-8. */
static char *
state_text(const struct state *state)
{
	json_t *services = services_json(state), *root;
	char sum[17], *text;

	if (json_array_size(services) != state->n_services || checksum(services, sum) < 0) {
		json_decref(services);
		return NULL;
	}
	root = json_pack(
	    "{s:i, s:s, s:o}", "teal_state", STATE_VERSION, "checksum", sum, "services", services);
	text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

/* --- from JSON ------------------------------------------------------------------------------- */

/* 0 when `array` holds addresses only. */
static int
read_list(const json_t *array, struct string_list *list)
{
	size_t n = json_array_size(array), i;
	struct address address;
	char err[256];
	json_t *item;

	if (!json_is_array(array) || n > BACKENDS_MAX)
		return -1;
	if ((list->items = calloc(n + 1, sizeof(*list->items))) == NULL)
		return -1;
	json_array_foreach(array, i, item)
	{
		const char *text = json_string_value(item);

		if (text == NULL || address_parse(&address, text, err, sizeof(err)) < 0)
			return -1;
		address_fini(&address);
		if ((list->items[list->n] = strdup(text)) == NULL)
			return -1;
		list->n++;
	}
	return 0;
}

static int
read_pool(json_t *json, struct state_pool *pool)
{
	json_t *backends, *drained;
	int changed;

	if (json_is_null(json))
		return 0;
	if (json_unpack_ex(json, NULL, JSON_STRICT, "{s:b, s:o, s:o}", "changed", &changed,
		"backends", &backends, "drained", &drained) < 0)
		return -1;
	pool->changed = changed != 0;
	if (read_list(backends, &pool->backends) < 0 || read_list(drained, &pool->drained) < 0)
		return -1;
	return 0;
}

static int
read_key(const char *text, uint64_t *key)
{
	char *end;

	if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return -1;
	*key = strtoull(text, &end, 16);
	return 0;
}

static int
read_service(json_t *json, struct state *state)
{
	struct state_service *s;
	const char *name, *live, *key[2];
	json_t *pools[N_COLORS];
	json_int_t epoch;
	int bp, on;
	char err[256];

	if (json_unpack_ex(json, NULL, JSON_STRICT,
		"{s:s, s:s, s:i, s:b, s:I, s:[s,s!], s:{s:o, s:o!}}", "name", &name, "live", &live,
		"weight_bp", &bp, "maintenance", &on, "epoch", &epoch, "split_key", &key[0],
		&key[1], "pools", "blue", &pools[BLUE], "green", &pools[GREEN]) < 0)
		return -1;
	if (check_name(name, err, sizeof(err)) < 0 || state_find(state, name, false) != NULL ||
	    bp < 0 || bp > 10000 || epoch < 0)
		return -1;
	if ((s = state_find(state, name, true)) == NULL || color_parse(live, &s->live) < 0)
		return -1;
	s->weight_bp = (unsigned)bp;
	s->maintenance = on != 0;
	s->epoch = (uint64_t)epoch;
	for (int i = 0; i < 2; i++)
		if (read_key(key[i], &s->split_key[i]) < 0)
			return -1;
	for (int c = 0; c < N_COLORS; c++)
		if (read_pool(pools[c], &s->pools[c]) < 0)
			return -1;
	return 0;
}

/* Fills the empty `state`.  -1 with why in a few words. */
static int
read_state(struct state *state, const char *text, size_t n, const char **why)
{
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL), *services, *one;
	const char *stored;
	char sum[17];
	size_t i;
	int version = -1, bad = -1;

	if (root == NULL)
		*why = "it is not JSON";
	else if (json_unpack(root, "{s:i}", "teal_state", &version) < 0)
		*why = "it is not a state file of teal";
	else if (version != STATE_VERSION)
		*why = "another version of teal wrote it";
	else if (json_unpack_ex(root, NULL, JSON_STRICT, "{s:i, s:s, s:o}", "teal_state", &version,
		     "checksum", &stored, "services", &services) < 0 ||
		 !json_is_array(services) || json_array_size(services) > SERVICES_MAX)
		*why = "its members are not those of a state file";
	else if (checksum(services, sum) < 0 || strcmp(sum, stored) != 0)
		*why = "its checksum is wrong";
	else
		bad = 0;
	if (bad == 0)
		json_array_foreach(services, i, one) if ((bad = read_service(one, state)) < 0)
		{
			*why = "a service in it is malformed";
			break;
		}
	json_decref(root);
	return bad;
}

/* --- files ------------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void
explain(char *out, size_t size, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(out, size, format, ap);
	va_end(ap);
}

/* Makes the last component when it is missing. */
static int
open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT || mkdir(path, 0750) < 0)
		return fd;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The whole file, malloc'd; NULL with errno (EFBIG: too large to be a state). */
static char *
read_file(int directory, size_t *n)
{
	int fd = openat(directory, STATE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char *text = NULL;
	ssize_t got = -1;

	if (fd < 0)
		return NULL;
	*n = 0;
	if (fstat(fd, &st) == 0) {
		if (!S_ISREG(st.st_mode) || st.st_size > (off_t)STATE_BYTES_MAX)
			errno = EFBIG;
		else
			text = malloc((size_t)st.st_size + 1);
	}
	while (text != NULL && (got = read(fd, text + *n, (size_t)st.st_size + 1 - *n)) > 0)
		if ((*n += (size_t)got) > (size_t)st.st_size)
			break; /* it grew under our eyes: nobody of ours does that */
	if (text != NULL && got < 0) {
		int saved = errno;

		free(text);
		errno = saved;
		text = NULL;
	}
	(void)close(fd);
	return text;
}

/* Keeps the evidence under a name of its own.  0, or -1 with errno. */
static int
set_aside(int directory, char name[64])
{
	time_t now = time(NULL);
	struct tm tm;
	char stamp[24] = "";

	if (gmtime_r(&now, &tm) != NULL)
		(void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(
		    name, 64, i == 0 ? "%s.damaged-%s" : "%s.damaged-%s.%d", STATE_FILE, stamp, i);
		if (renameat2(directory, STATE_FILE, directory, name, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

/* Sets the file aside and begins anew. */
static struct state *
start_over(int directory, const char *path, const char *why, char *warning, size_t size)
{
	char name[64];

	if (set_aside(directory, name) < 0) {
		explain(warning, size, "%s/%s cannot be used: %s; and it cannot be moved aside: %s",
		    path, STATE_FILE, why, strerror(errno));
		return NULL;
	}
	explain(warning, size,
	    "%s/%s cannot be used: %s; moved to %s, beginning with what is configured", path,
	    STATE_FILE, why, name);
	return calloc(1, sizeof(struct state));
}

static struct state *
load_from(int directory, const char *path, char *warning, size_t size)
{
	const char *why = NULL;
	struct state *state;
	size_t n = 0;
	char *text;

	if (faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) < 0) {
		explain(warning, size, "cannot write into the state directory %s: %s", path,
		    strerror(errno));
		return NULL;
	}
	if ((text = read_file(directory, &n)) == NULL) {
		if (errno == ENOENT)
			return calloc(1, sizeof(*state));
		if (errno == EFBIG || errno == ELOOP || errno == ENXIO)
			return start_over(directory, path, "it is not a regular file of sane size",
			    warning, size);
		explain(warning, size, "cannot read %s/%s: %s", path, STATE_FILE, strerror(errno));
		return NULL;
	}
	if ((state = calloc(1, sizeof(*state))) != NULL && read_state(state, text, n, &why) < 0) {
		state_free(state);
		state = start_over(directory, path, why, warning, size);
	}
	free(text);
	return state;
}

struct state *
state_load(const char *directory, char *warning, size_t size)
{
	int fd = open_directory(directory);
	struct state *state;

	*warning = '\0';
	if (fd < 0) {
		explain(warning, size, "cannot open the state directory %s: %s", directory,
		    strerror(errno));
		return NULL;
	}
	state = load_from(fd, directory, warning, size);
	if (state == NULL && *warning == '\0')
		explain(warning, size, "out of memory");
	(void)close(fd);
	return state;
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

/* -1 with errno; the old file is untouched then, but for the case told below. */
static int
replace(int directory, const char *text)
{
	int fd, failed, saved;

	fd = openat(directory, STATE_TEMPORARY,
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return -1;
	failed = write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0;
	saved = errno;
	if (close(fd) < 0 && !failed) {
		failed = 1;
		saved = errno;
	}
	if (!failed && renameat(directory, STATE_TEMPORARY, directory, STATE_FILE) < 0) {
		failed = 1;
		saved = errno;
	}
	if (failed) {
		(void)unlinkat(directory, STATE_TEMPORARY, 0);
		errno = saved;
		return -1;
	}
	/* Renamed but perhaps not durable: reported as a failure, because a crash may bring the old
	 * state back.  The next save repeats it.  File systems that cannot do this say EINVAL. */
	return fsync(directory) < 0 && errno != EINVAL ? -1 : 0;
}

int
state_save(const char *directory, const struct state *state, char *err, size_t err_size)
{
	int fd = open_directory(directory), failed;
	char *text;

	if (fd < 0) {
		explain(err, err_size, "cannot open the state directory %s: %s", directory,
		    strerror(errno));
		return -1;
	}
	if ((text = state_text(state)) == NULL) {
		explain(err, err_size, "the state cannot be written as JSON");
		(void)close(fd);
		return -1;
	}
	failed = replace(fd, text);
	if (failed < 0)
		explain(err, err_size, "cannot write %s/%s: %s", directory, STATE_FILE,
		    strerror(errno));
	free(text);
	(void)close(fd);
	return failed;
}
