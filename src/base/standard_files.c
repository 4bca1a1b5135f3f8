/*
 * Owns the numbers 0, 1 and 2. If one is closed, the next file that is opened
 * gets its number, and what is meant for stderr is written into that file: a
 * connection to PostgreSQL, or an event in the spool. Must not know who reads
 * or writes.
 */
#include "base/standard_files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool standard_files_reserve(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		/* Neither read() nor write() works on such a descriptor. */
		if (open("/", O_PATH) < 0)
			return false;
	}
	return true;
}
