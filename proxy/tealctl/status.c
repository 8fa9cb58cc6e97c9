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

#include "proxy/tealctl/status.h"

#define BAR_COLUMNS 40

/* --- text ------------------------------------------------------------------------------------- */

void
put_safe(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	for (; *p != '\0'; p++) {
		/* C0, DEL, and C1 as UTF-8 (U+0080 to U+009F) */
		if (*p < 0x20 || *p == 0x7f) {
			(void)fputc('?', out);
		} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
			(void)fputc('?', out);
			p++;
		} else {
			(void)fputc(*p, out);
		}
	}
}

/* Bytes of `line` that fill at most `width` columns: one a character, none for an escape. */
static size_t
clip(const char *line, size_t n, unsigned width)
{
	unsigned columns = 0;
	size_t i = 0;

	while (i < n) {
		if (line[i] == '\033') {
			while (i < n && line[i] != 'm')
				i++;
		} else if (((unsigned char)line[i] & 0xc0) != 0x80 && ++columns > width) {
			break;
		}
		i++;
	}
	return i < n ? i : n;
}

static void
write_clipped(FILE *out, const char *text, const struct look *look)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "\n");
		size_t fits = look->width == 0 ? n : clip(text, n, look->width);

		(void)fwrite(text, 1, fits, out);
		if (fits < n && look->color)
			(void)fputs("\033[0m", out);
		(void)fputc('\n', out);
		text += n + (text[n] == '\n');
	}
}

static void
style(FILE *out, const struct look *look, const char *code)
{
	if (look->color)
		(void)fprintf(out, "\033[%sm", code);
}

static void
plain(FILE *out, const struct look *look)
{
	style(out, look, "0");
}

static const char *
color_code(enum color c)
{
	return c == BLUE ? "34" : "32";
}

/* --- reading the JSON; what is missing counts as nothing -------------------------------------- */

static double
number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static const char *
text(const json_t *o, const char *key)
{
	const char *value = json_string_value(json_object_get(o, key));

	return value == NULL ? "" : value;
}

static const json_t *
color_of(const json_t *service, enum color c)
{
	return json_object_get(json_object_get(service, "colors"), color_name(c));
}

json_t *
status_services(json_t *answer)
{
	json_t *services = json_object_get(answer, "services");

	return json_is_array(services) ? json_incref(services) : json_pack("[O]", answer);
}

/* --- history ---------------------------------------------------------------------------------- */

static int
history_place(struct history *h, const char *name)
{
	for (unsigned i = 0; i < h->n_services; i++)
		if (strcmp(h->services[i].name, name) == 0)
			return (int)i;
	if (h->n_services == HISTORY_SERVICES || strlen(name) >= sizeof(h->services[0].name))
		return -1;
	memcpy(h->services[h->n_services].name, name, strlen(name) + 1);
	return (int)h->n_services++;
}

void
history_add(struct history *h, const json_t *services)
{
	const json_t *service;
	size_t i;

	json_array_foreach(services, i, service)
	{
		int place = history_place(h, text(service, "name"));
		unsigned *n;

		if (place < 0)
			continue;
		n = &h->services[place].n;
		for (int c = 0; c < N_COLORS; c++) {
			double *points = h->services[place].p95_ms[c];

			if (*n == HISTORY_POINTS)
				memmove(points, points + 1, (HISTORY_POINTS - 1) * sizeof(*points));
			points[*n == HISTORY_POINTS ? *n - 1 : *n] =
			    number(color_of(service, (enum color)c), "p95_ms");
		}
		if (*n < HISTORY_POINTS)
			(*n)++;
	}
}

const double *
history_of(const struct history *h, const char *name, enum color c, unsigned *n)
{
	for (unsigned i = 0; h != NULL && i < h->n_services; i++)
		if (strcmp(h->services[i].name, name) == 0) {
			*n = h->services[i].n;
			return h->services[i].p95_ms[c];
		}
	return NULL;
}

/* --- parts of the screen ---------------------------------------------------------------------- */

/* "3.1 ms", "12 ms", "1.25 s", "-" for nothing. */
static void
print_ms(char out[16], double ms)
{
	if (ms <= 0)
		(void)snprintf(out, 16, "-");
	else if (ms < 10)
		(void)snprintf(out, 16, "%.1f ms", ms);
	else if (ms < 1000)
		(void)snprintf(out, 16, "%.0f ms", ms);
	else
		(void)snprintf(out, 16, "%.2f s", fmin(ms / 1000, 99999));
}

