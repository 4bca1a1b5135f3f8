#include "store/batch.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"

enum {
	BATCH_BYTES = 8 * 1024 * 1024,
	BACKLOG_BATCH = 64, /* so that live events wait little behind it */
	LIVE_BATCHES_MAX =
		4, /* then the backlog has one, or load would starve it */
	ROUND_TRIP_VALID_MS =
		5000, /* how old a round trip may be for /health */
	RESTORE_OPEN_MS =
		750, /* another's failed one opens the breaker so long */
	PROBE_TIMEOUT_MS = 1000,
	PRESSURE_TIMEOUT_MS =
		500, /* those who keep others waiting wait no longer */
	CHECK_INTERVAL_MS =
		100, /* no deadline is shorter: an alarm is seldom needed */
	PRESSURE_MIN = 8 /* fewer are no crowd */
};

/* Whoever waits for a job. */
struct entry {
	TAILQ_ENTRY(entry) by_deadline; /* live ones, in queue.waiters */
	STAILQ_ENTRY(entry) queued; /* in queue.live or .backlog */
	struct job job;
	outcome_fn
		answer; /* NULL: of the backlog, queue_submit_and_wait() waits */
	void *context;
	int64_t submitted_at; /* monotonic_ms() */
	int64_t deadline;
	bool is_queued;
	bool completed; /* still in queue.waiters: it can't be recorded now */
	bool abandoned; /* nobody waits any more; the writer frees it */
};

STAILQ_HEAD(entry_list, entry);

struct queue {
	pthread_mutex_t lock;
	TAILQ_HEAD(waiters, entry) by_deadline; /* by deadline */
	struct entry_list live;
	struct entry_list backlog;
	unsigned live_batches; /* in a row, while the backlog waited */
	size_t queued_count; /* in both lines */
	int writer_wakeup; /* eventfd */
	size_t wake_threshold; /* so many in line wake the writer; 0: no number does */
	int overdue_wakeup; /* eventfd */
	int64_t next_check; /* when queue_overdue() is called at the latest */
	bool no_new_entry; /* nothing was submitted since it was called */
	pthread_cond_t backlog_done;
	bool stopping;
	int64_t stop_deadline; /* monotonic_ms() at which every wait ends */
	int64_t stop_requested_at; /* when that was said; 0: never */

	bool breaker_enabled;
	bool breaker_open;
	bool half_open; /* the next delivery tries for all processes */
	size_t pressure_threshold; /* so many live ones are one */
	size_t deadline_count; /* live ones */
	int64_t round_trip_at; /* monotonic_ms() of the last round trip */
	bool round_trip_ok;
	bool round_trip_known;
	bool probe_wanted;
	pthread_cond_t probe_done;

	void (*on_round_trip)(void *context, bool ok); /* NULL: nobody asks */
	void *round_trip_context;
};

struct queue *queue_new(bool breaker, size_t crowd)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	q->breaker_enabled = breaker;
	q->pressure_threshold = crowd;
	q->stop_deadline = INT64_MAX;
	TAILQ_INIT(&q->by_deadline);
	STAILQ_INIT(&q->live);
	STAILQ_INIT(&q->backlog);
	mutex_init(&q->lock);
	cond_init(&q->backlog_done);
	cond_init(&q->probe_done);
	q->writer_wakeup = wakeup_new();
	q->overdue_wakeup = wakeup_new();
	return q;
}

void queue_free(struct queue *q)
{
	cond_destroy(&q->backlog_done);
	cond_destroy(&q->probe_done);
	mutex_destroy(&q->lock);
	close(q->overdue_wakeup);
	close(q->writer_wakeup);
	free(q);
}

void queue_on_round_trip(struct queue *q, void (*round_trip)(void *, bool ok),
			 void *context)
{
	q->on_round_trip = round_trip;
	q->round_trip_context = context;
}

/* Not under the lock. */
static void tell_round_trip(const struct queue *q, bool ok)
{
	if (q->on_round_trip)
		q->on_round_trip(q->round_trip_context, ok);
}

/* The side of the requests. */

static struct entry *entry_new(struct delivery *d, outcome_fn answer)
{
	struct entry *w = xcalloc(1, sizeof(*w));

	/* If the task of one out of the spool is locked, it can wait there. */
	w->job = (struct job){ .delivery = d,
			       .quarantine_outcome = OUTCOME_QUARANTINED,
			       .lock_retried = !answer,
			       .entry = w };
	w->answer = answer;
	w->submitted_at = monotonic_ms();
	return w;
}

