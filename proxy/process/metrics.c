/*
 * What teal tells Prometheus: see metrics.h.  A family is one function: HELP and TYPE once, then
 * a line for each service, color or backend.  Releases are in metrics_release.c.
 */
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "balancer/outcome.h"
#include "balancer/tally.h"
#include "proxy/process/metrics_private.h"

/* Upper bounds of teal_request_duration_seconds, in us; the last bucket is +Inf. */
static const int64_t bounds_us[] = {500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000};
#define N_BOUNDS (sizeof(bounds_us) / sizeof(bounds_us[0]))

void
metrics_family(const struct scrape *m, const char *name, const char *type, const char *help)
{
	fprintf(m->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label value: backslash, quote and line feed escaped; other control characters would upset a
 * terminal and are no part of any name. */
void
metrics_label(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s=\"", key);
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			fputc('\\', out);
		if (*value == '\n')
			fputs("\\n", out);
		else
			fputc(iscntrl((unsigned char)*value) ? '?' : *value, out);
	}
	fputc('"', out);
}

/* name{service="...",color="..." ; the caller ends it. */
static void
color_labels(const struct scrape *m, const char *name, const struct service *s, enum color c)
{
	fprintf(m->out, "%s{", name);
	metrics_label(m->out, "service", s->config->name);
	fprintf(m->out, ",color=\"%s\"", color_name(c));
}

static void
requests(const struct scrape *m)
{
	static const char *const codes[TALLY_CODES] = {"1xx", "2xx", "3xx", "4xx", "5xx", "failed"};
	const char *name = "teal_requests_total";
	int64_t now_ms = control_now_ms();

	metrics_family(m, name, "counter", "Exchanges ended, by class of the backend's status.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];

		for (int c = 0; c < N_COLORS; c++) {
			struct tally_sum sum;

			tally_sum(
			    s->state->tally[c], now_ms, s->config->rollout.limits.window_ms, &sum);
			for (int k = 0; k < TALLY_CODES; k++) {
				color_labels(m, name, s, (enum color)c);
				fprintf(
				    m->out, ",code=\"%s\"} %" PRIu64 "\n", codes[k], sum.codes[k]);
			}
		}
	}
}

static void
durations_of(const struct scrape *m, const struct service *s, enum color c)
{
	uint64_t counts[N_BOUNDS], count, sum_us;

	tally_histogram(s->state->tally[c], bounds_us, N_BOUNDS, counts, &count, &sum_us);
	for (size_t i = 0; i < N_BOUNDS; i++) {
		color_labels(m, "teal_request_duration_seconds_bucket", s, c);
		fprintf(m->out, ",le=\"%g\"} %" PRIu64 "\n", (double)bounds_us[i] / 1e6, counts[i]);
	}
	color_labels(m, "teal_request_duration_seconds_bucket", s, c);
	fprintf(m->out, ",le=\"+Inf\"} %" PRIu64 "\n", count);
	color_labels(m, "teal_request_duration_seconds_sum", s, c);
	fprintf(m->out, "} %.6f\n", (double)sum_us / 1e6);
	color_labels(m, "teal_request_duration_seconds_count", s, c);
	fprintf(m->out, "} %" PRIu64 "\n", count);
}

static void
durations(const struct scrape *m)
{
	metrics_family(m, "teal_request_duration_seconds", "histogram",
	    "Time from the request to the head of the backend's response.");
	for (unsigned i = 0; i < m->fleet->n_services; i++)
		for (int c = 0; c < N_COLORS; c++)
			durations_of(m, &m->fleet->services[i], (enum color)c);
}

/* One gauge per service and color. */
static void
per_color(const struct scrape *m, const char *name, const char *help,
    double (*value)(const struct service *, enum color))
{
	metrics_family(m, name, "gauge", help);
	for (unsigned i = 0; i < m->fleet->n_services; i++)
		for (int c = 0; c < N_COLORS; c++) {
			const struct service *s = &m->fleet->services[i];

			color_labels(m, name, s, (enum color)c);
			fprintf(m->out, "} %.10g\n", value(s, (enum color)c));
		}
}

static double
color_weight(const struct service *s, enum color c)
{
	uint32_t bp = service_weight(s);

	return (c == service_candidate(s) ? bp : 10000 - bp) / 100.0;
}

static double
color_live(const struct service *s, enum color c)
{
	return c == service_live(s) ? 1 : 0;
}

static double
color_waiting(const struct service *s, enum color c)
{
	return atomic_load_explicit(&s->state->waiting[c], memory_order_relaxed);
}

/* One number per backend. */
static void
per_backend(const struct scrape *m, const char *name, const char *type, const char *help,
    uint64_t (*value)(struct backend *))
{
	metrics_family(m, name, type, help);
	for (unsigned i = 0; i < m->fleet->n_services; i++)
		for (int c = 0; c < N_COLORS; c++) {
			const struct service *s = &m->fleet->services[i];
			const struct pool *pool = &s->pools[c];

			for (unsigned k = 0; k < pool->n_members; k++) {
				struct backend *b = pool->members[k].backend;

				color_labels(m, name, s, (enum color)c);
				fputc(',', m->out);
				metrics_label(m->out, "backend", b->name);
				fprintf(m->out, "} %" PRIu64 "\n", value(b));
			}
		}
}

