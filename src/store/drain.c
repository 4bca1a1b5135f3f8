/*
 * Owns the order in which the spool's files are recorded, and what becomes of
 * each: recorded and removed, deferred, or moved to failed/. Must not know
 * the form of a file, nor the database: it submits deliveries to the queue.
 *
 * A drain takes the lock, brings back files of failed/ that an active secret
 * fits, lists new/ and records batches of files, oldest first. Files that were
 * refused before come last. No file holds up another.
 *
 * drain_schedule.c knows the pauses and the order; drain_memory.c the files
 * that no active secret fits. The drainer's thread calls drain(); CGI and the
 * command line call it in their main thread.
 */
#include "store/drain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "event/signature.h"
#include "store/drain_schedule.h"

enum {
	BATCH_FILES = 64, /* files read and recorded together, */
	BATCH_BYTES = 8 * 1024 * 1024, /* and about this much of them */
	RETRY_FAILED_MS = 1000, /* in one drain */
	BATCH_TIMEOUT_MS = 5000, /* then another process may have a try */
	REFUSED_BATCHES_MAX = 3 /* in a row, then the database rests */
};

/* Files that no active secret fits. */

/*
 * Returns true if the entry is signed with an active secret, because a process
 * that can write into the spool must not be able to forge an event.
 */
static bool signature_is_active(struct secrets *secrets,
				const struct spool_entry *e)
{
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	const struct secret *named;
	size_t count;
	bool found;

	if (!hmac_from_hex(e->signature, given))
		return false;
	set = secrets_acquire(secrets);
	/* Usually the secret that matched at first matches again. */
	named = secret_set_find(set, e->secret_name, &count);
	found = (named && signature_find_secret(named, count, e->body,
						e->length, given)) ||
		signature_find_secret(set->list, set->count, e->body, e->length,
				      given);
	secrets_release(secrets, set);
	return found;
}

/* Moves a file of failed/ back to new/ if an active secret fits. */
static bool bring_back(const struct drain_source *source, const char *name)
{
	struct spool_file f;
	bool fits = spool_read(source->spool, SPOOL_FAILED, name, &f) ==
			    SPOOL_READ_OK &&
		    signature_is_active(source->secrets, &f.entry);

	spool_file_free(&f);
	return fits && spool_retry(source->spool, name);
}

/*
 * Brings back files of failed/. With a memory for a second at most, because
 * thousands of files and secrets take long; the next drain goes on there.
 */
static void retry_failed(const struct drain_source *source, size_t max,
			 int64_t until)
{
	struct drain_memory *m = source->memory;
	int64_t limit = m	? monotonic_ms() + RETRY_FAILED_MS
			: until ? until
				: INT64_MAX;
	size_t first = m ? m->failed_tried : 0, i, back = 0;
	struct spool_list list;

	if (!spool_list(source->spool, SPOOL_FAILED, &list))
		return;
	for (i = first;
	     i < list.count && i - first < max && monotonic_ms() < limit; i++)
		back += bring_back(source, list.items[i].name);
	if (m) {
		m->failed_tried = i - back;
		m->failed_left = i < list.count;
	}
	spool_list_free(&list);
	if (back)
		log_message(
			LEVEL_INFO,
			"spool: %zu file%s of failed/ signed with an active "
			"secret now; draining",
			back, back == 1 ? " is" : "s are");
}

/* Drains. */

static struct delivery *make_delivery(const struct spool_entry *e)
{
	struct delivery *d = delivery_new();

	snprintf(d->signature, sizeof(d->signature), "%s", e->signature);
	d->secret_name = xstrdup(e->secret_name);
	d->received_at = e->received_at;
	/* The reason of an invalid body goes into the quarantine. */
	if (delivery_parse(d, xstrndup(e->body, e->length), e->length) !=
	    EVENT_OK)
		log_message(LEVEL_DEBUG, "spooled: %s", d->reason);
	return d;
}

/* Leaves a file to the process that has its secret, for an hour. */
static const char *defer_foreign(const struct spool_item *item,
				 struct drain_count *count)
{
	if (drain_is_expired(item->mtime, wall_clock_us()))
		return "signed with no active secret";
	count->deferred++;
	count->foreign++;
	return NULL;
}

