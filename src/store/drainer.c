#include "store/drainer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "event/signature.h"

enum {
	BATCH_FILES = 64, /* files read and recorded together, */
	BATCH_BYTES = 8 * 1024 * 1024, /* and about this much of them */
	POLL_INTERVAL_MS = 5000, /* for what another process left */
	RETRY_MS = 500, /* while the database takes nothing */
	BATCH_TIMEOUT_MS = 5000 /* then another process may have a try */
};

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

/* Records up to BATCH_FILES of them; returns how many names were used up. */
static size_t drain_batch(const struct drain_source *source,
			  const struct spool_item *items, size_t n,
			  int64_t until, struct drain_count *count)
{
	struct delivery *deliveries[BATCH_FILES];
	enum outcome outcomes[BATCH_FILES];
	const char *names[BATCH_FILES];
	size_t used, loaded = 0;
	uint64_t bytes = 0;
	int64_t limit = monotonic_ms() + BATCH_TIMEOUT_MS;

	for (used = 0; used < n && used < BATCH_FILES && bytes < BATCH_BYTES;
	     used++) {
		struct delivery *d = load_file(source, items[used].name, count);

		if (!d)
			continue;
		bytes += items[used].size;
		names[loaded] = items[used].name;
		deliveries[loaded++] = d;
	}
	count->database_unavailable = !queue_submit_and_wait(
		source->queue, deliveries, loaded,
		until && until < limit ? until : limit, outcomes);
	for (size_t i = 0; i < loaded; i++) {
		if (outcomes[i] == OUTCOME_UNAVAILABLE) {
			count->deferred++;
			continue;
		}
		spool_remove(source->spool, names[i]);
		count->recorded++;
	}
	return used;
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
	if (list.count < max)
		max = list.count;
	/* A task that is locked holds up no other. */
	for (size_t i = 0; i < max && !count->database_unavailable;) {
		if (until && monotonic_ms() >= until)
			break;
		i += drain_batch(source, list.items + i, max - i, until, count);
	}
	spool_list_free(&list);
	spool_unlock(lock);
	if (count->recorded || count->moved_to_failed)
		log_message(LEVEL_INFO,
			    "spool: %zu recorded, %zu set aside, %zu left for "
			    "later",
			    count->recorded, count->moved_to_failed,
			    count->deferred);
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

static void *drainer_main(void *context)
{
	struct drainer *d = context;

	while (!is_stopping(d)) {
		struct drain_count count = { 0 };
		bool done = drain(&d->source, SIZE_MAX, 0, &count) &&
			    !count.database_unavailable;

		if (is_stopping(d))
			break;
		spool_wait(d->source.spool,
			   monotonic_ms() +
				   (done ? POLL_INTERVAL_MS : RETRY_MS));
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
		log_message(LEVEL_ERROR, "the drainer can't start: %m");
		abort();
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
