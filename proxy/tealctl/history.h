/* Who changed what, when and why: a table from the JSON of GET /v1/services/NAME/history, the
 * newest last.  Pure. */
#ifndef TEALCTL_HISTORY_H
#define TEALCTL_HISTORY_H

#include <jansson.h>
#include <stdio.h>

#include "proxy/tealctl/text.h"

void history_render(FILE *out, const json_t *answer, const struct look *);

#endif
