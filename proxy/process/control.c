/*
 * The control thread's life: start, signals, drain, end.  It touches no request.  Its orders to
 * workers are in orders.c, names in names.c.
 *
 *      start: config -> TLS contexts -> state -> fleet -> listeners -> workers -> admin
 *      end:   SIGTERM -> drain -> every connection gone or the deadline -> stop -> join
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balancer/rate.h"
#include "proxy/base/clock.h"
#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/codec/tls.h"
#include "proxy/process/control_private.h"
#include "proxy/process/listen.h"

#define RATE_SLOTS (1u << 16) /* clients that can have a rate bucket at a time */
#define PAGE_BYTES_MAX                                                                             \
	(4 *                                                                                       \
	    STREAM_CREDIT) /* of a maintenance page: each stream that is given it may hold it whole */
#define DRAIN_LOOK_MS 50
#define DAY_MS        (INT64_C(24) * 3600 * 1000)
#define ADMIN_FILES   80U   /* its connections, the log, the resolver's and libraries' own */
#define WORKER_FILES  6U    /* without listeners and connections */
#define BACK_FILES    8192U /* kept for connections to backends; half of all where there are few */

int64_t
control_now_ms(void)
{
	return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
control_wall_ms(void)
{
	return clock_us(CLOCK_REALTIME) / 1000;
}

/* --- each second ---------------------------------------------------------------------- */

/* Once a day for each that is near its end. */
static void
look_at_certificates(struct control *c)
{
	int64_t now = control_wall_ms(), near = c->config->announce.certificate_ms;
	struct control_certificate all[64];
	unsigned n;

	if (near == 0 || control_now_ms() < c->certificates_ms)
		return;
	c->certificates_ms = control_now_ms() + DAY_MS;
	n = control_certificates(c, all, 64);
	for (unsigned i = 0; i < n && i < 64; i++) {
		int64_t left = all[i].not_after - now / 1000;

		if (left * 1000 > near)
			continue;
		log_warn(
		    "certificate %s ends in %lld hours", all[i].file, (long long)(left / 3600));
		events_emit(c->events, "certificate_near_end", "",
		    json_pack("{s:s, s:I, s:I}", "file", all[i].file, "not_after",
			(json_int_t)all[i].not_after, "hours_left", (json_int_t)(left / 3600)));
	}
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd;
	(void)what;
	control_resolve_due(c);
	if (c->refleet && control_publish(c, NULL) == 0) {
		c->refleet = false;
		probes_follow(c->probes, &c->roster);
	}
	roster_collect(&c->roster);
	releases_second(c);
	watch_second(c);
	look_at_certificates(c);
}

/* --- the end --------------------------------------------------------------------------- */

static void
on_stopped(struct round *r)
{
	free(r);
}

static void
stop(struct control *c)
{
	struct round *r;

	if (c->stopping)
		return;
	c->stopping = true;
	r = calloc(1, sizeof(*r));
	ENSURE(r != NULL);
	r->done = on_stopped;
	control_order(c, ORDER_STOP, r);
	event_base_loopbreak(c->base);
}

static bool
quiet(struct control *c)
{
	return atomic_load(&c->edge.connections) ==
	       0; /* those whose PROXY header is still to come, too */
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval look = {0, DRAIN_LOOK_MS * 1000};
	struct control *c = arg;

	(void)fd;
	(void)what;
	if (quiet(c)) {
		log_info("drained");
		stop(c);
	} else if (control_now_ms() >= c->drain_until_ms) {
		log_warn("drain deadline: the connections that are left are closed");
		stop(c);
	} else {
		event_add(c->deadline, &look);
	}
}

static void
on_drain_begun(struct round *r)
{
	static const struct timeval soon = {0, 0};
	struct control *c = CONTAINER_OF(r, struct control, drain_round);

	event_add(c->deadline, &soon);
}

static void
on_signal(evutil_socket_t number, short what, void *arg)
{
	struct control *c = arg;

	(void)what;
	if (number == SIGUSR1) {
		logger_reopen(c->logger);
		return;
	}
	if (number == SIGHUP) {
		log_warn("SIGHUP: reloading is not in this version; restart to change the "
			 "configuration");
		return;
	}
	if (c->interrupts++ > 0) {
		stop(c);
		return;
	}
	log_info("%s: draining for at most %lld s", number == SIGINT ? "SIGINT" : "SIGTERM",
	    (long long)(c->config->timeouts.drain_ms / 1000));
	c->draining = true;
	c->drain_until_ms = control_now_ms() + c->config->timeouts.drain_ms;
	/* Only when every worker has emptied its accept queue does "no connection" mean drained. */
	c->drain_round.done = on_drain_begun;
	control_order(c, ORDER_DRAIN, &c->drain_round);
}

/* --- start ------------------------------------------------------------------------------ */

static int
load_pages(struct control *c, char *err, size_t err_size)
{
	for (size_t i = 0; i < c->config->n_services; i++) {
		const char *path = c->config->services[i].maintenance.page;
		char *text;
		size_t n;
		FILE *f;

		if (path[0] == '\0')
			continue;
		f = fopen(path, "re");
		if (f == NULL) {
			snprintf(err, err_size, "maintenance page %s: %s", path, strerror(errno));
			return -1;
		}
		text = calloc(1, PAGE_BYTES_MAX + 1);
		ENSURE(text != NULL);
		n = fread(text, 1, PAGE_BYTES_MAX + 1, f);
		fclose(f);
		if (n > PAGE_BYTES_MAX) {
			snprintf(err, err_size, "maintenance page %s: larger than 256 KiB", path);
			free(text);
			return -1;
		}
		c->edge.maintenance_pages[i] = text;
	}
	return 0;
}

static int
load_certificates(struct control *c, char *err, size_t err_size)
{
	char why[384];

	for (size_t i = 0; i < c->config->n_listeners; i++) {
		const struct listener_config *l = &c->config->listeners[i];

		if (!l->tls.on)
			continue;
		c->edge.tls[i] = tls_server_new(&l->tls, why, sizeof(why));
		if (c->edge.tls[i] == NULL) {
			snprintf(err, err_size, "listen %s: %s", l->address.text, why);
			return -1;
		}
	}
	return 0;
}

static void
free_edge(struct control *c)
{
	for (size_t i = 0; c->edge.tls != NULL && i < c->config->n_listeners; i++)
		tls_server_free(c->edge.tls[i]);
	for (size_t i = 0; c->edge.maintenance_pages != NULL && i < c->config->n_services; i++)
		free((char *)(uintptr_t)c->edge.maintenance_pages[i]);
	free(c->edge.tls);
	free((void *)c->edge.maintenance_pages);
	clients_free(c->edge.clients);
	rate_free(c->edge.rates);
}

/* One connection is kept for the probes of each backend. */
static rlim_t
probe_files(const struct config *config)
{
	rlim_t n = 0;

	for (size_t i = 0; i < config->n_services; i++) {
		const struct service_config *s = &config->services[i];

		if (s->health[PROBE_LIVENESS].on || s->health[PROBE_READINESS].on ||
		    s->health[PROBE_STARTUP].on)
			n += s->pools[BLUE].n_backends + s->pools[GREEN].n_backends;
	}
	return n;
}

/*
 * Each connection at the front may need one at the back, and the admin socket must answer when all
 * are taken: who is let in is served, the others are turned away at once.
 */
static uint32_t
connections_max(const struct control *c)
{
	uint32_t max = c->config->limits.connections;
	rlim_t own = ADMIN_FILES + probe_files(c->config) +
		     c->n_workers * (WORKER_FILES + (rlim_t)c->config->n_listeners);
	struct rlimit r;
	rlim_t left;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur == RLIM_INFINITY)
		return max;
	if (r.rlim_cur <= own)
		log_error(
		    "open files are limited to %llu, and %llu are needed without a single client: "
		    "raise LimitNOFILE",
		    (unsigned long long)r.rlim_cur, (unsigned long long)own);
	left = r.rlim_cur > own + 2 ? r.rlim_cur - own : 2;
	left -= left / 2 < BACK_FILES ? left / 2 : BACK_FILES;
	if (left >= max)
		return max;
	max = (uint32_t)left;
	log_warn(
	    "open files are limited to %llu: %u connections are taken, not %u; raise LimitNOFILE",
	    (unsigned long long)r.rlim_cur, max, c->config->limits.connections);
	return max;
}

