/*
 * A line of progress for long work: how much is done, of how much, how fast,
 * and how long the rest takes. Only a terminal at stderr gets it.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* what is counted, such as "tasks" */
	uint64_t total; /* 0: not known */
	int64_t start, shown_at; /* ms, monotonic */
	bool on; /* stderr is a terminal */
	bool shown; /* the line is there */
};

/* Returns true if progress would be seen, so that a total is worth a query. */
bool progress_is_seen(void) MUST_CHECK;
/* Begins the work; shows nothing yet, because short work needs no line. */
void progress_begin(struct progress *p, const char *what, uint64_t total);
/* Shows how much is done, at most some times a second. */
void progress_show(struct progress *p, uint64_t done);
/* Takes the line away: at the end, and before a message. */
void progress_clear(struct progress *p);

#endif
