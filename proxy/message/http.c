/*
 * HTTP semantics that know nothing of versions: the table of names teal acts on, field lists in
 * an arena, and the grammar every codec checks with.  Whoever parses or writes a head asks
 * here, so h1 and h2 refuse the same things.
 *
 * Owner: nobody, pure functions; lists belong to their arena.  Any thread.
 */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "proxy/base/obj.h"
#include "proxy/message/http.h"

#define FIELDS_FIRST 16 /* items a list begins with */

bool
text_is_nocase(struct text t, const char *word)
{
	size_t n = strlen(word);

	return t.n == n && (n == 0 || strncasecmp(t.p, word, n) == 0);
}

struct text
text_decimal(char buffer[DIGITS], uint64_t value)
{
	size_t at = DIGITS;

	do {
		buffer[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	return (struct text){buffer + at, DIGITS - at};
}

/* --- names --------------------------------------------------------------- */

const struct field_row field_table[N_FIELD_IDS] = {
    [F_OTHER] = {"", 0, 0},
#define FIELD(id, name, flags) [F_##id] = {name, sizeof(name) - 1, flags},
#include "proxy/message/fields.def"
#undef FIELD
};

/* Open addressing, filled once before main(): a new row in fields.def needs nothing else. */
#define NAME_SLOTS 256
static uint8_t name_slots[NAME_SLOTS];

static unsigned
name_hash(const char *name, size_t n)
{
	const unsigned char *p = (const unsigned char *)name;
	uint32_t h = (uint32_t)n * 0x9e3779b1u;

	h ^= p[0] * 0x85ebca6bu;
	h ^= p[n / 2] * 0xc2b2ae35u;
	h ^= p[n - 1] * 0x27d4eb2fu;
	return (h >> 16 ^ h >> 8) % NAME_SLOTS;
}

__attribute__((constructor)) static void
fill_name_slots(void)
{
	_Static_assert(N_FIELD_IDS < NAME_SLOTS / 2, "keep the table sparse: a miss must be short");
	for (unsigned id = F_OTHER + 1; id < N_FIELD_IDS; id++) {
		unsigned at = name_hash(field_table[id].name, field_table[id].n);

		while (name_slots[at] != F_OTHER)
			at = (at + 1) % NAME_SLOTS;
		name_slots[at] = (uint8_t)id;
	}
}

enum field_id
field_lookup(const char *name, size_t n)
{
	if (n == 0)
		return F_OTHER;
	for (unsigned at = name_hash(name, n);; at = (at + 1) % NAME_SLOTS) {
		enum field_id id = (enum field_id)name_slots[at];

		if (id == F_OTHER)
			return F_OTHER;
		if (field_table[id].n == n && memcmp(field_table[id].name, name, n) == 0)
			return id;
	}
}

/* --- lists --------------------------------------------------------------- */

void
fields_add(
    struct fields *list, struct arena *arena, enum field_id id, struct text name, struct text value)
{
	if (list->n == list->room) {
		unsigned room = list->room == 0 ? FIELDS_FIRST : 2 * list->room;
		struct field *items = arena_alloc(arena, room * sizeof(*items));

		if (list->n > 0)
			memcpy(items, list->items, list->n * sizeof(*items));
		list->items = items;
		list->room = room;
	}
	list->items[list->n++] = (struct field){name, value, id};
	list->bytes += name.n + value.n + 32;
}

const struct field *
fields_find(const struct fields *list, enum field_id id)
{
	for (unsigned i = 0; i < list->n; i++) {
		if (list->items[i].id == id)
			return &list->items[i];
	}
	return NULL;
}

const struct field *
fields_find_name(const struct fields *list, const char *name, size_t n)
{
	for (unsigned i = 0; i < list->n; i++) {
		const struct field *f = &list->items[i];

		if (f->name.n == n && memcmp(f->name.p, name, n) == 0)
			return f;
	}
	return NULL;
}

void
fields_remove(struct fields *list, unsigned i)
{
	ENSURE(i < list->n);
	list->bytes -= list->items[i].name.n + list->items[i].value.n + 32;
	list->n--;
	memmove(&list->items[i], &list->items[i + 1], (list->n - i) * sizeof(list->items[0]));
}

/* --- methods and status codes -------------------------------------------- */

enum method
method_lookup(const char *p, size_t n)
{
	static const struct {
		const char *name;
		uint8_t n, method;
	} rows[] = {
	    {"GET", 3, METHOD_GET},
	    {"POST", 4, METHOD_POST},
	    {"HEAD", 4, METHOD_HEAD},
	    {"PUT", 3, METHOD_PUT},
	    {"OPTIONS", 7, METHOD_OPTIONS},
	    {"DELETE", 6, METHOD_DELETE},
	    {"PATCH", 5, METHOD_PATCH},
	    {"TRACE", 5, METHOD_TRACE},
	    {"CONNECT", 7, METHOD_CONNECT},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].n == n && memcmp(rows[i].name, p, n) == 0)
			return (enum method)rows[i].method;
	}
	return METHOD_OTHER;
}

