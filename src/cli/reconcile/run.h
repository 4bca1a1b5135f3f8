/* One run of reconcile: look, wait, look again, record. */
#ifndef RUN_H
#define RUN_H

#include "base/macros.h"
#include "cli/query.h"
#include "cli/reconcile/api.h"
#include "config/secret_set.h"

#include <stdbool.h>
#include <stdint.h>

struct reconcile {
	struct query *query; /* connected */
	struct api *api;
	const struct secret_set *keys; /* at least one */
	const char *task; /* this one alone; NULL: all */
	int64_t wait; /* ms between the two looks */
	bool dry_run; /* record nothing */
};

/*
 * Runs once and prints each event that is missing. Returns EX_OK;
 * EXIT_NEGATIVE if a dry run found a missing event, or if no key may read the
 * task; else the exit code of a fault that was reported.
 */
int reconcile_run(const struct reconcile *r) MUST_CHECK;

#endif
