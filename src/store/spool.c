/*
 * Owns the state of the spool: whether it can be used, how much it holds, and
 * what waits for the drainer. spool_listing.c reads the folders, spool_file.c
 * knows the form of a file, spool_disk.c how a file survives a crash,
 * spool_count.c the sums. Must not know secrets, events or the database.
 *
 * Workers, the drainer and the command line call any function at any time. The
 * lock guards some flags. No file is read or written with it held, because a
 * slow disk would otherwise stop all requests.
 *
 * Folders can be removed or become unusable while the process runs. They are
 * made again by the next function that needs them.
 */
#include "store/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "store/spool_count.h"
#include "store/spool_disk.h"
#include "store/spool_listing.h"
#include "store/spool_note.h"

enum {
	CHARGE_MIN = 4096, /* what a small file counts */
	TRIAL_MS = 1000 /* for so long the result of a trial is used */
};

/* Kinds of failures, each with a rate-limited log. */
enum failure_kind { USE, FULL, WRITE, READ, NOTE, REMOVE, FAILURE_KINDS };

struct spool {
	struct spool_disk disk;
	uint64_t max_bytes;
	_Atomic(enum spool_state) state;
	struct log_limit failures[FAILURE_KINDS];
	struct spool_count *count; /* of new/ */
	pthread_mutex_t lock; /* over the rest */
	pthread_cond_t changed;
	bool file_came; /* since the last spool_wait() */
	bool stopping;
	int64_t tried_at; /* ms, monotonic: end of the last trial; 0: none */
	bool accepts; /* its result */
};

static void log_failure(struct spool *s, enum failure_kind kind,
			const char *what)
{
	log_limited(&s->failures[kind], LEVEL_ERROR, "spool %s: %s: %m",
		    s->disk.path, what);
}

/* Returns true if a folder that is lost can be the reason for errno. */
static bool is_lost(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ESTALE;
}

/* Counts new/, as a spool_scan_fn. */
static bool scan_new(void *context, struct spool_sum *found)
{
	const struct spool *s = context;

	return spool_listing_sum(&s->disk, SPOOL_NEW, found) || is_lost(errno);
}

/* Opening. */

/* Makes the folders that are missing. Returns false with errno set. */
static bool make_ready(struct spool *s)
{
	enum spool_state state = spool_folders_prepare(&s->disk);

	atomic_store(&s->state, state);
	if (state == SPOOL_READY)
		return true;
	log_limited(&s->failures[USE], LEVEL_WARNING,
		    "can't use spool %s: %m; events will be refused (503) "
		    "while the database is unavailable",
		    s->disk.path);
	return false;
}

struct spool *spool_open(const char *path, uint64_t max_bytes)
{
	struct spool *s;

	if (!*path)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->disk.path = xstrdup(path);
	s->max_bytes = max_bytes;
	mutex_init(&s->lock);
	cond_init(&s->changed);
	s->count = spool_count_new(scan_new, s);
	(void)make_ready(s);
	return s;
}

void spool_close(struct spool *s)
{
	if (!s)
		return;
	spool_count_free(s->count);
	cond_destroy(&s->changed);
	mutex_destroy(&s->lock);
	free(s->disk.path);
	free(s);
}

bool spool_is_usable(struct spool *s)
{
	return atomic_load(&s->state) != SPOOL_UNUSABLE;
}

bool spool_is_empty(struct spool *s)
{
	return spool_count_sum(s->count).files == 0;
}

bool spool_has_work(struct spool *s)
{
	return !spool_is_empty(s) ||
	       spool_listing_has_file(&s->disk, SPOOL_FAILED);
}

/* Waiting. */

bool spool_wait(struct spool *s, int64_t earliest, int64_t until)
{
	bool stopping;

	mutex_lock(&s->lock);
	while (!s->stopping) {
		int64_t now = monotonic_ms();

		if (now >= until || (s->file_came && now >= earliest))
			break;
		cond_wait(&s->changed, &s->lock,
			  s->file_came ? earliest : until);
	}
	s->file_came = false;
	stopping = s->stopping;
	mutex_unlock(&s->lock);
	return !stopping;
}

