/*
 * How many connections each client address holds, over all workers.  Touched when a connection
 * is accepted and when it is gone, never per request; so a lock per shard is cheap enough.
 */
#ifndef TEAL_CLIENTS_H
#define TEAL_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>

struct clients;

/* Whom limits count as one client: a v4 address, or a v6 /64, since one host may use all of its own (RFC 8981).
 * Both 16 bytes, v4 mapped. */
void client_prefix(uint8_t out[16], const uint8_t address[16]);

struct clients *clients_new(void); /* NULL: out of memory */
void clients_free(struct clients *);
/* Counts one more, unless `max` are there already (then false). address: 16 bytes, v4 mapped. */
bool clients_enter(struct clients *, const uint8_t address[16], unsigned max);
void clients_leave(struct clients *, const uint8_t address[16]);

#endif
