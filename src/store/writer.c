#include "store/writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "postgres/sqlstate.h"
#include "store/batch.h"
#include "store/database.h"

enum {
	RETRY_MS = 100, /* after the database failed us */
	OPEN_RETRY_MS = 500, /* the same while the breaker is open */
	DELAY_MIN_EVENTS = 16, /* fewer at a time are not worth waiting for */
	DELAY_MS = 3, /* from one batch to the next, at most */
	RESYNC_INTERVAL_MS =
		1000, /* empty wake-ups are at most this frequent */
	STUCK_TIMEOUT_MS = 30000, /* a transaction without news is given up, */
	STUCK_TIMEOUT_MAX_MS = 300000, /* the next one after twice as long */
	LOG_INTERVAL_MS = 60000 /* the same failure is logged once in this */
};

struct writer {
	const struct settings *settings;
	struct writer_options options;
	struct queue *queue;
	pthread_t thread;

	/* The writer's own. */
	struct database *db;
	struct batch *in_flight; /* recorded, its Sync not back yet */
	int64_t in_flight_since;
	int64_t delay_until; /* the next batch grows until then, */
	size_t delay_threshold; /* or until so many are in line */
	int64_t stuck_timeout; /* ms, from STUCK_TIMEOUT_MS up */
	STAILQ_HEAD(, batch) retries; /* to be recorded before the queue */
	STAILQ_HEAD(, batch) unanswered; /* to be answered */
	int64_t *ids; /* events whose listeners are to be woken */
	size_t id_count;
	size_t id_capacity;
	bool notifying; /* a wake-up is on its way */
	bool resync_owed; /* one may have got lost: an empty one makes it good */
	bool first_batch_pending; /* nothing was recorded yet on this connection */
	bool notify_separately; /* notifying made recording fail */
	int64_t resync_sent_at; /* when the last empty one went */
	int64_t retry_at; /* not before, the database is failing us */
	int64_t last_active; /* when it was last busy */
	char logged_sqlstate
		[6]; /* the SQLSTATE of the failure logged last, and when */
	int64_t logged_at;
};

/* What became of a batch. */

static void add_notify_id(struct writer *w, int64_t id)
{
	if (w->id_count == w->id_capacity) {
		w->id_capacity = w->id_capacity ? w->id_capacity * 2 : 256;
		w->ids = xrealloc(w->ids, w->id_capacity * sizeof(*w->ids));
	}
	w->ids[w->id_count++] = id;
}

static void wait_to_retry(struct writer *w)
{
	w->retry_at =
		monotonic_ms() +
		(queue_look(w->queue).breaker_open ? OPEN_RETRY_MS : RETRY_MS);
}

static void complete_all(struct writer *w, struct batch *b,
			 enum outcome outcome)
{
	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = outcome;
	queue_complete(w->queue, b);
}

static void requeue(struct writer *w, struct batch *b)
{
	b = queue_drop_abandoned(w->queue, b);
	if (b)
		STAILQ_INSERT_HEAD(&w->retries, b, next);
}

/*
 * Busy events are tried once more, the next time they have to be given up:
 * all of a batch together, or each would wait for its lock in turn, and what
 * comes behind them for all of that.
 */
static void retry_busy(struct writer *w, struct batch *busy)
{
	if (!busy->count) {
		free(busy);
		return;
	}
	for (size_t i = 0; i < busy->count; i++)
		busy->jobs[i]->lock_retried = true;
	STAILQ_INSERT_TAIL(&w->retries, busy, next);
}

static void apply_row(struct writer *w, struct batch *b,
		      const struct database_row *row, struct batch *busy)
{
	struct job *j = b->jobs[row->index];
	bool notified = w->options.notify_in_commit && !w->notify_separately;

	switch (row->outcome) {
	case ROW_RECORDED:
		j->outcome = OUTCOME_RECORDED;
		break;
	case ROW_DUPLICATE:
	case ROW_REPEAT:
		j->outcome = OUTCOME_DUPLICATE;
		return;
	case ROW_BUSY:
		if (j->lock_retried)
			return;
		b->jobs[row->index] = NULL;
		busy->jobs[busy->count++] = j;
		return;
	case ROW_PROMOTED:
		break;
	}
	if (!notified)
		add_notify_id(w, row->id);
}

