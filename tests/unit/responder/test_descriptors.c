/* How many requests in flight a limit of open descriptors allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "responder/descriptors.h"

static void test_allowed(void **state)
{
	static const struct {
		int line;
		uint64_t limit;
		unsigned wanted, threads, allowed;
	} cases[] = {
		{ __LINE__, 1024, 512, 64, 512 },
		{ __LINE__, UINT64_MAX, 65536, 1024, 65536 },
		{ __LINE__, 524288, 65536, 64, 65536 },
		{ __LINE__, 1024, 2000, 64, 1024 - 22 - 3 * 64 },
		{ __LINE__, 64, 512, 64, (64 - 22) / 4 },
		{ __LINE__, 64, 5, 64, 5 },
		{ __LINE__, 64, 512, 2, 64 - 22 - 3 * 2 },
		{ __LINE__, 22, 512, 64, 1 },
		{ __LINE__, 3, 512, 64, 1 },
		{ __LINE__, 0, 1, 1, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		print_message("line %d\n", cases[i].line);
		assert_int_equal(descriptors_allow(cases[i].limit,
						   cases[i].wanted,
						   cases[i].threads),
				 cases[i].allowed);
	}
}

static void test_limit_is_raised(void **state)
{
	struct rlimit before, low, after;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	low.rlim_cur = 30;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(descriptors_raise_limit(), before.rlim_max);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
	assert_int_equal(after.rlim_cur, before.rlim_max);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_limit_is_raised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
