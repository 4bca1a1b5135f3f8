#include "cli/doctor/doctor.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	LOG_TAIL = 64 << 10,
	STREAK = 10 /* refusals in a row */
};

static bool read_tail(const char *path, struct buf *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	bool ok;

	if (end > LOG_TAIL)
		(void)lseek(fd, end - LOG_TAIL, SEEK_SET);
	else if (end >= 0)
		(void)lseek(fd, 0, SEEK_SET);
	/* It can grow while we read. */
	ok = end >= 0 && read_all(fd, LOG_TAIL + (1 << 20), text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* How many of the last answers were 401, without another between. */
static size_t count_streak(char *text)
{
	size_t streak = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		if (strstr(line, " http=401 "))
			streak++;
		else if (strstr(line, " http=200 "))
			streak = 0;
	}
	return streak;
}

void doctor_log(struct findings *f, const struct settings *s)
{
	struct buf text = { 0 };
	size_t streak;

	if (*s->log != '/') {
		report_finding(f, FINDING_OK, "log", NULL,
			       "goes to %s, where it is not looked at", s->log);
		return;
	}
	if (!read_tail(s->log, &text)) {
		report_finding(f,
			       errno == ENOENT ? FINDING_OK : FINDING_WARNING,
			       "log", "run the doctor as the receiver's user",
			       "%s: %s", s->log, strerror(errno));
		buf_free(&text);
		return;
	}
	streak = text.length ? count_streak(text.data) : 0;
	report_finding(
		f, streak >= STREAK ? FINDING_WARNING : FINDING_OK, "log",
		"why= in the log says it; is each open task's callback_secret "
		"a file of SECRET_DIR, and does nothing change the body?",
		"%zu answers of 401 since the last 200", streak);
	buf_free(&text);
}
