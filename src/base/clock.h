/* The two clocks, and the form in which times and durations are shown. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Returns the time in ms of CLOCK_MONOTONIC, which never steps. */
int64_t monotonic_ms(void);

/*
 * Returns milliseconds of a clock that also runs while the machine is
 * suspended (CLOCK_BOOTTIME).
 */
int64_t boottime_ms(void);

/* Returns the earlier of two times. */
int64_t min_i64(int64_t a, int64_t b);
/* Returns the later one. */
int64_t max_i64(int64_t a, int64_t b);

/* Returns the us since 1970-01-01T00:00:00Z (CLOCK_REALTIME). */
int64_t wall_clock_us(void);

/* Writes a time of wall_clock_us() as 2026-03-01T12:00:00.000Z. */
enum { TIME_TEXT_SIZE = 40 };
void format_time(int64_t us, char text[TIME_TEXT_SIZE]);

/*
 * Appends a duration in its largest unit (d, h, min, s, ms), and if exact in the
 * next smaller one, too. space stands between a number and its unit.
 */
void put_duration(struct buf *b, uint64_t ms, const char *space, bool exact);

#endif
