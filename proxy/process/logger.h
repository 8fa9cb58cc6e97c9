/*
 * The log thread: takes lines from the workers' rings and writes them, the access log to its file
 * or stdout, the operator's lines to stderr.  A disk that is slow or full holds up this thread and
 * nothing else; what does not fit is lost and counted.
 */
#ifndef TEAL_LOGGER_H
#define TEAL_LOGGER_H

#include <stdint.h>

#include "proxy/base/ring.h"

struct logger;

/* access: path, "stdout" or "off".  NULL with a sentence in err when the file cannot be opened. */
struct logger *logger_new(const char *access, char *err, size_t err_size);
void logger_add(
    struct logger *, struct ring *access, struct ring *log); /* before logger_start; NULL allowed */
int logger_start(struct logger *);                           /* 0 or an errno value */
void logger_reopen(struct logger *);                         /* any thread; SIGUSR1 */
uint64_t logger_lost(const struct logger *); /* access lines lost: full rings and failed writes */
void logger_stop(struct logger *);           /* writes what is there, joins, frees */

#endif
