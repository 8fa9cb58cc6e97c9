/*
 * What a probe's answer means, and how it is said: status, JSON member, gRPC health, version.
 * Pure; any thread.
 */
#ifndef TEAL_PROBE_ANSWER_H
#define TEAL_PROBE_ANSWER_H

#include "balancer/outcome.h"
#include "proxy/process/probe_io.h"

/* A complete answer, or its first PROBE_BODY_MAX bytes. */
void probe_answered(const struct probe *, struct probe_result *);
/* None came.  tls: what the handshake failed of. */
void probe_failed(enum outcome why, const char *tls, struct probe_result *);
void probe_timed_out(const struct probe *, bool connected, struct probe_result *);

#endif
