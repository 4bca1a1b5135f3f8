/*
 * Owns the rule how long a batch waits. Must not know the queue or a clock.
 *
 * A transaction costs as much as 10 to 20 events, so under load the next batch
 * waits up to DELAY_MS for the clients that are answered now to send again.
 * Below DELAY_MIN_EVENTS there is no delay.
 */
#include "store/batching_delay.h"

enum {
	DELAY_MIN_EVENTS = 16, /* fewer at a time are not held up */
	DELAY_MS = 3 /* from one batch to the next, at most */
};

void batching_delay_set(struct batching_delay *d, size_t under_way, size_t max,
			int64_t sent)
{
	d->threshold = under_way < DELAY_MIN_EVENTS ? 1
						    : under_way - under_way / 4;
	if (d->threshold > max)
		d->threshold = max;
	d->until = sent + DELAY_MS;
}

bool batching_delay_holds(const struct batching_delay *d, size_t length,
			  int64_t now)
{
	return d->threshold > 1 && now < d->until && length < d->threshold;
}
