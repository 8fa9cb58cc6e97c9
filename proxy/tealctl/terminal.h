/*
 * The terminal, if there is one: what it can show, a screen of its own for --watch, and being put
 * right again whatever ends the process.
 *
 * A signal that ends the process does end it, as its default would: a shell sees 128 + its number
 * (130 for Ctrl-C) and stops the script that called us.
 */
#ifndef TEALCTL_TERMINAL_H
#define TEALCTL_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

#include "proxy/tealctl/text.h"

/* Called again after a resize. */
struct look terminal_look(FILE *out);
/* A terminal that obeys escape codes. */
bool terminal_is_one(FILE *out);

/* From now on an interrupt writes `last_words` (NULL: nothing) to stderr before the process ends.
 * Not copied. */
void terminal_on_interrupt(const char *last_words);
/* A line without its end is on the terminal: the farewell begins a new one. */
void terminal_line_open(bool open);

/* The alternate screen, without cursor; left on exit and on any signal that ends the process;
 * Ctrl-Z and fg work. */
void terminal_screen(void);
/* One write, so that nobody sees half of it. */
void terminal_draw(const char *text, size_t n);
/* Since it was last asked; also after fg. */
bool terminal_resized(void);

#endif
