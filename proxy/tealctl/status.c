/*
 * The status of teal on one screen.  See status.h.
 *
 * Each line is written with escapes into memory and cut to the screen's width at the end, so that
 * nothing above has to count columns but what stands in a table.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tealctl/rollout_view.h"
#include "proxy/tealctl/status.h"

#define SEEN_COLUMNS 60 /* of what a probe saw that is well; failures are shown whole */

json_t *
status_services(json_t *answer)
{
	json_t *services = json_object_get(answer, "services");

	return json_is_array(services) ? json_incref(services) : json_pack("[O]", answer);
}

/* --- the trail of p95 ------------------------------------------------------------------------- */

static int
trail_place(struct trail *h, const char *name)
{
	for (unsigned i = 0; i < h->n_services; i++)
		if (strcmp(h->services[i].name, name) == 0)
			return (int)i;
	if (h->n_services == TRAIL_SERVICES || strlen(name) >= sizeof(h->services[0].name))
		return -1;
	memcpy(h->services[h->n_services].name, name, strlen(name) + 1);
	return (int)h->n_services++;
}

void
trail_add(struct trail *h, const json_t *services)
{
	const json_t *service;
	size_t i;

	json_array_foreach(services, i, service)
	{
		int place = trail_place(h, member_text(service, "name"));
		unsigned *n;

		if (place < 0)
			continue;
		n = &h->services[place].n;
		for (int c = 0; c < N_COLORS; c++) {
			double *points = h->services[place].p95_ms[c];

			if (*n == TRAIL_POINTS)
				memmove(points, points + 1, (TRAIL_POINTS - 1) * sizeof(*points));
			points[*n == TRAIL_POINTS ? *n - 1 : *n] =
			    member_number(member_color(service, (enum color)c), "p95_ms");
		}
		if (*n < TRAIL_POINTS)
			(*n)++;
	}
}

const double *
trail_of(const struct trail *h, const char *name, enum color c, unsigned *n)
{
	for (unsigned i = 0; h != NULL && i < h->n_services; i++)
		if (strcmp(h->services[i].name, name) == 0) {
			*n = h->services[i].n;
			return h->services[i].p95_ms[c];
		}
	return NULL;
}

/* --- parts of the screen ---------------------------------------------------------------------- */

static void
render_header(FILE *out, const json_t *answer, const struct look *look)
{
	const json_t *connections = json_object_get(answer, "connections");

	put_style(out, look, "1");
	(void)fputs("teal ", out);
	put_safe(out, member_text(answer, "version"));
	put_plain(out, look);
	(void)fputs("   up ", out);
	put_age(out, member_number(answer, "uptime_ms"));
	(void)fprintf(out, "   %.0f connections", member_number(connections, "open"));
	if (member_true(answer, "draining")) {
		put_style(out, look, "33");
		(void)fputs("   draining", out);
		put_plain(out, look);
	}
	if (member_number(answer, "log_lines_lost") > 0)
		(void)fprintf(
		    out, "   %.0f log lines lost", member_number(answer, "log_lines_lost"));
	(void)fputs("\n\n", out);
}

static void
render_title(FILE *out, const json_t *service, const struct look *look)
{
	put_style(out, look, "1");
	put_safe(out, member_text(service, "name"));
	put_plain(out, look);
	(void)fputs("   live ", out);
	put_safe(out, member_text(service, "live"));
	(void)fputs("   candidate ", out);
	put_safe(out, member_text(service, "candidate"));
	(void)fprintf(out, " at %.10g %%   epoch %.0f", member_number(service, "weight"),
	    member_number(service, "epoch"));
	if (member_true(service, "tripped")) {
		put_style(out, look, "31;1");
		(void)fputs("   TRIPPED", out);
		put_plain(out, look);
	}
	if (member_true(service, "maintenance")) {
		put_style(out, look, "33;1");
		(void)fputs("   MAINTENANCE", out);
		put_plain(out, look);
	}
	(void)fputc('\n', out);
}