static void
print_age(FILE *out, double ms)
{
	long s = (long)(ms / 1000);

	if (s >= 86400)
		(void)fprintf(out, "%ldd %ldh", s / 86400, s / 3600 % 24);
	else if (s >= 3600)
		(void)fprintf(out, "%ldh %ldm", s / 3600, s / 60 % 60);
	else if (s >= 60)
		(void)fprintf(out, "%ldm %lds", s / 60, s % 60);
	else
		(void)fprintf(out, "%lds", s);
}

static void
render_header(FILE *out, const json_t *answer, const struct look *look)
{
	const json_t *connections = json_object_get(answer, "connections");

	style(out, look, "1");
	(void)fputs("teal ", out);
	put_safe(out, text(answer, "version"));
	plain(out, look);
	(void)fputs("   up ", out);
	print_age(out, number(answer, "uptime_ms"));
	(void)fprintf(out, "   %.0f connections", number(connections, "open"));
	if (json_is_true(json_object_get(answer, "draining"))) {
		style(out, look, "33");
		(void)fputs("   draining", out);
		plain(out, look);
	}
	if (number(answer, "log_lines_lost") > 0)
		(void)fprintf(out, "   %.0f log lines lost", number(answer, "log_lines_lost"));
	(void)fputs("\n\n", out);
}

static void
render_title(FILE *out, const json_t *service, const struct look *look)
{
	style(out, look, "1");
	put_safe(out, text(service, "name"));
	plain(out, look);
	(void)fputs("   live ", out);
	put_safe(out, text(service, "live"));
	(void)fputs("   candidate ", out);
	put_safe(out, text(service, "candidate"));
	(void)fprintf(
	    out, " at %.10g %%   epoch %.0f", number(service, "weight"), number(service, "epoch"));
	if (json_is_true(json_object_get(service, "tripped"))) {
		style(out, look, "31;1");
		(void)fputs("   TRIPPED", out);
		plain(out, look);
	}
	if (json_is_true(json_object_get(service, "maintenance"))) {
		style(out, look, "33;1");
		(void)fputs("   MAINTENANCE", out);
		plain(out, look);
	}
	(void)fputc('\n', out);
}

/* One row of the table of colors. */
static void
render_color(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	const json_t *color = color_of(service, c);
	bool quiet = number(color_of(service, BLUE), "window_requests") +
			 number(color_of(service, GREEN), "window_requests") ==
		     0;
	char share[16] = "-", p[3][16];

	if (!quiet)
		(void)snprintf(share, sizeof(share), "%.1f %%", number(color, "share"));
	print_ms(p[0], number(color, "p50_ms"));
	print_ms(p[1], number(color, "p95_ms"));
	print_ms(p[2], number(color, "p99_ms"));
	(void)fputs("  ", out);
	style(out, look, color_code(c));
	(void)fprintf(out, "%-5s", color_name(c));
	plain(out, look);
	(void)fprintf(
	    out, " %6.10g %% %8s %9.1f ", number(color, "weight"), share, number(color, "rps"));
	if (number(color, "failure_rate") > 0)
		style(out, look, "31");
	(void)fprintf(out, "%7.2f %%", number(color, "failure_rate"));
	plain(out, look);
	(void)fprintf(out, " %8s %8s %8s %10.0f\n", p[0], p[1], p[2], number(color, "inflight"));
}

static void
render_bar(FILE *out, const json_t *service, const struct look *look)
{
	double weight = number(service, "weight");
	int full = (int)(weight * BAR_COLUMNS / 100);
	enum color candidate = GREEN;

	(void)color_parse(text(service, "candidate"), &candidate);
	(void)fputs("  [", out);
	style(out, look, color_code(candidate));
	for (int i = 0; i < full && i < BAR_COLUMNS; i++)
		(void)fputc('#', out);
	plain(out, look);
	for (int i = full; i < BAR_COLUMNS; i++)
		(void)fputc('-', out);
	(void)fprintf(out, "] %.10g %% to %s\n", weight, color_name(candidate));
}

static const char *
state_code(const char *state)
{
	if (strcmp(state, "up") == 0)
		return "32";
	return strcmp(state, "down") == 0 ? "31" : "33";
}

static unsigned
address_width(const json_t *service)
{
	size_t width = 8, i;

	for (int c = 0; c < N_COLORS; c++) {
		const json_t *one,
		    *all = json_object_get(color_of(service, (enum color)c), "backends");

		json_array_foreach(all, i, one) if (strlen(text(one, "address")) > width) width =
		    strlen(text(one, "address"));
	}
	return width > 60 ? 60 : (unsigned)width;
}