void spool_stop_waiting(struct spool *s)
{
	mutex_lock(&s->lock);
	s->stopping = true;
	cond_signal(&s->changed);
	mutex_unlock(&s->lock);
}

static void tell_drainer(struct spool *s)
{
	mutex_lock(&s->lock);
	s->file_came = true;
	cond_signal(&s->changed);
	mutex_unlock(&s->lock);
}

/* Putting. */

/*
 * Returns SPOOL_READ_OK if new/ has this event already; SPOOL_READ_DAMAGED if
 * it has something else of that name.
 */
static enum spool_read compare_existing(struct spool *s,
					const struct spool_entry *e)
{
	struct spool_file f;
	enum spool_read got = spool_read(s, SPOOL_NEW, e->signature, &f);

	if (got == SPOOL_READ_OK &&
	    (f.entry.length != e->length ||
	     (e->length && memcmp(f.entry.body, e->body, e->length) != 0)))
		got = SPOOL_READ_DAMAGED;
	spool_file_free(&f);
	return got;
}

/* Returns true if new/ has this event. Moves a damaged file out of the way. */
static bool has_event(struct spool *s, const struct spool_entry *e)
{
	switch (compare_existing(s, e)) {
	case SPOOL_READ_OK:
		return true;
	case SPOOL_READ_DAMAGED:
		spool_move_to_failed(s, e->signature, "not what its name says");
		break;
	case SPOOL_READ_GONE:
	case SPOOL_READ_LATER:
		break;
	}
	return false;
}

/* Returns true if the event is in new/; false with errno set. */
static bool write_event(struct spool *s, const struct spool_entry *e,
			const struct buf *text)
{
	/* An existing file may not have been synced yet. */
	if (has_event(s, e))
		return spool_folders_sync_new(&s->disk);
	if (!spool_count_reserve(s->count, text->length, s->max_bytes)) {
		errno = ENOSPC;
		log_failure(s, FULL, "full (HUMCLI_WEBHOOK_SPOOL_MAX)");
		errno = ENOSPC;
		return false;
	}
	if (spool_disk_put(&s->disk, e->signature, text)) {
		spool_count_settle(s->count, text->length, true);
		return true;
	}
	spool_count_settle(s->count, text->length, false);
	/* Another thread or process was faster. */
	return errno == EEXIST && has_event(s, e) &&
	       spool_folders_sync_new(&s->disk);
}

bool spool_put(struct spool *s, const struct spool_entry *e)
{
	struct buf text = { 0 };
	bool ok;

	spool_file_render(e, &text);
	errno = ENOENT;
	ok = atomic_load(&s->state) == SPOOL_READY && write_event(s, e, &text);
	/* The folders may have been removed since. */
	if (!ok && is_lost(errno) && make_ready(s))
		ok = write_event(s, e, &text);
	if (ok)
		tell_drainer(s);
	else
		log_failure(s, WRITE, "can't write an event");
	buf_free(&text);
	return ok;
}

/* Returns true if a trial worked; false with the reason in the log. */
static bool try_to_write(struct spool *s)
{
	struct spool_trial trial = { 0 };

	if (spool_count_sum(s->count).bytes + CHARGE_MIN > s->max_bytes) {
		errno = ENOSPC;
		log_failure(s, FULL, "full (HUMCLI_WEBHOOK_SPOOL_MAX)");
		return false;
	}
	if (!make_ready(s))
		return false;
	if (spool_disk_try(&s->disk, &trial))
		return true;
	log_limited(&s->failures[USE], LEVEL_WARNING,
		    "can't use spool %s: can't %s: %s; events will be refused "
		    "(503) while the database is unavailable",
		    s->disk.path, trial.step, strerror(trial.error));
	return false;
}