/*
 * A transaction costs as much as ten to twenty of the events in it. So where
 * many come at a time and it was over at once, the next batch waits a moment
 * for most of those whom this one answers; few are not held up.
 */
static void set_batching_delay(struct writer *w, size_t recorded)
{
	size_t crowd = recorded + queue_look(w->queue).length;

	w->delay_threshold = crowd < DELAY_MIN_EVENTS ? 1 : crowd - crowd / 4;
	if (w->delay_threshold > w->settings->batch)
		w->delay_threshold = w->settings->batch;
	w->delay_until = w->in_flight_since + DELAY_MS;
}

static bool is_delaying(const struct writer *w, int64_t now)
{
	return w->delay_threshold > 1 && now < w->delay_until &&
	       queue_look(w->queue).length < w->delay_threshold;
}

static void batch_committed(struct writer *w, struct batch *b,
			    const struct database_result *result)
{
	struct batch *busy = batch_new(b->count);

	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = b->jobs[i]->delivery->reason
					      ? b->jobs[i]->quarantine_outcome
					      : OUTCOME_UNAVAILABLE;
	for (size_t i = 0; i < result->count; i++)
		apply_row(w, b, &result->rows[i], busy);
	retry_busy(w, busy);
	w->stuck_timeout = STUCK_TIMEOUT_MS;
	set_batching_delay(w, b->count);
	queue_close_breaker(w->queue);
	STAILQ_INSERT_TAIL(&w->unanswered, b, next);
}

/* After the next batch has been sent, so that the database need not wait. */
static void answer_committed(struct writer *w)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&w->unanswered))) {
		STAILQ_REMOVE_HEAD(&w->unanswered, next);
		queue_complete(w->queue, b);
	}
}

static void split_batch(struct writer *w, struct batch *b)
{
	size_t half = b->count / 2;
	struct batch *rest = batch_new(b->count - half);

	rest->count = b->count - half;
	memcpy(rest->jobs, b->jobs + half, rest->count * sizeof(rest->jobs[0]));
	b->count = half;
	STAILQ_INSERT_HEAD(&w->retries, rest, next);
	STAILQ_INSERT_HEAD(&w->retries, b, next);
}