static int
make_edge(struct control *c, char *err, size_t err_size)
{
	struct edge *e = &c->edge;

	e->config = c->config;
	e->control = &c->mailbox;
	e->n_workers = c->n_workers;
	e->connections_max = connections_max(c);
	e->access_log = strcmp(c->config->log_access, "off") != 0;
	e->tls = calloc(c->config->n_listeners + 1, sizeof(struct tls_server *));
	e->maintenance_pages = calloc(c->config->n_services + 1, sizeof(char *));
	e->clients = clients_new();
	e->rates = rate_new(RATE_SLOTS);
	ENSURE(e->tls != NULL && e->maintenance_pages != NULL && e->clients != NULL &&
	       e->rates != NULL);
	if (load_certificates(c, err, err_size) == -1)
		return -1;
	return load_pages(c, err, err_size);
}

static int
make_fleet(struct control *c, char *err, size_t err_size)
{
	char warning[400] = "";
	struct state *state;
	int result;

	if (mkdir(c->config->state_directory, 0750) == 0)
		log_info("state directory %s: made", c->config->state_directory);
	state = state_load(c->config->state_directory, warning, sizeof(warning));
	if (state == NULL) {
		/* Which color is live is written there: guessing could send everybody to the wrong
		 * one. */
		snprintf(err, err_size, "%s", warning);
		return -1;
	}
	if (warning[0] != '\0')
		log_warn("%s", warning);
	/* Two that write the same file would undo each other's changes.  Held until the process
	 * ends. */
	c->state_lock = open(c->config->state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->state_lock != -1 && flock(c->state_lock, LOCK_EX | LOCK_NB) == -1 &&
	    errno == EWOULDBLOCK) {
		snprintf(err, err_size, "state directory %s: another teal uses it",
		    c->config->state_directory);
		state_free(state);
		return -1;
	}
	result = roster_init(&c->roster, c->config, c->n_workers, state, err, err_size);
	if (result == 0)
		releases_init(c, state);
	state_free(state);
	if (result == -1)
		return -1;
	c->audit = audit_open(c->config->state_directory);
	for (unsigned i = 0; i < c->roster.n_backends; i++)
		control_resolve(c, c->roster.backends[i], true);
	c->refleet = false;
	if (roster_snapshot(&c->roster) == -1) {
		snprintf(err, err_size, "out of memory");
		return -1;
	}
	return 0;
}

