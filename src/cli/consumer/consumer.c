#include "cli/consumer/consumer.h"

#include "base/log.h"
#include "cli/cli.h"
#include "cli/consumer/command.h"
#include "cli/consumer/event_listener.h"
#include "cli/program.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	/* While it hears, in case a notification was lost: 24 s to 36 s. */
	POLL_LISTENING_MS = 24000,
	POLL_SPREAD_MS = 12000,
	POLL_FIRST_MS = 2000,
	POLL_LONGEST_MS = 10000,
	LOCK_RETRY_MS = 5000, /* between two attempts to be the one consumer */
	RETRY_FIRST_MS = 1000,
	RETRY_LONGEST_MS = 60000,
	GRACE_MS = 10000, /* for commands that run when we are to end */
	KILL_MS = 2000 /* and then between SIGTERM and SIGKILL */
};

enum slot_state {
	IDLE,
	RUNNING,
	ENDED, /* and the database does not know yet */
	PAUSED,
	KILLED /* its event is not ours any more */
};

/* Room for one command at work. */
struct slot {
	enum slot_state state;
	struct claimed_event item;
	pid_t pid;
	enum command_status status;
	char status_text[64];
	int64_t due; /* PAUSED: when to start it again */
};

struct consumer {
	const struct consumer_options *options;
	int stop;
	int children; /* SIGCHLD, by signalfd() */
	struct session *session;
	struct event_listener *listener; /* NULL: only poll */
	enum listener_state listener_state;
	bool opened; /* the subscription is there */
	bool lock_held;
	bool standby_logged; /* and it was said */
	int64_t lock_retry_at;
	bool may_have_events; /* there may be something */
	int64_t poll_due;
	int64_t poll_pause;
	struct claimed_event queue[FETCH_MAX]; /* taken, from first to count */
	size_t first, count;
	bool printed; /* the queue is, but not acknowledged */
	struct slot slots[FETCH_MAX]; /* as many as the concurrency */
	int once_exit_code; /* of a pool: what --once exits with */
	bool stopping;
	bool commands_signalled; /* the commands were told to end */
	int64_t stop_deadline;
	int exit_code;
};

static bool is_pool(const struct consumer *c)
{
	return c->options->source.worker != NULL;
}

static const char *kind(const struct consumer *c)
{
	return is_pool(c) ? "pool" : "subscription";
}

static size_t count_slots(const struct consumer *c, enum slot_state state)
{
	size_t count = 0;

	for (size_t i = 0; i < c->options->concurrency; i++)
		count += c->slots[i].state == state;
	return count;
}

/* Ends in good order; the first reason counts. */
static void begin_stop(struct consumer *c, int code)
{
	if (c->stopping)
		return;
	c->stopping = true;
	c->stop_deadline = monotonic_ms() + GRACE_MS;
	c->exit_code = code;
}

static void drop_queue(struct consumer *c)
{
	for (; c->first < c->count; c->first++)
		claimed_event_free(&c->queue[c->first]);
	c->first = c->count = 0;
	c->printed = false;
}

static void handle_query_error(struct consumer *c, enum query_status a)
{
	int code = EX_OK;

	if (a == QUERY_REFUSED)
		code = session_exit_code(c->session);
	log_message(code == EX_OK ? LEVEL_WARNING : LEVEL_ERROR,
		    a == QUERY_LOST ? "the connection is lost: %s"
				    : "the database refused: %s",
		    session_message(c->session));
	session_close(c->session);
	if (code != EX_OK)
		begin_stop(c, code);
	else if (c->options->once)
		begin_stop(c, EX_UNAVAILABLE);
}

/* Connections. */

