/*
 * The batching delay: under load the next batch waits a moment for more events.
 * Pure functions; times are ms, monotonic.
 */
#ifndef BATCHING_DELAY_H
#define BATCHING_DELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

/* Starts as { 0 }: no delay. */
struct batching_delay {
	int64_t until;
	size_t threshold; /* so many entries in the queue end it */
};

/*
 * Sets the delay of the next batch, when one that was sent at `sent` has
 * committed. under_way counts its events and those in the queue; a batch holds
 * max events.
 */
void batching_delay_set(struct batching_delay *d, size_t under_way, size_t max,
			int64_t sent);
/* Returns true while a queue of `length` entries is to grow. */
bool batching_delay_holds(const struct batching_delay *d, size_t length,
			  int64_t now) MUST_CHECK;

#endif
