/* Statuses and times as users type them, and words that are nearly right. */
#include "cli/statuses.h"

#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct verb verb = { .name = "test", .usage = "" };

static void assert_statuses(const char *typed, const char *expected)
{
	char *list = cli_statuses(&verb, typed);

	assert_string_equal(list, expected);
	free(list);
}

static void test_statuses(void **state)
{
	(void)state;
	assert_null(cli_statuses(&verb, NULL));
	assert_statuses("", "");
	assert_statuses(" , ,", "");
	assert_statuses("SUBMITTED", "SUBMITTED");
	assert_statuses(" submitted ,\tManual_Review,",
			"SUBMITTED,MANUAL_REVIEW");
	/* Unknown ones stay as they are, spaces inside included. */
	assert_statuses(" On hold , x", "On hold,x");
}

static void assert_time_kept(const char *typed)
{
	char *time = cli_time(typed);

	assert_string_equal(time, typed);
	free(time);
}

static void test_times(void **state)
{
	static const char *const kept[] = { "yesterday", "2026-03-01 12:00",
					    "",		 "d",
					    "-1d",	 "1.5d",
					    "7 d",	 "99999999999d" };
	static const char *const ago[] = { "0d",   "7d",    "90min",
					   "1.5h", "500ms", "36500d" };

	(void)state;
	assert_null(cli_time(NULL));
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		assert_time_kept(kept[i]);
	for (size_t i = 0; i < ARRAY_SIZE(ago); i++) {
		char *time = cli_time(ago[i]);

		assert_int_equal(strlen(time),
				 strlen("2026-03-01T12:00:00.000Z"));
		assert_int_equal(time[10], 'T');
		free(time);
	}
}

static void test_likeness(void **state)
{
	(void)state;
	assert_true(cli_is_like("evnets", "events"));
	assert_true(cli_is_like("event", "events"));
	assert_true(cli_is_like("quar", "quarantine"));
	assert_true(cli_is_like("lsit", "list"));
	assert_true(cli_is_like("", "ab") == false);
	assert_false(cli_is_like("frobnicate", "events"));
	assert_false(cli_is_like("qu", "quarantine"));
	assert_false(
		cli_is_like("x", "this-name-is-longer-than-all-names-are"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_likeness),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