static void entry_free(struct entry *w)
{
	delivery_unref(w->job.delivery);
	free(w);
}

static struct entry_list *list_of(struct queue *q, const struct entry *w)
{
	return w->answer ? &q->live : &q->backlog;
}

/* Under the lock. */
static void enqueue(struct queue *q, struct entry *w)
{
	STAILQ_INSERT_TAIL(list_of(q, w), w, queued);
	w->is_queued = true;
	q->queued_count++;
	if (q->wake_threshold && q->queued_count >= q->wake_threshold) {
		q->wake_threshold = 0;
		wakeup_signal(q->writer_wakeup);
	}
}

/* Under the lock: nobody waits for it any more. Whether to free it is ours. */
static bool abandon(struct queue *q, struct entry *w)
{
	if (w->is_queued) {
		STAILQ_REMOVE(list_of(q, w), w, entry, queued);
		q->queued_count--;
		return true;
	}
	w->abandoned = !w->completed;
	return w->completed;
}

/* Under the lock. Deadlines nearly always come in order. */
static void add_deadline(struct queue *q, struct entry *w)
{
	struct entry *before = TAILQ_LAST(&q->by_deadline, waiters);

	while (before && before->deadline > w->deadline)
		before = TAILQ_PREV(before, waiters, by_deadline);
	if (before)
		TAILQ_INSERT_AFTER(&q->by_deadline, before, w, by_deadline);
	else
		TAILQ_INSERT_HEAD(&q->by_deadline, w, by_deadline);
	q->deadline_count++;
}

/* Under the lock. */
static void remove_deadline(struct queue *q, struct entry *w)
{
	TAILQ_REMOVE(&q->by_deadline, w, by_deadline);
	q->deadline_count--;
}

/* Under the lock: those who wait need not wait any longer, either. */
static void open_breaker(struct queue *q)
{
	if (!q->breaker_enabled || q->breaker_open)
		return;
	q->breaker_open = true;
	log_message(LEVEL_ERROR, "the database is too slow or away: events go "
				 "to the spool until it records again");
	/* The writer tries on its own from now on. */
	wakeup_signal(q->writer_wakeup);
}

/* Under the lock. */
static bool under_pressure(const struct queue *q)
{
	return q->pressure_threshold >= PRESSURE_MIN &&
	       q->deadline_count >= q->pressure_threshold;
}

/*
 * Under the lock: until when one may wait. Where nearly all who could take
 * requests wait, or the process that comes after us does, requests pile up
 * before the door, more than it has room for; so the database is not given
 * as long.
 */
static int64_t effective_deadline(const struct queue *q, const struct entry *w)
{
	int64_t until = min_i64(w->deadline, q->stop_deadline);

	if (q->breaker_open)
		return INT64_MIN;
	if (!q->breaker_enabled)
		return until;
	if (q->stop_requested_at)
		until = min_i64(until,
				max_i64(w->submitted_at, q->stop_requested_at) +
					PRESSURE_TIMEOUT_MS);
	if (under_pressure(q))
		until = min_i64(until, w->submitted_at + PRESSURE_TIMEOUT_MS);
	return until;
}

/* Under the lock: whoever calls queue_overdue() may have to do so sooner. */
static void wake_deadline_watcher(struct queue *q)
{
	const struct entry *w = TAILQ_FIRST(&q->by_deadline);

	if (effective_deadline(q, w) >= q->next_check)
		return;
	q->next_check = INT64_MIN;
	wakeup_signal(q->overdue_wakeup);
}

bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn answer, void *context)
{
	struct entry *w = entry_new(d, answer);
	bool open, half_open;

	w->deadline = deadline;
	w->context = context;
	mutex_lock(&q->lock);
	half_open = q->half_open;
	q->half_open = false;
	mutex_unlock(&q->lock);
	/*
	 * Those after us go to the spool at once while we find out whether the
	 * database is back: each that waits in vain leaves a backend behind.
	 */
	if (half_open)
		tell_round_trip(q, false);
	mutex_lock(&q->lock);
	open = q->breaker_open;
	if (!open) {
		add_deadline(q, w);
		enqueue(q, w);
		q->no_new_entry = false;
		wake_deadline_watcher(q);
	}
	mutex_unlock(&q->lock);
	if (open)
		entry_free(w);
	return !open;
}