static bool has_pools(struct consumer *c)
{
	bool has;
	enum query_status a = event_source_has_pools(c->session, &has);
	char *file;

	if (a != QUERY_OK) {
		handle_query_error(c, a);
		return false;
	}
	if (has)
		return true;
	file = cli_data_path("sql/pool.sql");
	log_message(LEVEL_ERROR,
		    "the worker pool is not installed in this database; as the "
		    "owner of the schema: psql -X -v ON_ERROR_STOP=1 "
		    "-d DATABASE -f %s",
		    file);
	free(file);
	begin_stop(c, EX_CONFIG);
	return false;
}

static void open_source(struct consumer *c)
{
	const struct event_source *f = &c->options->source;
	bool made;
	enum query_status a;

	if (is_pool(c) && !has_pools(c))
		return;
	a = event_source_open(f, c->session, &made);
	if (a != QUERY_OK) {
		handle_query_error(c, a);
		return;
	}
	c->opened = true;
	if (made)
		log_message(LEVEL_INFO, "%s %s was made: from %s on", kind(c),
			    f->name,
			    f->from && *f->from == 'b' ? "the beginning"
						       : "now");
	else if (f->from || f->statuses)
		log_message(LEVEL_WARNING,
			    "%s %s is there already: --from and --status are "
			    "not looked at",
			    kind(c), f->name);
}

static void maintain_session(struct consumer *c)
{
	if (session_is_open(c->session))
		return;
	if (!session_open(c->session)) {
		if (c->options->once && !session_stop_requested(c->session))
			begin_stop(c, EX_UNAVAILABLE);
		return;
	}
	c->may_have_events = true;
	if (!c->opened)
		open_source(c);
}

/* One consumer at a time, so that nothing is handed out twice in vain. */
static void maintain_lock(struct consumer *c)
{
	enum query_status a;

	if (c->listener_state != LISTENER_ACTIVE)
		c->lock_held = false;
	if (c->listener_state != LISTENER_ACTIVE || c->lock_held ||
	    monotonic_ms() < c->lock_retry_at)
		return;
	a = event_source_lock(&c->options->source,
			      event_listener_session(c->listener), LOCK_SESSION,
			      &c->lock_held);
	c->lock_retry_at = monotonic_ms() + LOCK_RETRY_MS;
	if (a == QUERY_OK && !c->lock_held && !c->standby_logged)
		log_message(LEVEL_INFO,
			    "another consumer has subscription %s; standing by",
			    c->options->source.name);
	c->standby_logged = a == QUERY_OK && !c->lock_held;
	c->may_have_events |= c->lock_held;
}

static void maintain_connections(struct consumer *c)
{
	maintain_session(c);
	if (c->listener && session_is_open(c->session) && c->opened) {
		c->listener_state =
			event_listener_maintain(c->listener, c->session);
		if (!is_pool(c))
			maintain_lock(c);
	}
}

/* Whether it is our turn. */
static bool may_fetch(const struct consumer *c)
{
	if (c->stopping || !c->opened || !session_is_open(c->session))
		return false;
	return is_pool(c) || !c->listener ||
	       c->listener_state == LISTENER_OFF || c->lock_held;
}

/* Leases, of a pool. */

/* At half of a lease it is made longer; without a connection it runs out. */
static int64_t lease_due(const struct consumer *c,
			 const struct claimed_event *i)
{
	return session_is_open(c->session)
		       ? i->until - c->options->source.lease_ms / 2
		       : i->until;
}

/* When the next of the leases wants something. */
static int64_t leases_due(const struct consumer *c)
{
	int64_t due = INT64_MAX;

	if (!is_pool(c))
		return due;
	for (size_t i = 0; i < c->options->concurrency; i++) {
		if (c->slots[i].state == RUNNING)
			due = min_i64(due, lease_due(c, &c->slots[i].item));
	}
	for (size_t i = c->first; i < c->count; i++)
		due = min_i64(due, lease_due(c, &c->queue[i]));
	return due;
}

