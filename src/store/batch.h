/*
 * The writer's side of the queue, for its one thread: what it takes out, in
 * batches, and gives back with an outcome.
 */
#ifndef BATCH_H
#define BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "base/macros.h"
#include "store/queue.h"

/* A delivery on its way; the writer's to change between take and answer. */
struct job {
	struct delivery *delivery;
	enum outcome outcome; /* counts from queue_complete() on */
	enum outcome quarantine_outcome; /* where the quarantine is its end */
	bool lock_retried; /* its task was locked once already */
	struct entry *entry; /* the queue's own */
};

/* What goes into one transaction. */
struct batch {
	STAILQ_ENTRY(batch) next;
	size_t count;
	struct job *jobs[];
};

struct batch *batch_new(size_t count) MUST_CHECK;

/*
 * Up to max live deliveries; out of the backlog where there are none, and
 * every few times where there are. NULL: nothing.
 */
struct batch *queue_take(struct queue *q, size_t max) MUST_CHECK;
/* Without those that nobody waits for any more; NULL: none is left. */
struct batch *queue_drop_abandoned(struct queue *q, struct batch *b) MUST_CHECK;
/*
 * Answers all jobs of the batch with the outcomes that stand in them, or
 * makes them overdue where that is OUTCOME_UNAVAILABLE, and frees it; places
 * that are NULL by now are passed over.
 */
void queue_complete(struct queue *q, struct batch *b);

/* A round trip's end: for queue_healthy(). */
void queue_round_trip_done(struct queue *q, bool ok);
bool queue_probe_wanted(struct queue *q) MUST_CHECK;
/* A recording committed: closes the breaker. */
void queue_close_breaker(struct queue *q);
bool queue_breaker_open(struct queue *q) MUST_CHECK;

/* Something can be taken. */
bool queue_has_work(struct queue *q) MUST_CHECK;
size_t queue_length(struct queue *q) MUST_CHECK;
/* To poll() for reading: submitting wakes the writer while it sleeps. */
int queue_writer_fd(const struct queue *q) MUST_CHECK;
/* Submitting is a reason to wake up once so many are in line; 0: never. */
void queue_arm_wakeup(struct queue *q, size_t enough);
void queue_disarm_wakeup(struct queue *q, bool poked);

/* The writer is to end. */
void queue_stop(struct queue *q);
bool queue_stopping(struct queue *q) MUST_CHECK;

#endif
