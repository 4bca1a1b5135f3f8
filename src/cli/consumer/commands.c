/*
 * The user's commands, one event each: starts them, looks whether they have
 * ended, and reports the result. A command that fails is tried again: by the
 * pool, or here for a subscription, whose next events wait so that none is
 * skipped and each task keeps its order.
 */
#include "cli/consumer/consumer_state.h"

#include "base/clock.h"
#include "base/log.h"
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { RETRY_FIRST_MS = 1000, RETRY_LONGEST_MS = 60000 };

static void start_command(struct consumer *c, struct slot *s)
{
	s->pid = command_start(c->options->command, &s->event);
	if (s->pid < 0) {
		log_message(LEVEL_ERROR, "can't start a command: %s",
			    strerror(errno));
		consumer_begin_stop(c, EX_OSERR);
		return;
	}
	s->reaped = false;
	s->state = RUNNING;
}

/* Returns the pause before the next attempt, in ms. */
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
		    s->event.event.id, s->event.event.task_id,
		    s->event.event.status, (unsigned long long)s->event.attempt,
		    postponed ? "command deferred it" : "command failed",
		    s->status_text);
}

/* Keeps the event in its slot and starts its command again later. */
static void schedule_retry(struct consumer *c, struct slot *s)
{
	if (c->options->once)
		consumer_begin_stop(c, s->status == COMMAND_DEFERRED
					       ? EX_TEMPFAIL
					       : EXIT_NEGATIVE);
	s->state = PAUSED;
	s->due = monotonic_ms() + retry_delay(s->event.attempt);
	s->event.attempt++;
}

/* Tells the database; false: that has to wait for a connection. */
static bool report_slot(struct consumer *c, const struct slot *s)
{
	int64_t retry = -1;

	if (s->status == COMMAND_DONE)
		return claim_acknowledge(c, &s->event, 1);
	if (c->commands_signalled)
		retry = 0; /* the stop ended it, not its own fault */
	else if (s->status == COMMAND_DEFERRED)
		retry = retry_delay(s->event.attempt);
	return claim_return(c, &s->event, s->status_text, retry);
}

/* Handles the end of a command, if it has ended. */
static void finish_command(struct consumer *c, struct slot *s)
{
	enum command_status ending;

	if (!s->reaped)
		return;
	ending = command_result(s->wait_status, s->status_text,
				sizeof(s->status_text));
	if (s->state == KILLED) {
		claimed_event_free(&s->event);
		s->state = IDLE;
		return;
	}
	s->status = ending;
	s->state = ENDED;
	if (ending == COMMAND_DONE)
		return;
	log_failed(s);
	if (!consumer_is_pool(c))
		schedule_retry(c, s);
	else if (c->once_exit_code != EXIT_NEGATIVE)
		c->once_exit_code = ending == COMMAND_DEFERRED ? EX_TEMPFAIL
							       : EXIT_NEGATIVE;
}

static void advance_slot(struct consumer *c, struct slot *s)
{
	if (s->state == RUNNING || s->state == KILLED)
		finish_command(c, s);
	if (s->state == ENDED && report_slot(c, s)) {
		claimed_event_free(&s->event);
		s->state = IDLE;
		/* A pool may have held back the next event of the task. */
		c->may_have_events |= consumer_is_pool(c);
	}
	if (s->state == PAUSED && !c->stopping && monotonic_ms() >= s->due)
		start_command(c, s);
}

void consumer_reap_children(struct consumer *c)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		for (size_t i = 0; i < c->options->concurrency; i++) {
			struct slot *s = &c->slots[i];

			if ((s->state != RUNNING && s->state != KILLED) ||
			    s->pid != pid)
				continue;
			s->reaped = true;
			s->wait_status = wait_status;
		}
	}
}

void consumer_run_commands(struct consumer *c)
{
	for (size_t i = 0; i < c->options->concurrency; i++) {
		struct slot *s = &c->slots[i];

		advance_slot(c, s);
		if (s->state != IDLE || c->stopping || c->first == c->count)
			continue;
		s->event = c->queue[c->first++];
		start_command(c, s);
	}
}

static void signal_command(struct consumer *c, const struct slot *s)
{
	if (!c->commands_signalled)
		log_message(LEVEL_WARNING,
			    "event %s: command still running: sent SIGTERM; "
			    "the event will be delivered again",
			    s->event.event.id);
	command_signal(s->pid, c->commands_signalled ? SIGKILL : SIGTERM);
}

void consumer_signal_commands(struct consumer *c)
{
	for (size_t i = 0; i < c->options->concurrency; i++) {
		if (c->slots[i].state == RUNNING)
			signal_command(c, &c->slots[i]);
	}
}
