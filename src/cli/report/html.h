/*
 * Text from outside, in HTML. All that a page shows passes through here, except
 * the page's own markup.
 */
#ifndef REPORT_HTML_H
#define REPORT_HTML_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

/* The number of characters after which a text is cut, with an ellipsis. */
enum { HTML_TEXT_MAX = 240 };

/*
 * Appends text, of at most max characters, for an element or an attribute in
 * quotes. A character that is not seen, or that moves others, such as a line
 * break or U+202E, is shown as \u202e; a byte that is no UTF-8 as \xff.
 */
void html_put_some(struct buf *b, const char *text, size_t max);
/* Appends text like html_put_some(), of at most HTML_TEXT_MAX characters. */
void html_put(struct buf *b, const char *text);

/* Appends a number with a comma between thousands: "1,234,567". */
void html_put_number(struct buf *b, uint64_t number);
/* Appends a duration (ms) in one or two units: "3 d 4 h", "12 min 5 s". */
void html_put_duration(struct buf *b, int64_t ms);
/* Appends a duration (ms) in the largest unit that fits: "3 d", "12 min". */
void html_put_rough_duration(struct buf *b, int64_t ms);
/* Appends a size: "812 B", "4.0 KiB". */
void html_put_size(struct buf *b, uint64_t bytes);

#endif
