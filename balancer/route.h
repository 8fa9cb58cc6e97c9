/*
 * Which service: exact host, else the longest "*." wildcard, else "*"; within the host
 * the longest path prefix on segment borders ("/api" takes "/api", "/api/x", "/api?x", not
 * "/apix"; "/api/" takes "/api/x").  Matching is on the bytes that are forwarded, nothing is
 * decoded or normalised; the host is compared without case, port and trailing dot.
 *
 * The table is immutable; lookups are lock-free and do not allocate.  The exact-host lookup is a
 * hash table, so 10,000 hosts cost what 10 do.
 */
#ifndef TEAL_ROUTE_H
#define TEAL_ROUTE_H

#include <stddef.h>

#include "balancer/fleet.h"

enum route_result { ROUTE_OK, ROUTE_NO_HOST, ROUTE_NO_PATH };

struct route_table *route_table_new(const struct fleet *); /* NULL: out of memory */
void route_table_free(struct route_table *);

/* host: as in the request, may carry ":port"; path begins with '/' or is "*". */
enum route_result route_find(const struct route_table *, const char *host, size_t host_len,
    const char *path, size_t path_len, struct service **out);

#endif
