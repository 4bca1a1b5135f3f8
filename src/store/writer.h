/*
 * The writer: one thread that takes deliveries from the queue, records them
 * in batches over one connection, and notifies the listeners after the
 * commit (doc/design.md, "Recording"). Requests never meet it.
 */
#ifndef WRITER_H
#define WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "config/settings.h"
#include "store/queue.h"

struct writer_options {
	/* Notify in the recording transaction, for one event a process. */
	bool notify_in_commit;
	/* Record empty batches while the breaker is open. */
	bool probe_while_open;
	/* Connect and record an empty batch at the start, so that the first
	 * event waits neither for that nor for PostgreSQL's plans. */
	bool warm_up;
};

struct writer;

/*
 * Starts the thread, which connects when there is something to do. The
 * queue and the settings must outlive it. Returns NULL if the thread can't be
 * started, with the reason in the log.
 */
struct writer *writer_start(const struct settings *s, struct queue *q,
			    const struct writer_options *options) MUST_CHECK;

/*
 * Sends the notifications that are due, until the deadline (ms, monotonic)
 * at the latest, and ends the thread. Returns false if the thread is stuck:
 * the process can then only be left by _exit().
 */
bool writer_stop(struct writer *w, int64_t deadline) MUST_CHECK;

#endif
