/*
 * llhttp behind one function, so that its names (F_UPGRADE, HTTP_STATUS_*, ...) meet no others.
 * One thread.
 */
#ifndef TEAL_H1_GRAMMAR_H
#define TEAL_H1_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

enum h1_grammar {
	H1_GRAMMAR_OK,
	H1_GRAMMAR_METHOD, /* a method llhttp does not know */
	H1_GRAMMAR_BAD,
	H1_GRAMMAR_STOPPED, /* the callback returned false */
};
/* Runs llhttp over the n bytes of one whole head, its empty line included, and calls `field` for each field line. Values
 * may have blanks around them. */
enum h1_grammar h1_grammar(bool request, const char *head, size_t n,
    bool (*field)(void *user, const char *name, size_t name_n, const char *value, size_t value_n),
    void *user);

#endif
