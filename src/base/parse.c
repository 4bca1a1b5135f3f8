/*
 * Owns the forms of numbers, sizes and durations, each of which must fill the
 * whole text. Must not know settings: callers give the range.
 */
#include "base/parse.h"

#include <string.h>

bool parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (*text == '\0')
		return false;
	for (; *text; text++) {
		unsigned digit = (unsigned char)*text - (unsigned)'0';

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (value < min || value > max)
		return false;
	*out = value;
	return true;
}

/*
 * Copies the digits that *text begins with, and moves *text behind them.
 * Returns true if there are 1 to max digits; false otherwise.
 */
static bool parse_digits(const char **text, size_t max, char digits[24])
{
	size_t n = strspn(*text, "0123456789");

	if (n == 0 || n > max)
		return false;
	memcpy(digits, *text, n);
	digits[n] = '\0';
	*text += n;
	return true;
}

bool parse_size(const char *text, uint64_t *bytes)
{
	static const struct {
		const char *name;
		unsigned shift;
	} units[] = { { "B", 0 }, { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 } };
	char digits[24];
	uint64_t value;

	if (!parse_digits(&text, sizeof(digits) - 1, digits))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(text, units[i].name) != 0)
			continue;
		if (!parse_u64(digits, 0, UINT64_MAX >> units[i].shift, &value))
			return false;
		*bytes = value << units[i].shift;
		return true;
	}
	return false;
}

bool parse_duration(const char *text, int64_t *us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = { { "ms", 1000 },
		      { "s", 1000000 },
		      { "min", UINT64_C(60) * 1000000 },
		      { "h", UINT64_C(3600) * 1000000 } };
	/* 10^9 times the us of an hour is below 2^63. */
	enum { PLACES = 9 };
	char digits[24], places[24] = "0";
	uint64_t whole, part, scale = 1;

	if (!parse_digits(&text, sizeof(digits) - 1, digits))
		return false;
	if (*text == '.') {
		text++;
		if (!parse_digits(&text, PLACES, places))
			return false;
		for (size_t i = 0; places[i]; i++)
			scale *= 10;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(text, units[i].name) != 0)
			continue;
		if (!parse_u64(digits, 0, INT64_MAX / units[i].us - 1,
			       &whole) ||
		    !parse_u64(places, 0, UINT64_MAX, &part))
			return false;
		*us = (int64_t)(whole * units[i].us +
				part * units[i].us / scale);
		return true;
	}
	return false;
}

bool is_printable(const char *text)
{
	if (*text == '\0')
		return false;
	for (; *text; text++) {
		if (*text < ' ' || *text > '~')
			return false;
	}
	return true;
}
