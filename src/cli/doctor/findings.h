/*
 * The doctor's findings. Each is printed as soon as it is known, as a line with
 * its fix below or as a line of JSON. For monitoring, one line has all of them.
 */
#ifndef FINDINGS_H
#define FINDINGS_H

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>

/* The numbers are those that the queries of the database checks return. */
enum severity {
	FINDING_OK,
	FINDING_WARNING,
	FINDING_FAILURE,
	FINDING_SKIPPED, /* not checked */
	SEVERITY_COUNT
};

enum findings_format {
	FINDINGS_TEXT,
	FINDINGS_NAGIOS, /* one line at the end, as its plugins have it */
	FINDINGS_JSON /* a line each */
};

struct findings {
	enum findings_format format;
	/* Root started the doctor: "run it as root" is no fix then. */
	bool by_root;
	/* What the recorded events tell is not checked. */
	bool no_events;
	/* Shared with the processes that check as other users. */
	struct findings_shared {
		size_t counts[SEVERITY_COUNT];
		size_t length; /* of faults */
		char faults[8192]; /* for FINDINGS_NAGIOS */
		/* Who can read the events in our place: a conninfo, or "". */
		char reader[1024];
	} * shared;
};

/* Starts an empty list. Returns false with errno set. */
bool findings_begin(struct findings *f, enum findings_format format) MUST_CHECK;

/*
 * Prints a finding. remedy is the fix, or for FINDING_SKIPPED how to have it
 * checked; it is not printed with FINDING_OK.
 */
void report_finding(struct findings *f, enum severity severity,
		    const char *topic, const char *remedy, const char *format,
		    ...) PRINTF(5, 6);

/* Prints the sum; returns 0, 1 (warnings) or 2 (failures). */
int findings_end(struct findings *f) MUST_CHECK;

#endif
