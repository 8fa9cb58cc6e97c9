/*
 * What is said to the backend about the client, and to the client about nothing it need not know.
 *
 * Fields that tell where a request came from are believed only from `forward.trusted`: a client at the
 * edge that sends X-Forwarded-For speaks about itself, and is overwritten.
 */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/exchange/forward.h"

static bool
id_valid(struct text t)
{
	if (t.n == 0 || t.n > REQUEST_ID_MAX)
		return false;
	for (size_t i = 0; i < t.n; i++) {
		char c = t.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			c == '-' || c == '_' || c == '.'))
			return false;
	}
	return true;
}

static bool
trusted(const struct exchange *x)
{
	const struct network_list *l = &x->engine->config->forward.trusted;

	return l->n != 0 && network_list_has(l, x->fc->address);
}

/* Eight digits at once: each nibble gets a byte of its own, then '0' or 'a' - 10 is added. */
static void
hex8(char *to, uint32_t value)
{
	const uint64_t ones = 0x0101010101010101u;
	uint64_t v = value;

	v = (v | v << 16) & 0x0000ffff0000ffffu;
	v = (v | v << 8) & 0x00ff00ff00ff00ffu;
	v = (v | v << 4) & 0x0f0f0f0f0f0f0f0fu;
	v += '0' * ones + ((v + 6 * ones) >> 4 & ones) * ('a' - 10 - '0');
	v = htobe64(v);
	memcpy(to, &v, sizeof(v));
}

void
forward_request_id(struct exchange *x)
{
	const struct field *f = NULL;

	if (trusted(x))
		f = fields_find(&x->request->fields, F_X_REQUEST_ID);
	if (f != NULL && id_valid(f->value)) {
		memcpy(x->id, f->value.p, f->value.n);
		x->id_length = (unsigned)f->value.n;
	} else {
		for (unsigned i = 0; i < 32; i += 16) {
			uint64_t r = random_next(&x->engine->random);

			hex8(x->id + i, (uint32_t)(r >> 32));
			hex8(x->id + i + 8, (uint32_t)r);
		}
		x->id_length = 32;
	}
	x->id[x->id_length] = '\0';
}

struct text
cookie_find(const struct fields *fields, const char *name)
{
	size_t name_length = strlen(name);

	for (unsigned i = 0; i < fields->n; i++) {
		const char *p = fields->items[i].value.p, *end = p + fields->items[i].value.n;

		if (fields->items[i].id != F_COOKIE)
			continue;
		while (p < end) {
			const char *stop = memchr(p, ';', (size_t)(end - p));

			if (stop == NULL)
				stop = end;
			while (p < stop && *p == ' ')
				p++;
			if ((size_t)(stop - p) > name_length && p[name_length] == '=' &&
			    memcmp(p, name, name_length) == 0)
				return (struct text){
				    p + name_length + 1, (size_t)(stop - p) - name_length - 1};
			p = stop + 1;
		}
	}
	return (struct text){"", 0};
}

static struct text
concatenated(struct arena *a, const struct text *parts, size_t n_parts)
{
	size_t n = 0;
	char *p, *at;

	for (size_t i = 0; i < n_parts; i++)
		n += parts[i].n;
	p = at = arena_alloc(a, n + 1);
	for (size_t i = 0; i < n_parts; i++) {
		memcpy(at, parts[i].p, parts[i].n);
		at += parts[i].n;
	}
	return (struct text){p, n};
}

/* One more element of a list value. */
static struct text
joined(struct arena *a, struct text before, struct text value)
{
	const struct text parts[] = {before, before.n == 0 ? TEXT("") : TEXT(", "), value};

	return concatenated(a, parts, sizeof(parts) / sizeof(parts[0]));
}

/* All fields of this id as one list value (RFC 9110 5.3).  Copied once: a hundred Via must not cost a hundred copies. */
static struct text
collected(struct arena *a, const struct fields *fields, enum field_id id)
{
	const struct field *first = fields_find(fields, id);
	size_t room = 0, n = 0;
	char *p;

	if (first == NULL)
		return (struct text){"", 0};
	for (unsigned i = 0; i < fields->n; i++)
		room += fields->items[i].id == id ? fields->items[i].value.n + 2 : 0;
	if (room == first->value.n + 2)
		return first->value;
	p = arena_alloc(a, room);
	for (unsigned i = 0; i < fields->n; i++) {
		struct text value = fields->items[i].value;

		if (fields->items[i].id != id || value.n == 0)
			continue;
		if (n != 0) {
			memcpy(p + n, ", ", 2);
			n += 2;
		}
		memcpy(p + n, value.p, value.n);
		n += value.n;
	}
	return (struct text){p, n};
}

/* RFC 7239 4: v6 addresses in brackets and quotes; anything with ':' is quoted. */
static struct text
forwarded_element(struct arena *a, const struct exchange *x)
{
	struct text client = text_of(x->fc->address_text), host = x->request->authority;
	bool v6 = memchr(client.p, ':', client.n) != NULL, named = host.n > 0 && host.n <= 255;
	const struct text parts[] = {
	    v6 ? TEXT("for=\"[") : TEXT("for="),
	    client,
	    v6 ? TEXT("]\"") : TEXT(""),
	    named ? TEXT(";host=\"") : TEXT(""),
	    named ? host : TEXT(""),
	    named ? TEXT("\"") : TEXT(""),
	    x->fc->tls ? TEXT(";proto=https") : TEXT(";proto=http"),
	};

	return concatenated(a, parts, sizeof(parts) / sizeof(parts[0]));
}

static void
add(struct head *h, struct arena *a, enum field_id id, struct text value)
{
	fields_add(
	    &h->fields, a, id, (struct text){field_table[id].name, field_table[id].n}, value);
}

