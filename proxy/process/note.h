/*
 * How records on disk say texts, times and numbers (audit log, evidence, state).  Pure; any thread.
 */
#ifndef TEAL_NOTE_H
#define TEAL_NOTE_H

#include <jansson.h>
#include <stdint.h>

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

/* The last ms of the year 9999: no time and no span on disk is larger. */
#define NOTE_MS_MAX INT64_C(253402300799999)

#endif
