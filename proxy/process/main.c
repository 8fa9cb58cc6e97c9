/*
 * teal: the daemon's command line.  Everything it starts lives in control.c.
 */
#include <errno.h>
#include <event2/event.h>
#include <curl/curl.h>
#include <jansson.h>
#include <llhttp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "config/config.h"
#include "proxy/base/log.h"
#include "proxy/process/start.h"

static void
usage(FILE *to)
{
	fputs("teal " TEAL_VERSION ": an edge proxy for blue-green and canary releases\n"
	      "\n"
	      "  teal -c FILE        run in the foreground\n"
	      "  teal -t -c FILE     check the configuration and every file it names; exit 0 or 1\n"
	      "  teal -T -c FILE     print the effective configuration, defaults filled in\n"
	      "  teal -V             version, and the versions of the libraries in use\n"
	      "\n"
	      "SIGTERM, SIGINT: finish what runs, then exit.  SIGUSR1: reopen the access log.\n"
	      "See teal(8), teal.conf(5), tealctl(1).\n",
	    to);
}

static void
versions(void)
{
	printf("teal %s\n", TEAL_VERSION);
	printf("libevent %s\n", event_get_version());
	printf("nghttp2 %s\n", nghttp2_version(0)->version_str);
	printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
	printf(
	    "llhttp %d.%d.%d\n", LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR, LLHTTP_VERSION_PATCH);
	printf("%s\n", config_library());
	printf("jansson %s\n", jansson_version_str());
	printf("curl %s\n", curl_version_info(CURLVERSION_NOW)->version);
}

/* Every connection at the front may have one at the back; a shell's 1,024 would be the limit that
 * bites first. */
static void
raise_file_limit(const struct config *config)
{
	struct rlimit r;
	rlim_t want = (rlim_t)config->limits.connections * 2 + 256;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1)
		return;
	if (r.rlim_cur < want) {
		r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max > want ? want : r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int
run(const struct config *config)
{
	char err[512];
	struct control *control;
	int status;

	signal(SIGPIPE, SIG_IGN);
	log_set_level(config->log_level);
	raise_file_limit(config);
	control = control_start(config, err, sizeof(err));
	if (control == NULL) {
		log_error("%s", err);
		return 1;
	}
	status = control_run(control);
	control_free(control);
	return status;
}

int
main(int argc, char **argv)
{
	const char *file = NULL;
	enum { RUN, TEST, PRINT } what = RUN;
	struct config *config;
	char err[512];
	int option, status = 0;

	if (argc == 2 && strcmp(argv[1], "--options-man") == 0) {
		config_reference(stdout);
		return 0;
	}
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		usage(stdout);
		return 0;
	}
	while ((option = getopt(argc, argv, "c:tTV")) != -1) {
		switch (option) {
		case 'c':
			file = optarg;
			break;
		case 't':
			what = TEST;
			break;
		case 'T':
			what = PRINT;
			break;
		case 'V':
			versions();
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (file == NULL || optind != argc) {
		usage(stderr);
		return 2;
	}
	config = config_load(file, stderr);
	if (config == NULL)
		return 1;
	switch (what) {
	case RUN:
		status = run(config);
		break;
	case TEST:
		status = control_check(config, err, sizeof(err)) == 0 ? 0 : 1;
		if (status != 0)
			fprintf(stderr, "%s: %s\n", file, err);
		else
			printf("%s: ok\n", file);
		break;
	case PRINT:
		config_dump(config, stdout);
		break;
	}
	config_free(config);
	return status;
}
