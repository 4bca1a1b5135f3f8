/*
 * FastCGI: threads that take turns to wait for what there is to do: a
 * connection, with one request, or a request that the writer did not record
 * in time. None waits for the writer; its thread answers what it recorded.
 * The only file with libfcgi (fcgiapp.h).
 */
#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "responder/gateway.h"
#include "responder/listener.h"

enum {
	STACK_BYTES = 256 * 1024,
	READ_SECONDS = 5, /* beyond BODY_LIMIT_MS, which the overseer holds */
	WRITE_SECONDS = 2,
	CHECK_INTERVAL_MS = 200, /* how often connections are looked over */
	DRAIN_MS = 2000, /* after the signal, for bodies and backlog */
	LATE_BODY_MS = 1000, /* for the body of whoever came just before that */
	REPLY_LIMIT_MS = 4000, /* all answers are out by then */
	ACCEPT_RETRY_MS = 100 /* accept() fails: look again after this */
};

struct server {
	const struct handler *handler;
	int listener;
	int leader_wakeup; /* wakes the thread whose turn it is */
	pthread_mutex_t leader_lock; /* held by the one thread that waits */

	pthread_mutex_t lock; /* over the rest */
	pthread_cond_t worker_exited; /* a thread ended */
	unsigned workers_started;
	unsigned workers_running; /* of them are there still */
	unsigned workers_idle; /* of these wait, or wait for their turn */
	unsigned in_flight; /* accepted, not answered yet */
	bool at_capacity; /* no room to accept: say so when there may be some */
	bool thread_limit_logged; /* said so already */
	bool backlog_drained; /* stopping, and nobody stands at the door */
	int64_t stopping_since; /* monotonic_ms() of the signal; 0: none came */
	int64_t error_logged_at; /* monotonic_ms() of the last accept() error */
	pthread_t *threads; /* the first workers_started are set */

	pthread_mutex_t reading_lock; /* over the list and its deadlines */
	LIST_HEAD(, connection) reading;
};

/* A connection and its request, from accept() until it is answered. */
struct connection {
	struct exchange exchange; /* first: one is found by the other */
	struct server *server;
	FCGX_Request fcgi;
	int fd;

	/* While the request is being read; with server.reading_lock held. */
	LIST_ENTRY(connection) reading;
	int64_t read_deadline; /* ms, monotonic */
	bool timed_out; /* the main thread ended the reading */
};

static int64_t stopping_since(struct server *s)
{
	int64_t since;

	mutex_lock(&s->lock);
	since = s->stopping_since;
	mutex_unlock(&s->lock);
	return since;
}

/* Connections whose request is being read. */

static void watch_reading(struct connection *c)
{
	struct server *s = c->server;

	mutex_lock(&s->reading_lock);
	c->read_deadline = c->exchange.request.accepted_at + BODY_LIMIT_MS;
	LIST_INSERT_HEAD(&s->reading, c, reading);
	mutex_unlock(&s->reading_lock);
}

/* Call before the descriptor is closed, because it can be reused then. */
static void unwatch_reading(struct connection *c)
{
	mutex_lock(&c->server->reading_lock);
	LIST_REMOVE(c, reading);
	mutex_unlock(&c->server->reading_lock);
}

static bool reading_timed_out(struct connection *c)
{
	bool timed_out;

	mutex_lock(&c->server->reading_lock);
	timed_out = c->timed_out;
	mutex_unlock(&c->server->reading_lock);
	return timed_out;
}

/*
 * Ends a read that is late. SO_RCVTIMEO alone would not, because each byte
 * starts it anew, and libfcgi reads on by itself. Call with reading_lock held.
 */
static void check_read_deadline(struct connection *c, int64_t now)
{
	if (c->timed_out || now < c->read_deadline)
		return;
	c->timed_out = true;
	if (shutdown(c->fd, SHUT_RD) < 0)
		log_message(LEVEL_DEBUG, "shutdown: %m");
}

/* One request. */

static long read_some(void *context, char *data, size_t size)
{
	struct connection *c = context;
	int n = FCGX_GetStr(data, (int)size, c->fcgi.in);

	if (n > 0)
		return n;
	if (reading_timed_out(c))
		return -2;
	if (FCGX_GetError(c->fcgi.in) == EAGAIN)
		return -2; /* SO_RCVTIMEO */
	return FCGX_GetError(c->fcgi.in) ? -1 : 0;
}

