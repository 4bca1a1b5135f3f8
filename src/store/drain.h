/*
 * One drain of the spool: verifies each file again, and records it behind the
 * live events. One process drains a spool at a time.
 */
#ifndef DRAIN_H
#define DRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "config/secrets.h"
#include "store/drain_memory.h"
#include "store/queue.h"
#include "store/spool.h"

/* All that a drain needs, also that of the command line. */
struct drain_source {
	struct spool *spool;
	struct secrets *secrets;
	struct queue *queue;
	bool ignore_pauses; /* also try files that were refused a moment ago */
	struct drain_memory *memory; /* of the drainer's thread; else NULL */
	/* Called after each batch, with the files tried of those due; or NULL. */
	void (*progress)(void *context, size_t done, size_t total);
	void *progress_context;
};

struct drain_count {
	size_t recorded; /* and removed, duplicates and quarantined too */
	size_t moved_to_failed;
	size_t deferred; /* stays for the next drain */
	size_t refused; /* of these: the database refuses them alone */
	size_t foreign; /* of these: no active secret matches */
	size_t paused; /* refused before, their time has not come */
	int64_t retry_at; /* us since 1970, of the first of these; 0: none */
	int64_t list_ms; /* the time that listing the files took */
	bool database_unavailable; /* now: the rest was not tried */
};

/*
 * Drains at most max files, until monotonic_ms() is until (0: no limit).
 * Returns false with errno set: EWOULDBLOCK if another process drains.
 */
bool drain(const struct drain_source *source, size_t max, int64_t until,
	   struct drain_count *count) MUST_CHECK;

#endif
