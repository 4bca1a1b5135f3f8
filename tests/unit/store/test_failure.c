/* The choice after a failed transaction, by SQLSTATE, size and attempts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/macros.h"
#include "store/failure.h"

/* Only an event that is alone is at fault, and only if it is unreadable. */
static void test_data_errors(void **state)
{
	static const char *const data[] = { "22P02", "22021", "22008", "22000",
					    "54001" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++) {
		const char *s = data[i];

		assert_int_equal(failure_choose(s, 2, 1, false), FAILURE_SPLIT);
		assert_int_equal(failure_choose(s, 2, 9, false), FAILURE_SPLIT);
		assert_int_equal(failure_choose(s, 1, 1, true),
				 FAILURE_QUARANTINE);
		assert_int_equal(failure_choose(s, 1, 1, false),
				 FAILURE_REFUSE);
	}
}

/* No other error is an event's: neither the known ones nor a new class. */
static void test_server_errors(void **state)
{
	static const char *const server[] = {
		"XX000", "XX001", "XX002", "P0001", "23502", "23505", "23514",
		"54000", "54011", "F0000", "0A000", "38000", "39000", "HV000",
		"72000", "57014", "53200", "58030", "42501", "42883", "3F000",
		"3D000", "28000", "2D000", "99999"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(server); i++) {
		assert_int_equal(failure_choose(server[i], 256, 1, false),
				 FAILURE_SPLIT);
		assert_int_equal(failure_choose(server[i], 1, 1, false),
				 FAILURE_REFUSE);
	}
}

/* An error that passes is retried with the same batch, but not for ever. */
static void test_transient_errors(void **state)
{
	static const char *const transient[] = { "",	  "08006", "25006",
						 "40001", "40P01", "53100",
						 "53300", "55P03", "57P01" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(transient); i++) {
		const char *s = transient[i];

		assert_int_equal(failure_choose(s, 64, 1, false),
				 FAILURE_RETRY);
		assert_int_equal(failure_choose(s, 64, 2, false),
				 FAILURE_SPLIT);
		assert_int_equal(failure_choose(s, 1, 2, false), FAILURE_RETRY);
		assert_int_equal(failure_choose(s, 1, 3, false),
				 FAILURE_REFUSE);
	}
}

/* What an error says about the database, whatever it says about events. */
static void test_round_trips(void **state)
{
	static const struct {
		const char *sqlstate;
		enum round_trip result;
	} cases[] = {
		{ "22P02", ROUND_TRIP_OK },
		{ "54001", ROUND_TRIP_OK },
		{ "40001", ROUND_TRIP_OK },
		{ "40P01", ROUND_TRIP_OK },
		{ "55P03", ROUND_TRIP_OK },
		{ "", ROUND_TRIP_FAILED },
		{ "57P01", ROUND_TRIP_FAILED },
		{ "53300", ROUND_TRIP_FAILED },
		{ "08006", ROUND_TRIP_FAILED },
		{ "42501", ROUND_TRIP_REFUSED },
		{ "3F000", ROUND_TRIP_REFUSED },
		{ "P0001", ROUND_TRIP_REFUSED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(failure_round_trip(cases[i].sqlstate),
				 cases[i].result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data_errors),
		cmocka_unit_test(test_server_errors),
		cmocka_unit_test(test_transient_errors),
		cmocka_unit_test(test_round_trips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
