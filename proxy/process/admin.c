/*
 * The admin server: evhttp before admin_api.c.  Here is what belongs to sockets: who may connect,
 * who it is, how many and for how long, and what becomes of an answer whose asker has left.
 *
 * Owner and thread: the control thread.  A listener has an evhttp of its own, so that the Unix
 * socket has room when the TCP port is full.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/base/obj.h"
#include "proxy/process/admin.h"
#include "proxy/process/admin_api.h"
#include "proxy/process/admin_events.h"

#define HEADER_MAX      (16 * 1024)
#define CONNECTIONS_MAX 64 /* per listener; more wait in the backlog */
#define BACKLOG         64
#define IDLE_SECONDS    10  /* 64 silent ones must not keep an operator out for long */
#define ACCEPT_PAUSE_MS 200 /* after accept() failed: no descriptors, say */
#define ADMIN_MAGIC     0x61646d69u
#define ANSWER_MAGIC    0x616e7377u

struct listener {
	struct admin *admin;
	struct evhttp *http;           /* NULL: this listener is not configured */
	struct evconnlistener *socket; /* owned by http */
	struct event *resume;
	const char *own_name; /* the host admin.http was given as, or NULL */
	bool read_only;
	unsigned n_connections;
	LIST_HEAD(arrival_list, arrival) arrivals;
	LIST_ENTRY(listener) next;
};

/* libevent tells a failed accept() to evhttp's argument, not to ours: found again in here. */
static LIST_HEAD(listener_list, listener) listeners = LIST_HEAD_INITIALIZER(listeners);

/* One request until it is answered. */
struct answer {
	uint32_t magic;
	struct evhttp_request *request; /* NULL: the server has been freed meanwhile */
	bool head;
	LIST_ENTRY(answer) next;
};

struct admin {
	uint32_t magic;
	struct event_base *base;
	struct control *control;
	struct listener local, tcp;
	struct event_streams *streams;
	LIST_HEAD(answer_list, answer) answers;
	char *path;   /* of the socket file */
	dev_t device; /* and which file it was */
	ino_t inode;
};

/* --- answers --------------------------------------------------------------------------------- */

static void
send_answer(void *arg, const struct api_answer *a)
{
	struct answer *w = arg;
	struct evkeyvalq *out;
	struct evbuffer *body;
	char length[32];

	CHECK_MAGIC(w, ANSWER_MAGIC);
	if (w->request == NULL) {
		free(w);
		return;
	}
	LIST_REMOVE(w, next);
	out = evhttp_request_get_output_headers(w->request);
	body = evbuffer_new();
	(void)snprintf(length, sizeof(length), "%zu", a->body_n);
	(void)evhttp_add_header(out, "Content-Type", a->type);
	(void)evhttp_add_header(out, "Content-Length", length);
	(void)evhttp_add_header(out, "Cache-Control", "no-store");
	(void)evhttp_add_header(out, "X-Content-Type-Options", "nosniff");
	if (a->allow != NULL)
		(void)evhttp_add_header(out, "Allow", a->allow);
	if (body != NULL && !w->head)
		(void)evbuffer_add(body, a->body, a->body_n);
	/* frees the request, at once when its connection has gone */
	evhttp_send_reply(w->request, (int)a->status, NULL, body);
	if (body != NULL)
		evbuffer_free(body);
	w->magic = 0;
	free(w);
}

/* --- requests -------------------------------------------------------------------------------- */

static const char *
method_word(enum evhttp_cmd_type type)
{
	switch (type) {
	case EVHTTP_REQ_GET:
		return "GET";
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_HEAD:
		return "HEAD";
	case EVHTTP_REQ_PUT:
		return "PUT";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	case EVHTTP_REQ_OPTIONS:
		return "OPTIONS";
	case EVHTTP_REQ_TRACE:
		return "TRACE";
	case EVHTTP_REQ_CONNECT:
		return "CONNECT";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	}
	return "?";
}

#define ALL_METHODS                                                                                \
	(EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | \
	    EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH)

/* With some methods evhttp reads no body (with which, its versions differ) and would take it for
 * the next request. */
