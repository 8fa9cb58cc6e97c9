/*
 * The connection machine: when to read, when to write, when to stop, how to end.
 *
 *   connecting --established--> open --close_after_flush--> closing --all out--> lingering
 *        |                        |                            |                    |
 *        +------ conn_lost, conn_close: dead --- turn_end() ---+------- buried -----+
 *
 * Reading.  What the codec leaves unread stays contiguous in conn->in; bytes below chunk->used are
 * never written again while a slice may see them.  A pause is only a bit: the interest in readiness
 * is dropped when readiness comes all the same, so most pauses cost no system call.
 *
 * Writing.  Once per turn, from the flush task: produce, write, sent, until nothing is left or the
 * transport takes no more.
 *
 * Every codec callback may close the connection.  That marks it dead; memory and transport go with
 * the grave at the end of the turn, so a caller further up the stack only has to look at `dead`.
 *
 * Owner: front_conn or back_conn.  Thread: its worker's.
 */
#include <string.h>

#include "proxy/base/obj.h"
#include "proxy/base/poison.h"
#include "proxy/base/warm.h"
#include "proxy/codec/conn.h"

#define READ_ROOM   ((size_t)4096) /* less room than this is not worth a read */
#define WRITE_IOV   16
#define WARM_READER ((size_t)640) /* an exchange */

static void run(struct task *);
static void flush(struct task *);
static void bury(struct task *);
static void send_timeout(struct timeout *);

void
conn_init(struct conn *c, struct turn *turn, struct transport *transport,
    void (*free_owner)(struct conn *))
{
	c->magic = CONN_MAGIC;
	c->turn = turn;
	c->transport = transport;
	transport->conn = c;
	c->free = free_owner;
	c->in_max = CONN_IN_MAX;
	c->run_task.run = run;
	c->flush_task.run = flush;
	c->grave_task.run = bury;
	buf_init(&c->out, turn->chunks);
	timeout_init(&c->send_timer, send_timeout);
}

/* --- the end ---------------------------------------------------------------- */

static void
die(struct conn *c)
{
	c->dead = true;
	timeout_cancel(&c->turn->wheel, &c->send_timer);
	turn_bury(c->turn, &c->grave_task);
}

static void
bury(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, grave_task);
	struct transport *transport = c->transport;

	CHECK_MAGIC(c, CONN_MAGIC);
	turn_forget(&c->run_task, &c->turn->runnable);
	turn_forget(&c->flush_task, &c->turn->dirty);
	c->transport = NULL;
	transport->ops->close(transport);
	if (c->codec != NULL && c->codec->fini != NULL)
		c->codec->fini(c);
	buf_fini(&c->out);
	chunk_unref(c->in);
	c->in = NULL;
	c->free(c);
}

void
conn_close(struct conn *c, bool abort)
{
	if (c->dead)
		return;
	c->transport->abort = abort;
	die(c);
}

void
conn_lost(struct conn *c, enum outcome why)
{
	CHECK_MAGIC(c, CONN_MAGIC);
	turn_wake(c->turn);
	if (c->dead)
		return;
	if (c->front && why != OUTCOME_CLIENT_SLOW && why != OUTCOME_STOPPED)
		why = OUTCOME_CLIENT_GONE;
	c->lost_why = why;

	bool told = !c->lingering; /* by then everything had gone out: nothing is lost */

	die(c);
	if (told && c->codec != NULL)
		c->codec->lost(c, why);
}

static void
io_error(struct conn *c)
{
	conn_lost(c, c->front ? OUTCOME_CLIENT_GONE : OUTCOME_BACK_RESET);
}

static void
send_timeout(struct timeout *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, send_timer);

	CHECK_MAGIC(c, CONN_MAGIC);
	if (c->lingering)
		conn_close(c, false);
	else
		conn_lost(c, c->front ? OUTCOME_CLIENT_SLOW : OUTCOME_BACK_RESET);
}

/* --- interest and pauses ------------------------------------------------------ */

static bool
may_deliver(const struct conn *c)
{
	return !c->dead && c->codec != NULL && (c->pauses & ~(unsigned)PAUSE_EOF) == 0;
}

static bool
may_read(const struct conn *c)
{
	return c->established && !c->eof && (c->lingering || may_deliver(c));
}

