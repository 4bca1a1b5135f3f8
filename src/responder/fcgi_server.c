/*
 * Owns the FastCGI server: when it accepts a connection, how it finds overdue
 * requests, and how it ends. Must not know libfcgi, nor what a request is.
 *
 * Workers of a leader/follower pool serve. The leader polls for a connection or
 * an overdue request, and serves it unless that may block. No worker waits for
 * a commit: the writer's thread sends the reply. The main thread waits for a
 * signal, and ends reads that are late. Locks: server.lock may be held when the
 * pool's is taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "responder/fcgi_connection.h"
#include "responder/gateway.h"
#include "responder/listener.h"
#include "responder/worker_pool.h"

enum {
	CHECK_INTERVAL_MS = 200, /* how often read deadlines are checked */
	DRAIN_MS = 2000, /* after the signal, for new connections */
	REMOVE_MS = 500, /* for the socket's path, whose folder may be dead */
	REPLY_LIMIT_MS = 4000, /* all answers are out by then */
	WATCHDOG_MS = 4800, /* after the signal: _exit() */
	ACCEPT_RETRY_MS = 100 /* accept() failed: try again after this */
};

struct server {
	const struct handler *handler;
	int listener;
	struct worker_pool *pool;
	struct fcgi_connections *connections;
	struct log_limit accept_errors;

	pthread_mutex_t lock; /* over the rest */
	unsigned in_flight; /* accepted, not answered yet */
	bool at_capacity; /* the leader waits for a connection to end */
	bool backlog_drained; /* stopping, and nobody waits in the backlog */
	int64_t stopping_since; /* monotonic_ms() of the signal; 0: none came */
};

static int64_t stopping_since(struct server *s)
{
	int64_t since;

	mutex_lock(&s->lock);
	since = s->stopping_since;
	mutex_unlock(&s->lock);
	return since;
}

/*
 * Counts the end of a connection. Wakes the leader if it waits for capacity, or
 * for the last connection of a shutdown.
 */
static void connection_finished(void *context)
{
	struct server *s = context;

	mutex_lock(&s->lock);
	s->in_flight--;
	/* With the lock held, because s may be freed after the last one. */
	if (s->at_capacity || (s->stopping_since && s->in_flight == 0))
		worker_pool_wake_leader(s->pool);
	s->at_capacity = false;
	mutex_unlock(&s->lock);
}

/* The leader. */

