/*
 * What control and workers say to each other: orders go to every worker and come back carried out,
 * letters about candidates come in.  See worker.h.
 *
 *      post_all() -> a copy into each worker's mailbox -> order_carry_out() there
 *                 -> order_done() here -> when it was the last: the round's done()
 *
 * Control thread.
 */
#include <stdlib.h>

#include "proxy/base/obj.h"
#include "proxy/process/control_private.h"

void
order_done(struct letter *l, void *control)
{
	struct order *o = (struct order *)(void *)l;
	struct round *r = o->round;

	(void)control;
	free(o);
	if (r != NULL && --r->left == 0)
		r->done(r);
}

/* A copy of the order to every worker; done() when all have carried it out. */
static void
post_all(struct control *c, const struct order *order, struct round *r)
{
	if (r != NULL)
		r->left = c->n_started;
	for (unsigned i = 0; i < c->n_started; i++) {
		struct order *o = calloc(1, sizeof(*o));

		ENSURE(o != NULL);
		*o = *order;
		o->letter.deliver = order_carry_out;
		o->worker = c->workers[i];
		o->round = r;
		if (o->kind == ORDER_ADOPT) {
			o->snapshot = c->roster.current;
			atomic_fetch_add(&o->snapshot->holders, 1);
		}
		mailbox_post(worker_mailbox(c->workers[i]), &o->letter);
	}
}

void
control_order(struct control *c, enum order_kind kind, struct round *r)
{
	struct order o = {.kind = kind};

	post_all(c, &o, r);
}

void
control_leave(
    struct control *c, const struct service *s, enum color color, bool rescue, struct round *r)
{
	struct order o = {
	    .kind = ORDER_LEAVE, .service = s->index, .color = color, .rescue = rescue};

	post_all(c, &o, r);
}

void
control_close_backend(struct control *c, const struct backend *b)
{
	struct order o = {.kind = ORDER_CLOSE, .backend = b};

	post_all(c, &o, NULL);
}

void
control_hears_failed(struct letter *letter, void *control)
{
	struct failed_letter *l = (struct failed_letter *)(void *)letter;
	struct control *c = control;

	release_failed(&c->releases[l->service], &l->failure, l->since);
	free(l);
}

void
control_hears_tripped(struct letter *letter, void *control)
{
	struct tripped_letter *l = (struct tripped_letter *)(void *)letter;
	struct control *c = control;

	release_tripped(&c->releases[l->service], &l->verdict);
	free(l);
}

int
control_publish(struct control *c, struct round *r)
{
	if (roster_snapshot(&c->roster) == -1)
		return -1;
	control_order(c, ORDER_ADOPT, r);
	return 0;
}
