/* Who may read and write a file that holds a secret. */
#ifndef PRIVATE_FILE_H
#define PRIVATE_FILE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/macros.h"

/*
 * Whether a file that holds a secret is fit: not readable or writable by
 * others, not writable by the group. False: a line in errors with the
 * chmod that mends it. On tmpfs, under /run/secrets and in systemd's
 * credentials directory (NULL if none) that line goes to warnings instead,
 * and it passes.
 */
bool private_file_check(int fd, const char *path, const char *credentials_dir,
			struct buf *errors, struct buf *warnings) MUST_CHECK;
/* Whether fd, opened as path, is in one of those three places. */
bool private_file_in_protected_place(int fd, const char *path,
				     const char *credentials_dir) MUST_CHECK;

#endif
