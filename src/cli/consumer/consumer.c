#include "cli/consumer/consumer.h"

#include "base/log.h"
#include "cli/cli.h"
#include "cli/consumer/command.h"
#include "cli/consumer/event_listener.h"

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
	POLL_HEARING_MS = 24000,
	POLL_SPREAD_MS = 12000,
	POLL_FIRST_MS = 2000,
	POLL_LONGEST_MS = 10000,
	CLAIM_MS = 5000, /* between two attempts to be the one consumer */
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
	struct item item;
	pid_t pid;
	enum ending ending;
	char why[64];
	int64_t due; /* PAUSED: when to start it again */
};

struct consumer {
	const struct consumer_options *o;
	int stop;
	int children; /* SIGCHLD, by signalfd() */
	struct session *work;
	struct ear *ear; /* NULL: only poll */
	enum hearing hearing;
	bool opened; /* the subscription is there */
	bool claimed;
	bool standing_by; /* and it was said */
	int64_t claim_due;
	bool dirty; /* there may be something */
	int64_t poll_due;
	int64_t poll_pause;
	struct item queue[FEED_MAX]; /* taken, from first to count */
	size_t first, count;
	bool printed; /* the queue is, but not acknowledged */
	struct slot slots[FEED_MAX]; /* as many as the concurrency */
	int failed; /* of a pool: what --once exits with */
	bool leaving;
	bool told; /* the commands were told to end */
	int64_t leave_due;
	int code;
};

static bool is_pool(const struct consumer *c)
{
	return c->o->feed.worker != NULL;
}

static const char *kind(const struct consumer *c)
{
	return is_pool(c) ? "pool" : "subscription";
}

static size_t slots_in(const struct consumer *c, enum slot_state state)
{
	size_t count = 0;

	for (size_t i = 0; i < c->o->concurrency; i++)
		count += c->slots[i].state == state;
	return count;
}

/* Ends in good order; the first reason counts. */
static void leave(struct consumer *c, int code)
{
	if (c->leaving)
		return;
	c->leaving = true;
	c->leave_due = clock_ms() + GRACE_MS;
	c->code = code;
}

static void drop_queue(struct consumer *c)
{
	for (; c->first < c->count; c->first++)
		item_free(&c->queue[c->first]);
	c->first = c->count = 0;
	c->printed = false;
}

static void take_fault(struct consumer *c, enum answer a)
{
	int code = EX_OK;

	if (a == ANSWER_REFUSED)
		code = session_verdict(c->work);
	log_message(code == EX_OK ? LEVEL_WARNING : LEVEL_ERROR,
		    a == ANSWER_LOST ? "the connection is lost: %s"
				     : "the database refused: %s",
		    session_message(c->work));
	session_close(c->work);
	if (code != EX_OK)
		leave(c, code);
	else if (c->o->once)
		leave(c, EX_UNAVAILABLE);
}

/* Connections. */

static bool has_pools(struct consumer *c)
{
	bool has;
	enum answer a = feed_has_pools(c->work, &has);
	char *file;

	if (a != ANSWER_OK) {
		take_fault(c, a);
		return false;
	}
	if (has)
		return true;
	file = cli_data("sql/pool.sql");
	log_message(LEVEL_ERROR,
		    "the worker pool is not installed in this database; as the "
		    "owner of the schema: psql -X -v ON_ERROR_STOP=1 "
		    "-d DATABASE -f %s",
		    file);
	free(file);
	leave(c, EX_CONFIG);
	return false;
}

