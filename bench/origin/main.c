/*
 * bench/origin: a fast backend that fails as it is told.  HTTP/1.1, HTTP/2 and WebSocket on one
 * port; bench/README.md says what it answers and what can be set.
 *
 * The main thread reads commands (control.c); workers (worker.c) serve.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bench/origin/conn.h"
#include "bench/origin/control.h"

static const char usage[] =
    "origin [--listen ADDR:PORT | --listen unix:/path]... [--control PATH] [--threads N]\n"
    "       [--version TEXT] [--body BYTES] [--tls CHAIN KEY]\n";

struct options {
	const char *control; /* NULL: none */
	const char *chain, *key;
};

static void
die(const char *what)
{
	fprintf(stderr, "origin: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
misused(const char *what, const char *value)
{
	fprintf(stderr, "origin: %s: %s\n%s", what, value, usage);
	exit(2);
}

static void
listen_on(struct origin *o, const char *text)
{
	if (o->n_listeners == LISTENERS || listener_parse(&o->listeners[o->n_listeners++], text))
		misused("--listen", text);
}

static void
options_read(struct origin *o, struct options *opt, int argc, char **argv)
{
	static const struct option options[] = {
	    {"listen", required_argument, NULL, 'l'},
	    {"control", required_argument, NULL, 'c'},
	    {"threads", required_argument, NULL, 'n'},
	    {"version", required_argument, NULL, 'v'},
	    {"body", required_argument, NULL, 'b'},
	    {"tls", required_argument, NULL, 't'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			listen_on(o, optarg);
			break;
		case 'c':
			opt->control = optarg;
			break;
		case 'n':
			o->n_workers = (unsigned)strtoul(optarg, NULL, 10);
			if (o->n_workers < 1 || o->n_workers > WORKERS)
				misused("--threads", optarg);
			break;
		case 'v':
			if (!script_version(&o->script, optarg))
				misused("--version", optarg);
			break;
		case 'b':
			if (!script_size(optarg, strlen(optarg), &o->script.body))
				misused("--body", optarg);
			break;
		case 't':
			if (optind >= argc)
				misused("--tls", "CHAIN KEY");
			opt->chain = optarg;
			opt->key = argv[optind++];
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (optind < argc)
		misused("no such argument", argv[optind]);
	if (o->n_listeners == 0)
		listen_on(o, "127.0.0.1:9000");
}

/* SIGINT and SIGTERM as a descriptor; blocked in all threads. */
static int
signals_open(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void
descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void
start(struct origin *o)
{
	for (unsigned i = 0; i < o->n_listeners; i++)
		if (listener_start(&o->listeners[i], o->n_workers))
			die(o->listeners[i].name);
	for (unsigned i = 0; i < o->n_workers; i++)
		if (!worker_start(o, i))
			die("cannot start a thread");
	struct script first = o->script;

	origin_publish(o, &first); /* they take their sockets */
	for (unsigned i = 0; i < o->n_listeners; i++)
		listener_print(&o->listeners[i]);
}

int
main(int argc, char **argv)
{
	static struct origin o = {
	    .n_workers = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .adopted = PTHREAD_COND_INITIALIZER};
	struct options opt = {0};
	int control = -1, signals = signals_open();

	script_init(&o.script);
	options_read(&o, &opt, argc, argv);
	descriptors_raise();
	pattern_init();
	if (opt.chain && !(o.tls = tls_context(opt.chain, opt.key)))
		return 1;
	if (h2_init(&o))
		die("cannot start nghttp2");
	if (opt.control && (control = control_open(opt.control)) < 0)
		die(opt.control);
	start(&o);
	control_run(&o, control, signals);

	origin_end(&o);
	for (unsigned i = 0; i < o.n_listeners; i++)
		listener_remove(&o.listeners[i]);
	if (control >= 0) {
		close(control);
		unlink(opt.control);
	}
	h2_fini(&o);
	SSL_CTX_free(o.tls);
	return 0;
}
