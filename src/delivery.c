#include "delivery.h"

#include <stdlib.h>

struct delivery *delivery_new(void)
{
	return xcalloc(1, sizeof(struct delivery));
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
