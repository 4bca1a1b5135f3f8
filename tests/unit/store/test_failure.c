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

/* What passes is tried again as it is, but not for ever. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data_errors),
		cmocka_unit_test(test_server_errors),
		cmocka_unit_test(test_transient_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
