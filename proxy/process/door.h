/*
 * The PROXY protocol header (v1, v2), read before anything else of a connection from a listed peer.
 * Only the header's own bytes are taken from the socket: TLS or HTTP follows right behind.
 *
 * Owner: the worker's list.  Thread: that worker's.
 */
#ifndef TEAL_DOOR_H
#define TEAL_DOOR_H

#include <stdint.h>
#include <sys/queue.h>

#include "proxy/base/turn.h"

struct door;
struct event_base;
struct worker;
LIST_HEAD(door_list, door);

/* Takes the fd.  Ends in worker_admit() with the client the header names, or in
 * worker_turned_away(). */
void door_open(struct door_list *, struct worker *, struct event_base *, struct turn *,
    unsigned listener, int fd, const uint8_t peer[16], uint16_t port, int64_t timeout_ms);
void door_close_all(struct door_list *);

/* worker.c's */
void worker_admit(
    struct worker *, unsigned listener, int fd, const uint8_t address[16], uint16_t port);
void worker_turned_away(struct worker *);

#endif