/* A lone event that PostgreSQL will not have goes to the quarantine. */
static void quarantine_event(struct writer *w, struct batch *b,
			     const struct database_result *result)
{
	struct job *j = b->jobs[0];

	if (j->delivery->reason) {
		log_message(LEVEL_ERROR, "quarantine refused: %s: %s",
			    result->sqlstate, result->message);
		complete_all(w, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* invalid_text_representation is what the type json says. */
	j->quarantine_outcome = strcmp(result->sqlstate, "22P02") == 0
					? OUTCOME_MALFORMED
					: OUTCOME_INVALID;
	j->delivery->reason = xasprintf("PostgreSQL: %s (%s)", result->message,
					result->sqlstate);
	STAILQ_INSERT_HEAD(&w->retries, b, next);
}

static void log_failure_limited(struct writer *w,
				const struct database_result *result)
{
	int64_t now = monotonic_ms();

	if (w->logged_at && strcmp(w->logged_sqlstate, result->sqlstate) == 0 &&
	    now - w->logged_at < LOG_INTERVAL_MS)
		return;
	memcpy(w->logged_sqlstate, result->sqlstate,
	       sizeof(w->logged_sqlstate));
	w->logged_at = now;
	log_message(LEVEL_ERROR, "recording failed: %s: %s", result->sqlstate,
		    result->message);
}

static void batch_failed(struct writer *w, struct batch *b,
			 const struct database_result *result)
{
	if (!sqlstate_blames_server(result->sqlstate) && b->count) {
		if (b->count > 1)
			split_batch(w, b);
		else
			quarantine_event(w, b, result);
		return;
	}
	log_failure_limited(w, result);
	wait_to_retry(w);
	if (sqlstate_is_setup_error(result->sqlstate)) {
		complete_all(w, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* Alone in its transaction, waking can wait for somebody's commit. */
	if (w->options.notify_in_commit &&
	    strncmp(result->sqlstate, "55", 2) == 0)
		w->notify_separately = true;
	requeue(w, b);
}

/* Nobody knows what became of that which was on its way. */
static void connection_lost(struct writer *w)
{
	database_disconnect(w->db);
	if (w->in_flight) {
		requeue(w, w->in_flight);
		w->in_flight = NULL;
		w->resync_owed = true;
	}
	if (w->notifying || w->id_count)
		w->resync_owed = true;
	w->notifying = false;
	w->id_count = 0;
	wait_to_retry(w);
}

static void apply_result(struct writer *w, const struct database_result *result)
{
	struct batch *b = w->in_flight;
	bool ok;

	w->last_active = monotonic_ms();
	/*
	 * Before those who wait go on by it. Somebody's lock says nothing
	 * against the database.
	 */
	ok = result->committed || !sqlstate_blames_server(result->sqlstate) ||
	     strcmp(result->sqlstate, "55P03") == 0;
	queue_round_trip_done(w->queue, ok ? ROUND_TRIP_OK : ROUND_TRIP_FAILED);
	if (result->request == DATABASE_NOTIFY) {
		w->notifying = false;
		if (!result->committed) {
			/* In vain, where the set-up is wrong. */
			w->resync_owed =
				!sqlstate_is_setup_error(result->sqlstate);
			log_message(LEVEL_WARNING,
				    "waking the listeners failed: %s: %s",
				    result->sqlstate, result->message);
		}
	}
	if (result->request == DATABASE_RECORD && b) {
		w->in_flight = NULL;
		if (result->committed)
			batch_committed(w, b, result);
		else
			batch_failed(w, b, result);
	}
	if (!result->committed &&
	    sqlstate_needs_new_connection(result->sqlstate))
		connection_lost(w);
}

/* What to send. */

static bool resync_due(const struct writer *w, int64_t now)
{
	return w->resync_owed && !w->notifying &&
	       now - w->resync_sent_at >= RESYNC_INTERVAL_MS;
}

static bool connect_database(struct writer *w)
{
	if (!database_connect(w->db, monotonic_ms() + w->settings->deadline)) {
		queue_round_trip_done(w->queue, ROUND_TRIP_FAILED);
		wait_to_retry(w);
		return false;
	}
	w->last_active = monotonic_ms();
	w->first_batch_pending = true;
	return true;
}

/* Nobody brings us any while the breaker is open: we try with nothing. */
static bool probes_while_open(const struct writer *w)
{
	return w->options.probe_while_open && queue_look(w->queue).breaker_open;
}

static struct batch *next_batch(struct writer *w)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&w->retries))) {
		STAILQ_REMOVE_HEAD(&w->retries, next);
		b = queue_drop_abandoned(w->queue, b);
		if (b)
			return b;
	}
	if (is_delaying(w, monotonic_ms()))
		return NULL;
	b = queue_take(w->queue, w->settings->batch);
	return b || !probes_while_open(w) ? b : batch_new(0);
}

static bool send_batch(struct writer *w, struct batch *b)
{
	struct delivery **deliveries = xcalloc(b->count, sizeof(*deliveries));
	bool notify = w->options.notify_in_commit && !w->notify_separately;
	bool ok;

	for (size_t i = 0; i < b->count; i++)
		deliveries[i] = b->jobs[i]->delivery;
	w->in_flight = b;
	w->in_flight_since = monotonic_ms();
	/* Whoever was here before us may have died owing one. */
	if (w->first_batch_pending && !w->options.notify_in_commit)
		w->resync_owed = true;
	w->first_batch_pending = false;
	ok = database_send_record(w->db, deliveries, b->count,
				  w->settings->redelivery_window, notify);
	free(deliveries);
	return ok;
}

