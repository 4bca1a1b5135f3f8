/*
 * The queue of costly signature checks. With thousands of secrets, a forged
 * body of 64 KiB costs a quarter of a second of a processor. Few such checks
 * run at a time. The others wait here without a thread, the cheapest first, so
 * that a flood of large bodies does not delay the usual small event.
 */
#ifndef VERIFY_QUEUE_H
#define VERIFY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct exchange;
struct verify_queue;

/* Returns an empty queue. max_running checks run at a time, at least 1. */
struct verify_queue *verify_queue_new(unsigned max_running) MUST_CHECK;
/* Frees q, when all threads that use it have ended. q may be NULL. */
void verify_queue_free(struct verify_queue *q);
/* Returns the number of processors but one, and at least 1. */
unsigned verify_queue_processors(void) MUST_CHECK;

/*
 * Enters an exchange whose check costs that much and is of no use after the
 * deadline (ms, monotonic). Returns true if the caller is to check it now, and
 * has to call verify_queue_next() after that. Returns false if it waits; then
 * it belongs to the queue.
 */
bool verify_queue_enter(struct verify_queue *q, struct exchange *x,
			uint64_t cost, int64_t deadline) MUST_CHECK;
/*
 * Returns the next exchange for the caller of verify_queue_enter(), with
 * *expired set if its deadline is over; NULL if none waits.
 */
struct exchange *verify_queue_next(struct verify_queue *q,
				   bool *expired) MUST_CHECK;

/* Moves all later deadlines to this one (ms, monotonic), from now on. */
void verify_queue_set_stop_deadline(struct verify_queue *q, int64_t deadline);

/*
 * Keeps the name of a secret that matched, to be tried first.
 * verify_queue_recent() returns the i-th such name, which the caller frees, or
 * NULL.
 */
void verify_queue_remember(struct verify_queue *q, const char *secret);
char *verify_queue_recent(struct verify_queue *q, size_t i) MUST_CHECK;

#endif