static void fill_request(struct request *r, FCGX_Request *fcgi)
{
	for (char **e = fcgi->envp; *e; e++) {
		char *equals = strchr(*e, '=');

		if (!equals)
			continue;
		*equals = '\0';
		request_set(r, *e, equals + 1);
	}
}

static void write_reply(const struct reply *reply, FCGX_Request *fcgi)
{
	struct buf out = { 0 };

	reply_render(reply, &out);
	/* The last stream to be closed takes the end of the request along. */
	if (FCGX_FClose(fcgi->err) < 0 ||
	    FCGX_PutStr(out.data, (int)out.length, fcgi->out) < 0 ||
	    FCGX_FClose(fcgi->out) < 0)
		log_message(LEVEL_WARNING, "the answer %d was not delivered",
			    reply->status);
	buf_free(&out);
}

static bool set_io_timeouts(int fd)
{
	static const struct timeval in = { .tv_sec = READ_SECONDS };
	static const struct timeval out = { .tv_sec = WRITE_SECONDS };

	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &in, sizeof(in)) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &out, sizeof(out)) == 0;
}

/*
 * One request a connection: an idle kept one would pin its thread, and body
 * bytes left unread on it would be the next request.
 */
static void close_fcgi(FCGX_Request *fcgi, int fd)
{
	bool all_read = fcgi->in && FCGX_HasSeenEOF(fcgi->in) &&
			!FCGX_GetError(fcgi->in);

	fcgi->keepConnection = 0;
	if (all_read) {
		FCGX_Free(fcgi, 0);
		close(fd);
	} else {
		/*
		 * It waits for the peer to close first: what is unread would
		 * reset the connection, and the answer with it.
		 */
		FCGX_Finish_r(fcgi);
	}
}

/* Its place is somebody else's; who waits for that, or for the last, hears it. */
static void connection_finished(struct server *s)
{
	mutex_lock(&s->lock);
	s->in_flight--;
	/* Under the lock: without it, s may be gone once nobody is left. */
	if (s->at_capacity || (s->stopping_since && s->in_flight == 0))
		wakeup_signal(s->leader_wakeup);
	s->at_capacity = false;
	mutex_unlock(&s->lock);
}

static void connection_end(struct connection *c)
{
	close_fcgi(&c->fcgi, c->fd);
	exchange_free(&c->exchange);
	connection_finished(c->server);
	free(c);
}

/* From a worker, or from the writer's thread, which must not be held up. */
static void connection_reply(struct exchange *x)
{
	struct connection *c = (struct connection *)x;

	write_reply(&x->reply, &c->fcgi);
	connection_end(c);
}

static bool connection_start(struct connection *c)
{
	/* No listening socket: libfcgi must not accept by itself. */
	if (!set_io_timeouts(c->fd) || FCGX_InitRequest(&c->fcgi, -1, 0) != 0)
		return false;
	/* Kept, or FCGX_Accept_r() would close it before it starts. */
	c->fcgi.ipcFd = c->fd;
	c->fcgi.keepConnection = 1;
	return true;
}