/* Returns NULL if the file is not to be recorded now. The caller frees it. */
static struct delivery *load_file(const struct drain_source *source,
				  const struct spool_item *item,
				  struct drain_count *count)
{
	struct spool_file f = { 0 };
	struct delivery *d = NULL;
	const char *why = NULL;

	if (drain_memory_knows(source->memory, item->name)) {
		why = defer_foreign(item, count);
		goto out;
	}
	switch (spool_read(source->spool, SPOOL_NEW, item->name, &f)) {
	case SPOOL_READ_OK:
		if (signature_is_active(source->secrets, &f.entry)) {
			d = make_delivery(&f.entry);
			break;
		}
		why = defer_foreign(item, count);
		if (!why)
			drain_memory_add(source->memory, item->name);
		break;
	case SPOOL_READ_GONE:
		break;
	case SPOOL_READ_LATER:
		count->deferred++;
		break;
	case SPOOL_READ_DAMAGED:
		why = "damaged, or of another version";
		break;
	}
out:
	spool_file_free(&f);
	if (why) {
		spool_move_to_failed(source->spool, item->name, why);
		count->moved_to_failed++;
	}
	return d;
}

/* Notes that a file was not recorded, why, and when to try it again. */
static void note_refusal(const struct drain_source *source, const char *name,
			 const char *reason)
{
	struct spool_refusal note = { 0 };

	if (spool_refusal_read(source->spool, name, &note))
		free(note.reason);
	note.retry_at = wall_clock_us() + drain_pause(note.attempts);
	note.attempts++;
	note.reason = (char *)reason;
	spool_refusal_write(source->spool, name, &note);
}

/* Files that are recorded together. */
struct drain_batch {
	size_t count;
	const struct spool_item *items[BATCH_FILES];
	struct delivery *deliveries[BATCH_FILES];
	enum outcome outcomes[BATCH_FILES];
};

/*
 * Reads the next files of a list; returns how many items were used up. A file
 * with a note goes alone, because it may hold up the others.
 */
static size_t load_batch(const struct drain_source *source,
			 const struct spool_item *items, size_t n,
			 struct drain_batch *b, struct drain_count *count)
{
	uint64_t bytes = 0;
	size_t used;

	b->count = 0;
	for (used = 0; used < n && used < BATCH_FILES && bytes < BATCH_BYTES;
	     used++) {
		struct delivery *d = load_file(source, &items[used], count);

		if (!d)
			continue;
		bytes += items[used].size;
		b->items[b->count] = &items[used];
		b->deliveries[b->count++] = d;
		if (items[used].retry_at)
			return used + 1;
	}
	return used;
}

/* Returns true if a file was recorded that had been refused before. */
static bool apply_outcomes(const struct drain_source *source,
			   const struct drain_batch *b,
			   struct drain_count *count)
{
	bool accepted_again = false;

	for (size_t i = 0; i < b->count; i++) {
		const struct spool_item *item = b->items[i];

		if (b->outcomes[i] == OUTCOME_UNAVAILABLE) {
			count->deferred++;
		} else if (b->outcomes[i] == OUTCOME_UNANSWERED) {
			count->deferred++;
			note_refusal(source, item->name, "no answer in time");
		} else if (b->outcomes[i] == OUTCOME_REFUSED) {
			count->deferred++;
			count->refused++;
			note_refusal(source, item->name,
				     b->deliveries[i]->refusal);
		} else {
			count->recorded++;
			accepted_again = accepted_again || item->retry_at;
			spool_remove(source->spool, item->name);
			if (item->retry_at)
				spool_refusal_remove(source->spool, item->name);
		}
	}
	return accepted_again;
}

/* Returns true if a file was recorded that had been refused before. */
static bool record_files(const struct drain_source *source,
			 struct drain_batch *b, int64_t until,
			 struct drain_count *count)
{
	struct delivery *taken_over[BATCH_FILES];
	int64_t limit = monotonic_ms() + BATCH_TIMEOUT_MS;
	bool accepted_again;

