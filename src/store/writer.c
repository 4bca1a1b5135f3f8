#include "store/writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/database.h"
#include "store/health.h"
#include "store/queue.h"

enum {
	RETRY_MS = 100, /* after the database failed us */
	OPEN_MS = 500, /* the same while the breaker is open */
	GATHER_MIN = 16, /* fewer at a time are not worth waiting for */
	GATHER_MS = 3, /* from one batch to the next, at most */
	NUDGE_MS = 1000, /* empty wake-ups are at most this frequent */
	STUCK_MS = 30000, /* a transaction without news is given up, */
	STUCK_MAX_MS = 300000, /* the next one after twice as long */
	REPEAT_LOG_MS = 60000 /* the same failure is logged once in this */
};

struct recorder {
	const struct settings *settings;
	enum recorder_mode mode;
	struct queue *queue;
	pthread_t thread;

	/* The writer's own. */
	struct database *db;
	struct batch *flying; /* recorded, its Sync not back yet */
	int64_t flying_since;
	int64_t gather_until; /* the next batch grows until then, */
	size_t enough; /* or until so many are in line */
	int64_t patience; /* ms, from STUCK_MS up */
	STAILQ_HEAD(, batch) again; /* to be recorded before the queue */
	STAILQ_HEAD(, batch) recorded; /* to be answered */
	int64_t *ids; /* events whose listeners are to be woken */
	size_t id_count;
	size_t id_capacity;
	bool notifying; /* a wake-up is on its way */
	bool owed; /* one may have got lost: an empty one makes it good */
	bool fresh; /* nothing was recorded yet on this connection */
	bool suspect; /* CGI: the database failed, a while ago */
	bool notify_apart; /* CGI: waking made recording fail */
	int64_t nudged; /* when the last empty one went */
	int64_t retry_at; /* not before, the database is failing us */
	int64_t used; /* when it was last busy */
	char said[6]; /* the SQLSTATE of the failure logged last, and when */
	int64_t said_at;
};

/* What became of a batch. */

static void remember_id(struct recorder *r, int64_t id)
{
	if (r->id_count == r->id_capacity) {
		r->id_capacity = r->id_capacity ? r->id_capacity * 2 : 256;
		r->ids = xrealloc(r->ids, r->id_capacity * sizeof(*r->ids));
	}
	r->ids[r->id_count++] = id;
}

static void wait_to_retry(struct recorder *r)
{
	r->retry_at =
		clock_ms() + (queue_is_open(r->queue) ? OPEN_MS : RETRY_MS);
}

static void answer_all(struct recorder *r, struct batch *b,
		       enum outcome outcome)
{
	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = outcome;
	queue_finish(r->queue, b);
}

static void put_back(struct recorder *r, struct batch *b)
{
	b = queue_prune(r->queue, b);
	if (b)
		STAILQ_INSERT_HEAD(&r->again, b, next);
}

/*
 * Busy events are tried once more, the next time they have to be given up:
 * all of a batch together, or each would wait for its lock in turn, and what
 * comes behind them for all of that.
 */
static void try_busy_again(struct recorder *r, struct batch *busy)
{
	if (!busy->count) {
		free(busy);
		return;
	}
	for (size_t i = 0; i < busy->count; i++)
		busy->jobs[i]->was_busy = true;
	STAILQ_INSERT_TAIL(&r->again, busy, next);
}

static void take_row(struct recorder *r, struct batch *b,
		     const struct database_row *row, struct batch *busy)
{
	struct job *j = b->jobs[row->place];
	bool notified = r->mode == RECORDER_ONCE && !r->notify_apart;

	switch (row->outcome) {
	case ROW_RECORDED:
		j->outcome = OUTCOME_RECORDED;
		break;
	case ROW_DUPLICATE:
	case ROW_REPEAT:
		j->outcome = OUTCOME_DUPLICATE;
		return;
	case ROW_BUSY:
		if (j->was_busy)
			return;
		b->jobs[row->place] = NULL;
		busy->jobs[busy->count++] = j;
		return;
	case ROW_PROMOTED:
		break;
	}
	if (!notified)
		remember_id(r, row->id);
}

/*
 * A transaction costs as much as ten to twenty of the events in it. So where
 * many come at a time and it was over at once, the next batch waits a moment
 * for most of those whom this one answers; few are not held up.
 */