static void open_feed(struct consumer *c)
{
	const struct feed *f = &c->o->feed;
	bool made;
	enum answer a;

	if (is_pool(c) && !has_pools(c))
		return;
	a = feed_open(f, c->work, &made);
	if (a != ANSWER_OK) {
		take_fault(c, a);
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

static void tend_work(struct consumer *c)
{
	if (session_is_open(c->work))
		return;
	if (!session_open(c->work)) {
		if (c->o->once && !session_told(c->work))
			leave(c, EX_UNAVAILABLE);
		return;
	}
	c->dirty = true;
	if (!c->opened)
		open_feed(c);
}

/* One consumer at a time, so that nothing is handed out twice in vain. */
static void tend_claim(struct consumer *c)
{
	enum answer a;

	if (c->hearing != EAR_HEARING)
		c->claimed = false;
	if (c->hearing != EAR_HEARING || c->claimed ||
	    clock_ms() < c->claim_due)
		return;
	a = feed_claim(&c->o->feed, ear_session(c->ear), CLAIM_SESSION,
		       &c->claimed);
	c->claim_due = clock_ms() + CLAIM_MS;
	if (a == ANSWER_OK && !c->claimed && !c->standing_by)
		log_message(LEVEL_INFO,
			    "another consumer has subscription %s; standing by",
			    c->o->feed.name);
	c->standing_by = a == ANSWER_OK && !c->claimed;
	c->dirty |= c->claimed;
}

static void tend(struct consumer *c)
{
	tend_work(c);
	if (c->ear && session_is_open(c->work) && c->opened) {
		c->hearing = ear_tend(c->ear, c->work);
		if (!is_pool(c))
			tend_claim(c);
	}
}

/* Whether it is our turn. */
static bool may_take(const struct consumer *c)
{
	if (c->leaving || !c->opened || !session_is_open(c->work))
		return false;
	return is_pool(c) || !c->ear || c->hearing == EAR_OFF || c->claimed;
}

/* Leases, of a pool. */

/* At half of a lease it is made longer; without a connection it runs out. */
static int64_t lease_due(const struct consumer *c, const struct item *i)
{
	return session_is_open(c->work) ? i->until - c->o->feed.lease_ms / 2
					: i->until;
}

/* When the next of the leases wants something. */
static int64_t leases_due(const struct consumer *c)
{
	int64_t due = INT64_MAX;

	if (!is_pool(c))
		return due;
	for (size_t i = 0; i < c->o->concurrency; i++) {
		if (c->slots[i].state == RUNNING)
			due = earlier(due, lease_due(c, &c->slots[i].item));
	}
	for (size_t i = c->first; i < c->count; i++)
		due = earlier(due, lease_due(c, &c->queue[i]));
	return due;
}

/* Whether the event is still ours, as far as we can know. */
static bool keep_lease(struct consumer *c, struct item *i)
{
	bool lost = false;
	enum answer a;

	if (clock_ms() < lease_due(c, i))
		return true;
	if (session_is_open(c->work)) {
		a = feed_extend(&c->o->feed, c->work, i, &lost);
		if (a != ANSWER_OK)
			take_fault(c, a);
	}
	if (!lost && clock_ms() < i->until)
		return true;
	log_message(LEVEL_WARNING,
		    "event %s (task %s, %s), attempt %llu: the lease is lost, "
		    "another worker of pool %s may have it",
		    i->event.id, i->event.task_id, i->event.status,
		    (unsigned long long)i->attempt, c->o->feed.name);
	return false;
}

/*
 * What is no longer ours is not to be worked on: the command is killed. A
 * line can't be taken back.
 */
static void keep_leases(struct consumer *c)
{
	if (clock_ms() < leases_due(c))
		return;
	for (size_t i = 0; i < c->o->concurrency; i++) {
		struct slot *s = &c->slots[i];

		if (s->state != RUNNING || keep_lease(c, &s->item))
			continue;
		worker_kill(s->pid, SIGKILL);
		s->state = KILLED;
	}
	for (size_t i = c->first; i < c->count; i++) {
		if (!keep_lease(c, &c->queue[i]))
			c->queue[i].until = INT64_MAX;
	}
}

/* How long poll() may wait. */
static int until_due(int64_t due)
{
	int64_t left = due - clock_ms();

	return left < 0 ? 0 : (int)earlier(left, POLL_HEARING_MS);
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
		if (poll(fds, 2, until_due(leases_due(c))) < 0) {
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
		char *line = json_recorded(&c->queue[i].event);

		buf_printf(&lines, "%s\n", line);
		free(line);
	}
	written = write_out(c, lines.data, lines.length);
	buf_free(&lines);
	return written;
}

static void say_lost(const struct consumer *c, const struct item *i)
{
	log_message(LEVEL_WARNING,
		    is_pool(c) ? "event %s was done, but another worker of "
				 "pool %s has it too"
			       : "event %s was acknowledged by another "
				 "consumer of subscription %s",
		    i->event.id, c->o->feed.name);
}

/* Acknowledges; false where that has to wait for a connection. */
static bool settle(struct consumer *c, const struct item *i)
{
	bool lost;
	enum answer a;

	if (!session_is_open(c->work))
		return false;
	a = feed_done(&c->o->feed, c->work, i, &lost);
	if (a != ANSWER_OK) {
		take_fault(c, a);
	} else if (lost) {
		say_lost(c, i);
		if (!is_pool(c))
			drop_queue(c);
	}
	return a != ANSWER_LOST;
}

/* The queue was printed: the last stands for all, but not in a pool. */
static void settle_lines(struct consumer *c)
{
	if (!is_pool(c)) {
		if (settle(c, &c->queue[c->count - 1]))
			drop_queue(c);
		return;
	}
	while (c->first < c->count && settle(c, &c->queue[c->first]))
		item_free(&c->queue[c->first++]);
	if (c->first == c->count)
		drop_queue(c);
}

static void hand_out_lines(struct consumer *c)
{
	if (c->first == c->count)
		return;
	if (!c->printed && !c->leaving) {
		c->printed = print_queue(c);
		if (!c->printed && errno == EINTR)
			leave(c, EX_OK);
		else if (!c->printed) {
			log_message(LEVEL_ERROR, "can't write to stdout: %s",
				    strerror(errno));
			leave(c, EX_IOERR);
		}
	}
	if (c->printed)
		settle_lines(c);
}

/* Commands. */

static void start_command(struct consumer *c, struct slot *s)
{
	s->pid = worker_start(c->o->command, &s->item);
	if (s->pid < 0) {
		log_message(LEVEL_ERROR, "can't start a process: %s",
			    strerror(errno));
		leave(c, EX_OSERR);
		return;
	}
	s->state = RUNNING;
}

static int64_t retry_pause(uint64_t attempt)
{
	int64_t pause = RETRY_FIRST_MS;

	while (attempt-- > 1 && pause < RETRY_LONGEST_MS)
		pause *= 2;
	return pause < RETRY_LONGEST_MS ? pause : RETRY_LONGEST_MS;
}

static void say_failed(const struct slot *s)
{
	bool postponed = s->ending == WORKER_LATER;

	log_message(postponed ? LEVEL_INFO : LEVEL_ERROR,
		    "event %s (task %s, %s), attempt %llu: %s: %s",
		    s->item.event.id, s->item.event.task_id,
		    s->item.event.status, (unsigned long long)s->item.attempt,
		    postponed ? "the command wants it later"
			      : "the command failed",
		    s->why);
}

/*
 * The event stays the next one: those behind it wait, so that none is
 * skipped and each task keeps its order.
 */
static void put_off(struct consumer *c, struct slot *s)
{
	if (c->o->once)
		leave(c,
		      s->ending == WORKER_LATER ? EX_TEMPFAIL : EXIT_NEGATIVE);
	s->state = PAUSED;
	s->due = clock_ms() + retry_pause(s->item.attempt);
	s->item.attempt++;
}

/*
 * To the pool, for another attempt; false where that has to wait for a
 * connection.
 */
static bool give_back(struct consumer *c, const struct item *i, const char *why,
		      int64_t retry_ms)
{
	enum fate fate;
	enum answer a;

	if (!session_is_open(c->work))
		return false;
	a = feed_failed(&c->o->feed, c->work, i, why, retry_ms, &fate);
	if (a != ANSWER_OK)
		take_fault(c, a);
	else if (fate == FATE_LOST)
		log_message(LEVEL_WARNING,
			    "event %s: another worker of pool %s has it",
			    i->event.id, c->o->feed.name);
	else if (fate == FATE_DEAD)
		log_message(LEVEL_ERROR,
			    "event %s (task %s, %s) is given up after %llu "
			    "attempts: see humcli-webhook dead list",
			    i->event.id, i->event.task_id, i->event.status,
			    (unsigned long long)i->attempt);
	return a != ANSWER_LOST;
}

static bool settle_slot(struct consumer *c, const struct slot *s)
{
	int64_t retry = -1;

	if (s->ending == WORKER_DONE)
		return settle(c, &s->item);
	if (c->told)
		retry = 0; /* it was we who ended it */
	else if (s->ending == WORKER_LATER)
		retry = retry_pause(s->item.attempt);
	return give_back(c, &s->item, s->why, retry);
}

static void look_at_command(struct consumer *c, struct slot *s)
{
	enum ending ending = worker_look(s->pid, s->why, sizeof(s->why));

	if (ending == WORKER_RUNS)
		return;
	if (s->state == KILLED) {
		item_free(&s->item);
		s->state = IDLE;
		return;
	}
	s->ending = ending;
	s->state = ENDED;
	if (ending == WORKER_DONE)
		return;
	say_failed(s);
	if (!is_pool(c))
		put_off(c, s);
	else if (c->failed != EXIT_NEGATIVE)
		c->failed = ending == WORKER_LATER ? EX_TEMPFAIL
						   : EXIT_NEGATIVE;
}

static void look_after(struct consumer *c, struct slot *s)
{
	if (s->state == RUNNING || s->state == KILLED)
		look_at_command(c, s);
	if (s->state == ENDED && settle_slot(c, s)) {
		item_free(&s->item);
		s->state = IDLE;
		/* What waited for this event of its task may be free now. */
		c->dirty |= is_pool(c);
	}
	if (s->state == PAUSED && !c->leaving && clock_ms() >= s->due)
		start_command(c, s);
}

static void hand_out_to_commands(struct consumer *c)
{
	for (size_t i = 0; i < c->o->concurrency; i++) {
		struct slot *s = &c->slots[i];

		look_after(c, s);
		if (s->state != IDLE || c->leaving || c->first == c->count)
			continue;
		s->item = c->queue[c->first++];
		start_command(c, s);
	}
}

/* The loop. */

/* When a pool's next event is due, that a worker has or that failed. */
static void ask_pause(struct consumer *c)
{
	int64_t pause;
	enum answer a = feed_pause(&c->o->feed, c->work, &pause);

	if (a != ANSWER_OK)
		take_fault(c, a);
	else if (pause != INT64_MAX)
		c->poll_due = earlier(c->poll_due, clock_ms() + pause);
}

static void nothing_there(struct consumer *c)
{
	int64_t now = clock_ms();

	c->dirty = false;
	if (c->o->once && slots_in(c, IDLE) == c->o->concurrency) {
		leave(c, c->failed);
		return;
	}
	if (c->hearing == EAR_HEARING) {
		c->poll_due = now + POLL_HEARING_MS + now_us() % POLL_SPREAD_MS;
		c->poll_pause = POLL_FIRST_MS;
	} else {
		c->poll_due = now + c->poll_pause;
		c->poll_pause = c->poll_pause < POLL_LONGEST_MS / 2
					? c->poll_pause * 2
					: POLL_LONGEST_MS;
	}
	if (is_pool(c))
		ask_pause(c);
}

/* How many events we could take. */
static size_t room(const struct consumer *c)
{
	size_t idle = slots_in(c, IDLE);

	if (!may_take(c) || c->first < c->count)
		return 0;
	return idle && !is_pool(c) ? FEED_MAX : idle;
}

static void take(struct consumer *c)
{
	size_t max = room(c);
	enum answer a;

	if (max == 0 || (!c->dirty && clock_ms() < c->poll_due))
		return;
	a = feed_take(&c->o->feed, c->work, max, c->queue, &c->count);
	c->first = 0;
	if (a != ANSWER_OK) {
		take_fault(c, a);
		return;
	}
	session_proven(c->work);
	if (c->count == 0) {
		nothing_there(c);
		return;
	}
	c->dirty = true;
	c->poll_pause = POLL_FIRST_MS;
}

/* When to go round again if nothing comes from outside. */
static int64_t next_due(const struct consumer *c)
{
	int64_t due = leases_due(c);

	if (c->leaving)
		return earlier(due, c->leave_due);
	for (size_t i = 0; i < c->o->concurrency; i++) {
		if (c->slots[i].state == PAUSED)
			due = earlier(due, c->slots[i].due);
	}
	if (!session_is_open(c->work))
		return earlier(due, session_due(c->work));
	if (c->ear)
		due = earlier(due, ear_due(c->ear));
	if (!is_pool(c) && c->hearing == EAR_HEARING && !c->claimed)
		due = earlier(due, c->claim_due);
	if (!may_take(c))
		return due;
	if (c->first < c->count)
		return slots_in(c, IDLE) ? 0 : due;
	if (room(c))
		due = earlier(due, c->dirty ? 0 : c->poll_due);
	return due;
}

static void wait_for_news(struct consumer *c)
{
	struct pollfd fds[] = {
		{ .fd = c->leaving ? -1 : c->stop, .events = POLLIN },
		{ .fd = c->children, .events = POLLIN },
		{ .fd = session_socket(c->work), .events = POLLIN },
		{ .fd = c->ear ? ear_socket(c->ear) : -1, .events = POLLIN },
	};
	struct signalfd_siginfo child;

	if (poll(fds, ARRAY_SIZE(fds), until_due(next_due(c))) < 0)
		return;
	if (fds[0].revents)
		leave(c, EX_OK);
	/* Which child it was is found by asking for each. */
	while (fds[1].revents &&
	       read(c->children, &child, sizeof(child)) == sizeof(child))
		;
	if (fds[2].revents && !session_receive(c->work)) {
		log_message(LEVEL_WARNING, "the connection was closed");
		if (c->o->once)
			leave(c, EX_UNAVAILABLE);
	}
	if (c->ear && ear_woken(c->ear))
		c->dirty = true;
}

static void tell_to_end(struct consumer *c, const struct slot *s)
{
	if (!c->told)
		log_message(LEVEL_WARNING,
			    "event %s: the command still runs and is told to "
			    "end; the event comes again",
			    s->item.event.id);
	worker_kill(s->pid, c->told ? SIGKILL : SIGTERM);
}

/*
 * Whether we may go. A pool's commands get a moment to end after SIGTERM,
 * since another worker has their events as soon as they are given back.
 */
static bool may_go(struct consumer *c)
{
	if (!c->leaving)
		return false;
	if (slots_in(c, RUNNING) == 0)
		return true;
	if (clock_ms() < c->leave_due)
		return false;
	for (size_t i = 0; i < c->o->concurrency; i++) {
		if (c->slots[i].state == RUNNING)
			tell_to_end(c, &c->slots[i]);
	}
	if (!is_pool(c) || c->told)
		return true;
	c->told = true;
	c->leave_due = clock_ms() + KILL_MS;
	return false;
}

/* What a pool gave us and is not done goes to the next at once. */
static void give_all_back(struct consumer *c)
{
	static const char why[] = "the worker ended";

	for (size_t i = 0; i < c->o->concurrency; i++) {
		const struct slot *s = &c->slots[i];

		if (s->item.position && s->state != ENDED &&
		    s->state != KILLED && !give_back(c, &s->item, why, 0))
			return;
	}
	for (size_t i = c->first; i < c->count && !c->printed; i++) {
		if (!give_back(c, &c->queue[i], why, 0))
			return;
	}
}

static int run(struct consumer *c)
{
	for (;;) {
		if (!c->leaving)
			tend(c);
		keep_leases(c);
		if (c->o->command)
			hand_out_to_commands(c);
		else
			hand_out_lines(c);
		take(c);
		if (may_go(c))
			break;
		wait_for_news(c);
	}
	if (is_pool(c))
		give_all_back(c);
	return c->code;
}

/* For --once; its connection may lead through a pooler. */
static int guard(const struct consumer_options *o, struct session *s)
{
	bool granted;

	if (!session_open(s))
		return session_told(s) ? EX_OK : EX_UNAVAILABLE;
	if (feed_claim(&o->feed, s, CLAIM_TRANSACTION, &granted) != ANSWER_OK) {
		log_message(LEVEL_ERROR, "no database: %s", session_message(s));
		return EX_UNAVAILABLE;
	}
	if (granted)
		return EX_OK;
	log_message(LEVEL_WARNING,
		    "another consumer has subscription %s; nothing was done",
		    o->feed.name);
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

	c->o = o;
	c->stop = stop;
	c->poll_pause = POLL_FIRST_MS;
	c->children = take_child_signals();
	c->work = session_new(o->conninfo, true, stop);
	if (!o->once && !o->poll_only)
		c->ear = ear_new(o->conninfo, stop);
	if (o->once && !is_pool(c)) {
		guardian = session_new(o->conninfo, true, stop);
		code = guard(o, guardian);
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
		item_free(&c->slots[i].item);
	if (c->children >= 0)
		close(c->children);
	ear_free(c->ear);
	session_free(c->work);
	session_free(guardian);
	free(c);
	return code;
}
