/* The number and size of the spool's files, for metrics and report. */
#ifndef SPOOL_SUMS_H
#define SPOOL_SUMS_H

#include "base/macros.h"
#include "config/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spool_sums {
	struct spool_folder_sums {
		size_t files;
		uint64_t bytes;
		int64_t oldest; /* us since 1970; 0 without a file */
	} new, failed, refused;
};

/*
 * Counts as the spool's owner, because a folder that root made there would be
 * out of the responder's reach. Returns false if there is no spool, or if this
 * user can't look into it.
 */
bool cli_spool_sums(const struct settings *settings,
		    struct spool_sums *sums) MUST_CHECK;

#endif