static bool
body_is_stray(struct evhttp_request *request)
{
	struct evkeyvalq *in = evhttp_request_get_input_headers(request);
	const char *length = evhttp_find_header(in, "Content-Length");
	enum evhttp_cmd_type type = evhttp_request_get_command(request);

	if (type == EVHTTP_REQ_POST || type == EVHTTP_REQ_PUT || type == EVHTTP_REQ_PATCH)
		return false;
	return evhttp_find_header(in, "Transfer-Encoding") != NULL ||
	       (length != NULL && strcmp(length, "0") != 0);
}

/* An IP address, localhost, or the name the operator gave the listener: a page from elsewhere
 * that points its own name at this port (DNS rebinding) is none of these. */
static bool
host_is_ours(const struct listener *l, const char *host, size_t n)
{
	char text[256];
	struct in6_addr in;

	if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
		host++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(text))
		return false;
	memcpy(text, host, n);
	text[n] = '\0';
	return inet_pton(AF_INET, text, &in) == 1 || inet_pton(AF_INET6, text, &in) == 1 ||
	       strcasecmp(text, "localhost") == 0 ||
	       (l->own_name != NULL && strcasecmp(text, l->own_name) == 0);
}

static bool
host_allowed(const struct listener *l, struct evhttp_request *request)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *in_uri = uri == NULL ? NULL : evhttp_uri_get_host(uri);
	struct evkeyvalq *in = evhttp_request_get_input_headers(request);
	const struct evkeyval *field;
	unsigned n_hosts = 0;

	if (!l->read_only) /* no web page reaches a Unix socket */
		return true;
	if (in_uri != NULL && !host_is_ours(l, in_uri, strlen(in_uri)))
		return false;
	for (field = in->tqh_first; field != NULL; field = field->next.tqe_next) {
		const char *value = field->value;
		size_t n;

		if (strcasecmp(field->key, "Host") != 0)
			continue;
		n = *value == '[' ? strcspn(value, "]") + 1 : strcspn(value, ":");
		if (n > strlen(value) || !host_is_ours(l, value, n))
			return false;
		n_hosts++;
	}
	return n_hosts == 1;
}

