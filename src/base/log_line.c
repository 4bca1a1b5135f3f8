/*
 * Builds a line of the log in logfmt, or for a terminal. Knows no target and no
 * level; log.c chooses the fields and writes the line.
 */
#include "base/log_line.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void log_line_start(struct log_line *l)
{
	l->length = 0;
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

void log_line_pair(struct log_line *l, const char *key, const char *value)
{
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
	l->text[l->length++] = '\n';
}
