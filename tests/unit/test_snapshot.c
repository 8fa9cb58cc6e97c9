/*
 * The roster: a configuration and a durable state become a fleet, what was changed is saved again, and old
 * snapshots live exactly as long as somebody holds them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "balancer/route.h"
#include "proxy/process/snapshot.h"
#include "tests/unit/config_files.h"

#define POOLS                                                                                      \
	LISTEN                                                                                     \
	"services = ( { name = \"api\"; hosts = [ \"api.example\" ];\n"                            \
	"blue = { backends = ( \"10.0.0.1:80\", { address = \"10.0.0.2:80\"; weight = 3; },\n"     \
	"{ address = \"unix:/run/b.sock\"; backup = true; } ); };\n"                               \
	"green = { backends = [ \"10.0.1.1:80\" ]; }; },\n"                                        \
	"{ name = \"web\"; hosts = [ \"web.example\" ];\n"                                         \
	"green = { backends = [ \"10.0.0.1:80\" ]; }; } );\n"

static struct config *config;
static struct roster roster;
static char err[256];

static void
begin(const struct state *state)
{
	config = conf_load_ok(POOLS);
	if (roster_init(&roster, config, 2, state, err, sizeof(err)) == -1)
		fail_msg("%s", err);
	assert_int_equal(roster_snapshot(&roster), 0);
}

static void
end(void)
{
	roster_fini(&roster);
	config_free(config);
}

static struct state *
no_state(void)
{
	return calloc(1, sizeof(struct state));
}

static const struct pool *
pool(unsigned service, enum color color)
{
	return &roster.current->fleet.services[service].pools[color];
}

static void
put(struct string_list *l, const char *text)
{
	l->items = realloc(l->items, (l->n + 1) * sizeof(char *));
	l->items[l->n++] = strdup(text);
}

/* --- as configured ------------------------------------------------------------------- */

static void
test_first_start(void **state)
{
	struct state *none = no_state();
	const struct pool *blue;

	(void)state;
	begin(none);
	blue = pool(0, BLUE);
	assert_int_equal(roster.current->fleet.n_services, 2);
	assert_int_equal(blue->n_members, 3);
	assert_int_equal(blue->n_primary, 2);
	assert_string_equal(blue->members[0].backend->name, "10.0.0.1:80");
	assert_int_equal(blue->members[1].weight, 3);
	assert_true(blue->members[2].backup);
	/* a Unix socket needs no resolving, a name does */
	assert_int_equal(((const struct target *)blue->members[2].addresses)->n, 1);
	assert_int_equal(((const struct target *)blue->members[0].addresses)->n, 0);
	assert_string_equal(((const struct target *)blue->members[0].addresses)->host, "10.0.0.1");
	/* blue is live; a service with one pool lives there */
	assert_int_equal(service_live(&roster.current->fleet.services[0]), BLUE);
	assert_int_equal(service_live(&roster.current->fleet.services[1]), GREEN);
	assert_int_equal(service_weight(&roster.current->fleet.services[0]), 0);
	assert_int_equal(roster.states[0].epoch, 1);
	assert_int_not_equal(roster.states[0].split_key[0], roster.states[1].split_key[0]);
	/* the same address in two pools is two backends */
	assert_ptr_not_equal(pool(1, GREEN)->members[0].backend, blue->members[0].backend);
	assert_int_equal(pool(1, BLUE)->n_members, 0);
	end();
	state_free(none);
}

static void
test_routes_of_a_snapshot(void **state)
{
	struct state *none = no_state();
	struct service *s;

	(void)state;
	begin(none);
	assert_int_equal(
	    route_find(roster.current->fleet.routes, "web.example", 11, "/", 1, &s), ROUTE_OK);
	assert_int_equal(s->index, 1);
	assert_ptr_equal(s, &roster.current->fleet.services[1]);
	end();
	state_free(none);
}