static void read_request(struct connection *c)
{
	const struct settings *s = c->server->handler->settings;
	struct request *r = &c->exchange.request;

	fill_request(r, &c->fcgi);
	if (strcmp(r->method, "POST") != 0)
		return;
	request_read_body(r, s->max_body, read_some, c);
	/*
	 * There is room for a reply, unless the peer has asked for much and
	 * read nothing; then it goes without, and holds nobody up.
	 */
	if (r->state == BODY_COMPLETE && fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
		log_message(LEVEL_DEBUG, "connection: %m");
}

/* Takes the connection over. */
static void serve_connection(struct server *s, int fd)
{
	struct connection *c = xcalloc(1, sizeof(*c));
	bool there;

	c->server = s;
	c->fd = fd;
	exchange_init(&c->exchange, s->handler, connection_reply);
	if (!connection_start(c)) {
		/* c->fcgi has nothing to end yet. */
		close(fd);
		exchange_free(&c->exchange);
		connection_finished(s);
		free(c);
		return;
	}
	watch_reading(c);
	there = FCGX_Accept_r(&c->fcgi) == 0;
	if (there)
		read_request(c);
	unwatch_reading(c);
	if (!there)
		connection_end(c);
	else if (handler_handle(&c->exchange))
		connection_reply(&c->exchange);
}

/* Waiting, in turns: one thread polls, so one wakes for each thing to do. */

/* Once a minute; then a pause, so that nothing spins. */
static void accept_failed(struct server *s)
{
	int64_t now = monotonic_ms();
	bool say;

	mutex_lock(&s->lock);
	say = !s->error_logged_at || now - s->error_logged_at > 60000;
	if (say)
		s->error_logged_at = now;
	mutex_unlock(&s->lock);
	if (say)
		log_message(LEVEL_ERROR, "accept: %m");
	(void)poll(NULL, 0, ACCEPT_RETRY_MS);
}

/* A connection, or -1. Under the turn. */
static int accept_connection(struct server *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			accept_failed(s);
		return -1;
	}
	mutex_lock(&s->lock);
	s->in_flight++;
	mutex_unlock(&s->lock);
	return fd;
}

static void *worker_main(void *context);

/* Under the lock. */
static bool start_worker(struct server *s)
{
	pthread_attr_t a;
	int error;

	pthread_check(pthread_attr_init(&a));
	pthread_check(pthread_attr_setstacksize(&a, STACK_BYTES));
	error = pthread_create(&s->threads[s->workers_started], &a, worker_main,
			       s);
	pthread_check(pthread_attr_destroy(&a));
	if (error) {
		errno = error;
		return false;
	}
	s->workers_started++;
	s->workers_running++;
	s->workers_idle++;
	return true;
}

/*
 * Under the lock: one more thread, if that is allowed and can be had. The
 * first time that it can't, *complain.
 */
static bool add_worker(struct server *s, bool *complain)
{
	if (s->workers_running >= s->handler->settings->threads)
		return false;
	if (start_worker(s)) {
		s->thread_limit_logged = false;
		return true;
	}
	*complain = !s->thread_limit_logged;
	s->thread_limit_logged = true;
	return false;
}

/* Hosts limit processes; we go on with what we have. */
static void log_thread_limit(unsigned threads, int error)
{
	errno = error;
	log_message(LEVEL_WARNING, "no more than %u threads: %m", threads);
}

/* What to wait for. */
enum wait {
	WAIT_CONNECTION, /* a connection too */
	WAIT_BACKLOG, /* for one that stands there already */
	WAIT_IN_FLIGHT,
	WAIT_NOTHING
};

/*
 * Under the lock. Whoever takes a call leaves somebody behind who looks after
 * those that wait for the writer: there are some where there are more calls
 * than threads that serve one.
 */
static bool has_room(struct server *s, bool *complain)
{
	bool alone = s->workers_idle == 1 &&
		     s->in_flight >= s->workers_running &&
		     !add_worker(s, complain);

	s->at_capacity = alone || s->in_flight >= s->handler->settings->threads;
	return !s->at_capacity;
}

/*
 * And until when, at the latest. Once we stop, what comes is taken as long as
 * there are calls, but not for long; then only what stands at the door.
 */
static enum wait choose_wait(struct server *s, int64_t *until)
{
	enum wait wait = WAIT_CONNECTION;
	bool complain = false;
	unsigned threads;
	int error;

	mutex_lock(&s->lock);
	if (s->stopping_since && monotonic_ms() - s->stopping_since > DRAIN_MS)
		s->backlog_drained = true;
	if (s->backlog_drained || !has_room(s, &complain)) {
		wait = s->in_flight ? WAIT_IN_FLIGHT : WAIT_NOTHING;
	} else if (s->stopping_since && !s->in_flight) {
		wait = WAIT_BACKLOG;
		*until = 0;
	} else if (s->stopping_since) {
		*until = min_i64(*until, s->stopping_since + DRAIN_MS + 1);
	}
	threads = s->workers_running;
	error = errno;
	mutex_unlock(&s->lock);
	if (complain)
		log_thread_limit(threads, error);
	return wait;
}

