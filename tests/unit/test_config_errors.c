/*
 * What is refused, and how it is said: all errors at once, each with its file, line and key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/config_files.h"

/* --- errors ---------------------------------------------------------------------- */

static void
test_all_at_once(void **state)
{
	(void)state;
	conf_refused("listen = (\n"
		     "  { address = \"0.0.0.0\"; },\n"
		     "  { address = \"0.0.0.0:80\"; tsl = { }; } );\n"
		     "services = (\n"
		     "  { name = \"api\"; host = [ \"a.example\" ];\n"
		     "    blue = { backends = [ \"x:1\" ];\n"
		     "             queue_timeout = 5;\n"
		     "             streams = 0; };\n"
		     "    retries = 8;\n"
		     "    health = { liveness = { path = \"live\"; }; }; } );\n"
		     "workers = \"many\";\n"
		     "wrokers = 1;\n"
		     "frobnicate = 1;\n",
	    "F:2: listen[0].address must have a port: \"host:port\", not \"0.0.0.0\"\n"
	    "F:3: unknown key listen[1].tsl; did you mean \"tls\"?\n"
	    "F:5: unknown key services[0].host; did you mean \"hosts\"?\n"
	    "F:7: services[0].blue.queue_timeout must be a duration such as \"250ms\", "
	    "not a whole number\n"
	    "F:8: services[0].blue.streams is out of range: 1 to 10000\n"
	    "F:9: services[0].retries is out of range: 0 to 7\n"
	    "F:10: services[0].health.liveness.path must begin with '/' and have no space, "
	    "'?' or '#', not \"live\"\n"
	    "F:11: workers must be a whole number, not a string\n"
	    "F:12: unknown key wrokers; did you mean \"workers\"?\n"
	    "F:13: unknown key frobnicate\n");
}

static void
test_syntax(void **state)
{
	(void)state;
	conf_refused("\n\nlisten = (\n", "F:3: syntax error\n");
	conf_refused("a = 1;\nb = \"x;\nc = 1;\n", "F:2: this string is not closed\n");
	conf_refused("a = 1;\n/* b\nc = 1;\n", "F:2: this comment is not closed\n");
	conf_refused("a = 1;\na = 2;\n", "F:2: duplicate setting name\n");
	conf_refused("a = [ 1, \"x\" ];\n", "F:1: mismatched element type in array\n");
	/* libconfig would read 1, and 0 */
	conf_refused("\nworkers = 4294967297;\n", "F:2: the number 4294967297 is too big\n");
	conf_refused("workers = -99999999999999999999;\n",
	    "F:1: the number 99999999999999999999 is too big\n");
	conf_refused("x = 0x1ffffffff;\n", "F:1: the number 0x1ffffffff is too big\n");
	conf_refused("x = \"\n\\x00\";\n", "F:2: there is a NUL in a string\n");
	assert_null(conf_load_bytes("a = 1;\n\0b", 9));
	assert_non_null(strstr(conf_errors, ":2: there is a NUL byte here"));
	config_free(conf_load_ok(TOP("/* 99999999999 */ // 99999999999\n# 99999999999\n")));
	config_free(conf_load_ok(SERVICE("max_body = 5000000000L;")));
}

static void
test_no_file(void **state)
{
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	(void)state;
	assert_null(config_load("/nonexistent/teal.conf", f));
	assert_null(config_load("/tmp", f));
	fclose(f);
	assert_string_equal(text,
	    "/nonexistent/teal.conf:0: cannot read \"/nonexistent/teal.conf\": "
	    "No such file or directory\n"
	    "/tmp:0: cannot read \"/tmp\": not a regular file\n");
	free(text);
}

