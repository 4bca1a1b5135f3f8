/*
 * FastCGI: threads that take turns to wait for what there is to do: a
 * connection, with one request, or a request that the recorder did not take
 * in time. None waits for the recorder; its thread answers what it recorded.
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/threads.h"
#include "responder/gateway.h"
#include "responder/listener.h"

enum {
	STACK_BYTES = 256 * 1024,
	READ_SECONDS = 5, /* beyond BODY_LIMIT_MS, which the overseer holds */
	WRITE_SECONDS = 2,
	TICK_MS = 200, /* how often connections are looked over */
	DRAIN_MS = 2000, /* after the signal, for bodies and backlog */
	LAST_MS = 1000, /* for the body of whoever came just before that */
	ANSWERS_MS = 4000, /* all answers are out by then */
	PAUSE_MS = 100 /* accept() fails: look again after this */
};

/*
 * A thread's, and what the overseer sees of its connection: when the body has
 * to be there.
 */
struct seat {
	pthread_t thread;
	pthread_mutex_t lock; /* over the rest */
	int fd; /* -1: no connection, or its body has been read */
	int64_t taken; /* clock_ms() */
	int64_t limit; /* clock_ms() */
	bool late;
};

struct server {
	const struct handler *handler;
	int listener;
	int nudge; /* wakes the thread whose turn it is */
	pthread_mutex_t turn; /* held by the one thread that waits */

	pthread_mutex_t lock; /* over the rest */
	pthread_cond_t left; /* a thread ended */
	unsigned started; /* threads, one a seat */
	unsigned threads; /* of them are there still */
	unsigned idle; /* of these wait, or wait for their turn */
	unsigned calls; /* accepted, not answered yet */
	bool closed; /* no room to accept: say so when there may be some */
	bool short_of_threads; /* said so already */
	bool drained; /* stopping, and nobody stands at the door */
	int64_t stopping; /* clock_ms() of the signal; 0: none came */
	int64_t complained; /* clock_ms() of the last accept() error */
	struct seat *seats;
};

struct worker {
	struct server *server;
	struct seat *seat;
};

/* A connection and its request, from accept() until it is answered. */
struct call {
	struct exchange exchange; /* first: one is found by the other */
	struct server *server;
	FCGX_Request fcgi;
	int fd;
};

/* A request being read: what read_some needs. */
struct reading {
	FCGX_Request *fcgi;
	struct seat *seat;
};

static bool get(pthread_mutex_t *mutex, const bool *flag)
{
	bool value;

	mutex_lock(mutex);
	value = *flag;
	mutex_unlock(mutex);
	return value;
}

static int64_t stopping_since(struct server *s)
{
	int64_t since;

	mutex_lock(&s->lock);
	since = s->stopping;
	mutex_unlock(&s->lock);
	return since;
}

/* Seats. */

static void seat_take(struct seat *seat, int fd, int64_t taken)
{
	mutex_lock(&seat->lock);
	seat->fd = fd;
	seat->taken = taken;
	seat->limit = taken + BODY_LIMIT_MS;
	seat->late = false;
	mutex_unlock(&seat->lock);
}

/* Before the descriptor is closed, and can be somebody else's. */
static void seat_leave(struct seat *seat)
{
	mutex_lock(&seat->lock);
	seat->fd = -1;
	mutex_unlock(&seat->lock);
}

/* The body has to be there by then, or soon. */
static void seat_hurry(struct seat *seat, int64_t limit)
{
	mutex_lock(&seat->lock);
	seat->limit = earlier(seat->limit, later(limit, seat->taken + LAST_MS));
	mutex_unlock(&seat->lock);
}

/*
 * A read has its own limit, but a trickle of bytes starts that anew each
 * time, and libfcgi reads on by itself; so somebody else ends it.
 */
static void seat_look_over(struct seat *seat, int64_t now)
{
	mutex_lock(&seat->lock);
	if (seat->fd >= 0 && now >= seat->limit && !seat->late) {
		seat->late = true;
		if (shutdown(seat->fd, SHUT_RD) < 0)
			log_message(LEVEL_DEBUG, "shutdown: %m");
	}
	mutex_unlock(&seat->lock);
}

/* One request. */

