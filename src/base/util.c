#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *check_alloc(void *p)
{
	if (!p) {
		static const char text[] = "humcli-webhook: out of memory\n";

		if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			abort();
		abort();
	}
	return p;
}

void *xmalloc(size_t size)
{
	return check_alloc(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size)
{
	return check_alloc(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *old, size_t size)
{
	return check_alloc(realloc(old, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t length)
{
	char *copy = xmalloc(length + 1);

	memcpy(copy, s, length);
	copy[length] = '\0';
	return copy;
}

char *xasprintf(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return check_alloc(text);
}

int64_t monotonic_ms(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
		abort();
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t wall_clock_us(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_REALTIME, &t) < 0)
		abort();
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void format_time(int64_t us, char text[TIME_TEXT_SIZE])
{
	time_t seconds = (time_t)(us / 1000000);
	struct tm utc;
	size_t n;

	if (!gmtime_r(&seconds, &utc))
		abort();
	n = strftime(text, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + n, TIME_TEXT_SIZE - n, ".%03dZ",
		 (int)(us / 1000 % 1000));
}

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

static void buf_reserve(struct buf *b, size_t more)
{
	size_t need, capacity = b->capacity ? b->capacity : 256;

	if (more > SIZE_MAX / 4 - b->length)
		abort();
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
	int length;

	va_start(args, format);
	va_copy(again, args);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0)
		abort();
	buf_reserve(b, (size_t)length);
	if (vsnprintf(b->data + b->length, (size_t)length + 1, format, again) !=
	    length)
		abort();
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
