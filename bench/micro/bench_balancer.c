/*
 * What the pure part of a request costs: nanoseconds per call of pick, split, route, tally, rate
 * and the guard, one thread, warm caches.  make bench-micro.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balancer/guard.h"
#include "balancer/hash.h"
#include "balancer/pick.h"
#include "balancer/rate.h"
#include "balancer/route.h"
#include "balancer/split.h"
#include "balancer/tally.h"

#define CALLS 1000000u
#define NOW   INT64_C(1000000)

static volatile uint64_t sink; /* so that no result is unused */

static int64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
print_row(const char *what, unsigned size, unsigned calls, int64_t ns)
{
	(void)printf("%-28s %8u %10.1f\n", what, size, (double)ns / calls);
}

static void *
allocate(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL) {
		perror("bench_balancer");
		exit(1);
	}
	return p;
}

static void
bench_pick(const char *what, enum balance_by balance, unsigned n, unsigned n_up)
{
	struct pool_config config = {.balance = balance, .max_in_flight = 1000};
	struct backend *backends = allocate(n, sizeof *backends);
	struct member *members = allocate(n, sizeof *members);
	char(*names)[16] = allocate(n, sizeof *names);
	_Atomic uint32_t turn = 0;
	struct pool pool = {
	    .config = &config, .members = members, .n_members = n, .n_primary = n, .turn = &turn};
	unsigned calls = n_up == n ? CALLS : CALLS / 1000;
	struct random random;

	random_seed(&random, 1);
	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(names[i], sizeof names[i], "b%u:80", i);
		backends[i].name = names[i];
		backends[i].id = i;
		backends[i].state = i < n_up ? BACKEND_UP : BACKEND_DOWN;
		members[i] = (struct member){.backend = &backends[i], .weight = 1 + i % 2};
	}
	if (pool_prepare(&pool) < 0)
		exit(1);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < calls; i++) {
		struct pick_request rq = {.now_ms = NOW, .random = random_next(&random)};
		const struct member *m;

		rq.key_hash = rq.random;
		if (pick_member(&pool, &rq, &m) == PICK_OK)
			pick_release(m->backend);
	}
	print_row(what, n, calls, now_ns() - begin);
	pool_fini(&pool);
	free(backends);
	free(members);
	free(names);
}

static void
bench_split(void)
{
	struct service_state s = {.course = 2500, .split_key = {1, 2}};
	uint64_t taken = 0;
	int64_t begin = now_ns();

	for (unsigned i = 0; i < CALLS; i++)
		taken += split_next(&s) == GREEN;
	print_row("split_next", 1, CALLS, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		uint64_t key[2] = {i, taken};

		taken += split_bucket(&s, key, sizeof key);
	}
	print_row("split_bucket, 16 bytes", 1, CALLS, now_ns() - begin);
	sink = taken;
}

static void
bench_route(unsigned n)
{
	struct fleet fleet = {.services = allocate(n, sizeof *fleet.services), .n_services = n};
	struct service_config *configs = allocate(n, sizeof *configs);
	char(*names)[32] = allocate(n, sizeof *names);
	char **items = allocate(n, sizeof *items);
	char *paths[] = {(char[]){"/"}, (char[]){"/api"}};
	struct random random;

	random_seed(&random, 1);
	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(names[i], sizeof names[i], "t%u.tenants.example", i);
		items[i] = names[i];
		configs[i].hosts = (struct string_list){&items[i], 1};
		configs[i].paths = (struct string_list){paths, 2};
		fleet.services[i] = (struct service){.config = &configs[i], .index = i};
	}
	struct route_table *t = route_table_new(&fleet);
	if (t == NULL)
		exit(1);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		const char *host = names[random_next(&random) % n];
		struct service *s;

		if (route_find(t, host, strlen(host), "/api/v1/users", 13, &s) == ROUTE_OK)
			sink = s->index;
	}
	print_row("route_find, 19..23 bytes", n, CALLS, now_ns() - begin);
	route_table_free(t);
	free(fleet.services);
	free(configs);
	free(names);
	free(items);
}

