/*
 * Owns the life of a delivery. Knows nothing of queues and answers. The request
 * and the writer hold one reference each, in different threads; the last one
 * to give its reference back frees the delivery.
 */
#include "event/delivery.h"

#include <stdlib.h>

#include "base/alloc.h"

struct delivery *delivery_new(void)
{
	struct delivery *d = xcalloc(1, sizeof(*d));

	atomic_init(&d->refcount, 1);
	return d;
}

struct delivery *delivery_ref(struct delivery *d)
{
	atomic_fetch_add_explicit(&d->refcount, 1, memory_order_relaxed);
	return d;
}

enum event_verdict delivery_parse(struct delivery *d, char *body, size_t length)
{
	char reason[128] = "";
	enum event_verdict verdict;

	d->payload = body;
	d->length = length;
	verdict = event_parse(body, length, &d->event, reason, sizeof(reason));
	if (verdict != EVENT_OK)
		d->reason = xstrdup(reason);
	return verdict;
}

void delivery_unref(struct delivery *d)
{
	/* The thread that frees it must see what the others wrote. */
	if (!d || atomic_fetch_sub_explicit(&d->refcount, 1,
					    memory_order_acq_rel) > 1)
		return;
	event_free(&d->event);
	free(d->reason);
	free(d->refusal);
	free(d->secret_name);
	free(d->payload);
	free(d);
}
