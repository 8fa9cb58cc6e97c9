/* An event of GET /v1/events as a line: "2026-11-21 06:21:35  api  tripped  rule failure_rate,
 * reason ...".  Pure. */
#ifndef TEALCTL_EVENT_LINE_H
#define TEALCTL_EVENT_LINE_H

#include <jansson.h>
#include <stdio.h>

#include "proxy/tealctl/text.h"

void event_line(FILE *out, const json_t *event, const struct look *);

#endif