/* Returns a connection, or -1. */
static int accept_connection(struct server *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 &&
	    (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return -1;
	if (fd < 0) {
		log_limited(&s->accept_errors, LEVEL_ERROR,
			    "can't accept connections: %m");
		/* A pause, because poll() would return at once. */
		(void)poll(NULL, 0, ACCEPT_RETRY_MS);
		return -1;
	}
	mutex_lock(&s->lock);
	s->in_flight++;
	mutex_unlock(&s->lock);
	return fd;
}

/* What the leader waits for, besides overdue requests. */
enum wait {
	WAIT_CONNECTION,
	WAIT_BACKLOG, /* a connection, if one is in the backlog */
	WAIT_IN_FLIGHT, /* the end of connections in flight */
	WAIT_NOTHING /* the worker ends */
};

/*
 * Returns true if the leader may accept a connection; false if as many as are
 * allowed are in flight, or if no worker would be left to find overdue
 * requests. Call with s->lock held.
 */
static bool has_room(struct server *s)
{
	s->at_capacity = !worker_pool_can_spare_leader(s->pool, s->in_flight) ||
			 s->in_flight >= s->handler->settings->in_flight;
	return !s->at_capacity;
}

/*
 * Chooses what to wait for, and shortens *until. During a shutdown connections
 * are accepted for DRAIN_MS while others are in flight; after that only those
 * in the backlog.
 */
static enum wait choose_wait(struct server *s, int64_t *until)
{
	enum wait wait = WAIT_CONNECTION;

	mutex_lock(&s->lock);
	if (s->stopping_since && monotonic_ms() - s->stopping_since > DRAIN_MS)
		s->backlog_drained = true;
	if (s->backlog_drained || !has_room(s)) {
		wait = s->in_flight ? WAIT_IN_FLIGHT : WAIT_NOTHING;
	} else if (s->stopping_since && !s->in_flight) {
		wait = WAIT_BACKLOG;
		*until = 0;
	} else if (s->stopping_since) {
		*until = min_i64(*until, s->stopping_since + DRAIN_MS + 1);
	}
	mutex_unlock(&s->lock);
	worker_pool_log_limit(s->pool);
	return wait;
}

/* Returns true if a connection can be accepted; false at `until`, or sooner. */
static bool wait_for_work(struct server *s, enum wait wait, int64_t until)
{
	bool accepting = wait != WAIT_IN_FLIGHT;
	int wakeup = worker_pool_leader_fd(s->pool);
	int overdue = queue_overdue_fd(s->handler->queue);
	struct pollfd p[3] = { { .fd = wakeup, .events = POLLIN },
			       { .fd = overdue, .events = POLLIN },
			       { .fd = s->listener, .events = POLLIN } };
	int64_t left = -1;

	if (until != INT64_MAX)
		left = min_i64(max_i64(until - monotonic_ms(), 0), INT_MAX);
	if (poll(p, accepting ? 3 : 2, (int)left) <= 0)
		return false;
	if (p[0].revents)
		wakeup_clear(wakeup);
	if (p[1].revents)
		wakeup_clear(overdue);
	return accepting && p[2].revents;
}

static void set_backlog_drained(struct server *s)
{
	mutex_lock(&s->lock);
	s->backlog_drained = true;
	mutex_unlock(&s->lock);
}

static bool find_work(void *context, struct work_item *item)
{
	struct server *s = context;
	int64_t until;
	enum wait wait;

	*item = (struct work_item){ .fd = -1 };
	while (item->fd < 0) {
		item->overdue = queue_overdue(s->handler->queue, &until);
		if (item->overdue)
			return true;
		wait = choose_wait(s, &until);
		if (wait == WAIT_NOTHING)
			return false;
		if (wait_for_work(s, wait, until))
			item->fd = accept_connection(s);
		else if (wait == WAIT_BACKLOG)
			set_backlog_drained(s);
	}
	return true;
}

static void do_work(void *context, struct work_item *item)
{
	struct server *s = context;

	if (item->overdue) {
		worker_pool_hand_over(s->pool, item);
		fcgi_connection_spool_overdue(item->overdue);
	} else {
		fcgi_connections_serve(s->connections, item->fd, item);
	}
}

static void hand_over(void *context, void *item)
{
	struct server *s = context;

	worker_pool_hand_over(s->pool, item);
}

/* The main thread. */

static void exit_now(int number)
{
	(void)number;
	_exit(EX_OK);
}

static void exit_on(int number)
{
	const struct sigaction action = { .sa_handler = exit_now };

	if (sigaction(number, &action, NULL) < 0)
		log_message(LEVEL_WARNING, "can't handle signal %d: %m",
			    number);
}

/*
 * Ends the process by the clock, whatever its threads do; the main thread may
 * be stuck at a disk that has gone away, too.
 */
static void start_watchdog(void)
{
	static const struct itimerval limit = {
		.it_value = { .tv_sec = WATCHDOG_MS / 1000,
			      .tv_usec = WATCHDOG_MS % 1000 * 1000L }
	};

	exit_on(SIGALRM);
	if (setitimer(ITIMER_REAL, &limit, NULL) < 0)
		log_message(LEVEL_WARNING, "can't start the watchdog: %m");
}

static void stop_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1);
}

static void wait_for_signal(struct server *s)
{
	static const struct timespec tick = { .tv_nsec = CHECK_INTERVAL_MS *
							 1000000L };
	sigset_t signals;
	int signal;

	stop_signals(&signals);
	while ((signal = sigtimedwait(&signals, NULL, &tick)) < 0)
		fcgi_connections_end_late_reads(s->connections, 0);
	log_message(LEVEL_INFO,
		    "stopping on signal %d; finishing requests in flight",
		    signal);
}

