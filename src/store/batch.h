/*
 * The writer's side of the queue, for its one thread: the writer takes
 * batches out, and gives each back with the outcomes.
 */
#ifndef BATCH_H
#define BATCH_H

#include <sys/queue.h>

#include "store/queue.h"

/* A delivery between queue_take() and queue_complete(), the writer's. */
struct job {
	struct delivery *delivery;
	enum outcome outcome; /* for queue_complete() */
	enum outcome quarantine_outcome; /* once it is in the quarantine */
	bool lock_retried; /* its task was locked once already */
	unsigned failures; /* of transactions that it was in */
	struct entry *entry; /* the queue's own */
};

/* The jobs of one transaction. */
struct batch {
	STAILQ_ENTRY(batch) next;
	bool from_spool; /* all of them: they may wait, and hold up nothing */
	size_t count;
	struct job *jobs[];
};

struct batch *batch_new(size_t count) MUST_CHECK;

/*
 * Returns up to max live deliveries; from the spool if there are none, and
 * every few times if there are. Returns NULL if there is nothing to take.
 */
struct batch *queue_take(struct queue *q, size_t max) MUST_CHECK;
/*
 * Removes the jobs that nobody waits for any more. Returns NULL, with the
 * batch freed, if none is left.
 */
struct batch *queue_drop_abandoned(struct queue *q, struct batch *b) MUST_CHECK;
/*
 * Reports each job's outcome and frees the batch. A live delivery with
 * OUTCOME_UNAVAILABLE or OUTCOME_REFUSED becomes overdue instead. Jobs that
 * are NULL by now are skipped.
 */
void queue_complete(struct queue *q, struct batch *b);

/* Notes the end of a round trip, for queue_healthy(). */
void queue_round_trip_done(struct queue *q, enum round_trip result);
/* Forgets the last one, because it no longer tells how the database is. */
void queue_forget_round_trip(struct queue *q);
/* Closes the breaker, because a recording committed. */
void queue_close_breaker(struct queue *q);
/*
 * Sets how queue_healthy() makes a round trip of its own while the writer's
 * connection is busy. The function gets a deadline (ms, monotonic), waits for
 * no other, and is called from the thread that asks. Call this before any other
 * thread uses the queue.
 */
void queue_set_probe(struct queue *q,
		     bool (*probe)(void *context, int64_t deadline),
		     void *context);

/* One moment of the queue, for the writer's loop. */
struct queue_view {
	size_t length; /* live and from the spool */
	bool has_work; /* queue_take() returns something */
	bool breaker_open;
	bool probe_wanted; /* queue_healthy() waits for a round trip */
	bool stopping;
	int64_t stop_deadline; /* ms, monotonic; INT64_MAX: none */
};

struct queue_view queue_look(struct queue *q) MUST_CHECK;
/* Returns the eventfd that the writer polls while it sleeps. */
int queue_writer_fd(const struct queue *q) MUST_CHECK;
/*
 * Arms the wake-up of the writer, which is about to sleep: it is woken when the
 * queue has so many entries; never if 0, because a transaction is in flight
 * whose end wakes it.
 */
void queue_arm_wakeup(struct queue *q, size_t threshold);
/* Ends what queue_arm_wakeup() began. woken: queue_writer_fd() was readable. */
void queue_disarm_wakeup(struct queue *q, bool woken);

/* Asks the writer to end. */
void queue_stop(struct queue *q);

#endif