static void
test_required(void **state)
{
	(void)state;
	conf_refused("", "F:1: listen is missing\nF:1: services is missing\n");
	conf_refused("listen = ();\nservices = ();\n",
	    "F:1: listen has 0 items; it may have 1 to 256 items\n"
	    "F:2: services has 0 items; it may have 1 to 10000 items\n");
	conf_refused("listen = (\n{ } );\nservices = (\n{ " BLUE_POOL " } );\n",
	    "F:2: listen[0].address is missing\nF:4: services[0].name is missing\n");
	conf_refused("listen = ( \"x:1\" );\nservices = ( 1 );\n",
	    "F:1: listen[0] must be a group, not a string\n"
	    "F:2: services[0] must be a group, not a whole number\n");
	conf_refused(SERVICE("rates = ( {\npath = \"/\"; } );"),
	    "F:3: services[0].rates[0].requests is missing\n");
	conf_refused(SERVICE("rollout = { steps = (\n{ weight = 100; } ); };"),
	    "F:4: services[0].rollout.steps[0].hold is missing\n");
	conf_refused(LISTENER("tls = { };"), "F:2: listen[0].tls.certificates is missing\n");
	conf_refused(LISTENER("tls = { certificates = (\n{ chain = \"site.pem\"; } ); };"),
	    "F:3: listen[0].tls.certificates[0].key is missing\n");
}

static void
test_files(void **state)
{
	char expected[8192];

	(void)state;
	snprintf(expected, sizeof(expected),
	    "F:2: services[0].maintenance.page names a file that cannot be read: \"%s\": "
	    "No such file or directory\n",
	    conf_path("gone.html"));
	conf_refused(LISTEN "services = ( { name = \"api\"; " BLUE_POOL
			    " maintenance = { page = \"gone.html\"; }; } );",
	    expected);
	snprintf(expected, sizeof(expected),
	    "F:2: services[0].blue.tls.ca must name a file: \"%s/.\"\n", conf_directory);
	conf_refused(LISTEN "services = ( { name = \"api\"; blue = { backends = [ \"x:1\" ];"
			    " tls = { ca = \".\"; }; }; } );",
	    expected);
	conf_refused(
	    LISTENER("tls = { certificates = ( { chain = \"\"; key = \"/dev/null/x\"; } ); };"),
	    "F:2: listen[0].tls.certificates[0].chain must name a file\n"
	    "F:2: listen[0].tls.certificates[0].key names a file that cannot be read: "
	    "\"/dev/null/x\": Not a directory\n");
	conf_refused(TOP("log = { access = \"\"; };"), "F:3: log.access must name a file\n");
	conf_refused(
	    TOP("state = { directory = \"\"; };"), "F:3: state.directory must name a file\n");
}

static void
test_listeners(void **state)
{
	(void)state;
	conf_refused(
	    "listen = ( { address = \"a.example:80\"; },\n { address = \"A.example:80\"; } );\n"
	    "services = ( { name = \"api\"; " BLUE_POOL " } );\n",
	    "F:2: listen[1].address is a duplicate: \"A.example:80\" is listened on at line 1\n");
	conf_refused(
	    LISTENER(
		"tls = { certificates = ( { chain = \"site.pem\"; key = \"site.key\"; } ); };\n"
		"redirect_to_https = true;"),
	    "F:3: listen[0].redirect_to_https is for clear text; this listener has tls\n");
	conf_refused(LISTENER("redirect_port = 80;"),
	    "F:2: listen[0].redirect_port means nothing without redirect_to_https = true\n");
	conf_refused(LISTENER("proxy_protocol = true;"),
	    "F:2: listen[0].proxy_protocol needs proxy_protocol_from, the networks that may "
	    "send PROXY headers\n");
	conf_refused(LISTENER("proxy_protocol = true; proxy_protocol_from = [];"),
	    "F:2: listen[0].proxy_protocol needs proxy_protocol_from, the networks that may "
	    "send PROXY headers\n");
	conf_refused(LISTENER("proxy_protocol_from = [ \"::1\" ];"),
	    "F:2: listen[0].proxy_protocol_from means nothing without proxy_protocol = true\n");
	conf_refused(LISTENER("proxy_protocol = true; proxy_protocol_from = [ \"10.0.0.1/8\" ];"),
	    "F:2: listen[0].proxy_protocol_from[0] must have no bits set behind the prefix: "
	    "\"10.0.0.1/8\" (did you mean \"10.0.0.0/8\"?)\n");
	conf_refused(TOP("admin = { http = \"127.0.0.1:80\"; };"),
	    "F:3: admin.http is a duplicate: \"127.0.0.1:80\" is listened on at line 1\n");
	conf_refused(TOP("admin = { http = \"unix:/run/x\"; };"),
	    "F:3: admin.http must be host:port; the Unix socket is admin.socket\n");
	conf_refused(TOP("admin = { mode = \"0888\"; };"),
	    "F:3: admin.mode must be an octal mode such as \"0660\", at most \"0777\"\n");
	conf_refused(TOP("limits = { header_bytes = \"4k\"; };"),
	    "F:3: limits must not be above limits.header_bytes\n");
	conf_refused(TOP("unknown_host = 403;"),
	    "F:3: unknown_host must be \"421\" or \"404\", not \"403\"\n");
}

