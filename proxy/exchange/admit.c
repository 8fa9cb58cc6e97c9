/*
 * Admission, in the order an operator would expect: redirect, authority, route, body, maintenance,
 * rate; then the color.
 */
#include <string.h>

#include "balancer/route.h"
#include "proxy/base/clients.h"
#include "proxy/base/obj.h"
#include "proxy/codec/tls.h"
#include "proxy/exchange/admit.h"
#include "proxy/exchange/client.h"
#include "proxy/exchange/forward.h"

/* Keys only spread; no client gains by colliding with itself.  A request without the header or cookie that a pool
 * hashes by is spread by its address. */
static const uint64_t spread_key[2] = {0x7465616c2d737072ULL, 0x6561642d6b657973ULL};

static enum outcome
route(struct exchange *x)
{
	const struct head *r = x->request;
	struct text host = authority_host(r->authority);

	/* RFC 9110 7.4: a request for an authority this connection's certificate does not cover */
	if (x->fc->tls && host.n != 0 && !transport_covers(x->fc->conn.transport, host.p, host.n))
		return OUTCOME_MISDIRECTED;
	switch (route_find(x->fleet->fleet->routes, r->authority.p, r->authority.n, r->path.p,
	    r->path.n, &x->service)) {
	case ROUTE_OK:
		return OUTCOME_OK;
	case ROUTE_NO_HOST:
		if (r->authority.n == 0)
			return OUTCOME_BAD_REQUEST; /* HTTP/1.0 without Host, and no service for all */
		return x->engine->config->unknown_host == 404 ? OUTCOME_NO_ROUTE
							      : OUTCOME_MISDIRECTED;
	case ROUTE_NO_PATH:
		return OUTCOME_NO_ROUTE;
	}
	return OUTCOME_INTERNAL;
}

static bool
under(struct text path, const char *prefix)
{
	size_t n = strlen(prefix);

	if (path.n < n || memcmp(path.p, prefix, n) != 0)
		return false;
	return path.n == n || prefix[n - 1] == '/' || path.p[n] == '/' || path.p[n] == '?';
}

static bool
rate_allows(struct exchange *x, int64_t *retry_after_s)
{
	const struct service_config *config = x->service->config;
	const struct rate_config *best = NULL;
	struct {
		uint8_t address[16];
		const struct rate_config *rule;
	} who;
	int64_t wait_ms;
	uint64_t key;

	if (config->n_rates == 0 || network_list_has(&config->rate_exempt, x->fc->address))
		return true;
	for (size_t i = 0; i < config->n_rates; i++) {
		if (under(x->request->path, config->rates[i].path) &&
		    (best == NULL || strlen(config->rates[i].path) > strlen(best->path)))
			best = &config->rates[i];
	}
	if (best == NULL)
		return true;
	memset(&who, 0, sizeof(who));
	client_prefix(who.address, x->fc->address);
	who.rule = best;
	key = hash_sip(spread_key, &who, sizeof(who));
	if (rate_take(x->engine->rates, key != 0 ? key : 1, x->engine->turn->now_us, best->requests,
		best->burst, &wait_ms))
		return true;
	count(&x->engine->counters.rate_limited);
	*retry_after_s = (wait_ms + 999) / 1000 > 0 ? (wait_ms + 999) / 1000 : 1;
	return false;
}

/* A tester's color by secret, so that a color at weight 0 can be looked at. */
static bool
forced(struct exchange *x, enum color *color)
{
	const struct split_config *split = &x->service->config->split;
	const struct field *f;
	struct text value;

	if (split->force_secret[0] == '\0')
		return false;
	if (split->force_header[0] != '\0') {
		f = fields_find_name(
		    &x->request->fields, split->force_header, strlen(split->force_header));
		if (f != NULL && split_forced(x->service, f->value.p, f->value.n, color))
			return true;
	}
	if (split->force_cookie[0] == '\0')
		return false;
	value = cookie_find(&x->request->fields, split->force_cookie);
	return value.n != 0 && split_forced(x->service, value.p, value.n, color);
}

/* The client's token, or a new one that the response will set. */
static struct text
split_token(struct exchange *x)
{
	static const char hex[] = "0123456789abcdef";
	struct text value = cookie_find(&x->request->fields, x->service->config->split.cookie);
	uint64_t r;

	if (value.n != 0)
		return value;
	r = random_next(&x->engine->random);
	for (unsigned i = 0; i < 16; i++)
		x->split_token[i] = hex[r >> (60 - i * 4) & 15];
	x->split_token[16] = '\0';
	return (struct text){x->split_token, 16};
}

static void
choose_color(struct exchange *x)
{
	const struct split_config *split = &x->service->config->split;
	struct service_state *state = x->service->state;
	const struct field *f;
	struct text key = {"", 0};

	switch (split->by) {
	case SPLIT_REQUEST:
		x->color = split_next(state);
		x->why = WHY_SPLIT;
		return;
	case SPLIT_COOKIE:
		key = split_token(x);
		break;
	case SPLIT_HEADER:
		f = fields_find_name(&x->request->fields, split->header, strlen(split->header));
		if (f != NULL)
			key = f->value;
		break;
	case SPLIT_CLIENT_IP:
		key = (struct text){(const char *)x->fc->address, 16};
		break;
	}
	/* A request that does not say who it is has no bucket: it is dealt by weight alone. */
	if (key.n == 0) {
		x->color = split_next(state);
		x->why = WHY_SPLIT;
		return;
	}
	x->color = split_by_bucket(state, split_bucket(state, key.p, key.n));
	x->why = WHY_BUCKET;
}

enum outcome
admit(struct exchange *x, int64_t *retry_after_s)
{
	const struct service_config *config;
	enum outcome o;

	*retry_after_s = 0;
	if (client_of(x->fc)->listener->redirect_to_https)
		return x->request->authority.n != 0 && x->request->path.p[0] == '/'
			   ? OUTCOME_REDIRECTED
			   : OUTCOME_BAD_REQUEST;
	o = route(x);
	if (o != OUTCOME_OK)
		return o;
	config = x->service->config;
	if (config->max_body != 0 && x->request->content_length > (int64_t)config->max_body)
		return OUTCOME_BODY_TOO_LARGE;
	if (forced(x, &x->color)) {
		x->why = WHY_FORCED;
	} else {
		if (atomic_load_explicit(&x->service->state->maintenance, memory_order_relaxed)) {
			*retry_after_s = (config->maintenance.retry_after_ms + 999) / 1000;
			return OUTCOME_MAINTENANCE;
		}
		if (!rate_allows(x, retry_after_s))
			return OUTCOME_RATE_LIMITED;
		choose_color(x);
	}
	x->colored = true;
	x->candidate = x->color != service_live(x->service);
	return OUTCOME_OK;
}

uint64_t
admit_pick_key(struct exchange *x, const struct pool_config *pool)
{
	struct text key = {(const char *)x->fc->address, 16}, value;
	const struct field *f;

	if (pool->balance != BALANCE_HASH)
		return 0;
	switch (pool->hash_by) {
	case KEY_CLIENT_IP:
		break;
	case KEY_HEADER:
		f = fields_find_name(&x->request->fields, pool->hash_name, strlen(pool->hash_name));
		if (f != NULL)
			key = f->value;
		break;
	case KEY_COOKIE:
		value = cookie_find(&x->request->fields, pool->hash_name);
		if (value.n != 0)
			key = value;
		break;
	}
	return hash_sip(spread_key, key.p, key.n);
}
