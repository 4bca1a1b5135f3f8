/*
 * The state of the consumer's loop, and the functions of its parts. consumer.c
 * calls commands.c, which runs commands, and lines.c, which prints lines. Both
 * call claims.c, which reports claimed events to the database. Private to this
 * folder; one thread.
 */
#ifndef CONSUMER_STATE_H
#define CONSUMER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "cli/consumer/command.h"
#include "cli/consumer/consumer.h"
#include "cli/consumer/event_listener.h"

enum slot_state {
	IDLE,
	RUNNING,
	ENDED, /* the command has ended; the database does not know yet */
	PAUSED, /* the command failed and starts again at due */
	KILLED /* the lease is lost; the command was killed */
};

/* Room for one command. */
struct slot {
	enum slot_state state;
	struct claimed_event event;
	pid_t pid;
	bool reaped; /* the command has ended with wait_status */
	int wait_status;
	enum command_status status;
	char status_text[64];
	int64_t due; /* PAUSED: when to start it again, monotonic_ms() */
};

struct consumer {
	const struct consumer_options *options;
	int stop; /* readable: stop */
	int children; /* SIGCHLD, by signalfd() */
	struct session *session;
	struct event_listener *listener; /* NULL: only poll */
	enum listener_state listener_state;
	bool opened; /* the subscription exists */
	bool lock_held; /* the consumer lock */
	bool standby_logged;
	int64_t lock_retry_at;
	bool may_have_events;
	int64_t poll_due;
	int64_t poll_pause;
	/* Fetched and not yet delivered: from first up to count. */
	struct claimed_event queue[FETCH_MAX];
	size_t first, count;
	bool printed; /* the queue is printed, but not acknowledged */
	struct slot slots[FETCH_MAX]; /* as many as the concurrency */
	int once_exit_code; /* --once with a pool exits with this */
	uint64_t delivered; /* and acknowledged */
	bool stopping;
	bool commands_signalled; /* the commands were sent SIGTERM */
	int64_t stop_deadline;
	int exit_code;
};

/* consumer_state.c */

static inline bool consumer_is_pool(const struct consumer *c)
{
	return c->options->source.worker != NULL;
}

size_t consumer_count_slots(const struct consumer *c,
			    enum slot_state state) MUST_CHECK;
/* Returns how long poll() may wait for a time of monotonic_ms(), in ms. */
int consumer_poll_timeout(int64_t due) MUST_CHECK;
/* Starts the orderly stop; the first exit code counts. */
void consumer_begin_stop(struct consumer *c, int code);
/* Frees the claimed events of the queue. */
void consumer_drop_queue(struct consumer *c);
/*
 * Logs why a query of c->session failed and closes the session. Stops the
 * consumer if the failure is lasting, or with --once.
 */
void consumer_query_failed(struct consumer *c, enum query_status status);

/* claims.c */

/* Extends the leases that are due; kills the commands of those it lost. */
void claims_keep_leases(struct consumer *c);
/* Returns when claims_keep_leases() is due, monotonic_ms(). */
int64_t claims_next_due(const struct consumer *c) MUST_CHECK;
/*
 * Acknowledges an event, which stands for count events. False: that has to
 * wait for a connection.
 */
bool claim_acknowledge(struct consumer *c, const struct claimed_event *event,
		       size_t count) MUST_CHECK;
/*
 * Returns an event to its pool for another attempt in retry_ms (negative: as
 * the pool is set up). False: that has to wait for a connection.
 */
bool claim_return(struct consumer *c, const struct claimed_event *event,
		  const char *why, int64_t retry_ms) MUST_CHECK;
/* Returns all events that are not done, so that another worker gets them. */
void claims_return_all(struct consumer *c);

/* commands.c, lines.c */

/*
 * Reads how child processes ended: commands, and as process 1 of a container
 * also orphans, which would stay zombies.
 */
void consumer_reap_children(struct consumer *c);
/* Starts commands for the queue, and finishes those that have ended. */
void consumer_run_commands(struct consumer *c);
/* Signals the commands still running: SIGTERM, the second time SIGKILL. */
void consumer_signal_commands(struct consumer *c);
/* Prints the queue as lines on stdout, then acknowledges it. */
void consumer_print_lines(struct consumer *c);

#endif