/* Under the lock. */
static int64_t schedule_check(struct queue *q, int64_t now)
{
	const struct entry *w = TAILQ_FIRST(&q->by_deadline);
	bool quiet = q->no_new_entry;

	q->no_new_entry = true;
	if (w)
		return effective_deadline(q, w);
	return quiet ? INT64_MAX : now + CHECK_INTERVAL_MS;
}

void *queue_overdue(struct queue *q, int64_t *next)
{
	int64_t now = monotonic_ms();
	struct entry *w;
	void *context = NULL;
	bool ours = false, was_open, opened;

	mutex_lock(&q->lock);
	was_open = q->breaker_open;
	w = TAILQ_FIRST(&q->by_deadline);
	if (w && now >= effective_deadline(q, w)) {
		if (!w->completed)
			open_breaker(q);
		context = w->context;
		remove_deadline(q, w);
		ours = abandon(q, w);
	}
	/* Whoever gets one is to look for the next one at once. */
	*next = context ? INT64_MIN : schedule_check(q, now);
	q->next_check = *next;
	opened = q->breaker_open && !was_open;
	mutex_unlock(&q->lock);
	if (opened)
		tell_round_trip(q, false);
	if (ours)
		entry_free(w);
	return context;
}

int queue_overdue_fd(const struct queue *q)
{
	return q->overdue_wakeup;
}

bool queue_submit_and_wait(struct queue *q, struct delivery **deliveries,
			   size_t count, int64_t until, enum outcome *outcomes)
{
	struct entry **all = xcalloc(count, sizeof(*all));
	bool answered = true;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		all[i] = entry_new(deliveries[i], NULL);
		enqueue(q, all[i]);
	}
	for (size_t i = 0; i < count; i++) {
		struct entry *w = all[i];

		while (!w->completed && q->stop_deadline == INT64_MAX &&
		       monotonic_ms() < until)
			cond_wait(&q->backlog_done, &q->lock, until);
		answered = answered && w->completed;
		outcomes[i] = w->completed ? w->job.outcome
					   : OUTCOME_UNAVAILABLE;
		if (!abandon(q, w))
			all[i] = NULL;
	}
	answered = answered && (count == 0 || q->round_trip_ok);
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		if (all[i])
			entry_free(all[i]);
	}
	free(all);
	return answered;
}

bool queue_healthy(struct queue *q)
{
	int64_t start = monotonic_ms(), until = start + PROBE_TIMEOUT_MS;
	bool ok;

	mutex_lock(&q->lock);
	if (!q->breaker_open &&
	    (!q->round_trip_known ||
	     start - q->round_trip_at > ROUND_TRIP_VALID_MS)) {
		q->probe_wanted = true;
		wakeup_signal(q->writer_wakeup);
		while (q->probe_wanted && monotonic_ms() < until)
			cond_wait(&q->probe_done, &q->lock, until);
		/* None is an answer too, or each who asks waits for it. */
		if (q->probe_wanted) {
			q->round_trip_at = monotonic_ms();
			q->round_trip_ok = false;
			q->round_trip_known = true;
		}
		ok = q->round_trip_ok;
	} else {
		ok = !q->breaker_open && q->round_trip_ok;
	}
	mutex_unlock(&q->lock);
	return ok;
}

void queue_set_stop_deadline(struct queue *q, int64_t deadline)
{
	mutex_lock(&q->lock);
	q->stop_deadline = deadline;
	q->stop_requested_at = monotonic_ms();
	cond_broadcast(&q->backlog_done);
	mutex_unlock(&q->lock);
}

int64_t queue_stop_deadline(struct queue *q)
{
	int64_t deadline;

	mutex_lock(&q->lock);
	deadline = q->stop_deadline;
	mutex_unlock(&q->lock);
	return deadline;
}

/* The side of the writer. */

struct batch *batch_new(size_t count)
{
	struct batch *b;

	if (count > (SIZE_MAX - sizeof(*b)) / sizeof(b->jobs[0]))
		abort();
	return xcalloc(1, sizeof(*b) + count * sizeof(b->jobs[0]));
}

static struct batch *dequeue_batch(struct entry_list *line, size_t max)
{
	struct batch *b = batch_new(max);
	struct entry *w;
	size_t bytes = 0;

	while (b->count < max && (w = STAILQ_FIRST(line))) {
		bytes += w->job.delivery->length;
		if (b->count && bytes > BATCH_BYTES)
			break;
		STAILQ_REMOVE_HEAD(line, queued);
		w->is_queued = false;
		b->jobs[b->count++] = &w->job;
	}
	return b;
}

