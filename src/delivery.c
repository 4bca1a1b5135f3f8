#include "delivery.h"

#include <stdlib.h>

struct delivery *delivery_new(void)
{
	return xcalloc(1, sizeof(struct delivery));
}

enum event_verdict delivery_parse(struct delivery *d, const char *body,
				  size_t length)
{
	char reason[128] = "";
	enum event_verdict verdict;

	d->payload = xstrndup(body, length);
	d->length = length;
	verdict = event_parse(d->payload, length, &d->event, reason,
			      sizeof(reason));
	if (verdict != EVENT_OK)
		d->reason = xstrdup(reason);
	return verdict;
}

void delivery_free(struct delivery *d)
{
	if (!d)
		return;
	event_free(&d->event);
	free(d->reason);
	free(d->secret_name);
	free(d->payload);
	free(d);
}
