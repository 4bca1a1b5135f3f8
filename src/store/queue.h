/*
 * Where requests and the writer meet: deliveries wait here to be recorded,
 * until their time is over. All locking between the two sides is in here,
 * and what both have to know: how the database does.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <sys/queue.h>

#include "event/delivery.h"

struct queue;

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

/* The side of the requests; from any thread. */

/*
 * breaker: once a delivery was not recorded in time, refuse those that wait
 * and those after it at once, until a recording commits again. A crowd, so
 * many that wait for the database together, has less time; 0: never.
 */
struct queue *queue_new(bool breaker, size_t crowd) MUST_CHECK;
void queue_free(struct queue *q);

/*
 * Takes d over. False: refused, the breaker is open. Else, once and perhaps
 * before this returns, either answer is called from the writer's thread,
 * never with OUTCOME_UNAVAILABLE, or queue_overdue() gives the context out.
 */
bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn answer, void *context) MUST_CHECK;
/*
 * The context of one that will not be answered any more: its time is over
 * (monotonic_ms()), or it can't be recorded now. NULL: there is none, and *next
 * is when to ask again; queue_overdue_fd() tells where that is sooner.
 */
void *queue_overdue(struct queue *q, int64_t *next) MUST_CHECK;
/* To poll() for reading, and to read empty. */
int queue_overdue_fd(const struct queue *q) MUST_CHECK;
/*
 * Behind what was submitted, and not while the breaker is open; waits until
 * then at the latest. False where the database did not answer to all.
 */
bool queue_submit_and_wait(struct queue *q, struct delivery **deliveries,
			   size_t count, int64_t until,
			   enum outcome *outcomes) MUST_CHECK;
/* By a round trip of the last 5 s, else by one that is waited for, 1 s. */
bool queue_healthy(struct queue *q) MUST_CHECK;
/*
 * All that was submitted is overdue by then, and soon where there is a
 * breaker; drainers wait no more at all. Who polls the alarm has to know.
 */
void queue_set_stop_deadline(struct queue *q, int64_t deadline);
int64_t queue_stop_deadline(struct queue *q) MUST_CHECK;

/* The side of the writer; from its one thread. */

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
/* One that another process made, age ms ago; opens the breaker if fresh. */
void queue_restore_round_trip(struct queue *q, bool ok, int64_t age);
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

/* Ending the writer's thread. */
void queue_stop(struct queue *q);
bool queue_stopping(struct queue *q) MUST_CHECK;
void queue_writer_ended(struct queue *q);
/* False where it has not ended by then. */
bool queue_wait_writer_end(struct queue *q, int64_t deadline) MUST_CHECK;

#endif
