/* Text that grows, and the whole of a file read or written. */
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

/* Text that grows; always ends in NUL once something was put in. */
struct buf {
	char *data;
	size_t length;
	size_t capacity;
};

void buf_add(struct buf *b, const void *data, size_t length);
void buf_printf(struct buf *b, const char *format, ...) PRINTF(2, 3);
/* Frees the text; the struct can be used again. */
void buf_free(struct buf *b);
/* The same, but overwrites it first: for secrets. */
void buf_wipe(struct buf *b);
/*
 * Returns the line that starts at offset *at, and moves *at behind it; NULL
 * at the end of the text. *length is the line's length without its newline.
 * *at is 0 for the first line. The last line may lack a newline.
 */
char *buf_next_line(const struct buf *b, size_t *at, size_t *length) MUST_CHECK;

/*
 * The whole of an open file, at most max bytes, appended to b. False with
 * errno set (EFBIG: there was more).
 */
bool read_all(int fd, size_t max, struct buf *b) MUST_CHECK;
/* All bytes, over EINTR and short writes. False with errno set. */
bool write_all(int fd, const void *data, size_t length) MUST_CHECK;

#endif