/* Until then at the latest. True: somebody stands at the door. */
static bool wait_for_work(struct server *s, enum wait wait, int64_t until)
{
	bool door = wait != WAIT_IN_FLIGHT;
	int alarm = queue_overdue_fd(s->handler->queue);
	struct pollfd p[3] = { { .fd = s->leader_wakeup, .events = POLLIN },
			       { .fd = alarm, .events = POLLIN },
			       { .fd = s->listener, .events = POLLIN } };
	int64_t left = -1;

	if (until != INT64_MAX)
		left = min_i64(max_i64(until - monotonic_ms(), 0), INT_MAX);
	if (poll(p, door ? 3 : 2, (int)left) <= 0)
		return false;
	if (p[0].revents)
		wakeup_clear(s->leader_wakeup);
	if (p[1].revents)
		wakeup_clear(alarm);
	return door && p[2].revents;
}

static void set_backlog_drained(struct server *s)
{
	mutex_lock(&s->lock);
	s->backlog_drained = true;
	mutex_unlock(&s->lock);
}

/* What a thread does next: one of the two. */
struct work_item {
	struct exchange *overdue;
	int fd;
};

/* False when it is time to leave. Under the turn. */
static bool next_work(struct server *s, struct work_item *e)
{
	int64_t until;
	enum wait wait;

	*e = (struct work_item){ .fd = -1 };
	while (e->fd < 0) {
		e->overdue = queue_overdue(s->handler->queue, &until);
		if (e->overdue)
			return true;
		wait = choose_wait(s, &until);
		if (wait == WAIT_NOTHING)
			return false;
		if (wait_for_work(s, wait, until))
			e->fd = accept_connection(s);
		else if (wait == WAIT_BACKLOG)
			set_backlog_drained(s);
	}
	return true;
}

static void do_work(struct server *s, const struct work_item *e)
{
	if (e->overdue) {
		handler_spool_overdue(e->overdue);
		connection_reply(e->overdue);
	} else {
		serve_connection(s, e->fd);
	}
}

/* It sets to work: somebody is to wait in its place. Under the turn. */
static void worker_busy(struct server *s)
{
	bool complain = false;
	unsigned threads;
	int error;

	mutex_lock(&s->lock);
	s->workers_idle--;
	if (!s->workers_idle)
		(void)add_worker(s, &complain);
	threads = s->workers_running;
	error = errno;
	mutex_unlock(&s->lock);
	if (complain)
		log_thread_limit(threads, error);
}

static void worker_idle(struct server *s)
{
	mutex_lock(&s->lock);
	s->workers_idle++;
	if (s->at_capacity && s->workers_idle == 2)
		wakeup_signal(s->leader_wakeup);
	mutex_unlock(&s->lock);
}

static void *worker_main(void *context)
{
	struct server *s = context;
	struct work_item e;
	bool more;

	for (;;) {
		mutex_lock(&s->leader_lock);
		more = next_work(s, &e);
		/* Before the next one finds out how many are left. */
		if (more)
			worker_busy(s);
		mutex_unlock(&s->leader_lock);
		if (!more)
			break;
		do_work(s, &e);
		worker_idle(s);
	}
	mutex_lock(&s->lock);
	s->workers_idle--;
	s->workers_running--;
	cond_signal(&s->worker_exited);
	mutex_unlock(&s->lock);
	return NULL;
}

/* The overseer: signals, and bodies that take too long. */

static void stop_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1);
}

/* Once we stop, bodies have less time. */
static void check_read_deadlines(struct server *s)
{
	int64_t now = monotonic_ms(), since = stopping_since(s);
	struct connection *c;

	mutex_lock(&s->reading_lock);
	LIST_FOREACH(c, &s->reading, reading)
	{
		int64_t latest =
			max_i64(since + DRAIN_MS,
				c->exchange.request.accepted_at + LATE_BODY_MS);

		if (since)
			c->read_deadline = min_i64(c->read_deadline, latest);
		check_read_deadline(c, now);
	}
	mutex_unlock(&s->reading_lock);
}

static void wait_for_signal(struct server *s)
{
	static const struct timespec tick = { .tv_nsec = CHECK_INTERVAL_MS *
							 1000000L };
	sigset_t signals;
	int signal;

	stop_signals(&signals);
	while ((signal = sigtimedwait(&signals, NULL, &tick)) < 0)
		check_read_deadlines(s);
	log_message(LEVEL_INFO, "signal %d: answering what is in flight",
		    signal);
}

