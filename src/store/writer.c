/*
 * Owns the one connection that records, the batches between queue and
 * database, and the decision when to send what. Must not know requests,
 * sockets of web servers or CGI.
 *
 * A batch is in one of three places. It is in flight until its transaction
 * has ended; it is among the retries if it failed or was locked; or it is
 * unanswered, that is committed, until queue_complete() reports the outcomes.
 * The next batch is sent before the last one is answered, so that the
 * database need not wait for us.
 *
 * Threads: writer_main() runs in the thread that writer_start() starts, and
 * all of struct writer is that thread's, but for `settings` and `queue`.
 * Everything that other threads say comes through the queue. One function
 * runs in other threads: probe_separately(), from queue_healthy().
 */
#include "store/writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "postgres/sqlstate.h"
#include "store/batch.h"
#include "store/batching_delay.h"
#include "store/database.h"
#include "store/failure.h"
#include "store/notifications.h"
#include "store/retries.h"

enum {
	RETRY_MS = 100, /* after the database failed */
	OPEN_RETRY_MS = 500, /* the same while the breaker is open */
	STUCK_TIMEOUT_MS = 30000, /* of a transaction without any news */
	STUCK_TIMEOUT_MAX_MS = 300000, /* it doubles up to this */
	POLL_MAX_MS = 60000
};

struct writer {
	const struct settings *settings;
	struct writer_options options;
	struct queue *queue;
	pthread_t thread;

	struct database *db;
	struct queue_view view; /* of this round of the loop */
	struct batch *in_flight; /* its transaction has not ended */
	int64_t in_flight_since;
	int64_t stuck_timeout; /* ms */
	struct retries retries; /* before what is in the queue */
	STAILQ_HEAD(, batch) unanswered; /* committed */
	struct batching_delay delay; /* of the next batch */
	struct notifications notifications;
	bool notify_separately; /* notifying made recording fail */
	bool first_batch_pending; /* none was sent on this connection */
	int64_t retry_at; /* nothing is sent before */
	int64_t last_active; /* of the connection */
	struct log_limit loss_limit;
};

/* Pauses. */

static void wait_to_retry(struct writer *w)
{
	w->retry_at = monotonic_ms() +
		      (w->view.breaker_open ? OPEN_RETRY_MS : RETRY_MS);
}

/* A batch that committed. */

static bool notifies_in_commit(const struct writer *w)
{
	return w->options.notify_in_commit && !w->notify_separately;
}

/* Applies one row of the result; a job that is retried moves to `busy`. */
static void apply_row(struct writer *w, struct batch *b,
		      const struct database_row *row, struct batch *busy)
{
	struct job *j = b->jobs[row->index];

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
	case ROW_GAP:
		break;
	}
	if (!notifies_in_commit(w))
		notifications_add(&w->notifications, row);
}

static bool is_delaying(const struct writer *w, int64_t now)
{
	return batching_delay_holds(&w->delay, w->view.length, now);
}

static void batch_committed(struct writer *w, struct batch *b,
			    const struct database_result *result)
{
	struct batch *busy = batch_new(b->count);

	busy->from_spool = b->from_spool;
	for (size_t i = 0; i < b->count; i++)
		b->jobs[i]->outcome = b->jobs[i]->delivery->reason
					      ? b->jobs[i]->quarantine_outcome
					      : OUTCOME_UNAVAILABLE;
	for (size_t i = 0; i < result->count; i++)
		apply_row(w, b, &result->rows[i], busy);
	retries_add_busy(&w->retries, busy);
	w->stuck_timeout = STUCK_TIMEOUT_MS;
	batching_delay_set(&w->delay, b->count + queue_look(w->queue).length,
			   w->settings->batch, w->in_flight_since);
	queue_close_breaker(w->queue);
	STAILQ_INSERT_TAIL(&w->unanswered, b, next);
}

static void answer_committed(struct writer *w)
{
	struct batch *b;

	while ((b = STAILQ_FIRST(&w->unanswered))) {
		STAILQ_REMOVE_HEAD(&w->unanswered, next);
		queue_complete(w->queue, b);
	}
}

/* A batch that failed. */

/*
 * Returns true if notifying may be what failed in the recording transaction,
 * for example on the notify lock or a full queue. Then the writer records
 * without it.
 */
static bool can_notify_separately(const struct writer *w,
				  const struct database_result *result)
{
	return notifies_in_commit(w) &&
	       !sqlstate_is_data_error(result->sqlstate) &&
	       !sqlstate_needs_new_connection(result->sqlstate);
}

static void batch_failed(struct writer *w, struct batch *b,
			 const struct database_result *result)
{
	if (!b->count) {
		/* The next probe is made from nothing. */
		retries_drop_probe(&w->retries, b, result);
		wait_to_retry(w);
	} else if (can_notify_separately(w, result)) {
		w->notify_separately = true;
		retries_push(&w->retries, b);
	} else if (retries_add_failed(&w->retries, b, result)) {
		wait_to_retry(w);
	}
}

