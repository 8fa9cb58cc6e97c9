/*
 * A backend's header block becomes a response head, or the stream is malformed (RFC 9113 8.3.2, RFC 9110 15);
 * and what the end of a stream means.
 *
 * Thread: the worker's.
 */
#include <string.h>

#include "proxy/codec/back_h2.h"

#define INTERIM_RELAYED 10U
#define INTERIM_MAX     100U /* attack 54: more are malformed */

static void
malformed(struct h2_stream *s)
{
	s->doom = OUTCOME_BACK_MALFORMED;
	s->discard = true;
	h2_drop_queue(s);
	h2_reset(s, NGHTTP2_PROTOCOL_ERROR);
}

/* nghttp2 has checked :status for three digits, and that no interim response ends the stream. */
static bool
status_fits(const struct h2_stream *s)
{
	unsigned status = s->block.status;

	return status >= 100 && status < 600 && status != 101; /* RFC 9113 8.6 */
}

static void
fill(struct h2_stream *s, struct head *head)
{
	memset(head, 0, sizeof(*head));
	head->h2 = true;
	head->status = s->block.status;
	head->content_length = s->block.content_length;
	head->fields = s->block.fields;
}

static void
interim(struct h2_stream *s)
{
	struct head head;

	if (++s->n_interim > INTERIM_MAX) {
		malformed(s);
		return;
	}
	if (s->block.status == 100 ? !s->asked_100 : s->n_relayed >= INTERIM_RELAYED)
		return; /* RFC 9110 15.2: a proxy may drop what nobody asked for */
	s->n_relayed += s->block.status != 100;
	fill(s, &head);
	head.content_length = HEAD_LENGTH_NONE;
	if (s->stream.events != NULL)
		s->stream.events->head(s->stream.user, &head, false);
}

/* RFC 8441 5: 2xx opens the tunnel; after anything else the request is over. */
static void
websocket_answered(struct h2_stream *s, struct head *head)
{
	if (head->status / 100 == 2) {
		s->tunnel = true;
		head->status = 101;
		head->content_length = HEAD_LENGTH_NONE;
		return;
	}
	h2_drop_queue(s);
	s->out_ended = true;
	h2_kick(s);
}

static bool
bodyless(const struct h2_stream *s, unsigned status)
{
	return s->head_request || status == 204 || status == 304;
}

static void
final(struct h2_stream *s, bool end)
{
	struct head head;

	s->head_in = true;
	fill(s, &head);
	if (s->websocket)
		websocket_answered(s, &head);
	if (s->tunnel && end) {
		malformed(s); /* opened and closed: not a tunnel */
		return;
	}
	if (!s->tunnel && bodyless(s, head.status))
		end = true; /* an empty DATA may still follow; nghttp2 lets no other pass */
	s->end_in = end;
	head.no_body = end;
	if (s->stream.events != NULL)
		s->stream.events->head(s->stream.user, &head, end);
}

void
back_h2_response(struct h2_stream *s, bool end)
{
	if (s->stream.events == NULL || s->discard)
		return;
	if (s->block.too_large) {
		s->doom = OUTCOME_BACK_TOO_LARGE;
		s->discard = true;
		h2_drop_queue(s);
		h2_reset(s, NGHTTP2_CANCEL);
		return;
	}
	if (!status_fits(s))
		malformed(s);
	else if (s->block.status < 200)
		interim(s);
	else
		final(s, end);
	memset(&s->block.fields, 0, sizeof(s->block.fields));
	arena_fini(&s->block_arena); /* the head was the call's only */
}

/* --- the end of a stream -------------------------------------------------------------------- */

enum outcome
back_h2_outcome(struct h2_stream *s, uint32_t code)
{
	struct back_h2 *b = back_h2_of(s->h2);

	if (s->end_in && (code == NGHTTP2_NO_ERROR || s->end_out))
		return OUTCOME_OK; /* RFC 9113 8.1: NO_ERROR asks to stop sending, the answer stands */
	if (s->head_in)
		return OUTCOME_BACK_TRUNCATED;
	if (code == NGHTTP2_REFUSED_STREAM) /* provably not processed, RFC 9113 8.7 */
		return !s->peer_reset && b->goaway_seen ? OUTCOME_BACK_GOAWAY
							: OUTCOME_BACK_REFUSED;
	return s->peer_reset ? OUTCOME_BACK_RESET : OUTCOME_BACK_MALFORMED;
}

/* The connection broke under it. */
enum outcome
back_h2_cut(struct h2_stream *s)
{
	if (s->end_in)
		return OUTCOME_OK;
	if (s->head_in)
		return OUTCOME_BACK_TRUNCATED;
	if (s->id == 0)
		return OUTCOME_BACK_GOAWAY; /* never sent */
	if (s->h2->failing)
		return OUTCOME_BACK_MALFORMED; /* by the backend's fault */
	if (s->reused && s->h2->watch.total == s->rx_mark)
		return OUTCOME_BACK_STALE; /* not a byte since: it had been closed */
	return OUTCOME_BACK_RESET;
}
