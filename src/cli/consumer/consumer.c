/*
 * The consumer's loop: keeps the connections and the consumer lock, fetches
 * events, and waits. commands.c and lines.c deliver the fetched events,
 * claims.c acknowledges them, consumer_state.c has what all of them need. Knows
 * no SQL and no libpq.
 *
 * All of it runs in one thread. Signals arrive by descriptors: the caller's
 * stop, and SIGCHLD by a signalfd. Two connections are used: c->session asks
 * and acknowledges; the notification listener's own one only listens.
 */
#include "cli/consumer/consumer_state.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	/* While the listener is active: a notification can be lost. */
	POLL_LISTENING_MS = 24000,
	POLL_SPREAD_MS = 12000,
	POLL_FIRST_MS = 2000,
	POLL_LONGEST_MS = 10000,
	LOCK_RETRY_MS = 5000, /* between two attempts to get the lock */
	KILL_MS = 2000 /* between SIGTERM and SIGKILL */
};

static const char *kind(const struct consumer *c)
{
	return consumer_is_pool(c) ? "pool" : "subscription";
}

/* Connections. */

/* Returns true if pool.sql is installed; otherwise stops the consumer. */
static bool has_pools(struct consumer *c)
{
	bool has;
	enum query_status status = event_source_has_pools(c->session, &has);
	char *file;

	if (status != QUERY_OK) {
		consumer_query_failed(c, status);
		return false;
	}
	if (has)
		return true;
	file = cli_data_path("sql/pool.sql");
	log_message(LEVEL_ERROR,
		    "the worker pool is not installed in this database; run as "
		    "the owner of the schema: psql -X -v ON_ERROR_STOP=1 "
		    "-d DATABASE -f %s",
		    file);
	free(file);
	consumer_begin_stop(c, EX_CONFIG);
	return false;
}

/* Creates the subscription if it is missing. */
static void open_source(struct consumer *c)
{
	const struct event_source *source = &c->options->source;
	bool made;
	enum query_status status;

	if (consumer_is_pool(c) && !has_pools(c))
		return;
	status = event_source_open(source, c->session, &made);
	if (status != QUERY_OK) {
		consumer_query_failed(c, status);
		return;
	}
	c->opened = true;
	if (made)
		log_message(LEVEL_INFO, "%s %s created, from %s on", kind(c),
			    source->name,
			    source->from && *source->from == 'b'
				    ? "the beginning"
				    : "now");
	else if (source->from || source->statuses || source->secrets)
		log_message(LEVEL_WARNING,
			    "%s %s exists already: --from, --status and "
			    "--secret are ignored",
			    kind(c), source->name);
}

static void maintain_session(struct consumer *c)
{
	if (session_is_open(c->session))
		return;
	if (!session_open_lasting(c->session)) {
		if (c->options->once && !session_stop_requested(c->session))
			consumer_begin_stop(c, EX_UNAVAILABLE);
		return;
	}
	c->may_have_events = true;
	if (!c->opened)
		open_source(c);
}

/*
 * Tries to get the consumer lock: of several consumers of a subscription one
 * delivers events, because each of them would fetch the same ones.
 */
static void maintain_lock(struct consumer *c)
{
	enum query_status status;

	if (c->listener_state != LISTENER_ACTIVE)
		c->lock_held = false;
	if (c->listener_state != LISTENER_ACTIVE || c->lock_held ||
	    monotonic_ms() < c->lock_retry_at)
		return;
	status = event_source_lock(&c->options->source,
				   event_listener_session(c->listener),
				   LOCK_SESSION, &c->lock_held);
	c->lock_retry_at = monotonic_ms() + LOCK_RETRY_MS;
	if (status == QUERY_OK && !c->lock_held && !c->standby_logged)
		log_message(LEVEL_INFO,
			    "another consumer has subscription %s; standing by",
			    c->options->source.name);
	c->standby_logged = status == QUERY_OK && !c->lock_held;
	c->may_have_events |= c->lock_held;
}

static void maintain_connections(struct consumer *c)
{
	maintain_session(c);
	if (c->listener && session_is_open(c->session) && c->opened) {
		c->listener_state =
			event_listener_maintain(c->listener, c->session);
		if (!consumer_is_pool(c))
			maintain_lock(c);
	}
}

/*
 * Returns true if this consumer may fetch. A subscription needs the consumer
 * lock; without a listener there is no connection that could hold it.
 */
