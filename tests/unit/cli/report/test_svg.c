/* The geometry of the report's pictures. */
#include "cli/report/svg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"

static void near(double a, double b)
{
	assert_true(a - b < 0.001 && b - a < 0.001);
}

static void test_spread(void **state)
{
	struct svg_span spans[] = { { .from = 0, .to = 10 },
				    { .from = 10, .to = 40 },
				    { .from = 40, .to = 40 },
				    { .from = 40, .to = 100 } };

	(void)state;
	svg_spread(spans, 4, 5);
	near(spans[0].x, 0);
	near(spans[0].width, 5 + 8);
	near(spans[1].x, 13);
	near(spans[1].width, 5 + 24);
	near(spans[2].width, 5);
	near(spans[3].width, 5 + 48);
	near(spans[3].x + spans[3].width, 100);
}

/* Histories that no clock made: all at once, and backward. */
static void test_spread_odd(void **state)
{
	struct svg_span many[60] = { { 0 } };
	struct svg_span two[] = { { .from = 50, .to = 10 },
				  { .from = 10, .to = 20 } };

	(void)state;
	svg_spread(NULL, 0, 5);
	svg_spread(many, 60, 5);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		near(many[i].width, 100.0 / 60);
	near(many[59].x + many[59].width, 100);
	svg_spread(two, 2, 5);
	near(two[0].width, 5);
	near(two[1].width, 95);
	svg_spread(two, 1, 5);
	near(two[0].width, 100);
}

static void test_place(void **state)
{
	const struct svg_span span = {
		.from = 100, .to = 200, .x = 10, .width = 40
	};
	const struct svg_span empty = {
		.from = 100, .to = 100, .x = 10, .width = 40
	};

	(void)state;
	near(svg_place(&span, 0), 10);
	near(svg_place(&span, 100), 10);
	near(svg_place(&span, 150), 30);
	near(svg_place(&span, 200), 50);
	near(svg_place(&span, 999), 50);
	near(svg_place(&empty, 100), 10);
	near(svg_place(&empty, 101), 50);
}

static void test_text_fits(void **state)
{
	(void)state;
	assert_true(svg_text_fits(0, 14));
	assert_false(svg_text_fits(1, 14));
	assert_true(svg_text_fits(8, 80));
	assert_false(svg_text_fits(16, 80));
}

static void test_axis(void **state)
{
	static const uint64_t cases[][2] = {
		{ 0, 1 },   { 1, 1 },	   { 2, 2 },	   { 3, 5 },
		{ 5, 5 },   { 6, 10 },	   { 11, 20 },	   { 20, 20 },
		{ 21, 50 }, { 999, 1000 }, { 1001, 2000 }, { 123456, 200000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(svg_axis_end(cases[i][0]), cases[i][1]);
	assert_true(svg_axis_end(UINT64_MAX) >= 1000);
}

static void test_shade(void **state)
{
	(void)state;
	assert_int_equal(svg_shade(1, 1, 5), 5);
	assert_int_equal(svg_shade(100, 100, 5), 5);
	assert_int_equal(svg_shade(25, 100, 5), 4);
	assert_int_equal(svg_shade(1, 100, 5), 2);
	assert_int_equal(svg_shade(1, 100000, 5), 1);
	assert_int_equal(svg_shade(1, UINT64_MAX, 5), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_spread_odd),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_text_fits),
		cmocka_unit_test(test_axis),
		cmocka_unit_test(test_shade),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
