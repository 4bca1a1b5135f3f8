/*
 * Owns the form of a time in text. Knows nothing of events. matches() decides
 * on the characters, so that sscanf() reads digits alone; timegm() decides on
 * the calendar.
 */
#include "event/timestamp.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool matches_one(char c, char pattern)
{
	switch (pattern) {
	case 'd':
		return isdigit((unsigned char)c);
	case 'T':
		return c == 'T' || c == 't' || c == ' ';
	default:
		return c == pattern;
	}
}

/* In a pattern d stands for a digit, and T for T, t and a space. */
static bool matches(const char *text, const char *pattern)
{
	while (*pattern && matches_one(*text, *pattern)) {
		text++;
		pattern++;
	}
	return *pattern == '\0';
}

/* Sets the seconds since 1970 at which a day of the calendar begins. */
static bool start_of_day(int year, int month, int day, int64_t *seconds)
{
	struct tm t = { .tm_year = year - 1900,
			.tm_mon = month - 1,
			.tm_mday = day };

	*seconds = timegm(&t);
	/* timegm() makes 2 March of 30 February. */
	return year > 0 && t.tm_mon == month - 1 && t.tm_mday == day;
}

/* NOLINTBEGIN(cert-err34-c): only digits come here, at most four together. */

/* Reads the seconds and their fraction, if there are any; *p moves on. */
static bool parse_seconds(const char **p, int *seconds, int64_t *us)
{
	int64_t unit = 100000;

	*seconds = 0;
	*us = 0;
	if (!matches(*p, ":dd"))
		return **p != ':';
	if (sscanf(*p, ":%2d", seconds) != 1)
		return false;
	*p += 3;
	if (**p != '.' && **p != ',')
		return true;
	for ((*p)++; isdigit((unsigned char)**p); (*p)++, unit /= 10)
		*us += (**p - '0') * unit;
	return isdigit((unsigned char)(*p)[-1]);
}

/* Reads the rest of the text. */
static bool parse_zone(const char *p, int64_t *seconds)
{
	int hours = 0, minutes = 0;
	size_t length = strlen(p);

	*seconds = 0;
	if (length == 1 && (*p == 'Z' || *p == 'z'))
		return true;
	if (*p != '+' && *p != '-')
		return false;
	if (!(length == 6 && matches(p + 1, "dd:dd") &&
	      sscanf(p + 1, "%2d:%2d", &hours, &minutes) == 2) &&
	    !(length == 5 && matches(p + 1, "dddd") &&
	      sscanf(p + 1, "%2d%2d", &hours, &minutes) == 2) &&
	    !(length == 3 && matches(p + 1, "dd") &&
	      sscanf(p + 1, "%2d", &hours) == 1))
		return false;
	*seconds = (int64_t)hours * 3600 + (int64_t)minutes * 60;
	if (*p == '-')
		*seconds = -*seconds;
	return hours <= 23 && minutes <= 59;
}

/* Returns true if a clock can show this; 60 s is a leap second. */
static bool is_time_of_day(int hour, int minute, int second, int64_t fraction)
{
	if (hour == 24)
		return minute == 0 && second == 0 && fraction == 0;
	return hour <= 23 && minute <= 59 && second <= 60;
}

bool timestamp_parse(const char *text, int64_t *us)
{
	static const char form[] = "dddd-dd-ddTdd:dd";
	const char *p;
	int year, month, day, hour, minute, second;
	int64_t seconds, fraction, offset;

	if (!matches(text, form) || sscanf(text, "%4d-%2d-%2d%*c%2d:%2d", &year,
					   &month, &day, &hour, &minute) != 5)
		return false;
	p = text + sizeof(form) - 1;
	if (!parse_seconds(&p, &second, &fraction) || !parse_zone(p, &offset) ||
	    !is_time_of_day(hour, minute, second, fraction) ||
	    !start_of_day(year, month, day, &seconds))
		return false;
	seconds += hour * 3600 + minute * 60 + second - offset;
	*us = seconds * 1000000 + fraction;
	return true;
}

/* NOLINTEND(cert-err34-c) */