static void
ask_api(const struct listener *l, struct evhttp_request *request, struct answer *w)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri == NULL ? NULL : evhttp_uri_get_path(uri);
	const char *query = uri == NULL ? NULL : evhttp_uri_get_query(uri);
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	struct bufferevent *bev =
	    evhttp_connection_get_bufferevent(evhttp_request_get_connection(request));
	struct ucred peer = {.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
	socklen_t length = sizeof(peer);
	struct api_request r = {.control = l->admin->control,
	    .method = method_word(evhttp_request_get_command(request)),
	    .read_only = l->read_only,
	    .body_n = evbuffer_get_length(body),
	    .body = (const char *)evbuffer_pullup(body, -1)};
	char *target = NULL;

	if (asprintf(&target, "%s%s%s", path == NULL ? "" : path, query == NULL ? "" : "?",
		query == NULL ? "" : query) < 0) {
		api_error(send_answer, w, 500, "out-of-memory", "out of memory");
		return;
	}
	if (!l->read_only &&
	    getsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		log_warn("admin: who asks is not known: %s", strerror(errno));
	r.target = target;
	r.uid = peer.uid;
	r.gid = peer.gid;
	r.pid = peer.pid;
	api_handle(&r, send_answer, w);
	free(target);
}

/* GET /v1/events: an answer that is not one answer. */
static void
stream_events(struct listener *l, struct evhttp_request *request, struct answer *w)
{
	switch (event_streams_open(l->admin->streams, request, l->read_only)) {
	case STREAM_OPEN:
		LIST_REMOVE(w, next);
		w->magic = 0;
		free(w);
		return;
	case STREAM_BAD_ID:
		api_error(send_answer, w, 400, "bad-request", "Last-Event-ID must be a number");
		return;
	case STREAM_TOO_MANY:
		api_error(send_answer, w, 503, "too-many-subscribers",
		    "too many listen to events already");
		return;
	}
}

static void
on_request(struct evhttp_request *request, void *arg)
{
	struct listener *l = arg;
	struct answer *w = calloc(1, sizeof(*w));

	if (w == NULL) {
		evhttp_send_error(request, 500, NULL);
		return;
	}
	w->magic = ANSWER_MAGIC;
	w->request = request;
	w->head = evhttp_request_get_command(request) == EVHTTP_REQ_HEAD;
	LIST_INSERT_HEAD(&l->admin->answers, w, next);
	if (body_is_stray(request)) {
		(void)evhttp_add_header(
		    evhttp_request_get_output_headers(request), "Connection", "close");
		api_error(send_answer, w, 400, "bad-request", "this method takes no body");
	} else if (!host_allowed(l, request)) {
		api_error(send_answer, w, 403, "host-refused",
		    "Host must be an IP address, localhost or the name in admin.http");
	} else if (event_streams_wanted(request)) {
		stream_events(l, request, w);
	} else {
		ask_api(l, request, w);
	}
}

/* --- connections ----------------------------------------------------------------------------- */

static void
connection_closed(struct evhttp_connection *connection, void *arg)
{
	struct listener *l = arg;

	if (connection != NULL && l->admin->streams != NULL)
		event_streams_closed(l->admin->streams, connection);
	l->n_connections--;
	if (l->socket == NULL) /* all are being closed */
		return;
	if (l->n_connections == CONNECTIONS_MAX - 1 && !evtimer_pending(l->resume, NULL))
		(void)evconnlistener_enable(l->socket);
}

/* A connection evhttp is about to make. */
struct arrival {
	struct listener *listener;
	struct event *event;
	struct bufferevent *bev; /* one reference */
	LIST_ENTRY(arrival) next;
};

static void
arrival_free(struct arrival *a)
{
	LIST_REMOVE(a, next);
	(void)bufferevent_decref(a->bev);
	event_free(a->event);
	free(a);
}

/* Runs before anything can happen on the new connection: evhttp has made it, and is the argument
 * of the bufferevent's callbacks. */
static void
connection_arrived(evutil_socket_t fd, short what, void *arg)
{
	struct arrival *a = arg;
	void *connection = NULL;

	(void)fd;
	(void)what;
	bufferevent_getcb(a->bev, NULL, NULL, NULL, &connection);
	if (connection != NULL && evhttp_connection_get_bufferevent(connection) == a->bev)
		evhttp_connection_set_closecb(connection, connection_closed, a->listener);
	else /* evhttp had no memory for it */
		connection_closed(NULL, a->listener);
	arrival_free(a);
}

/* evhttp asks for a bufferevent with each connection it accepts: the one place to count them. */
static struct bufferevent *
connection_new(struct event_base *base, void *arg)
{
	struct listener *l = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct arrival *a = calloc(1, sizeof(*a));

	if (bev == NULL || a == NULL ||
	    (a->event = evtimer_new(base, connection_arrived, a)) == NULL) {
		free(a);
		return bev; /* uncounted rather than refused: memory is the lesser limit */
	}
	a->listener = l;
	a->bev = bev;
	bufferevent_incref(bev);
	LIST_INSERT_HEAD(&l->arrivals, a, next);
	event_active(a->event, EV_TIMEOUT, 1);
	if (++l->n_connections == CONNECTIONS_MAX)
		(void)evconnlistener_disable(l->socket);
	return bev;
}

static void
accept_failed(struct evconnlistener *socket, void *arg)
{
	struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000L};
	struct listener *l;

	(void)arg;
	log_warn("admin: cannot accept a connection: %s", strerror(errno));
	/* the event would fire again at once: do not spin */
	(void)evconnlistener_disable(socket);
	LIST_FOREACH(l, &listeners, next)
	if (l->socket == socket)
		(void)evtimer_add(l->resume, &pause);
}

static void
accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	if (l->n_connections < CONNECTIONS_MAX)
		(void)evconnlistener_enable(l->socket);
}

/* --- listening ------------------------------------------------------------------------------- */