bool
method_idempotent(enum method m)
{
	switch (m) {
	case METHOD_GET:
	case METHOD_HEAD:
	case METHOD_PUT:
	case METHOD_DELETE:
	case METHOD_OPTIONS:
	case METHOD_TRACE:
		return true;
	case METHOD_OTHER:
	case METHOD_POST:
	case METHOD_PATCH:
	case METHOD_CONNECT:
		return false;
	}
	return false;
}

const char *
status_reason(unsigned status)
{
	static const char *const reasons[] = {
	    [100] = "Continue",
	    [101] = "Switching Protocols",
	    [102] = "Processing",
	    [103] = "Early Hints",
	    [200] = "OK",
	    [201] = "Created",
	    [202] = "Accepted",
	    [203] = "Non-Authoritative Information",
	    [204] = "No Content",
	    [205] = "Reset Content",
	    [206] = "Partial Content",
	    [207] = "Multi-Status",
	    [208] = "Already Reported",
	    [226] = "IM Used",
	    [300] = "Multiple Choices",
	    [301] = "Moved Permanently",
	    [302] = "Found",
	    [303] = "See Other",
	    [304] = "Not Modified",
	    [305] = "Use Proxy",
	    [307] = "Temporary Redirect",
	    [308] = "Permanent Redirect",
	    [400] = "Bad Request",
	    [401] = "Unauthorized",
	    [402] = "Payment Required",
	    [403] = "Forbidden",
	    [404] = "Not Found",
	    [405] = "Method Not Allowed",
	    [406] = "Not Acceptable",
	    [407] = "Proxy Authentication Required",
	    [408] = "Request Timeout",
	    [409] = "Conflict",
	    [410] = "Gone",
	    [411] = "Length Required",
	    [412] = "Precondition Failed",
	    [413] = "Content Too Large",
	    [414] = "URI Too Long",
	    [415] = "Unsupported Media Type",
	    [416] = "Range Not Satisfiable",
	    [417] = "Expectation Failed",
	    [421] = "Misdirected Request",
	    [422] = "Unprocessable Content",
	    [423] = "Locked",
	    [424] = "Failed Dependency",
	    [425] = "Too Early",
	    [426] = "Upgrade Required",
	    [428] = "Precondition Required",
	    [429] = "Too Many Requests",
	    [431] = "Request Header Fields Too Large",
	    [451] = "Unavailable For Legal Reasons",
	    [500] = "Internal Server Error",
	    [501] = "Not Implemented",
	    [502] = "Bad Gateway",
	    [503] = "Service Unavailable",
	    [504] = "Gateway Timeout",
	    [505] = "HTTP Version Not Supported",
	    [506] = "Variant Also Negotiates",
	    [507] = "Insufficient Storage",
	    [508] = "Loop Detected",
	    [511] = "Network Authentication Required",
	};

	if (status >= sizeof(reasons) / sizeof(reasons[0]) || reasons[status] == NULL)
		return "";
	return reasons[status];
}

/* --- grammar ------------------------------------------------------------- */

enum { CLASS_TOKEN = 1, CLASS_PATH = 2, CLASS_HOST = 4 };

/* Filled before main() as well: ranges read better than 256 numbers. */
static uint8_t byte_class[256];