static void gather(struct recorder *r, size_t recorded)
{
	size_t crowd = recorded + queue_lined_up(r->queue);

	r->enough = crowd < GATHER_MIN ? 1 : crowd - crowd / 4;
	if (r->enough > r->settings->batch)
		r->enough = r->settings->batch;
	r->gather_until = r->flying_since + GATHER_MS;
}

static bool gathering(const struct recorder *r, int64_t now)
{
	return r->enough > 1 && now < r->gather_until &&
	       queue_lined_up(r->queue) < r->enough;
}

static void batch_recorded(struct recorder *r, struct batch *b,
			   const struct database_result *result)
{
	struct batch *busy = batch_new(b->count);

	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = b->jobs[i]->delivery->reason
					      ? b->jobs[i]->on_quarantine
					      : OUTCOME_UNAVAILABLE;
	for (size_t i = 0; i < result->count; i++)
		take_row(r, b, &result->rows[i], busy);
	try_busy_again(r, busy);
	r->patience = STUCK_MS;
	if (r->mode == RECORDER_RESIDENT)
		gather(r, b->count);
	queue_committed(r->queue);
	STAILQ_INSERT_TAIL(&r->recorded, b, next);
}

/* After the next batch has been sent, so that the database need not wait. */
static void answer_recorded(struct recorder *r)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&r->recorded))) {
		STAILQ_REMOVE_HEAD(&r->recorded, next);
		queue_finish(r->queue, b);
	}
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
					       "3F", "40", "42", "53",
					       "55", "57", "58", NULL };

	return *sqlstate == '\0' || class_in(sqlstate, classes);
}

/* Errors that stay until somebody mends the set-up. */
static bool set_up_wrong(const char *sqlstate)
{
	static const char *const classes[] = { "28", "3D", "3F", "42", NULL };

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

static void say_failure(struct recorder *r,
			const struct database_result *result)
{
	int64_t now = clock_ms();

	if (r->said_at && strcmp(r->said, result->sqlstate) == 0 &&
	    now - r->said_at < REPEAT_LOG_MS)
		return;
	memcpy(r->said, result->sqlstate, sizeof(r->said));
	r->said_at = now;
	log_message(LEVEL_ERROR, "recording failed: %s: %s", result->sqlstate,
		    result->message);
}

static void batch_failed(struct recorder *r, struct batch *b,
			 const struct database_result *result)
{
	if (!not_its_fault(result->sqlstate) && b->count) {
		if (b->count > 1)
			split(r, b);
		else
			set_aside(r, b, result);
		return;
	}
	say_failure(r, result);
	wait_to_retry(r);
	if (set_up_wrong(result->sqlstate)) {
		answer_all(r, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* Alone in its transaction, waking can wait for somebody's commit. */
	if (r->mode == RECORDER_ONCE && strncmp(result->sqlstate, "55", 2) == 0)
		r->notify_apart = true;
	put_back(r, b);
}

static void note_trip(struct recorder *r, bool ok)
{
	if (r->mode == RECORDER_ONCE)
		health_remember(r->settings->spool, ok);
	queue_note_trip(r->queue, ok);
}

/* Nobody knows what became of that which was on its way. */
static void connection_lost(struct recorder *r)
{
	database_disconnect(r->db);
	if (r->flying) {
		put_back(r, r->flying);
		r->flying = NULL;
		r->owed = true;
	}
	if (r->notifying || r->id_count)
		r->owed = true;
	r->notifying = false;
	r->id_count = 0;
	wait_to_retry(r);
}

static void take_result(struct recorder *r,
			const struct database_result *result)
{
	struct batch *b = r->flying;

	r->used = clock_ms();
	/*
	 * Before those who wait go on by it. Somebody's lock says nothing
	 * against the database.
	 */
	note_trip(r, result->committed || !not_its_fault(result->sqlstate) ||
			     strcmp(result->sqlstate, "55P03") == 0);
	if (result->task == DATABASE_NOTIFY) {
		r->notifying = false;
		if (!result->committed) {
			/* In vain, where the set-up is wrong. */
			r->owed = !set_up_wrong(result->sqlstate);
			log_message(LEVEL_WARNING,
				    "waking the listeners failed: %s: %s",
				    result->sqlstate, result->message);
		}
	}
	if (result->task == DATABASE_RECORD && b) {
		r->flying = NULL;
		if (result->committed)
			batch_recorded(r, b, result);
		else
			batch_failed(r, b, result);
	}
	if (!result->committed && connection_useless(result->sqlstate))
		connection_lost(r);
}

/* What to send. */

static bool nudge_due(const struct recorder *r, int64_t now)
{
	return r->owed && !r->notifying && now - r->nudged >= NUDGE_MS;
}

static bool connect_now(struct recorder *r)
{
	if (!database_connect(r->db, clock_ms() + r->settings->deadline)) {
		note_trip(r, false);
		wait_to_retry(r);
		return false;
	}
	r->used = clock_ms();
	r->fresh = true;
	return true;
}

/*
 * Nobody brings us any while the breaker is open: we try with nothing. CGI
 * ends too soon for that; there the next process tries.
 */
static bool on_its_own(const struct recorder *r)
{
	return r->mode == RECORDER_RESIDENT && queue_is_open(r->queue);
}

static struct batch *next_batch(struct recorder *r)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&r->again))) {
		STAILQ_REMOVE_HEAD(&r->again, next);
		b = queue_prune(r->queue, b);
		if (b)
			return b;
	}
	if (gathering(r, clock_ms()))
		return NULL;
	b = queue_take(r->queue, r->settings->batch);
	return b || !on_its_own(r) ? b : batch_new(0);
}

