/*
 * The times of the drainer: the pauses of refused files, the wait for a secret,
 * and the next look at the folder. Pure functions.
 */
#ifndef DRAIN_SCHEDULE_H
#define DRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "store/drain.h"
#include "store/spool.h"

/* Returns how long to pause (us) after a refusal that had so many before. */
int64_t drain_pause(unsigned attempts) MUST_CHECK;
/*
 * Returns true if a file waited long enough for its secret. A time too far
 * ahead is of a clock that was wrong. Both are us since 1970.
 */
bool drain_is_expired(int64_t mtime, int64_t now) MUST_CHECK;

/*
 * Sorts files by turn: never refused ones by age, then the others by the time
 * to try again.
 */
void drain_order(struct spool_list *list);
/* Returns how many files, at the front of a sorted list, are due. */
size_t drain_count_due(const struct spool_list *list, int64_t now) MUST_CHECK;

/*
 * Sets when to drain again (ms, monotonic), at the earliest and at the latest;
 * in between as soon as a file is put. Not while the database takes nothing
 * (done is false), and rarely if listing takes long. now is ms, monotonic;
 * wall_now is us since 1970.
 */
void drain_next(const struct drain_count *count, bool done, int64_t now,
		int64_t wall_now, int64_t *earliest, int64_t *latest);

#endif
