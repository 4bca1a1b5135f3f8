/* Replacing a file as a whole, so that no reader sees half of it. */
#ifndef REPLACE_FILE_H
#define REPLACE_FILE_H

#include "base/macros.h"
#include "cli/cli.h"

#include <sys/types.h>

/*
 * Calls print() in a child process, which may become another user, and replaces
 * path by what it prints on stdout. The new file has that mode. Returns the
 * exit code that print() returned, whatever it is; EX_CANTCREAT if the file
 * could not be replaced, which is reported. The old file stays then.
 */
int cli_replace_file(const struct verb *v, const char *path, mode_t mode,
		     int (*print)(const struct verb *v)) MUST_CHECK;

#endif