static bool send_batch(struct recorder *r, struct batch *b)
{
	struct delivery **deliveries = xcalloc(b->count, sizeof(*deliveries));
	bool notify = r->mode == RECORDER_ONCE && !r->notify_apart;
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
				  r->settings->redelivery_window, notify);
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
	if (!database_pending(r->db) && queue_wants_probe(r->queue) &&
	    !database_send_ping(r->db))
		return false;
	return database_flush(r->db);
}

/* Something waits that could be sent, were it not for retry_at. */
static bool has_work(struct recorder *r)
{
	if (r->flying)
		return false;
	return queue_has_work(r->queue) || !STAILQ_EMPTY(&r->again) ||
	       on_its_own(r) ||
	       (!database_pending(r->db) && queue_wants_probe(r->queue));
}

static void dispatch(struct recorder *r)
{
	int64_t now = clock_ms();

	if (now < r->retry_at ||
	    !(has_work(r) || (!r->notifying && r->id_count) ||
	      nudge_due(r, now)))
		return;
	if (!database_connected(r->db)) {
		/* They need not wait for that. */
		answer_recorded(r);
		if (!connect_now(r))
			return;
	}
	if (!send_all(r, clock_ms()))
		connection_lost(r);
}

/* Waiting, receiving, ending. */

/* How long poll() may sleep; -1: until something happens. */
static int sleep_ms(const struct recorder *r, bool work, int64_t now)
{
	int64_t until = work ? r->retry_at : INT64_MAX;

	if (STAILQ_EMPTY(&r->again) && gathering(r, now))
		until = work ? later(until, r->gather_until) : r->gather_until;
	if (r->owed && !r->notifying)
		until = earlier(until,
				later(r->nudged + NUDGE_MS, r->retry_at));
	if (r->flying)
		until = earlier(until, r->flying_since + r->patience);
	else if (database_connected(r->db))
		until = earlier(until, r->used + r->settings->idle_disconnect);
	if (until == INT64_MAX)
		return -1;
	if (until <= now)
		return 0;
	return (int)earlier(until - now, 60000);
}

/* So many in line are a reason to wake up. */
static size_t wake_at(const struct recorder *r, int64_t now)
{
	return gathering(r, now) ? r->enough : 1;
}

