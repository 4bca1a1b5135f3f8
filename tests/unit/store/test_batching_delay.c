/* The batching delay: how many events it waits for, and how long. */
#include "store/batching_delay.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/macros.h"

static void test_threshold(void **state)
{
	static const struct {
		size_t under_way, max, threshold;
	} cases[] = {
		{ 0, 256, 1 },	    { 1, 256, 1 },     { 15, 256, 1 },
		{ 16, 256, 12 },    { 17, 256, 13 },   { 64, 256, 48 },
		{ 256, 256, 192 },  { 400, 256, 256 }, { 64, 1, 1 },
		{ 1000, 256, 256 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct batching_delay d = { 0 };

		batching_delay_set(&d, cases[i].under_way, cases[i].max, 1000);
		assert_int_equal(d.threshold, cases[i].threshold);
	}
}

static void test_holds(void **state)
{
	static const struct {
		size_t under_way, length;
		int64_t now;
		bool holds;
	} cases[] = {
		{ 64, 0, 1000, true },	  { 64, 47, 1002, true },
		{ 64, 48, 1002, false },  { 64, 0, 1003, false },
		{ 64, 100, 1000, false }, { 15, 0, 1000, false },
	};
	const struct batching_delay none = { 0 };

	(void)state;
	assert_false(batching_delay_holds(&none, 0, 0));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct batching_delay d = { 0 };

		batching_delay_set(&d, cases[i].under_way, 256, 1000);
		assert_int_equal(batching_delay_holds(&d, cases[i].length,
						      cases[i].now),
				 cases[i].holds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threshold),
		cmocka_unit_test(test_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
