/*
 * Starts and signals one command, and says how it ended. Knows nothing of
 * retries and leases. The payload is in a memfd rather than a pipe, because a
 * command that never reads its stdin must not block the consumer.
 */
#include "cli/consumer/command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"

extern char **environ;

static void put_variable(struct buf *list, const char *name, const char *value)
{
	char *text = xasprintf("HUMCLI_%s=%s", name, value ? value : "");

	buf_add(list, &text, sizeof(text));
}

/* Returns true for a variable that the event sets. */
static bool is_ours(const char *variable)
{
	static const char *const names[] = {
		"HUMCLI_ID=",	       "HUMCLI_EVENT=",
		"HUMCLI_TASK_ID=",     "HUMCLI_STATUS=",
		"HUMCLI_ATTEMPT=",     "HUMCLI_PREVIOUS_STATUS=",
		"HUMCLI_OCCURRED_AT=", "HUMCLI_SECRET_NAME=",
		"HUMCLI_SIGNATURE="
	};

	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		if (strncmp(variable, names[n], strlen(names[n])) == 0)
			return true;
	}
	return false;
}

/* Fills list with char *, NULL at the end. The caller frees the first *own. */
static void make_environment(const struct claimed_event *e, struct buf *list,
			     size_t *own)
{
	char *const end = NULL;
	char attempt[24];

	snprintf(attempt, sizeof(attempt), "%llu",
		 (unsigned long long)e->attempt);
	put_variable(list, "ID", e->event.id);
	put_variable(list, "EVENT", e->event.event);
	put_variable(list, "TASK_ID", e->event.task_id);
	put_variable(list, "STATUS", e->event.status);
	put_variable(list, "PREVIOUS_STATUS", e->event.previous_status);
	put_variable(list, "OCCURRED_AT", e->event.occurred_at);
	put_variable(list, "SECRET_NAME", e->event.secret_name);
	put_variable(list, "SIGNATURE", e->event.signature);
	put_variable(list, "ATTEMPT", attempt);
	*own = list->length / sizeof(char *);
	for (char **p = environ; *p; p++) {
		if (!is_ours(*p))
			buf_add(list, p, sizeof(*p));
	}
	buf_add(list, &end, sizeof(end));
}

/* Returns a memfd that holds the payload; -1 with errno set. */
static int payload_file(const char *payload)
{
	int fd = memfd_create("payload", MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	if (!write_all(fd, payload, strlen(payload)) ||
	    lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * Gives each signal its default action, because execve() would hand down that
 * a signal is ignored. Fails only for signals that can't be changed.
 */
static void reset_signals(void)
{
	const struct sigaction usual = { .sa_handler = SIG_DFL };

	for (int number = 1; number <= SIGRTMAX; number++)
		(void)sigaction(number, &usual, NULL);
}

/* Runs in the child after fork(): nothing here may allocate. */
static void exec_command(const char *command, int payload, char **environment)
{
	static char shell[] = "sh", option[] = "-c";
	char *const argv[] = { shell, option, (char *)command, NULL };
	sigset_t none;

	reset_signals();
	sigemptyset(&none);
	if (setpgid(0, 0) == 0 && dup2(payload, STDIN_FILENO) == 0 &&
	    sigprocmask(SIG_SETMASK, &none, NULL) == 0)
		execve("/bin/sh", argv, environment);
	_exit(EX_OSERR);
}

pid_t command_start(const char *command, const struct claimed_event *e)
{
	struct buf list = { 0 };
	char **environment;
	size_t own;
	pid_t pid = -1;
	int payload = payload_file(e->event.payload);

	make_environment(e, &list, &own);
	environment = (char **)(void *)list.data;
	if (payload >= 0) {
		pid = fork();
		if (pid == 0)
			exec_command(command, payload, environment);
	}
	/* Also here: command_signal() may come before the child has run. */
	if (pid > 0)
		(void)setpgid(pid, pid);
	for (size_t n = 0; n < own; n++)
		free(environment[n]);
	buf_free(&list);
	if (payload >= 0)
		close(payload);
	return pid;
}

enum command_status command_result(int wait_status, char *why, size_t size)
{
	if (WIFSIGNALED(wait_status)) {
		snprintf(why, size, "signal %d", WTERMSIG(wait_status));
		return COMMAND_FAILED;
	}
	snprintf(why, size, "exit code %d", WEXITSTATUS(wait_status));
	switch (WEXITSTATUS(wait_status)) {
	case EX_OK:
		return COMMAND_DONE;
	case EX_TEMPFAIL:
		return COMMAND_DEFERRED;
	default:
		return COMMAND_FAILED;
	}
}

void command_signal(pid_t pid, int number)
{
	/* Fails only if all of the group have ended. */
	(void)kill(-pid, number);
}
