/*
 * A pool of threads by the pattern Leader/Followers (Schmidt, Stal, Rohnert,
 * Buschmann: Pattern-Oriented Software Architecture, volume 2, 2000). One
 * worker, the leader, waits for work, and does the work itself, without a
 * context switch. Before it waits for anything else, it hands the lead on to a
 * follower.
 */
#ifndef WORKER_POOL_H
#define WORKER_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct exchange;

/* What the leader found: one of the first two. */
struct work_item {
	struct exchange *overdue; /* or NULL */
	int fd; /* an accepted connection, or -1 */
	bool leads; /* the worker that has it still leads */
};

struct worker_pool_calls {
	/*
	 * Waits for work. Called by the leader alone. Returns false when the
	 * workers are to end.
	 */
	bool (*find_work)(void *context, struct work_item *item);
	/*
	 * Called by the leader. Has to call worker_pool_hand_over() before it
	 * waits for anything but a lock.
	 */
	void (*do_work)(void *context, struct work_item *item);
};

struct worker_pool;

/* Starts no thread yet. calls must outlive the pool. */
struct worker_pool *worker_pool_new(unsigned max_threads,
				    const struct worker_pool_calls *calls,
				    void *context) MUST_CHECK;
/* Frees the pool, when all workers have been joined, or none was started. */
void worker_pool_free(struct worker_pool *p);

/* Starts the first worker. Returns false, with errno set, if it can't. */
bool worker_pool_start(struct worker_pool *p) MUST_CHECK;
/* Returns true if all workers ended by then (ms, monotonic). */
bool worker_pool_join(struct worker_pool *p, int64_t until) MUST_CHECK;

/* Hands the lead on to another worker, if the worker of this item still leads. */
void worker_pool_hand_over(struct worker_pool *p, struct work_item *item);

/* Makes a poll() for reading of worker_pool_leader_fd() return. */
void worker_pool_wake_leader(struct worker_pool *p);
/* Returns the eventfd that the leader polls, and clears by wakeup_clear(). */
int worker_pool_leader_fd(const struct worker_pool *p) MUST_CHECK;

/*
 * Returns true if the leader may take up a connection; false if it is the last
 * idle worker and some of the in_flight connections are not with a worker,
 * because the leader has to find them when they are overdue. Starts another
 * worker if that helps. After false the leader is woken when a worker becomes
 * idle.
 */
bool worker_pool_can_spare_leader(struct worker_pool *p,
				  unsigned in_flight) MUST_CHECK;
/* Logs that a thread could not be started, unless that is known. */
void worker_pool_log_limit(struct worker_pool *p);

#endif
