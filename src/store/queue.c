#include "store/queue.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/threads.h"

enum {
	BATCH_BYTES = 8 * 1024 * 1024,
	BACKLOG_BATCH = 64, /* so that live events wait little behind it */
	LIVE_TURNS = 4, /* then the backlog has one, or load would starve it */
	FRESH_MS = 5000, /* how old a round trip may be for /health */
	RECALL_MS = 750, /* another's failed one opens the breaker so long */
	PROBE_MS = 1000,
	PRESSED_MS = 500, /* those who keep others waiting wait no longer */
	LOOK_MS = 100, /* no deadline is shorter: an alarm is seldom needed */
	CROWD_MIN = 8 /* fewer are no crowd */
};

/* Whoever waits for a job. */
struct waiter {
	TAILQ_ENTRY(waiter) all; /* live ones, in queue.waiters */
	STAILQ_ENTRY(waiter) line; /* in queue.live or .backlog */
	struct job job;
	answer_fn answer; /* NULL: of the backlog, queue_drain() waits */
	void *context;
	int64_t since; /* clock_ms() */
	int64_t deadline;
	bool in_line;
	bool done; /* still in queue.waiters: it can't be recorded now */
	bool left; /* nobody waits any more; the writer frees it */
};

STAILQ_HEAD(line, waiter);

struct queue {
	pthread_mutex_t lock;
	TAILQ_HEAD(waiters, waiter) waiters; /* by deadline */
	struct line live;
	struct line backlog;
	unsigned live_turns; /* in a row, while the backlog waited */
	size_t lined_up; /* in both lines */
	int wake; /* eventfd */
	size_t enough; /* so many in line wake the writer; 0: no number does */
	int alarm; /* eventfd */
	int64_t look_at; /* when queue_overdue() is called at the latest */
	bool quiet; /* nothing was submitted since it was called */
	pthread_cond_t drained;
	bool stopping;
	bool ended;
	pthread_cond_t end;
	int64_t hurry; /* clock_ms() at which every wait ends */
	int64_t hurry_since; /* when that was said; 0: never */

	bool breaker;
	bool open;
	size_t crowd; /* so many live ones are one */
	size_t waiting; /* live ones */
	int64_t trip; /* clock_ms() of the last round trip */
	bool trip_ok;
	bool trip_known;
	bool probe_wanted;
	pthread_cond_t probed;
};

struct queue *queue_new(bool breaker, size_t crowd)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	q->breaker = breaker;
	q->crowd = crowd;
	q->hurry = INT64_MAX;
	TAILQ_INIT(&q->waiters);
	STAILQ_INIT(&q->live);
	STAILQ_INIT(&q->backlog);
	mutex_init(&q->lock);
	cond_init(&q->drained);
	cond_init(&q->probed);
	cond_init(&q->end);
	q->wake = wakeup_new();
	q->alarm = wakeup_new();
	return q;
}

void queue_free(struct queue *q)
{
	cond_destroy(&q->drained);
	cond_destroy(&q->probed);
	cond_destroy(&q->end);
	mutex_destroy(&q->lock);
	close(q->alarm);
	close(q->wake);
	free(q);
}

/* The side of the requests. */

static struct waiter *waiter_new(struct delivery *d, answer_fn answer)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	/* If the task of one out of the spool is locked, it can wait there. */
	w->job = (struct job){ .delivery = d,
			       .on_quarantine = OUTCOME_QUARANTINED,
			       .was_busy = !answer,
			       .waiter = w };
	w->answer = answer;
	w->since = clock_ms();
	return w;
}

static void waiter_free(struct waiter *w)
{
	delivery_free(w->job.delivery);
	free(w);
}

static struct line *line_of(struct queue *q, const struct waiter *w)
{
	return w->answer ? &q->live : &q->backlog;
}

/* Under the lock. */
static void line_up(struct queue *q, struct waiter *w)
{
	STAILQ_INSERT_TAIL(line_of(q, w), w, line);
	w->in_line = true;
	q->lined_up++;
	if (q->enough && q->lined_up >= q->enough) {
		q->enough = 0;
		wakeup_send(q->wake);
	}
}

/* Under the lock: nobody waits for it any more. Whether to free it is ours. */
static bool leave(struct queue *q, struct waiter *w)
{
	if (w->in_line) {
		STAILQ_REMOVE(line_of(q, w), w, waiter, line);
		q->lined_up--;
		return true;
	}
	w->left = !w->done;
	return w->done;
}

/* Under the lock. Deadlines nearly always come in order. */
static void await(struct queue *q, struct waiter *w)
{
	struct waiter *before = TAILQ_LAST(&q->waiters, waiters);

	while (before && before->deadline > w->deadline)
		before = TAILQ_PREV(before, waiters, all);
	if (before)
		TAILQ_INSERT_AFTER(&q->waiters, before, w, all);
	else
		TAILQ_INSERT_HEAD(&q->waiters, w, all);
	q->waiting++;
}

/* Under the lock. */
static void await_no_more(struct queue *q, struct waiter *w)
{
	TAILQ_REMOVE(&q->waiters, w, all);
	q->waiting--;
}

