#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"
#include "sync.h"

enum {
	BATCH_BYTES = 8 * 1024 * 1024,
	BACKLOG_BATCH = 64, /* so that live events wait little behind it */
	LIVE_TURNS = 4, /* then the backlog has one, or load would starve it */
	FRESH_MS = 5000, /* how old a round trip may be for /health */
	RECALL_MS = 750, /* another's failed one opens the breaker so long */
	PROBE_MS = 1000,
	PRESSED_MS = 500, /* those who keep others waiting wait no longer */
	CROWD_MIN = 8 /* fewer are no crowd */
};

/* Whoever waits for a job. */
struct waiter {
	TAILQ_ENTRY(waiter) all; /* in queue.waiters, until it leaves */
	STAILQ_ENTRY(waiter) line; /* in queue.live or .backlog */
	struct job job;
	pthread_cond_t answered;
	int64_t since; /* clock_ms() */
	bool in_line;
	bool live;
	bool done;
	bool left; /* nobody waits any more */
	unsigned holders; /* who waits, and the writer; the last one frees */
};

STAILQ_HEAD(line, waiter);

struct queue {
	pthread_mutex_t lock;
	TAILQ_HEAD(, waiter) waiters;
	struct line live;
	struct line backlog;
	unsigned live_turns; /* in a row, while the backlog waited */
	size_t lined_up; /* in both lines */
	int wake; /* eventfd */
	size_t enough; /* so many in line wake the writer; 0: no number does */
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
	cond_init(&q->probed);
	cond_init(&q->end);
	q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->wake < 0) {
		log_message(LEVEL_ERROR, "eventfd: %m");
		abort();
	}
	return q;
}

void queue_free(struct queue *q)
{
	cond_destroy(&q->probed);
	cond_destroy(&q->end);
	mutex_destroy(&q->lock);
	close(q->wake);
	free(q);
}

/* The side of the requests. */

static struct waiter *waiter_new(struct delivery *d, bool live)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	/* If the task of one out of the spool is locked, it can wait there. */
	w->job = (struct job){ .delivery = d,
			       .on_quarantine = OUTCOME_QUARANTINED,
			       .was_busy = !live,
			       .waiter = w };
	w->live = live;
	w->holders = 1;
	w->since = clock_ms();
	cond_init(&w->answered);
	return w;
}

static void waiter_free(struct waiter *w)
{
	cond_destroy(&w->answered);
	delivery_free(w->job.delivery);
	free(w);
}

static void poke(struct queue *q)
{
	uint64_t one = 1;

	/* Full means that it is awake already. */
	if (!write_all(q->wake, &one, sizeof(one)) && errno != EAGAIN)
		abort();
}

/* Under the lock. */
static void join(struct queue *q, struct waiter *w)
{
	struct line *line = w->live ? &q->live : &q->backlog;

	TAILQ_INSERT_TAIL(&q->waiters, w, all);
	STAILQ_INSERT_TAIL(line, w, line);
	w->in_line = true;
	q->waiting += w->live;
	q->lined_up++;
	if (q->enough && q->lined_up >= q->enough) {
		q->enough = 0;
		poke(q);
	}
}

/* Under the lock. */
static void let_go(struct waiter *w)
{
	if (--w->holders == 0)
		waiter_free(w);
}

/*
 * Under the lock: the outcome so far. *rest is for the caller to free, later:
 * the delivery, unless the writer still has it.
 */
static enum outcome leave(struct queue *q, struct waiter *w,
			  struct delivery **rest)
{
	enum outcome outcome = w->done ? w->job.outcome : OUTCOME_UNAVAILABLE;
	struct line *line = w->live ? &q->live : &q->backlog;

	TAILQ_REMOVE(&q->waiters, w, all);
	q->waiting -= w->live;
	*rest = NULL;
	if (w->in_line) {
		STAILQ_REMOVE(line, w, waiter, line);
		q->lined_up--;
	}
	if (w->in_line || w->done) {
		*rest = w->job.delivery;
		w->job.delivery = NULL;
	}
	w->left = true;
	let_go(w);
	return outcome;
}

/* Under the lock. */
static void wake_waiters(struct queue *q)
{
	struct waiter *w;

	TAILQ_FOREACH(w, &q->waiters, all)
	cond_signal(&w->answered);
}

