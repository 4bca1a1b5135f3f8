/*
 * Owns the entries between submit and outcome, and the one lock between
 * requests and writer. Must not know sockets, libpq or the spool.
 *
 * A live entry is in `waiting` until it has its outcome or is overdue, and in
 * `live` until the writer takes it. A spooled one is in `spooled` until the
 * writer takes it.
 *
 * Threads: workers call queue_submit() and queue_healthy(); the leader polls
 * queue_overdue_fd() and calls queue_overdue(); the drainer blocks in
 * queue_submit_and_wait(). batch.c has the writer's side. No function of others
 * is called and nothing is logged with q->lock held.
 */
#include "store/queue.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "store/queue_state.h"

enum {
	PROBE_TIMEOUT_MS = 1000,
	CHECK_INTERVAL_MS = 100 /* no deadline is shorter */
};

struct queue *queue_new(bool breaker, size_t pressure_threshold)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	q->breaker.enabled = breaker;
	waiting_init(&q->waiting, pressure_threshold, breaker);
	STAILQ_INIT(&q->live);
	STAILQ_INIT(&q->spooled);
	mutex_init(&q->lock);
	cond_init(&q->spooled_done);
	cond_init(&q->probe_done);
	q->writer_wakeup = wakeup_new();
	q->overdue_wakeup = wakeup_new();
	return q;
}

void queue_free(struct queue *q)
{
	cond_destroy(&q->spooled_done);
	cond_destroy(&q->probe_done);
	mutex_destroy(&q->lock);
	close(q->overdue_wakeup);
	close(q->writer_wakeup);
	free(q);
}

void queue_on_round_trip(struct queue *q,
			 void (*round_trip)(void *context, enum round_trip),
			 void *context)
{
	q->on_round_trip = round_trip;
	q->round_trip_context = context;
}

void queue_report_round_trip(const struct queue *q, enum round_trip result)
{
	if (q->on_round_trip)
		q->on_round_trip(q->round_trip_context, result);
}

/* Entries. */

static struct entry *entry_new(struct delivery *d, outcome_fn on_outcome)
{
	struct entry *e = xcalloc(1, sizeof(*e));

	/*
	 * A spooled delivery is not retried when its task is locked: it stays
	 * in the spool until the next drain.
	 */
	e->job = (struct job){ .delivery = d,
			       .quarantine_outcome = OUTCOME_QUARANTINED,
			       .lock_retried = !on_outcome,
			       .entry = e };
	e->on_outcome = on_outcome;
	e->submitted_at = monotonic_ms();
	return e;
}

void queue_entry_free(struct entry *e)
{
	delivery_unref(e->job.delivery);
	free(e);
}

static struct entry_list *list_of(struct queue *q, const struct entry *e)
{
	return e->on_outcome ? &q->live : &q->spooled;
}

/* Adds an entry to its list. Call with q->lock held. */
static void enqueue(struct queue *q, struct entry *e)
{
	STAILQ_INSERT_TAIL(list_of(q, e), e, queued);
	e->is_queued = true;
	q->queued_count++;
	if (q->wake_threshold && q->queued_count >= q->wake_threshold) {
		q->wake_threshold = 0;
		wakeup_signal(q->writer_wakeup);
	}
}

/*
 * Marks an entry that nobody waits for any more. Returns true if the caller
 * must free it; false if the writer will. Call with q->lock held.
 */
static bool abandon(struct queue *q, struct entry *e)
{
	if (e->is_queued) {
		STAILQ_REMOVE(list_of(q, e), e, entry, queued);
		q->queued_count--;
		return true;
	}
	e->abandoned = !e->completed;
	return e->completed;
}

/* Deadlines. */

/*
 * Returns what waiting_first() does; while the breaker is open, each entry is
 * overdue.
 */
static struct entry *first_overdue(const struct queue *q, int64_t *when)
{
	struct entry *e = waiting_first(&q->waiting, when);

	if (e && q->breaker.open)
		*when = INT64_MIN;
	return e;
}

void queue_wake_overdue_watcher(struct queue *q)
{
	int64_t when;

	if (!first_overdue(q, &when) || when >= q->next_check)
		return;
	q->next_check = INT64_MIN;
	wakeup_signal(q->overdue_wakeup);
}

bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn on_outcome, void *context)
{
	struct entry *e = entry_new(d, on_outcome);
	bool open, tries;

	e->deadline = deadline;
	e->context = context;
	mutex_lock(&q->lock);
	open = q->breaker.open;
	tries = !open && breaker_try_half_open(&q->breaker);
	if (!open) {
		waiting_add(&q->waiting, e);
		enqueue(q, e);
		q->no_new_entry = false;
		queue_wake_overdue_watcher(q);
	}
	mutex_unlock(&q->lock);
	/*
	 * Half-open: this process alone finds out whether the database is
	 * back. The others spool meanwhile, because each that waits in vain
	 * leaves a backend behind.
	 */
	if (tries)
		queue_report_round_trip(q, ROUND_TRIP_FAILED);
	if (open)
		queue_entry_free(e);
	return !open;
}

/* Returns when to call queue_overdue() again. Call with q->lock held. */
static int64_t schedule_check(struct queue *q, int64_t now)
{
	bool quiet = q->no_new_entry;
	int64_t when;

	q->no_new_entry = true;
	if (first_overdue(q, &when))
		return when;
	return quiet ? INT64_MAX : now + CHECK_INTERVAL_MS;
}