static void
test_bad_ca_is_refused(void **state)
{
	struct state *none = no_state();

	(void)state;
	config = conf_load_ok(
	    LISTEN "services = ( { name = \"api\"; blue = { backends = [ \"10.0.0.1:80\" ]; "
		   "tls = { ca = \"ca.pem\"; }; }; } );\n");
	assert_int_equal(roster_init(&roster, config, 1, none, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "service api, pool blue: "));
	end();
	state_free(none);
}

/* --- the durable state --------------------------------------------------------------------- */

static void
test_state_is_applied_and_saved(void **state)
{
	struct state *saved = no_state(), *again = no_state();
	struct state_service *s = state_find(saved, "api", true), *t;

	(void)state;
	s->live = GREEN;
	s->weight_bp = 1250;
	s->maintenance = true;
	s->epoch = 77;
	s->split_key[0] = 1;
	s->split_key[1] = 2;
	s->pools[BLUE].changed = true;
	put(&s->pools[BLUE].backends, "10.0.0.2:80");
	put(&s->pools[BLUE].backends, "10.0.0.9:80");
	put(&s->pools[BLUE].drained, "10.0.0.9:80");
	put(&s->pools[GREEN].drained, "10.0.1.1:80");
	(void)state_find(saved, "gone", true); /* a service that is no more */
	begin(saved);
	assert_int_equal(service_live(&roster.current->fleet.services[0]), GREEN);
	assert_int_equal(service_weight(&roster.current->fleet.services[0]), 1250);
	assert_true(roster.states[0].maintenance);
	assert_int_equal(roster.states[0].epoch, 77);
	assert_int_equal(roster.states[0].split_key[0], 1);
	assert_int_equal(roster.states[0].split_key[1], 2);
	assert_int_equal(pool(0, BLUE)->n_members, 2);
	assert_string_equal(pool(0, BLUE)->members[0].backend->name, "10.0.0.2:80");
	assert_int_equal(pool(0, BLUE)->members[0].weight, 3); /* as the file says of it */
	assert_int_equal(pool(0, BLUE)->members[0].backend->state, BACKEND_UP);
	assert_string_equal(pool(0, BLUE)->members[1].backend->name, "10.0.0.9:80");
	assert_int_equal(pool(0, BLUE)->members[1].backend->state, BACKEND_DRAINING);
	assert_int_equal(pool(0, GREEN)->members[0].backend->state, BACKEND_DRAINING);

	roster_save(&roster, again);
	assert_int_equal(again->n_services, 2);
	t = state_find(again, "api", false);
	assert_int_equal(t->live, GREEN);
	assert_int_equal(t->weight_bp, 1250);
	assert_true(t->maintenance);
	assert_int_equal(t->epoch, 77);
	assert_int_equal(t->split_key[0], 1);
	assert_int_equal(t->split_key[1], 2);
	assert_true(t->pools[BLUE].changed);
	assert_int_equal(t->pools[BLUE].backends.n, 2);
	assert_int_equal(t->pools[BLUE].drained.n, 1);
	assert_string_equal(t->pools[BLUE].drained.items[0], "10.0.0.9:80");
	assert_false(t->pools[GREEN].changed);
	assert_int_equal(t->pools[GREEN].drained.n, 1);
	assert_false(state_find(again, "web", false)->pools[GREEN].changed);
	end();
	state_free(saved);
	state_free(again);
}

/* Drained is of the pool: who was drained and has left is not drained when it comes back. */
static void
test_drained_backend_that_left(void **state)
{
	struct state *none = no_state(), *saved = no_state();

	(void)state;
	begin(none);
	roster.backends[0]->drained = true;
	roster.backends[0]->member = false;
	roster_save(&roster, saved);
	assert_true(state_find(saved, "api", false)->pools[BLUE].changed);
	assert_int_equal(state_find(saved, "api", false)->pools[BLUE].drained.n, 0);
	assert_int_equal(state_find(saved, "api", false)->pools[BLUE].backends.n, 2);
	end();
	state_free(none);
	state_free(saved);
}

/* --- backends --------------------------------------------------------------------------------- */