__attribute__((constructor)) static void
fill_byte_class(void)
{
	for (unsigned c = 0x21; c < 0x7f; c++) {
		bool alnum =
		    (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		/* tchar, RFC 9110 5.6.2 */
		if (alnum || strchr("!#$%&'*+-.^_`|~", (int)c) != NULL)
			byte_class[c] |= CLASS_TOKEN;
		/* RFC 3986 has no backslash, and some servers read it as a slash; the rest of
		 * what it forbids ("<>^`{|}) clients do send and nobody misreads. */
		if (c != '#' && c != '\\')
			byte_class[c] |= CLASS_PATH;
		/* reg-name without sub-delims and percent: what DNS can hold, and "_" "~" */
		if (alnum || strchr("-._~", (int)c) != NULL)
			byte_class[c] |= CLASS_HOST;
	}
}

static bool
all_of(const char *p, size_t n, unsigned class)
{
	unsigned both = class;

	for (size_t i = 0; i < n; i++)
		both &= byte_class[(unsigned char)p[i]];
	return both != 0;
}

bool
token_valid(const char *p, size_t n)
{
	return n > 0 && all_of(p, n, CLASS_TOKEN);
}

/* Not 0 when any of these eight bytes is below 0x20, or 0x7f.  ("Bit twiddling hacks", hasless and haszero) */
static uint64_t
ctl_in(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
	uint64_t del = w ^ 0x7f * ones;

	return (((w - 0x20 * ones) & ~w) | ((del - ones) & ~del)) & tops;
}

/* true: none.  Eight bytes at once; the last load overlaps what came before it, so bytes may be looked at twice. */
static bool
no_ctl(const char *p, size_t n)
{
	uint64_t w = 0, found = 0;
	uint32_t half[2];

	if (n < sizeof(half[0]))
		return false; /* so few are looked at one by one */
	if (n < sizeof(w)) {
		memcpy(&half[0], p, sizeof(half[0]));
		memcpy(&half[1], p + n - sizeof(half[1]), sizeof(half[1]));
		return ctl_in((uint64_t)half[0] << 32 | half[1]) == 0;
	}
	for (size_t i = 0; i + sizeof(w) <= n; i += sizeof(w)) {
		memcpy(&w, p + i, sizeof(w));
		found |= ctl_in(w);
	}
	memcpy(&w, p + n - sizeof(w), sizeof(w));
	return (found | ctl_in(w)) == 0;
}

bool
field_value_valid(const char *p, size_t n)
{
	if (n == 0)
		return true;
	if (p[0] == ' ' || p[0] == '\t' || p[n - 1] == ' ' || p[n - 1] == '\t')
		return false;
	if (no_ctl(p, n))
		return true;
	/* a very short one, or one that holds an HTAB or worse */
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

bool
path_valid(const char *p, size_t n)
{
	if (n == 1 && p[0] == '*')
		return true;
	return n > 0 && p[0] == '/' && all_of(p, n, CLASS_PATH);
}

/* RFC 3986 3.2.3; 0 means nothing and is refused */
static bool
port_valid(const char *p, size_t n)
{
	unsigned port = 0;

	if (n == 0)
		return true;
	if (n > 5)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		port = port * 10 + (unsigned)(p[i] - '0');
	}
	return port >= 1 && port <= 65535;
}

bool
authority_valid(const char *p, size_t n)
{
	const char *colon;
	size_t host;

	if (n == 0)
		return false;
	if (p[0] == '[') {
		char literal[INET6_ADDRSTRLEN];
		struct in6_addr address;
		const char *close = memchr(p, ']', n);

		if (close == NULL || (size_t)(close - p - 1) >= sizeof(literal))
			return false;
		host = (size_t)(close - p - 1);
		if (memchr(p, '\0', n) != NULL)
			return false;
		memcpy(literal, p + 1, host);
		literal[host] = '\0';
		if (inet_pton(AF_INET6, literal, &address) != 1)
			return false;
		host += 2;
		if (host == n)
			return true;
		return p[host] == ':' && port_valid(p + host + 1, n - host - 1);
	}
	colon = memchr(p, ':', n);
	host = colon == NULL ? n : (size_t)(colon - p);
	if (host == 0 || host > 255 || !all_of(p, host, CLASS_HOST))
		return false;
	return colon == NULL || port_valid(colon + 1, n - host - 1);
}

int64_t
content_length_parse(const char *p, size_t n)
{
	int64_t length = 0;

	if (n == 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int digit = p[i] - '0';

		if (digit < 0 || digit > 9 || length > (INT64_MAX - digit) / 10)
			return -1;
		length = length * 10 + digit;
	}
	return length;
}

bool
list_has(struct text list, const char *token)
{
	const char *p = list.p, *end = list.p + list.n;

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *stop = comma == NULL ? end : comma;
		const char *last = stop;

		while (p < last && (*p == ' ' || *p == '\t'))
			p++;
		while (last > p && (last[-1] == ' ' || last[-1] == '\t'))
			last--;
		if (text_is_nocase((struct text){p, (size_t)(last - p)}, token))
			return true;
		p = stop + 1;
	}
	return false;
}

struct text
authority_host(struct text authority)
{
	for (size_t i = authority.n; i > 0 && authority.p[i - 1] != ']'; i--) {
		if (authority.p[i - 1] == ':')
			return (struct text){authority.p, i - 1};
	}
	return authority;
}
