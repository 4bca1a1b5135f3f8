/* Clocks, and the form in which times are shown. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* Milliseconds of a clock that never steps (CLOCK_MONOTONIC). */
int64_t monotonic_ms(void);

/* Of two times. */
int64_t min_i64(int64_t a, int64_t b);
int64_t max_i64(int64_t a, int64_t b);

/* Microseconds since 1970-01-01T00:00:00Z (CLOCK_REALTIME). */
int64_t wall_clock_us(void);

/* ISO 8601, ms, Z: 2026-03-01T12:00:00.000Z */
enum { TIME_TEXT_SIZE = 40 };
void format_time(int64_t us, char text[TIME_TEXT_SIZE]);

#endif
