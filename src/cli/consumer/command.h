/*
 * A command of the user's that is given one event: the signed payload on
 * stdin, the rest in its environment.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "base/macros.h"
#include "cli/consumer/event_source.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Starts the command, through sh, in a process group of its own, so that
 * Ctrl-C lets it finish. -1 with errno set.
 */
pid_t command_start(const char *command,
		    const struct claimed_event *i) MUST_CHECK;

enum command_status {
	COMMAND_RUNNING,
	COMMAND_DONE, /* exit code 0 */
	COMMAND_DEFERRED, /* 75, EX_TEMPFAIL */
	COMMAND_FAILED
};

/* Looks, without waiting; once it no longer runs, why says how it ended. */
enum command_status command_poll(pid_t pid, char *why, size_t size) MUST_CHECK;
/* The signal to it and to those it has started. */
void command_signal(pid_t pid, int number);

#endif
