/* Errors of PostgreSQL: each judgement on each kind of SQLSTATE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sysexits.h>

#include <cmocka.h>

#include "base/macros.h"
#include "postgres/sqlstate.h"

static const struct row {
	int line;
	const char *sqlstate;
	bool data; /* sqlstate_is_data_error() */
	bool setup; /* sqlstate_is_setup_error() */
	bool reconnect; /* sqlstate_needs_new_connection() */
	int exit_code;
} rows[] = {
	/* The connection broke. */
	{ __LINE__, "", false, false, true, EX_OK },
	{ __LINE__, "08006", false, false, true, EX_OK },
	/* The database is at fault: a sequence, a trigger, its encoding. */
	{ __LINE__, "2200H", false, false, false, EX_DATAERR },
	{ __LINE__, "27000", false, false, false, EX_OK },
	{ __LINE__, "22P05", false, false, false, EX_DATAERR },
	/* Only the data can cause these. */
	{ __LINE__, "22P02", true, false, false, EX_DATAERR },
	{ __LINE__, "54001", true, false, false, EX_OK },
	/* read_only_sql_transaction: after a failover. */
	{ __LINE__, "25006", false, false, true, EX_OK },
	/* The set-up. */
	{ __LINE__, "28P01", false, true, false, EX_OK },
	{ __LINE__, "3D000", false, true, false, EX_OK },
	{ __LINE__, "3F000", false, true, false, EX_CONFIG },
	{ __LINE__, "42501", false, true, false, EX_NOPERM },
	{ __LINE__, "42883", false, true, false, EX_CONFIG },
	/* The server's resources and its administrator. */
	{ __LINE__, "40001", false, false, false, EX_OK },
	{ __LINE__, "40P01", false, false, false, EX_OK },
	{ __LINE__, "53100", false, false, false, EX_OK },
	{ __LINE__, "53200", false, false, false, EX_OK },
	{ __LINE__, "53300", false, false, false, EX_OK },
	{ __LINE__, "55P03", false, false, false, EX_OK },
	{ __LINE__, "57014", false, false, false, EX_OK },
	{ __LINE__, "57P01", false, false, true, EX_OK },
	{ __LINE__, "58030", false, false, true, EX_OK },
	/* Those of our SQL functions. */
	{ __LINE__, "55000", false, false, false, EX_DATAERR },
	{ __LINE__, "P0002", false, false, false, EX_DATAERR },
};

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];

		print_message("line %d: %s\n", r->line, r->sqlstate);
		assert_int_equal(sqlstate_is_data_error(r->sqlstate), r->data);
		assert_int_equal(sqlstate_is_setup_error(r->sqlstate),
				 r->setup);
		assert_int_equal(sqlstate_needs_new_connection(r->sqlstate),
				 r->reconnect);
		assert_int_equal(sqlstate_exit_code(r->sqlstate), r->exit_code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
