/*
 * Where requests and the writer meet: deliveries wait here to be recorded,
 * until their time is over. All locking between the two sides is in here,
 * and what both have to know: how the database does. This is the side of the
 * requests, for any thread; the writer's is in batch.h.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "event/delivery.h"

struct queue;

/*
 * breaker: once a delivery was not recorded in time, refuse those that wait
 * and those after it at once, until a recording commits again. A crowd, so
 * many that wait for the database together, has less time; 0: never.
 */
struct queue *queue_new(bool breaker, size_t crowd) MUST_CHECK;
/* After the end of all threads that use it. */
void queue_free(struct queue *q);
/*
 * For a process that remembers for the next one: called at the end of each
 * round trip, and when requests find out that the database fails; from the
 * thread that finds out. Before any other thread uses the queue.
 */
void queue_on_round_trip(struct queue *q, void (*round_trip)(void *, bool ok),
			 void *context);
/*
 * The last round trip of another process, age ms ago. A failed one opens the
 * breaker if it is fresh; else the first delivery tries the database for all
 * processes, and is reported as failed before, so that the others do not.
 */
void queue_restore_round_trip(struct queue *q, bool ok, int64_t age);

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

#endif
