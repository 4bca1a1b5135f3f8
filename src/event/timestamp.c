/*
 * Owns the form of a time in text. Knows nothing of events. matches() decides
 * on the characters, so that sscanf() reads digits alone; timegm() decides on
 * the calendar.
 */
#include "event/timestamp.h"

#include <ctype.h>
#include <stdio.h>
#include <time.h>

/* In a pattern d stands for a digit, and T for T and t. */
static bool matches(const char *text, const char *pattern)
{
	for (; *pattern; pattern++, text++) {
		if (*pattern == 'd'   ? !isdigit((unsigned char)*text)
		    : *pattern == 'T' ? *text != 'T' && *text != 't'
				      : *text != *pattern)
			return false;
	}
	return true;
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

/* Reads what follows the seconds; *p moves on. */
static bool parse_fraction(const char **p, int64_t *us)
{
	int64_t unit = 100000;

	*us = 0;
	if (**p != '.')
		return true;
	for ((*p)++; isdigit((unsigned char)**p); (*p)++, unit /= 10)
		*us += (**p - '0') * unit;
	return isdigit((unsigned char)(*p)[-1]);
}

/* Reads the rest of the text. */
static bool parse_zone(const char *p, int64_t *seconds)
{
	int hours = 0, minutes = 0;

	*seconds = 0;
	if ((*p == 'Z' || *p == 'z') && p[1] == '\0')
		return true;
	if ((*p != '+' && *p != '-') || !matches(p + 1, "dd:dd") || p[6])
		return false;
	if (sscanf(p + 1, "%2d:%2d", &hours, &minutes) != 2)
		return false;
	*seconds = (*p == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return hours <= 23 && minutes <= 59;
}

bool timestamp_parse(const char *text, int64_t *us)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd";
	const char *p;
	int year, month, day, hour, minute, second;
	int64_t seconds, fraction, offset;

	if (!matches(text, form) ||
	    sscanf(text, "%4d-%2d-%2d%*c%2d:%2d:%2d", &year, &month, &day,
		   &hour, &minute, &second) != 6)
		return false;
	p = text + sizeof(form) - 1;
	if (hour > 23 || minute > 59 || second > 60 ||
	    !start_of_day(year, month, day, &seconds) ||
	    !parse_fraction(&p, &fraction) || !parse_zone(p, &offset))
		return false;
	seconds += hour * 3600 + minute * 60 + second - offset;
	*us = seconds * 1000000 + fraction;
	return true;
}
