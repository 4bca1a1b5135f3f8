/*
 * Owns every write to stdout. Must not know what is written. stdio writes
 * through write_all_waiting(), because a stream drops the rest of its buffer on
 * EAGAIN. The listeners write by output_write_some(), because a reader that
 * sleeps must not keep them from ending.
 */
#include "cli/output.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes all bytes; waits for room if the descriptor does not block. */
static ssize_t write_all_waiting(void *context, const char *data, size_t size)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
	size_t done = 0;

	(void)context;
	while (done < size) {
		ssize_t n = write(STDOUT_FILENO, data + done, size - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN)
			(void)poll(&p, 1, -1);
		else if (errno != EINTR)
			return 0;
	}
	return (ssize_t)size;
}

bool output_open(void)
{
	cookie_io_functions_t functions = { .write = write_all_waiting };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (!stream)
		return false;
	stdout = stream;
	return !isatty(STDOUT_FILENO) ||
	       setvbuf(stream, NULL, _IOLBF, BUFSIZ) == 0;
}

ssize_t output_write_some(const char *data, size_t length, int64_t deadline,
			  int stop)
{
	struct pollfd fds[2] = { { .fd = STDOUT_FILENO, .events = POLLOUT },
				 { .fd = stop, .events = POLLIN } };
	size_t part = length < PIPE_BUF ? length : PIPE_BUF;
	int64_t left = max_i64(deadline - monotonic_ms(), 0);
	ssize_t n = poll(fds, 2, (int)min_i64(left, INT_MAX));

	if (n > 0 && fds[1].revents) {
		errno = EINTR;
		return -1;
	}
	if (n > 0)
		n = write(STDOUT_FILENO, data, part);
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

bool output_write_all(const char *data, size_t length, int64_t deadline,
		      int stop)
{
	while (length) {
		ssize_t n = output_write_some(data, length, deadline, stop);

		if (n < 0)
			return false;
		if (n == 0 && monotonic_ms() >= deadline) {
			errno = ETIME;
			return false;
		}
		data += n;
		length -= (size_t)n;
	}
	return true;
}

bool output_has_colours(void)
{
	const char *off = getenv("NO_COLOR"), *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(off && *off) && terminal &&
	       *terminal && strcmp(terminal, "dumb") != 0;
}