static bool
pending(const struct conn *c)
{
	return c->transport->ops->pending(c->transport);
}

static void
set_interest(struct conn *c, bool read, bool write)
{
	if (c->dead || (c->reading == read && c->writing == write))
		return;
	c->reading = read;
	c->writing = write;
	c->transport->ops->want(c->transport, read, write);
}

/* Turns reading on when it may be; off only after EOF: a pause leaves it as it is. */
static void
update_interest(struct conn *c)
{
	set_interest(c, may_read(c) || (c->reading && !c->eof), c->blocked);
}

void
conn_pause(struct conn *c, unsigned reason)
{
	c->pauses |= reason;
}

void
conn_resume(struct conn *c, unsigned reason)
{
	if (c->dead || (c->pauses & reason) == 0)
		return;
	c->pauses &= ~reason;
	if (!may_deliver(c))
		return;
	if (c->in_at < c->in_end || (c->eof && !c->eof_told) || (may_read(c) && !c->reading) ||
	    (may_read(c) && pending(c)))
		turn_run(c->turn, &c->run_task);
}

void
conn_set_codec(struct conn *c, const struct codec_ops *codec, void *state)
{
	c->codec = codec;
	c->codec_state = state;
	if (!c->dead && c->established)
		turn_run(c->turn, &c->run_task);
}

/* --- input ---------------------------------------------------------------------- */

/* A chunk with room left is the next reader's: small messages of many connections come to lie in one, where it is warm. */
static void
drop_input(struct conn *c)
{
	struct chunk *in = c->in;

	if (in != NULL && c->turn->spare == NULL && in->size == CHUNK_LARGE) {
		if (in->refs == 1)
			in->used = 0; /* nobody sees it */
		if (in->size - in->used >= READ_ROOM) {
			poison(in->data + in->used, in->size - in->used);
			c->turn->spare = in;
			in = NULL;
		}
	}
	chunk_unref(in);
	c->in = NULL;
	c->in_at = c->in_end = 0;
}

/* Gives the codec what is unread, until it wants no more or needs more than there is. */
static void
deliver(struct conn *c)
{
	while (c->in_at < c->in_end && may_deliver(c)) {
		const struct codec_ops *codec = c->codec;
		size_t n = c->in_end - c->in_at;
		struct slice unread = {c->in, c->in->data + c->in_at, n};
		size_t used = codec->input(c, unread);

		ENSURE(used <= n);
		c->in_at += used;
		if (used < n && c->codec == codec)
			break; /* paused, or incomplete */
	}
	if (c->eof && !c->eof_told && may_deliver(c)) {
		c->eof_told = true;
		c->codec->eof(c);
	}
}

/* The unread bytes to the front of a chunk in which `size` bytes fit. */
static void
move_unread(struct conn *c, size_t size)
{
	size_t unread = c->in_end - c->in_at;
	const unsigned char *from = c->in->data + c->in_at;

	if (c->in->refs == 1 && c->in->size >= size) {
		memmove(c->in->data, from, unread); /* nobody else sees this chunk */
	} else {
		struct chunk *to = chunk_new(c->turn->chunks, size);

		memcpy(to->data, from, unread);
		chunk_unref(c->in);
		c->in = to;
	}
	c->in_at = 0;
	c->in_end = unread;
	c->in->used = (uint32_t)unread;
}

/* Room behind the unread bytes; how much may be read, 0 when in_max is reached. */
static size_t
make_room(struct conn *c)
{
	size_t unread = c->in_end - c->in_at;
	size_t limit = c->in_max > unread ? c->in_max - unread : 0;
	size_t least = limit < READ_ROOM ? limit : READ_ROOM;
	size_t usual = c->in_small ? CHUNK_SMALL : CHUNK_LARGE;

	if (c->in == NULL && c->turn->spare != NULL && !c->in_small) {
		c->in = c->turn->spare;
		c->turn->spare = NULL;
		unpoison(c->in->data, c->in->size);
		if (c->in->refs == 1)
			c->in->used = 0; /* nobody sees it any more */
		c->in_at = c->in_end = c->in->used;
	} else if (c->in == NULL) {
		c->in = chunk_new(c->turn->chunks, usual);
		c->in_at = c->in_end = 0;
	} else if (unread == 0 && c->in->refs == 1) {
		c->in_at = c->in_end = 0;
		c->in->used = 0;
	} else if (c->in->size - c->in_end < least) {
		/* doubled, so that what is copied stays in proportion to what is read */
		size_t size = unread == 0 ? usual : unread + (unread > least ? unread : least);

		if (size > c->in_max)
			size = c->in_max;
		move_unread(c, size > usual ? size : usual);
	}
	size_t room = c->in->size - c->in_end;
	return room < limit ? room : limit;
}