	for (size_t i = 0; i < b->count; i++)
		taken_over[i] = delivery_ref(b->deliveries[i]);
	count->database_unavailable = !queue_submit_and_wait(
		source->queue, taken_over, b->count,
		until && until < limit ? until : limit, b->outcomes);
	accepted_again = apply_outcomes(source, b, count);
	for (size_t i = 0; i < b->count; i++)
		delivery_unref(b->deliveries[i]);
	return accepted_again;
}

static int compare_names(const void *a, const void *b)
{
	const struct spool_item *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Puts the times of the notes into the items, and removes stale notes. */
static void read_notes(struct spool *spool, struct spool_list *list)
{
	struct spool_list notes;

	if (!spool_list(spool, SPOOL_REFUSED, &notes) || !notes.count)
		return;
	qsort(notes.items, notes.count, sizeof(notes.items[0]), compare_names);
	for (size_t i = 0; i < list->count; i++) {
		struct spool_item *note =
			bsearch(&list->items[i], notes.items, notes.count,
				sizeof(notes.items[0]), compare_names);

		if (!note)
			continue;
		list->items[i].retry_at = max_i64(note->mtime, 1);
		note->retry_at = 1;
	}
	for (size_t i = 0; i < notes.count; i++) {
		if (!notes.items[i].retry_at)
			spool_refusal_remove(spool, notes.items[i].name);
	}
	spool_list_free(&notes);
	drain_order(list);
}

/* Drains up to max items; files that no secret fits do not count. */
static void drain_list(const struct drain_source *source,
		       const struct spool_list *list, size_t max, int64_t until,
		       struct drain_count *count)
{
	size_t due = source->ignore_pauses
			     ? list->count
			     : drain_count_due(list, wall_clock_us());
	size_t refused_batches = 0, i = 0;
	struct drain_batch b;

	while (i < due && i - count->foreign < max &&
	       !count->database_unavailable &&
	       !(until && monotonic_ms() >= until)) {
		size_t refused = count->refused;
		size_t rest = max - (i - count->foreign);
		size_t end = due - i < rest ? due : i + rest;

		i += load_batch(source, list->items + i, end - i, &b, count);
		/*
		 * The site's fault may be over, so all refused files are due.
		 */
		if (record_files(source, &b, until, count))
			due = list->count;
		if (source->progress)
			source->progress(source->progress_context, i, due);
		refused = count->refused - refused;
		refused_batches =
			b.count && refused == b.count ? refused_batches + 1 : 0;
		if (refused_batches == REFUSED_BATCHES_MAX)
			count->database_unavailable = true;
	}
	count->paused = list->count - due;
	if (count->paused && due == i)
		count->retry_at = list->items[due].retry_at;
}

static void log_drain(const struct drain_source *source,
		      const struct drain_count *count)
{
	/* Without a memory each drain would log it. */
	if (drain_memory_settle(source->memory))
		log_message(LEVEL_WARNING,
			    "spool: %zu file%s signed with no active secret; "
			    "moving to failed/ in an hour unless one is added",
			    count->foreign,
			    count->foreign == 1 ? " is" : "s are");
	if (count->recorded || count->moved_to_failed)
		log_message(LEVEL_INFO,
			    "spool: %zu recorded, %zu moved to failed/, %zu "
			    "left for later",
			    count->recorded, count->moved_to_failed,
			    count->deferred + count->paused);
}

bool drain(const struct drain_source *source, size_t max, int64_t until,
	   struct drain_count *count)
{
	struct spool_list list = { 0 };
	int64_t start = monotonic_ms();
	int lock = spool_lock(source->spool), error;
	bool ok;

	*count = (struct drain_count){ 0 };
	if (lock < 0)
		return false;
	if (drain_memory_renew(source->memory, source->secrets))
		retry_failed(source, max, until);
	ok = spool_list(source->spool, SPOOL_NEW, &list);
	error = errno;
	if (ok)
		read_notes(source->spool, &list);
	count->list_ms = monotonic_ms() - start;
	drain_list(source, &list, max, until, count);
	spool_list_free(&list);
	spool_unlock(lock);
	log_drain(source, count);
	errno = error;
	return ok;
}