/* All listeners of all workers are bound before the first connection is taken. */
static int
make_workers(struct control *c, char *err, size_t err_size)
{
	size_t n = c->config->n_listeners;
	int *fds = calloc(n + 1, sizeof(int)), *first = calloc(n + 1, sizeof(int));
	int result = 0;

	ENSURE(fds != NULL && first != NULL);
	for (unsigned w = 0; w < c->n_workers && result == 0; w++) {
		size_t opened = 0;

		for (; opened < n && result == 0; opened++) {
			fds[opened] = listen_open(
			    &c->config->listeners[opened], w, first[opened], err, err_size);
			if (fds[opened] == -1) {
				result = -1;
				break;
			}
			if (w == 0)
				first[opened] = fds[opened];
		}
		if (result == 0) {
			atomic_fetch_add(&c->roster.current->holders, 1);
			c->workers[w] = worker_new(&c->edge, w, fds, c->roster.current);
			if (c->workers[w] == NULL) {
				snprintf(err, err_size, "worker: %s", strerror(errno));
				result = -1;
			}
		}
		if (result == -1) {
			while (opened > 0)
				close(fds[--opened]);
		}
	}
	free(fds);
	free(first);
	return result;
}

static int
start_workers(struct control *c, char *err, size_t err_size)
{
	sigset_t all, mine;
	int error;

	/* Signals are the control thread's: threads inherit a mask with all of them blocked. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &mine);
	for (unsigned i = 0; i < c->n_workers; i++)
		logger_add(
		    c->logger, worker_access_ring(c->workers[i]), worker_log_ring(c->workers[i]));
	error = logger_start(c->logger);
	for (unsigned i = 0; i < c->n_workers && error == 0; i++) {
		error = worker_start(c->workers[i]);
		if (error == 0)
			c->n_started++;
	}
	if (error == 0) {
		c->resolver = resolver_new();
		error = c->resolver == NULL ? errno : 0;
	}
	pthread_sigmask(SIG_SETMASK, &mine, NULL);
	if (error != 0)
		snprintf(err, err_size, "thread: %s", strerror(error));
	return error == 0 ? 0 : -1;
}

static void
on_mail(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd;
	(void)what;
	mailbox_deliver(&c->mailbox, c);
}

static int
make_loop(struct control *c, char *err, size_t err_size)
{
	static const int numbers[4] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};
	static const struct timeval second = {1, 0};

	c->base = event_base_new();
	if (c->base == NULL || mailbox_init(&c->mailbox) == -1) {
		snprintf(err, err_size, "event loop: %s", strerror(errno));
		return -1;
	}
	for (unsigned i = 0; i < 4; i++) {
		c->signals[i] = evsignal_new(c->base, numbers[i], on_signal, c);
		ENSURE(c->signals[i] != NULL);
		event_add(c->signals[i], NULL);
	}
	c->events = events_new(c->base, c->config);
	c->mail_event = event_new(c->base, c->mailbox.fd, EV_READ | EV_PERSIST, on_mail, c);
	c->second = event_new(c->base, -1, EV_PERSIST, on_second, c);
	c->deadline = evtimer_new(c->base, on_deadline, c);
	ENSURE(c->mail_event != NULL && c->second != NULL && c->deadline != NULL);
	event_add(c->mail_event, NULL);
	event_add(c->second, &second);
	return 0;
}

static unsigned
count_workers(const struct config *config)
{
	long n = config->workers != 0 ? (long)config->workers : sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : (unsigned)n;
}

static int
start(struct control *c, char *err, size_t err_size)
{
	if (make_loop(c, err, err_size) == -1 || make_edge(c, err, err_size) == -1 ||
	    make_fleet(c, err, err_size) == -1)
		return -1;
	c->logger = logger_new(c->config->log_access, err, err_size);
	if (c->logger == NULL)
		return -1;
	c->workers = calloc(c->n_workers, sizeof(struct worker *));
	ENSURE(c->workers != NULL);
	if (make_workers(c, err, err_size) == -1)
		return -1;
	c->probes = probes_new(c->base, c->config, watch_changed, c);
	probes_follow(c->probes, &c->roster);
	watch_show(c);
	c->admin = admin_new(c->base, c, c->config, err, err_size);
	if (c->admin == NULL || start_workers(c, err, err_size) == -1)
		return -1;
	releases_start(c);
	return 0;
}

struct control *
control_start(const struct config *config, char *err, size_t err_size)
{
	struct control *c = calloc(1, sizeof(*c));

	ENSURE(c != NULL);
	c->config = config;
	c->state_lock = -1;
	c->n_workers = count_workers(config);
	c->started_wall_ms = control_wall_ms();
	if (start(c, err, err_size) == -1) {
		if (c->n_started != 0)
			control_order(c, ORDER_STOP, NULL);
		control_free(c);
		return NULL;
	}
	for (size_t i = 0; i < config->n_listeners; i++)
		log_info("listening on %s%s", config->listeners[i].address.text,
		    config->listeners[i].tls.on ? " (https)" : "");
	log_info("teal %s is ready: %u worker%s, %zu service%s", TEAL_VERSION, c->n_workers,
	    c->n_workers == 1 ? "" : "s", config->n_services, config->n_services == 1 ? "" : "s");
	return c;
}

int
control_run(struct control *c)
{
	event_base_dispatch(c->base);
	return 0;
}

/* Letters that came after the loop ended still have to be freed. */
static void
empty_mailbox(struct control *c)
{
	if (c->base != NULL && c->mailbox.fd > 0)
		mailbox_deliver(&c->mailbox, c);
}

void
control_free(struct control *c)
{
	for (unsigned i = 0; i < c->n_started; i++)
		worker_join(c->workers[i]);
	c->n_started = 0; /* nobody carries out orders any more */
	empty_mailbox(c); /* the last trip is written too */
	admin_free(c->admin);
	probes_free(c->probes);
	resolver_free(c->resolver);
	logger_stop(c->logger);
	empty_mailbox(c);
	for (unsigned i = 0; c->workers != NULL && i < c->n_workers; i++) {
		if (c->workers[i] != NULL)
			worker_free(c->workers[i]);
	}
	if (c->workers != NULL && c->workers[0] != NULL) {
		for (size_t i = 0; i < c->config->n_listeners; i++)
			listen_unlink(&c->config->listeners[i]);
	}
	free(c->workers);
	if (c->state_lock != -1)
		close(c->state_lock);
	releases_fini(c);
	audit_close(c->audit);
	events_free(c->events);
	roster_fini(&c->roster);
	free_edge(c);
	for (unsigned i = 0; i < 4; i++) {
		if (c->signals[i] != NULL)
			event_free(c->signals[i]);
	}
	if (c->mail_event != NULL)
		event_free(c->mail_event);
	if (c->second != NULL)
		event_free(c->second);
	if (c->deadline != NULL)
		event_free(c->deadline);
	if (c->base != NULL) {
		mailbox_fini(&c->mailbox);
		event_base_free(c->base);
	}
	free(c);
}

int
control_check(const struct config *config, char *err, size_t err_size)
{
	struct control c = {.config = config};
	struct state *none = calloc(1, sizeof(*none));
	int result;

	ENSURE(none != NULL);
	result = make_edge(&c, err, err_size);
	if (result == 0) {
		result = roster_init(&c.roster, config, 1, none, err, err_size);
		roster_fini(&c.roster);
	}
	state_free(none);
	free_edge(&c);
	return result;
}