/* After a wake-up: an idle connection holds no chunk, and knows what it waits for. */
static void
settle(struct conn *c)
{
	if (c->dead)
		return;
	if (c->in_at == c->in_end)
		drop_input(c);
	if (buf_bytes(&c->out) > 0 && !c->blocked)
		turn_flush(c->turn, &c->flush_task);
	update_interest(c);
}

static void
read_some(struct conn *c)
{
	size_t budget = CONN_TURN_BYTES;
	size_t asked, got;

	do {
		asked = make_room(c);
		if (asked > budget)
			asked = budget;
		if (asked == 0) {
			io_error(c); /* the codec neither used nor refused in_max bytes */
			return;
		}
		warm(c->codec_state, WARM_CODEC);
		if (c->reader != NULL)
			warm(c->reader, WARM_READER);
		ssize_t n = c->transport->ops->read(c->transport, c->in->data + c->in_end, asked);

		if (n == IO_ERROR) {
			io_error(c);
			return;
		}
		if (n == IO_AGAIN)
			break;
		got = (size_t)n;
		if (n == IO_EOF) {
			c->eof = true;
			c->pauses |= PAUSE_EOF;
		}
		c->in_end += got;
		c->in->used = (uint32_t)c->in_end;
		c->bytes_in += got;
		budget -= got;
		deliver(c);
		if (!may_read(c) || (got < asked && !pending(c)))
			break; /* a short read has emptied the socket */
	} while (budget > 0);
	if (!c->dead && may_read(c) && pending(c))
		turn_later(c->turn, &c->run_task); /* the socket will not tell of it */
}

/* Lingering (RFC 9112 9.6): bytes left unread would make close() send a RST, and that may overtake
 * the answer.  Read away, but not for long. */
static void
read_away(struct conn *c)
{
	struct chunk *scratch = chunk_new(c->turn->chunks, CHUNK_LARGE);
	size_t before = c->lingered;
	ssize_t n;

	do {
		n = c->transport->ops->read(c->transport, scratch->data, scratch->size);
		if (n > 0)
			c->lingered += (size_t)n;
	} while (
	    n > 0 && c->lingered < CONN_LINGER_BYTES && c->lingered - before < CONN_TURN_BYTES);
	chunk_unref(scratch);
	if (n == IO_AGAIN)
		return;
	if (n <= 0 || c->lingered >= CONN_LINGER_BYTES)
		conn_close(c, false);
	else
		turn_later(c->turn, &c->run_task);
}

static void
run(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, run_task);

	CHECK_MAGIC(c, CONN_MAGIC);
	if (c->dead || !c->established)
		return;
	if (c->lingering) {
		read_away(c);
		return;
	}
	deliver(c);
	if (may_read(c) && (!c->reading || pending(c)))
		read_some(c);
	settle(c);
}

/* --- output ---------------------------------------------------------------------- */

/* At the front only: a backend that answers while it is still being written to must be read, or the two would
 * wait for each other; what teal has for it is bounded by the exchanges' credit. */
static void
watch_marks(struct conn *c)
{
	size_t n = buf_bytes(&c->out);

	if (!c->front)
		return;

	if (n >= CONN_OUT_HIGH)
		conn_pause(c, PAUSE_OUTPUT);
	else if (n <= CONN_OUT_LOW)
		conn_resume(c, PAUSE_OUTPUT);
}

void
conn_output(struct conn *c)
{
	if (c->dead)
		return;
	watch_marks(c);
	if (c->established)
		turn_flush(c->turn, &c->flush_task);
}

/* A write failed.  A backend that refuses a long body answers and closes: the answer is still there
 * to be read, before the loss is told. */
static void
last_words(struct conn *c)
{
	if (!c->front && may_read(c))
		read_some(c);
	io_error(c);
}