static void report_open_breaker(struct queue *q)
{
	log_message(LEVEL_ERROR,
		    "circuit breaker open: no commit within the deadline; "
		    "events are spooled until a commit succeeds");
	/* The writer probes from now on. */
	wakeup_signal(q->writer_wakeup);
	queue_report_round_trip(q, ROUND_TRIP_FAILED);
}

void *queue_overdue(struct queue *q, int64_t *next)
{
	int64_t now = monotonic_ms(), when;
	struct entry *e;
	void *context = NULL;
	bool ours = false, opened = false;

	mutex_lock(&q->lock);
	e = first_overdue(q, &when);
	if (e && now >= when) {
		opened = !e->completed && breaker_open(&q->breaker);
		context = e->context;
		waiting_remove(&q->waiting, e);
		ours = abandon(q, e);
		/* The caller looks for the next one at once. */
		*next = INT64_MIN;
	} else {
		*next = schedule_check(q, now);
	}
	q->next_check = *next;
	mutex_unlock(&q->lock);
	if (opened)
		report_open_breaker(q);
	if (ours)
		queue_entry_free(e);
	return context;
}

int queue_overdue_fd(const struct queue *q)
{
	return q->overdue_wakeup;
}

/* Waits for one outcome. Call with q->lock held. */
static void wait_for_outcome(struct queue *q, const struct entry *e,
			     int64_t deadline)
{
	while (!e->completed && q->waiting.stop_deadline == INT64_MAX &&
	       monotonic_ms() < deadline)
		cond_wait(&q->spooled_done, &q->lock, deadline);
}

/* Returns what became of an entry. Call with q->lock held. */
static enum outcome outcome_of(const struct queue *q, const struct entry *e)
{
	if (e->completed)
		return e->job.outcome;
	return e->is_queued || q->waiting.stop_deadline != INT64_MAX
		       ? OUTCOME_UNAVAILABLE
		       : OUTCOME_UNANSWERED;
}

bool queue_submit_and_wait(struct queue *q, struct delivery **deliveries,
			   size_t count, int64_t deadline,
			   enum outcome *outcomes)
{
	struct entry **all = xcalloc(count, sizeof(*all));
	bool answered = true;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		all[i] = entry_new(deliveries[i], NULL);
		enqueue(q, all[i]);
	}
	for (size_t i = 0; i < count; i++) {
		struct entry *e = all[i];

		wait_for_outcome(q, e, deadline);
		answered = answered && e->completed;
		outcomes[i] = outcome_of(q, e);
		if (!abandon(q, e))
			all[i] = NULL;
	}
	if (count && q->breaker.last == ROUND_TRIP_FAILED)
		answered = false;
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		if (all[i])
			queue_entry_free(all[i]);
	}
	free(all);
	return answered;
}

void queue_set_stop_deadline(struct queue *q, int64_t deadline)
{
	mutex_lock(&q->lock);
	q->waiting.stop_deadline = deadline;
	q->waiting.stop_requested_at = monotonic_ms();
	cond_broadcast(&q->spooled_done);
	mutex_unlock(&q->lock);
}

/* Health. */

/*
 * Asks the writer for a round trip, and waits for its end. Returns false if
 * there was none in time. Call with q->lock held.
 */
static bool wait_for_writer_probe(struct queue *q, int64_t deadline)
{
	q->probe_wanted = true;
	wakeup_signal(q->writer_wakeup);
	while (q->probe_wanted && monotonic_ms() < deadline)
		cond_wait(&q->probe_done, &q->lock, deadline);
	return !q->probe_wanted;
}

/*
 * Makes a round trip beside the writer's connection, because an answer on
 * that would come behind the batch in flight. One thread does it for all that
 * wait. Returns false if there was no answer in time. Call with q->lock held.
 */
static bool probe_separately(struct queue *q, int64_t deadline)
{
	bool ok;

	if (q->probing) {
		while (q->probing && monotonic_ms() < deadline)
			cond_wait(&q->probe_done, &q->lock, deadline);
		return !q->probing;
	}
	q->probing = true;
	mutex_unlock(&q->lock);
	ok = q->probe(q->probe_context, deadline);
	mutex_lock(&q->lock);
	q->probing = false;
	if (ok)
		breaker_round_trip(&q->breaker, ROUND_TRIP_OK, monotonic_ms());
	cond_broadcast(&q->probe_done);
	return ok;
}

bool queue_healthy(struct queue *q)
{
	int64_t start = monotonic_ms(), deadline = start + PROBE_TIMEOUT_MS;
	bool healthy, asked = true;

	mutex_lock(&q->lock);
	if (breaker_is_current(&q->breaker, start))
		asked = false;
	else if (q->writer_busy && q->probe)
		healthy = probe_separately(q, deadline);
	else
		healthy = wait_for_writer_probe(q, deadline);
	/*
	 * A missing answer counts as a failed round trip, because otherwise
	 * every /health request would wait for PROBE_TIMEOUT_MS.
	 */
	if (asked && !healthy)
		breaker_round_trip(&q->breaker, ROUND_TRIP_FAILED,
				   monotonic_ms());
	healthy = breaker_is_healthy(&q->breaker);
	mutex_unlock(&q->lock);
	return healthy;
}

void queue_restore_round_trip(struct queue *q, enum round_trip result,
			      int64_t age)
{
	mutex_lock(&q->lock);
	breaker_restore(&q->breaker, result, age, monotonic_ms());
	mutex_unlock(&q->lock);
}
