/*
 * A process that runs the user's command for one event: the signed payload
 * on stdin, the fields in its environment.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "base/macros.h"
#include "cli/consumer/event_source.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Starts the command by sh, in a process group of its own, so that Ctrl-C
 * does not reach it. Returns its process id; -1 with errno set.
 */
pid_t command_start(const char *command,
		    const struct claimed_event *e) MUST_CHECK;

enum command_status {
	COMMAND_DONE, /* exit code 0 */
	COMMAND_DEFERRED, /* 75, EX_TEMPFAIL */
	COMMAND_FAILED
};

/* Returns what the status of waitpid() means; why says it in words. */
enum command_status command_result(int wait_status, char *why,
				   size_t size) MUST_CHECK;
/* Signals the process group: the command and its own children. */
void command_signal(pid_t pid, int number);

#endif
