/*
 * Owns how the report runs doctor: this program again, in a process of its own,
 * because doctor becomes other users and waits for things. It checks the set-up
 * alone; what the events tell is on the page anyway, and takes doctor long
 * where there are many.
 */
#include "cli/report/checks.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHECKS_MS = 20000, CHECKS_BYTES = 1024 * 1024 };

static void run_doctor(int output)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
	    dup2(null, STDERR_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0)
		execl("/proc/self/exe", "humcli-webhook", "doctor", "--json",
		      "--no-events", (char *)NULL);
	_exit(EXIT_FAILURE);
}

void checks_start(struct checks *c)
{
	int ends[2];

	*c = (struct checks){ .child = -1, .output = -1 };
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	c->child = fork();
	if (c->child == 0)
		run_doctor(ends[1]);
	close(ends[1]);
	if (c->child < 0)
		close(ends[0]);
	else
		c->output = ends[0];
}

/*
 * Reads until the end or the deadline (ms, monotonic). Returns true at the end,
 * which is doctor's, too.
 */
static bool read_output(int fd, struct buf *text, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char part[4096];

	while (text->length < CHECKS_BYTES) {
		int64_t left = deadline - monotonic_ms();
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		ssize_t bytes;

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		if (n < 0)
			continue;
		bytes = read(fd, part, sizeof(part));
		if (bytes == 0)
			return true;
		if (bytes < 0 && errno != EINTR)
			return false;
		if (bytes > 0)
			buf_add(text, part, (size_t)bytes);
	}
	return false;
}

static void add_line(struct checks *c, const char *line)
{
	struct finding_fields fields;

	if (!json_finding_read(line, &fields))
		return;
	c->list = array_grow(c->list, c->count, sizeof(*c->list));
	c->list[c->count++] = fields;
}

void checks_finish(struct checks *c)
{
	struct buf text = { 0 };
	size_t at = 0, length;
	const char *line;
	bool ended;

	if (c->output < 0)
		return;
	ended = read_output(c->output, &text, monotonic_ms() + CHECKS_MS);
	close(c->output);
	c->output = -1;
	/*
	 * A doctor that hangs is ended, and what it printed is kept. Who was root
	 * and is postgres now may not end it, and leaves it alone.
	 */
	if (ended || kill(c->child, SIGTERM) == 0) {
		while (waitpid(c->child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	while (text.data && (line = buf_next_line(&text, &at, &length))) {
		char *copy = xstrndup(line, length);

		add_line(c, copy);
		free(copy);
	}
	buf_free(&text);
}

void checks_free(struct checks *c)
{
	for (size_t i = 0; i < c->count; i++)
		json_finding_free(&c->list[i]);
	free(c->list);
	*c = (struct checks){ .child = -1, .output = -1 };
}

size_t checks_count(const struct checks *c, const char *severity)
{
	size_t count = 0;

	for (size_t i = 0; i < c->count; i++)
		count += strcmp(c->list[i].severity, severity) == 0;
	return count;
}