static void
test_identity(void **state)
{
	struct state *none = no_state();
	struct known_backend *k;
	unsigned n;

	(void)state;
	begin(none);
	n = roster.n_backends;
	k = roster_backend(&roster, 0, BLUE, "10.0.0.1:80", err, sizeof(err));
	assert_ptr_equal(&k->backend, pool(0, BLUE)->members[0].backend);
	assert_int_equal(roster.n_backends, n);
	assert_null(roster_find(&roster, 0, GREEN, "10.0.0.1:80"));
	assert_null(roster_backend(&roster, 0, BLUE, "no address", err, sizeof(err)));
	assert_true(err[0] != '\0');
	assert_int_equal(roster.n_backends, n);
	k = roster_backend(&roster, 0, GREEN, "10.0.0.1:80", err, sizeof(err));
	assert_int_equal(k->backend.id, n);
	assert_int_equal(roster.backends[n]->backend.id, n);
	assert_false(k->member); /* until somebody says so */
	assert_int_equal(roster_snapshot(&roster), 0);
	assert_int_equal(pool(0, GREEN)->n_members, 1);
	end();
	state_free(none);
}

/* --- snapshots ----------------------------------------------------------------------------------- */

static unsigned
n_retired(void)
{
	unsigned n = 0;

	for (const struct snapshot *s = roster.retired; s != NULL; s = s->next_retired)
		n++;
	return n;
}

static void
test_snapshots_live_while_they_are_held(void **state)
{
	struct state *none = no_state();
	struct snapshot *first, *second;

	(void)state;
	begin(none);
	first = roster.current;
	first->holders = 2;
	roster.backends[1]->member = false;
	assert_int_equal(roster_snapshot(&roster), 0);
	second = roster.current;
	assert_ptr_not_equal(first, second);
	/* what it was is what it stays; identity is shared */
	assert_int_equal(first->fleet.services[0].pools[BLUE].n_members, 3);
	assert_int_equal(second->fleet.services[0].pools[BLUE].n_members, 2);
	assert_ptr_equal(first->fleet.services[0].state, second->fleet.services[0].state);
	assert_ptr_equal(first->fleet.services[0].pools[BLUE].members[0].backend,
	    second->fleet.services[0].pools[BLUE].members[0].backend);
	second->holders = 1;
	assert_int_equal(roster_snapshot(&roster), 0);
	assert_int_equal(roster_snapshot(&roster), 0); /* the third was nobody's */
	assert_int_equal(n_retired(), 3);
	roster_collect(&roster);
	assert_int_equal(n_retired(), 2);
	first->holders--;
	roster_collect(&roster);
	assert_int_equal(n_retired(), 2);
	first->holders--;
	roster_collect(&roster);
	assert_int_equal(n_retired(), 1);
	assert_ptr_equal(roster.retired, second);
	end(); /* frees what is still held, too */
	state_free(none);
}

/* A name that resolves anew is another target in the next snapshot only. */
static void
test_targets_are_copies(void **state)
{
	struct state *none = no_state();
	const struct target *before, *after;

	(void)state;
	begin(none);
	roster.current->holders = 1;
	before = pool(0, BLUE)->members[0].addresses;
	roster.backends[0]->target.n = 2;
	roster.backends[0]->target.generation++;
	assert_int_equal(roster_snapshot(&roster), 0);
	after = pool(0, BLUE)->members[0].addresses;
	assert_int_equal(before->n, 0);
	assert_int_equal(after->n, 2);
	assert_int_equal(after->generation, before->generation + 1);
	end();
	state_free(none);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_first_start),
	    cmocka_unit_test(test_routes_of_a_snapshot),
	    cmocka_unit_test(test_bad_ca_is_refused),
	    cmocka_unit_test(test_state_is_applied_and_saved),
	    cmocka_unit_test(test_drained_backend_that_left),
	    cmocka_unit_test(test_identity),
	    cmocka_unit_test(test_snapshots_live_while_they_are_held),
	    cmocka_unit_test(test_targets_are_copies),
	};

	return cmocka_run_group_tests_name("snapshot", tests, config_files_begin, config_files_end);
}
