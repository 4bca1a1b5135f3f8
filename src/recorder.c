#include "recorder.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "database.h"
#include "health.h"
#include "log.h"

enum {
	BATCH_BYTES = 8 * 1024 * 1024,
	RETRY_MS = 100, /* after the database failed us */
	NUDGE_MS = 1000, /* empty wake-ups are at most this frequent */
	STUCK_MS = 30000, /* a transaction without news for this long */
	FRESH_MS = 5000, /* how old a round trip may be for /health */
	PROBE_MS = 1000
};

/* A delivery and whoever waits for it. */
struct job {
	TAILQ_ENTRY(job) waiting; /* in recorder.waiting, until answered */
	STAILQ_ENTRY(job) queued; /* in recorder.queue */
	struct delivery *delivery;
	pthread_cond_t answered;
	bool in_queue;
	bool done;
	bool abandoned; /* nobody waits any more; the writer frees it */
	bool was_busy;
	enum outcome outcome;
	enum outcome on_quarantine;
};

/* What goes into one transaction. */
struct batch {
	STAILQ_ENTRY(batch) next;
	size_t count;
	struct job *jobs[];
};

struct recorder {
	const struct settings *settings;
	enum recorder_mode mode;
	pthread_t thread;
	int wake; /* eventfd */

	pthread_mutex_t lock; /* over all down to the next remark */
	TAILQ_HEAD(, job) waiting;
	STAILQ_HEAD(, job) queue;
	bool idle; /* the writer sleeps and wants to be woken */
	bool stopping;
	bool ended;
	pthread_cond_t end;
	int64_t hurry; /* clock_ms() at which every wait ends */
	int64_t trip; /* clock_ms() of the last round trip; 0: none yet */
	bool trip_ok;
	bool probe_wanted;
	pthread_cond_t probed;

	/* The writer's own. */
	struct database *db;
	struct batch *flying; /* recorded, its Sync not back yet */
	int64_t flying_since;
	STAILQ_HEAD(, batch) again; /* to be recorded before the queue */
	int64_t *ids; /* events whose listeners are to be woken */
	size_t id_count;
	size_t id_capacity;
	bool notifying; /* a wake-up is on its way */
	bool owed; /* one may have got lost: an empty one makes it good */
	bool fresh; /* nothing was recorded yet on this connection */
	bool notify_apart; /* CGI: waking made recording fail */
	int64_t nudged; /* when the last empty one went */
	int64_t retry_at; /* not before, the database is failing us */
	int64_t used; /* when it was last busy */
};

static void check(int error)
{
	/* Mutexes and condition variables only fail when misused. */
	if (error)
		abort();
}

static void cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;

	check(pthread_condattr_init(&a));
	check(pthread_condattr_setclock(&a, CLOCK_MONOTONIC));
	check(pthread_cond_init(c, &a));
	check(pthread_condattr_destroy(&a));
}

/* False when the time, a clock_ms(), is over. */
static bool cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline)
{
	struct timespec t = { .tv_sec = deadline / 1000,
			      .tv_nsec = deadline % 1000 * 1000000 };
	int error = pthread_cond_timedwait(c, m, &t);

	if (error && error != ETIMEDOUT)
		abort();
	return error == 0;
}

static void wake(struct recorder *r)
{
	uint64_t one = 1;

	if (!write_all(r->wake, &one, sizeof(one)))
		abort();
}

/* The side of the requests. */

