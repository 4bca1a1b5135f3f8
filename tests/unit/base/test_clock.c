/* The two clocks. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static void test_clocks(void **state)
{
	int64_t first = monotonic_ms(), us = wall_clock_us();
	time_t seconds = time(NULL);

	(void)state;
	assert_true(first >= 0);
	assert_true(monotonic_ms() >= first);
	/* The unit is us, not ms or ns. */
	assert_true(llabs(us / 1000000 - (int64_t)seconds) <= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