/* Whether the event is still ours, as far as we can know. */
static bool keep_lease(struct consumer *c, struct claimed_event *i)
{
	bool lost = false;
	enum query_status a;

	if (monotonic_ms() < lease_due(c, i))
		return true;
	if (session_is_open(c->session)) {
		a = event_source_extend(&c->options->source, c->session, i,
					&lost);
		if (a != QUERY_OK)
			handle_query_error(c, a);
	}
	if (!lost && monotonic_ms() < i->until)
		return true;
	log_message(LEVEL_WARNING,
		    "event %s (task %s, %s), attempt %llu: the lease is lost, "
		    "another worker of pool %s may have it",
		    i->event.id, i->event.task_id, i->event.status,
		    (unsigned long long)i->attempt, c->options->source.name);
	return false;
}

/*
 * What is no longer ours is not to be worked on: the command is killed. A
 * line can't be taken back.
 */
static void keep_leases(struct consumer *c)
{
	if (monotonic_ms() < leases_due(c))
		return;
	for (size_t i = 0; i < c->options->concurrency; i++) {
		struct slot *s = &c->slots[i];

		if (s->state != RUNNING || keep_lease(c, &s->item))
			continue;
		command_signal(s->pid, SIGKILL);
		s->state = KILLED;
	}
	for (size_t i = c->first; i < c->count; i++) {
		if (!keep_lease(c, &c->queue[i]))
			c->queue[i].until = INT64_MAX;
	}
}

/* How long poll() may wait. */
static int poll_timeout(int64_t due)
{
	int64_t left = due - monotonic_ms();

	return left < 0 ? 0 : (int)min_i64(left, POLL_LISTENING_MS);
}

/* Lines. */

/*
 * Waits for room first, and then writes as much as a pipe takes without
 * waiting: a reader that sleeps must not keep us from ending.
 */
static bool write_out(struct consumer *c, const char *data, size_t length)
{
	struct pollfd fds[2] = { { .fd = STDOUT_FILENO, .events = POLLOUT },
				 { .fd = c->stop, .events = POLLIN } };

	while (length) {
		size_t part = length < PIPE_BUF ? length : PIPE_BUF;

		keep_leases(c);
		if (poll(fds, 2, poll_timeout(leases_due(c))) < 0) {
			if (errno != EINTR)
				return false;
			continue;
		}
		if (fds[1].revents) {
			errno = EINTR;
			return false;
		}
		if (!fds[0].revents)
			continue;
		if (!write_all(STDOUT_FILENO, data, part))
			return false;
		data += part;
		length -= part;
	}
	return true;
}

static bool print_queue(struct consumer *c)
{
	struct buf lines = { 0 };
	bool written;

	for (size_t i = c->first; i < c->count; i++) {
		char *line = json_event_line(&c->queue[i].event);

		buf_printf(&lines, "%s\n", line);
		free(line);
	}
	written = write_out(c, lines.data, lines.length);
	buf_free(&lines);
	return written;
}

static void log_lost(const struct consumer *c, const struct claimed_event *i)
{
	log_message(LEVEL_WARNING,
		    is_pool(c) ? "event %s was done, but another worker of "
				 "pool %s has it too"
			       : "event %s was acknowledged by another "
				 "consumer of subscription %s",
		    i->event.id, c->options->source.name);
}

/* Acknowledges; false where that has to wait for a connection. */
static bool acknowledge(struct consumer *c, const struct claimed_event *i)
{
	bool lost;
	enum query_status a;

	if (!session_is_open(c->session))
		return false;
	a = event_source_ack(&c->options->source, c->session, i, &lost);
	if (a != QUERY_OK) {
		handle_query_error(c, a);
	} else if (lost) {
		log_lost(c, i);
		if (!is_pool(c))
			drop_queue(c);
	}
	return a != QUERY_LOST;
}

/* The queue was printed: the last stands for all, but not in a pool. */
static void acknowledge_lines(struct consumer *c)
{
	if (!is_pool(c)) {
		if (acknowledge(c, &c->queue[c->count - 1]))
			drop_queue(c);
		return;
	}
	while (c->first < c->count && acknowledge(c, &c->queue[c->first]))
		claimed_event_free(&c->queue[c->first++]);
	if (c->first == c->count)
		drop_queue(c);
}