/* Wakes the listeners, after the commit and apart from the next one. */
static bool send_notification(struct writer *w, int64_t now)
{
	size_t count = w->id_count;

	if (w->notifying || (!count && !resync_due(w, now)))
		return true;
	/* Any wake-up makes good for a lost one: all mean "look now". */
	w->resync_owed = false;
	w->resync_sent_at = count ? w->resync_sent_at : now;
	w->notifying = true;
	w->id_count = 0;
	return database_send_notify(w->db, w->ids, count);
}

static bool send_all(struct writer *w, int64_t now)
{
	struct batch *b;

	/* Before the batch, whose end it would have to wait for. */
	if (!database_pending(w->db) && queue_look(w->queue).probe_wanted &&
	    !database_send_ping(w->db))
		return false;
	b = w->in_flight ? NULL : next_batch(w);
	if (b && !send_batch(w, b))
		return false;
	if (!send_notification(w, now))
		return false;
	return database_flush(w->db);
}

/* Something waits that could be sent, were it not for retry_at. */
static bool has_work(struct writer *w)
{
	if (w->in_flight)
		return false;
	return queue_look(w->queue).has_work || !STAILQ_EMPTY(&w->retries) ||
	       probes_while_open(w) ||
	       (!database_pending(w->db) && queue_look(w->queue).probe_wanted);
}

static void send_due(struct writer *w)
{
	int64_t now = monotonic_ms();

	if (now < w->retry_at ||
	    !(has_work(w) || (!w->notifying && w->id_count) ||
	      resync_due(w, now)))
		return;
	if (!database_connected(w->db)) {
		/* They need not wait for that. */
		answer_committed(w);
		if (!connect_database(w))
			return;
	}
	if (!send_all(w, monotonic_ms()))
		connection_lost(w);
}

/* Waiting, receiving, ending. */

/* How long poll() may sleep; -1: until something happens. */
static int sleep_timeout(const struct writer *w, bool work, int64_t now)
{
	int64_t until = work ? w->retry_at : INT64_MAX;

	if (STAILQ_EMPTY(&w->retries) && is_delaying(w, now))
		until = work ? max_i64(until, w->delay_until) : w->delay_until;
	if (w->resync_owed && !w->notifying)
		until = min_i64(until,
				max_i64(w->resync_sent_at + RESYNC_INTERVAL_MS,
					w->retry_at));
	if (w->in_flight)
		until = min_i64(until, w->in_flight_since + w->stuck_timeout);
	else if (database_connected(w->db))
		until = min_i64(until,
				w->last_active + w->settings->idle_disconnect);
	if (until == INT64_MAX)
		return -1;
	if (until <= now)
		return 0;
	return (int)min_i64(until - now, 60000);
}

/* So many in line are a reason to wake up. */
static size_t wake_threshold(const struct writer *w, int64_t now)
{
	return is_delaying(w, now) ? w->delay_threshold : 1;
}

/* True when the connection has something for us. */
static bool wait_for_io(struct writer *w)
{
	struct pollfd p[2] = { { .fd = queue_writer_fd(w->queue),
				 .events = POLLIN } };
	int n;

	p[1].fd = database_socket(w->db, &p[1].events);
	/* With a batch on its way its result wakes us, not the queue. */
	queue_arm_wakeup(w->queue,
			 w->in_flight ? 0 : wake_threshold(w, monotonic_ms()));
	do
		n = poll(p, p[1].fd < 0 ? 1 : 2,
			 sleep_timeout(w, has_work(w), monotonic_ms()));
	while (n < 0 && errno == EINTR);
	queue_disarm_wakeup(w->queue, p[0].revents & POLLIN);
	return p[1].fd >= 0 && p[1].revents;
}