/* Takes the listening descriptor. */
static int
listener_init(struct listener *l, struct admin *admin, int fd, bool read_only)
{
	l->admin = admin;
	l->read_only = read_only;
	LIST_INIT(&l->arrivals);
	l->socket = evconnlistener_new(
	    admin->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (l->socket == NULL) {
		(void)close(fd);
		return -1;
	}
	if ((l->http = evhttp_new(admin->base)) == NULL ||
	    (l->resume = evtimer_new(admin->base, accept_again, l)) == NULL ||
	    evhttp_bind_listener(l->http, l->socket) == NULL) {
		evconnlistener_free(l->socket);
		l->socket = NULL;
		return -1;
	}
	LIST_INSERT_HEAD(&listeners, l, next);
	evconnlistener_set_error_cb(l->socket, accept_failed);
	evhttp_set_bevcb(l->http, connection_new, l);
	evhttp_set_gencb(l->http, on_request, l);
	evhttp_set_allowed_methods(l->http, ALL_METHODS);
	evhttp_set_max_headers_size(l->http, HEADER_MAX);
	evhttp_set_max_body_size(l->http, API_BODY_MAX);
	evhttp_set_timeout(l->http, IDLE_SECONDS);
	return 0;
}

static void
listener_fini(struct listener *l)
{
	struct arrival *a, *after;

	if (l->socket != NULL)
		LIST_REMOVE(l, next);
	l->socket = NULL;
	for (a = LIST_FIRST(&l->arrivals); a != NULL; a = after) {
		after = LIST_NEXT(a, next);
		arrival_free(a);
	}
	if (l->http != NULL)
		evhttp_free(l->http);
	if (l->resume != NULL)
		event_free(l->resume);
}

/* Whether somebody answers there; a stale file is removed.  0: the path is free. */
static int
clear_path(const char *path, const struct sockaddr_un *address, char *err, size_t err_size)
{
	struct stat st;
	int fd, refused;

	if (lstat(path, &st) < 0)
		return 0; /* bind() says what is wrong */
	if (!S_ISSOCK(st.st_mode)) {
		(void)snprintf(err, err_size, "%s exists and is not a socket", path);
		return -1;
	}
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0) {
		(void)snprintf(err, err_size, "socket: %s", strerror(errno));
		return -1;
	}
	refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
		  errno == ECONNREFUSED;
	(void)close(fd);
	if (!refused) {
		(void)snprintf(
		    err, err_size, "another process answers at %s: is teal running already?", path);
		return -1;
	}
	if (unlink(path) < 0) {
		(void)snprintf(
		    err, err_size, "cannot remove the stale %s: %s", path, strerror(errno));
		return -1;
	}
	return 0;
}

/* A user's or group's number from its name or number. */
static int
user_number(const char *text, uid_t *uid)
{
	const struct passwd *pw;
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*uid = (uid_t)-1;
	if (*text == '\0')
		return 0;
	if (*end != '\0') {
		if ((pw = getpwnam(text)) == NULL)
			return -1;
		n = pw->pw_uid;
	}
	*uid = (uid_t)n;
	return 0;
}

static int
group_number(const char *text, gid_t *gid)
{
	const struct group *gr;
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*gid = (gid_t)-1;
	if (*text == '\0')
		return 0;
	if (*end != '\0') {
		if ((gr = getgrnam(text)) == NULL)
			return -1;
		n = gr->gr_gid;
	}
	*gid = (gid_t)n;
	return 0;
}

/* Mode and owner before listen(): until then a connect() is refused. */
static int
open_local(struct admin *admin, int fd, const struct admin_config *c, char *err, size_t err_size)
{
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (user_number(c->owner, &uid) < 0) {
		(void)snprintf(err, err_size, "admin.owner: there is no user \"%s\"", c->owner);
		return -1;
	}
	if (group_number(c->group, &gid) < 0) {
		(void)snprintf(err, err_size, "admin.group: there is no group \"%s\"", c->group);
		return -1;
	}
	if (lchown(c->socket, uid, gid) < 0 || chmod(c->socket, c->mode) < 0) {
		(void)snprintf(err, err_size, "cannot set owner and mode of %s: %s", c->socket,
		    strerror(errno));
		return -1;
	}
	if (listen(fd, BACKLOG) < 0 || lstat(c->socket, &st) < 0) {
		(void)snprintf(
		    err, err_size, "cannot listen at %s: %s", c->socket, strerror(errno));
		return -1;
	}
	admin->device = st.st_dev;
	admin->inode = st.st_ino;
	return 0;
}

