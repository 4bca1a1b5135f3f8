#include "consumer.h"

#include "cli.h"
#include "ear.h"
#include "log.h"
#include "worker.h"

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
	GRACE_MS = 10000 /* for commands that run when we are to end */
};

/* Room for one command at work. */
struct slot {
	enum { IDLE, RUNNING, ENDED, PAUSED } state;
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
	struct slot slot;
	bool leaving;
	int64_t leave_due;
	int code;
};

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

static void open_feed(struct consumer *c)
{
	const struct feed *f = &c->o->feed;
	bool made;
	enum answer a = feed_open(f, c->work, &made);

	if (a != ANSWER_OK) {
		take_fault(c, a);
		return;
	}
	c->opened = true;
	if (made)
		log_message(LEVEL_INFO, "subscription %s was made: from %s on",
			    f->name,
			    f->from && *f->from == 'b' ? "the beginning"
						       : "now");
	else if (f->from || f->statuses)
		log_message(LEVEL_WARNING,
			    "subscription %s is there already: --from and "
			    "--status are not looked at",
			    f->name);
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
		tend_claim(c);
	}
}

/* Whether it is our turn. */
static bool may_take(const struct consumer *c)
{
	if (c->leaving || !c->opened || !session_is_open(c->work))
		return false;
	return !c->ear || c->hearing == EAR_OFF || c->claimed;
}

/* Lines. */

/*
 * Waits for room first, and then writes as much as a pipe takes without
 * waiting: a reader that sleeps must not keep us from ending.
 */
static bool write_out(const struct consumer *c, const char *data, size_t length)
{
	struct pollfd fds[2] = { { .fd = STDOUT_FILENO, .events = POLLOUT },
				 { .fd = c->stop, .events = POLLIN } };

	while (length) {
		size_t part = length < PIPE_BUF ? length : PIPE_BUF;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return false;
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

/* Acknowledges; false where that has to wait for a connection. */
static bool settle(struct consumer *c, const struct item *i)
{
	enum answer a;

	if (!session_is_open(c->work))
		return false;
	a = feed_done(&c->o->feed, c->work, i);
	if (a == ANSWER_REFUSED &&
	    strcmp(session_sqlstate(c->work), "40001") == 0) {
		log_message(LEVEL_WARNING,
			    "event %s was acknowledged by another consumer of "
			    "subscription %s",
			    i->event.id, c->o->feed.name);
		drop_queue(c);
	} else if (a != ANSWER_OK) {
		take_fault(c, a);
	}
	return a != ANSWER_LOST;
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
	if (c->printed && settle(c, &c->queue[c->count - 1]))
		drop_queue(c);
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

/*
 * The event stays the next one: those behind it wait, so that none is
 * skipped and each task keeps its order.
 */
static void put_off(struct consumer *c, struct slot *s)
{
	int64_t pause = retry_pause(s->item.attempt);
	bool later = s->ending == WORKER_LATER;

	log_message(later ? LEVEL_INFO : LEVEL_ERROR,
		    "event %s (task %s, %s), attempt %llu: %s: %s",
		    s->item.event.id, s->item.event.task_id,
		    s->item.event.status, (unsigned long long)s->item.attempt,
		    later ? "the command wants it later" : "the command failed",
		    s->why);
	if (c->o->once)
		leave(c, later ? EX_TEMPFAIL : EXIT_NEGATIVE);
	s->item.attempt++;
	s->state = PAUSED;
	s->due = clock_ms() + pause;
}

static void look_after(struct consumer *c, struct slot *s)
{
	if (s->state == RUNNING) {
		s->ending = worker_look(s->pid, s->why, sizeof(s->why));
		if (s->ending == WORKER_DONE)
			s->state = ENDED;
		else if (s->ending != WORKER_RUNS)
			put_off(c, s);
	}
	if (s->state == ENDED && settle(c, &s->item)) {
		item_free(&s->item);
		s->state = IDLE;
	}
	if (s->state == PAUSED && !c->leaving && clock_ms() >= s->due)
		start_command(c, s);
}

static void hand_out_to_command(struct consumer *c)
{
	struct slot *s = &c->slot;

	look_after(c, s);
	if (s->state != IDLE || c->leaving || c->first == c->count)
		return;
	s->item = c->queue[c->first++];
	start_command(c, s);
}

/* The loop. */

static void nothing_there(struct consumer *c)
{
	int64_t now = clock_ms();

	c->dirty = false;
	if (c->o->once)
		leave(c, EX_OK);
	if (c->hearing == EAR_HEARING) {
		c->poll_due = now + POLL_HEARING_MS + now_us() % POLL_SPREAD_MS;
		c->poll_pause = POLL_FIRST_MS;
		return;
	}
	c->poll_due = now + c->poll_pause;
	c->poll_pause = c->poll_pause < POLL_LONGEST_MS / 2 ? c->poll_pause * 2
							    : POLL_LONGEST_MS;
}

static void take(struct consumer *c)
{
	enum answer a;

	if (!may_take(c) || c->first < c->count || c->slot.state != IDLE ||
	    (!c->dirty && clock_ms() < c->poll_due))
		return;
	a = feed_take(&c->o->feed, c->work, c->queue, &c->count);
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

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When to go round again if nothing comes from outside. */
static int64_t next_due(const struct consumer *c)
{
	int64_t due = INT64_MAX;

	if (c->leaving)
		return c->leave_due;
	if (c->slot.state == PAUSED)
		due = c->slot.due;
	if (!session_is_open(c->work))
		return sooner(due, session_due(c->work));
	if (c->ear)
		due = sooner(due, ear_due(c->ear));
	if (c->hearing == EAR_HEARING && !c->claimed)
		due = sooner(due, c->claim_due);
	if (!may_take(c))
		return due;
	if (c->first < c->count)
		return c->slot.state == IDLE ? 0 : due;
	if (c->slot.state == IDLE)
		due = sooner(due, c->dirty ? 0 : c->poll_due);
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
	int64_t left = next_due(c) - clock_ms();
	struct signalfd_siginfo child;

	left = left < 0 ? 0 : sooner(left, POLL_HEARING_MS);
	if (poll(fds, ARRAY_SIZE(fds), (int)left) < 0)
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

static int run(struct consumer *c)
{
	for (;;) {
		if (!c->leaving)
			tend(c);
		if (c->o->command)
			hand_out_to_command(c);
		else
			hand_out_lines(c);
		take(c);
		if (c->leaving &&
		    (c->slot.state != RUNNING || clock_ms() >= c->leave_due))
			break;
		wait_for_news(c);
	}
	if (c->slot.state == RUNNING) {
		log_message(LEVEL_WARNING,
			    "event %s: the command still runs and is told to "
			    "end; the event comes again",
			    c->slot.item.event.id);
		worker_kill(c->slot.pid, SIGTERM);
	}
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
	if (o->once) {
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
	item_free(&c->slot.item);
	if (c->children >= 0)
		close(c->children);
	ear_free(c->ear);
	session_free(c->work);
	session_free(guardian);
	free(c);
	return code;
}
