/* Checks who can read and write a file that holds a secret. */
#ifndef PRIVATE_FILE_H
#define PRIVATE_FILE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/macros.h"

/*
 * Checks the mode of the open file fd: others must not read or write it, and
 * its group must not write it. Returns true if the file may be used; false if
 * not, with a line in errors that names the chmod which fixes it.
 * In a protected place the line goes to warnings instead, and the result is
 * true. credentials_dir is NULL if there is none.
 */
bool private_file_check(int fd, const char *path, const char *credentials_dir,
			struct buf *errors, struct buf *warnings) MUST_CHECK;
/*
 * Returns true if fd, opened as path, is in a place where an administrator or
 * an orchestrator decides the modes: on tmpfs, under /run/secrets or in
 * systemd's credentials directory; false otherwise.
 */
bool private_file_in_protected_place(int fd, const char *path,
				     const char *credentials_dir) MUST_CHECK;

#endif