static void
render_backend(FILE *out, const json_t *backend, unsigned width, const struct look *look)
{
	const char *address = text(backend, "address"), *state = text(backend, "state");
	size_t n = strlen(address);

	put_safe(out, address);
	(void)fprintf(out, "%*s  ", n < width ? (int)(width - n) : 0, "");
	style(out, look, state_code(state));
	put_safe(out, state);
	plain(out, look);
	n = strlen(state);
	(void)fprintf(
	    out, "%*s %5.0f in flight", n < 8 ? (int)(8 - n) : 0, "", number(backend, "inflight"));
	if (json_is_true(json_object_get(backend, "backup")))
		(void)fputs("  backup", out);
	if (*text(backend, "reason") != '\0') {
		(void)fputs("  ", out);
		put_safe(out, text(backend, "reason"));
	}
	(void)fputc('\n', out);
}

void
status_pool(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	const json_t *backend, *backends = json_object_get(color_of(service, c), "backends");
	unsigned width = address_width(service);
	size_t i;

	if (json_array_size(backends) == 0)
		(void)fprintf(out, "  %-5s  no backends\n", color_name(c));
	json_array_foreach(backends, i, backend)
	{
		(void)fputs("  ", out);
		style(out, look, color_code(c));
		(void)fprintf(out, "%-5s  ", i == 0 ? color_name(c) : "");
		plain(out, look);
		render_backend(out, backend, width, look);
	}
}

static void
render_rollout(FILE *out, const json_t *service)
{
	const json_t *rollout = json_object_get(service, "rollout"), *step;
	const json_t *steps = json_object_get(rollout, "steps");
	size_t i;

	(void)fputs("  rollout ", out);
	put_safe(out, text(rollout, "state"));
	if (*text(rollout, "reason") != '\0') {
		(void)fputs(": ", out);
		put_safe(out, text(rollout, "reason"));
	}
	json_array_foreach(steps, i, step)
	{
		(void)fprintf(
		    out, "%s%.10g %% for ", i == 0 ? "   steps " : ", ", number(step, "weight"));
		put_safe(out, text(step, "hold"));
	}
	(void)fputc('\n', out);
}

/* The last minute of p95, the highest point filling the line. */
static void
render_spark(FILE *out, const json_t *service, enum color c, const struct look *look)
{
	static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const ascii[] = {"_", ".", "-", "~", "=", "+", "*", "#"};
	unsigned n = 0;
	const double *points = history_of(look->history, text(service, "name"), c, &n);
	double top = 0;
	char last[16];

	if (points == NULL || n == 0)
		return;
	for (unsigned i = 0; i < n; i++)
		top = fmax(top, points[i]);
	(void)fputs("  p95 ", out);
	style(out, look, color_code(c));
	(void)fprintf(out, "%-5s ", color_name(c));
	for (unsigned i = 0; i < n; i++) {
		int level = top <= 0 ? 0 : (int)(points[i] / top * 7.999);

		(void)fputs(points[i] <= 0 ? " " : look->utf8 ? blocks[level] : ascii[level], out);
	}
	plain(out, look);
	print_ms(last, points[n - 1]);
	(void)fprintf(out, " %s\n", last);
}

static void
render_service(FILE *out, const json_t *service, const struct look *look)
{
	render_title(out, service, look);
	style(out, look, "2");
	(void)fputs(
	    "             set   actual     req/s    failed      p50      p95      p99  in flight\n",
	    out);
	plain(out, look);
	for (int c = 0; c < N_COLORS; c++)
		render_color(out, service, (enum color)c, look);
	if (look->history != NULL)
		render_bar(out, service, look);
	for (int c = 0; c < N_COLORS && look->history != NULL; c++)
		render_spark(out, service, (enum color)c, look);
	for (int c = 0; c < N_COLORS; c++)
		status_pool(out, service, (enum color)c, look);
	render_rollout(out, service);
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
		write_clipped(out, screen, look);
	free(screen);
}

void
status_line(FILE *out, const json_t *service)
{
	put_safe(out, text(service, "name"));
	(void)fputs(": live ", out);
	put_safe(out, text(service, "live"));
	(void)fputs(", ", out);
	put_safe(out, text(service, "candidate"));
	(void)fprintf(out, " at %.10g %%, epoch %.0f%s\n", number(service, "weight"),
	    number(service, "epoch"),
	    json_is_true(json_object_get(service, "maintenance")) ? ", in maintenance" : "");
}
