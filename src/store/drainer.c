/*
 * Owns the drainer's thread: when to drain. drain.c says how. The thread drains
 * when a file was put, and every 5 s for what other processes left; it sleeps
 * in spool_wait(). Must not know secrets or the database.
 */
#include "store/drainer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "store/drain_schedule.h"

struct drainer {
	struct drain_source source;
	struct drain_memory memory;
	pthread_t thread;
};

static void *drainer_main(void *context)
{
	struct drainer *d = context;
	int64_t earliest, latest;

	do {
		struct drain_count count = { 0 };
		bool done = drain(&d->source, SIZE_MAX, 0, &count) &&
			    !count.database_unavailable;

		drain_next(&count, done, monotonic_ms(), wall_clock_us(),
			   &earliest, &latest);
	} while (spool_wait(d->source.spool, earliest, latest));
	return NULL;
}

struct drainer *drainer_start(const struct drain_source *source)
{
	struct drainer *d = xcalloc(1, sizeof(*d));
	int error;

	d->source = *source;
	d->source.memory = &d->memory;
	error = pthread_create(&d->thread, NULL, drainer_main, d);
	if (error) {
		errno = error;
		log_message(LEVEL_ERROR,
			    "can't start the drainer's thread: %m; the spool "
			    "is not drained");
		free(d);
		return NULL;
	}
	return d;
}

bool drainer_stop(struct drainer *d, int64_t deadline)
{
	if (!d)
		return true;
	spool_stop_waiting(d->source.spool);
	/* A disk can hang, and there may be many damaged files. */
	if (!thread_join_until(d->thread, deadline))
		return false;
	drain_memory_free(&d->memory, d->source.secrets);
	free(d);
	return true;
}
