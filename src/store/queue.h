/*
 * The queue between requests and the writer: deliveries wait here to be
 * recorded, each until its deadline. All locking between the two sides is in
 * here. This header has the side of the requests, for any thread; batch.h has
 * the writer's.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "event/delivery.h"
#include "store/breaker.h"

struct queue;

/*
 * Returns an empty queue. With a breaker, a delivery that was not recorded in
 * time opens the circuit breaker; then the entries of the queue and later
 * deliveries are refused at once, until a recording commits again. While
 * pressure_threshold deliveries wait, each waits for 500 ms at most; 0 switches
 * this off.
 */
struct queue *queue_new(bool breaker, size_t pressure_threshold) MUST_CHECK;
/* Frees the queue, after the end of all threads that use it. */
void queue_free(struct queue *q);
/*
 * Sets a function that is called at the end of each round trip, and when
 * requests find out that the database fails, from the thread that finds out.
 * For a process that remembers for the next one. Call this before any other
 * thread uses the queue.
 */
void queue_on_round_trip(struct queue *q,
			 void (*round_trip)(void *context, enum round_trip),
			 void *context);
/*
 * Takes over the last round trip of another process, as breaker_restore() does.
 */
void queue_restore_round_trip(struct queue *q, enum round_trip result,
			      int64_t age);

/*
 * Takes d over and waits for nothing. Returns false if the breaker is open: d
 * is refused. Returns true otherwise; then exactly one of two happens, once,
 * and possibly before this returns. Either the writer's thread calls
 * on_outcome, never with OUTCOME_UNAVAILABLE; or queue_overdue() returns the
 * context. The deadline is ms, monotonic.
 */
bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn on_outcome, void *context) MUST_CHECK;
/*
 * Returns the context of the next delivery that is overdue or that the writer
 * can't record now; the caller now owns its reply. Returns NULL if there is
 * none. Then call again at *next (ms, monotonic), or when queue_overdue_fd()
 * becomes readable.
 */
void *queue_overdue(struct queue *q, int64_t *next) MUST_CHECK;
/* Returns an eventfd that the caller polls, and clears by wakeup_clear(). */
int queue_overdue_fd(const struct queue *q) MUST_CHECK;
/*
 * Takes over deliveries out of the spool, which are recorded behind live ones
 * and not while the breaker is open. Waits for all outcomes until the deadline
 * (ms, monotonic). Returns true if the database answered for each; false if
 * the next ones need not be tried now. OUTCOME_UNANSWERED says that a delivery
 * was in flight at the deadline.
 */
bool queue_submit_and_wait(struct queue *q, struct delivery **deliveries,
			   size_t count, int64_t deadline,
			   enum outcome *outcomes) MUST_CHECK;
/*
 * Returns true if the database records: by the last round trip if that is at
 * most 5 s old, otherwise by a new one, for which this waits 1 s at most.
 */
bool queue_healthy(struct queue *q) MUST_CHECK;
/*
 * Starts the shutdown. Every delivery is overdue at the deadline (ms,
 * monotonic), or within 500 ms if there is a breaker;
 * queue_submit_and_wait() returns at once. This does not wake the thread that
 * polls queue_overdue_fd(); the caller does.
 */
void queue_set_stop_deadline(struct queue *q, int64_t deadline);

#endif
