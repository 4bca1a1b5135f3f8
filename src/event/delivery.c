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
	/* The last one has to see what the others did before. */
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