/* True when the connection has something for us. */
static bool sleep_until_news(struct recorder *r)
{
	struct pollfd p[2] = { { .fd = queue_wake_fd(r->queue),
				 .events = POLLIN } };
	int n;

	p[1].fd = database_socket(r->db, &p[1].events);
	/* With a batch on its way its result wakes us, not the queue. */
	queue_asleep(r->queue, r->flying ? 0 : wake_at(r, clock_ms()));
	do
		n = poll(p, p[1].fd < 0 ? 1 : 2,
			 sleep_ms(r, has_work(r), clock_ms()));
	while (n < 0 && errno == EINTR);
	queue_awake(r->queue, p[0].revents & POLLIN);
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

/*
 * Gives up a connection that nobody needs, or that is stuck: seldom, since
 * a backend that waits for a standby stays behind, and each new one would
 * wait as well.
 */
static void look_after_connection(struct recorder *r)
{
	int64_t now = clock_ms();

	if (!database_connected(r->db))
		return;
	if (r->flying && now - r->flying_since >= r->patience) {
		log_message(LEVEL_ERROR, "no news from the database for %lld s",
			    (long long)r->patience / 1000);
		r->patience = earlier(r->patience * 2, STUCK_MAX_MS);
		connection_lost(r);
	} else if (!database_pending(r->db) && !r->owed && !r->id_count &&
		   now - r->used >= r->settings->idle_disconnect) {
		database_disconnect(r->db);
	}
}

/*
 * Nobody waits for a recording any more, only listeners for what is owed.
 * Not even they while the breaker is open: that would hold up whoever comes
 * after us, which wakes them.
 */
static bool finished(struct recorder *r)
{
	if (!queue_stopping(r->queue))
		return false;
	return clock_ms() >= queue_hurried(r->queue) ||
	       queue_is_open(r->queue) ||
	       (!queue_has_work(r->queue) && !r->flying && !r->notifying &&
		!r->id_count && !r->owed);
}

static void *writer(void *context)
{
	struct recorder *r = context;

	while (!finished(r)) {
		dispatch(r);
		answer_recorded(r);
		if (sleep_until_news(r))
			collect(r);
		look_after_connection(r);
	}
	answer_recorded(r);
	database_disconnect(r->db);
	queue_ended(r->queue);
	return NULL;
}

/* CGI: what the process before this one saw. */
static void recall_trip(struct recorder *r)
{
	int64_t age;
	bool ok;

	if (!health_recall(r->settings->spool, &age, &ok))
		return;
	queue_recall_trip(r->queue, ok, age);
	r->suspect = !ok && !queue_is_open(r->queue);
}

struct recorder *recorder_start(const struct settings *s,
				enum recorder_mode mode, bool breaker)
{
	struct recorder *r = xcalloc(1, sizeof(*r));
	int error;

	r->settings = s;
	r->mode = mode;
	r->nudged = INT64_MIN / 2;
	r->patience = STUCK_MS;
	STAILQ_INIT(&r->again);
	STAILQ_INIT(&r->recorded);
	r->db = database_new(s->database);
	/* Some may still be reading a request. */
	r->queue = queue_new(breaker, s->threads * 3 / 4);
	if (mode == RECORDER_ONCE)
		recall_trip(r);
	error = pthread_create(&r->thread, NULL, writer, r);
	if (error) {
		errno = error;
		log_message(LEVEL_ERROR, "the writer can't start: %m");
		abort();
	}
	return r;
}

/*
 * CGI: those after us go to the spool at once already while we find out for
 * all of them whether the database is back. Each that waits in vain leaves a
 * backend behind.
 */
bool recorder_submit(struct recorder *r, struct delivery *d, int64_t deadline,
		     answer_fn answer, void *context)
{
	if (r->suspect)
		health_remember(r->settings->spool, false);
	return queue_submit(r->queue, d, deadline, answer, context);
}

/* CGI: those after us need not find out what we did. */
void *recorder_overdue(struct recorder *r, int64_t *next)
{
	bool open = queue_is_open(r->queue);
	void *context = queue_overdue(r->queue, next);

	if (r->mode == RECORDER_ONCE && !open && queue_is_open(r->queue))
		health_remember(r->settings->spool, false);
	return context;
}

int recorder_alarm_fd(const struct recorder *r)
{
	return queue_alarm_fd(r->queue);
}

bool recorder_drain(struct recorder *r, struct delivery **deliveries,
		    size_t count, int64_t until, enum outcome *outcomes)
{
	return queue_drain(r->queue, deliveries, count, until, outcomes);
}

bool recorder_healthy(struct recorder *r)
{
	return queue_healthy(r->queue);
}

void recorder_hurry(struct recorder *r, int64_t deadline)
{
	queue_hurry(r->queue, deadline);
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
	queue_hurry(r->queue, deadline);
	queue_stop(r->queue);
	if (!queue_wait_end(r->queue, deadline) ||
	    pthread_join(r->thread, NULL) != 0)
		return false;
	free_leftovers(r);
	database_free(r->db);
	queue_free(r->queue);
	free(r->ids);
	free(r);
	return true;
}