bool spool_accepts(struct spool *s)
{
	bool accepts, known;

	mutex_lock(&s->lock);
	known = s->tried_at && monotonic_ms() - s->tried_at < TRIAL_MS;
	accepts = s->accepts;
	mutex_unlock(&s->lock);
	if (known)
		return accepts;
	accepts = try_to_write(s);
	mutex_lock(&s->lock);
	s->tried_at = monotonic_ms();
	s->accepts = accepts;
	mutex_unlock(&s->lock);
	return accepts;
}
/* Listing. */

/* Listing and reading. */

bool spool_list(struct spool *s, enum spool_folder folder,
		struct spool_list *list)
{
	bool counts = folder == SPOOL_NEW && spool_count_begin(s->count);
	bool ok = spool_listing_read(&s->disk, folder, list);
	struct spool_sum found = { 0 };

	if (!ok && is_lost(errno) && make_ready(s))
		ok = spool_listing_read(&s->disk, folder, list);
	for (size_t i = 0; i < list->count; i++)
		spool_sum_add(&found, list->items[i].size);
	if (counts) {
		int saved = errno;

		spool_count_end(s->count, ok ? &found : NULL);
		errno = saved;
	}
	return ok;
}

enum spool_read spool_read(struct spool *s, enum spool_folder folder,
			   const char *name, struct spool_file *file)
{
	enum spool_read got =
		spool_listing_read_file(&s->disk, folder, name, file);

	if (got == SPOOL_READ_LATER)
		log_failure(s, READ, "can't read a file");
	return got;
}

/* Notes of refusals. */

bool spool_refusal_read(struct spool *s, const char *name,
			struct spool_refusal *refusal)
{
	return spool_note_read(&s->disk, name, refusal);
}

void spool_refusal_write(struct spool *s, const char *name,
			 const struct spool_refusal *refusal)
{
	if (!spool_note_write(&s->disk, name, refusal))
		log_failure(s, NOTE, "can't note that an event was refused");
}

void spool_refusal_remove(struct spool *s, const char *name)
{
	if (!spool_note_remove(&s->disk, name))
		log_failure(s, NOTE, "can't remove the note of a refusal");
}

/* Moving. */

/* Subtracts a file of new/ from the sums if it goes. */
static void file_left(struct spool *s, bool known, const struct stat *st)
{
	if (known)
		spool_count_remove(s->count, (uint64_t)st->st_size);
}

void spool_remove(struct spool *s, const char *name)
{
	char *path = xasprintf("%s/new/%s", s->disk.path, name);
	struct stat st;
	bool known = lstat(path, &st) == 0;

	/* Not synced, because a file that comes back is a duplicate. */
	if (unlink(path) == 0)
		file_left(s, known, &st);
	else if (errno != ENOENT)
		log_failure(s, REMOVE, "can't remove a recorded event");
	free(path);
}

void spool_move_to_failed(struct spool *s, const char *name, const char *why)
{
	char *path = xasprintf("%s/new/%s", s->disk.path, name);
	struct stat st;
	bool known = lstat(path, &st) == 0;

	if (spool_disk_move(&s->disk, "new", "failed", name, true)) {
		file_left(s, known, &st);
		log_fields(LEVEL_ERROR, "msg", "spool file moved to failed/",
			   "file", name, "why", why, NULL);
	} else if (errno != ENOENT || known) {
		log_failure(s, REMOVE, "can't move a file to failed/");
	}
	free(path);
}

bool spool_retry(struct spool *s, const char *name)
{
	return spool_disk_move(&s->disk, "failed", "new", name, false);
}

int spool_lock(struct spool *s)
{
	if (!spool_is_usable(s))
		(void)make_ready(s);
	if (!spool_is_usable(s))
		return -1;
	return spool_disk_lock(&s->disk);
}

void spool_unlock(int lock)
{
	close(lock);
}
