/*
 * Where requests and the writer meet: deliveries wait here to be recorded,
 * and those who brought them for the outcome. All locking between the two
 * sides is in here, and what both have to know: how the database does.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <sys/queue.h>

#include "delivery.h"

struct queue;

/* A delivery on its way; the writer's to change between take and answer. */
struct job {
	struct delivery *delivery;
	enum outcome outcome; /* counts from queue_finish() on */
	enum outcome on_quarantine; /* where the quarantine is its end */
	bool was_busy; /* its task was locked once already */
	struct waiter *waiter; /* the queue's own */
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

/* Waits until deadline (clock_ms()) at the latest; takes d over. */
enum outcome queue_submit(struct queue *q, struct delivery *d,
			  int64_t deadline) MUST_CHECK;
/*
 * Behind what was submitted, and not while the breaker is open; waits until
 * then at the latest. False where the database did not answer to all.
 */
bool queue_drain(struct queue *q, struct delivery **deliveries, size_t count,
		 int64_t until, enum outcome *outcomes) MUST_CHECK;
/* By a round trip of the last 5 s, else by one that is waited for, 1 s. */
bool queue_healthy(struct queue *q) MUST_CHECK;
/*
 * Every wait of a submitter ends by then, and soon where there is a breaker;
 * those of drainers at once.
 */
void queue_hurry(struct queue *q, int64_t deadline);
int64_t queue_hurried(struct queue *q) MUST_CHECK;

/* The side of the writer; from its one thread. */

struct batch *batch_new(size_t count) MUST_CHECK;

/*
 * Up to max live deliveries; out of the backlog where there are none, and
 * every few times where there are. NULL: nothing.
 */
struct batch *queue_take(struct queue *q, size_t max) MUST_CHECK;
/* Without those that nobody waits for any more; NULL: none is left. */
struct batch *queue_prune(struct queue *q, struct batch *b) MUST_CHECK;
/*
 * Answers all jobs of the batch with the outcomes that stand in them, and
 * frees it; places that are NULL by now are passed over.
 */
void queue_finish(struct queue *q, struct batch *b);

/* A round trip's end: for queue_healthy(). */
void queue_note_trip(struct queue *q, bool ok);
/* One that another process made, age ms ago; opens the breaker if fresh. */
void queue_recall_trip(struct queue *q, bool ok, int64_t age);
bool queue_wants_probe(struct queue *q) MUST_CHECK;
/* A recording committed: closes the breaker. */
void queue_committed(struct queue *q);
bool queue_is_open(struct queue *q) MUST_CHECK;

/* Something can be taken. */
bool queue_has_work(struct queue *q) MUST_CHECK;
size_t queue_lined_up(struct queue *q) MUST_CHECK;
/* To poll() for reading: submitting wakes the writer while it sleeps. */
int queue_wake_fd(const struct queue *q) MUST_CHECK;
/* Submitting is a reason to wake up once so many are in line; 0: never. */
void queue_asleep(struct queue *q, size_t enough);
void queue_awake(struct queue *q, bool poked);
/* Wakes the writer. */
void queue_poke(struct queue *q);

/* Ending the writer's thread. */
void queue_stop(struct queue *q);
bool queue_stopping(struct queue *q) MUST_CHECK;
void queue_ended(struct queue *q);
/* False where it has not ended by then. */
bool queue_wait_end(struct queue *q, int64_t deadline) MUST_CHECK;

#endif
