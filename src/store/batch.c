/*
 * Owns the writer's side of the queue: which deliveries are recorded together,
 * and what becomes of each. queue.c owns the other side. Must not know
 * sockets, libpq or the spool.
 *
 * Threads: the writer calls all of batch.h, and calls on_outcome of live
 * entries, without q->lock held. An entry that is overdue while the writer has
 * it is marked abandoned, and the writer frees it.
 */
#include "store/batch.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/threads.h"
#include "store/queue_state.h"

enum {
	BATCH_BYTES = 8 * 1024 * 1024,
	SPOOLED_BATCH = 64, /* so that live events wait little behind it */
	LIVE_BATCHES_MAX = 4 /* then spooled ones have their turn */
};

void queue_set_probe(struct queue *q,
		     bool (*probe)(void *context, int64_t deadline),
		     void *context)
{
	q->probe = probe;
	q->probe_context = context;
}

struct batch *batch_new(size_t count)
{
	struct batch *b;

	if (count > (SIZE_MAX - sizeof(*b)) / sizeof(b->jobs[0]))
		fatal("out of memory");
	return xcalloc(1, sizeof(*b) + count * sizeof(b->jobs[0]));
}

/*
 * Moves entries from a list into a new batch, up to max and BATCH_BYTES. Call
 * with q->lock held.
 */
static struct batch *dequeue_batch(struct entry_list *list, size_t max)
{
	struct batch *b = batch_new(max);
	struct entry *e;
	size_t bytes = 0;

	while (b->count < max && (e = STAILQ_FIRST(list))) {
		bytes += e->job.delivery->length;
		if (b->count && bytes > BATCH_BYTES)
			break;
		STAILQ_REMOVE_HEAD(list, queued);
		e->is_queued = false;
		b->jobs[b->count++] = &e->job;
	}
	return b;
}

struct batch *queue_take(struct queue *q, size_t max)
{
	struct batch *b = NULL;
	bool live, spooled;

	mutex_lock(&q->lock);
	live = !STAILQ_EMPTY(&q->live);
	spooled = !STAILQ_EMPTY(&q->spooled) && !q->breaker.open;
	if (spooled && (!live || q->live_batches >= LIVE_BATCHES_MAX)) {
		b = dequeue_batch(&q->spooled,
				  max < SPOOLED_BATCH ? max : SPOOLED_BATCH);
		b->from_spool = true;
		q->live_batches = 0;
	} else if (live) {
		b = dequeue_batch(&q->live, max);
		q->live_batches = spooled ? q->live_batches + 1 : 0;
	}
	q->queued_count -= b ? b->count : 0;
	mutex_unlock(&q->lock);
	return b;
}

struct batch *queue_drop_abandoned(struct queue *q, struct batch *b)
{
	size_t kept = 0;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i]->entry->abandoned)
			queue_entry_free(b->jobs[i]->entry);
		else
			b->jobs[kept++] = b->jobs[i];
	}
	mutex_unlock(&q->lock);
	b->count = kept;
	if (kept)
		return b;
	free(b);
	return NULL;
}

/*
 * Returns true if queue_complete() goes on with the entry: reports the outcome
 * unless it is abandoned, and frees it. Call with q->lock held.
 */
static bool complete(struct queue *q, struct entry *e)
{
	if (e->abandoned)
		return true;
	e->completed = true;
	if (!e->on_outcome)
		return false;
	if (e->job.outcome != OUTCOME_UNAVAILABLE &&
	    e->job.outcome != OUTCOME_REFUSED) {
		waiting_remove(&q->waiting, e);
		return true;
	}
	/* Nobody records it: queue_overdue() returns it next. */
	waiting_expire(&q->waiting, e);
	queue_wake_overdue_watcher(q);
	return false;
}

void queue_complete(struct queue *q, struct batch *b)
{
	size_t count = 0;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i] && complete(q, b->jobs[i]->entry))
			b->jobs[count++] = b->jobs[i];
	}
	cond_broadcast(&q->spooled_done);
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		struct entry *e = b->jobs[i]->entry;

		if (!e->abandoned)
			e->on_outcome(e->context, e->job.outcome);
		queue_entry_free(e);
	}
	free(b);
}

void queue_round_trip_done(struct queue *q, enum round_trip result)
{
	/* First, because the threads that wait may end the process. */
	queue_report_round_trip(q, result);
	mutex_lock(&q->lock);
	breaker_round_trip(&q->breaker, result, monotonic_ms());
	q->probe_wanted = false;
	cond_broadcast(&q->probe_done);
	mutex_unlock(&q->lock);
}

void queue_forget_round_trip(struct queue *q)
{
	mutex_lock(&q->lock);
	breaker_forget(&q->breaker);
	mutex_unlock(&q->lock);
}

void queue_close_breaker(struct queue *q)
{
	bool closed;

	mutex_lock(&q->lock);
	closed = breaker_close(&q->breaker);
	mutex_unlock(&q->lock);
	if (closed)
		log_message(LEVEL_INFO, "circuit breaker closed: the database "
					"commits again");
}

struct queue_view queue_look(struct queue *q)
{
	struct queue_view view;

	mutex_lock(&q->lock);
	view = (struct queue_view){
		.length = q->queued_count,
		.has_work = !STAILQ_EMPTY(&q->live) ||
			    (!STAILQ_EMPTY(&q->spooled) && !q->breaker.open),
		.breaker_open = q->breaker.open,
		.probe_wanted = q->probe_wanted,
		.stopping = q->stopping,
		.stop_deadline = q->waiting.stop_deadline,
	};
	mutex_unlock(&q->lock);
	return view;
}

int queue_writer_fd(const struct queue *q)
{
	return q->writer_wakeup;
}

void queue_arm_wakeup(struct queue *q, size_t threshold)
{
	mutex_lock(&q->lock);
	q->wake_threshold = threshold;
	q->writer_busy = threshold == 0;
	mutex_unlock(&q->lock);
}

void queue_disarm_wakeup(struct queue *q, bool woken)
{
	mutex_lock(&q->lock);
	q->wake_threshold = 0;
	mutex_unlock(&q->lock);
	if (woken)
		wakeup_clear(q->writer_wakeup);
}

void queue_stop(struct queue *q)
{
	mutex_lock(&q->lock);
	q->stopping = true;
	mutex_unlock(&q->lock);
	wakeup_signal(q->writer_wakeup);
}
