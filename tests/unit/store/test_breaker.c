/* The circuit breaker, and its file between CGI processes. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/macros.h"
#include "scratch.h"
#include "store/breaker.h"
#include "store/breaker_file.h"

enum { NOW = 1000000 };

/* A disabled one never opens; opening and closing are reported once. */
static void test_open(void **state)
{
	struct breaker off = { .enabled = false }, on = { .enabled = true };

	(void)state;
	assert_false(breaker_open(&off));
	assert_false(off.open);
	assert_true(breaker_open(&on));
	assert_false(breaker_open(&on));
	assert_true(on.open);
	assert_true(breaker_close(&on));
	assert_false(breaker_close(&on));
}

/* Another process's failure opens while it is fresh, then half-opens. */
static void test_restore(void **state)
{
	static const struct {
		bool enabled;
		enum round_trip result;
		int64_t age;
		bool open, half_open;
	} cases[] = {
		{ true, ROUND_TRIP_FAILED, 0, true, false },
		{ true, ROUND_TRIP_FAILED, 749, true, false },
		{ true, ROUND_TRIP_FAILED, 750, false, true },
		{ false, ROUND_TRIP_FAILED, 0, false, true },
		{ true, ROUND_TRIP_REFUSED, 0, false, false },
		{ true, ROUND_TRIP_OK, 0, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct breaker b = { .enabled = cases[i].enabled };

		breaker_restore(&b, cases[i].result, cases[i].age, NOW);
		assert_int_equal(b.open, cases[i].open);
		assert_int_equal(breaker_try_half_open(&b), cases[i].half_open);
		assert_false(breaker_try_half_open(&b));
	}
}

static void test_health(void **state)
{
	static const struct {
		enum round_trip result;
		bool open;
		int64_t age;
		bool current, healthy;
	} cases[] = {
		{ ROUND_TRIP_OK, false, 5000, true, true },
		{ ROUND_TRIP_OK, false, 5001, false, true },
		{ ROUND_TRIP_OK, true, 9999, true, false },
		{ ROUND_TRIP_REFUSED, false, 0, true, false },
		{ ROUND_TRIP_FAILED, false, 0, true, false },
	};
	struct breaker none = { .enabled = true };

	(void)state;
	assert_false(breaker_is_current(&none, NOW));
	assert_false(breaker_is_healthy(&none));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct breaker b = { .enabled = true, .open = cases[i].open };

		breaker_round_trip(&b, cases[i].result, NOW - cases[i].age);
		assert_int_equal(breaker_is_current(&b, NOW), cases[i].current);
		assert_int_equal(breaker_is_healthy(&b), cases[i].healthy);
		breaker_forget(&b);
		assert_int_equal(breaker_is_current(&b, NOW), cases[i].open);
	}
}

static void test_file(void **state)
{
	static const enum round_trip results[] = { ROUND_TRIP_OK,
						   ROUND_TRIP_REFUSED,
						   ROUND_TRIP_FAILED };
	const char *dir = *state;
	enum round_trip result;
	int64_t age;

	assert_false(breaker_file_load(dir, &age, &result));
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		breaker_file_save(dir, results[i]);
		assert_true(breaker_file_load(dir, &age, &result));
		assert_int_equal(result, results[i]);
		assert_in_range(age, 0, 10000);
	}
}

/* Neither a future time, nor another word, nor a symbolic link counts. */
static void test_odd_file(void **state)
{
	static const struct timespec future[2] = { { 4000000000, 0 },
						   { 4000000000, 0 } };
	const char *dir = *state;
	char *path = xasprintf("%s/health", dir);
	enum round_trip result;
	int64_t age;
	int fd;

	breaker_file_save(dir, ROUND_TRIP_OK);
	assert_int_equal(utimensat(AT_FDCWD, path, future, 0), 0);
	assert_false(breaker_file_load(dir, &age, &result));
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "what", 4), 4);
	close(fd);
	assert_false(breaker_file_load(dir, &age, &result));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/hostname", path), 0);
	breaker_file_save(dir, ROUND_TRIP_OK);
	assert_false(breaker_file_load(dir, &age, &result));
	free(path);
}

static void in_scratch(void (*test)(void **state))
{
	struct scratch s;

	scratch_make(&s);
	test((void **)&s.path);
	scratch_remove(&s);
}

static void test_files(void **state)
{
	(void)state;
	in_scratch(test_file);
	in_scratch(test_odd_file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
