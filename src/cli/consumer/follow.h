/* Prints events as they are recorded, without a subscription. */
#ifndef FOLLOW_H
#define FOLLOW_H

#include "base/macros.h"
#include "cli/query.h"

/* The events to print; NULL: all. */
struct follow {
	const char *task;
	const char *statuses; /* with commas between, as the next one */
	const char *secrets;
};

/*
 * Prints the events that are recorded after a snapshot, each once, until
 * q->stop is readable. q is connected to a primary; a lost connection is made
 * again. printer has printed the events before, and columns is the SQL of its
 * columns, of humcli.events e. Returns EX_OK, or the exit code of an error that
 * was reported.
 */
int follow_events(struct query *q, const struct follow *f, const char *snapshot,
		  struct rows_printer *printer, const char *columns) MUST_CHECK;

#endif