static void
test_duplicates(void **state)
{
	(void)state;
	conf_refused(LISTEN "services = ( { name = \"a\"; hosts = [ \"a.example\" ]; " BLUE_POOL
			    " },\n"
			    "{ name = \"a\"; hosts = [ \"b.example\" ]; " BLUE_POOL " } );\n",
	    "F:3: services[1].name is a duplicate: \"a\" is the service at line 2\n");
	conf_refused(LISTEN "services = ( { name = \"a\"; hosts = [ \"A.example\" ]; paths = [ "
			    "\"/x\", \"/y\" ]; " BLUE_POOL " },\n"
			    "{ name = \"b\"; paths = [ \"/y\" ];\nhosts = [ \"b.example\", "
			    "\"a.Example\" ]; " BLUE_POOL " } );\n",
	    "F:4: services[1].hosts is a duplicate route: host \"a.example\" with path \"/y\" "
	    "belongs to the service at line 2\n");
	conf_refused(LISTEN "services = ( { name = \"a\"; " BLUE_POOL
			    " },\n{ name = \"b\"; " BLUE_POOL " } );\n",
	    "F:3: services[1] is a duplicate route: host \"*\" with path \"/\" "
	    "belongs to the service at line 2\n");
	conf_refused(SERVICE("hosts = [ \"x.example\", \"x.example\" ];"),
	    "F:3: services[0].hosts has a duplicate: host \"x.example\" with path \"/\"\n");
	conf_refused(
	    SERVICE("green = { backends = ( \"x:1\", \"y:1\",\n{ address = \"x:1\"; } ); };"),
	    "F:4: services[0].green.backends[2] is a duplicate: \"x:1\" is in this pool already\n");
	conf_refused(SERVICE("rates = ( { requests = 1; },\n{ path = \"/\"; requests = 2; } );"),
	    "F:4: services[0].rates[1] is a duplicate: path \"/\" has a rate already\n");
	/* the same host with other paths is what paths are for */
	config_free(conf_load_ok(
	    LISTEN "services = ( { name = \"a\"; paths = [ \"/a\" ]; " BLUE_POOL " },\n"
		   "{ name = \"b\"; " BLUE_POOL " } );\n"));
}

static void
test_hosts_and_paths(void **state)
{
	static const char *const good[] = {"*", "a", "a.example", "*.a.example", "A_b-c.Example",
	    "10.0.0.1", "[::1]", "xn--bcher-kva.example", "1a.2b"};
	static const char *const bad[] = {"", "*.", "**", "a.*", "*a.example", "a..b", ".a", "a.",
	    "-a", "a-", "a-.b", "a.example:80", "a/b", "a b", "300.1.1.1", "\xc3\xbc.example",
	    "::1", "[::1", "a.1", "*.10.0.0.1", "a@b"};
	static const char *const good_paths[] = {"/", "/a", "/a/", "/a%20b", "/a;b=c,d"};
	static const char *const bad_paths[] = {
	    "", "a", "/a b", "/a?b", "/a#b", "/\xc3\xa9", "*", "/a\\\"b", "/<"};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), SERVICE("hosts = [ \"%s\" ];"), good[i]);
		config_free(conf_load_ok(text));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), SERVICE("hosts = [ \"%s\" ];"), bad[i]);
		assert_null(conf_load(text));
		assert_non_null(strstr(conf_errors, ":3: services[0].hosts[0] must be a host"));
	}
	for (size_t i = 0; i < sizeof(good_paths) / sizeof(good_paths[0]); i++) {
		snprintf(text, sizeof(text), SERVICE("paths = [ \"%s\" ];"), good_paths[i]);
		config_free(conf_load_ok(text));
	}
	for (size_t i = 0; i < sizeof(bad_paths) / sizeof(bad_paths[0]); i++) {
		snprintf(text, sizeof(text), SERVICE("paths = [ \"%s\" ];"), bad_paths[i]);
		assert_null(conf_load(text));
		assert_non_null(
		    strstr(conf_errors, ":3: services[0].paths[0] must begin with '/'"));
	}
	conf_refused(SERVICE("hosts = []; paths = [];"),
	    "F:3: services[0].hosts must not be empty\nF:3: services[0].paths must not be empty\n");
	conf_refused(SERVICE("hosts = \"a.example\";"),
	    "F:3: services[0].hosts must be a list of strings: [ \"...\" ], not a string\n");
}

