/*
 * Owns the form of a line of the log: logfmt, JSON, or for a terminal. Must not
 * know targets and levels: log.c chooses the fields and writes the line.
 */
#include "base/log_line.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void log_line_start(struct log_line *l, bool json)
{
	l->length = 0;
	l->json = json;
	l->full = false;
}

static void put(struct log_line *l, const char *text, size_t length)
{
	/* One byte stays free for the newline. */
	size_t room = sizeof(l->text) - 1 - l->length;

	if (length > room)
		length = room;
	memcpy(l->text + l->length, text, length);
	l->length += length;
}

static bool plain(const char *value)
{
	if (*value == '\0')
		return false;
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return true;
}

/*
 * Puts text with all but printable ASCII as \xHH, because a terminal would act
 * on control characters, and with a backslash before the characters in quoted.
 */
static void put_escaped(struct log_line *l, const char *value,
			const char *quoted)
{
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		char escape[5];

		if (strchr(quoted, c)) {
			put(l, "\\", 1);
			put(l, value, 1);
		} else if (c < ' ' || c >= 0x7f) {
			put(l, escape,
			    (size_t)snprintf(escape, sizeof(escape), "\\x%02x",
					     c));
		} else {
			put(l, value, 1);
		}
	}
}

static void put_value(struct log_line *l, const char *value)
{
	if (plain(value)) {
		put(l, value, strlen(value));
		return;
	}
	put(l, "\"", 1);
	put_escaped(l, value, "\"\\");
	put(l, "\"", 1);
}

/* JSON. */

/* Puts a unit that must not be cut. Returns false if it does not fit. */
static bool put_unit(struct log_line *l, const char *text, size_t length)
{
	static const char end[] = "\"}\n";

	if (l->full || l->length + length + strlen(end) > sizeof(l->text)) {
		l->full = true;
		return false;
	}
	put(l, text, length);
	return true;
}

/*
 * Reads one character of UTF-8. Returns its length in bytes, or 0 if text does
 * not begin with a valid one.
 */
static size_t read_character(const char *text, uint32_t *c)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char first = (unsigned char)*text;
	size_t length = first < 0x80   ? 1
			: first < 0xc0 ? 0
			: first < 0xe0 ? 2
			: first < 0xf0 ? 3
			: first < 0xf8 ? 4
				       : 0;

	*c = length > 1 ? first & (0x7fu >> length) : first;
	for (size_t i = 1; i < length; i++) {
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | ((unsigned char)text[i] & 0x3f);
	}
	if (length > 1 && (*c < least[length] || *c > 0x10ffff ||
			   (*c >= 0xd800 && *c < 0xe000)))
		return 0;
	return length;
}

/* Puts one character; all but printable ASCII as \uXXXX. */
static void put_character(struct log_line *l, uint32_t c)
{
	char text[16];
	int length;

	if (c == '"' || c == '\\')
		length = snprintf(text, sizeof(text), "\\%c", (int)c);
	else if (c >= ' ' && c < 0x7f)
		length = snprintf(text, sizeof(text), "%c", (int)c);
	else if (c < 0x10000)
		length = snprintf(text, sizeof(text), "\\u%04x", (unsigned)c);
	else
		length = snprintf(text, sizeof(text), "\\u%04x\\u%04x",
				  0xd800 + (unsigned)((c - 0x10000) >> 10),
				  0xdc00 + (unsigned)((c - 0x10000) & 0x3ff));
	(void)put_unit(l, text, (size_t)length);
}

static void put_json_pair(struct log_line *l, const char *key,
			  const char *value)
{
	char start[64];
	int length = snprintf(start, sizeof(start), "%s\"%s\":\"",
			      l->length ? "," : "{", key);

	if (!put_unit(l, start, (size_t)length))
		return;
	while (*value && !l->full) {
		uint32_t c;
		size_t n = read_character(value, &c);

		put_character(l, n ? c : 0xfffd);
		value += n ? n : 1;
	}
	put(l, "\"", 1);
}

void log_line_pair(struct log_line *l, const char *key, const char *value)
{
	if (l->json) {
		put_json_pair(l, key, value);
		return;
	}
	if (l->length)
		put(l, " ", 1);
	put(l, key, strlen(key));
	put(l, "=", 1);
	put_value(l, value);
}

void log_line_plain(struct log_line *l, const char *text)
{
	put_escaped(l, text, "");
}

void log_line_end(struct log_line *l)
{
	if (l->json)
		put(l, "}", 1);
	l->text[l->length++] = '\n';
}