static void job_free(struct job *j)
{
	check(pthread_cond_destroy(&j->answered));
	delivery_free(j->delivery);
	free(j);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

enum outcome recorder_submit(struct recorder *r, struct delivery *d,
			     int64_t deadline)
{
	struct job *j = xcalloc(1, sizeof(*j));
	enum outcome outcome = OUTCOME_UNAVAILABLE;

	j->delivery = d;
	j->in_queue = true;
	j->on_quarantine = OUTCOME_QUARANTINED;
	cond_init(&j->answered);

	check(pthread_mutex_lock(&r->lock));
	TAILQ_INSERT_TAIL(&r->waiting, j, waiting);
	STAILQ_INSERT_TAIL(&r->queue, j, queued);
	if (r->idle) {
		r->idle = false;
		wake(r);
	}
	while (!j->done && clock_ms() < earlier(deadline, r->hurry))
		(void)cond_wait(&j->answered, &r->lock,
				earlier(deadline, r->hurry));
	TAILQ_REMOVE(&r->waiting, j, waiting);
	if (j->done)
		outcome = j->outcome;
	else if (j->in_queue)
		STAILQ_REMOVE(&r->queue, j, job, queued);
	else
		j->abandoned = true;
	if (j->abandoned)
		j = NULL;
	check(pthread_mutex_unlock(&r->lock));
	if (j)
		job_free(j);
	return outcome;
}

bool recorder_healthy(struct recorder *r)
{
	int64_t start = clock_ms(), until = start + PROBE_MS;
	bool ok;

	check(pthread_mutex_lock(&r->lock));
	if (!r->trip || start - r->trip > FRESH_MS) {
		r->probe_wanted = true;
		wake(r);
		while (r->trip < start && clock_ms() < until)
			(void)cond_wait(&r->probed, &r->lock, until);
		ok = r->trip >= start && r->trip_ok;
	} else {
		ok = r->trip_ok;
	}
	check(pthread_mutex_unlock(&r->lock));
	return ok;
}

void recorder_hurry(struct recorder *r, int64_t deadline)
{
	struct job *j;

	check(pthread_mutex_lock(&r->lock));
	r->hurry = deadline;
	TAILQ_FOREACH(j, &r->waiting, waiting)
	check(pthread_cond_signal(&j->answered));
	check(pthread_mutex_unlock(&r->lock));
}

/* The writer: batches. */

static struct batch *batch_new(size_t count)
{
	struct batch *b;

	if (count > SIZE_MAX / sizeof(b->jobs[0]) - sizeof(*b))
		abort();
	b = xcalloc(1, sizeof(*b) + count * sizeof(b->jobs[0]));
	return b;
}

/* Answers a job, or frees it where nobody waits. Under the lock. */
static void answer(struct job *j, enum outcome outcome)
{
	if (j->abandoned) {
		job_free(j);
		return;
	}
	j->outcome = outcome;
	j->done = true;
	check(pthread_cond_signal(&j->answered));
}

static void answer_all(struct recorder *r, struct batch *b,
		       enum outcome outcome)
{
	check(pthread_mutex_lock(&r->lock));
	for (size_t i = 0; i < b->count; i++)
		answer(b->jobs[i], outcome);
	check(pthread_mutex_unlock(&r->lock));
	free(b);
}

/* Takes up to a batch off the queue; NULL where it is empty. */
static struct batch *take_queue(struct recorder *r)
{
	struct batch *b = NULL;
	struct job *j;
	size_t bytes = 0;

	check(pthread_mutex_lock(&r->lock));
	if (!STAILQ_EMPTY(&r->queue))
		b = batch_new(r->settings->batch);
	while (b && b->count < r->settings->batch &&
	       (j = STAILQ_FIRST(&r->queue))) {
		if (b->count && bytes + j->delivery->length > BATCH_BYTES)
			break;
		STAILQ_REMOVE_HEAD(&r->queue, queued);
		j->in_queue = false;
		bytes += j->delivery->length;
		b->jobs[b->count++] = j;
	}
	check(pthread_mutex_unlock(&r->lock));
	return b;
}

/* Leaves out those whose sender has had its answer. NULL: none is left. */
static struct batch *drop_abandoned(struct recorder *r, struct batch *b)
{
	size_t kept = 0;

	check(pthread_mutex_lock(&r->lock));
	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i]->abandoned)
			job_free(b->jobs[i]);
		else
			b->jobs[kept++] = b->jobs[i];
	}
	check(pthread_mutex_unlock(&r->lock));
	b->count = kept;
	if (kept)
		return b;
	free(b);
	return NULL;
}

static struct batch *next_batch(struct recorder *r)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&r->again))) {
		STAILQ_REMOVE_HEAD(&r->again, next);
		b = drop_abandoned(r, b);
		if (b)
			return b;
	}
	return take_queue(r);
}

