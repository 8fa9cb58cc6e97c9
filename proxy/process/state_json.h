/*
 * struct state as JSON: what state_file.c keeps in its file.  Pure; any thread.
 *
 * What is written is what is read: both sides ask the same state_check(), so that no file is
 * written that the next start would refuse.
 */
#ifndef TEAL_STATE_JSON_H
#define TEAL_STATE_JSON_H

#include <jansson.h>

#include "proxy/process/state_file.h"

#define STATE_VERSION     2 /* 1: without well, trip, rollout, trips; read, never written */
#define STATE_VERSION_MIN 1

/* The file's text, malloc'd; NULL with why in a few words. */
char *state_text(const struct state *, char *why, size_t why_size);
/* Fills the empty state.  -1 with why in a few words; the state is then half filled and good for
 * state_free() only. */
int state_parse(struct state *, const char *text, size_t n, char *why, size_t why_size);

/* The member "services" alone, for the two above and tests.  NULL: a text is not UTF-8, or out of
 * memory.  -1 as state_parse(). */
json_t *state_services_json(const struct state *);
int state_services_read(
    struct state *, const json_t *services, int version, char *why, size_t why_size);
/* Over the canonical form, so that it does not matter how the file is laid out.  -1: no memory. */
int state_checksum(const json_t *services, char out[17]);

/* NULL, or what is impossible about it ("its rollout brings in the live color"). */
const char *state_check(const struct state_service *);

#endif
