/* A file that appears whole and synced, or not at all. */
#ifndef NEW_FILE_H
#define NEW_FILE_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>
#include <sys/types.h>

/* Whose a new file is. */
struct new_file {
	mode_t mode; /* whatever the umask is */
	bool chown; /* give it to uid and gid; else it is this process's */
	uid_t uid;
	gid_t gid;
};

/*
 * Creates a file at once with its content; never replaces another. Returns
 * true; false with errno set, EEXIST if the name is taken.
 */
bool new_file_create(const char *path, const struct new_file *how,
		     const struct buf *text) MUST_CHECK;

/*
 * Syncs the folder of a path, so that a new name or a removal lasts. Returns
 * true, also if the file system can't; false with errno set.
 */
bool new_file_sync_parent(const char *path) MUST_CHECK;

#endif
