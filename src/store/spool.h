/*
 * The spool: deliveries on disk that PostgreSQL can't record in time. A
 * Maildir (tmp/, new/, failed/) with one file an event, named by its signature.
 * Several processes share one. A process that can write there must not be able
 * to forge an event, so the drainer verifies each signature again.
 *
 * Any thread may call any function.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "store/spool_file.h"
#include "store/spool_listing.h"

struct spool;

/*
 * Makes the folders (0700) that are missing. Returns NULL if path is "". A
 * spool that can't be used is opened all the same, with a warning in the log:
 * each put tries again.
 */
struct spool *spool_open(const char *path, uint64_t max_bytes) MUST_CHECK;
void spool_close(struct spool *s);
/* Returns false if the spool could not be used when that was last tried. */
bool spool_is_usable(struct spool *s) MUST_CHECK;

/*
 * Keeps an entry. Returns true if it would survive a crash now, or did so
 * before; false if not (full, no space, no folder), with the reason in the log.
 */
bool spool_put(struct spool *s, const struct spool_entry *e) MUST_CHECK;

/*
 * Returns true if spool_put() would succeed now: there is room, and a file can
 * be written, synced and moved to new/. Tries at most once a second; a failure
 * is logged as for spool_put().
 */
bool spool_accepts(struct spool *s) MUST_CHECK;
/* Returns true if new/ is empty; may be wrong by what others did just now. */
bool spool_is_empty(struct spool *s) MUST_CHECK;
/*
 * Returns true if a drain may find something: new/ is not empty, or failed/ is
 * not, whose files an active secret may fit now.
 */
bool spool_has_work(struct spool *s) MUST_CHECK;
/*
 * Waits until `earliest`, and then until a file is put or the time `until` is
 * reached (ms, monotonic). Returns true; false after spool_stop_waiting().
 */
bool spool_wait(struct spool *s, int64_t earliest, int64_t until) MUST_CHECK;
/* Ends all waiting, now and later. */
void spool_stop_waiting(struct spool *s);

/* Returns false with errno set if the folder can't be read. */
bool spool_list(struct spool *s, enum spool_folder folder,
		struct spool_list *list) MUST_CHECK;
/* Reads a file. The caller frees it by spool_file_free(), whatever came. */
enum spool_read spool_read(struct spool *s, enum spool_folder folder,
			   const char *name,
			   struct spool_file *file) MUST_CHECK;

/* Returns false if there is no note, or none that can be read. */
bool spool_refusal_read(struct spool *s, const char *name,
			struct spool_refusal *refusal) MUST_CHECK;
/* Writes or removes a note; a failure is logged. */
void spool_refusal_write(struct spool *s, const char *name,
			 const struct spool_refusal *refusal);
void spool_refusal_remove(struct spool *s, const char *name);

/* Removes a file of new/ whose event is recorded. */
void spool_remove(struct spool *s, const char *name);
/* Moves a file that can't be recorded to failed/, and logs why. */
void spool_move_to_failed(struct spool *s, const char *name, const char *why);
/*
 * Moves a file from failed/ back to new/. Returns true if it did; false with
 * errno set: EEXIST if a file of that name waits there, which stays.
 */
bool spool_retry(struct spool *s, const char *name) MUST_CHECK;

/*
 * Takes the lock of the drainer, which ends with the process. Returns a
 * descriptor; -1 with errno EWOULDBLOCK if another process holds it, or another
 * errno if the spool can't be used. A file system without locks always gives
 * it, because two drainers only make duplicates.
 */
int spool_lock(struct spool *s) MUST_CHECK;
void spool_unlock(int lock);

#endif
