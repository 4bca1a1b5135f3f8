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
	OPEN_RETRY_MS = 500, /* the same while the breaker is open */
	DELAY_MIN_EVENTS = 16, /* fewer at a time are not worth waiting for */
	DELAY_MS = 3, /* from one batch to the next, at most */
	RESYNC_INTERVAL_MS =
		1000, /* empty wake-ups are at most this frequent */
	STUCK_TIMEOUT_MS = 30000, /* a transaction without news is given up, */
	STUCK_TIMEOUT_MAX_MS = 300000, /* the next one after twice as long */
	LOG_INTERVAL_MS = 60000 /* the same failure is logged once in this */
};

struct recorder {
	const struct settings *settings;
	enum recorder_kind mode;
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
	bool half_open; /* CGI: the database failed, a while ago */
	bool notify_separately; /* CGI: waking made recording fail */
	int64_t resync_sent_at; /* when the last empty one went */
	int64_t retry_at; /* not before, the database is failing us */
	int64_t last_active; /* when it was last busy */
	char logged_sqlstate
		[6]; /* the SQLSTATE of the failure logged last, and when */
	int64_t logged_at;
};

/* What became of a batch. */

static void add_notify_id(struct recorder *r, int64_t id)
{
	if (r->id_count == r->id_capacity) {
		r->id_capacity = r->id_capacity ? r->id_capacity * 2 : 256;
		r->ids = xrealloc(r->ids, r->id_capacity * sizeof(*r->ids));
	}
	r->ids[r->id_count++] = id;
}

static void wait_to_retry(struct recorder *r)
{
	r->retry_at = monotonic_ms() +
		      (queue_breaker_open(r->queue) ? OPEN_RETRY_MS : RETRY_MS);
}

static void complete_all(struct recorder *r, struct batch *b,
			 enum outcome outcome)
{
	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = outcome;
	queue_complete(r->queue, b);
}

static void requeue(struct recorder *r, struct batch *b)
{
	b = queue_drop_abandoned(r->queue, b);
	if (b)
		STAILQ_INSERT_HEAD(&r->retries, b, next);
}

/*
 * Busy events are tried once more, the next time they have to be given up:
 * all of a batch together, or each would wait for its lock in turn, and what
 * comes behind them for all of that.
 */
static void retry_busy(struct recorder *r, struct batch *busy)
{
	if (!busy->count) {
		free(busy);
		return;
	}
	for (size_t i = 0; i < busy->count; i++)
		busy->jobs[i]->lock_retried = true;
	STAILQ_INSERT_TAIL(&r->retries, busy, next);
}

static void apply_row(struct recorder *r, struct batch *b,
		      const struct database_row *row, struct batch *busy)
{
	struct job *j = b->jobs[row->index];
	bool notified = r->mode == RECORDER_ONE_SHOT && !r->notify_separately;

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
		add_notify_id(r, row->id);
}

/*
 * A transaction costs as much as ten to twenty of the events in it. So where
 * many come at a time and it was over at once, the next batch waits a moment
 * for most of those whom this one answers; few are not held up.
 */
static void set_batching_delay(struct recorder *r, size_t recorded)
{
	size_t crowd = recorded + queue_length(r->queue);

	r->delay_threshold = crowd < DELAY_MIN_EVENTS ? 1 : crowd - crowd / 4;
	if (r->delay_threshold > r->settings->batch)
		r->delay_threshold = r->settings->batch;
	r->delay_until = r->in_flight_since + DELAY_MS;
}

static bool is_delaying(const struct recorder *r, int64_t now)
{
	return r->delay_threshold > 1 && now < r->delay_until &&
	       queue_length(r->queue) < r->delay_threshold;
}

static void batch_committed(struct recorder *r, struct batch *b,
			    const struct database_result *result)
{
	struct batch *busy = batch_new(b->count);

	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = b->jobs[i]->delivery->reason
					      ? b->jobs[i]->quarantine_outcome
					      : OUTCOME_UNAVAILABLE;
	for (size_t i = 0; i < result->count; i++)
		apply_row(r, b, &result->rows[i], busy);
	retry_busy(r, busy);
	r->stuck_timeout = STUCK_TIMEOUT_MS;
	if (r->mode == RECORDER_DAEMON)
		set_batching_delay(r, b->count);
	queue_close_breaker(r->queue);
	STAILQ_INSERT_TAIL(&r->unanswered, b, next);
}

