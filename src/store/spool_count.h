/*
 * The number and size of the files in the spool's new/. They are counted as
 * files come and go, and corrected by a scan of the folder, because other
 * processes share it.
 */
#ifndef SPOOL_COUNT_H
#define SPOOL_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct spool_sum {
	uint64_t bytes; /* each file counts as 4 KiB at least */
	uint64_t files;
};

void spool_sum_add(struct spool_sum *sum, uint64_t size);

struct spool_count;

/*
 * scan counts the folder. It returns false if the folder can't be read; then
 * the sums stay. It is called without any lock.
 */
typedef bool spool_scan_fn(void *context, struct spool_sum *found);
struct spool_count *spool_count_new(spool_scan_fn *scan,
				    void *context) MUST_CHECK;
void spool_count_free(struct spool_count *c);

/* Reserves room for a file. Returns true if that is within max bytes. */
bool spool_count_reserve(struct spool_count *c, uint64_t size,
			 uint64_t max) MUST_CHECK;
/* Ends a reservation: the file is in the folder now (kept), or not. */
void spool_count_settle(struct spool_count *c, uint64_t size, bool kept);
/* Subtracts a file that is gone. */
void spool_count_remove(struct spool_count *c, uint64_t size);
/* Returns the sums; other processes count up to a fifth of a second late. */
struct spool_sum spool_count_sum(struct spool_count *c) MUST_CHECK;

/*
 * Begins a count by somebody who lists the folder anyway. Returns false if a
 * scan runs, and then do not end it.
 */
bool spool_count_begin(struct spool_count *c) MUST_CHECK;
/* Ends the count. found is NULL if the folder can't be read. */
void spool_count_end(struct spool_count *c, const struct spool_sum *found);

#endif
