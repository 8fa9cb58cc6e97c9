/* Listening sockets.  Control thread, at start. */
#ifndef TEAL_LISTEN_H
#define TEAL_LISTEN_H

#include "config/config.h"

/*
 * One socket for worker `index` of `n`: TCP sockets are bound once per worker with SO_REUSEPORT, so
 * that the kernel spreads connections without a lock of ours.  A Unix socket cannot be: the first
 * worker's is made (a stale file replaced, a live one an error) and the others get a duplicate.  -1
 * with a sentence in err.
 */
int listen_open(
    const struct listener_config *, unsigned index, int first, char *err, size_t err_size);
/* Removes the file of a Unix socket. */
void listen_unlink(const struct listener_config *);

#endif