/* After the next batch has been sent, so that the database need not wait. */
static void answer_committed(struct recorder *r)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&r->unanswered))) {
		STAILQ_REMOVE_HEAD(&r->unanswered, next);
		queue_complete(r->queue, b);
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
static bool blames_server(const char *sqlstate)
{
	static const char *const classes[] = { "08", "25", "28", "3D",
					       "3F", "40", "42", "53",
					       "55", "57", "58", NULL };

	return *sqlstate == '\0' || class_in(sqlstate, classes);
}

/* Errors that stay until somebody mends the set-up. */
static bool is_setup_error(const char *sqlstate)
{
	static const char *const classes[] = { "28", "3D", "3F", "42", NULL };

	return class_in(sqlstate, classes);
}

/* Errors after which another connection, or another host, may do better. */
static bool needs_new_connection(const char *sqlstate)
{
	static const char *const classes[] = { "08", "25", "58", NULL };

	return *sqlstate == '\0' || class_in(sqlstate, classes) ||
	       strncmp(sqlstate, "57P", 3) == 0;
}

static void split_batch(struct recorder *r, struct batch *b)
{
	size_t half = b->count / 2;
	struct batch *rest = batch_new(b->count - half);

	rest->count = b->count - half;
	memcpy(rest->jobs, b->jobs + half, rest->count * sizeof(rest->jobs[0]));
	b->count = half;
	STAILQ_INSERT_HEAD(&r->retries, rest, next);
	STAILQ_INSERT_HEAD(&r->retries, b, next);
}

/* A lone event that PostgreSQL will not have goes to the quarantine. */
static void quarantine_event(struct recorder *r, struct batch *b,
			     const struct database_result *result)
{
	struct job *j = b->jobs[0];

	if (j->delivery->reason) {
		log_message(LEVEL_ERROR, "quarantine refused: %s: %s",
			    result->sqlstate, result->message);
		complete_all(r, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* invalid_text_representation is what the type json says. */
	j->quarantine_outcome = strcmp(result->sqlstate, "22P02") == 0
					? OUTCOME_MALFORMED
					: OUTCOME_INVALID;
	j->delivery->reason = xasprintf("PostgreSQL: %s (%s)", result->message,
					result->sqlstate);
	STAILQ_INSERT_HEAD(&r->retries, b, next);
}

static void log_failure_limited(struct recorder *r,
				const struct database_result *result)
{
	int64_t now = monotonic_ms();

	if (r->logged_at && strcmp(r->logged_sqlstate, result->sqlstate) == 0 &&
	    now - r->logged_at < LOG_INTERVAL_MS)
		return;
	memcpy(r->logged_sqlstate, result->sqlstate,
	       sizeof(r->logged_sqlstate));
	r->logged_at = now;
	log_message(LEVEL_ERROR, "recording failed: %s: %s", result->sqlstate,
		    result->message);
}

static void batch_failed(struct recorder *r, struct batch *b,
			 const struct database_result *result)
{
	if (!blames_server(result->sqlstate) && b->count) {
		if (b->count > 1)
			split_batch(r, b);
		else
			quarantine_event(r, b, result);
		return;
	}
	log_failure_limited(r, result);
	wait_to_retry(r);
	if (is_setup_error(result->sqlstate)) {
		complete_all(r, b, OUTCOME_UNAVAILABLE);
		return;
	}
	/* Alone in its transaction, waking can wait for somebody's commit. */
	if (r->mode == RECORDER_ONE_SHOT &&
	    strncmp(result->sqlstate, "55", 2) == 0)
		r->notify_separately = true;
	requeue(r, b);
}

static void round_trip_done(struct recorder *r, bool ok)
{
	if (r->mode == RECORDER_ONE_SHOT)
		breaker_file_save(r->settings->spool, ok);
	queue_round_trip_done(r->queue, ok);
}

/* Nobody knows what became of that which was on its way. */
static void connection_lost(struct recorder *r)
{
	database_disconnect(r->db);
	if (r->in_flight) {
		requeue(r, r->in_flight);
		r->in_flight = NULL;
		r->resync_owed = true;
	}
	if (r->notifying || r->id_count)
		r->resync_owed = true;
	r->notifying = false;
	r->id_count = 0;
	wait_to_retry(r);
}

static void apply_result(struct recorder *r,
			 const struct database_result *result)
{
	struct batch *b = r->in_flight;

	r->last_active = monotonic_ms();
	/*
	 * Before those who wait go on by it. Somebody's lock says nothing
	 * against the database.
	 */
	round_trip_done(r, result->committed ||
				   !blames_server(result->sqlstate) ||
				   strcmp(result->sqlstate, "55P03") == 0);
	if (result->request == DATABASE_NOTIFY) {
		r->notifying = false;
		if (!result->committed) {
			/* In vain, where the set-up is wrong. */
			r->resync_owed = !is_setup_error(result->sqlstate);
			log_message(LEVEL_WARNING,
				    "waking the listeners failed: %s: %s",
				    result->sqlstate, result->message);
		}
	}
	if (result->request == DATABASE_RECORD && b) {
		r->in_flight = NULL;
		if (result->committed)
			batch_committed(r, b, result);
		else
			batch_failed(r, b, result);
	}
	if (!result->committed && needs_new_connection(result->sqlstate))
		connection_lost(r);
}

/* What to send. */

static bool resync_due(const struct recorder *r, int64_t now)
{
	return r->resync_owed && !r->notifying &&
	       now - r->resync_sent_at >= RESYNC_INTERVAL_MS;
}

static bool connect_database(struct recorder *r)
{
	if (!database_connect(r->db, monotonic_ms() + r->settings->deadline)) {
		round_trip_done(r, false);
		wait_to_retry(r);
		return false;
	}
	r->last_active = monotonic_ms();
	r->first_batch_pending = true;
	return true;
}

/*
 * Nobody brings us any while the breaker is open: we try with nothing. CGI
 * ends too soon for that; there the next process tries.
 */
static bool probes_while_open(const struct recorder *r)
{
	return r->mode == RECORDER_DAEMON && queue_breaker_open(r->queue);
}

static struct batch *next_batch(struct recorder *r)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&r->retries))) {
		STAILQ_REMOVE_HEAD(&r->retries, next);
		b = queue_drop_abandoned(r->queue, b);
		if (b)
			return b;
	}
	if (is_delaying(r, monotonic_ms()))
		return NULL;
	b = queue_take(r->queue, r->settings->batch);
	return b || !probes_while_open(r) ? b : batch_new(0);
}