static void
test_pools(void **state)
{
	(void)state;
	conf_refused(LISTEN "services = (\n{ name = \"api\"; } );\n",
	    "F:3: services[0] has no backends: blue or green needs at least one\n");
	conf_refused(LISTEN
	    "services = (\n{ name = \"api\"; blue = { backends = []; }; green = { }; } );\n",
	    "F:3: services[0] has no backends: blue or green needs at least one\n");
	/* one mistake, one message: the pool is not called empty */
	conf_refused(LISTEN "services = ( { name = \"api\"; blue = { backends = [ 1 ]; }; } );\n",
	    "F:2: services[0].blue.backends[0] must be an address or a group, not a whole "
	    "number\n");
	conf_refused(SERVICE("green = { backends = ( { weight = 2; } ); };"),
	    "F:3: services[0].green.backends[0].address is missing\n");
	conf_refused(SERVICE("green = { backends = ( { address = \"x:1\"; weight = 257; } ); };"),
	    "F:3: services[0].green.backends[0].weight is out of range: 1 to 256\n");
	conf_refused(
	    SERVICE("green = { backends = [ \"x:1\" ]; tls = { certificate = \"site.pem\"; }; };"),
	    "F:3: services[0].green.tls needs certificate and key, or neither\n");
	conf_refused(SERVICE("green = { backends = [ \"unix:/run/x\" ]; tls = { }; };"),
	    "F:3: services[0].green.tls needs server_name to verify a backend on a Unix socket\n");
	config_free(conf_load_ok(
	    SERVICE("green = { backends = [ \"unix:/run/x\" ]; tls = { verify = false; }; };")));
	conf_refused(SERVICE("green = { balance = \"hash:header:\"; };"),
	    "F:3: services[0].green.balance must be \"least\", \"round-robin\", "
	    "\"hash:client-ip\", \"hash:header:NAME\" or \"hash:cookie:NAME\", "
	    "not \"hash:header:\"\n");
	conf_refused(SERVICE("green = { protocol = \"http2\"; };"),
	    "F:3: services[0].green.protocol must be \"http/1.1\" or \"h2\", not \"http2\"\n");
}

static void
test_split(void **state)
{
	(void)state;
	conf_refused(SERVICE("split = { by = \"header\"; };"),
	    "F:3: services[0].split.by must name the header: \"header:NAME\", not \"header\"\n");
	conf_refused(SERVICE("split = { by = \"header:\"; };"),
	    "F:3: services[0].split.by must name the header: \"header:NAME\", not \"header:\"\n");
	conf_refused(SERVICE("split = { by = \"header:a b\"; };"),
	    "F:3: services[0].split.by must name the header: \"header:NAME\", not \"header:a "
	    "b\"\n");
	conf_refused(SERVICE("split = { by = \"cookie\"; cookie = \"\"; };"),
	    "F:3: services[0].split.cookie must not be empty\n");
	conf_refused(SERVICE("split = { force = { header = \"x\"; secret = \"1234567\"; }; };"),
	    "F:3: services[0].split.force.secret must have 8 to 256 characters\n");
	conf_refused(SERVICE("split = { force = { header = \"x\"; secret = \"12345678 \"; }; };"),
	    "F:3: services[0].split.force.secret must be visible ASCII without quotes, ',', ';' "
	    "or '\\' (RFC 6265 section 4.1.1)\n");
	conf_refused(SERVICE("split = { force = { header = \"x\"; }; };"),
	    "F:3: services[0].split.force needs secret: else anybody could choose the color\n");
	conf_refused(SERVICE("split = { force = { secret = \"12345678\"; }; };"),
	    "F:3: services[0].split.force needs header or cookie beside secret\n");
	conf_refused(
	    SERVICE("split = { force = { cookie = \"teal_split\"; secret = \"12345678\"; }; };"),
	    "F:3: services[0].split.force.cookie must not be the cookie of the split, "
	    "\"teal_split\"\n");
	conf_refused(SERVICE("split = { cookie = \"a b\"; };"),
	    "F:3: services[0].split.cookie must be a token (RFC 9110 section 5.6.2), not \"a "
	    "b\"\n");
}

