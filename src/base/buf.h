/* A byte buffer that grows, its lines, and whole reads and writes. */
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

/*
 * Bytes that grow at the end. Starts as { 0 }. After the first addition
 * data[length] is always NUL.
 */
struct buf {
	char *data;
	size_t length;
	size_t capacity;
};

void buf_add(struct buf *b, const void *data, size_t length);
void buf_printf(struct buf *b, const char *format, ...) PRINTF(2, 3);
/* Frees the bytes; the struct is empty again and can be used again. */
void buf_free(struct buf *b);
/* Overwrites the bytes, then frees them: for secrets. */
void buf_wipe(struct buf *b);
/*
 * Returns the line that starts at offset *at, and moves *at behind it; NULL
 * at the end of the text. *length is the line's length without its newline.
 * *at is 0 for the first line. The last line may lack a newline.
 */
char *buf_next_line(const struct buf *b, size_t *at, size_t *length) MUST_CHECK;

/*
 * Appends the rest of a file to b. Returns true if that was at most max bytes;
 * false with errno set (EFBIG: the file is longer).
 */
bool read_all(int fd, size_t max, struct buf *b) MUST_CHECK;
/*
 * Writes all bytes, in several writes if necessary. Returns true if it did;
 * false with errno set.
 */
bool write_all(int fd, const void *data, size_t length) MUST_CHECK;

#endif
