/*
 * A directory with a configuration file and the files it may name: see config_files.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/config_files.h"

/* libconfig 1.5 loses the text of a string that stands where the grammar allows none: a few bytes
 * for every refused file, not ours to mend. */
const char *__lsan_default_suppressions(void); /* NOLINT(bugprone-reserved-identifier) */
const char *
__lsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier) */
{
	return "leak:strbuf_append\n";
}

char conf_directory[] = "/tmp/teal-config-XXXXXX";
char conf_file[64]; /* the file under test */
char *conf_errors;  /* of the last load */

/* --- helpers ---------------------------------------------------------------------- */

const char *
conf_path(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", conf_directory, name);
	return path;
}

void
conf_write(const char *name, const char *text, size_t n)
{
	FILE *f = fopen(conf_path(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

struct config *
conf_load_bytes(const char *text, size_t n)
{
	struct config *c;
	size_t size;
	FILE *f;

	conf_write("teal.conf", text, n);
	free(conf_errors);
	f = open_memstream(&conf_errors, &size);
	assert_non_null(f);
	c = config_load(conf_file, f);
	fclose(f);
	/* a configuration or a reason, never both */
	assert_true((c != NULL) == (conf_errors[0] == '\0'));
	return c;
}

struct config *
conf_load(const char *text)
{
	return conf_load_bytes(text, strlen(text));
}

struct config *
conf_load_ok(const char *text)
{
	struct config *c = conf_load(text);

	if (c == NULL)
		fail_msg("refused:\n%s\n%s", conf_errors, text);
	return c;
}

/* The whole of the messages, FILE as "F". */
void
conf_refused(const char *text, const char *expected)
{
	char *seen, *out;
	size_t size, n = strlen(conf_file);
	FILE *f = open_memstream(&seen, &size);

	assert_null(conf_load(text));
	for (const char *p = conf_errors; *p != '\0'; p++) {
		if (strncmp(p, conf_file, n) == 0) {
			fputc('F', f);
			p += n - 1;
		} else {
			fputc(*p, f);
		}
	}
	fclose(f);
	out = seen;
	assert_string_equal(out, expected);
	free(seen);
}

char *
conf_dump(const struct config *c)
{
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	config_dump(c, f);
	fclose(f);
	return text;
}

int
config_files_begin(void **state)
{
	static const char *const files[] = {
	    "site.pem", "site.key", "ca.pem", "sorry.html", "hook.sh"};

	(void)state;
	assert_non_null(mkdtemp(conf_directory));
	snprintf(conf_file, sizeof(conf_file), "%s/teal.conf", conf_directory);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		conf_write(files[i], "x\n", 2);
	return chmod(conf_path("hook.sh"), 0700);
}

int
config_files_end(void **state)
{
	static const char *const files[] = {"site.pem", "site.key", "ca.pem", "sorry.html",
	    "hook.sh", "teal.conf", "inner.conf", "services.conf"};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(conf_path(files[i]));
	free(conf_errors);
	return rmdir(conf_directory);
}

/* Everything there is, once. */
const char conf_everything[] =
    "listen = (\n"
    "  { address = \"0.0.0.0:443\"; backlog = 100;\n"
    "    tls = { certificates = ( { chain = \"site.pem\"; key = \"site.key\"; },\n"
    "                             { chain = \"site.pem\"; key = \"site.key\"; } );\n"
    "            min_version = \"1.3\"; ciphers = \"HIGH\"; ciphersuites = "
    "\"TLS_AES_128_GCM_SHA256\";\n"
    "            http2 = false; session_tickets = false; }; },\n"
    "  { address = \"[::]:80\"; redirect_to_https = true; redirect_port = 8443;\n"
    "    proxy_protocol = true; proxy_protocol_from = [ \"10.0.0.0/8\", \"fd00::/8\" ]; },\n"
    "  { address = \"unix:/run/teal/front.sock\"; } );\n"
    "services = (\n"
    "  { name = \"api\"; hosts = [ \"API.example.com\", \"*.example.com\" ]; paths = [ \"/\", "
    "\"/v1\" ];\n"
    "    blue = { backends = ( \"10.0.0.11:8080\",\n"
    "                          { address = \"[::1]:8080\"; weight = 3; },\n"
    "                          { address = \"unix:/run/app.sock\"; backup = true; } );\n"
    "             tls = { verify = true; ca = \"ca.pem\"; server_name = \"App.internal\";\n"
    "                     certificate = \"site.pem\"; key = \"site.key\"; };\n"
    "             balance = \"hash:header:X-User\"; slow_start = \"10s\"; max_connections = 10;\n"
    "             max_in_flight = 20; queue = 5; queue_timeout = \"250ms\"; idle_connections = 3;\n"
    "             idle_timeout = \"20s\"; hold_down = \"2s\"; resolve_interval = \"1m\"; streams = "
    "7; };\n"
    "    green = { backends = [ \"app.internal:8080\" ]; protocol = \"h2\"; balance = "
    "\"hash:cookie:Id\"; };\n"
    "    health = { liveness = { path = \"/live\"; interval = \"3s\"; timeout = \"500ms\"; rise = "
    "1; fall = 5;\n"
    "                            status = \"204\"; json = { member = \"status\"; value = \"UP\"; "
    "}; };\n"
    "               readiness = {}; startup = { deadline = \"90s\"; status = \"200-399\"; };\n"
    "               passive = { failures = 7; hold = \"20s\"; max_ejected = 33.33; }; };\n"
    "    split = { by = \"header:X-User\"; cookie = \"c\"; cookie_max_age = \"1d\";\n"
    "              force = { header = \"X-Color\"; cookie = \"color\"; secret = \"correct-horse\"; "
    "}; };\n"
    "    rollout = { steps = ( { weight = 0.5; hold = \"1m\"; }, { weight = 100; hold = \"2m\"; } "
    ");\n"
    "                limits = { failure_rate = 2.25; p95 = \"1s\"; window = \"20s\"; min_requests "
    "= 5;\n"
    "                           min_failures = 2; relative = false; healthy_backends = 75; "
    "confidence = 99.99; };\n"
    "                gate = { command = [ \"./hook.sh\", \"--step\" ]; timeout = \"1m\"; };\n"
    "                drain = { timeout = \"10m\"; rate = 25; };\n"
    "                auto = false; max_hold = \"2h\"; on_inconclusive = \"rollback\"; };\n"
    "    rescue = { on = false; max_body = 1000; budget = 10; }; retries = 1;\n"
    "    timeouts = { connect = \"1s\"; response = \"2s\"; body = \"3s\"; request_body = \"4s\"; "
    "websocket_idle = \"5m\"; };\n"
    "    max_body = \"10m\"; rates = ( { requests = 10; }, { path = \"/login\"; requests = 1; "
    "burst = 5; } );\n"
    "    rate_exempt = [ \"127.0.0.1\" ];\n"
    "    response_headers = { set = ( { name = \"X-Frame-Options\"; value = \"DENY\"; } );\n"
    "                         add = ( { name = \"Vary\"; value = \"\\\"a\\\\b\\\"\"; } ); remove = "
    "[ \"X-Powered-By\" ]; };\n"
    "    maintenance = { page = \"sorry.html\"; content_type = \"text/plain\"; retry_after = "
    "\"2m\"; }; },\n"
    "  { name = \"web\"; green = { backends = [ \"127.0.0.1:1\" ]; balance = \"hash:client-ip\"; "
    "}; } );\n"
    "unknown_host = 404;\n"
    "timeouts = { header = \"1s\"; send = \"2s\"; idle = \"3s\"; tls_handshake = \"4s\"; drain = "
    "\"5s\"; };\n"
    "limits = { connections = 10; connections_per_client = 5; exempt = [ \"::1\" ]; streams = 50;\n"
    "           header_bytes = \"32k\"; header_count = 50; request_line = \"4k\"; queued_bytes = "
    "\"64k\";\n"
    "           glitches = 100; glitches_per_second = 3; };\n"
    "forward = { trusted = [ \"192.168.0.0/16\" ]; via = \"edge\"; server = \"teal\"; forwarded = "
    "false; };\n"
    "response_headers = { remove = [ \"Server\" ]; };\n"
    "admin = { socket = \"admin.sock\"; mode = \"0600\"; owner = \"root\"; group = \"0\"; http = "
    "\"127.0.0.1:9900\"; };\n"
    "announce = { exec = [ \"/bin/sh\", \"-c\", \"cat\" ]; exec_timeout = \"3s\";\n"
    "             webhook = \"https://hooks.example:8443/teal?x=1\"; webhook_timeout = \"2s\";\n"
    "             webhook_ca = \"ca.pem\"; retries = 2; certificate = \"30d\";\n"
    "             webhook_headers = { set = ( { name = \"Authorization\"; value = \"Bearer x\"; } "
    "); "
    "};\n"
    "             events = [ \"tripped\", \"promoted\" ]; };\n"
    "state = { directory = \"state\"; };\n"
    "log = { level = \"debug\"; access = \"access.log\"; format = \"text\"; };\n"
    "workers = 3;\n";
