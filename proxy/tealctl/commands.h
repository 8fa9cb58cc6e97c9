/* The commands: each asks teal and prints; the exit code is what they return. */
#ifndef TEALCTL_COMMANDS_H
#define TEALCTL_COMMANDS_H

#include "proxy/tealctl/args.h"

#define DEFAULT_SOCKET "/run/teal/admin.sock"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int run_status(const struct args *);
int run_weight(const struct args *);
int run_flip(const struct args *);
int run_backend_add(const struct args *);
int run_backend_remove(const struct args *);
int run_backend_drain(const struct args *);
int run_backend_undrain(const struct args *);
int run_backend_set(const struct args *);
int run_maintenance(const struct args *);
int run_metrics(const struct args *);
int run_version(const struct args *);

#endif
