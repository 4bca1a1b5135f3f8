/* Owns the choice of clocks, and the form of a time. Knows no deadline. */
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int64_t monotonic_ms(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
		abort();
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t boottime_ms(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_BOOTTIME, &t) < 0)
		abort();
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t wall_clock_us(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_REALTIME, &t) < 0)
		abort();
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void format_time(int64_t us, char text[TIME_TEXT_SIZE])
{
	/* Rounds down before 1970, too. */
	int64_t part = (us % 1000000 + 1000000) % 1000000;
	time_t seconds = (time_t)((us - part) / 1000000);
	struct tm utc;
	size_t n;

	if (!gmtime_r(&seconds, &utc))
		abort();
	n = (size_t)snprintf(text, TIME_TEXT_SIZE, "%04d", utc.tm_year + 1900);
	n += strftime(text + n, TIME_TEXT_SIZE - n, "-%m-%dT%H:%M:%S", &utc);
	snprintf(text + n, TIME_TEXT_SIZE - n, ".%03dZ", (int)(part / 1000));
}
