#include "store/drainer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "event/signature.h"

enum {
	BATCH_FILES = 64, /* files read and recorded together, */
	BATCH_BYTES = 8 * 1024 * 1024, /* and about this much of them */
	POLL_INTERVAL_MS = 5000, /* for what another process left */
	MIN_INTERVAL_MS = 100,
	RETRY_MS = 500, /* while the database takes nothing */
	BATCH_TIMEOUT_MS = 5000, /* then another process may have a try */
	REFUSED_BATCHES_MAX = 3, /* in a row, then the database rests */
	PAUSE_DOUBLINGS_MAX = 8
};

/* us: the first pause of a refused file; each one is twice as long. */
static const int64_t first_pause = 1000000;

struct drainer {
	struct drain_source source;
	pthread_t thread;
	pthread_mutex_t lock;
	bool stopping;
};

/*
 * Whoever can write into the spool must not be able to forge, so what is
 * recorded was signed with a secret that is live now.
 */
static bool signature_is_live(struct secrets *secrets,
			      const struct spool_entry *e)
{
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	bool found;

	if (!hmac_from_hex(e->signature, given))
		return false;
	set = secrets_acquire(secrets);
	found = signature_find_secret(set->list, set->count, e->body, e->length,
				      given);
	secrets_release(secrets, set);
	return found;
}

static struct delivery *make_delivery(const struct spool_entry *e)
{
	struct delivery *d = delivery_new();

	snprintf(d->signature, sizeof(d->signature), "%s", e->signature);
	d->secret_name = xstrdup(e->secret_name);
	d->received_at = e->received_at;
	/* What is no event has its reason in it, and goes to the quarantine. */
	if (delivery_parse(d, xstrndup(e->body, e->length), e->length) !=
	    EVENT_OK)
		log_message(LEVEL_DEBUG, "spooled: %s", d->reason);
	return d;
}