static bool may_fetch(const struct consumer *c)
{
	if (c->stopping || !c->opened || !session_is_open(c->session))
		return false;
	return consumer_is_pool(c) || !c->listener ||
	       c->listener_state == LISTENER_OFF || c->lock_held;
}

/* Polls again when the pool's next failed or leased event is due. */
static void schedule_next_poll(struct consumer *c)
{
	int64_t pause;
	enum query_status status =
		event_source_next_due(&c->options->source, c->session, &pause);

	if (status != QUERY_OK)
		consumer_query_failed(c, status);
	else if (pause != INT64_MAX)
		c->poll_due = min_i64(c->poll_due, monotonic_ms() + pause);
}

/* Decides when to poll again; stops with --once. */
static void fetched_nothing(struct consumer *c)
{
	int64_t now = monotonic_ms();

	c->may_have_events = false;
	if (c->options->once &&
	    consumer_count_slots(c, IDLE) == c->options->concurrency) {
		consumer_begin_stop(c, c->once_exit_code);
		return;
	}
	if (c->listener_state == LISTENER_ACTIVE) {
		c->poll_due = now + POLL_LISTENING_MS +
			      wall_clock_us() % POLL_SPREAD_MS;
		c->poll_pause = POLL_FIRST_MS;
	} else {
		c->poll_due = now + c->poll_pause;
		c->poll_pause = c->poll_pause < POLL_LONGEST_MS / 2
					? c->poll_pause * 2
					: POLL_LONGEST_MS;
	}
	if (consumer_is_pool(c))
		schedule_next_poll(c);
}

/* Returns how many events to fetch. A pool's leases begin at the fetch. */
static size_t free_capacity(const struct consumer *c)
{
	size_t idle = consumer_count_slots(c, IDLE);
	size_t busy = c->options->concurrency - idle;
	size_t max = idle && !consumer_is_pool(c) ? FETCH_MAX : idle;
	uint64_t left = c->options->count - c->delivered - busy;

	if (!may_fetch(c) || c->first < c->count)
		return 0;
	return c->options->count && left < max ? (size_t)left : max;
}

static void fetch_events(struct consumer *c)
{
	size_t max = free_capacity(c);
	enum query_status status;

	if (max == 0 || (!c->may_have_events && monotonic_ms() < c->poll_due))
		return;
	status = event_source_fetch(&c->options->source, c->session, max,
				    c->queue, &c->count);
	c->first = 0;
	if (status != QUERY_OK) {
		consumer_query_failed(c, status);
		return;
	}
	session_reset_backoff(c->session);
	if (c->count == 0) {
		fetched_nothing(c);
		return;
	}
	c->may_have_events = true;
	c->poll_pause = POLL_FIRST_MS;
}

/* Returns when the loop has to run again by itself, monotonic_ms(). */
static int64_t next_due(const struct consumer *c)
{
	int64_t due = claims_next_due(c);

	if (c->stopping)
		return min_i64(due, c->stop_deadline);
	due = min_i64(due, c->options->end);
	for (size_t i = 0; i < c->options->concurrency; i++) {
		if (c->slots[i].state == PAUSED)
			due = min_i64(due, c->slots[i].due);
	}
	if (!session_is_open(c->session))
		return min_i64(due, session_retry_at(c->session));
	if (c->listener)
		due = min_i64(due, event_listener_next_due(c->listener));
	if (!consumer_is_pool(c) && c->listener_state == LISTENER_ACTIVE &&
	    !c->lock_held)
		due = min_i64(due, c->lock_retry_at);
	if (!may_fetch(c))
		return due;
	if (c->first < c->count)
		return consumer_count_slots(c, IDLE) ? 0 : due;
	if (free_capacity(c))
		due = min_i64(due, c->may_have_events ? 0 : c->poll_due);
	return due;
}