static bool send_batch(struct recorder *r, struct batch *b)
{
	struct delivery **deliveries = xcalloc(b->count, sizeof(*deliveries));
	bool notify = r->mode == RECORDER_ONE_SHOT && !r->notify_separately;
	bool ok;

	for (size_t i = 0; i < b->count; i++)
		deliveries[i] = b->jobs[i]->delivery;
	r->in_flight = b;
	r->in_flight_since = monotonic_ms();
	/* Whoever was here before us may have died owing one. */
	if (r->first_batch_pending && r->mode == RECORDER_DAEMON)
		r->resync_owed = true;
	r->first_batch_pending = false;
	ok = database_send_record(r->db, deliveries, b->count,
				  r->settings->redelivery_window, notify);
	free(deliveries);
	return ok;
}

/* Wakes the listeners, after the commit and apart from the next one. */
static bool send_notification(struct recorder *r, int64_t now)
{
	size_t count = r->id_count;

	if (r->notifying || (!count && !resync_due(r, now)))
		return true;
	/* Any wake-up makes good for a lost one: all mean "look now". */
	r->resync_owed = false;
	r->resync_sent_at = count ? r->resync_sent_at : now;
	r->notifying = true;
	r->id_count = 0;
	return database_send_notify(r->db, r->ids, count);
}

