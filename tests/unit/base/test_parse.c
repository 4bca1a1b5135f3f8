/* Numbers, sizes and durations, at their limits and beyond. */
#include "base/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

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

static void test_parse_size(void **state)
{
	static const struct {
		int line;
		const char *text;
		bool good;
		uint64_t bytes;
	} cases[] = {
		{ __LINE__, "0B", true, 0 },
		{ __LINE__, "1B", true, 1 },
		{ __LINE__, "64KiB", true, 65536 },
		{ __LINE__, "0064KiB", true, 65536 },
		{ __LINE__, "16MiB", true, 16777216 },
		{ __LINE__, "1024GiB", true, UINT64_C(1) << 40 },
		{ __LINE__, "18446744073709551615B", true, UINT64_MAX },
		{ __LINE__, "18446744073709551616B", false, 0 },
		{ __LINE__, "17179869183GiB", true,
		  UINT64_C(17179869183) << 30 },
		{ __LINE__, "17179869184GiB", false, 0 },
		{ __LINE__, "99999999999999999999999999999999B", false, 0 },
		{ __LINE__, "", false, 0 },
		{ __LINE__, "64", false, 0 },
		{ __LINE__, "B", false, 0 },
		{ __LINE__, "64K", false, 0 },
		{ __LINE__, "64KB", false, 0 },
		{ __LINE__, "64kib", false, 0 },
		{ __LINE__, "64 KiB", false, 0 },
		{ __LINE__, "64KiB ", false, 0 },
		{ __LINE__, " 64KiB", false, 0 },
		{ __LINE__, "1.5KiB", false, 0 },
		{ __LINE__, "-1KiB", false, 0 },
		{ __LINE__, "+1KiB", false, 0 },
		{ __LINE__, "0x10KiB", false, 0 },
		{ __LINE__, "64KiBs", false, 0 },
		{ __LINE__, "1TiB", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 42;
		bool good = parse_size(cases[i].text, &bytes);

		if (good != cases[i].good ||
		    bytes != (good ? cases[i].bytes : 42))
			fail_msg("line %d: %d, %ju", cases[i].line, good,
				 (uintmax_t)bytes);
	}
}

static void test_parse_duration(void **state)
{
	static const struct {
		int line;
		const char *text;
		bool good;
		int64_t us;
	} cases[] = {
		{ __LINE__, "0s", true, 0 },
		{ __LINE__, "1ms", true, 1000 },
		{ __LINE__, "200ms", true, 200000 },
		{ __LINE__, "1.5s", true, 1500000 },
		{ __LINE__, "0.001ms", true, 1 },
		{ __LINE__, "0.000000001s", true, 0 },
		{ __LINE__, "1.000000s", true, 1000000 },
		{ __LINE__, "10min", true, 600000000 },
		{ __LINE__, "0.5min", true, 30000000 },
		{ __LINE__, "168h", true, INT64_C(604800000000) },
		{ __LINE__, "0.999999999h", true, INT64_C(3599999996) },
		{ __LINE__, "2562047787h", true,
		  INT64_C(2562047787) * 3600 * 1000000 },
		{ __LINE__, "2562047788h", false, 0 },
		{ __LINE__, "9223372036854775807ms", false, 0 },
		{ __LINE__, "99999999999999999999999999999999s", false, 0 },
		{ __LINE__, "", false, 0 },
		{ __LINE__, "s", false, 0 },
		{ __LINE__, "3", false, 0 },
		{ __LINE__, "3 s", false, 0 },
		{ __LINE__, "3S", false, 0 },
		{ __LINE__, "3sec", false, 0 },
		{ __LINE__, "3m", false, 0 },
		{ __LINE__, "3us", false, 0 },
		{ __LINE__, "3d", false, 0 },
		{ __LINE__, ".5s", false, 0 },
		{ __LINE__, "5.s", false, 0 },
		{ __LINE__, "1.2.3s", false, 0 },
		{ __LINE__, "1,5s", false, 0 },
		{ __LINE__, "-1s", false, 0 },
		{ __LINE__, "1e3s", false, 0 },
		{ __LINE__, "0.0000000001s", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t us = 42;
		bool good = parse_duration(cases[i].text, &us);

		if (good != cases[i].good || us != (good ? cases[i].us : 42))
			fail_msg("line %d: %d, %jd", cases[i].line, good,
				 (intmax_t)us);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_parse_duration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
