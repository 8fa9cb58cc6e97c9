/*
 * Backends' names: looked up at the start and again at each pool's interval, by the resolver's
 * thread.  New addresses are a new snapshot, within a second (`refleet`).
 *
 * Control thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/control_private.h"

/* Name servers turn the order round with every answer: that is no move. */
static bool
same_addresses(const struct target *a, const struct target *b)
{
	unsigned found = 0;

	for (unsigned i = 0; i < a->n; i++) {
		for (unsigned j = 0; j < b->n; j++) {
			if (a->at[i].length == b->at[j].length &&
			    memcmp(&a->at[i].address, &b->at[j].address, a->at[i].length) == 0) {
				found++;
				break;
			}
		}
	}
	return a->n == b->n && found == a->n;
}

static void
take_addresses(struct control *c, struct known_backend *k, const struct lookup *l)
{
	k->resolving = false;
	k->resolved_ms = control_now_ms();
	if (l->error != NULL) {
		/* What it last resolved to is better than nothing. */
		log_warn("backend %s (%s): %s%s", k->backend.name, color_name(k->backend.color),
		    l->error, k->target.n != 0 ? ": the addresses known before are kept" : "");
		return;
	}
	if (same_addresses(&l->target, &k->target))
		return;
	memcpy(k->target.at, l->target.at, sizeof(k->target.at));
	k->target.n = l->target.n;
	k->target.generation++;
	c->refleet = true;
}

static void
on_resolved(struct letter *letter, void *receiver)
{
	struct lookup *l = (struct lookup *)(void *)letter;
	struct control *c = receiver;

	take_addresses(c, c->roster.backends[l->backend], l);
	free(l);
}

void
control_resolve(struct control *c, struct known_backend *k, bool now)
{
	struct lookup *l;

	if (k->address.host == NULL || k->resolving)
		return;
	l = calloc(1, sizeof(*l));
	ENSURE(l != NULL);
	snprintf(l->host, sizeof(l->host), "%s", k->address.host);
	l->port = k->address.port;
	l->backend = k->backend.id;
	l->reply_to = &c->mailbox;
	l->replied = on_resolved;
	if (now) {
		resolve_now(l);
		take_addresses(c, k, l);
		free(l);
		return;
	}
	k->resolving = true;
	resolver_ask(c->resolver, l);
}

void
control_resolve_due(struct control *c)
{
	int64_t now = control_now_ms();

	for (unsigned i = 0; i < c->roster.n_backends; i++) {
		struct known_backend *k = c->roster.backends[i];

		if (k->member && now - k->resolved_ms >= k->target.pool->resolve_interval_ms)
			control_resolve(c, k, false);
	}
}
