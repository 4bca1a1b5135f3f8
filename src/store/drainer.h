/* The thread that drains the spool whenever there is something in it. */
#ifndef DRAINER_H
#define DRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "store/drain.h"

struct drainer;

/*
 * Starts a thread that drains whenever there is something. Returns NULL if it
 * can't be started, with the reason in the log.
 */
struct drainer *drainer_start(const struct drain_source *source) MUST_CHECK;
/*
 * Stops the thread. Call it after queue_set_stop_deadline(), so that the thread
 * waits for no database. Returns true if it ended before the deadline (ms,
 * monotonic); false if it runs, and then the process can only be left by
 * _exit().
 */
bool drainer_stop(struct drainer *d, int64_t deadline) MUST_CHECK;

#endif
