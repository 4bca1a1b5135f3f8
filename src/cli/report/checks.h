/* Doctor's findings, for the report. */
#ifndef REPORT_CHECKS_H
#define REPORT_CHECKS_H

#include "base/macros.h"
#include "cli/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct checks {
	pid_t child;
	int output; /* of the child; -1: there is none */
	struct finding_fields *list;
	size_t count;
};

/* Starts doctor, which then runs beside the caller. */
void checks_start(struct checks *c);
/* Waits for doctor's end, at most 20 s, and reads what it found. */
void checks_finish(struct checks *c);
void checks_free(struct checks *c);

/* Returns how many findings have that severity: "warning" or "failure". */
size_t checks_count(const struct checks *c, const char *severity) MUST_CHECK;

#endif