/* Under the lock: those who wait need not wait any longer, either. */
static void trip_breaker(struct queue *q)
{
	if (!q->breaker || q->open)
		return;
	q->open = true;
	log_message(LEVEL_ERROR, "the database is too slow or away: events go "
				 "to the spool until it records again");
	wake_waiters(q);
	/* The writer tries on its own from now on. */
	poke(q);
}

/* Under the lock. */
static bool crowded(const struct queue *q)
{
	return q->crowd >= CROWD_MIN && q->waiting >= q->crowd;
}

/* Under the lock: of the live one that came first. */
static int64_t waiting_since(const struct queue *q)
{
	const struct waiter *w;

	TAILQ_FOREACH(w, &q->waiters, all)
	{
		if (w->live)
			return w->since;
	}
	return INT64_MAX - PRESSED_MS;
}

/*
 * Under the lock: until when a live one may wait. Where nearly all who could
 * take requests wait, or the process that comes after us does, requests pile
 * up before the door, more than it has room for; so the database is not
 * given as long.
 */
static int64_t patience(const struct queue *q, const struct waiter *w,
			int64_t deadline)
{
	int64_t until = earlier(deadline, q->hurry);

	if (!q->breaker)
		return until;
	if (q->hurry_since)
		until = earlier(until,
				later(w->since, q->hurry_since) + PRESSED_MS);
	if (crowded(q))
		until = earlier(until, waiting_since(q) + PRESSED_MS);
	return until;
}

enum outcome queue_submit(struct queue *q, struct delivery *d, int64_t deadline)
{
	struct waiter *w = waiter_new(d, true);
	struct delivery *rest;
	enum outcome outcome;

	mutex_lock(&q->lock);
	if (q->open) {
		mutex_unlock(&q->lock);
		waiter_free(w);
		return OUTCOME_UNAVAILABLE;
	}
	join(q, w);
	/* The last one to come finds the crowd, and keeps its time. */
	while (!w->done && !q->open && clock_ms() < patience(q, w, deadline))
		cond_wait(&w->answered, &q->lock, patience(q, w, deadline));
	if (!w->done)
		trip_breaker(q);
	outcome = leave(q, w, &rest);
	mutex_unlock(&q->lock);
	delivery_free(rest);
	return outcome;
}

bool queue_drain(struct queue *q, struct delivery **deliveries, size_t count,
		 int64_t until, enum outcome *outcomes)
{
	struct waiter **all = xcalloc(count, sizeof(*all));
	bool answered = true;

	mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++) {
		all[i] = waiter_new(deliveries[i], false);
		join(q, all[i]);
	}
	for (size_t i = 0; i < count; i++) {
		struct waiter *w = all[i];

		while (!w->done && q->hurry == INT64_MAX && clock_ms() < until)
			cond_wait(&w->answered, &q->lock, until);
		answered = answered && w->done;
		outcomes[i] = leave(q, w, &deliveries[i]);
	}
	answered = answered && (count == 0 || q->trip_ok);
	mutex_unlock(&q->lock);
	for (size_t i = 0; i < count; i++)
		delivery_free(deliveries[i]);
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
		poke(q);
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
	wake_waiters(q);
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
		w->holders++;
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
			let_go(b->jobs[i]->waiter);
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

void queue_finish(struct queue *q, struct batch *b)
{
	size_t count = 0;

	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i])
			b->jobs[count++] = b->jobs[i];
	}
	mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++)
		b->jobs[i]->waiter->done = true;
	mutex_unlock(&q->lock);
	/* Without the lock: it is the first thing that they want. */
	for (size_t i = 0; i < count; i++)
		cond_signal(&b->jobs[i]->waiter->answered);
	mutex_lock(&q->lock);
	for (size_t i = 0; i < count; i++)
		let_go(b->jobs[i]->waiter);
	mutex_unlock(&q->lock);
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
	uint64_t count;

	mutex_lock(&q->lock);
	q->enough = 0;
	mutex_unlock(&q->lock);
	if (poked && read(q->wake, &count, sizeof(count)) < 0 &&
	    errno != EAGAIN)
		abort();
}

void queue_poke(struct queue *q)
{
	poke(q);
}

void queue_stop(struct queue *q)
{
	mutex_lock(&q->lock);
	q->stopping = true;
	mutex_unlock(&q->lock);
	poke(q);
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
