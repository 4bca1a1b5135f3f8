/*
 * The state of the queue, and what its two sides share: queue.c owns it and has
 * the functions for requests, batch.c has those for the writer. Private to the
 * two.
 */
#ifndef QUEUE_STATE_H
#define QUEUE_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/breaker.h"
#include "store/waiting.h"

STAILQ_HEAD(entry_list, entry);

struct queue {
	pthread_mutex_t lock; /* guards what follows but the descriptors */
	struct waiting waiting; /* live entries, also those the writer has */
	struct entry_list live;
	struct entry_list spooled;
	size_t queued_count; /* in both */
	unsigned live_batches; /* in a row, while spooled entries waited */

	int writer_wakeup; /* eventfd */
	size_t wake_threshold; /* so many entries wake the writer; 0: none */
	bool writer_busy; /* a transaction is in flight */
	int overdue_wakeup; /* eventfd */
	int64_t next_check; /* queue_overdue() is called by then */
	bool no_new_entry; /* nothing was submitted since it was called */
	pthread_cond_t spooled_done;

	bool stopping;

	struct breaker breaker;
	bool probe_wanted; /* of the writer */
	bool probing; /* a thread makes a round trip of its own */
	pthread_cond_t probe_done;
	bool (*probe)(void *context, int64_t deadline); /* NULL: none */
	void *probe_context;
	void (*on_round_trip)(void *context, enum round_trip);
	void *round_trip_context;
};

void queue_entry_free(struct entry *e);
/* Tells whom queue_on_round_trip() named. Call without q->lock held. */
void queue_report_round_trip(const struct queue *q, enum round_trip result);
/*
 * Wakes the thread that polls queue_overdue_fd(), if an entry that came or
 * changed is due sooner than its next check. Call with q->lock held.
 */
void queue_wake_overdue_watcher(struct queue *q);

#endif