/* Results. */

/* Closes a lost connection. The outcome of what was in flight is unknown. */
static void connection_lost(struct writer *w)
{
	struct batch *b = w->in_flight;
	struct database_result loss = { 0 };

	database_explain_loss(w->db, &loss);
	database_disconnect(w->db);
	queue_forget_round_trip(w->queue);
	notifications_lost(&w->notifications);
	w->in_flight = NULL;
	if (b)
		w->notifications.resync_due = true;
	if (b && b->count)
		batch_failed(w, b, &loss);
	else
		free(b);
	wait_to_retry(w);
}

static void apply_result(struct writer *w, const struct database_result *result)
{
	struct batch *b = w->in_flight;

	w->last_active = monotonic_ms();
	queue_round_trip_done(w->queue,
			      result->committed
				      ? ROUND_TRIP_OK
				      : failure_round_trip(result->sqlstate));
	if (result->request == DATABASE_NOTIFY)
		notifications_sent(&w->notifications, result);
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

/* Takes in all results that have come, up to the loss of the connection. */
static void receive_results(struct writer *w)
{
	struct database_result result;
	enum database_status status = DATABASE_NOTHING;
	bool alive = database_receive(w->db);

	/* Results that came before the loss still count. */
	while (database_connected(w->db) &&
	       (status = database_next(w->db, &result)) == DATABASE_RESULT)
		apply_result(w, &result);
	if (database_connected(w->db) && (!alive || status == DATABASE_LOST)) {
		log_limited(&w->loss_limit, LEVEL_WARNING,
			    "the database connection was lost; connecting "
			    "again");
		connection_lost(w);
	}
}

/* Sending. */

/*
 * Tries to connect. If that fails because the server is slow or distant, the
 * next try goes on with the same attempts, in the background: requests are
 * spooled meanwhile.
 */
static bool connect_database(struct writer *w)
{
	if (!database_connect(w->db, monotonic_ms() + w->settings->deadline)) {
		queue_round_trip_done(w->queue, ROUND_TRIP_FAILED);
		wait_to_retry(w);
		w->options.warm_up = false;
		return false;
	}
	w->last_active = monotonic_ms();
	w->first_batch_pending = true;
	return true;
}

/*
 * Returns true if an empty batch is to be sent: while the breaker is open,
 * because no events are queued then; and at the start, to open the connection
 * and let PostgreSQL plan.
 */
static bool wants_probe(const struct writer *w)
{
	return w->options.warm_up ||
	       (w->options.probe_while_open && w->view.breaker_open);
}

static struct batch *next_batch(struct writer *w)
{
	struct batch *b = retries_take(&w->retries);

	if (b)
		return b;
	if (is_delaying(w, monotonic_ms()))
		return NULL;
	b = queue_take(w->queue, w->settings->batch);
	return b || !wants_probe(w) ? b : batch_new(0);
}

static bool send_batch(struct writer *w, struct batch *b)
{
	const struct record_options options = {
		.window_us = w->settings->redelivery_window,
		.notify = notifies_in_commit(w),
		.from_spool = b->from_spool,
	};
	struct delivery **deliveries = xcalloc(b->count, sizeof(*deliveries));
	bool ok;

	for (size_t i = 0; i < b->count; i++)
		deliveries[i] = b->jobs[i]->delivery;
	w->in_flight = b;
	w->in_flight_since = monotonic_ms();
	/*
	 * A process before us may have died between commit and NOTIFY: send
	 * one resync.
	 */
	if (w->first_batch_pending && !w->options.notify_in_commit)
		w->notifications.resync_due = true;
	w->first_batch_pending = false;
	w->options.warm_up = false;
	ok = database_send_record(w->db, deliveries, b->count, &options);
	free(deliveries);
	return ok;
}

static bool can_send_ping(const struct writer *w)
{
	return w->view.probe_wanted && !database_pending(w->db);
}

static bool send_all(struct writer *w)
{
	struct batch *b;

	/* Before the batch, whose end it would have to wait for. */
	if (can_send_ping(w) && !database_send_ping(w->db))
		return false;
	b = w->in_flight ? NULL : next_batch(w);
	if (b && !send_batch(w, b))
		return false;
	return notifications_send(&w->notifications, w->db, monotonic_ms()) &&
	       database_flush(w->db);
}

/* Returns true if something waits that only retry_at holds back. */
static bool has_work(const struct writer *w)
{
	if (w->in_flight)
		return false;
	return w->view.has_work || !retries_empty(&w->retries) ||
	       wants_probe(w) || can_send_ping(w);
}

static void send_due(struct writer *w)
{
	int64_t now = monotonic_ms();

	if (now < w->retry_at ||
	    !(has_work(w) || notifications_due_at(&w->notifications) <= now))
		return;
	if (!database_connected(w->db)) {
		/* Committed events need not wait for the connection. */
		answer_committed(w);
		if (!connect_database(w))
			return;
	}
	if (!send_all(w))
		connection_lost(w);
}

/* Waiting. */

/* Returns how long poll() may sleep, in ms; -1 until something happens. */
static int sleep_timeout(const struct writer *w, int64_t now)
{
	int64_t notify_at = notifications_due_at(&w->notifications);
	bool work = has_work(w);
	int64_t until = work ? w->retry_at : INT64_MAX;

	if (retries_empty(&w->retries) && is_delaying(w, now))
		until = work ? max_i64(until, w->delay.until) : w->delay.until;
	until = min_i64(until, max_i64(notify_at, w->retry_at));
	if (w->in_flight)
		until = min_i64(until, w->in_flight_since + w->stuck_timeout);
	else if (database_connected(w->db))
		until = min_i64(until,
				w->last_active + w->settings->idle_disconnect);
	if (until == INT64_MAX)
		return -1;
	return (int)min_i64(max_i64(until - now, 0), POLL_MAX_MS);
}

/*
 * Sleeps until there is something to do. Returns true if the connection is
 * ready.
 */
static bool wait_for_io(struct writer *w)
{
	struct pollfd p[2] = { { .fd = queue_writer_fd(w->queue),
				 .events = POLLIN } };
	size_t threshold = is_delaying(w, monotonic_ms()) ? w->delay.threshold
							  : 1;
	int n;

	p[1].fd = database_socket(w->db, &p[1].events);
	/* With a batch in flight its end wakes us, not the queue. */
	queue_arm_wakeup(w->queue, w->in_flight ? 0 : threshold);
	/* After that, or an event between the two would wake nobody. */
	w->view = queue_look(w->queue);
	do
		n = poll(p, p[1].fd < 0 ? 1 : 2,
			 sleep_timeout(w, monotonic_ms()));
	while (n < 0 && errno == EINTR);
	queue_disarm_wakeup(w->queue, n > 0 && p[0].revents & POLLIN);
	return n > 0 && p[1].fd >= 0 && p[1].revents;
}

/*
 * Closes a connection that nobody needs, or that is stuck. The stuck timeout
 * is long and doubles, because a backend that waits for a standby stays
 * behind, and each new one would wait as well.
 */
static void check_connection(struct writer *w)
{
	int64_t now = monotonic_ms();

	if (!database_connected(w->db))
		return;
	if (w->in_flight && now - w->in_flight_since >= w->stuck_timeout) {
		log_message(LEVEL_ERROR,
			    "no reply from the database for %lld s: closing "
			    "the connection",
			    (long long)w->stuck_timeout / 1000);
		w->stuck_timeout =
			min_i64(w->stuck_timeout * 2, STUCK_TIMEOUT_MAX_MS);
		connection_lost(w);
	} else if (!database_pending(w->db) &&
		   !notifications_pending(&w->notifications) &&
		   now - w->last_active >= w->settings->idle_disconnect) {
		database_disconnect(w->db);
	}
}

/*
 * Returns true if the thread may end: it was asked to, and no request and no
 * listener waits for it. While the breaker is open the listeners are left to
 * the next process, which sends them a resync, because we would hold it up.
 */
static bool may_end(const struct writer *w)
{
	if (!w->view.stopping)
		return false;
	return monotonic_ms() >= w->view.stop_deadline ||
	       w->view.breaker_open ||
	       (!w->view.has_work && !w->in_flight &&
		!notifications_pending(&w->notifications));
}

static void *writer_main(void *context)
{
	struct writer *w = context;

	for (;;) {
		w->view = queue_look(w->queue);
		if (may_end(w))
			break;
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

/* Starting and ending. */

static bool probe_separately(void *context, int64_t deadline)
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
	w->stuck_timeout = STUCK_TIMEOUT_MS;
	retries_init(&w->retries, q);
	STAILQ_INIT(&w->unanswered);
	w->db = database_new(s->database);
	queue_set_probe(q, probe_separately, w);
	error = pthread_create(&w->thread, NULL, writer_main, w);
	if (error) {
		errno = error;
		log_message(LEVEL_ERROR, "can't start the writer's thread: %m");
		queue_set_probe(q, NULL, NULL);
		database_free(w->db);
		free(w);
		return NULL;
	}
	return w;
}

bool writer_stop(struct writer *w, int64_t deadline)
{
	queue_set_stop_deadline(w->queue, deadline);
	queue_stop(w->queue);
	if (!thread_join_until(w->thread, deadline))
		return false;
	if (w->in_flight)
		retries_push(&w->retries, w->in_flight);
	retries_give_up(&w->retries);
	notifications_free(&w->notifications);
	database_free(w->db);
	free(w);
	return true;
}