/* The writer: what became of a batch. */

static void remember_id(struct recorder *r, int64_t id)
{
	if (r->id_count == r->id_capacity) {
		r->id_capacity = r->id_capacity ? r->id_capacity * 2 : 256;
		r->ids = xrealloc(r->ids, r->id_capacity * sizeof(*r->ids));
	}
	r->ids[r->id_count++] = id;
}

/* A busy event is tried once more; the next time it has to be given up. */
static void try_again(struct recorder *r, struct job *busy)
{
	struct batch *b = batch_new(1);

	busy->was_busy = true;
	b->jobs[b->count++] = busy;
	STAILQ_INSERT_TAIL(&r->again, b, next);
}

static void batch_recorded(struct recorder *r, struct batch *b,
			   const struct database_result *result)
{
	bool notified = r->mode == RECORDER_ONCE && !r->notify_apart;

	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = b->jobs[i]->delivery->reason
					      ? b->jobs[i]->on_quarantine
					      : OUTCOME_UNAVAILABLE;
	check(pthread_mutex_lock(&r->lock));
	for (size_t i = 0; i < result->count; i++) {
		const struct database_row *row = &result->rows[i];
		struct job *j = b->jobs[row->place];

		if (row->outcome == ROW_RECORDED)
			j->outcome = OUTCOME_RECORDED;
		else if (row->outcome == ROW_DUPLICATE ||
			 row->outcome == ROW_REPEAT)
			j->outcome = OUTCOME_DUPLICATE;
		else if (row->outcome == ROW_BUSY && !j->was_busy) {
			b->jobs[row->place] = NULL;
			try_again(r, j);
		}
		if ((row->outcome == ROW_RECORDED ||
		     row->outcome == ROW_PROMOTED) &&
		    !notified)
			remember_id(r, row->id);
	}
	for (size_t i = 0; i < b->count; i++) {
		if (b->jobs[i])
			answer(b->jobs[i], b->jobs[i]->outcome);
	}
	check(pthread_mutex_unlock(&r->lock));
	free(b);
}

static bool class_in(const char *sqlstate, const char *const *classes)
{
	for (; *classes; classes++) {
		if (strncmp(sqlstate, *classes, 2) == 0)
			return true;
	}
	return false;
}

/* Errors that say nothing against the events (doc/design.md, "Poison"). */
static bool not_its_fault(const char *sqlstate)
{
	static const char *const classes[] = { "08", "25", "28", "3D",
					       "40", "42", "53", "55",
					       "57", "58", NULL };

	return *sqlstate == '\0' || class_in(sqlstate, classes);
}

/* Errors that stay until somebody mends the set-up. */
static bool set_up_wrong(const char *sqlstate)
{
	static const char *const classes[] = { "28", "3D", "42", NULL };

	return class_in(sqlstate, classes);
}

/* Errors after which another connection, or another host, may do better. */
static bool connection_useless(const char *sqlstate)
{
	static const char *const classes[] = { "08", "25", "58", NULL };

	return *sqlstate == '\0' || class_in(sqlstate, classes) ||
	       strncmp(sqlstate, "57P", 3) == 0;
}

static void split(struct recorder *r, struct batch *b)
{
	size_t half = b->count / 2;
	struct batch *rest = batch_new(b->count - half);

	rest->count = b->count - half;
	memcpy(rest->jobs, b->jobs + half, rest->count * sizeof(rest->jobs[0]));
	b->count = half;
	STAILQ_INSERT_HEAD(&r->again, rest, next);
	STAILQ_INSERT_HEAD(&r->again, b, next);
}

