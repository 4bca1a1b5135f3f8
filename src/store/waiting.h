/*
 * The live entries of the queue, by the order in which they become overdue. For
 * the queue alone, which calls these functions with its lock held.
 */
#ifndef WAITING_H
#define WAITING_H

#include <sys/queue.h>

#include "store/batch.h"

/* A delivery between submit and outcome. Times are ms, monotonic. */
struct entry {
	TAILQ_ENTRY(entry) by_deadline; /* in struct waiting */
	TAILQ_ENTRY(entry) by_age; /* in struct waiting */
	STAILQ_ENTRY(entry) queued; /* in queue.live or .spooled */
	struct job job;
	outcome_fn on_outcome; /* NULL: queue_submit_and_wait() waits */
	void *context;
	int64_t submitted_at;
	int64_t deadline;
	bool is_queued;
	bool completed; /* the writer is done with it */
	bool abandoned; /* nobody waits any more; the writer frees it */
};

TAILQ_HEAD(waiting_list, entry);

struct waiting {
	struct waiting_list by_deadline; /* the earliest deadline first */
	struct waiting_list by_age; /* the oldest first */
	size_t count;
	size_t pressure_threshold; /* 0: no pressure */
	bool may_shorten; /* there is a spool: see waiting_first() */
	int64_t stop_deadline; /* INT64_MAX: not stopping */
	int64_t stop_requested_at; /* 0: not stopping */
};

void waiting_init(struct waiting *w, size_t pressure_threshold,
		  bool may_shorten);
void waiting_add(struct waiting *w, struct entry *e);
void waiting_remove(struct waiting *w, struct entry *e);
/* Makes the entry overdue now. */
void waiting_expire(struct waiting *w, struct entry *e);

/*
 * Returns the entry that is overdue first, and when, its effective deadline;
 * NULL if none waits. Under pressure (three quarters of what may be in flight
 * wait) and during the shutdown each may wait for 500 ms at most, because new
 * connections would fill the listen backlog meanwhile.
 */
struct entry *waiting_first(const struct waiting *w, int64_t *when) MUST_CHECK;

#endif
