/* The advice on faults of the database: which words of a message lead to which fix. */
#include "cli/remedies.h"

#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct row {
	int line;
	const char *fault;
	const char *fix; /* a part of it */
};

static void assert_fixes(const struct row *rows, size_t count,
			 const char *(*remedy)(const char *))
{
	for (size_t i = 0; i < count; i++) {
		print_message("line %d: %s\n", rows[i].line, rows[i].fault);
		assert_non_null(strstr(remedy(rows[i].fault), rows[i].fix));
	}
}

static void test_connections(void **state)
{
	static const struct row rows[] = {
		{ __LINE__, "FATAL:  Peer authentication failed for user \"x\"",
		  "name of the system user" },
		{ __LINE__,
		  "FATAL:  password authentication failed for user \"x\"",
		  "password=" },
		{ __LINE__, "fe_sendauth: no password supplied", ".pgpass" },
		{ __LINE__, "FATAL:  role \"x\" does not exist", "createuser" },
		{ __LINE__, "FATAL:  role \"x\" is not permitted to log in",
		  "LOGIN" },
		{ __LINE__, "HUMCLI_WEBHOOK_DATABASE: no parameter hots",
		  "key=value" },
		{ __LINE__, "FATAL:  database \"x\" does not exist",
		  "dbname=" },
		{ __LINE__,
		  "FATAL:  no pg_hba.conf entry for host \"::1\", user \"x\", "
		  "database \"y\", no encryption",
		  "pg_hba.conf" },
		{ __LINE__, "server at \"x\", port 1: no answer in time",
		  "firewall" },
		{ __LINE__, "the server is read-only: it is a standby",
		  "primary's address" },
		{ __LINE__,
		  "the server is read-only: default_transaction_read_only is on",
		  "default_transaction_read_only = off" },
		{ __LINE__, "FATAL:  sorry, too many clients already",
		  "max_connections" },
		{ __LINE__, "another language", "does the server run" },
	};

	(void)state;
	assert_fixes(rows, ARRAY_SIZE(rows), remedy_for_connection);
}

static void test_statements(void **state)
{
	static const struct row rows[] = {
		{ __LINE__, "42501", "humcli_reader" },
		{ __LINE__, "42883", "humcli-webhook init" },
		{ __LINE__, "3F000", "humcli-webhook init" },
		{ __LINE__, "53100", "short of" },
		{ __LINE__, "XX001", "damaged page" },
	};

	(void)state;
	assert_fixes(rows, ARRAY_SIZE(rows), remedy_for_sqlstate);
	assert_null(remedy_for_sqlstate("P0001"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_statements),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