static void hand_out_lines(struct consumer *c)
{
	if (c->first == c->count)
		return;
	if (!c->printed && !c->stopping) {
		c->printed = print_queue(c);
		if (!c->printed && errno == EINTR)
			begin_stop(c, EX_OK);
		else if (!c->printed) {
			log_message(LEVEL_ERROR, "can't write to stdout: %s",
				    strerror(errno));
			begin_stop(c, EX_IOERR);
		}
	}
	if (c->printed)
		acknowledge_lines(c);
}

/* Commands. */

static void start_command(struct consumer *c, struct slot *s)
{
	s->pid = command_start(c->options->command, &s->item);
	if (s->pid < 0) {
		log_message(LEVEL_ERROR, "can't start a process: %s",
			    strerror(errno));
		begin_stop(c, EX_OSERR);
		return;
	}
	s->state = RUNNING;
}

static int64_t retry_delay(uint64_t attempt)
{
	int64_t pause = RETRY_FIRST_MS;

	while (attempt-- > 1 && pause < RETRY_LONGEST_MS)
		pause *= 2;
	return pause < RETRY_LONGEST_MS ? pause : RETRY_LONGEST_MS;
}

static void log_failed(const struct slot *s)
{
	bool postponed = s->status == COMMAND_DEFERRED;

	log_message(postponed ? LEVEL_INFO : LEVEL_ERROR,
		    "event %s (task %s, %s), attempt %llu: %s: %s",
		    s->item.event.id, s->item.event.task_id,
		    s->item.event.status, (unsigned long long)s->item.attempt,
		    postponed ? "the command wants it later"
			      : "the command failed",
		    s->status_text);
}

/*
 * The event stays the next one: those behind it wait, so that none is
 * skipped and each task keeps its order.
 */
static void schedule_retry(struct consumer *c, struct slot *s)
{
	if (c->options->once)
		begin_stop(c, s->status == COMMAND_DEFERRED ? EX_TEMPFAIL
							    : EXIT_NEGATIVE);
	s->state = PAUSED;
	s->due = monotonic_ms() + retry_delay(s->item.attempt);
	s->item.attempt++;
}

/*
 * To the pool, for another attempt; false where that has to wait for a
 * connection.
 */
static bool return_event(struct consumer *c, const struct claimed_event *i,
			 const char *why, int64_t retry_ms)
{
	enum fail_result fate;
	enum query_status a;

	if (!session_is_open(c->session))
		return false;
	a = event_source_fail(&c->options->source, c->session, i, why, retry_ms,
			      &fate);
	if (a != QUERY_OK)
		handle_query_error(c, a);
	else if (fate == FAIL_LOST)
		log_message(LEVEL_WARNING,
			    "event %s: another worker of pool %s has it",
			    i->event.id, c->options->source.name);
	else if (fate == FAIL_DEAD)
		log_message(LEVEL_ERROR,
			    "event %s (task %s, %s) is given up after %llu "
			    "attempts: see humcli-webhook dead list",
			    i->event.id, i->event.task_id, i->event.status,
			    (unsigned long long)i->attempt);
	return a != QUERY_LOST;
}

static bool report_slot(struct consumer *c, const struct slot *s)
{
	int64_t retry = -1;

	if (s->status == COMMAND_DONE)
		return acknowledge(c, &s->item);
	if (c->commands_signalled)
		retry = 0; /* it was we who ended it */
	else if (s->status == COMMAND_DEFERRED)
		retry = retry_delay(s->item.attempt);
	return return_event(c, &s->item, s->status_text, retry);
}

