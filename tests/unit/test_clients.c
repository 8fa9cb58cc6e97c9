/*
 * Connections per client address: the limit is exact, on one thread and on many, and nothing stays behind.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/base/clients.h"

static void
address(uint8_t out[16], unsigned n)
{
	memset(out, 0, 16);
	out[10] = out[11] = 0xff; /* v4 mapped */
	memcpy(out + 12, &n, 4);
}

static void
test_limit_per_address(void **state)
{
	struct clients *c = clients_new();
	uint8_t one[16], two[16];

	(void)state;
	address(one, 1);
	address(two, 2);
	for (unsigned i = 0; i < 3; i++)
		assert_true(clients_enter(c, one, 3));
	assert_false(clients_enter(c, one, 3));
	assert_true(clients_enter(c, two, 3)); /* somebody else */
	clients_leave(c, one);
	assert_true(clients_enter(c, one, 3));
	assert_false(clients_enter(c, one, 3));
	assert_false(clients_enter(c, one, 1)); /* a limit that shrank */
	assert_true(clients_enter(c, one, 0));  /* none */
	for (unsigned i = 0; i < 4; i++)
		clients_leave(c, one);
	assert_true(clients_enter(c, one, 1)); /* as new */
	clients_free(c);
	clients_free(NULL);
}

/* A host may use its whole /64: it is one client; its neighbour's /64 is another. */
static void
test_v6_counts_by_64(void **state)
{
	struct clients *c = clients_new();
	uint8_t one[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 1}, same[16], other[16];

	(void)state;
	memcpy(same, one, 16);
	memset(same + 8, 0xee, 8);
	memcpy(other, one, 16);
	other[7] = 2;
	assert_true(clients_enter(c, one, 1));
	assert_false(clients_enter(c, same, 1));
	assert_true(clients_enter(c, other, 1));
	clients_leave(c, same);
	assert_true(clients_enter(c, one, 1));
	clients_free(c);
}

/* Far more addresses than buckets, taken out in another order than they came. */
static void
test_many_addresses(void **state)
{
	struct clients *c = clients_new();
	enum { MANY = 200000 };
	uint8_t a[16];

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		address(a, i);
		assert_true(clients_enter(c, a, 1));
	}
	for (unsigned i = 0; i < MANY; i++) {
		address(a, i * 7919 % MANY);
		assert_false(clients_enter(c, a, 1));
		clients_leave(c, a);
		assert_true(clients_enter(c, a, 1));
		if (i % 2 == 0)
			clients_leave(c, a);
	}
	clients_free(c); /* half of them are still there */
}

#define THREADS 3
#define LIMIT   2
#define ROUNDS  20000

struct crowd {
	struct clients *clients;
	_Atomic int inside[4];
	_Atomic unsigned refused;
};

static void *
come_and_go(void *arg)
{
	struct crowd *crowd = arg;
	uint8_t a[16];

	for (unsigned i = 0; i < ROUNDS; i++) {
		address(a, i % 4);
		if (!clients_enter(crowd->clients, a, LIMIT)) {
			crowd->refused++;
			continue;
		}
		if (atomic_fetch_add(&crowd->inside[i % 4], 1) >= LIMIT)
			abort();
		atomic_fetch_sub(&crowd->inside[i % 4], 1);
		clients_leave(crowd->clients, a);
	}
	return NULL;
}

static void
test_threads(void **state)
{
	struct crowd crowd = {.clients = clients_new()};
	pthread_t threads[THREADS];
	uint8_t a[16];

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 4; i++) { /* all have left */
		address(a, i);
		assert_true(clients_enter(crowd.clients, a, 1));
	}
	clients_free(crowd.clients);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_limit_per_address),
	    cmocka_unit_test(test_v6_counts_by_64),
	    cmocka_unit_test(test_many_addresses),
	    cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("clients", tests, NULL, NULL);
}