static void
test_health(void **state)
{
	(void)state;
	conf_refused(SERVICE("health = { liveness = { grpc = true; }; };"),
	    "F:3: services[0].health.liveness.grpc needs protocol = \"h2\" in pool blue\n");
	conf_refused(SERVICE("health = { readiness = { json = { member = \"x\"; }; }; };"),
	    "F:3: services[0].health.readiness.json needs both member and value\n");
	conf_refused(SERVICE("health = { readiness = { deadline = \"1s\"; }; };"),
	    "F:3: unknown key services[0].health.readiness.deadline\n");
	conf_refused(SERVICE("health = { startup = { status = \"99\"; }; };"),
	    "F:3: services[0].health.startup.status must be a status or a range such as "
	    "\"200-299\", from 100 to 599, not \"99\"\n");
	conf_refused(SERVICE("health = { startup = { status = \"299-200\"; }; };"),
	    "F:3: services[0].health.startup.status must be a status or a range such as "
	    "\"200-299\", from 100 to 599, not \"299-200\"\n");
}

static void
test_rollout(void **state)
{
	(void)state;
	conf_refused(
	    SERVICE("rollout = { steps = ( { weight = 50; hold = \"1m\"; },\n"
		    "{ weight = 50; hold = \"1m\"; },\n{ weight = 90; hold = \"1m\"; } ); };"),
	    "F:3: services[0].rollout.steps must end at weight 100\n"
	    "F:4: services[0].rollout.steps[1].weight must be above the step before it\n");
	conf_refused(SERVICE("rollout = { steps = ( { weight = 0; hold = \"1m\"; } ); };"),
	    "F:3: services[0].rollout.steps[0].weight is out of range: 0.01 to 100.00\n");
	conf_refused(SERVICE("rollout = { steps = ( { weight = 12.344; hold = \"1m\"; } ); };"),
	    "F:3: services[0].rollout.steps[0].weight must be a percentage of at most "
	    "two decimals\n");
	conf_refused(SERVICE("rollout = { steps = ( { weight = 12.345; hold = \"1m\"; } ); };"),
	    "F:3: services[0].rollout.steps[0].weight must be a percentage of at most "
	    "two decimals\n");
	conf_refused(SERVICE("rollout = { steps = (); };"),
	    "F:3: services[0].rollout.steps has 0 items; it may have 1 to 64 items\n");
	conf_refused(SERVICE("rollout = { max_hold = \"5m\"; };"),
	    "F:3: services[0].rollout.max_hold must not be below the hold of step 3\n");
	conf_refused(SERVICE("rollout = { limits = { failure_rate = 1e400; }; };"),
	    "F:3: services[0].rollout.limits.failure_rate is out of range: 0.00 to 100.00\n");
	conf_refused(SERVICE("rollout = { limits = { window = \"61s\"; }; };"),
	    "F:3: services[0].rollout.limits.window is out of range: 1s to 1m\n");
}

static void
test_commands(void **state)
{
	char expected[8192];

	(void)state;
	conf_refused(SERVICE("rollout = { gate = { command = [ \"check\" ]; }; };"),
	    "F:3: services[0].rollout.gate.command[0] must be a path with a '/' in it, not "
	    "\"check\": PATH is not searched\n");
	conf_refused(TOP("announce = { exec = [ \"\" ]; };"),
	    "F:3: announce.exec[0] must be a path with a '/' in it, not \"\": PATH is not "
	    "searched\n");
	snprintf(expected, sizeof(expected),
	    "F:3: announce.exec[0] names a command that cannot be run: \"%s\": No such file or "
	    "directory\n",
	    conf_path("./gone"));
	conf_refused(TOP("announce = { exec = [ \"./gone\", \"./gone\" ]; };"), expected);
	snprintf(expected, sizeof(expected),
	    "F:3: announce.exec[0] names a command that cannot be run: \"%s\": Permission "
	    "denied\n",
	    conf_path("./site.pem"));
	conf_refused(TOP("announce = { exec = [ \"./site.pem\" ]; };"), expected);
	conf_refused(TOP("announce = { exec = [ \"/tmp\" ]; };"),
	    "F:3: announce.exec[0] must name a file: \"/tmp\"\n");
	config_free(conf_load_ok(TOP("announce = { exec = []; };")));
}

