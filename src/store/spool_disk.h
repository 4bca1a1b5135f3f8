/*
 * The folders of a spool, on the file systems that hosts have: some have no
 * hard links, no locks or no sync of a folder, or have a mount in the spool.
 */
#ifndef SPOOL_DISK_H
#define SPOOL_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/macros.h"

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
 * Makes the folders that are missing (0700), and removes what dead writers left
 * in tmp/. Sets errno unless the result is SPOOL_READY. A spool that is not
 * private is logged.
 */
enum spool_state spool_disk_prepare(struct spool_disk *d) MUST_CHECK;

/* Opens a folder of the spool. Returns a descriptor; -1 with errno set. */
int spool_disk_open(const struct spool_disk *d, const char *folder) MUST_CHECK;

/*
 * Puts a file into new/, where it survives a crash. Returns true if it did;
 * false with errno set: EEXIST if the name is not free.
 */
bool spool_disk_put(struct spool_disk *d, const char *name,
		    const struct buf *text) MUST_CHECK;
/* Makes what is in new/ survive a crash. Returns false with errno set. */
bool spool_disk_sync_new(struct spool_disk *d) MUST_CHECK;
/*
 * Moves a file to another folder, and syncs that. Returns true if it did;
 * false with errno set: EEXIST if the name is not free and not to be replaced.
 */
bool spool_disk_move(struct spool_disk *d, const char *from, const char *to,
		     const char *name, bool replace) MUST_CHECK;

/* Returns a descriptor that holds the lock, or -1 if another process has it. */
int spool_disk_lock(struct spool_disk *d) MUST_CHECK;

/* How far a trial came. */
struct spool_trial {
	const char *step; /* that failed: "write a file"; NULL: none */
	int error; /* errno of this step */
};

/*
 * Writes, syncs, links and removes a hidden file as spool_disk_put() does,
 * because permissions do not tell of quotas and full or read-only disks. Makes
 * no folder: if tmp/ or new/ is missing, the spool's own folder is tried.
 * Returns true if all worked; false with the step that failed.
 */
bool spool_disk_try(struct spool_disk *d, struct spool_trial *t) MUST_CHECK;

#endif
