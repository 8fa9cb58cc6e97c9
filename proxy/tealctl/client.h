/*
 * HTTP/1.1 over a Unix socket, as much of it as asking teal needs: one request per connection,
 * a response with Content-Length, chunked or up to the end.
 */
#ifndef TEALCTL_CLIENT_H
#define TEALCTL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESPONSE_MAX (64u * 1024 * 1024) /* bytes */

struct response {
	unsigned status;
	char *body; /* NUL-terminated, malloc'd */
	size_t n;
};

/* 0, or -1 with what the operator can do about it in err.  Any status is an answer.  patience_ms:
 * for the whole of it. */
int client_ask(const char *path, const char *method, const char *target, const char *body,
    int64_t patience_ms, struct response *out, char *err, size_t err_size);

/* A connected socket, the caller's; -1 with a sentence. */
int client_connect(const char *path, int64_t patience_ms, char *err, size_t err_size);
/* 0, or -1 with errno. */
int client_send(int fd, const char *text, size_t n);
/* CLOCK_MONOTONIC. */
int64_t client_now_ms(void);

/* 1: *out is complete; 0: more is needed; -1: not an HTTP response.  `ended`: the peer closed.
 * `n` bytes at `data`, which is NUL-terminated. */
int response_parse(const char *data, size_t n, bool ended, struct response *out);

/* A path segment, percent-encoded (RFC 3986 section 3.3); malloc'd, out of memory ends the
 * process. */
char *client_segment(const char *text);

#endif
