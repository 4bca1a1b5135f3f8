/*
 * Standard output: a terminal, a file, a pipe whose reader sleeps, or a
 * descriptor that does not block.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Makes stdio wait for a stdout that does not block. Call once, before
 * anything is printed. Returns false with errno set.
 */
bool output_open(void) MUST_CHECK;

/*
 * Waits until stdout has room, then writes as much as a pipe accepts without
 * waiting. Returns the number of bytes written; 0 if the deadline (ms,
 * monotonic) passed; -1 with errno set, EINTR if the descriptor stop is
 * readable.
 */
ssize_t output_write_some(const char *data, size_t length, int64_t deadline,
			  int stop) MUST_CHECK;

/*
 * Writes all bytes as output_write_some() does. Returns true; false with errno
 * set: EINTR if the descriptor stop is readable, ETIME at the deadline.
 */
bool output_write_all(const char *data, size_t length, int64_t deadline,
		      int stop) MUST_CHECK;

/*
 * Returns true if stdout is a terminal that shows colours, and the user did not
 * switch them off by NO_COLOR.
 */
bool output_has_colours(void) MUST_CHECK;
#define OUTPUT_RED "\x1b[31m"
#define OUTPUT_PLAIN "\x1b[0m"

#endif
