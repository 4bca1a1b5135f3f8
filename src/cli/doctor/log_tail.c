/*
 * Checks the last lines of the receiver's log, where that is a file. Knows the
 * field http= of a line and nothing else.
 */
#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LOG_TAIL = 64 << 10,
	STREAK = 10 /* answers of 401 in a row */
};

/* Returns false with errno set. */
static bool read_tail(const char *path, struct buf *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	bool ok;

	if (end > LOG_TAIL)
		(void)lseek(fd, end - LOG_TAIL, SEEK_SET);
	else if (end >= 0)
		(void)lseek(fd, 0, SEEK_SET);
	/* More than LOG_TAIL, because the log can grow meanwhile. */
	ok = end >= 0 && read_all(fd, LOG_TAIL + (1 << 20), text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Returns how many answers of 401 there are since the last 200. */
static size_t count_streak(const struct buf *text)
{
	size_t streak = 0, at = 0, length;
	char *line;

	while ((line = buf_next_line(text, &at, &length))) {
		if (memmem(line, length, " http=401 ", 10))
			streak++;
		else if (memmem(line, length, " http=200 ", 10))
			streak = 0;
	}
	return streak;
}

/* Reports a log that can't be read; error is its errno. */
static void report_unread(struct findings *f, const char *path, int error)
{
	char *copy = xstrdup(path), *folder = dirname(copy), *remedy;

	if (error != ENOENT) {
		remedy = doctor_read_remedy(path);
		report_finding(f, FINDING_WARNING, "log", remedy,
			       "can't read %s: %s", path, strerror(error));
		free(remedy);
	} else if (access(folder, W_OK | X_OK) == 0) {
		report_finding(f, FINDING_OK, "log", NULL,
			       "%s does not exist yet", path);
	} else {
		remedy = xasprintf("create %s and let the receiver's user "
				   "write to it; for the service of systemd "
				   "also: systemctl edit "
				   "humcli-webhook.service, with [Service] "
				   "ReadWritePaths=%s",
				   folder, folder);
		report_finding(f, FINDING_FAILURE, "log", remedy,
			       "can't create %s: %s", path, strerror(errno));
		free(remedy);
	}
	free(copy);
}

/* Returns how to read a log that is not a file. */
static const char *unread_remedy(const char *log)
{
	bool syslog = strcmp(log, "syslog") == 0;

	if (syslog && !cli_has_systemd())
		return "look for humcli-webhook.fcgi in the files of syslog";
	if (syslog)
		return "journalctl -t humcli-webhook.fcgi -p warning shows "
		       "its faults";
	if (!cli_has_systemd())
		return "/etc/init.d/humcli-webhook writes "
		       "/var/log/humcli-webhook.log; "
		       "HUMCLI_WEBHOOK_LOG=/PATH lets the doctor check it";
	return "journalctl -u humcli-webhook -p warning shows the faults of "
	       "the service; HUMCLI_WEBHOOK_LOG=/PATH lets the doctor check "
	       "it";
}

void doctor_log(struct findings *f, const struct settings *s)
{
	struct buf text = { 0 };
	size_t streak;

	if (*s->log != '/') {
		report_finding(f, FINDING_SKIPPED, "log", unread_remedy(s->log),
			       "the log goes to %s", s->log);
		return;
	}
	if (!read_tail(s->log, &text)) {
		report_unread(f, s->log, errno);
		buf_free(&text);
		return;
	}
	streak = count_streak(&text);
	report_finding(f, streak >= STREAK ? FINDING_WARNING : FINDING_OK,
		       "log",
		       "why= in the log has the reason: the callback_secret of "
		       "an open task is not in SECRET_DIR, or something "
		       "changes the body",
		       "%zu answer%s of 401 since the last 200", streak,
		       PLURAL_S(streak));
	buf_free(&text);
}