/* One row of the table of colors. */
static void
render_color(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	const json_t *color = member_color(service, c);
	bool quiet = member_number(member_color(service, BLUE), "window_requests") +
			 member_number(member_color(service, GREEN), "window_requests") ==
		     0;
	char share[16] = "-", p[3][16];

	if (!quiet)
		(void)snprintf(share, sizeof(share), "%.1f %%", member_number(color, "share"));
	print_ms(p[0], member_number(color, "p50_ms"));
	print_ms(p[1], member_number(color, "p95_ms"));
	print_ms(p[2], member_number(color, "p99_ms"));
	(void)fputs("  ", out);
	put_style(out, look, color_code(c));
	(void)fprintf(out, "%-5s", color_name(c));
	put_plain(out, look);
	(void)fprintf(out, " %6.10g %% %8s %9.1f ", member_number(color, "weight"), share,
	    member_number(color, "rps"));
	if (member_number(color, "failure_rate") > 0)
		put_style(out, look, "31");
	(void)fprintf(out, "%7.2f %%", member_number(color, "failure_rate"));
	put_plain(out, look);
	(void)fprintf(
	    out, " %8s %8s %8s %10.0f\n", p[0], p[1], p[2], member_number(color, "inflight"));
}

static unsigned
address_width(const json_t *service)
{
	unsigned width = 8;

	for (int c = 0; c < N_COLORS; c++) {
		const json_t *all =
		    json_object_get(member_color(service, (enum color)c), "backends");

		for (size_t i = 0; i < json_array_size(all); i++) {
			unsigned n = text_columns(member_text(json_array_get(all, i), "address"));

			width = n > width ? n : width;
		}
	}
	return width > 60 ? 60 : width;
}

/* "  readiness: 200", "  readiness FAILS (3 x): 503 warming up"; what passed at the start is over.
 * */
static void
render_probe(FILE *out, const json_t *backend, const char *name, const struct look *look)
{
	const json_t *probe = json_object_get(json_object_get(backend, "probes"), name);
	const json_t *well = json_object_get(probe, "well");
	const char *saw = member_text(probe, "saw");

	if (probe == NULL || (json_is_true(well) && strcmp(name, "startup") == 0))
		return;
	(void)fprintf(out, "  %s", name);
	if (json_is_true(well)) {
		(void)fputs(": ", out);
		put_cell(
		    out, saw, text_columns(saw) < SEEN_COLUMNS ? text_columns(saw) : SEEN_COLUMNS);
		return;
	}
	put_style(out, look, json_is_false(well) ? "31" : "33");
	if (json_is_false(well))
		(void)fprintf(out, " FAILS (%.0f x)", member_number(probe, "failed"));
	else
		(void)fputs(" undecided", out);
	put_plain(out, look);
	if (*saw != '\0' && strstr(member_text(backend, "reason"), saw) != NULL)
		return; /* the reason has said it */
	(void)fputs(": ", out);
	put_safe(out, *saw == '\0' ? "no answer yet" : saw);
}

static void
render_backend(FILE *out, const json_t *backend, unsigned width, const struct look *look)
{
	static const char *const probes[] = {"startup", "liveness", "readiness"};
	const char *state = member_text(backend, "state");

	put_cell(out, member_text(backend, "address"), width);
	(void)fputs("  ", out);
	put_style(out, look, state_code(state));
	put_cell(out, state, 8);
	put_plain(out, look);
	(void)fprintf(out, " %5.0f in flight", member_number(backend, "inflight"));
	if (*member_text(backend, "version") != '\0') {
		(void)fputs("  version ", out);
		put_safe(out, member_text(backend, "version"));
	}
	if (member_true(backend, "backup"))
		(void)fputs("  backup", out);
	if (member_true(backend, "ejected")) {
		put_style(out, look, "31");
		(void)fputs("  EJECTED", out);
		put_plain(out, look);
	}
	if (*member_text(backend, "reason") != '\0') {
		(void)fputs("  ", out);
		put_safe(out, member_text(backend, "reason"));
	}
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++)
		render_probe(out, backend, probes[i], look);
	(void)fputc('\n', out);
}