/* One write.  false: the transport takes no more now, or the connection is dead. */
static bool
write_some(struct conn *c, size_t *budget)
{
	struct iovec iov[WRITE_IOV];
	int n_iov = buf_iov(&c->out, iov, WRITE_IOV);
	size_t offered = 0;
	ssize_t n = c->transport->ops->writev(c->transport, iov, n_iov);

	if (n == IO_ERROR || n == IO_EOF) {
		last_words(c);
		return false;
	}
	if (n == IO_AGAIN) {
		c->blocked = true;
		return false;
	}
	for (int i = 0; i < n_iov; i++)
		offered += iov[i].iov_len;

	size_t sent = (size_t)n;

	ENSURE(sent <= offered);
	/* a socket that took less is full: spare the write that would say so */
	if (sent < offered && !c->transport->tls)
		c->blocked = true;
	c->bytes_out += sent;
	*budget -= sent < *budget ? sent : *budget;
	buf_consume(&c->out, sent);
	if (c->codec != NULL && c->codec->sent != NULL)
		c->codec->sent(c, sent);
	return !c->dead && !c->blocked;
}

/* Everything that was to go out has gone. */
static void
all_out(struct conn *c)
{
	timeout_cancel(&c->turn->wheel, &c->send_timer);
	if ((c->shut || c->closing) && !c->shut_done) {
		c->shut_done = true;
		c->transport->ops->shutdown(c->transport);
	}
	if (!c->closing || c->lingering)
		return;
	if (!c->front || c->eof) {
		conn_close(c, false);
		return;
	}
	drop_input(c);
	c->lingering = true;
	timeout_set(&c->turn->wheel, &c->send_timer, c->turn->now_ms, CONN_LINGER_MS);
}

static void
flush(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, flush_task);
	size_t budget = CONN_FLUSH_BYTES;
	uint64_t before = c->bytes_out;

	CHECK_MAGIC(c, CONN_MAGIC);
	if (c->dead || !c->established || c->lingering)
		return;
	for (;;) {
		if (c->codec != NULL && c->codec->produce != NULL && !c->shut_done) {
			c->codec->produce(c);
			if (c->dead)
				return;
		}
		if (buf_bytes(&c->out) == 0 || c->blocked || budget == 0)
			break;
		if (!write_some(c, &budget) && c->dead)
			return;
	}
	if (buf_bytes(&c->out) == 0) {
		c->blocked = false;
		all_out(c);
	} else {
		if (c->bytes_out != before || !timeout_armed(&c->send_timer))
			timeout_set(
			    &c->turn->wheel, &c->send_timer, c->turn->now_ms, c->send_timeout_ms);
		if (!c->blocked)
			turn_later(c->turn, &c->run_task); /* its share is used up */
	}
	if (!c->dead) {
		watch_marks(c);
		update_interest(c);
	}
}

void
conn_shutdown_write(struct conn *c)
{
	c->shut = true;
	conn_output(c);
}

void
conn_close_after_flush(struct conn *c)
{
	if (c->dead || c->closing)
		return;
	c->closing = true;
	conn_pause(c, PAUSE_CLOSING);
	if (c->established)
		turn_flush(c->turn, &c->flush_task);
	else
		conn_close(c, false); /* there is nobody to flush to */
}

/* --- from the transport ------------------------------------------------------------ */

void
conn_established(struct conn *c)
{
	CHECK_MAGIC(c, CONN_MAGIC);
	turn_wake(c->turn);
	if (c->dead || c->established)
		return;
	c->established = true;
	if (c->codec != NULL && c->codec->established != NULL)
		c->codec->established(c);
	if (c->dead)
		return;
	turn_flush(c->turn, &c->flush_task); /* what was queued while connecting */
	if (may_read(c) && pending(c))
		turn_run(c->turn, &c->run_task);
	update_interest(c);
}

void
conn_ready(struct conn *c, bool readable, bool writable)
{
	CHECK_MAGIC(c, CONN_MAGIC);
	turn_wake(c->turn);
	if (c->dead || !c->established)
		return;
	if (writable) {
		c->blocked = false;
		turn_flush(c->turn, &c->flush_task);
	}
	if (!readable)
		return;
	if (c->lingering) {
		read_away(c);
	} else if (may_read(c)) {
		read_some(c);
		settle(c);
	} else {
		set_interest(
		    c, false, c->writing); /* paused, and there is something: stop asking */
	}
}
