/*
 * Allocation that cannot fail, clocks, number parsing and growable text.
 * Knows nothing of the rest of the program.
 */
#ifndef UTIL_H
#define UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(text, args) __attribute__((format(printf, text, args)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/*
 * Out of memory ends the process: whoever started us starts us again, and
 * nothing unanswered was acknowledged. The sizes of what a sender can make
 * us allocate are checked before.
 */
void *xmalloc(size_t size) MUST_CHECK;
void *xcalloc(size_t count, size_t size) MUST_CHECK;
void *xrealloc(void *old, size_t size) MUST_CHECK;
char *xstrdup(const char *s) MUST_CHECK;
char *xstrndup(const char *s, size_t length) MUST_CHECK;
char *xasprintf(const char *format, ...) PRINTF(1, 2) MUST_CHECK;

/* Milliseconds of a clock that never steps (CLOCK_MONOTONIC). */
int64_t monotonic_ms(void);

/* Of two times. */
int64_t min_i64(int64_t a, int64_t b);
int64_t max_i64(int64_t a, int64_t b);

/* Microseconds since 1970-01-01T00:00:00Z (CLOCK_REALTIME). */
int64_t wall_clock_us(void);

/* ISO 8601, ms, Z: 2026-03-01T12:00:00.000Z */
enum { TIME_TEXT_SIZE = 40 };
void format_time(int64_t us, char text[TIME_TEXT_SIZE]);

/*
 * A decimal number of digits alone (no sign, no space, leading zeros
 * allowed) within [min, max]. False leaves *out as it was.
 */
bool parse_u64(const char *text, uint64_t min, uint64_t max,
	       uint64_t *out) MUST_CHECK;

/* Whether text is not empty and all printable ASCII: fit to be shown. */
bool is_printable(const char *text) MUST_CHECK;

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
 * The whole of an open file, at most max bytes, appended to b. False with
 * errno set (EFBIG: there was more).
 */
bool read_all(int fd, size_t max, struct buf *b) MUST_CHECK;
/* All bytes, over EINTR and short writes. False with errno set. */
bool write_all(int fd, const void *data, size_t length) MUST_CHECK;

#endif