void
status_pool(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	const json_t *backend, *backends = json_object_get(member_color(service, c), "backends");
	unsigned width = address_width(service);
	size_t i;

	if (json_array_size(backends) == 0)
		(void)fprintf(out, "  %-5s  no backends\n", color_name(c));
	json_array_foreach(backends, i, backend)
	{
		(void)fputs("  ", out);
		put_style(out, look, color_code(c));
		(void)fprintf(out, "%-5s  ", i == 0 ? color_name(c) : "");
		put_plain(out, look);
		render_backend(out, backend, width, look);
	}
}

/* As many of the last points as the line holds, the highest point filling it. */
static void
render_spark(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const ascii[] = {"_", ".", "-", "~", "=", "+", "*", "#"};
	unsigned n = 0, left = 22; /* columns before the first point */
	const double *points = trail_of(look->trail, member_text(service, "name"), c, &n);
	double top = 0;
	char last[MS_TEXT_SIZE];

	if (points == NULL || n == 0)
		return;
	if (look->width > left && n > look->width - left) {
		points += n - (look->width - left);
		n = look->width - left;
	}
	for (unsigned i = 0; i < n; i++)
		top = fmax(top, points[i]);
	print_ms(last, points[n - 1]);
	(void)fputs("  p95 ", out);
	put_style(out, look, color_code(c));
	(void)fprintf(out, "%-5s %8s  ", color_name(c), last);
	for (unsigned i = 0; i < n; i++) {
		int level = top <= 0 ? 0 : (int)(points[i] / top * 7.999);

		(void)fputs(points[i] <= 0 ? " " : look->utf8 ? blocks[level] : ascii[level], out);
	}
	put_plain(out, look);
	(void)fputc('\n', out);
}

static void
render_service(FILE *out, const json_t *service, const struct look *look)
{
	render_title(out, service, look);
	put_style(out, look, "2");
	(void)fputs(
	    "             set   actual     req/s    failed      p50      p95      p99  in flight\n",
	    out);
	put_plain(out, look);
	for (int c = 0; c < N_COLORS; c++)
		render_color(out, service, (enum color)c, look);
	for (int c = 0; c < N_COLORS && look->trail != NULL; c++)
		render_spark(out, service, (enum color)c, look);
	for (int c = 0; c < N_COLORS; c++)
		status_pool(out, service, (enum color)c, look);
	trip_view(out, service, look);
	rollout_view(out, service, look);
}

void
status_render(FILE *out, const json_t *answer, const struct look *look)
{
	const json_t *services = json_object_get(answer, "services"), *service;
	char *screen = NULL;
	size_t n = 0, i;
	FILE *memory = open_memstream(&screen, &n);

	if (memory == NULL)
		return;
	if (json_is_array(services)) {
		render_header(memory, answer, look);
		json_array_foreach(services, i, service)
		{
			if (i > 0)
				(void)fputc('\n', memory);
			render_service(memory, service, look);
		}
	} else {
		render_service(memory, answer, look);
	}
	if (fclose(memory) == 0)
		put_clipped(out, screen, look);
	free(screen);
}

void
status_line(FILE *out, const json_t *service)
{
	const json_t *rollout = json_object_get(service, "rollout");

	put_safe(out, member_text(service, "name"));
	(void)fputs(": live ", out);
	put_safe(out, member_text(service, "live"));
	(void)fputs(", ", out);
	put_safe(out, member_text(service, "candidate"));
	(void)fprintf(out, " at %.10g %%, epoch %.0f", member_number(service, "weight"),
	    member_number(service, "epoch"));
	if (rollout_under_way(service)) {
		(void)fputs(", rollout ", out);
		put_safe(out, member_text(rollout, "state"));
		(void)fprintf(out, " at step %.0f/%zu", member_number(rollout, "step"),
		    json_array_size(json_object_get(rollout, "steps")));
	}
	if (member_true(service, "tripped"))
		(void)fputs(", tripped", out);
	(void)fputs(member_true(service, "maintenance") ? ", in maintenance\n" : "\n", out);
}
