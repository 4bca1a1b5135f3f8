/*
 * The folders of a spool: made, checked, opened and synced.
 */
#ifndef SPOOL_FOLDERS_H
#define SPOOL_FOLDERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "base/macros.h"

/* The spool on disk, for spool_folders.c and spool_disk.c. */
struct spool_disk {
	char *path;
	atomic_uint serial; /* of names in tmp/ */
	atomic_bool own_mount; /* new/ is on another file system than tmp/ */
	atomic_bool no_links; /* the file system has none; files are renamed */
	atomic_bool sync_warned, lock_warned; /* each warning once */
	struct log_limit not_private;
	_Atomic uint64_t synced; /* the state of the folder that was synced */
};

enum spool_state {
	SPOOL_UNUSABLE, /* no folder, or not private */
	SPOOL_DRAINABLE, /* a folder can't be made, but new/ is there */
	SPOOL_READY
};

/*
 * Makes the folders that are missing (0700), also those above the spool, as far
 * as the rights of this user allow, and removes what dead writers left
 * in tmp/. Sets errno unless the result is SPOOL_READY. A spool that is not
 * private is logged.
 */
enum spool_state spool_folders_prepare(struct spool_disk *d) MUST_CHECK;

/* Opens a folder of the spool. Returns a descriptor; -1 with errno set. */
int spool_folders_open(const struct spool_disk *d,
		       const char *folder) MUST_CHECK;
/* Opens the spool's own folder. Returns as spool_folders_open(). */
int spool_folders_open_base(const struct spool_disk *d) MUST_CHECK;
/* Closes a descriptor, if it is one. errno stays. */
void close_keeping_errno(int fd);

/*
 * Syncs the folder `name` in the spool's folder, which is open as base. Returns
 * false with errno set.
 */
bool spool_folders_sync(struct spool_disk *d, int base,
			const char *name) MUST_CHECK;
/*
 * Syncs the spool's folder and its parent unless this process did, because a
 * process that made them may have died before it did. A parent that can't be
 * read is left to its file system. Returns false with errno set.
 */
bool spool_folders_sync_above(struct spool_disk *d, int base) MUST_CHECK;
/* Makes what is in new/ survive a crash. Returns false with errno set. */
bool spool_folders_sync_new(struct spool_disk *d) MUST_CHECK;

#endif