/* Takes in what has come, up to the loss of the connection. */
static void receive_results(struct writer *w)
{
	struct database_result result;
	enum database_status news = DATABASE_NOTHING;
	bool alive = database_receive(w->db);

	/* What came before the loss still counts. */
	while (database_connected(w->db) &&
	       (news = database_next(w->db, &result)) == DATABASE_RESULT)
		apply_result(w, &result);
	if (database_connected(w->db) && (!alive || news == DATABASE_LOST)) {
		log_message(LEVEL_WARNING, "the database connection was lost");
		connection_lost(w);
	}
}

/*
 * Gives up a connection that nobody needs, or that is stuck: seldom, since
 * a backend that waits for a standby stays behind, and each new one would
 * wait as well.
 */
static void check_connection(struct writer *w)
{
	int64_t now = monotonic_ms();

	if (!database_connected(w->db))
		return;
	if (w->in_flight && now - w->in_flight_since >= w->stuck_timeout) {
		log_message(LEVEL_ERROR, "no news from the database for %lld s",
			    (long long)w->stuck_timeout / 1000);
		w->stuck_timeout =
			min_i64(w->stuck_timeout * 2, STUCK_TIMEOUT_MAX_MS);
		connection_lost(w);
	} else if (!database_pending(w->db) && !w->resync_owed &&
		   !w->id_count &&
		   now - w->last_active >= w->settings->idle_disconnect) {
		database_disconnect(w->db);
	}
}

/*
 * Nobody waits for a recording any more, only listeners for what is owed.
 * Not even they while the breaker is open: that would hold up whoever comes
 * after us, which wakes them.
 */
static bool may_end(struct writer *w)
{
	if (!queue_look(w->queue).stopping)
		return false;
	return monotonic_ms() >= queue_look(w->queue).stop_deadline ||
	       queue_look(w->queue).breaker_open ||
	       (!queue_look(w->queue).has_work && !w->in_flight &&
		!w->notifying && !w->id_count && !w->resync_owed);
}

static void *writer_main(void *context)
{
	struct writer *w = context;

	while (!may_end(w)) {
		send_due(w);
		answer_committed(w);
		if (wait_for_io(w))
			receive_results(w);
		check_connection(w);
	}
	answer_committed(w);
	database_disconnect(w->db);
	return NULL;
}

static bool probe_beside(void *context, int64_t deadline)
{
	const struct writer *w = context;

	return database_answers(w->settings->database, deadline);
}

struct writer *writer_start(const struct settings *s, struct queue *q,
			    const struct writer_options *options)
{
	struct writer *w = xcalloc(1, sizeof(*w));
	int error;

	w->settings = s;
	w->options = *options;
	w->queue = q;
	w->resync_sent_at = INT64_MIN / 2;
	w->stuck_timeout = STUCK_TIMEOUT_MS;
	STAILQ_INIT(&w->retries);
	STAILQ_INIT(&w->unanswered);
	w->db = database_new(s->database);
	queue_set_probe(q, probe_beside, w);
	error = pthread_create(&w->thread, NULL, writer_main, w);
	if (error) {
		errno = error;
		log_message(LEVEL_ERROR, "the writer can't start: %m");
		abort();
	}
	return w;
}

/* What is left when the writer ended before its work did. */
static void free_unfinished(struct writer *w)
{
	struct batch *b;

	if (w->in_flight)
		STAILQ_INSERT_HEAD(&w->retries, w->in_flight, next);
	while ((b = STAILQ_FIRST(&w->retries))) {
		STAILQ_REMOVE_HEAD(&w->retries, next);
		complete_all(w, b, OUTCOME_UNAVAILABLE);
	}
}

bool writer_stop(struct writer *w, int64_t deadline)
{
	queue_set_stop_deadline(w->queue, deadline);
	queue_stop(w->queue);
	if (!thread_join_until(w->thread, deadline))
		return false;
	free_unfinished(w);
	database_free(w->db);
	free(w->ids);
	free(w);
	return true;
}
