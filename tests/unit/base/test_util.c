/* Numbers, growable text, whole reads and writes, clocks. */
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void test_parse_u64(void **state)
{
	static const struct {
		int line;
		const char *text;
		uint64_t min, max;
		bool good;
		uint64_t value;
	} cases[] = {
		{ __LINE__, "0", 0, 0, true, 0 },
		{ __LINE__, "5", 5, 5, true, 5 },
		{ __LINE__, "4", 5, 6, false, 0 },
		{ __LINE__, "7", 5, 6, false, 0 },
		{ __LINE__, "007", 0, 9, true, 7 },
		{ __LINE__, "18446744073709551615", 0, UINT64_MAX, true,
		  UINT64_MAX },
		{ __LINE__, "18446744073709551616", 0, UINT64_MAX, false, 0 },
		{ __LINE__, "18446744073709551625", 0, UINT64_MAX, false, 0 },
		{ __LINE__, "99999999999999999999999", 0, UINT64_MAX, false,
		  0 },
		{ __LINE__, "", 0, 9, false, 0 },
		{ __LINE__, " 1", 0, 9, false, 0 },
		{ __LINE__, "1 ", 0, 9, false, 0 },
		{ __LINE__, "+1", 0, 9, false, 0 },
		{ __LINE__, "-1", 0, UINT64_MAX, false, 0 },
		{ __LINE__, "0x1", 0, 9, false, 0 },
		{ __LINE__, "1/", 0, UINT64_MAX, false, 0 },
		{ __LINE__, "1:", 0, UINT64_MAX, false, 0 },
		{ __LINE__, "\xb2", 0, UINT64_MAX, false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 42;
		bool good = parse_u64(cases[i].text, cases[i].min, cases[i].max,
				      &value);

		if (good != cases[i].good ||
		    value != (good ? cases[i].value : 42))
			fail_msg("line %d: %d, %ju", cases[i].line, good,
				 (uintmax_t)value);
	}
}

static void test_allocation(void **state)
{
	char *text = xasprintf("%s-%d", "a", 5), *copy;
	unsigned char *zeros = xcalloc(3, 5), nothing[15] = { 0 };
	void *p;

	(void)state;
	assert_string_equal(text, "a-5");
	assert_memory_equal(zeros, nothing, sizeof(nothing));
	copy = xstrdup(text);
	assert_string_equal(copy, "a-5");
	assert_ptr_not_equal(copy, text);
	free(copy);
	copy = xstrndup(text, 1);
	assert_string_equal(copy, "a");
	free(copy);
	copy = xstrndup("", 0);
	assert_string_equal(copy, "");
	copy = xrealloc(copy, 100);
	assert_string_equal(copy, "");
	free(copy);
	free(zeros);
	free(text);
	/* Of nothing they still give something, so that NULL means failed. */
	p = xmalloc(0);
	assert_non_null(p);
	p = xrealloc(p, 0);
	assert_non_null(p);
	free(p);
	p = xcalloc(0, 8);
	assert_non_null(p);
	free(p);
}

/* Without memory the process ends and says so. */
static void test_out_of_memory(void **state)
{
	volatile size_t size = SIZE_MAX / 4;
	int status, out[2];
	struct buf said = { 0 };
	pid_t child;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		static const struct rlimit no_core = { 0, 0 };

		if (setrlimit(RLIMIT_CORE, &no_core) < 0 ||
		    dup2(out[1], STDERR_FILENO) < 0)
			_exit(0);
		free(xmalloc(size));
		_exit(0);
	}
	close(out[1]);
	assert_true(read_all(out[0], 1 << 20, &said));
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* AddressSanitizer ends the process in words of its own. */
	assert_non_null(said.data);
	assert_true(strstr(said.data, "out of memory") ||
		    strstr(said.data, "AddressSanitizer"));
	buf_free(&said);
}

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

	/* Over every size at which it grows. */
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

/* An unnamed file with so many bytes, each the low byte of its place. */
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

/* Far more than a pipe holds, so that it is written in many parts. */
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

static void test_clocks(void **state)
{
	int64_t first = monotonic_ms(), us = wall_clock_us();
	time_t seconds = time(NULL);

	(void)state;
	assert_true(first >= 0);
	assert_true(monotonic_ms() >= first);
	/* Microseconds, not milliseconds or nanoseconds. */
	assert_true(llabs(us / 1000000 - (int64_t)seconds) <= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_allocation),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_read_all),
		cmocka_unit_test(test_bad_descriptors),
		cmocka_unit_test(test_write_all),
		cmocka_unit_test(test_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