/* A lone event that PostgreSQL will not have goes to the quarantine. */
static void set_aside(struct recorder *r, struct batch *b,
		      const struct database_result *result)
{
	struct job *j = b->jobs[0];

	if (j->delivery->reason) {
		log_message(LEVEL_ERROR, "quarantine refused: %s: %s",
			    result->sqlstate, result->message);
		answer_all(r, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* invalid_text_representation is what the type json says. */
	j->on_quarantine = strcmp(result->sqlstate, "22P02") == 0
				   ? OUTCOME_MALFORMED
				   : OUTCOME_INVALID;
	j->delivery->reason = xasprintf("PostgreSQL: %s (%s)", result->message,
					result->sqlstate);
	STAILQ_INSERT_HEAD(&r->again, b, next);
}

static void batch_failed(struct recorder *r, struct batch *b,
			 const struct database_result *result)
{
	if (!not_its_fault(result->sqlstate)) {
		if (b->count > 1)
			split(r, b);
		else
			set_aside(r, b, result);
		return;
	}
	log_message(LEVEL_ERROR, "recording failed: %s: %s", result->sqlstate,
		    result->message);
	if (set_up_wrong(result->sqlstate)) {
		answer_all(r, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* Alone in its transaction, waking can wait for somebody's commit. */
	if (r->mode == RECORDER_ONCE && strncmp(result->sqlstate, "55", 2) == 0)
		r->notify_apart = true;
	STAILQ_INSERT_HEAD(&r->again, b, next);
	r->retry_at = clock_ms() + RETRY_MS;
}

static void note_trip(struct recorder *r, bool ok)
{
	if (r->mode == RECORDER_ONCE)
		health_remember(r->settings->spool, ok);
	check(pthread_mutex_lock(&r->lock));
	r->trip = clock_ms();
	r->trip_ok = ok;
	r->probe_wanted = false;
	check(pthread_cond_broadcast(&r->probed));
	check(pthread_mutex_unlock(&r->lock));
}

/* Nobody knows what became of that which was on its way. */
static void connection_lost(struct recorder *r)
{
	database_disconnect(r->db);
	if (r->flying) {
		STAILQ_INSERT_HEAD(&r->again, r->flying, next);
		r->flying = NULL;
		r->owed = true;
	}
	if (r->notifying || r->id_count)
		r->owed = true;
	r->notifying = false;
	r->id_count = 0;
	r->retry_at = clock_ms() + RETRY_MS;
}

static void take_result(struct recorder *r,
			const struct database_result *result)
{
	struct batch *b = r->flying;

	r->used = clock_ms();
	if (result->task == DATABASE_NOTIFY) {
		r->notifying = false;
		if (!result->committed) {
			r->owed = true;
			log_message(LEVEL_WARNING,
				    "waking the listeners failed: %s: %s",
				    result->sqlstate, result->message);
		}
	}
	if (result->task == DATABASE_RECORD) {
		r->flying = NULL;
		if (result->committed)
			batch_recorded(r, b, result);
		else
			batch_failed(r, b, result);
	}
	note_trip(r, result->committed || !not_its_fault(result->sqlstate));
	if (!result->committed && connection_useless(result->sqlstate))
		connection_lost(r);
}

/* The writer: what to send. */

static bool probe_wanted(struct recorder *r)
{
	bool wanted;

	check(pthread_mutex_lock(&r->lock));
	wanted = r->probe_wanted;
	check(pthread_mutex_unlock(&r->lock));
	return wanted;
}

static bool nudge_due(const struct recorder *r, int64_t now)
{
	return r->owed && !r->notifying && now - r->nudged >= NUDGE_MS;
}

/* The oldest unanswered transaction may take this long to connect for. */
static bool connect_now(struct recorder *r)
{
	if (!database_connect(r->db, clock_ms() + r->settings->deadline)) {
		note_trip(r, false);
		r->retry_at = clock_ms() + RETRY_MS;
		return false;
	}
	note_trip(r, true);
	r->used = clock_ms();
	r->fresh = true;
	return true;
}

static bool send_batch(struct recorder *r, struct batch *b)
{
	struct delivery **deliveries = xcalloc(b->count, sizeof(deliveries[0]));
	bool ok;

	for (size_t i = 0; i < b->count; i++)
		deliveries[i] = b->jobs[i]->delivery;
	r->flying = b;
	r->flying_since = clock_ms();
	/* Whoever was here before us may have died owing one. */
	if (r->fresh && r->mode == RECORDER_RESIDENT)
		r->owed = true;
	r->fresh = false;
	ok = database_send_record(r->db, deliveries, b->count,
				  r->settings->redelivery_window,
				  r->mode == RECORDER_ONCE && !r->notify_apart);
	free(deliveries);
	return ok;
}

/* Wakes the listeners, after the commit and apart from the next one. */
static bool send_wake_up(struct recorder *r, int64_t now)
{
	size_t count = r->id_count;

	if (r->notifying || (!count && !nudge_due(r, now)))
		return true;
	/* Any wake-up makes good for a lost one: all mean "look now". */
	r->owed = false;
	r->nudged = count ? r->nudged : now;
	r->notifying = true;
	r->id_count = 0;
	return database_send_notify(r->db, r->ids, count);
}

static bool send_all(struct recorder *r, int64_t now)
{
	struct batch *b = r->flying ? NULL : next_batch(r);

	if (b && !send_batch(r, b))
		return false;
	if (!send_wake_up(r, now))
		return false;
	if (!database_pending(r->db) && probe_wanted(r) &&
	    !database_send_ping(r->db))
		return false;
	return database_flush(r->db);
}

static bool anything_to_send(struct recorder *r, int64_t now)
{
	bool waiting;

	check(pthread_mutex_lock(&r->lock));
	waiting = !STAILQ_EMPTY(&r->queue);
	check(pthread_mutex_unlock(&r->lock));
	return (!r->flying && (waiting || !STAILQ_EMPTY(&r->again))) ||
	       (!r->notifying && r->id_count) || nudge_due(r, now) ||
	       (!database_pending(r->db) && probe_wanted(r));
}

static void dispatch(struct recorder *r)
{
	int64_t now = clock_ms();

	if (now < r->retry_at || !anything_to_send(r, now))
		return;
	if (!database_connected(r->db) && !connect_now(r))
		return;
	if (!send_all(r, clock_ms()))
		connection_lost(r);
}

/* The writer: waiting, receiving, ending. */

/* How long poll() may sleep; -1: until something happens. */
static int sleep_ms(const struct recorder *r, bool work, int64_t now)
{
	int64_t until = INT64_MAX;

	if (work)
		until = r->retry_at > now ? r->retry_at : now;
	if (r->owed && !r->notifying)
		until = earlier(until, r->nudged + NUDGE_MS > r->retry_at
					       ? r->nudged + NUDGE_MS
					       : r->retry_at);
	if (r->flying)
		until = earlier(until, r->flying_since + STUCK_MS);
	else if (database_connected(r->db))
		until = earlier(until, r->used + r->settings->idle_disconnect);
	if (until == INT64_MAX)
		return -1;
	if (until <= now)
		return 0;
	return until - now > 60000 ? 60000 : (int)(until - now);
}

/* True when the connection has something for us. */
static bool sleep_until_news(struct recorder *r)
{
	struct pollfd p[2] = { { .fd = r->wake, .events = POLLIN } };
	bool work;
	uint64_t count;
	int n;

	p[1].fd = database_socket(r->db, &p[1].events);
	check(pthread_mutex_lock(&r->lock));
	/* With a batch on its way its result wakes us, not the queue. */
	r->idle = !r->flying;
	work = !r->flying &&
	       (!STAILQ_EMPTY(&r->queue) || !STAILQ_EMPTY(&r->again) ||
		(r->probe_wanted && !database_pending(r->db)));
	check(pthread_mutex_unlock(&r->lock));
	do
		n = poll(p, p[1].fd < 0 ? 1 : 2, sleep_ms(r, work, clock_ms()));
	while (n < 0 && errno == EINTR);
	check(pthread_mutex_lock(&r->lock));
	r->idle = false;
	check(pthread_mutex_unlock(&r->lock));
	if (p[0].revents & POLLIN && read(r->wake, &count, sizeof(count)) < 0 &&
	    errno != EAGAIN)
		abort();
	return p[1].fd >= 0 && p[1].revents;
}

/* Takes in what has come, up to the loss of the connection. */
static void collect(struct recorder *r)
{
	struct database_result result;
	enum database_news news = DATABASE_NOTHING;
	bool alive = database_receive(r->db);

	/* What came before the loss still counts. */
	while (database_connected(r->db) &&
	       (news = database_next(r->db, &result)) == DATABASE_RESULT)
		take_result(r, &result);
	if (database_connected(r->db) && (!alive || news == DATABASE_LOST)) {
		log_message(LEVEL_WARNING, "the database connection was lost");
		connection_lost(r);
	}
}

/* Gives up a connection that is stuck, or that nobody needs. */
static void look_after_connection(struct recorder *r)
{
	int64_t now = clock_ms();

	if (!database_connected(r->db))
		return;
	if (r->flying && now - r->flying_since >= STUCK_MS) {
		log_message(LEVEL_ERROR, "no news from the database for %d s",
			    STUCK_MS / 1000);
		connection_lost(r);
	} else if (!database_pending(r->db) && !r->owed && !r->id_count &&
		   now - r->used >= r->settings->idle_disconnect) {
		database_disconnect(r->db);
	}
}

static bool finished(struct recorder *r)
{
	bool done;

	check(pthread_mutex_lock(&r->lock));
	done = r->stopping &&
	       (clock_ms() >= r->hurry ||
		(STAILQ_EMPTY(&r->queue) && STAILQ_EMPTY(&r->again) &&
		 !r->flying && !r->notifying && !r->id_count && !r->owed));
	check(pthread_mutex_unlock(&r->lock));
	return done;
}

static void *writer(void *context)
{
	struct recorder *r = context;

	while (!finished(r)) {
		dispatch(r);
		if (sleep_until_news(r))
			collect(r);
		look_after_connection(r);
	}
	database_disconnect(r->db);
	check(pthread_mutex_lock(&r->lock));
	r->ended = true;
	check(pthread_cond_signal(&r->end));
	check(pthread_mutex_unlock(&r->lock));
	return NULL;
}

/* CGI: what the process before this one saw. */
static void recall_trip(struct recorder *r)
{
	int64_t age;

	if (health_recall(r->settings->spool, &age, &r->trip_ok) &&
	    age <= FRESH_MS)
		r->trip = clock_ms() - age;
}

struct recorder *recorder_start(const struct settings *s,
				enum recorder_mode mode)
{
	struct recorder *r = xcalloc(1, sizeof(*r));

	r->settings = s;
	r->mode = mode;
	r->hurry = INT64_MAX;
	r->nudged = INT64_MIN / 2;
	TAILQ_INIT(&r->waiting);
	STAILQ_INIT(&r->queue);
	STAILQ_INIT(&r->again);
	r->db = database_new(s->database);
	if (mode == RECORDER_ONCE)
		recall_trip(r);
	check(pthread_mutex_init(&r->lock, NULL));
	cond_init(&r->probed);
	cond_init(&r->end);
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake < 0 || pthread_create(&r->thread, NULL, writer, r) != 0) {
		log_message(LEVEL_ERROR, "the writer can't start: %m");
		abort();
	}
	return r;
}

/* What is left when the writer ended before its work did. */
static void free_leftovers(struct recorder *r)
{
	struct batch *b;

	if (r->flying)
		STAILQ_INSERT_HEAD(&r->again, r->flying, next);
	while ((b = STAILQ_FIRST(&r->again))) {
		STAILQ_REMOVE_HEAD(&r->again, next);
		answer_all(r, b, OUTCOME_UNAVAILABLE);
	}
}

bool recorder_stop(struct recorder *r, int64_t deadline)
{
	bool ended;

	recorder_hurry(r, deadline);
	check(pthread_mutex_lock(&r->lock));
	r->stopping = true;
	wake(r);
	while (!r->ended && clock_ms() < deadline)
		(void)cond_wait(&r->end, &r->lock, deadline);
	ended = r->ended;
	check(pthread_mutex_unlock(&r->lock));
	if (!ended)
		return false;
	check(pthread_join(r->thread, NULL));
	free_leftovers(r);
	database_free(r->db);
	close(r->wake);
	check(pthread_cond_destroy(&r->probed));
	check(pthread_cond_destroy(&r->end));
	check(pthread_mutex_destroy(&r->lock));
	free(r->ids);
	free(r);
	return true;
}
