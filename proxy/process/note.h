/*
 * How records on disk and answers say texts, times, numbers and steps (audit log, evidence, state,
 * status).  Pure; any thread.
 */
#ifndef TEAL_NOTE_H
#define TEAL_NOTE_H

#include <jansson.h>
#include <stdint.h>

#include "config/config.h"

/*
 * A string as long as `text`, in which each byte is '?' that is not UTF-8 (a sentence may have been
 * cut within a character), DEL, C1 or a Unicode line break: nothing that ends a line or steers a
 * terminal.  C0 stays, JSON escapes it.  NULL out of memory.
 */
json_t *note_text(const char *text);
/* "2026-01-01T00:00:00.000Z" of ms since 1970; null when it is no time of the years 0 to 9999. */
json_t *note_time(int64_t wall_ms);
/* Rounded to 1/per_unit, whole numbers without a point; 0 for NaN, at most 1e15 either way. */
json_t *note_number(double value, double per_unit);

/* Hundredths of a percent, as a number of percent. */
json_t *note_percent(unsigned bp);
/* [{"weight": 25, "hold": "5m", "hold_ms": 300000}, ...]; NULL out of memory. */
json_t *note_steps(const struct step_config *, size_t n);

/* The last ms of the year 9999: no time and no span on disk is larger. */
#define NOTE_MS_MAX INT64_C(253402300799999)

#endif