static void
test_announce(void **state)
{
	static const char *const good[] = {"", "http://a", "https://a.example/",
	    "http://[::1]:80/x", "http://127.0.0.1:8080?a=b&c=%20", "https://a/b:c@d"};
	static const char *const bad[] = {"ftp://a", "HTTP://a", "//a", "a", "http://", "http:///x",
	    "http://a:0", "http://a:99999/", "http://a:/", "http://u:p@a/", "http://u@a",
	    "http://a b/", "http://a/ b", "http://a/\\n", "http://a/\xc3\xa9", "http://a/#x",
	    "http://a\\\\@b/", "http://300.1.1.1/", "http://[::1/", "http://[::1]x/",
	    "http://::1/"};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), TOP("announce = { webhook = \"%s\"; };"), good[i]);
		config_free(conf_load_ok(text));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), TOP("announce = { webhook = \"%s\"; };"), bad[i]);
		if (conf_load(text) != NULL)
			fail_msg("%s is not refused", bad[i]);
		assert_non_null(strstr(conf_errors, ":3: announce.webhook must"));
	}
	conf_refused(TOP("announce = { events = [ \"step\", \"triped\", \"xyzzy\" ]; };"),
	    "F:3: announce.events[1] must be one of the known words, not \"triped\"; did you mean "
	    "\"tripped\"?\n"
	    "F:3: announce.events[2] must be one of the known words, not \"xyzzy\"\n");
	conf_refused(TOP("announce = { events = []; };"),
	    "F:3: announce.events has 0 items; it may have 1 to 100 items\n");
	conf_refused(
	    TOP("announce = { webhook_headers = { set = ( { name = \"A\"; value = \"b\"; } "
		"); }; };"),
	    "F:3: announce.webhook_headers means nothing without webhook\n");
	conf_refused(TOP("announce = { webhook = \"http://a/\"; webhook_ca = \"ca.pem\"; };"),
	    "F:3: announce.webhook_ca means nothing without a webhook of https\n");
	conf_refused(
	    TOP("announce = { webhook = \"http://a/\"; webhook_headers = { add = ( ); }; };"),
	    "F:3: unknown key announce.webhook_headers.add\n");
}

static void
test_header_rules(void **state)
{
	static const char *const framing[] = {"Content-Length", "transfer-encoding", "Connection",
	    "Host", "Upgrade", "TE", "Trailer", "Keep-Alive", "Proxy-Connection"};
	static const char *const bad_names[] = {"", "a b", "a:", ":path", "a\\r\\nb", "\xc3\xa9"};
	static const char *const bad_values[] = {
	    "a\\r\\nb: c", "a\\nb", "a\\x01", "\\x7f", " a", "a ", "\\ta"};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++) {
		snprintf(text, sizeof(text),
		    TOP("response_headers = { remove = [ \"%s\" ];\n"
			"set = ( { name = \"%s\"; value = \"x\"; } ); };"),
		    framing[i], framing[i]);
		assert_null(conf_load(text));
		assert_non_null(strstr(conf_errors, ":3: response_headers.remove[0] must not be"));
		assert_non_null(
		    strstr(conf_errors, ":4: response_headers.set[0].name must not be"));
	}
	for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
		snprintf(text, sizeof(text),
		    SERVICE("response_headers = { add = ( { name = \"%s\"; value = \"x\"; } ); };"),
		    bad_names[i]);
		assert_null(conf_load(text));
		assert_non_null(
		    strstr(conf_errors, "response_headers.add[0].name must be a field name"));
	}
	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		snprintf(text, sizeof(text),
		    SERVICE("response_headers = { add = ( { name = \"x\"; value = \"%s\"; } ); };"),
		    bad_values[i]);
		assert_null(conf_load(text));
		assert_non_null(strstr(conf_errors, "response_headers.add[0].value must"));
	}
	config_free(conf_load_ok(TOP("response_headers = { set = ( { name = \"X\"; value = \"\"; },"
				     " { name = \"Y\"; value = \"a\\tb\xc3\xa9\"; } ); };")));
	conf_refused(TOP("forward = { via = \"a b\"; server = \"x\\n\"; };"),
	    "F:3: forward.via must be a token or host[:port] (RFC 9110 section 7.6.3), not \"a "
	    "b\"\n"
	    "F:3: forward.server must have no control characters (RFC 9110 section 5.5)\n");
	config_free(conf_load_ok(TOP("forward = { via = \"edge.example:443\"; };")));
}

