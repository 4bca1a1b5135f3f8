/*
 * A consumer of recorded events: hands out each one, as a line of JSON or to
 * a command, and acknowledges it after that, never before. What a crash
 * interrupts is handed out again. Of a pool, several at a time, each for as
 * long as its lease is kept.
 */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "cli/consumer/event_source.h"

struct consumer_options {
	const char *conninfo;
	struct event_source source;
	const char *command; /* NULL: lines on stdout */
	size_t concurrency; /* events at a time, 1 to FETCH_MAX; of a pool */
	bool once; /* until nothing is left */
	bool poll_only; /* no LISTEN */
};

/* Until told to stop, by the descriptor. Returns the exit code. */
int consume(const struct consumer_options *o, int stop) MUST_CHECK;

#endif
