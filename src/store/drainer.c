#include "store/drainer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/threads.h"
#include "event/signature.h"

enum {
	TOGETHER = 64, /* files read and recorded together, */
	TOGETHER_BYTES = 8 * 1024 * 1024, /* and about this much of them */
	LOOK_MS = 5000, /* for what another process left */
	REST_MS = 500, /* while the database takes nothing */
	PATIENCE_MS = 5000 /* then another process may have a try */
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
static bool is_signed(struct secrets *secrets, const struct spool_entry *e)
{
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	bool found;

	if (!hmac_from_hex(e->signature, given))
		return false;
	set = secrets_acquire(secrets);
	found = verify_match(set->list, set->count, e->body, e->length, given);
	secrets_release(secrets, set);
	return found;
}

static struct delivery *deliver(const struct spool_entry *e)
{
	struct delivery *d = delivery_new();

	snprintf(d->signature, sizeof(d->signature), "%s", e->signature);
	d->secret_name = xstrdup(e->secret_name);
	d->received_at = e->received_at;
	/* What is no event has its reason in it, and goes to the quarantine. */
	if (delivery_parse(d, e->body, e->length) != EVENT_OK)
		log_message(LEVEL_DEBUG, "spooled: %s", d->reason);
	return d;
}

/* NULL where it is not to be recorded: gone, damaged or forged. */
static struct delivery *load(const struct drain_source *source,
			     const char *name, struct drain_count *count)
{
	struct spool_file f;
	struct delivery *d = NULL;
	const char *why = NULL;

	switch (spool_read(source->spool, SPOOL_NEW, name, &f)) {
	case SPOOL_READ_OK:
		if (is_signed(source->secrets, &f.entry))
			d = deliver(&f.entry);
		else
			why = "signed with no live secret";
		break;
	case SPOOL_READ_GONE:
		break;
	case SPOOL_READ_LATER:
		count->left++;
		break;
	case SPOOL_READ_DAMAGED:
		why = "damaged, or of another version";
		break;
	}
	spool_file_free(&f);
	if (why) {
		spool_fail(source->spool, name, why);
		count->failed++;
	}
	return d;
}

/* Records up to TOGETHER of them; returns how many names were used up. */
static size_t drain_some(const struct drain_source *source,
			 const struct spool_item *items, size_t n,
			 int64_t until, struct drain_count *count)
{
	struct delivery *deliveries[TOGETHER];
	enum outcome outcomes[TOGETHER];
	const char *names[TOGETHER];
	size_t used, loaded = 0;
	uint64_t bytes = 0;
	int64_t limit = clock_ms() + PATIENCE_MS;

	for (used = 0; used < n && used < TOGETHER && bytes < TOGETHER_BYTES;
	     used++) {
		struct delivery *d = load(source, items[used].name, count);

		if (!d)
			continue;
		bytes += items[used].size;
		names[loaded] = items[used].name;
		deliveries[loaded++] = d;
	}
	count->away = !recorder_drain(source->recorder, deliveries, loaded,
				      until && until < limit ? until : limit,
				      outcomes);
	for (size_t i = 0; i < loaded; i++) {
		if (outcomes[i] == OUTCOME_UNAVAILABLE) {
			count->left++;
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
	for (size_t i = 0; i < max && !count->away;) {
		if (until && clock_ms() >= until)
			break;
		i += drain_some(source, list.items + i, max - i, until, count);
	}
	spool_list_free(&list);
	spool_unlock(lock);
	if (count->recorded || count->failed)
		log_message(LEVEL_INFO,
			    "spool: %zu recorded, %zu set aside, %zu left for "
			    "later",
			    count->recorded, count->failed, count->left);
	return ok;
}

static bool stopping(struct drainer *d)
{
	bool yes;

	mutex_lock(&d->lock);
	yes = d->stopping;
	mutex_unlock(&d->lock);
	return yes;
}

static void *work(void *context)
{
	struct drainer *d = context;

	while (!stopping(d)) {
		struct drain_count count = { 0 };
		bool done = drain(&d->source, SIZE_MAX, 0, &count) &&
			    !count.away;

		if (stopping(d))
			break;
		spool_wait(d->source.spool,
			   clock_ms() + (done ? LOOK_MS : REST_MS));
	}
	return NULL;
}

struct drainer *drainer_start(const struct drain_source *source)
{
	struct drainer *d = xcalloc(1, sizeof(*d));
	int error;

	d->source = *source;
	mutex_init(&d->lock);
	error = pthread_create(&d->thread, NULL, work, d);
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
	if (!join_until(d->thread, deadline))
		return false;
	mutex_destroy(&d->lock);
	free(d);
	return true;
}
