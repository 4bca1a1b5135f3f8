/*
 * A consumer of recorded events: delivers each one as a line of JSON or to a
 * command, and acknowledges it afterwards. After a crash an unacknowledged
 * event is delivered again. From a pool, several are delivered at a time,
 * each under a lease.
 */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "cli/consumer/event_source.h"

struct consumer_options {
	const char *conninfo;
	struct event_source source;
	const char *command; /* NULL: lines on stdout */
	size_t concurrency; /* events at a time, 1 to FETCH_MAX */
	bool once; /* stop when no event is left */
	bool poll_only; /* no LISTEN */
	uint64_t count; /* stop after so many events; 0: no limit */
	int64_t end; /* stop then, monotonic_ms() */
};

/* Runs until the descriptor stop is readable. Returns the exit code. */
int consume(const struct consumer_options *o, int stop) MUST_CHECK;

#endif
