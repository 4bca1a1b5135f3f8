/*
 * Puts and moves files of a spool, on the file systems that hosts have: some
 * have no hard links or no locks, or have a mount in the spool.
 */
#ifndef SPOOL_DISK_H
#define SPOOL_DISK_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/macros.h"
#include "store/spool_folders.h"

/*
 * Puts a file into new/, where it survives a crash. Returns true if it did;
 * false with errno set: EEXIST if the name is not free.
 */
bool spool_disk_put(struct spool_disk *d, const char *name,
		    const struct buf *text) MUST_CHECK;
/*
 * Moves a file to another folder, and syncs that. Returns true if it did;
 * false with errno set: EEXIST if the name is not free and not to be replaced.
 */
bool spool_disk_move(struct spool_disk *d, const char *from, const char *to,
		     const char *name, bool replace) MUST_CHECK;

/* Returns a descriptor that holds the lock, or -1 if another process has it. */
int spool_disk_lock(struct spool_disk *d) MUST_CHECK;

/* The step that a trial reached. */
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