static bool send_all(struct recorder *r, int64_t now)
{
	struct batch *b = r->in_flight ? NULL : next_batch(r);

	if (b && !send_batch(r, b))
		return false;
	if (!send_notification(r, now))
		return false;
	if (!database_pending(r->db) && queue_probe_wanted(r->queue) &&
	    !database_send_ping(r->db))
		return false;
	return database_flush(r->db);
}

/* Something waits that could be sent, were it not for retry_at. */
static bool has_work(struct recorder *r)
{
	if (r->in_flight)
		return false;
	return queue_has_work(r->queue) || !STAILQ_EMPTY(&r->retries) ||
	       probes_while_open(r) ||
	       (!database_pending(r->db) && queue_probe_wanted(r->queue));
}

static void send_due(struct recorder *r)
{
	int64_t now = monotonic_ms();

	if (now < r->retry_at ||
	    !(has_work(r) || (!r->notifying && r->id_count) ||
	      resync_due(r, now)))
		return;
	if (!database_connected(r->db)) {
		/* They need not wait for that. */
		answer_committed(r);
		if (!connect_database(r))
			return;
	}
	if (!send_all(r, monotonic_ms()))
		connection_lost(r);
}

/* Waiting, receiving, ending. */

/* How long poll() may sleep; -1: until something happens. */
static int sleep_timeout(const struct recorder *r, bool work, int64_t now)
{
	int64_t until = work ? r->retry_at : INT64_MAX;

	if (STAILQ_EMPTY(&r->retries) && is_delaying(r, now))
		until = work ? max_i64(until, r->delay_until) : r->delay_until;
	if (r->resync_owed && !r->notifying)
		until = min_i64(until,
				max_i64(r->resync_sent_at + RESYNC_INTERVAL_MS,
					r->retry_at));
	if (r->in_flight)
		until = min_i64(until, r->in_flight_since + r->stuck_timeout);
	else if (database_connected(r->db))
		until = min_i64(until,
				r->last_active + r->settings->idle_disconnect);
	if (until == INT64_MAX)
		return -1;
	if (until <= now)
		return 0;
	return (int)min_i64(until - now, 60000);
}

/* So many in line are a reason to wake up. */
static size_t wake_threshold(const struct recorder *r, int64_t now)
{
	return is_delaying(r, now) ? r->delay_threshold : 1;
}

/* True when the connection has something for us. */
static bool wait_for_io(struct recorder *r)
{
	struct pollfd p[2] = { { .fd = queue_writer_fd(r->queue),
				 .events = POLLIN } };
	int n;

	p[1].fd = database_socket(r->db, &p[1].events);
	/* With a batch on its way its result wakes us, not the queue. */
	queue_arm_wakeup(r->queue,
			 r->in_flight ? 0 : wake_threshold(r, monotonic_ms()));
	do
		n = poll(p, p[1].fd < 0 ? 1 : 2,
			 sleep_timeout(r, has_work(r), monotonic_ms()));
	while (n < 0 && errno == EINTR);
	queue_disarm_wakeup(r->queue, p[0].revents & POLLIN);
	return p[1].fd >= 0 && p[1].revents;
}

