/*
 * GET /v1/events: server-sent events (HTML Standard, section 9.2) over evhttp, one answer without
 * an end per subscriber.
 *
 * Control thread.
 */
#ifndef TEAL_ADMIN_EVENTS_H
#define TEAL_ADMIN_EVENTS_H

#include <stdbool.h>

struct control;
struct event_base;
struct evhttp_connection;
struct evhttp_request;
struct event_streams; /* those of one admin server */

struct event_streams *event_streams_new(struct event_base *, struct control *);
/* Closes the connections of those that still listen. */
void event_streams_free(struct event_streams *);

/* Is it GET /v1/events? */
bool event_streams_wanted(struct evhttp_request *);

enum stream_opened { STREAM_OPEN, STREAM_BAD_ID, STREAM_TOO_MANY };
/* STREAM_OPEN: the answer has begun, and the request is no longer the caller's.  Else nothing was
 * done.  read_only: it came by the TCP listener, which cannot have all that events_subscribe()
 * allows: the operators on the socket always have some. */
enum stream_opened event_streams_open(
    struct event_streams *, struct evhttp_request *, bool read_only);

/* From the connection's close callback: it is about to be freed. */
void event_streams_closed(struct event_streams *, struct evhttp_connection *);

#endif