/* Never sent on as it came: rewritten below, or a secret between tester and teal. */
static bool
withheld(const struct exchange *x, const struct field *f)
{
	const struct split_config *split = &x->service->config->split;

	switch (f->id) {
	case F_X_FORWARDED_FOR:
	case F_X_FORWARDED_PROTO:
	case F_X_FORWARDED_HOST:
	case F_X_FORWARDED_PORT:
	case F_FORWARDED:
	case F_X_REAL_IP:
	case F_X_REQUEST_ID:
	case F_EXPECT:
		return true;
	case F_OTHER:
		return split->force_header[0] != '\0' && text_is(f->name, split->force_header);
	default:
		return f->id == F_VIA && x->engine->config->forward.via[0] != '\0';
	}
}

static void
forward_via(struct exchange *x, const struct head *from, struct head *to, struct arena *a)
{
	const char *name = x->engine->config->forward.via;
	char text[300];
	int n;

	if (name[0] == '\0')
		return;
	/* RFC 9110 7.6.3: received-protocol and pseudonym, appended */
	n = snprintf(text, sizeof(text), "%s %.250s",
	    from->h2           ? "2"
	    : from->minor == 0 ? "1.0"
			       : "1.1",
	    name);
	add(to, a, F_VIA,
	    joined(a, collected(a, &from->fields, F_VIA),
		(struct text){arena_copy(a, text, (size_t)n), (size_t)n}));
}

void
forward_request(struct exchange *x)
{
	const struct head *from = x->request;
	struct head *to = &x->forward;
	struct arena *a = &x->front->arena;
	bool believe = trusted(x);
	struct text client = text_of(x->fc->address_text);
	const struct field *f;

	*to = *from;
	memset(&to->fields, 0, sizeof(to->fields));
	for (unsigned i = 0; i < from->fields.n; i++) {
		f = &from->fields.items[i];
		if (!withheld(x, f))
			fields_add(&to->fields, a, f->id, f->name, f->value);
	}
	add(to, a, F_X_FORWARDED_FOR,
	    believe ? joined(a, collected(a, &from->fields, F_X_FORWARDED_FOR), client) : client);
	f = believe ? fields_find(&from->fields, F_X_FORWARDED_PROTO) : NULL;
	add(to, a, F_X_FORWARDED_PROTO,
	    f != NULL    ? f->value
	    : x->fc->tls ? TEXT("https")
			 : TEXT("http"));
	f = believe ? fields_find(&from->fields, F_X_FORWARDED_HOST) : NULL;
	if (f != NULL || from->authority.n != 0)
		add(to, a, F_X_FORWARDED_HOST, f != NULL ? f->value : from->authority);
	if (x->engine->config->forward.forwarded)
		add(to, a, F_FORWARDED,
		    joined(a,
			believe ? collected(a, &from->fields, F_FORWARDED) : (struct text){"", 0},
			forwarded_element(a, x)));
	add(to, a, F_X_REQUEST_ID, (struct text){x->id, x->id_length});
	forward_via(x, from, to, a);
}

static void
apply_rules(struct exchange *x, const struct header_rules *rules, struct head *h, struct arena *a)
{
	for (size_t r = 0; r < rules->n; r++) {
		const struct header_rule *rule = &rules->items[r];
		struct text name = text_of(rule->name);
		enum field_id id = field_lookup(name.p, name.n);

		/* RFC 6797 7.2: never over clear text */
		bool barred = id == F_STRICT_TRANSPORT_SECURITY && !x->fc->tls;

		if (rule->action != HEADER_ADD) {
			for (unsigned i = 0; i < h->fields.n;) {
				const struct field *f = &h->fields.items[i];

				if (f->id == id && (id != F_OTHER || text_is(f->name, rule->name)))
					fields_remove(&h->fields, i);
				else
					i++;
			}
		}
		if (rule->action != HEADER_REMOVE && !barred)
			fields_add(&h->fields, a, id, name, text_of(rule->value));
	}
}

/* A random token: which color it means is a keyed hash's business, so a new rollout reshuffles. */
static void
add_split_cookie(struct exchange *x, struct head *h, struct arena *a)
{
	const struct split_config *split = &x->service->config->split;
	char text[512];
	int n = snprintf(text, sizeof(text),
	    "%.200s=%s; Path=/; Max-Age=%lld; HttpOnly; SameSite=Lax%s", split->cookie,
	    x->split_token, (long long)(split->cookie_max_age_ms / 1000),
	    x->fc->tls ? "; Secure" : "");

	ENSURE(n > 0 && (size_t)n < sizeof(text));
	add(h, a, F_SET_COOKIE, (struct text){arena_copy(a, text, (size_t)n), (size_t)n});
}

void
forward_response(struct exchange *x, const struct head *from, struct head *to)
{
	struct engine *e = x->engine;
	const struct forward_config *config = &e->config->forward;
	struct arena *a = &e->scratch_arena;

	arena_fini(a);
	*to = *from;
	memset(&to->fields, 0, sizeof(to->fields));
	for (unsigned i = 0; i < from->fields.n; i++) {
		const struct field *f = &from->fields.items[i];

		if ((f->id == F_SERVER && config->server[0] != '\0') ||
		    (f->id == F_VIA && config->via[0] != '\0'))
			continue;
		fields_add(&to->fields, a, f->id, f->name, f->value);
	}
	if (config->server[0] != '\0')
		add(to, a, F_SERVER, text_of(config->server));
	forward_via(x, from, to, a);
	if (x->split_token[0] != '\0')
		add_split_cookie(x, to, a);
	apply_rules(x, &e->config->response_headers, to, a);
	if (x->service != NULL)
		apply_rules(x, &x->service->config->response_headers, to, a);
}
