/* The operator's log on stderr.  See log.h. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/base/ring.h"

#define LINE_MAX_BYTES 1024

static _Atomic int threshold = LOG_LEVEL_INFO;
static _Thread_local struct ring *my_ring;

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void
log_thread_ring(struct ring *r)
{
	my_ring = r;
}

static const char *
level_word(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARN:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "?";
}

void
log_at(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES * 4 + 32];
	va_list ap;
	size_t n;
	ssize_t written;

	if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = (size_t)snprintf(line, 32, "teal: %s: ", level_word(level));
	/* A peer's bytes must not be able to write lines or move the terminal's cursor. */
	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(line + n, 5, "\\x%02x", c);
		else
			line[n++] = (char)c;
	}
	line[n++] = '\n';
	if (my_ring != NULL) {
		ring_put(my_ring, line, n);
		return;
	}
	written = write(STDERR_FILENO, line, n);
	(void)written;
}