static void poll_command(struct consumer *c, struct slot *s)
{
	enum command_status ending =
		command_poll(s->pid, s->status_text, sizeof(s->status_text));

	if (ending == COMMAND_RUNNING)
		return;
	if (s->state == KILLED) {
		claimed_event_free(&s->item);
		s->state = IDLE;
		return;
	}
	s->status = ending;
	s->state = ENDED;
	if (ending == COMMAND_DONE)
		return;
	log_failed(s);
	if (!is_pool(c))
		schedule_retry(c, s);
	else if (c->once_exit_code != EXIT_NEGATIVE)
		c->once_exit_code = ending == COMMAND_DEFERRED ? EX_TEMPFAIL
							       : EXIT_NEGATIVE;
}

static void advance_slot(struct consumer *c, struct slot *s)
{
	if (s->state == RUNNING || s->state == KILLED)
		poll_command(c, s);
	if (s->state == ENDED && report_slot(c, s)) {
		claimed_event_free(&s->item);
		s->state = IDLE;
		/* What waited for this event of its task may be free now. */
		c->may_have_events |= is_pool(c);
	}
	if (s->state == PAUSED && !c->stopping && monotonic_ms() >= s->due)
		start_command(c, s);
}

static void hand_out_to_commands(struct consumer *c)
{
	for (size_t i = 0; i < c->options->concurrency; i++) {
		struct slot *s = &c->slots[i];

		advance_slot(c, s);
		if (s->state != IDLE || c->stopping || c->first == c->count)
			continue;
		s->item = c->queue[c->first++];
		start_command(c, s);
	}
}

/* The loop. */

/* When a pool's next event is due, that a worker has or that failed. */
static void schedule_next_poll(struct consumer *c)
{
	int64_t pause;
	enum query_status a =
		event_source_next_due(&c->options->source, c->session, &pause);

	if (a != QUERY_OK)
		handle_query_error(c, a);
	else if (pause != INT64_MAX)
		c->poll_due = min_i64(c->poll_due, monotonic_ms() + pause);
}

