/* Growing buffers, their lines, whole reads and writes. */
#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/macros.h"

static void test_buf(void **state)
{
	struct buf b = { 0 };
	char part[1000];

	(void)state;
	buf_add(&b, "", 0);
	assert_string_equal(b.data, "");
	assert_int_equal(b.length, 0);
	buf_add(&b, "a\0b", 3);
	assert_int_equal(b.length, 3);
	assert_memory_equal(b.data, "a\0b", 4);
	buf_printf(&b, "-%05d-%s", 42, "");
	assert_int_equal(b.length, 10);
	assert_memory_equal(b.data, "a\0b-00042-", 11);

	/* Across every size at which the buffer grows. */
	memset(part, 'x', sizeof(part));
	for (size_t i = 0; i < 300; i++) {
		size_t before = b.length;

		if (i % 2)
			buf_add(&b, part, i * 3);
		else
			buf_printf(&b, "%.*s", (int)(i * 3), part);
		assert_int_equal(b.length, before + i * 3);
		assert_true(b.capacity > b.length);
		assert_int_equal(b.data[b.length], '\0');
	}
	assert_memory_equal(b.data, "a\0b-00042-xxx", 13);
	buf_free(&b);
	assert_null(b.data);
	assert_int_equal(b.length, 0);
	assert_int_equal(b.capacity, 0);

	buf_printf(&b, "again");
	assert_string_equal(b.data, "again");
	buf_wipe(&b);
	assert_null(b.data);
	buf_wipe(&b);
	buf_free(&b);
}

static void test_next_line(void **state)
{
	static const struct {
		const char *text;
		size_t length;
		const char *lines[5];
	} cases[] = {
		{ "", 0, { NULL } },
		{ "a", 1, { "a" } },
		{ "a\n", 2, { "a" } },
		{ "\n", 1, { "" } },
		{ "a\n\nbc\n", 6, { "a", "", "bc" } },
		{ "a\r\n\n", 4, { "a\r", "" } },
		{ "a\nbc", 4, { "a", "bc" } },
	};
	struct buf b = { 0 };
	size_t at = 0, length;

	(void)state;
	/* An empty buffer without memory. */
	assert_null(buf_next_line(&b, &at, &length));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *line;
		size_t n = 0;

		buf_add(&b, cases[i].text, cases[i].length);
		for (at = 0; (line = buf_next_line(&b, &at, &length)); n++) {
			const char *expected = cases[i].lines[n];

			assert_non_null(expected);
			assert_int_equal(length,
					 expected ? strlen(expected) : 0);
			assert_memory_equal(line, expected, length);
		}
		assert_null(cases[i].lines[n]);
		buf_free(&b);
	}
	/* A NUL is a byte of its line like any other. */
	buf_add(&b, "a\0b\nc", 5);
	at = 0;
	assert_memory_equal(buf_next_line(&b, &at, &length), "a\0b", 3);
	assert_int_equal(length, 3);
	buf_free(&b);
}

/*
 * Returns an unnamed file of length bytes; each is the low byte of its offset.
 */
static int file_of(size_t length)
{
	FILE *file = tmpfile();
	int fd;

	assert_non_null(file);
	for (size_t i = 0; i < length; i++)
		assert_int_equal(fputc((int)(i & 0xff), file), (int)(i & 0xff));
	assert_int_equal(fflush(file), 0);
	fd = dup(fileno(file));
	assert_true(fd >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void test_read_all(void **state)
{
	static const struct {
		int line;
		size_t length, max;
		bool good;
	} cases[] = {
		{ __LINE__, 0, 0, true },
		{ __LINE__, 1, 0, false },
		{ __LINE__, 0, 10, true },
		{ __LINE__, 10, 10, true },
		{ __LINE__, 11, 10, false },
		{ __LINE__, 4095, 4096, true },
		{ __LINE__, 4096, 4096, true },
		{ __LINE__, 4097, 4096, false },
		{ __LINE__, 8192, 8192, true },
		{ __LINE__, 8193, 8192, false },
		{ __LINE__, 100000, 100000, true },
		{ __LINE__, 100000, 99999, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf b = { 0 };
		int fd = file_of(cases[i].length);
		bool good;

		buf_add(&b, "before", 6);
		errno = 0;
		good = read_all(fd, cases[i].max, &b);
		if (good != cases[i].good || (!good && errno != EFBIG))
			fail_msg("line %d: %d, %s", cases[i].line, good,
				 strerror(errno));
		if (good && b.length != cases[i].length + 6)
			fail_msg("line %d: %zu bytes", cases[i].line, b.length);
		assert_memory_equal(b.data, "before", 6);
		for (size_t j = 6; good && j < b.length; j++) {
			if ((unsigned char)b.data[j] != ((j - 6) & 0xff))
				fail_msg("line %d: byte %zu", cases[i].line, j);
		}
		assert_int_equal(b.data[b.length], '\0');
		buf_free(&b);
		close(fd);
	}
}

static void test_bad_descriptors(void **state)
{
	struct buf b = { 0 };

	(void)state;
	errno = 0;
	assert_false(read_all(-1, 10, &b));
	assert_int_equal(errno, EBADF);
	buf_free(&b);
	errno = 0;
	assert_false(write_all(-1, "x", 1));
	assert_int_equal(errno, EBADF);
	assert_true(write_all(-1, "", 0));
}

struct drain {
	int fd;
	struct buf got;
};

static void *drain(void *argument)
{
	struct drain *d = argument;

	if (!read_all(d->fd, SIZE_MAX / 8, &d->got))
		buf_free(&d->got);
	return NULL;
}

/* Far more than a pipe holds, so that many writes are needed. */
static void test_write_all(void **state)
{
	enum { LENGTH = 1 << 20 };
	char *data = xmalloc(LENGTH);
	struct drain d = { 0 };
	pthread_t reader;
	int ends[2];

	(void)state;
	for (size_t i = 0; i < LENGTH; i++)
		data[i] = (char)(i * 7 >> 3);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	d.fd = ends[0];
	assert_int_equal(pthread_create(&reader, NULL, drain, &d), 0);
	assert_true(write_all(ends[1], data, LENGTH));
	close(ends[1]);
	assert_int_equal(pthread_join(reader, NULL), 0);
	close(ends[0]);
	assert_int_equal(d.got.length, LENGTH);
	assert_memory_equal(d.got.data, data, LENGTH);
	buf_free(&d.got);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_next_line),
		cmocka_unit_test(test_read_all),
		cmocka_unit_test(test_bad_descriptors),
		cmocka_unit_test(test_write_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
