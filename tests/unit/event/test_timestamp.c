/* Times: which forms are read, and as which moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/macros.h"
#include "event/timestamp.h"

struct moment {
	int line;
	const char *text;
	int64_t us; /* -1: refused */
};

static const struct moment moments[] = {
	{ __LINE__, "1970-01-01T00:00:00Z", 0 },
	{ __LINE__, "1970-01-01t00:00:00z", 0 },
	{ __LINE__, "1970-01-01T00:00:00.000001Z", 1 },
	{ __LINE__, "1970-01-01T00:00:00.1Z", 100000 },
	{ __LINE__, "1970-01-01T00:00:00.1234567899Z", 123456 },
	{ __LINE__, "1970-01-01T01:00:00+01:00", 0 },
	{ __LINE__, "1969-12-31T19:30:00-04:30", 0 },
	{ __LINE__, "1970-01-01T00:00:00-00:00", 0 },
	{ __LINE__, "2026-02-05T10:30:00.000Z", INT64_C(1770287400000000) },
	{ __LINE__, "2024-02-29T00:00:00Z", INT64_C(1709164800000000) },
	{ __LINE__, "2000-02-29T00:00:00Z", INT64_C(951782400000000) },
	{ __LINE__, "2016-12-31T23:59:60Z", INT64_C(1483228800000000) },
	{ __LINE__, "9999-12-31T23:59:59.999999Z",
	  INT64_C(253402300799999999) },
	/* Forms that libraries write in place of RFC 3339. */
	{ __LINE__, "1970-01-01 00:00:01Z", 1000000 },
	{ __LINE__, "1970-01-01 00:00:01+00:00", 1000000 },
	{ __LINE__, "1970-01-01T00:01Z", 60000000 },
	{ __LINE__, "1970-01-01t00:01+00", 60000000 },
	{ __LINE__, "1970-01-01T00:00:00,5Z", 500000 },
	{ __LINE__, "1970-01-01T00:00:00,0000019Z", 1 },
	{ __LINE__, "1970-01-01T01:00:00+0100", 0 },
	{ __LINE__, "1970-01-01T14:00:00+14", 0 },
	{ __LINE__, "1970-01-01T01:00-0000", INT64_C(3600000000) },
	{ __LINE__, "1969-12-31T24:00:00Z", 0 },
	{ __LINE__, "1969-12-31T24:00Z", 0 },
	{ __LINE__, "1969-12-31T24:00:00.000+00:00", 0 },
	{ __LINE__, "1970-01-01T00:00:00.999999999999999999999Z", 999999 },
	{ __LINE__, "1970-01-01T00:59:60.25+01:00", 250000 },
	{ __LINE__, "1970-01-01 00:00:01 UTC", 1000000 }, /* Ruby */
	{ __LINE__, "1970-01-01 01:00:01 +0100", 1000000 },
	{ __LINE__, "1970-01-01 00:00:01 +0000 UTC", 1000000 }, /* Go */
	{ __LINE__, "1970-01-01 01:00:00.25 +0100 CET", 250000 },
	{ __LINE__, "1970-01-01T00:00:01 Z", 1000000 },
	{ __LINE__, "1970-01-01T00:00:01 +00:00", 1000000 },
	{ __LINE__, "1970-01-01T00:01 UTC", 60000000 },
	{ __LINE__, "1970-01-01T00:00:01UTC", 1000000 },
	{ __LINE__, "1970-01-01 00:00:01 GMT", 1000000 },
	{ __LINE__, "1970-01-01T00:00:01Z[UTC]", 1000000 }, /* Java */
	{ __LINE__, "1970-01-01T01:00:01+01:00[Europe/Paris]", 1000000 },

	{ __LINE__, "", -1 },
	{ __LINE__, "2026-02-05T24:00:01Z", -1 },
	{ __LINE__, "2026-02-05T24:01Z", -1 },
	{ __LINE__, "2026-02-05T24:00:00.1Z", -1 },
	{ __LINE__, "2026-02-05T25:00Z", -1 },
	{ __LINE__, "2026-02-05T10Z", -1 },
	{ __LINE__, "2026-02-05T10:30", -1 },
	{ __LINE__, "2026-02-05 10:30:00", -1 },
	{ __LINE__, "2026-02-05T10:30:Z", -1 },
	{ __LINE__, "2026-02-05T10:30:5Z", -1 },
	{ __LINE__, "2026-02-05T10:30.5Z", -1 },
	{ __LINE__, "2026-02-05T10:30:00,Z", -1 },
	{ __LINE__, "2026-02-05T10:30:00.5,5Z", -1 },
	{ __LINE__, "2026-02-05T10:30:00  +01:00", -1 },
	{ __LINE__, "2026-02-05T10:30:00 ", -1 },
	{ __LINE__, "2026-02-05T10:30:00 CET", -1 },
	{ __LINE__, "2026-02-05T10:30:00 EST", -1 },
	{ __LINE__, "2026-02-05T10:30:00 UTC+1", -1 },
	{ __LINE__, "2026-02-05T10:30:00 utc", -1 },
	{ __LINE__, "2026-02-05T10:30:00Z UTC", -1 },
	{ __LINE__, "2026-02-05T10:30:00+0100CET", -1 },
	{ __LINE__, "2026-02-05T10:30:00+0100 ", -1 },
	{ __LINE__, "2026-02-05T10:30:00+0100 CET ", -1 },
	{ __LINE__, "2026-02-05T10:30:00+0100 cet", -1 },
	{ __LINE__, "2026-02-05T10:30:00+0100 m=+0.1", -1 },
	{ __LINE__, "2026-02-05T10:30:00[UTC]", -1 },
	{ __LINE__, "2026-02-05T10:30:00Z[]", -1 },
	{ __LINE__, "2026-02-05T10:30:00Z[UTC", -1 },
	{ __LINE__, "2026-02-05T10:30:00Z[UTC]]", -1 },
	{ __LINE__, "2026-02-05T10:30:00Z[UTC] ", -1 },
	{ __LINE__, "2026-02-05T10:30:00+1", -1 },
	{ __LINE__, "2026-02-05T10:30:00+010", -1 },
	{ __LINE__, "2026-02-05T10:30:00+01:0", -1 },
	{ __LINE__, "2026-02-05T10:30:00+01:00:00", -1 },
	{ __LINE__, "2026-02-05T10:30:00+24", -1 },
	{ __LINE__, "2026-02-05T10:30:00+0060", -1 },
	{ __LINE__, "20260205T103000Z", -1 },
	{ __LINE__, "2026-02-05", -1 },
	{ __LINE__, "2026-02-05T10:30:00", -1 },
	{ __LINE__, "2026-02-05T10:30:00.Z", -1 },
	{ __LINE__, "2026-02-05T10:60:00Z", -1 },
	{ __LINE__, "2026-02-05T10:30:61Z", -1 },
	{ __LINE__, "2026-02-29T00:00:00Z", -1 },
	{ __LINE__, "1900-02-29T00:00:00Z", -1 },
	{ __LINE__, "2026-00-05T00:00:00Z", -1 },
	{ __LINE__, "2026-13-05T00:00:00Z", -1 },
	{ __LINE__, "2026-04-31T00:00:00Z", -1 },
	{ __LINE__, "2026-04-00T00:00:00Z", -1 },
	{ __LINE__, "0000-01-01T00:00:00Z", -1 },
	{ __LINE__, "10000-01-01T00:00:00Z", -1 },
	{ __LINE__, "-2026-01-01T00:00:00Z", -1 },
	{ __LINE__, "2026-1-1T00:00:00Z", -1 },
	{ __LINE__, "2026-02-05T10:30:00+24:00", -1 },
	{ __LINE__, "2026-02-05T10:30:00+01:60", -1 },
	{ __LINE__, "2026-02-05T10:30:00Z ", -1 },
	{ __LINE__, " 2026-02-05T10:30:00Z", -1 },
};