static int
bind_local(struct admin *admin, const struct admin_config *c, char *err, size_t err_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(c->socket) >= sizeof(address.sun_path)) {
		(void)snprintf(err, err_size, "admin.socket: the path is too long: %s", c->socket);
		return -1;
	}
	memcpy(address.sun_path, c->socket, strlen(c->socket) + 1);
	if (clear_path(c->socket, &address, err, err_size) < 0)
		return -1;
	if ((admin->path = strdup(c->socket)) == NULL) {
		(void)snprintf(err, err_size, "out of memory");
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		(void)snprintf(err, err_size, "cannot bind the admin socket %s: %s%s", c->socket,
		    strerror(errno), errno == ENOENT ? " (its directory must exist)" : "");
		if (fd >= 0)
			(void)close(fd);
		return -1;
	}
	if (open_local(admin, fd, c, err, err_size) < 0) {
		(void)unlink(c->socket);
		(void)close(fd);
		return -1;
	}
	if (listener_init(&admin->local, admin, fd, false) < 0) {
		(void)snprintf(err, err_size, "out of memory");
		return -1;
	}
	return 0;
}

/* The first of the name's addresses that can be bound; -1 with errno or an error of getaddrinfo. */
static int
bind_first(const struct addrinfo *all)
{
	const int on = 1;
	int fd = -1;

	for (; all != NULL; all = all->ai_next) {
		fd = socket(all->ai_family, all->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    all->ai_protocol);
		if (fd < 0)
			continue;
		if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		    bind(fd, all->ai_addr, all->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
			return fd;
		(void)close(fd);
	}
	return -1;
}

static int
bind_tcp(struct admin *admin, const struct address *a, char *err, size_t err_size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *all = NULL;
	char port[8];
	int failed, fd;

	if (a->host == NULL) {
		(void)snprintf(err, err_size, "admin.http: must be HOST:PORT, not %s", a->text);
		return -1;
	}
	(void)snprintf(port, sizeof(port), "%u", a->port);
	if ((failed = getaddrinfo(a->host, port, &hints, &all)) != 0) {
		(void)snprintf(err, err_size, "admin.http: %s: %s", a->text, gai_strerror(failed));
		return -1;
	}
	fd = bind_first(all);
	if (fd < 0)
		(void)snprintf(
		    err, err_size, "admin.http: cannot bind %s: %s", a->text, strerror(errno));
	freeaddrinfo(all);
	if (fd < 0)
		return -1;
	admin->tcp.own_name = a->host;
	if (listener_init(&admin->tcp, admin, fd, true) < 0) {
		(void)snprintf(err, err_size, "out of memory");
		return -1;
	}
	return 0;
}

struct admin *
admin_new(struct event_base *base, struct control *control, const struct config *config, char *err,
    size_t err_size)
{
	const struct admin_config *c = &config->admin;
	struct admin *admin = calloc(1, sizeof(*admin));

	if (admin == NULL) {
		(void)snprintf(err, err_size, "out of memory");
		return NULL;
	}
	admin->magic = ADMIN_MAGIC;
	admin->base = base;
	admin->control = control;
	admin->streams = event_streams_new(base, control);
	LIST_INIT(&admin->answers);
	if ((c->socket[0] != '\0' && bind_local(admin, c, err, err_size) < 0) ||
	    (c->http.text != NULL && c->http.text[0] != '\0' &&
		bind_tcp(admin, &c->http, err, err_size) < 0)) {
		admin_free(admin);
		return NULL;
	}
	return admin;
}

/* The answers still owed: control will call for each of them once more. */
static void
forget_answers(struct admin *admin)
{
	struct answer *w;

	while ((w = LIST_FIRST(&admin->answers)) != NULL) {
		LIST_REMOVE(w, next);
		/* a request whose connection has gone is nobody else's */
		if (evhttp_request_get_connection(w->request) == NULL)
			evhttp_request_free(w->request);
		w->request = NULL;
	}
}

void
admin_free(struct admin *admin)
{
	struct stat st;

	if (admin == NULL)
		return;
	CHECK_MAGIC(admin, ADMIN_MAGIC);
	/* only the file made here: a successor may have put its own in place */
	if (admin->path != NULL && lstat(admin->path, &st) == 0 && st.st_dev == admin->device &&
	    st.st_ino == admin->inode)
		(void)unlink(admin->path);
	forget_answers(admin);
	event_streams_free(admin->streams);
	admin->streams = NULL;
	listener_fini(&admin->local);
	listener_fini(&admin->tcp);
	free(admin->path);
	admin->magic = 0;
	free(admin);
}
