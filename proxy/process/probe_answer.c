/*
 * What a probe's answer means.  See probe_answer.h.
 *
 * All text that comes from a backend is made printable ASCII before it goes anywhere: it ends up on
 * terminals, in logs and in JSON.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "config/parse.h"
#include "proxy/message/http.h"
#include "proxy/process/probe_answer.h"

/* Blanks and control characters as single blanks, what is no ASCII as '?'.  Cut where out ends. */
static void
printable(char *out, size_t size, const void *from, size_t n)
{
	const unsigned char *p = from;
	size_t used = 0;
	bool blank = true; /* none at the beginning */

	for (size_t i = 0; i < n && used + 1 < size; i++) {
		if (p[i] <= ' ' || p[i] == 0x7f) {
			if (!blank)
				out[used++] = ' ';
			blank = true;
			continue;
		}
		out[used++] = (char)(p[i] < 0x7f ? p[i] : '?');
		blank = false;
	}
	while (used > 0 && out[used - 1] == ' ')
		used--;
	out[used] = '\0';
}

/* "503 Service Unavailable: <first bytes>" */
static void
say_status(const struct probe *p, bool with_body, struct probe_result *r)
{
	const char *reason = status_reason(p->status);
	char body[HEALTH_SAW_MAX] = "";

	if (with_body)
		printable(body, sizeof(body), p->body, p->n_body);
	snprintf(r->saw, sizeof(r->saw), "%u%s%s%s%.100s", p->status, reason[0] != '\0' ? " " : "",
	    reason, body[0] != '\0' ? ": " : "", body);
}

/* --- JSON ------------------------------------------------------------------------- */

/* A string as it is; anything else as JSON writes it. */
static void
member_text(json_t *value, char *out, size_t size)
{
	if (json_is_string(value)) {
		printable(out, size, json_string_value(value), json_string_length(value));
		return;
	}
	/* jansson leaves out pieces that do not fit: it is shown up to the first of them */
	memset(out, 0, size);
	(void)json_dumpb(value, out, size - 1, JSON_ENCODE_ANY | JSON_COMPACT);
	printable(out, size, out, strlen(out));
}

/* Is its member what it must be?  Otherwise the result says what it is. */
static bool
member_fits(const struct probe *p, json_t *body, struct probe_result *r)
{
	const char *member = p->config->json_member;
	json_t *value = json_object_get(body, member);
	char text[128];

	if (body == NULL)
		snprintf(r->saw, sizeof(r->saw), "%u, but the body is no JSON object%s", p->status,
		    p->n_body == PROBE_BODY_MAX ? " of less than 4 KiB" : "");
	else if (value == NULL)
		snprintf(r->saw, sizeof(r->saw), "%u, but \"%.60s\" is missing", p->status, member);
	else {
		member_text(value, text, sizeof(text));
		if (strcmp(text, p->config->json_value) == 0)
			return true;
		snprintf(r->saw, sizeof(r->saw), "%u, but \"%.60s\" is %s%.60s%s", p->status,
		    member, json_is_string(value) ? "\"" : "", text,
		    json_is_string(value) ? "\"" : "");
	}
	return false;
}

/* NULL: it is none. */
static json_t *
parsed(const struct probe *p)
{
	size_t at = 0;

	while (at < p->n_body && strchr(" \t\r\n", p->body[at]) != NULL && p->body[at] != '\0')
		at++;
	if (at == p->n_body || p->body[at] != '{')
		return NULL;
	return json_loadb((const char *)p->body, p->n_body, 0, NULL);
}

static void
http_answered(const struct probe *p, struct probe_result *r)
{
	json_t *body = parsed(p), *version = json_object_get(body, "version");

	r->ok = p->status >= p->config->status_min && p->status <= p->config->status_max;
	if (json_is_string(version) || json_is_number(version))
		member_text(version, r->version, sizeof(r->version));
	say_status(p, !r->ok, r);
	if (r->ok && p->config->json_member[0] != '\0')
		r->ok = member_fits(p, body, r);
	json_decref(body);
}

/* --- gRPC health (grpc.health.v1) ------------------------------------------------------ */