/* Returns true if all workers ended by the deadline. */
static bool wait_for_workers(struct server *s, int64_t deadline)
{
	int64_t now = monotonic_ms();

	while (!worker_pool_join(s->pool,
				 min_i64(deadline, now + CHECK_INTERVAL_MS))) {
		now = monotonic_ms();
		if (now >= deadline)
			return false;
		fcgi_connections_end_late_reads(s->connections,
						stopping_since(s));
	}
	return true;
}

/* Answers what is in flight. Returns false if a worker is stuck. */
static bool stop(struct server *s, int64_t now)
{
	mutex_lock(&s->lock);
	s->stopping_since = now;
	mutex_unlock(&s->lock);
	handler_set_stop_deadline(s->handler, now + REPLY_LIMIT_MS);
	worker_pool_wake_leader(s->pool);
	return wait_for_workers(s, now + GATEWAY_STOP_MS);
}

/* Removes the socket's path; for a thread of its own. */
static void *remove_path(void *listener)
{
	struct listener *l = listener;

	listener_remove(l);
	free(l);
	return NULL;
}

/*
 * Removes the socket's path, so that no new connections come. Goes on after
 * REMOVE_MS, because a disk that has gone away may never answer; what is in
 * flight does not need it.
 */
static void remove_socket(const struct listener *listener)
{
	struct listener *copy = xmalloc(sizeof(*copy));
	pthread_t thread;

	*copy = *listener;
	if (pthread_create(&thread, NULL, remove_path, copy)) {
		(void)remove_path(copy);
		return;
	}
	if (thread_join_until(thread, monotonic_ms() + REMOVE_MS))
		return;
	log_message(LEVEL_WARNING,
		    "%s: its folder does not answer; the socket stays",
		    listener->path);
	pthread_check(pthread_detach(thread));
}

static struct server *server_new(const struct handler *h, int listener)
{
	static const struct worker_pool_calls calls = { find_work, do_work };
	static const struct fcgi_connection_calls connection_calls = {
		connection_finished, hand_over
	};
	struct server *s = xmalloc(sizeof(*s));

	*s = (struct server){ .handler = h, .listener = listener };
	mutex_init(&s->lock);
	s->pool = worker_pool_new(h->settings->threads, &calls, s);
	s->connections = fcgi_connections_new(h, &connection_calls, s);
	return s;
}

static void server_free(struct server *s)
{
	fcgi_connections_free(s->connections);
	worker_pool_free(s->pool);
	mutex_destroy(&s->lock);
	free(s);
}

static bool start(struct server *s)
{
	int flags = fcntl(s->listener, F_GETFL);

	if (flags < 0 || fcntl(s->listener, F_SETFL, flags | O_NONBLOCK) < 0) {
		log_message(LEVEL_ERROR, "can't use the listening socket: %m");
		return false;
	}
	if (worker_pool_start(s->pool))
		return true;
	log_message(LEVEL_ERROR, "can't start a thread: %m");
	return false;
}

enum gateway_end gateway_fcgi_serve(const struct handler *h,
				    const struct listener *listener,
				    int64_t *end)
{
	struct server *s = server_new(h, listener->fd);
	int64_t now;

	if (!start(s)) {
		server_free(s);
		return GATEWAY_FAILED;
	}
	wait_for_signal(s);
	now = monotonic_ms();
	start_watchdog();
	*end = now + GATEWAY_STOP_MS;
	/* No new connections; those in the backlog are served. */
	if (listener->path)
		remove_socket(listener);
	/* A worker that is stuck still uses s. */
	if (!stop(s, now))
		return GATEWAY_STUCK;
	server_free(s);
	close(listener->fd);
	return GATEWAY_DONE;
}

void gateway_exit_on_signals(void)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGUSR1 };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		exit_on(numbers[i]);
}

void gateway_block_signals(void)
{
	sigset_t signals;

	/*
	 * The signals are blocked in all threads, and the main thread waits
	 * for them, because a signal would cut short reads, writes and libpq.
	 */
	stop_signals(&signals);
	sigaddset(&signals, SIGPIPE);
	pthread_check(pthread_sigmask(SIG_BLOCK, &signals, NULL));
}

bool gateway_fcgi_is_started(void)
{
	int listening = 0;
	socklen_t length = sizeof(listening);

	return getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listening,
			  &length) == 0 &&
	       listening;
}
