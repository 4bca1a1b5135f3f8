/* The two clocks. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/macros.h"

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

/* Also before 1970, where a division rounds the wrong way. */
static void test_format_time(void **state)
{
	static const struct {
		int64_t us;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 1999, "1970-01-01T00:00:00.001Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ -1000000, "1969-12-31T23:59:59.000Z" },
		{ -1500000, "1969-12-31T23:59:58.500Z" },
		{ INT64_C(1772366400123456), "2026-03-01T12:00:00.123Z" },
		{ INT64_C(253402300799999999), "9999-12-31T23:59:59.999Z" },
		{ INT64_C(-62135596800000000), "0001-01-01T00:00:00.000Z" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[TIME_TEXT_SIZE];

		format_time(cases[i].us, text);
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_format_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
