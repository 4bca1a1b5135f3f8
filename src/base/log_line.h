/*
 * The form of a line of the log. Values from outside are quoted and escaped
 * here, and nowhere else.
 */
#ifndef LOG_LINE_H
#define LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>

/* A pipe accepts so many bytes as a whole (PIPE_BUF). */
enum { LOG_LINE_MAX = 4096 };

struct log_line {
	char text[LOG_LINE_MAX];
	size_t length;
	bool json;
	bool full; /* of JSON; the rest is left out */
};

/* Starts an empty line, in JSON or else in logfmt. */
void log_line_start(struct log_line *l, bool json);
/* Adds a pair. */
void log_line_pair(struct log_line *l, const char *key, const char *value);
/* Adds text without quotes, but escaped: for a person at a terminal. */
void log_line_plain(struct log_line *l, const char *text);
/* Ends the line, which is cut if it is too long, by a newline. */
void log_line_end(struct log_line *l);

#endif