static void test_timestamps(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
		const struct moment *m = &moments[i];
		int64_t us = -1;

		print_message("line %d: %s\n", m->line, m->text);
		assert_int_equal(timestamp_parse(m->text, &us), m->us >= 0);
		assert_int_equal(us, m->us);
	}
}

/* In years that are easy to get wrong, each day follows the one before it. */
static void test_days_follow_each_other(void **state)
{
	static const int years[] = { 1,	   4,	 100,  400,  1969, 1970,
				     1999, 2000, 2001, 2100, 2400, 9998 };
	static const int64_t day = INT64_C(86400000000);

	(void)state;
	for (size_t y = 0; y < ARRAY_SIZE(years); y++) {
		int64_t before = INT64_MIN, us;
		int days = 0;
		char text[64];

		for (int month = 1; month <= 12; month++) {
			for (int d = 1; d <= 31; d++) {
				snprintf(text, sizeof(text),
					 "%04d-%02d-%02dT00:00:00Z", years[y],
					 month, d);
				if (!timestamp_parse(text, &us))
					continue;
				if (before != INT64_MIN)
					assert_int_equal(us - before, day);
				before = us;
				days++;
			}
		}
		snprintf(text, sizeof(text), "%04d-01-01T00:00:00Z",
			 years[y] + 1);
		assert_true(timestamp_parse(text, &us));
		assert_int_equal(us - before, day);
		assert_true(days == 365 || days == 366);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timestamps),
		cmocka_unit_test(test_days_follow_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
