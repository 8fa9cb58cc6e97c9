/*
 * What teal tells Prometheus: text exposition format 0.0.4, prefix "teal_" and the usual process_*.
 *
 * Control thread; reads atomics, and /proc/self for the process.
 */
#ifndef TEAL_METRICS_H
#define TEAL_METRICS_H

#include <stddef.h>

#include "proxy/process/control.h"

/* The whole text, NUL-terminated and malloc'd, its length in *n; NULL when out of memory. */
char *metrics_text(struct control *, size_t *n);

#endif