struct batch *queue_take(struct queue *q, size_t max)
{
	struct batch *b = NULL;
	bool live, backlog;

	mutex_lock(&q->lock);
	live = !STAILQ_EMPTY(&q->live);
	backlog = !STAILQ_EMPTY(&q->backlog) && !q->breaker_open;
	if (backlog && (!live || q->live_batches >= LIVE_BATCHES_MAX)) {
		b = dequeue_batch(&q->backlog,
				  max < BACKLOG_BATCH ? max : BACKLOG_BATCH);
		q->live_batches = 0;
	} else if (live) {
		b = dequeue_batch(&q->live, max);
		q->live_batches = backlog ? q->live_batches + 1 : 0;
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
			entry_free(b->jobs[i]->entry);
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

/* Under the lock; true: what is left to do with it is the writer's. */
static bool complete(struct queue *q, struct entry *w)
{
	if (w->abandoned)
		return true;
	w->completed = true;
	if (!w->answer)
		return false;
	remove_deadline(q, w);
	if (w->job.outcome != OUTCOME_UNAVAILABLE)
		return true;
	w->deadline = INT64_MIN;
	add_deadline(q, w);
	wake_deadline_watcher(q);
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
	cond_broadcast(&q->backlog_done);
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		struct entry *w = b->jobs[i]->entry;

		if (!w->abandoned)
			w->answer(w->context, w->job.outcome);
		entry_free(w);
	}
	free(b);
}

void queue_round_trip_done(struct queue *q, bool ok)
{
	/* Before those who wait go on by it. */
	tell_round_trip(q, ok);
	mutex_lock(&q->lock);
	q->round_trip_at = monotonic_ms();
	q->round_trip_ok = ok;
	q->round_trip_known = true;
	q->probe_wanted = false;
	cond_broadcast(&q->probe_done);
	mutex_unlock(&q->lock);
}

void queue_restore_round_trip(struct queue *q, bool ok, int64_t age)
{
	mutex_lock(&q->lock);
	q->round_trip_at = monotonic_ms() - age;
	q->round_trip_ok = ok;
	q->round_trip_known = true;
	q->breaker_open = q->breaker_enabled && !ok && age < RESTORE_OPEN_MS;
	q->half_open = !ok && !q->breaker_open;
	mutex_unlock(&q->lock);
}

bool queue_probe_wanted(struct queue *q)
{
	bool wanted;

	mutex_lock(&q->lock);
	wanted = q->probe_wanted;
	mutex_unlock(&q->lock);
	return wanted;
}

void queue_close_breaker(struct queue *q)
{
	bool was;

	mutex_lock(&q->lock);
	was = q->breaker_open;
	q->breaker_open = false;
	mutex_unlock(&q->lock);
	if (was)
		log_message(LEVEL_INFO, "the database records again");
}

bool queue_breaker_open(struct queue *q)
{
	bool open;

	mutex_lock(&q->lock);
	open = q->breaker_open;
	mutex_unlock(&q->lock);
	return open;
}

size_t queue_length(struct queue *q)
{
	size_t count;

	mutex_lock(&q->lock);
	count = q->queued_count;
	mutex_unlock(&q->lock);
	return count;
}

bool queue_has_work(struct queue *q)
{
	bool work;

	mutex_lock(&q->lock);
	work = !STAILQ_EMPTY(&q->live) ||
	       (!STAILQ_EMPTY(&q->backlog) && !q->breaker_open);
	mutex_unlock(&q->lock);
	return work;
}

int queue_writer_fd(const struct queue *q)
{
	return q->writer_wakeup;
}

void queue_arm_wakeup(struct queue *q, size_t enough)
{
	mutex_lock(&q->lock);
	q->wake_threshold = enough;
	mutex_unlock(&q->lock);
}

void queue_disarm_wakeup(struct queue *q, bool poked)
{
	mutex_lock(&q->lock);
	q->wake_threshold = 0;
	mutex_unlock(&q->lock);
	if (poked)
		wakeup_clear(q->writer_wakeup);
}

void queue_stop(struct queue *q)
{
	mutex_lock(&q->lock);
	q->stopping = true;
	mutex_unlock(&q->lock);
	wakeup_signal(q->writer_wakeup);
}

bool queue_stopping(struct queue *q)
{
	bool stopping;

	mutex_lock(&q->lock);
	stopping = q->stopping;
	mutex_unlock(&q->lock);
	return stopping;
}