/* Under the lock: those who wait need not wait any longer, either. */
static void trip_breaker(struct queue *q)
{
	if (!q->breaker || q->open)
		return;
	q->open = true;
	log_message(LEVEL_ERROR, "the database is too slow or away: events go "
				 "to the spool until it records again");
	/* The writer tries on its own from now on. */
	wakeup_send(q->wake);
}

/* Under the lock. */
static bool crowded(const struct queue *q)
{
	return q->crowd >= CROWD_MIN && q->waiting >= q->crowd;
}

/*
 * Under the lock: until when one may wait. Where nearly all who could take
 * requests wait, or the process that comes after us does, requests pile up
 * before the door, more than it has room for; so the database is not given
 * as long.
 */
static int64_t patience(const struct queue *q, const struct waiter *w)
{
	int64_t until = earlier(w->deadline, q->hurry);

	if (q->open)
		return INT64_MIN;
	if (!q->breaker)
		return until;
	if (q->hurry_since)
		until = earlier(until,
				later(w->since, q->hurry_since) + PRESSED_MS);
	if (crowded(q))
		until = earlier(until, w->since + PRESSED_MS);
	return until;
}

/* Under the lock: whoever calls queue_overdue() may have to do so sooner. */
static void sound_alarm(struct queue *q)
{
	const struct waiter *w = TAILQ_FIRST(&q->waiters);

	if (patience(q, w) >= q->look_at)
		return;
	q->look_at = INT64_MIN;
	wakeup_send(q->alarm);
}

bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  answer_fn answer, void *context)
{
	struct waiter *w = waiter_new(d, answer);
	bool open;

	w->deadline = deadline;
	w->context = context;
	mutex_lock(&q->lock);
	open = q->open;
	if (!open) {
		await(q, w);
		line_up(q, w);
		q->quiet = false;
		sound_alarm(q);
	}
	mutex_unlock(&q->lock);
	if (open)
		waiter_free(w);
	return !open;
}

/* Under the lock. */
static int64_t next_look(struct queue *q, int64_t now)
{
	const struct waiter *w = TAILQ_FIRST(&q->waiters);
	bool quiet = q->quiet;

	q->quiet = true;
	if (w)
		return patience(q, w);
	return quiet ? INT64_MAX : now + LOOK_MS;
}

void *queue_overdue(struct queue *q, int64_t *next)
{
	int64_t now = clock_ms();
	struct waiter *w;
	void *context = NULL;
	bool ours = false;

	mutex_lock(&q->lock);
	w = TAILQ_FIRST(&q->waiters);
	if (w && now >= patience(q, w)) {
		if (!w->done)
			trip_breaker(q);
		context = w->context;
		await_no_more(q, w);
		ours = leave(q, w);
	}
	/* Whoever gets one is to look for the next one at once. */
	*next = context ? INT64_MIN : next_look(q, now);
	q->look_at = *next;
	mutex_unlock(&q->lock);
	if (ours)
		waiter_free(w);
	return context;
}

int queue_alarm_fd(const struct queue *q)
{
	return q->alarm;
}

bool queue_drain(struct queue *q, struct delivery **deliveries, size_t count,
		 int64_t until, enum outcome *outcomes)
{
	struct waiter **all = xcalloc(count, sizeof(*all));
	bool answered = true;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		all[i] = waiter_new(deliveries[i], NULL);
		line_up(q, all[i]);
	}
	for (size_t i = 0; i < count; i++) {
		struct waiter *w = all[i];

		while (!w->done && q->hurry == INT64_MAX && clock_ms() < until)
			cond_wait(&q->drained, &q->lock, until);
		answered = answered && w->done;
		outcomes[i] = w->done ? w->job.outcome : OUTCOME_UNAVAILABLE;
		if (!leave(q, w))
			all[i] = NULL;
	}
	answered = answered && (count == 0 || q->trip_ok);
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		if (all[i])
			waiter_free(all[i]);
	}
	free(all);
	return answered;
}

bool queue_healthy(struct queue *q)
{
	int64_t start = clock_ms(), until = start + PROBE_MS;
	bool ok;

	mutex_lock(&q->lock);
	if (!q->open && (!q->trip_known || start - q->trip > FRESH_MS)) {
		q->probe_wanted = true;
		wakeup_send(q->wake);
		while (q->probe_wanted && clock_ms() < until)
			cond_wait(&q->probed, &q->lock, until);
		/* None is an answer too, or each who asks waits for it. */
		if (q->probe_wanted) {
			q->trip = clock_ms();
			q->trip_ok = false;
			q->trip_known = true;
		}
		ok = q->trip_ok;
	} else {
		ok = !q->open && q->trip_ok;
	}
	mutex_unlock(&q->lock);
	return ok;
}

void queue_hurry(struct queue *q, int64_t deadline)
{
	mutex_lock(&q->lock);
	q->hurry = deadline;
	q->hurry_since = clock_ms();
	cond_broadcast(&q->drained);
	mutex_unlock(&q->lock);
}