/* Until the last one left, or the time is over. */
static bool wait_for_workers(struct server *s, int64_t deadline)
{
	bool all;

	mutex_lock(&s->lock);
	while (s->workers_running && monotonic_ms() < deadline) {
		cond_wait(&s->worker_exited, &s->lock,
			  monotonic_ms() + CHECK_INTERVAL_MS);
		mutex_unlock(&s->lock);
		check_read_deadlines(s);
		mutex_lock(&s->lock);
	}
	all = s->workers_running == 0;
	mutex_unlock(&s->lock);
	return all;
}

/*
 * All have left, but what libraries keep for a thread is cleared away on its
 * way out; exit() would take their locks from under it.
 */
static void join_workers(struct server *s)
{
	for (unsigned i = 0; i < s->workers_started; i++)
		pthread_check(pthread_join(s->threads[i], NULL));
}

/* Answers what there is; false: somebody is stuck. */
static bool stop(struct server *s, int64_t now)
{
	mutex_lock(&s->lock);
	s->stopping_since = now;
	mutex_unlock(&s->lock);
	queue_set_stop_deadline(s->handler->queue, now + REPLY_LIMIT_MS);
	wakeup_signal(s->leader_wakeup);
	if (!wait_for_workers(s, now + GATEWAY_STOP_MS))
		return false;
	join_workers(s);
	return true;
}

static struct server *server_new(const struct handler *h, int listener)
{
	struct server *s = xmalloc(sizeof(*s));

	*s = (struct server){ .handler = h,
			      .listener = listener,
			      .leader_wakeup = wakeup_new() };
	mutex_init(&s->leader_lock);
	mutex_init(&s->lock);
	cond_init(&s->worker_exited);
	mutex_init(&s->reading_lock);
	LIST_INIT(&s->reading);
	s->threads = xcalloc(h->settings->threads, sizeof(s->threads[0]));
	return s;
}

static void server_free(struct server *s)
{
	close(s->leader_wakeup);
	free(s->threads);
	free(s);
}

static bool start(struct server *s)
{
	int flags = fcntl(s->listener, F_GETFL);
	bool started;

	if (flags < 0 || fcntl(s->listener, F_SETFL, flags | O_NONBLOCK) < 0) {
		log_message(LEVEL_ERROR, "listening socket: %m");
		return false;
	}
	mutex_lock(&s->lock);
	started = start_worker(s);
	mutex_unlock(&s->lock);
	if (!started)
		log_message(LEVEL_ERROR, "no thread: %m");
	return started;
}

enum gateway_end gateway_fcgi_serve(const struct handler *h, int listener,
				    const char *where, int64_t *end)
{
	struct server *s = server_new(h, listener);
	int64_t now;

	if (!start(s)) {
		server_free(s);
		return GATEWAY_FAILED;
	}
	wait_for_signal(s);
	now = monotonic_ms();
	*end = now + GATEWAY_STOP_MS;
	/* Nobody new finds us; what has connected already is served. */
	if (where)
		listener_remove(where);
	/* A thread that is stuck still uses it. */
	if (!stop(s, now))
		return GATEWAY_STUCK;
	server_free(s);
	close(listener);
	return GATEWAY_DONE;
}

void gateway_block_signals(void)
{
	sigset_t signals;

	/*
	 * No signal may cut short a read, a write or a call of libpq: all are
	 * blocked in all threads, and one waits for them.
	 */
	stop_signals(&signals);
	sigaddset(&signals, SIGPIPE);
	pthread_check(pthread_sigmask(SIG_BLOCK, &signals, NULL));
}

bool gateway_fcgi_start(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	/* Closing waits for the peer to close first, by default 2 s. */
	if (setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", "200", 0) < 0 ||
	    FCGX_Init() != 0) {
		log_message(LEVEL_ERROR, "libfcgi can't start");
		return false;
	}
	/* It has put in a handler of its own. */
	return sigaction(SIGPIPE, &ignore, NULL) == 0;
}

bool gateway_fcgi_is_started(void)
{
	int listening = 0;
	socklen_t length = sizeof(listening);

	return getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listening,
			  &length) == 0 &&
	       listening;
}