static uint64_t
backend_up(struct backend *b)
{
	return atomic_load_explicit(&b->state, memory_order_relaxed) == BACKEND_UP;
}

static uint64_t
backend_inflight(struct backend *b)
{
	return atomic_load_explicit(&b->inflight, memory_order_relaxed);
}

static uint64_t
backend_connections(struct backend *b)
{
	return atomic_load_explicit(&b->connections, memory_order_relaxed);
}

static uint64_t
backend_requests(struct backend *b)
{
	return atomic_load_explicit(&b->requests, memory_order_relaxed);
}

static uint64_t
backend_failures(struct backend *b)
{
	return atomic_load_explicit(&b->failures, memory_order_relaxed);
}

void
metrics_single(
    const struct scrape *m, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_family(m, name, type, help);
	fprintf(m->out, "%s %" PRIu64 "\n", name, value);
}

/* Two counters under one name: KEY="result word". */
void
metrics_results(const struct scrape *m, const char *name, const char *help, const char *first,
    uint64_t a, const char *second, uint64_t b)
{
	metrics_family(m, name, "counter", help);
	fprintf(m->out, "%s{result=\"%s\"} %" PRIu64 "\n", name, first, a);
	fprintf(m->out, "%s{result=\"%s\"} %" PRIu64 "\n", name, second, b);
}

static void
services(const struct scrape *m)
{
	metrics_family(m, "teal_maintenance", "gauge",
	    "1 while the service answers with its maintenance page.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];

		fputs("teal_maintenance{", m->out);
		metrics_label(m->out, "service", s->config->name);
		fprintf(m->out, "} %d\n",
		    atomic_load_explicit(&s->state->maintenance, memory_order_relaxed));
	}
}

static void
outcomes(const struct scrape *m)
{
	metrics_family(m, "teal_outcomes_total", "counter",
	    "Exchanges ended, by the outcome's word in the access log.");
	for (int i = 0; i < N_OUTCOMES; i++) {
		fputs("teal_outcomes_total{", m->out);
		metrics_label(m->out, "outcome", outcome_table[i].word);
		fprintf(m->out, "} %" PRIu64 "\n", m->totals.outcomes[i]);
	}
}

static void
retries(const struct scrape *m)
{
	metrics_family(m, "teal_retries_total", "counter",
	    "Requests that took more than one try, by how they ended.");
	for (unsigned i = 0; i < m->fleet->n_services; i++) {
		const struct service *s = &m->fleet->services[i];

		fputs("teal_retries_total{", m->out);
		metrics_label(m->out, "service", s->config->name);
		fprintf(m->out, ",result=\"ok\"} %" PRIu64 "\nteal_retries_total{",
		    atomic_load_explicit(&s->state->retries_ok, memory_order_relaxed));
		metrics_label(m->out, "service", s->config->name);
		fprintf(m->out, ",result=\"failed\"} %" PRIu64 "\n",
		    atomic_load_explicit(&s->state->retries_failed, memory_order_relaxed));
	}
}

static void
connections(const struct scrape *m)
{
	const struct config *config = m->fleet->config;
	const struct control_totals *t = &m->totals;

	metrics_family(m, "teal_connections", "gauge", "Client connections open.");
	for (size_t i = 0; t->listener_open != NULL && i < config->n_listeners; i++) {
		fputs("teal_connections{", m->out);
		metrics_label(m->out, "listener", config->listeners[i].address.text);
		fprintf(m->out, "} %" PRIu64 "\n", t->listener_open[i]);
	}
	metrics_single(m, "teal_connections_total", "counter", "Client connections accepted.",
	    t->connections_total);
	metrics_single(m, "teal_connections_refused_total", "counter",
	    "Client connections closed at once because of a limit.", t->connections_refused);
	metrics_results(m, "teal_tls_handshakes_total", "TLS handshakes with clients.", "ok",
	    t->tls_handshakes_ok, "failed", t->tls_handshakes_failed);
	metrics_single(m, "teal_tls_sessions_resumed_total", "counter",
	    "TLS handshakes that resumed an earlier session.", t->tls_resumed);
}

static void
totals(const struct scrape *m)
{
	const struct control_totals *t = &m->totals;

	metrics_single(
	    m, "teal_rate_limited_total", "counter", "Requests answered 429.", t->rate_limited);
	metrics_single(m, "teal_bad_requests_total", "counter", "Requests refused as malformed.",
	    t->bad_requests);
	metrics_single(m, "teal_glitches_closed_total", "counter",
	    "Connections closed for too many useless or malformed frames.", t->glitches_closed);
	metrics_single(m, "teal_log_lines_lost_total", "counter",
	    "Access log lines dropped because the log could not be written.", t->log_lines_lost);
}

