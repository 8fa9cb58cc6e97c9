/*
 * The evidence of a rollback as JSON, on disk and back.  Control thread.
 *
 * A path ends at '?' or '#' here once more, whoever filled it in: what is behind is often a token.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/parse.h"
#include "proxy/process/durable.h"
#include "proxy/process/evidence.h"
#include "proxy/process/note.h"

#define EVIDENCE_BYTES_MAX (16u * 1024 * 1024) /* two pools of 10,000 backends with long reasons */
#define FILE_NAME_MAX      128

/* Out of memory leaves a member out; the object as a whole is then given up. */
static void
put(json_t *object, const char *key, json_t *value, bool *failed)
{
	if (json_object_set_new(object, key, value) < 0)
		*failed = true;
}

static void
put_count(json_t *object, const char *key, uint64_t n, bool *failed)
{
	put(object, key, json_integer((json_int_t)n), failed);
}

static json_t *
failure_rate(const struct seen *s)
{
	return note_number(
	    s->requests == 0 ? 0 : 100.0 * (double)s->failures / (double)s->requests, 1000);
}

static void
put_seen(json_t *o, const struct seen *s, bool *failed)
{
	put_count(o, "requests", s->requests, failed);
	put_count(o, "failures", s->failures, failed);
	put(o, "failure_rate", failure_rate(s), failed);
	put(o, "p95_ms", note_number(s->p95_ms, 1000), failed);
	put_count(o, "backends_up", s->backends_up, failed);
	put_count(o, "backends", s->backends, failed);
}

static json_t *
numbers_json(const struct verdict *v, bool *failed)
{
	json_t *o = json_object(), *live = json_object();

	put_seen(o, &v->candidate, failed);
	put(o, "beyond_chance", note_number(v->lower, 1000), failed);
	put(o, "limit", note_number(v->limit, 1000), failed);
	put_count(o, "slow", v->candidate.slow, failed);
	put_count(o, "overdue", v->candidate.overdue, failed);
	put(o, "wealth", note_number(v->wealth, 1000), failed);
	put_seen(live, &v->live, failed);
	put(o, "live", live, failed);
	return o;
}

static json_t *
rollout_json(const struct rollout *r, bool *failed)
{
	json_t *o;

	if (r == NULL || r->state == ROLLOUT_IDLE)
		return json_null();
	o = json_object();
	put(o, "to", json_string(color_name(r->to)), failed);
	put_count(o, "step", r->step + 1u, failed);
	put(o, "steps", note_steps(r->steps, r->n_steps), failed);
	return o;
}

static json_t *
path_json(const char *path)
{
	char cut[EVIDENCE_PATH_MAX];
	size_t n = strcspn(path, "?#");

	(void)snprintf(
	    cut, sizeof(cut), "%.*s", (int)(n < sizeof(cut) ? n : sizeof(cut) - 1), path);
	return note_text(cut);
}

static json_t *
failure_json(const struct failure *f, bool *failed)
{
	json_t *o = json_object();

	put(o, "time", note_time(f->wall_ms), failed);
	put(o, "method", note_text(f->method), failed);
	put(o, "path", path_json(f->path), failed);
	put_count(o, "status", f->status, failed);
	put(o, "outcome", json_string(outcome_row(f->outcome)->word), failed);
	put(o, "backend", note_text(f->backend), failed);
	put(o, "id", note_text(f->id), failed);
	put(o, "age_ms", note_number((double)f->age_us / 1000, 1000), failed);
	return o;
}

static json_t *
point_json(const struct weight_point *p, bool *failed)
{
	json_t *o = json_object();

	put(o, "time", note_time(p->wall_ms), failed);
	put(o, "weight", note_percent(p->weight_bp), failed);
	put(o, "why", note_text(p->why), failed);
	return o;
}

static json_t *
backend_json(const struct evidence_backend *b, bool *failed)
{
	json_t *o = json_object();

	put(o, "color", json_string(color_name(b->color)), failed);
	put(o, "address", note_text(b->address), failed);
	put(o, "state", note_text(b->state), failed);
	put(o, "reason", note_text(b->reason), failed);
	return o;
}