static bool
varint(const unsigned char **at, const unsigned char *end, uint64_t *out)
{
	*out = 0;
	for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
		unsigned char byte = *(*at)++;

		*out |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return true;
	}
	return false;
}

/* The value of a field that is no varint is passed over. */
static bool
pass_over(const unsigned char **at, const unsigned char *end, unsigned wire_type)
{
	uint64_t n;

	if (wire_type == 1)
		n = 8;
	else if (wire_type == 5)
		n = 4;
	else if (wire_type != 2 || !varint(at, end, &n))
		return false;
	if (n > (uint64_t)(end - *at))
		return false;
	*at += n;
	return true;
}

/* HealthCheckResponse.status: field 1, an enum; what is not written is 0.  false: that is no such
 * message. */
static bool
serving_status(const unsigned char *at, size_t n, uint64_t *status)
{
	const unsigned char *end = at + n;
	uint64_t key, value;

	*status = 0;
	while (at < end) {
		if (!varint(&at, end, &key))
			return false;
		if ((key & 7) != 0) {
			if (!pass_over(&at, end, key & 7))
				return false;
			continue;
		}
		if (!varint(&at, end, &value))
			return false;
		if (key >> 3 == 1)
			*status = value;
	}
	return true;
}

static void
grpc_answered(const struct probe *p, struct probe_result *r)
{
	static const char *const names[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
	uint64_t status;
	size_t n;

	if (p->status != 200) {
		say_status(p, true, r);
		return;
	}
	if (strcmp(p->grpc_status, "0") != 0) {
		if (p->grpc_status[0] == '\0')
			snprintf(r->saw, sizeof(r->saw), "200, but no grpc-status");
		else
			snprintf(r->saw, sizeof(r->saw), "grpc-status %s%s%s", p->grpc_status,
			    p->grpc_message[0] != '\0' ? ": " : "", p->grpc_message);
		return;
	}
	/* one message, not compressed: a flag, its length in four bytes, itself */
	n = p->n_body < 5 ? 0
			  : (size_t)p->body[1] << 24 | (size_t)p->body[2] << 16 |
				(size_t)p->body[3] << 8 | p->body[4];
	if (p->n_body < 5 || p->body[0] != 0 || n != p->n_body - 5 ||
	    !serving_status(p->body + 5, n, &status)) {
		snprintf(r->saw, sizeof(r->saw), "not a grpc.health.v1 answer");
		return;
	}
	r->ok = status == 1;
	snprintf(r->saw, sizeof(r->saw), "%s", status < 4 ? names[status] : "an unknown status");
}

/* --- for probe_io.c ------------------------------------------------------------------------ */

void
probe_answered(const struct probe *p, struct probe_result *r)
{
	memset(r, 0, sizeof(*r));
	if (p->config->grpc)
		grpc_answered(p, r);
	else
		http_answered(p, r);
}

void
probe_failed(enum outcome why, const char *tls, struct probe_result *r)
{
	char text[HEALTH_SAW_MAX];

	memset(r, 0, sizeof(*r));
	printable(text, sizeof(text), tls, strlen(tls));
	if (why == OUTCOME_CONNECT_REFUSED)
		snprintf(r->saw, sizeof(r->saw), "connect refused");
	else if (why == OUTCOME_CONNECT_FAILED)
		snprintf(r->saw, sizeof(r->saw), "connect failed");
	else if (why == OUTCOME_BACK_TLS_FAILED)
		snprintf(r->saw, sizeof(r->saw), "TLS: %.140s", text);
	else
		snprintf(r->saw, sizeof(r->saw), "%s", outcome_row(why)->sentence);
}

void
probe_timed_out(const struct probe *p, bool connected, struct probe_result *r)
{
	char patience[UNIT_TEXT_SIZE];

	duration_print(p->config->timeout_ms, patience);
	memset(r, 0, sizeof(*r));
	snprintf(r->saw, sizeof(r->saw), "timed out after %s%s", patience,
	    !connected       ? " connecting"
	    : p->status == 0 ? ""
			     : " within its answer");
}