/* Takes in what has come, up to the loss of the connection. */
static void receive_results(struct recorder *r)
{
	struct database_result result;
	enum database_status news = DATABASE_NOTHING;
	bool alive = database_receive(r->db);

	/* What came before the loss still counts. */
	while (database_connected(r->db) &&
	       (news = database_next(r->db, &result)) == DATABASE_RESULT)
		apply_result(r, &result);
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
static void check_connection(struct recorder *r)
{
	int64_t now = monotonic_ms();

	if (!database_connected(r->db))
		return;
	if (r->in_flight && now - r->in_flight_since >= r->stuck_timeout) {
		log_message(LEVEL_ERROR, "no news from the database for %lld s",
			    (long long)r->stuck_timeout / 1000);
		r->stuck_timeout =
			min_i64(r->stuck_timeout * 2, STUCK_TIMEOUT_MAX_MS);
		connection_lost(r);
	} else if (!database_pending(r->db) && !r->resync_owed &&
		   !r->id_count &&
		   now - r->last_active >= r->settings->idle_disconnect) {
		database_disconnect(r->db);
	}
}

/*
 * Nobody waits for a recording any more, only listeners for what is owed.
 * Not even they while the breaker is open: that would hold up whoever comes
 * after us, which wakes them.
 */
static bool may_end(struct recorder *r)
{
	if (!queue_stopping(r->queue))
		return false;
	return monotonic_ms() >= queue_stop_deadline(r->queue) ||
	       queue_breaker_open(r->queue) ||
	       (!queue_has_work(r->queue) && !r->in_flight && !r->notifying &&
		!r->id_count && !r->resync_owed);
}

static void *writer_main(void *context)
{
	struct recorder *r = context;

	while (!may_end(r)) {
		send_due(r);
		answer_committed(r);
		if (wait_for_io(r))
			receive_results(r);
		check_connection(r);
	}
	answer_committed(r);
	database_disconnect(r->db);
	queue_writer_ended(r->queue);
	return NULL;
}

/* CGI: what the process before this one saw. */
static void restore_round_trip(struct recorder *r)
{
	int64_t age;
	bool ok;

	if (!breaker_file_load(r->settings->spool, &age, &ok))
		return;
	queue_restore_round_trip(r->queue, ok, age);
	r->half_open = !ok && !queue_breaker_open(r->queue);
}

struct recorder *recorder_start(const struct settings *s,
				enum recorder_kind mode, bool breaker)
{
	struct recorder *r = xcalloc(1, sizeof(*r));
	int error;

	r->settings = s;
	r->mode = mode;
	r->resync_sent_at = INT64_MIN / 2;
	r->stuck_timeout = STUCK_TIMEOUT_MS;
	STAILQ_INIT(&r->retries);
	STAILQ_INIT(&r->unanswered);
	r->db = database_new(s->database);
	/* Some may still be reading a request. */
	r->queue = queue_new(breaker, s->threads * 3 / 4);
	if (mode == RECORDER_ONE_SHOT)
		restore_round_trip(r);
	error = pthread_create(&r->thread, NULL, writer_main, r);
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
		     outcome_fn answer, void *context)
{
	if (r->half_open)
		breaker_file_save(r->settings->spool, false);
	return queue_submit(r->queue, d, deadline, answer, context);
}

/* CGI: those after us need not find out what we did. */
void *recorder_overdue(struct recorder *r, int64_t *next)
{
	bool open = queue_breaker_open(r->queue);
	void *context = queue_overdue(r->queue, next);

	if (r->mode == RECORDER_ONE_SHOT && !open &&
	    queue_breaker_open(r->queue))
		breaker_file_save(r->settings->spool, false);
	return context;
}

int recorder_overdue_fd(const struct recorder *r)
{
	return queue_overdue_fd(r->queue);
}

bool recorder_submit_and_wait(struct recorder *r, struct delivery **deliveries,
			      size_t count, int64_t until,
			      enum outcome *outcomes)
{
	return queue_submit_and_wait(r->queue, deliveries, count, until,
				     outcomes);
}

bool recorder_healthy(struct recorder *r)
{
	return queue_healthy(r->queue);
}

void recorder_set_stop_deadline(struct recorder *r, int64_t deadline)
{
	queue_set_stop_deadline(r->queue, deadline);
}

/* What is left when the writer ended before its work did. */
static void free_unfinished(struct recorder *r)
{
	struct batch *b;

	if (r->in_flight)
		STAILQ_INSERT_HEAD(&r->retries, r->in_flight, next);
	while ((b = STAILQ_FIRST(&r->retries))) {
		STAILQ_REMOVE_HEAD(&r->retries, next);
		complete_all(r, b, OUTCOME_UNAVAILABLE);
	}
}

bool recorder_stop(struct recorder *r, int64_t deadline)
{
	queue_set_stop_deadline(r->queue, deadline);
	queue_stop(r->queue);
	if (!queue_wait_writer_end(r->queue, deadline) ||
	    pthread_join(r->thread, NULL) != 0)
		return false;
	free_unfinished(r);
	database_free(r->db);
	queue_free(r->queue);
	free(r->ids);
	free(r);
	return true;
}
