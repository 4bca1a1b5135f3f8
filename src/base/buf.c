/*
 * Owns the growth of byte buffers, and reads and writes that continue after
 * EINTR and short counts. Must not know what the bytes are.
 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fatal.h"

static void buf_reserve(struct buf *b, size_t more)
{
	size_t need, capacity = b->capacity ? b->capacity : 256;

	if (more > SIZE_MAX / 4 - b->length)
		fatal("out of memory");
	need = b->length + more + 1;
	while (capacity < need)
		capacity *= 2;
	if (capacity == b->capacity)
		return;
	b->data = xrealloc(b->data, capacity);
	b->capacity = capacity;
}

void buf_add(struct buf *b, const void *data, size_t length)
{
	buf_reserve(b, length);
	if (length)
		memcpy(b->data + b->length, data, length);
	b->length += length;
	b->data[b->length] = '\0';
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list args, again;
	size_t room;
	int length;

	buf_reserve(b, 0);
	room = b->capacity - b->length;
	va_start(args, format);
	va_copy(again, args);
	length = vsnprintf(b->data + b->length, room, format, args);
	va_end(args);
	if (length < 0)
		fatal("out of memory");
	if ((size_t)length >= room) {
		buf_reserve(b, (size_t)length);
		if (vsnprintf(b->data + b->length, (size_t)length + 1, format,
			      again) != length)
			fatal("out of memory");
	}
	va_end(again);
	b->length += (size_t)length;
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

void buf_wipe(struct buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->capacity);
	buf_free(b);
}

char *buf_next_line(const struct buf *b, size_t *at, size_t *length)
{
	char *line, *end;

	if (*at >= b->length)
		return NULL;
	line = b->data + *at;
	end = memchr(line, '\n', b->length - *at);
	*length = end ? (size_t)(end - line) : b->length - *at;
	*at += *length + (end != NULL);
	return line;
}

bool read_all(int fd, size_t max, struct buf *b)
{
	size_t total = 0;

	for (;;) {
		ssize_t n;
		size_t room = max - total < 4096 ? max - total + 1 : 4096;

		buf_reserve(b, room);
		n = read(fd, b->data + b->length, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		b->length += (size_t)n;
		b->data[b->length] = '\0';
		total += (size_t)n;
		if (n == 0)
			return true;
		if (total > max) {
			errno = EFBIG;
			return false;
		}
	}
}

bool write_all(int fd, const void *data, size_t length)
{
	const char *from = data;

	while (length) {
		ssize_t n = write(fd, from, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		from += n;
		length -= (size_t)n;
	}
	return true;
}