static void fetched_nothing(struct consumer *c)
{
	int64_t now = monotonic_ms();

	c->may_have_events = false;
	if (c->options->once &&
	    count_slots(c, IDLE) == c->options->concurrency) {
		begin_stop(c, c->once_exit_code);
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
	if (is_pool(c))
		schedule_next_poll(c);
}

/* How many events we could take. */
static size_t free_capacity(const struct consumer *c)
{
	size_t idle = count_slots(c, IDLE);

	if (!may_fetch(c) || c->first < c->count)
		return 0;
	return idle && !is_pool(c) ? FETCH_MAX : idle;
}

static void fetch_events(struct consumer *c)
{
	size_t max = free_capacity(c);
	enum query_status a;

	if (max == 0 || (!c->may_have_events && monotonic_ms() < c->poll_due))
		return;
	a = event_source_fetch(&c->options->source, c->session, max, c->queue,
			       &c->count);
	c->first = 0;
	if (a != QUERY_OK) {
		handle_query_error(c, a);
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

/* When to go round again if nothing comes from outside. */
static int64_t next_due(const struct consumer *c)
{
	int64_t due = leases_due(c);

	if (c->stopping)
		return min_i64(due, c->stop_deadline);
	for (size_t i = 0; i < c->options->concurrency; i++) {
		if (c->slots[i].state == PAUSED)
			due = min_i64(due, c->slots[i].due);
	}
	if (!session_is_open(c->session))
		return min_i64(due, session_retry_at(c->session));
	if (c->listener)
		due = min_i64(due, event_listener_next_due(c->listener));
	if (!is_pool(c) && c->listener_state == LISTENER_ACTIVE &&
	    !c->lock_held)
		due = min_i64(due, c->lock_retry_at);
	if (!may_fetch(c))
		return due;
	if (c->first < c->count)
		return count_slots(c, IDLE) ? 0 : due;
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

	if (poll(fds, ARRAY_SIZE(fds), poll_timeout(next_due(c))) < 0)
		return;
	if (fds[0].revents)
		begin_stop(c, EX_OK);
	/* Which child it was is found by asking for each. */
	while (fds[1].revents &&
	       read(c->children, &child, sizeof(child)) == sizeof(child))
		;
	if (fds[2].revents && !session_receive(c->session)) {
		log_message(LEVEL_WARNING, "the connection was closed");
		if (c->options->once)
			begin_stop(c, EX_UNAVAILABLE);
	}
	if (c->listener && event_listener_receive(c->listener))
		c->may_have_events = true;
}

static void signal_command(struct consumer *c, const struct slot *s)
{
	if (!c->commands_signalled)
		log_message(LEVEL_WARNING,
			    "event %s: the command still runs and is told to "
			    "end; the event comes again",
			    s->item.event.id);
	command_signal(s->pid, c->commands_signalled ? SIGKILL : SIGTERM);
}

/*
 * Whether we may go. A pool's commands get a moment to end after SIGTERM,
 * since another worker has their events as soon as they are given back.
 */
static bool may_exit(struct consumer *c)
{
	if (!c->stopping)
		return false;
	if (count_slots(c, RUNNING) == 0)
		return true;
	if (monotonic_ms() < c->stop_deadline)
		return false;
	for (size_t i = 0; i < c->options->concurrency; i++) {
		if (c->slots[i].state == RUNNING)
			signal_command(c, &c->slots[i]);
	}
	if (!is_pool(c) || c->commands_signalled)
		return true;
	c->commands_signalled = true;
	c->stop_deadline = monotonic_ms() + KILL_MS;
	return false;
}

/* What a pool gave us and is not done goes to the next at once. */
static void return_all_events(struct consumer *c)
{
	static const char why[] = "the worker ended";

	for (size_t i = 0; i < c->options->concurrency; i++) {
		const struct slot *s = &c->slots[i];

		if (s->item.position && s->state != ENDED &&
		    s->state != KILLED && !return_event(c, &s->item, why, 0))
			return;
	}
	for (size_t i = c->first; i < c->count && !c->printed; i++) {
		if (!return_event(c, &c->queue[i], why, 0))
			return;
	}
}

static int run(struct consumer *c)
{
	for (;;) {
		if (!c->stopping)
			maintain_connections(c);
		keep_leases(c);
		if (c->options->command)
			hand_out_to_commands(c);
		else
			hand_out_lines(c);
		fetch_events(c);
		if (may_exit(c))
			break;
		wait_for_news(c);
	}
	if (is_pool(c))
		return_all_events(c);
	return c->exit_code;
}

/* For --once; its connection may lead through a pooler. */
static int lock_once(const struct consumer_options *o, struct session *s)
{
	bool granted;

	if (!session_open(s))
		return session_stop_requested(s) ? EX_OK : EX_UNAVAILABLE;
	if (event_source_lock(&o->source, s, LOCK_TRANSACTION, &granted) !=
	    QUERY_OK) {
		log_message(LEVEL_ERROR, "no database: %s", session_message(s));
		return EX_UNAVAILABLE;
	}
	if (granted)
		return EX_OK;
	log_message(LEVEL_WARNING,
		    "another consumer has subscription %s; nothing was done",
		    o->source.name);
	return EX_TEMPFAIL;
}

/* From here on a command's end waits to be read. */
static int take_child_signals(void)
{
	/* Whoever started us may have had it ignored: none would be left. */
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
	if (o->once && !is_pool(c)) {
		guardian = session_new(o->conninfo, true, stop);
		code = lock_once(o, guardian);
	}
	if (c->children < 0) {
		log_message(LEVEL_ERROR, "can't wait for processes: %s",
			    strerror(errno));
		code = EX_OSERR;
	}
	if (code == EX_OK)
		code = run(c);
	drop_queue(c);
	for (size_t i = 0; i < o->concurrency; i++)
		claimed_event_free(&c->slots[i].item);
	if (c->children >= 0)
		close(c->children);
	event_listener_free(c->listener);
	session_free(c->session);
	session_free(guardian);
	free(c);
	return code;
}
