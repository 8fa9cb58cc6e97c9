/*
 * What can be said in a scenario: settings of the service, actions, conditions.  A new one is a
 * row in phrases.c and in README.md.
 */
#ifndef TEAL_TEST_PHRASES_H
#define TEAL_TEST_PHRASES_H

#include "tests/scenario/words.h"
#include "tests/scenario/world.h"

/* A setting or an action.  NULL, or why not: of a setting what is wrong, of an action why teal
 * refuses it. */
struct order {
	const char *phrase;
	const char *(*obey)(struct world *, const struct values *);
};

struct condition {
	const char *phrase;
	bool (*holds)(const struct world *, const struct values *);
};

/* What the words from..to-1 say; NULL: none of them. */
const struct order *phrase_setting(
    const struct words *, unsigned from, unsigned to, struct values *);
const struct order *phrase_action(
    const struct words *, unsigned from, unsigned to, struct values *);
const struct condition *phrase_condition(
    const struct words *, unsigned from, unsigned to, struct values *);

#endif
