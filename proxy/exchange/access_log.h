/*
 * One line per exchange, JSON or text, into the worker's ring; the log thread writes it.
 */
#ifndef TEAL_ACCESS_LOG_H
#define TEAL_ACCESS_LOG_H

#include "proxy/exchange/exchange.h"

void access_log(struct exchange *);

#endif
