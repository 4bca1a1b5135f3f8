/*
 * Owns the form of a time in text. Knows nothing of events. matches() decides
 * on the characters, so that digits() reads digits alone; timegm() decides on
 * the calendar.
 */
#include "event/timestamp.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"

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

/*
 * Returns true if text begins as the pattern says: d stands for a digit, T for
 * T, t and a space.
 */
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

/* Returns the number of the next count digits. */
static int digits(const char *p, int count)
{
	int number = 0;

	while (count-- > 0)
		number = number * 10 + (*p++ - '0');
	return number;
}

/* Reads the seconds and their fraction, if there are any; *p moves on. */
static bool parse_seconds(const char **p, int *seconds, int64_t *us)
{
	int64_t unit = 100000;

	*seconds = 0;
	*us = 0;
	if (!matches(*p, ":dd"))
		return **p != ':';
	*seconds = digits(*p + 1, 2);
	*p += 3;
	if (**p != '.' && **p != ',')
		return true;
	for ((*p)++; isdigit((unsigned char)**p); (*p)++, unit /= 10)
		*us += (**p - '0') * unit;
	return isdigit((unsigned char)(*p)[-1]);
}

/* Reads an offset: +01:00, +0100 or +01; *p moves on. */
static bool parse_offset(const char **p, int64_t *seconds)
{
	int sign = **p == '-' ? -1 : 1, hours, minutes = 0;

	if (!matches(*p, "+dd") && !matches(*p, "-dd"))
		return false;
	hours = digits(*p + 1, 2);
	*p += 3;
	if (matches(*p, ":dd") || matches(*p, "dd")) {
		*p += **p == ':';
		minutes = digits(*p, 2);
		*p += 2;
	}
	*seconds = sign * ((int64_t)hours * 3600 + (int64_t)minutes * 60);
	return hours <= 23 && minutes <= 59;
}

/*
 * Returns true for the end of the text, and for a zone's name behind its
 * offset, which decides nothing: "[Europe/Paris]", or " CET" if is_offset.
 */
static bool is_zone_name(const char *p, bool is_offset)
{
	static const char capitals[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *end = p + strcspn(p, "]");

	if (*p == '[')
		return end > p + 1 && end[0] == ']' && end[1] == '\0';
	if (*p == ' ' && is_offset)
		return p[1] && p[1 + strspn(p + 1, capitals)] == '\0';
	return *p == '\0';
}

/* Reads the rest of the text. */
static bool parse_zone(const char *p, int64_t *seconds)
{
	static const char *const names[] = { "Z", "z", "UTC", "GMT" };

	*seconds = 0;
	if (*p == ' ')
		p++;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strncmp(p, names[i], strlen(names[i])) == 0)
			return is_zone_name(p + strlen(names[i]), false);
	}
	return parse_offset(&p, seconds) && is_zone_name(p, true);
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
	int hour, minute, second;
	int64_t seconds, fraction, offset;

	if (!matches(text, form))
		return false;
	hour = digits(text + 11, 2);
	minute = digits(text + 14, 2);
	p = text + sizeof(form) - 1;
	if (!parse_seconds(&p, &second, &fraction) || !parse_zone(p, &offset) ||
	    !is_time_of_day(hour, minute, second, fraction) ||
	    !start_of_day(digits(text, 4), digits(text + 5, 2),
			  digits(text + 8, 2), &seconds))
		return false;
	seconds += hour * 3600 + minute * 60 + second - offset;
	*us = seconds * 1000000 + fraction;
	return true;
}
