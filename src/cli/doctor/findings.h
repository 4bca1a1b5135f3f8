/*
 * What the doctor finds, printed as it is found: a line each, with what
 * helps in the line below; or one line of all, for monitoring.
 */
#ifndef FINDINGS_H
#define FINDINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"

enum severity { FINDING_OK, FINDING_WARNING, FINDING_FAILURE };

struct findings {
	bool nagios; /* one line at the end, as its plugins have it */
	size_t counts[FINDING_FAILURE + 1];
	struct buf faults; /* for that line */
};

/* remedy: one sentence; of no interest where all is fine. */
void report_finding(struct findings *f, enum severity severity,
		    const char *topic, const char *remedy, const char *format,
		    ...) PRINTF(5, 6);

/* Prints the sum; returns 0, 1 (warnings) or 2 (failures). */
int findings_end(struct findings *f) MUST_CHECK;

#endif