static void
certificates(const struct scrape *m)
{
	const char *name = "teal_tls_certificate_not_after_timestamp_seconds";
	unsigned n = control_certificates(m->control, NULL, 0);
	struct control_certificate *all = calloc(n + 1, sizeof(*all));
	unsigned have;

	if (all == NULL)
		return;
	have = control_certificates(m->control, all, n);
	metrics_family(m, name, "gauge", "When the certificate expires.");
	for (unsigned i = 0; i < have && i < n; i++) {
		bool again = false;

		for (unsigned k = 0; k < i; k++)
			again = again || strcmp(all[k].file, all[i].file) == 0;
		if (again) /* two listeners share it: one series */
			continue;
		fprintf(m->out, "%s{", name);
		metrics_label(m->out, "file", all[i].file);
		fprintf(m->out, "} %" PRId64 "\n", all[i].not_after);
	}
	free(all);
}

/* Descriptors open now, or -1; the one that reads the directory is not counted. */
static int
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	if (d == NULL)
		return -1;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and d itself */
}

/* The n-th field of /proc/self/stat after the name, which may hold blanks; -1: not known. */
static double
stat_field(unsigned n)
{
	char text[1024], *p, *rest = NULL;
	FILE *f = fopen("/proc/self/stat", "re");
	size_t got;

	if (f == NULL)
		return -1;
	got = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[got] = '\0';
	if ((p = strrchr(text, ')')) == NULL)
		return -1;
	p = strtok_r(p + 1, " ", &rest);
	while (n-- > 0 && p != NULL)
		p = strtok_r(NULL, " ", &rest);
	return p == NULL ? -1 : strtod(p, NULL);
}

/* Fields of proc(5) stat, counted from the state. */
#define STAT_UTIME   11
#define STAT_STIME   12
#define STAT_THREADS 17
#define STAT_VSIZE   20
#define STAT_RSS     21

static void
process_gauge(const struct scrape *m, const char *name, const char *help, double value)
{
	metrics_family(m, name, "gauge", help);
	fprintf(m->out, "%s %.17g\n", name, value);
}

static void
process(const struct scrape *m)
{
	double tick = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE);
	struct rlimit files;

	metrics_family(m, "process_cpu_seconds_total", "counter", "User and system CPU time.");
	fprintf(m->out, "process_cpu_seconds_total %.2f\n",
	    (stat_field(STAT_UTIME) + stat_field(STAT_STIME)) / tick);
	process_gauge(
	    m, "process_resident_memory_bytes", "Resident memory.", stat_field(STAT_RSS) * page);
	process_gauge(m, "process_virtual_memory_bytes", "Virtual memory.", stat_field(STAT_VSIZE));
	process_gauge(m, "process_threads", "Threads.", stat_field(STAT_THREADS));
	process_gauge(m, "process_open_fds", "Open file descriptors.", open_descriptors());
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		process_gauge(m, "process_max_fds", "The most file descriptors that may be open.",
		    (double)files.rlim_cur);
	metrics_family(
	    m, "process_start_time_seconds", "gauge", "Start of the process since 1970.");
	fprintf(m->out, "process_start_time_seconds %.3f\n",
	    (double)control_started_wall_ms(m->control) / 1000.0);
}

static void
everything(const struct scrape *m)
{
	requests(m);
	durations(m);
	per_color(m, "teal_color_weight", "Share of new requests the color is set to, in percent.",
	    color_weight);
	per_color(m, "teal_color_live", "1 for the color a rollback goes to.", color_live);
	per_color(
	    m, "teal_color_waiting", "Exchanges that wait for a free backend.", color_waiting);
	per_backend(
	    m, "teal_backend_up", "gauge", "1 while the backend takes new requests.", backend_up);
	per_backend(m, "teal_backend_inflight", "gauge", "Exchanges and tunnels under way.",
	    backend_inflight);
	per_backend(m, "teal_backend_connections", "gauge", "Connections open or being opened.",
	    backend_connections);
	per_backend(m, "teal_backend_requests_total", "counter", "Requests sent to the backend.",
	    backend_requests);
	per_backend(m, "teal_backend_failures_total", "counter",
	    "Failures the backend is to blame for.", backend_failures);
	metrics_release(m);
	services(m);
	outcomes(m);
	retries(m);
	metrics_announcements(m);
	connections(m);
	totals(m);
	certificates(m);
	metrics_single(m, "teal_config_reload_success", "gauge",
	    "1 when the configuration was last read well.", 1);
	metrics_family(m, "teal_build_info", "gauge", "1; the version is in the label.");
	fprintf(m->out, "teal_build_info{version=\"%s\"} 1\n", TEAL_VERSION);
	process(m);
}

char *
metrics_text(struct control *control, size_t *n)
{
	struct scrape m = {.control = control, .fleet = control_fleet(control)};
	uint64_t *open = calloc(m.fleet->config->n_listeners + 1, sizeof(*open));
	char *text = NULL;
	bool failed;

	if (open == NULL || (m.out = open_memstream(&text, n)) == NULL) {
		free(open);
		return NULL;
	}
	m.totals.listener_open = open;
	control_totals(control, &m.totals);
	everything(&m);
	failed = ferror(m.out) != 0;
	free(open);
	if (fclose(m.out) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