static void wait_for_news(struct consumer *c)
{
	struct pollfd fds[] = {
		{ .fd = c->stopping ? -1 : c->stop, .events = POLLIN },
		{ .fd = c->children, .events = POLLIN },
		{ .fd = session_socket(c->session), .events = POLLIN },
		{ .fd = c->listener ? event_listener_socket(c->listener) : -1,
		  .events = POLLIN },
	};
	struct signalfd_siginfo child;

	if (poll(fds, ARRAY_SIZE(fds), consumer_poll_timeout(next_due(c))) < 0)
		return;
	if (fds[0].revents)
		consumer_begin_stop(c, EX_OK);
	/* A signalfd merges signals: they only say that some child ended. */
	while (fds[1].revents &&
	       read(c->children, &child, sizeof(child)) == sizeof(child))
		;
	consumer_reap_children(c);
	if (fds[2].revents && !session_receive(c->session)) {
		log_message(LEVEL_WARNING,
			    "connection closed by the server; reconnecting");
		if (c->options->once)
			consumer_begin_stop(c, EX_UNAVAILABLE);
	}
	if (c->listener && event_listener_receive(c->listener))
		c->may_have_events = true;
}

/*
 * Returns true once the loop may end. At the stop deadline the commands get
 * SIGTERM. A pool's get KILL_MS more and then SIGKILL, because another worker
 * claims their events as soon as they are returned.
 */
static bool may_exit(struct consumer *c)
{
	if (!c->stopping)
		return false;
	if (consumer_count_slots(c, RUNNING) == 0)
		return true;
	if (monotonic_ms() < c->stop_deadline)
		return false;
	consumer_signal_commands(c);
	if (!consumer_is_pool(c) || c->commands_signalled)
		return true;
	c->commands_signalled = true;
	c->stop_deadline = monotonic_ms() + KILL_MS;
	return false;
}

static int run(struct consumer *c)
{
	for (;;) {
		if (!c->stopping)
			maintain_connections(c);
		claims_keep_leases(c);
		if (c->options->command)
			consumer_run_commands(c);
		else
			consumer_print_lines(c);
		fetch_events(c);
		if (monotonic_ms() >= c->options->end)
			consumer_begin_stop(c, c->options->count ? EXIT_NEGATIVE
								 : EX_OK);
		if (may_exit(c))
			break;
		wait_for_news(c);
	}
	if (consumer_is_pool(c))
		claims_return_all(c);
	/* Not with --once: cron would mail it. */
	if (!c->options->once)
		log_message(LEVEL_INFO, "ended; %llu event%s delivered",
			    (unsigned long long)c->delivered,
			    PLURAL_S(c->delivered));
	return c->exit_code;
}

/* Gets the consumer lock for --once; returns the exit code. */
static int lock_once(const struct consumer_options *o, struct session *s)
{
	bool granted;

	if (!session_open_lasting(s))
		return session_stop_requested(s) ? EX_OK : EX_UNAVAILABLE;
	if (event_source_lock(&o->source, s, LOCK_TRANSACTION, &granted) !=
	    QUERY_OK) {
		log_message(LEVEL_ERROR, "can't get the consumer lock: %s",
			    session_message(s));
		return session_exit_code(s) ? session_exit_code(s)
					    : EX_UNAVAILABLE;
	}
	if (granted)
		return EX_OK;
	log_message(LEVEL_WARNING,
		    "another consumer has subscription %s; nothing done",
		    o->source.name);
	return EX_TEMPFAIL;
}

/* Blocks SIGCHLD and returns a signalfd for it; -1 with errno set. */
static int take_child_signals(void)
{
	/*
	 * A parent may have ignored SIGCHLD; then no child could be waited for.
	 */
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigaction(SIGCHLD, &usual, NULL) < 0 ||
	    sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int consume(const struct consumer_options *o, int stop)
{
	struct session *guardian = NULL;
	struct consumer *c = xcalloc(1, sizeof(*c));
	int code = EX_OK;

	c->options = o;
	c->stop = stop;
	c->poll_pause = POLL_FIRST_MS;
	c->children = take_child_signals();
	c->session = session_new(o->conninfo, true, stop);
	if (!o->once && !o->poll_only)
		c->listener = event_listener_new(o->conninfo, stop);
	if (o->once && !consumer_is_pool(c)) {
		guardian = session_new(o->conninfo, true, stop);
		code = lock_once(o, guardian);
	}
	if (c->children < 0) {
		log_message(LEVEL_ERROR, "can't wait for child processes: %s",
			    strerror(errno));
		code = EX_OSERR;
	}
	if (code == EX_OK)
		code = run(c);
	consumer_drop_queue(c);
	for (size_t i = 0; i < o->concurrency; i++)
		claimed_event_free(&c->slots[i].event);
	if (c->children >= 0)
		close(c->children);
	event_listener_free(c->listener);
	session_free(c->session);
	session_free(guardian);
	free(c);
	return code;
}