static void
put_lists(json_t *o, const struct evidence *e, bool *failed)
{
	json_t *failures = json_array(), *timeline = json_array(), *backends = json_array();
	int bad = 0;

	for (unsigned i = 0; i < e->n_failures; i++)
		bad |= json_array_append_new(failures, failure_json(&e->failures[i], failed));
	for (unsigned i = 0; i < e->n_timeline; i++)
		bad |= json_array_append_new(timeline, point_json(&e->timeline[i], failed));
	for (unsigned i = 0; i < e->n_backends; i++)
		bad |= json_array_append_new(backends, backend_json(&e->backends[i], failed));
	if (bad != 0)
		*failed = true;
	put(o, "failures", failures, failed);
	put(o, "timeline", timeline, failed);
	put(o, "backends", backends, failed);
}

json_t *
evidence_json(const struct evidence *e)
{
	json_t *o = json_object();
	bool failed = false;

	put(o, "service", note_text(e->service), &failed);
	put(o, "time", note_time(e->wall_ms), &failed);
	put(o, "action", note_text(e->action), &failed);
	put(o, "rule", json_string(rule_name(e->verdict.rule)), &failed);
	put(o, "reason", note_text(e->reason), &failed);
	put(o, "live", json_string(color_name(e->live)), &failed);
	put(o, "candidate", json_string(color_name(e->candidate)), &failed);
	put(o, "weight", note_percent(e->weight_bp), &failed);
	put_count(o, "epoch", e->epoch, &failed);
	put(o, "numbers", numbers_json(&e->verdict, &failed), &failed);
	put(o, "rollout", rollout_json(e->rollout, &failed), &failed);
	put_lists(o, e, &failed);
	if (!failed)
		return o;
	json_decref(o);
	return NULL;
}

/* --- on disk --------------------------------------------------------------------------------- */

/* A service's name has letters, digits, '-', '_' and '.' only (check_name): no way out of the
 * directory. */
static int
file_name(const char *service, char out[FILE_NAME_MAX], char *err, size_t err_size)
{
	char why[256];

	if (check_name(service, why, sizeof(why)) < 0) {
		(void)snprintf(err, err_size, "the name of a service %s", why);
		return -1;
	}
	(void)snprintf(out, FILE_NAME_MAX, "evidence-%s.json", service);
	return 0;
}

int
evidence_save(
    const char *directory, const char *service, const json_t *json, char *err, size_t err_size)
{
	char name[FILE_NAME_MAX], *text;
	int failed = -1;

	if (file_name(service, name, err, err_size) < 0)
		return -1;
	text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	if (text == NULL)
		(void)snprintf(err, err_size, "cannot write %s/%s: out of memory", directory, name);
	else if (strlen(text) > EVIDENCE_BYTES_MAX)
		(void)snprintf(
		    err, err_size, "cannot write %s/%s: it is too large", directory, name);
	else
		failed = durable_write(directory, name, text, strlen(text), err, err_size);
	free(text);
	return failed;
}

/* The members of the whole, each of its type, and no other; of this service. */
static bool
is_evidence(json_t *json, const char *service)
{
	const char *of, *text;
	json_t *numbers, *rollout, *failures, *timeline, *backends;
	json_int_t epoch;
	double weight;

	return json_unpack_ex(json, NULL, JSON_STRICT,
		   "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:F, s:I, s:o, s:o, s:o, s:o, s:o}",
		   "service", &of, "time", &text, "action", &text, "rule", &text, "reason", &text,
		   "live", &text, "candidate", &text, "weight", &weight, "epoch", &epoch, "numbers",
		   &numbers, "rollout", &rollout, "failures", &failures, "timeline", &timeline,
		   "backends", &backends) == 0 &&
	       strcmp(of, service) == 0 && json_is_object(numbers) &&
	       (json_is_object(rollout) || json_is_null(rollout)) && json_is_array(failures) &&
	       json_is_array(timeline) && json_is_array(backends);
}

json_t *
evidence_load(const char *directory, const char *service, char *err, size_t err_size)
{
	char name[FILE_NAME_MAX], *text;
	json_t *json;
	size_t n = 0;

	*err = '\0';
	if (file_name(service, name, err, err_size) < 0)
		return NULL;
	if ((text = durable_read(directory, name, EVIDENCE_BYTES_MAX, &n)) == NULL) {
		if (errno == EFBIG)
			(void)snprintf(err, err_size, "%s/%s is not a regular file of sane size",
			    directory, name);
		else if (errno != ENOENT)
			(void)snprintf(err, err_size, "cannot read %s/%s: %s", directory, name,
			    strerror(errno));
		return NULL;
	}
	json = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	if (json == NULL || !is_evidence(json, service)) {
		(void)snprintf(err, err_size, "%s/%s is damaged: it is no evidence of service %s",
		    directory, name, service);
		json_decref(json);
		return NULL;
	}
	return json;
}
