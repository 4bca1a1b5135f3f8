/*
 * The spool: where deliveries wait while PostgreSQL can't take them. A
 * Maildir (tmp/, new/, failed/) of one file an event, named by its
 * signature; several processes share one. Whoever can write there must not
 * be able to forge: what comes out is to be verified again.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "store/spool_file.h"

struct spool;

/*
 * Makes the directories (0700) where they are missing. NULL where that
 * fails, with a warning in the log, or where path is "".
 */
struct spool *spool_open(const char *path, uint64_t max_bytes) MUST_CHECK;
void spool_close(struct spool *s);

/*
 * Keeps an entry: true once it would survive a crash, or did so before.
 * False (full, no space, no directory): the reason is in the log. Safe
 * from any thread.
 */
bool spool_put(struct spool *s, const struct spool_entry *e) MUST_CHECK;

/*
 * Returns true if spool_put() would succeed now: there is room, and a file can
 * be written, synced and moved to new/. Tries at most once a second; a failure
 * is logged as for spool_put(). Safe from any thread.
 */
bool spool_accepts(struct spool *s) MUST_CHECK;
/* Whether nothing waits; looks at the directory at most once a second. */
bool spool_is_empty(struct spool *s) MUST_CHECK;
/* Sleeps until something was put here, or until monotonic_ms() says so. */
void spool_wait(struct spool *s, int64_t until);
/* Wakes who sleeps there. */
void spool_wake(struct spool *s);

/*
 * In refused/ a note lies beside each file of new/ that the database refused
 * though its event is not at fault. The note's mtime is when to try again.
 */
enum spool_folder { SPOOL_NEW, SPOOL_FAILED, SPOOL_REFUSED };

/* What waits, oldest first. */
struct spool_list {
	struct spool_item {
		char *name;
		int64_t mtime; /* us since 1970 */
		uint64_t size; /* bytes */
		int64_t retry_at; /* for the drainer: us, 0 if not refused */
	} * items;
	size_t count;
};

bool spool_list(struct spool *s, enum spool_folder folder,
		struct spool_list *list) MUST_CHECK;
void spool_list_free(struct spool_list *list);

enum spool_read {
	SPOOL_READ_OK,
	SPOOL_READ_GONE, /* somebody else was faster */
	SPOOL_READ_LATER, /* no descriptor left, or a fault of the disk */
	SPOOL_READ_DAMAGED /* not a file of this form or version */
};

enum spool_read spool_read(struct spool *s, enum spool_folder folder,
			   const char *name,
			   struct spool_file *file) MUST_CHECK;

/* Returns false if there is no note, or none that can be read. */
bool spool_refusal_read(struct spool *s, const char *name,
			struct spool_refusal *refusal) MUST_CHECK;
/* Not synced: without a note the file is only tried again sooner. */
void spool_refusal_write(struct spool *s, const char *name,
			 const struct spool_refusal *refusal);
void spool_refusal_remove(struct spool *s, const char *name);

/* Its event is recorded. */
void spool_remove(struct spool *s, const char *name);
/* It can't be recorded: out of the way of those behind it. */
void spool_move_to_failed(struct spool *s, const char *name, const char *why);
/*
 * Back from failed/ to new/. False with errno set: EEXIST where one of that
 * name waits there, which is not to be replaced.
 */
bool spool_retry(struct spool *s, const char *name) MUST_CHECK;

/*
 * Takes the right to drain, which one process holds at a time; it ends
 * with the process. Returns a descriptor, or -1 where another holds it.
 */
int spool_lock(struct spool *s) MUST_CHECK;
void spool_unlock(int lock);

#endif