/* NULL where it is not to be recorded: gone, damaged or forged. */
static struct delivery *load_file(const struct drain_source *source,
				  const char *name, struct drain_count *count)
{
	struct spool_file f;
	struct delivery *d = NULL;
	const char *why = NULL;

	switch (spool_read(source->spool, SPOOL_NEW, name, &f)) {
	case SPOOL_READ_OK:
		if (signature_is_live(source->secrets, &f.entry))
			d = make_delivery(&f.entry);
		else
			why = "signed with no live secret";
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
	spool_file_free(&f);
	if (why) {
		spool_move_to_failed(source->spool, name, why);
		count->moved_to_failed++;
	}
	return d;
}

/* Notes that a file was not recorded, why, and when to try it again. */
static void note_refusal(const struct drain_source *source, const char *name,
			 const char *reason)
{
	struct spool_refusal note = { 0 };
	unsigned doublings;

	if (spool_refusal_read(source->spool, name, &note))
		free(note.reason);
	doublings = note.attempts < PAUSE_DOUBLINGS_MAX ? note.attempts
							: PAUSE_DOUBLINGS_MAX;
	note.attempts++;
	note.retry_at = wall_clock_us() + (first_pause << doublings);
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
		struct delivery *d = load_file(source, items[used].name, count);

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
static bool record_batch(const struct drain_source *source,
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

/* Files that were never refused first, then by the time to try again. */
static int compare_turns(const void *a, const void *b)
{
	const struct spool_item *x = a, *y = b;
	int64_t first = x->retry_at ? x->retry_at : x->mtime;
	int64_t second = y->retry_at ? y->retry_at : y->mtime;

	if (!x->retry_at != !y->retry_at)
		return x->retry_at ? 1 : -1;
	if (first != second)
		return first < second ? -1 : 1;
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
	qsort(list->items, list->count, sizeof(list->items[0]), compare_turns);
}

/* Returns how many items, at the front of the list, are due. */
static size_t count_due(const struct drain_source *source,
			const struct spool_list *list)
{
	int64_t now = wall_clock_us();
	int64_t longest = first_pause << PAUSE_DOUBLINGS_MAX;
	size_t due = list->count;

	if (source->ignore_pauses)
		return due;
	/* A time too far ahead is of a clock that was wrong. */
	while (due && list->items[due - 1].retry_at > now &&
	       list->items[due - 1].retry_at <= now + longest)
		due--;
	return due;
}

/* Drains up to max items; nothing that one file meets holds up another. */
static void drain_list(const struct drain_source *source,
		       const struct spool_list *list, size_t max, int64_t until,
		       struct drain_count *count)
{
	size_t due = count_due(source, list), refused_batches = 0, i = 0;
	struct drain_batch b;

	while (i < due && i < max && !count->database_unavailable &&
	       !(until && monotonic_ms() >= until)) {
		size_t refused = count->refused;
		size_t end = due < max ? due : max;

		i += load_batch(source, list->items + i, end - i, &b, count);
		/* The site's fault may be over: try all that it refused. */
		if (record_batch(source, &b, until, count))
			due = list->count;
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

bool drain(const struct drain_source *source, size_t max, int64_t until,
	   struct drain_count *count)
{
	struct spool_list list = { 0 };
	int lock = spool_lock(source->spool);
	bool ok;

	*count = (struct drain_count){ 0 };
	if (lock < 0)
		return false;
	ok = spool_list(source->spool, SPOOL_NEW, &list);
	if (ok)
		read_notes(source->spool, &list);
	drain_list(source, &list, max, until, count);
	spool_list_free(&list);
	spool_unlock(lock);
	if (count->recorded || count->moved_to_failed)
		log_message(LEVEL_INFO,
			    "spool: %zu recorded, %zu moved to failed/, %zu "
			    "left for later",
			    count->recorded, count->moved_to_failed,
			    count->deferred + count->paused);
	return ok;
}

static bool is_stopping(struct drainer *d)
{
	bool yes;

	mutex_lock(&d->lock);
	yes = d->stopping;
	mutex_unlock(&d->lock);
	return yes;
}

/* Returns when to drain again (ms, monotonic). */
static int64_t next_drain(const struct drain_count *count, bool done)
{
	int64_t now = monotonic_ms();
	int64_t next = now + (done ? POLL_INTERVAL_MS : RETRY_MS);

	/* The first pause begins now, and ends before the next look. */
	if (count->refused)
		next = min_i64(next, now + first_pause / 1000);
	if (count->retry_at)
		next = min_i64(next, now + (count->retry_at - wall_clock_us()) /
						     1000);
	return max_i64(next, now + MIN_INTERVAL_MS);
}

static void *drainer_main(void *context)
{
	struct drainer *d = context;

	while (!is_stopping(d)) {
		struct drain_count count = { 0 };
		bool done = drain(&d->source, SIZE_MAX, 0, &count) &&
			    !count.database_unavailable;

		if (is_stopping(d))
			break;
		spool_wait(d->source.spool, next_drain(&count, done));
	}
	return NULL;
}

struct drainer *drainer_start(const struct drain_source *source)
{
	struct drainer *d = xcalloc(1, sizeof(*d));
	int error;

	d->source = *source;
	mutex_init(&d->lock);
	error = pthread_create(&d->thread, NULL, drainer_main, d);
	if (error) {
		errno = error;
		log_message(LEVEL_ERROR,
			    "can't start the drainer's thread: %m; the spool "
			    "is not drained");
		mutex_destroy(&d->lock);
		free(d);
		return NULL;
	}
	return d;
}

bool drainer_stop(struct drainer *d, int64_t deadline)
{
	if (!d)
		return true;
	mutex_lock(&d->lock);
	d->stopping = true;
	mutex_unlock(&d->lock);
	spool_wake(d->source.spool);
	/* A disk can hang, and damaged files can be many. */
	if (!thread_join_until(d->thread, deadline))
		return false;
	mutex_destroy(&d->lock);
	free(d);
	return true;
}