int64_t queue_hurried(struct queue *q)
{
	int64_t deadline;

	mutex_lock(&q->lock);
	deadline = q->hurry;
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

static struct batch *take_line(struct line *line, size_t max)
{
	struct batch *b = batch_new(max);
	struct waiter *w;
	size_t bytes = 0;

	while (b->count < max && (w = STAILQ_FIRST(line))) {
		bytes += w->job.delivery->length;
		if (b->count && bytes > BATCH_BYTES)
			break;
		STAILQ_REMOVE_HEAD(line, line);
		w->in_line = false;
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
	backlog = !STAILQ_EMPTY(&q->backlog) && !q->open;
	if (backlog && (!live || q->live_turns >= LIVE_TURNS)) {
		b = take_line(&q->backlog,
			      max < BACKLOG_BATCH ? max : BACKLOG_BATCH);
		q->live_turns = 0;
	} else if (live) {
		b = take_line(&q->live, max);
		q->live_turns = backlog ? q->live_turns + 1 : 0;
	}
	q->lined_up -= b ? b->count : 0;
	mutex_unlock(&q->lock);
	return b;
}

struct batch *queue_prune(struct queue *q, struct batch *b)
{
	size_t kept = 0;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i]->waiter->left)
			waiter_free(b->jobs[i]->waiter);
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
static bool finish(struct queue *q, struct waiter *w)
{
	if (w->left)
		return true;
	w->done = true;
	if (!w->answer)
		return false;
	await_no_more(q, w);
	if (w->job.outcome != OUTCOME_UNAVAILABLE)
		return true;
	w->deadline = INT64_MIN;
	await(q, w);
	sound_alarm(q);
	return false;
}

void queue_finish(struct queue *q, struct batch *b)
{
	size_t count = 0;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i] && finish(q, b->jobs[i]->waiter))
			b->jobs[count++] = b->jobs[i];
	}
	cond_broadcast(&q->drained);
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		struct waiter *w = b->jobs[i]->waiter;

		if (!w->left)
			w->answer(w->context, w->job.outcome);
		waiter_free(w);
	}
	free(b);
}

void queue_note_trip(struct queue *q, bool ok)
{
	mutex_lock(&q->lock);
	q->trip = clock_ms();
	q->trip_ok = ok;
	q->trip_known = true;
	q->probe_wanted = false;
	cond_broadcast(&q->probed);
	mutex_unlock(&q->lock);
}

void queue_recall_trip(struct queue *q, bool ok, int64_t age)
{
	mutex_lock(&q->lock);
	q->trip = clock_ms() - age;
	q->trip_ok = ok;
	q->trip_known = true;
	q->open = q->breaker && !ok && age < RECALL_MS;
	mutex_unlock(&q->lock);
}

bool queue_wants_probe(struct queue *q)
{
	bool wanted;

	mutex_lock(&q->lock);
	wanted = q->probe_wanted;
	mutex_unlock(&q->lock);
	return wanted;
}

void queue_committed(struct queue *q)
{
	bool was;

	mutex_lock(&q->lock);
	was = q->open;
	q->open = false;
	mutex_unlock(&q->lock);
	if (was)
		log_message(LEVEL_INFO, "the database records again");
}

bool queue_is_open(struct queue *q)
{
	bool open;

	mutex_lock(&q->lock);
	open = q->open;
	mutex_unlock(&q->lock);
	return open;
}

size_t queue_lined_up(struct queue *q)
{
	size_t count;

	mutex_lock(&q->lock);
	count = q->lined_up;
	mutex_unlock(&q->lock);
	return count;
}

bool queue_has_work(struct queue *q)
{
	bool work;

	mutex_lock(&q->lock);
	work = !STAILQ_EMPTY(&q->live) ||
	       (!STAILQ_EMPTY(&q->backlog) && !q->open);
	mutex_unlock(&q->lock);
	return work;
}

int queue_wake_fd(const struct queue *q)
{
	return q->wake;
}

void queue_asleep(struct queue *q, size_t enough)
{
	mutex_lock(&q->lock);
	q->enough = enough;
	mutex_unlock(&q->lock);
}

void queue_awake(struct queue *q, bool poked)
{
	mutex_lock(&q->lock);
	q->enough = 0;
	mutex_unlock(&q->lock);
	if (poked)
		wakeup_clear(q->wake);
}

void queue_stop(struct queue *q)
{
	mutex_lock(&q->lock);
	q->stopping = true;
	mutex_unlock(&q->lock);
	wakeup_send(q->wake);
}

bool queue_stopping(struct queue *q)
{
	bool stopping;

	mutex_lock(&q->lock);
	stopping = q->stopping;
	mutex_unlock(&q->lock);
	return stopping;
}

void queue_ended(struct queue *q)
{
	mutex_lock(&q->lock);
	q->ended = true;
	cond_signal(&q->end);
	mutex_unlock(&q->lock);
}

bool queue_wait_end(struct queue *q, int64_t deadline)
{
	bool ended;

	mutex_lock(&q->lock);
	while (!q->ended && clock_ms() < deadline)
		cond_wait(&q->end, &q->lock, deadline);
	ended = q->ended;
	mutex_unlock(&q->lock);
	return ended;
}
