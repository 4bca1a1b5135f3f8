/*
 * Owns how text from outside, numbers and durations become HTML. Must not know
 * what they mean. A task's id is whatever its sender signed: it may hold
 * markup, quotes, control characters, or characters that reverse those behind
 * them.
 */
#include "cli/report/html.h"

#include "base/clock.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Ranges of characters that are not seen, or that move others. */
static const struct range {
	uint32_t first, last;
} invisible[] = {
	{ 0x0000, 0x001f },   { 0x007f, 0x009f },    { 0x00ad, 0x00ad },
	{ 0x034f, 0x034f },   { 0x061c, 0x061c },    { 0x115f, 0x1160 },
	{ 0x17b4, 0x17b5 },   { 0x180b, 0x180f },    { 0x200b, 0x200f },
	{ 0x2028, 0x202e },   { 0x2060, 0x206f },    { 0x2800, 0x2800 },
	{ 0x3164, 0x3164 },   { 0xd800, 0xf8ff },    { 0xfdd0, 0xfdef },
	{ 0xfe00, 0xfe0f },   { 0xfeff, 0xfeff },    { 0xffa0, 0xffa0 },
	{ 0xfff0, 0xfffb },   { 0xfffe, 0xffff },    { 0x1bca0, 0x1bca3 },
	{ 0x1d173, 0x1d17a }, { 0xe0000, 0x10ffff },
};

static bool is_invisible(uint32_t c)
{
	for (size_t i = 0; i < ARRAY_SIZE(invisible); i++) {
		if (c >= invisible[i].first && c <= invisible[i].last)
			return true;
	}
	return false;
}

/*
 * Reads a character of UTF-8 into *c. Returns its length in bytes; 0 if there
 * is none of the shortest form. The text ends in NUL, which ends a sequence.
 */
static size_t read_character(const char *text, uint32_t *c)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)text;
	size_t length = p[0] < 0x80		? 1
			: (p[0] & 0xe0) == 0xc0 ? 2
			: (p[0] & 0xf0) == 0xe0 ? 3
			: (p[0] & 0xf8) == 0xf0 ? 4
						: 0;

	if (length <= 1) {
		*c = p[0];
		return length;
	}
	*c = p[0] & (0xffU >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (p[i] & 0x3fU);
	}
	return *c < smallest[length] || *c > 0x10ffff ? 0 : length;
}

/* Returns the entity of a character of the markup; NULL for any other. */
static const char *entity(uint32_t c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	case '`': /* old browsers quote attributes by it */
		return "&#96;";
	default:
		return NULL;
	}
}

void html_put_some(struct buf *b, const char *text, size_t max)
{
	for (size_t shown = 0; *text; shown++) {
		uint32_t c;
		size_t length = read_character(text, &c);

		if (shown == max) {
			buf_add(b, "…", strlen("…"));
			return;
		}
		if (length == 0)
			buf_printf(b, "\\x%02x", (unsigned char)*text);
		else if (is_invisible(c))
			buf_printf(b, "\\u%04x", (unsigned)c);
		else if (entity(c))
			buf_add(b, entity(c), strlen(entity(c)));
		else
			buf_add(b, text, length);
		text += length ? length : 1;
	}
}

void html_put(struct buf *b, const char *text)
{
	html_put_some(b, text, HTML_TEXT_MAX);
}

void html_put_number(struct buf *b, uint64_t number)
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%llu",
			      (unsigned long long)number);

	for (int i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			buf_add(b, ",", 1);
		buf_add(b, digits + i, 1);
	}
}

void html_put_duration(struct buf *b, int64_t ms)
{
	put_duration(b, (uint64_t)max_i64(ms, 0), " ", true);
}

void html_put_rough_duration(struct buf *b, int64_t ms)
{
	put_duration(b, (uint64_t)max_i64(ms, 0), " ", false);
}

void html_put_size(struct buf *b, uint64_t bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB" };
	double size = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		buf_printf(b, "%u B", (unsigned)bytes);
		return;
	}
	for (; size >= 1024 && i < ARRAY_SIZE(units) - 1; i++)
		size /= 1024;
	buf_printf(b, "%.1f %s", size, units[i]);
}