static void
bench_tally(void)
{
	struct tally *t = tally_new(2);
	struct tally_sum sum;

	if (t == NULL)
		exit(1);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		const struct tally_sample s = {
		    .now_ms = NOW + i / 20, .head_us = i % 100000, .status = 200};

		tally_begin(t, 0);
		tally_add(t, 0, &s);
		tally_end(t, 0);
	}
	print_row("tally begin, add, end", 1, CALLS, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS / 1000; i++) {
		tally_sum(t, NOW + CALLS / 20, 30000, &sum);
		sink = sum.requests;
	}
	print_row("tally_sum, 30 s", 2, CALLS / 1000, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS / 1000; i++) {
		struct tally_look look;

		tally_look(t, NOW + CALLS / 20, 30000, 50000, &look);
		sink = look.slow;
	}
	print_row("tally_look, 30 s", 2, CALLS / 1000, now_ns() - begin);
	tally_free(t);
}

static const struct limits_config limits = {.failure_rate_bp = 100,
    .p95_ms = 1000,
    .window_ms = 30000,
    .min_requests = 20,
    .min_failures = 3,
    .relative = true,
    .confidence_bp = 9990};

static void
bench_verdict(void)
{
	struct seen live = {.requests = 22500, .failures = 100, .backends = 4, .backends_up = 4};
	struct verdict v;
	int64_t begin = now_ns();

	for (unsigned i = 0; i < CALLS / 10; i++) {
		struct seen candidate = {
		    .requests = 7500, .failures = i % 60, .backends = 4, .backends_up = 4};

		verdict(&v, &limits, GREEN, &candidate, &live, 1);
		sink = (uint64_t)v.word;
	}
	print_row("verdict", 1, CALLS / 10, now_ns() - begin);
}

/* A failure with no weight (nobody is guarded), then one with. */
static void
bench_guard(void)
{
	struct service_config config = {.rollout = {.limits = limits}};
	struct service_state state = {.tally = {tally_new(2), tally_new(2)}};
	struct service service = {.config = &config, .state = &state};
	struct verdict v;

	if (state.tally[BLUE] == NULL || state.tally[GREEN] == NULL)
		exit(1);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		sink = guard_saw(&service, GREEN, true, NOW, &v);
	print_row("guard_saw, weight 0", 1, CALLS, now_ns() - begin);
	state.course = course_of(BLUE, 2500);
	for (unsigned i = 0; i < CALLS; i++) {
		const struct tally_sample s = {.now_ms = NOW + i / 34,
		    .head_us = 1000 + i % 20000,
		    .status = 200,
		    .failure = i % 200 == 0};

		tally_add(state.tally[i % 4 == 0], i % 2, &s);
	}
	begin = now_ns();
	for (unsigned i = 0; i < CALLS / 100; i++)
		sink = guard_saw(&service, i % 4 == 0 ? GREEN : BLUE, true, NOW + CALLS / 34, &v);
	print_row("guard_saw, 1 in 4 candidate's", 2, CALLS / 100, now_ns() - begin);
	tally_free(state.tally[BLUE]);
	tally_free(state.tally[GREEN]);
}

static void
bench_rate(unsigned clients)
{
	struct rate_table *t = rate_new(65536);
	struct random random;
	uint64_t taken = 0;

	if (t == NULL)
		exit(1);
	random_seed(&random, 1);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		int64_t retry;

		taken += rate_take(t, 1 + random_next(&random) % clients, i, 100, 20, &retry);
	}
	print_row("rate_take, 65536 slots", clients, CALLS, now_ns() - begin);
	sink = taken;
	rate_free(t);
}

int
main(void)
{
	static const unsigned sizes[] = {2, 100, 10000}, hosts[] = {1, 100, 10000},
			      clients[] = {1, 1000, 1000000};

	(void)printf("%-28s %8s %10s\n", "call", "size", "ns");
	for (unsigned i = 0; i < 3; i++) {
		bench_pick("pick least", BALANCE_LEAST, sizes[i], sizes[i]);
		bench_pick("pick round robin", BALANCE_ROUND_ROBIN, sizes[i], sizes[i]);
		bench_pick("pick hash", BALANCE_HASH, sizes[i], sizes[i]);
	}
	bench_pick("pick least, one up", BALANCE_LEAST, 10000, 1);
	bench_split();
	for (unsigned i = 0; i < 3; i++)
		bench_route(hosts[i]);
	bench_tally();
	bench_verdict();
	bench_guard();
	for (unsigned i = 0; i < 3; i++)
		bench_rate(clients[i]);
	return 0;
}
