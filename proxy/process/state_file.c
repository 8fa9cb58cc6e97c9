/*
 * The durable state: one JSON file (state_json.c, state_read.c), written whole and renamed into
 * place (durable.c).  What cannot be read is set aside and kept.  Control thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/process/durable.h"
#include "proxy/process/state_json.h"

#define STATE_FILE      "state.json"
#define STATE_BYTES_MAX (64u * 1024 * 1024)
#define WHY_SIZE        256

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
			list_fini(&s->pools[c].well);
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

/* --- files ------------------------------------------------------------------------------------ */

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
		(void)snprintf(warning, size,
		    "%s/%s cannot be used: %s; and it cannot be moved aside: %s", path, STATE_FILE,
		    why, strerror(errno));
		return NULL;
	}
	(void)snprintf(warning, size,
	    "%s/%s cannot be used: %s; moved to %s, beginning with what is configured", path,
	    STATE_FILE, why, name);
	return calloc(1, sizeof(struct state));
}

static struct state *
load_from(int directory, const char *path, char *warning, size_t size)
{
	char why[WHY_SIZE] = "", *text;
	struct state *state;
	size_t n = 0;

	if (faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) < 0) {
		(void)snprintf(warning, size, "cannot write into the state directory %s: %s", path,
		    strerror(errno));
		return NULL;
	}
	if ((text = durable_read(path, STATE_FILE, STATE_BYTES_MAX, &n)) == NULL) {
		if (errno == ENOENT)
			return calloc(1, sizeof(*state));
		if (errno == EFBIG)
			return start_over(directory, path, "it is not a regular file of sane size",
			    warning, size);
		(void)snprintf(
		    warning, size, "cannot read %s/%s: %s", path, STATE_FILE, strerror(errno));
		return NULL;
	}
	state = calloc(1, sizeof(*state));
	if (state != NULL && state_parse(state, text, n, why, sizeof(why)) < 0) {
		state_free(state);
		state = start_over(directory, path, why, warning, size);
	}
	free(text);
	return state;
}

struct state *
state_load(const char *directory, char *warning, size_t size)
{
	int fd = durable_directory(directory);
	struct state *state;

	*warning = '\0';
	if (fd < 0) {
		(void)snprintf(warning, size, "cannot open the state directory %s: %s", directory,
		    strerror(errno));
		return NULL;
	}
	state = load_from(fd, directory, warning, size);
	if (state == NULL && *warning == '\0')
		(void)snprintf(warning, size, "out of memory");
	(void)close(fd);
	return state;
}

int
state_save(const char *directory, const struct state *state, char *err, size_t err_size)
{
	char why[WHY_SIZE], *text = state_text(state, why, sizeof(why));
	int failed = -1;

	if (text == NULL)
		(void)snprintf(err, err_size, "the state cannot be written: %s", why);
	else if (strlen(text) > STATE_BYTES_MAX)
		(void)snprintf(err, err_size, "the state cannot be written: it is too large");
	else
		failed = durable_write(directory, STATE_FILE, text, strlen(text), err, err_size);
	free(text);
	return failed;
}