static long read_some(void *context, char *data, size_t size)
{
	struct reading *r = context;
	int n = FCGX_GetStr(data, (int)size, r->fcgi->in);

	if (n > 0)
		return n;
	if (get(&r->seat->lock, &r->seat->late))
		return -2;
	if (FCGX_GetError(r->fcgi->in) == EAGAIN)
		return -2; /* SO_RCVTIMEO */
	return FCGX_GetError(r->fcgi->in) ? -1 : 0;
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

static bool limit_io(int fd)
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
static void end_connection(FCGX_Request *fcgi, int fd)
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
static void count_out(struct server *s)
{
	mutex_lock(&s->lock);
	s->calls--;
	/* Under the lock: without it, s may be gone once nobody is left. */
	if (s->closed || (s->stopping && s->calls == 0))
		wakeup_send(s->nudge);
	s->closed = false;
	mutex_unlock(&s->lock);
}

static void call_end(struct call *c)
{
	end_connection(&c->fcgi, c->fd);
	exchange_free(&c->exchange);
	count_out(c->server);
	free(c);
}

/* From a worker, or from the recorder's thread, which must not be held up. */
static void answer_call(struct exchange *x)
{
	struct call *c = (struct call *)x;

	write_reply(&x->reply, &c->fcgi);
	call_end(c);
}

static bool call_start(struct call *c)
{
	/* No listening socket: libfcgi must not accept by itself. */
	if (!limit_io(c->fd) || FCGX_InitRequest(&c->fcgi, -1, 0) != 0)
		return false;
	/* Kept, or FCGX_Accept_r() would close it before it starts. */
	c->fcgi.ipcFd = c->fd;
	c->fcgi.keepConnection = 1;
	return true;
}

static void read_request(struct worker *w, struct call *c)
{
	const struct settings *s = w->server->handler->settings;
	struct request *r = &c->exchange.request;
	struct reading reading = { &c->fcgi, w->seat };

	fill_request(r, &c->fcgi);
	if (strcmp(r->method, "POST") != 0)
		return;
	request_read_body(r, s->max_body, read_some, &reading);
	/*
	 * There is room for a reply, unless the peer has asked for much and
	 * read nothing; then it goes without, and holds nobody up.
	 */
	if (r->state == BODY_COMPLETE && fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
		log_message(LEVEL_DEBUG, "connection: %m");
}

/* Takes the connection over. */
static void serve_connection(struct worker *w, int fd)
{
	struct call *c = xcalloc(1, sizeof(*c));
	bool there;

	c->server = w->server;
	c->fd = fd;
	exchange_init(&c->exchange, w->server->handler, answer_call);
	if (!call_start(c)) {
		/* c->fcgi has nothing to end yet. */
		close(fd);
		exchange_free(&c->exchange);
		count_out(w->server);
		free(c);
		return;
	}
	seat_take(w->seat, fd, c->exchange.request.accepted);
	there = FCGX_Accept_r(&c->fcgi) == 0;
	if (there)
		read_request(w, c);
	/* Before the descriptor is closed, and can be somebody else's. */
	seat_leave(w->seat);
	if (!there)
		call_end(c);
	else if (handle(&c->exchange))
		answer_call(&c->exchange);
}

/* Waiting, in turns: one thread polls, so one wakes for each thing to do. */

/* Once a minute; then a pause, so that nothing spins. */
static void accept_failed(struct server *s)
{
	int64_t now = clock_ms();
	bool say;

	mutex_lock(&s->lock);
	say = !s->complained || now - s->complained > 60000;
	if (say)
		s->complained = now;
	mutex_unlock(&s->lock);
	if (say)
		log_message(LEVEL_ERROR, "accept: %m");
	(void)poll(NULL, 0, PAUSE_MS);
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
	s->calls++;
	mutex_unlock(&s->lock);
	return fd;
}

static void *work(void *context);

/* Under the lock. */
static bool start_worker(struct server *s)
{
	struct worker *w = xmalloc(sizeof(*w));
	struct seat *seat = &s->seats[s->started];
	pthread_attr_t a;
	int error;

	*w = (struct worker){ s, seat };
	must(pthread_attr_init(&a));
	must(pthread_attr_setstacksize(&a, STACK_BYTES));
	error = pthread_create(&seat->thread, &a, work, w);
	must(pthread_attr_destroy(&a));
	if (error) {
		free(w);
		errno = error;
		return false;
	}
	s->started++;
	s->threads++;
	s->idle++;
	return true;
}

/*
 * Under the lock: one more thread, if that is allowed and can be had. The
 * first time that it can't, *complain.
 */
static bool grow(struct server *s, bool *complain)
{
	if (s->threads >= s->handler->settings->threads)
		return false;
	if (start_worker(s)) {
		s->short_of_threads = false;
		return true;
	}
	*complain = !s->short_of_threads;
	s->short_of_threads = true;
	return false;
}

/* Hosts limit processes; we go on with what we have. */
static void complain_of_threads(unsigned threads, int error)
{
	errno = error;
	log_message(LEVEL_WARNING, "no more than %u threads: %m", threads);
}

/* What to wait for. */
enum wait {
	WAIT_FOR_ANY, /* a connection too */
	WAIT_AT_DOOR, /* for one that stands there already */
	WAIT_FOR_ANSWERS,
	WAIT_FOR_NOTHING
};

/*
 * Under the lock. Whoever takes a call leaves somebody behind who looks after
 * those that wait for the recorder: there are some where there are more calls
 * than threads that serve one.
 */
static bool has_room(struct server *s, bool *complain)
{
	bool alone = s->idle == 1 && s->calls >= s->threads &&
		     !grow(s, complain);

	s->closed = alone || s->calls >= s->handler->settings->threads;
	return !s->closed;
}

/*
 * And until when, at the latest. Once we stop, what comes is taken as long as
 * there are calls, but not for long; then only what stands at the door.
 */
static enum wait what_to_wait_for(struct server *s, int64_t *until)
{
	enum wait wait = WAIT_FOR_ANY;
	bool complain = false;
	unsigned threads;
	int error;

	mutex_lock(&s->lock);
	if (s->stopping && clock_ms() - s->stopping > DRAIN_MS)
		s->drained = true;
	if (s->drained || !has_room(s, &complain)) {
		wait = s->calls ? WAIT_FOR_ANSWERS : WAIT_FOR_NOTHING;
	} else if (s->stopping && !s->calls) {
		wait = WAIT_AT_DOOR;
		*until = 0;
	} else if (s->stopping) {
		*until = earlier(*until, s->stopping + DRAIN_MS + 1);
	}
	threads = s->threads;
	error = errno;
	mutex_unlock(&s->lock);
	if (complain)
		complain_of_threads(threads, error);
	return wait;
}

/* Until then at the latest. True: somebody stands at the door. */
static bool wait_for_something(struct server *s, enum wait wait, int64_t until)
{
	bool door = wait != WAIT_FOR_ANSWERS;
	int alarm = recorder_alarm_fd(s->handler->recorder);
	struct pollfd p[3] = { { .fd = s->nudge, .events = POLLIN },
			       { .fd = alarm, .events = POLLIN },
			       { .fd = s->listener, .events = POLLIN } };
	int64_t left = -1;

	if (until != INT64_MAX)
		left = earlier(later(until - clock_ms(), 0), INT_MAX);
	if (poll(p, door ? 3 : 2, (int)left) <= 0)
		return false;
	if (p[0].revents)
		wakeup_clear(s->nudge);
	if (p[1].revents)
		wakeup_clear(alarm);
	return door && p[2].revents;
}

static void nobody_at_door(struct server *s)
{
	mutex_lock(&s->lock);
	s->drained = true;
	mutex_unlock(&s->lock);
}

/* What a thread does next: one of the two. */
struct errand {
	struct exchange *overdue;
	int fd;
};

/* False when it is time to leave. Under the turn. */
static bool next_errand(struct server *s, struct errand *e)
{
	int64_t until;
	enum wait wait;

	*e = (struct errand){ .fd = -1 };
	while (e->fd < 0) {
		e->overdue = recorder_overdue(s->handler->recorder, &until);
		if (e->overdue)
			return true;
		wait = what_to_wait_for(s, &until);
		if (wait == WAIT_FOR_NOTHING)
			return false;
		if (wait_for_something(s, wait, until))
			e->fd = accept_connection(s);
		else if (wait == WAIT_AT_DOOR)
			nobody_at_door(s);
	}
	return true;
}

static void run_errand(struct worker *w, const struct errand *e)
{
	if (e->overdue) {
		handle_overdue(e->overdue);
		answer_call(e->overdue);
	} else {
		serve_connection(w, e->fd);
	}
}

/* It sets to work: somebody is to wait in its place. Under the turn. */
static void leave_post(struct server *s)
{
	bool complain = false;
	unsigned threads;
	int error;

	mutex_lock(&s->lock);
	s->idle--;
	if (!s->idle)
		(void)grow(s, &complain);
	threads = s->threads;
	error = errno;
	mutex_unlock(&s->lock);
	if (complain)
		complain_of_threads(threads, error);
}

static void take_post(struct server *s)
{
	mutex_lock(&s->lock);
	s->idle++;
	if (s->closed && s->idle == 2)
		wakeup_send(s->nudge);
	mutex_unlock(&s->lock);
}

static void *work(void *context)
{
	struct worker *w = context;
	struct server *s = w->server;
	struct errand e;
	bool more;

	for (;;) {
		mutex_lock(&s->turn);
		more = next_errand(s, &e);
		/* Before the next one finds out how many are left. */
		if (more)
			leave_post(s);
		mutex_unlock(&s->turn);
		if (!more)
			break;
		run_errand(w, &e);
		take_post(s);
	}
	mutex_lock(&s->lock);
	s->idle--;
	s->threads--;
	cond_signal(&s->left);
	mutex_unlock(&s->lock);
	free(w);
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

static void look_over(struct server *s)
{
	int64_t now = clock_ms(), since = stopping_since(s);

	for (unsigned i = 0; i < s->handler->settings->threads; i++) {
		if (since)
			seat_hurry(&s->seats[i], since + DRAIN_MS);
		seat_look_over(&s->seats[i], now);
	}
}

static void wait_for_signal(struct server *s)
{
	static const struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
	sigset_t signals;
	int signal;

	stop_signals(&signals);
	while ((signal = sigtimedwait(&signals, NULL, &tick)) < 0)
		look_over(s);
	log_message(LEVEL_INFO, "signal %d: answering what is in flight",
		    signal);
}

/* Until the last one left, or the time is over. */
static bool wait_for_workers(struct server *s, int64_t deadline)
{
	bool all;

	mutex_lock(&s->lock);
	while (s->threads && clock_ms() < deadline) {
		cond_wait(&s->left, &s->lock, clock_ms() + TICK_MS);
		mutex_unlock(&s->lock);
		look_over(s);
		mutex_lock(&s->lock);
	}
	all = s->threads == 0;
	mutex_unlock(&s->lock);
	return all;
}

/*
 * All have left, but what libraries keep for a thread is cleared away on its
 * way out; exit() would take their locks from under it.
 */
static void join_workers(struct server *s)
{
	for (unsigned i = 0; i < s->started; i++)
		must(pthread_join(s->seats[i].thread, NULL));
}

/* Answers what there is; false: somebody is stuck. */
static bool stop(struct server *s, int64_t now)
{
	mutex_lock(&s->lock);
	s->stopping = now;
	mutex_unlock(&s->lock);
	recorder_hurry(s->handler->recorder, now + ANSWERS_MS);
	wakeup_send(s->nudge);
	if (!wait_for_workers(s, now + GATEWAY_END_MS))
		return false;
	join_workers(s);
	return true;
}

static struct server *server_new(const struct handler *h, int listener)
{
	struct server *s = xmalloc(sizeof(*s));

	*s = (struct server){ .handler = h,
			      .listener = listener,
			      .nudge = wakeup_new() };
	mutex_init(&s->turn);
	mutex_init(&s->lock);
	cond_init(&s->left);
	s->seats = xcalloc(h->settings->threads, sizeof(s->seats[0]));
	for (unsigned i = 0; i < h->settings->threads; i++) {
		mutex_init(&s->seats[i].lock);
		s->seats[i].fd = -1;
	}
	return s;
}

static void server_free(struct server *s)
{
	close(s->nudge);
	free(s->seats);
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
	now = clock_ms();
	*end = now + GATEWAY_END_MS;
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
	must(pthread_sigmask(SIG_BLOCK, &signals, NULL));
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

bool gateway_fcgi_inherited(void)
{
	int listening = 0;
	socklen_t length = sizeof(listening);

	return getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listening,
			  &length) == 0 &&
	       listening;
}
