/*
 * Following one rollout through what teal says of its service, look by look, until it has ended.
 * Pure.
 *
 * teal names no rollout, so it is known by what it must look like: the color it brings in, its
 * steps, and a position that only grows.  It may be over before the first look, and another may be
 * under way by then:
 *
 *   `to` is live                                     promoted, whatever has begun since
 *   promoted, rolled_back                            as it says
 *   idle, or another rollout to the same color       rolled back: it could not have begun otherwise
 *   paused, or waiting for promote                   somebody has to decide
 */
#ifndef TEALCTL_FOLLOW_H
#define TEALCTL_FOLLOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "config/config.h"

enum follow_end { FOLLOW_ON, FOLLOW_PROMOTED, FOLLOW_ROLLED_BACK, FOLLOW_UNDECIDED };

struct follow {
	enum color to;
	json_t *steps;
	double step; /* 1-based; 0: not seen yet */
	bool entered, frozen, gate, longer;
	char reason[512]; /* told last */
};

/* `service`: teal's answer to the change that began it, or let it go on. */
void follow_begin(struct follow *, const json_t *service);
void follow_fini(struct follow *);
/* One look, the first at the answer given to follow_begin(): lines for what is new go to `lines`;
 * what ended it, but a promotion, to `end` instead, without "tealctl: ". */
enum follow_end follow_look(struct follow *, const json_t *service, FILE *lines, FILE *end);

#endif
