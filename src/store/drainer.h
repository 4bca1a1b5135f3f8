/*
 * The way back out of the spool: verifies each file again, and records it
 * behind the live events. One process drains a spool at a time.
 */
#ifndef DRAINER_H
#define DRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "config/secrets.h"
#include "store/queue.h"
#include "store/spool.h"

/* Nothing else of ours is needed, so that the command line can drain. */
struct drain_source {
	struct spool *spool;
	struct secrets *secrets;
	struct queue *queue;
	bool ignore_pauses; /* also try what was refused a moment ago */
};

struct drain_count {
	size_t recorded; /* and removed, duplicates and quarantined too */
	size_t moved_to_failed;
	size_t deferred; /* the database did not take them */
	size_t refused; /* of these: it refuses them alone */
	size_t paused; /* refused before, their time has not come */
	int64_t retry_at; /* us since 1970, of the first of these; 0: none */
	bool database_unavailable; /* it takes none now: the rest was not tried */
};

/*
 * Drains at most max files, until monotonic_ms() is until (0: no limit). False
 * where another process is at it, or the spool can't be read.
 */
bool drain(const struct drain_source *source, size_t max, int64_t until,
	   struct drain_count *count) MUST_CHECK;

struct drainer;

/*
 * Starts a thread that drains whenever there is something. Returns NULL if it
 * can't be started, with the reason in the log.
 */
struct drainer *drainer_start(const struct drain_source *source) MUST_CHECK;
/*
 * After queue_set_stop_deadline(), so that it waits for no database. False: it
 * is not done by then, and the process can only be left by _exit().
 */
bool drainer_stop(struct drainer *d, int64_t deadline) MUST_CHECK;

#endif
