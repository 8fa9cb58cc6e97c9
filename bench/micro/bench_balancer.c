/*
 * What the pure part of a request costs: nanoseconds per call of pick, split, route, tally, rate
 * and the guard.  Sizes are backends, hosts or clients; split and tally are never given a pool, so
 * theirs is any.  make bench-micro.
 */
#include <string.h>

#include "balancer/guard.h"
#include "balancer/hash.h"
#include "balancer/pick.h"
#include "balancer/rate.h"
#include "balancer/route.h"
#include "balancer/split.h"
#include "balancer/tally.h"
#include "bench/micro/micro.h"

#define NOW INT64_C(1000000)

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
	print_row("split_next", ANY_SIZE, CALLS, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		uint64_t key[2] = {i, taken};

		taken += split_bucket(&s, key, sizeof key);
	}
	print_row("split_bucket, 16 bytes", ANY_SIZE, CALLS, now_ns() - begin);
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
	print_row("tally begin, add, end", ANY_SIZE, CALLS, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS / 1000; i++) {
		tally_sum(t, NOW + CALLS / 20, 30000, &sum);
		sink = sum.requests;
	}
	print_row("tally_sum, 30 s, 2 workers", ANY_SIZE, CALLS / 1000, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < CALLS / 1000; i++) {
		struct tally_look look;

		tally_look(t, NOW + CALLS / 20, 30000, 50000, &look);
		sink = look.slow;
	}
	print_row("tally_look, 30 s, 2 workers", ANY_SIZE, CALLS / 1000, now_ns() - begin);
	tally_free(t);
}

static const struct limits_config limits = {.failure_rate_bp = 100,
    .p95_ms = 1000,
    .window_ms = 30000,
    .min_requests = 20,
    .min_failures = 3,
    .relative = true,
    .confidence_bp = 9990};

/* The rules alone, on counts: see bench_guard_pools() for the counting. */
static void
bench_verdict(unsigned n)
{
	struct seen live = {.requests = 22500, .failures = 100, .backends = n, .backends_up = n};
	struct verdict v;
	int64_t begin = now_ns();

	for (unsigned i = 0; i < CALLS / 10; i++) {
		struct seen candidate = {
		    .requests = 7500, .failures = i % 60, .backends = n, .backends_up = n};

		verdict(&v, &limits, GREEN, &candidate, &live, 1);
		sink = (uint64_t)v.word;
	}
	print_row("verdict", n, CALLS / 10, now_ns() - begin);
}

/* Backends are counted when a rule has failed.  So that asking once more finds the same, nothing
 * comes of it: the live color is down, the guard frozen. */
static void
bench_guard_pools(struct service *service, unsigned n, int64_t now_ms)
{
	struct backend *backends = allocate(2 * (size_t)n, sizeof *backends);
	struct member *members = allocate(2 * (size_t)n, sizeof *members);
	unsigned calls = n > 1000 ? CALLS / 1000 : CALLS / 100;
	struct verdict v;

	for (unsigned i = 0; i < 2 * n; i++) {
		backends[i].state = i < n ? BACKEND_DOWN : BACKEND_UP;
		members[i] = (struct member){.backend = &backends[i], .weight = 1};
	}
	service->pools[BLUE] = (struct pool){.members = members, .n_members = n};
	service->pools[GREEN] = (struct pool){.members = members + n, .n_members = n};
	int64_t begin = now_ns();
	for (unsigned i = 0; i < calls; i++)
		sink = guard_saw(service, GREEN, true, now_ms, &v);
	if (!v.frozen || v.word != VERDICT_FAIL)
		exit(1);
	print_row("guard_saw, fails but frozen", n, calls, now_ns() - begin);
	begin = now_ns();
	for (unsigned i = 0; i < calls; i++)
		sink = guard_look(service, now_ms, &v);
	print_row("guard_look, the tick", n, calls, now_ns() - begin);
	free(backends);
	free(members);
}

/* A failure of a candidate that has no weight, so nobody is guarded; that has, but no rule fails;
 * and one does. */
static void
bench_guard(void)
{
	struct service_config config = {.rollout = {.limits = limits}};
	struct service_state state = {.tally = {tally_new(2), tally_new(2)}};
	struct service service = {.config = &config, .state = &state};
	const int64_t end = NOW + CALLS / 34;
	struct verdict v;

	if (state.tally[BLUE] == NULL || state.tally[GREEN] == NULL)
		exit(1);
	int64_t begin = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		sink = guard_saw(&service, GREEN, true, NOW, &v);
	print_row("guard_saw, weight 0", ANY_SIZE, CALLS, now_ns() - begin);
	state.course = course_of(BLUE, 2500);
	for (unsigned i = 0; i < CALLS; i++) {
		const struct tally_sample s = {.now_ms = NOW + i / 34,
		    .head_us = 1000 + i % 20000,
		    .status = 200,
		    .failure = i % 200 == 0};

		tally_add(state.tally[i % 4 == 0], i % 2, &s);
	}
	config.rollout.limits.failure_rate_bp = 1000;
	config.rollout.limits.relative = false;
	begin = now_ns();
	for (unsigned i = 0; i < CALLS / 100; i++)
		sink = guard_saw(&service, GREEN, true, end, &v);
	if (v.word == VERDICT_FAIL)
		exit(1);
	print_row("guard_saw, no rule fails", ANY_SIZE, CALLS / 100, now_ns() - begin);
	config.rollout.limits = limits;
	bench_guard_pools(&service, 2, end);
	bench_guard_pools(&service, 100, end);
	bench_guard_pools(&service, 10000, end);
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

	print_head("size");
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
	for (unsigned i = 0; i < 3; i++)
		bench_verdict(sizes[i]);
	bench_guard();
	for (unsigned i = 0; i < 3; i++)
		bench_rate(clients[i]);
	return 0;
}
