/* Owns the choice of clocks, and the form of a time and a duration. Knows no deadline. */
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"

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

/* Puts a character and a number of two or three digits. Returns the end. */
static char *put_number(char *p, char before, int number, int digits)
{
	*p++ = before;
	for (int i = digits; i-- > 0; number /= 10)
		p[i] = (char)('0' + number % 10);
	return p + digits;
}

void format_time(int64_t us, char text[TIME_TEXT_SIZE])
{
	/* Rounds down before 1970, too. */
	int64_t part = (us % 1000000 + 1000000) % 1000000;
	time_t seconds = (time_t)((us - part) / 1000000);
	struct tm utc;
	char *p;

	if (!gmtime_r(&seconds, &utc))
		abort();
	p = text + snprintf(text, TIME_TEXT_SIZE, "%04d", utc.tm_year + 1900);
	p = put_number(p, '-', utc.tm_mon + 1, 2);
	p = put_number(p, '-', utc.tm_mday, 2);
	p = put_number(p, 'T', utc.tm_hour, 2);
	p = put_number(p, ':', utc.tm_min, 2);
	p = put_number(p, ':', utc.tm_sec, 2);
	p = put_number(p, '.', (int)(part / 1000), 3);
	memcpy(p, "Z", 2);
}

void put_duration(struct buf *b, uint64_t ms, const char *space, bool exact)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "d", 86400000 },
		      { "h", 3600000 },
		      { "min", 60000 },
		      { "s", 1000 },
		      { "ms", 1 } };
	size_t i = 0;

	while (i < ARRAY_SIZE(units) - 1 && ms < units[i].ms)
		i++;
	buf_printf(b, "%llu%s%s", (unsigned long long)(ms / units[i].ms), space,
		   units[i].name);
	ms %= units[i].ms;
	if (exact && i + 2 < ARRAY_SIZE(units) && ms >= units[i + 1].ms)
		buf_printf(b, " %llu%s%s",
			   (unsigned long long)(ms / units[i + 1].ms), space,
			   units[i + 1].name);
}