/* --- @include ---------------------------------------------------------------------- */

static void
write_text(const char *name, const char *text)
{
	conf_write(name, text, strlen(text));
}

static void
test_include(void **state)
{
	char expected[8192], text[8192];
	struct config *c;

	(void)state;
	write_text("services.conf", "# comment\nservices = (\n@include \"inner.conf\"\n);");
	write_text("inner.conf", "{ name = \"api\";\n" BLUE_POOL " }");
	c = conf_load_ok(LISTEN "  @include \"services.conf\" # here\nworkers = 2;\n");
	assert_int_equal(c->services[0].line, 1);
	assert_int_equal(c->workers, 2);
	config_free(c);

	write_text("inner.conf", "{ name = \"api\";\nretires = 1; " BLUE_POOL " }\n");
	assert_null(conf_load(LISTEN "@include \"services.conf\"\nwrokers = 2;\n"));
	snprintf(expected, sizeof(expected),
	    "%s/inner.conf:2: unknown key services[0].retires; did you mean \"retries\"?\n"
	    "%s/teal.conf:3: unknown key wrokers; did you mean \"workers\"?\n",
	    conf_directory, conf_directory);
	assert_string_equal(conf_errors, expected);

	write_text("inner.conf", "{ name = \"api\";\n\n= }\n");
	assert_null(conf_load(LISTEN "@include \"services.conf\"\n"));
	snprintf(expected, sizeof(expected), "%s/inner.conf:3: syntax error\n", conf_directory);
	assert_string_equal(conf_errors, expected);

	/* absolute names; not in comments and strings */
	write_text("inner.conf", "workers = 3;\n");
	snprintf(text, sizeof(text), MINIMAL "/*\n@include \"x\"\n*/\n@include \"%s/inner.conf\"\n",
	    conf_directory);
	c = conf_load_ok(text);
	assert_int_equal(c->workers, 3);
	config_free(c);
}

static void
test_include_errors(void **state)
{
	char expected[8192];

	(void)state;
	assert_null(conf_load("\n@include \"gone.conf\"\n"));
	snprintf(expected, sizeof(expected),
	    "%s:2: cannot read \"%s/gone.conf\": No such file or directory\n", conf_file,
	    conf_directory);
	assert_string_equal(conf_errors, expected);
	/* libconfig's own scanner ends the process on this one */
	assert_null(conf_load("@include \".\"\n"));
	snprintf(expected, sizeof(expected), "%s:1: cannot read \"%s/.\": not a regular file\n",
	    conf_file, conf_directory);
	assert_string_equal(conf_errors, expected);
	conf_refused("@include \"inner.conf\" x = 1;\n",
	    "F:1: nothing but a comment may follow an @include on its line\n");
	conf_refused("@include \"teal.conf\"\n@include \"teal.conf\"\n",
	    "F:1: @include goes deeper than 10\n");
	write_text("inner.conf", "x = \"open\n");
	assert_null(conf_load("@include \"inner.conf\"\n\";\n"));
	assert_non_null(strstr(conf_errors, "inner.conf:1: this string is not closed"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_at_once),
	    cmocka_unit_test(test_syntax),
	    cmocka_unit_test(test_no_file),
	    cmocka_unit_test(test_required),
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_listeners),
	    cmocka_unit_test(test_duplicates),
	    cmocka_unit_test(test_hosts_and_paths),
	    cmocka_unit_test(test_pools),
	    cmocka_unit_test(test_split),
	    cmocka_unit_test(test_health),
	    cmocka_unit_test(test_rollout),
	    cmocka_unit_test(test_commands),
	    cmocka_unit_test(test_announce),
	    cmocka_unit_test(test_header_rules),
	    cmocka_unit_test(test_include),
	    cmocka_unit_test(test_include_errors),
	};

	return cmocka_run_group_tests(tests, config_files_begin, config_files_end);
}
