/*
 * What an operator reads on stderr: one line per event, "LEVEL message".  Not the access log.
 * Any thread.  A worker's lines go through its ring (log_thread_ring), so that a slow terminal or
 * disk never holds up a request; control writes at once.  Control characters are escaped.
 */
#ifndef TEAL_LOG_H
#define TEAL_LOG_H

#include "config/config.h"

struct ring;

void log_set_level(enum log_level);
/* From now on this thread's lines go to this ring (NULL: to stderr). */
void log_thread_ring(struct ring *);

void log_at(enum log_level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
