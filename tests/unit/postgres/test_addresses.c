/* The order of the addresses, without a name server. */
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "postgres/addresses.h"

static const struct row {
	int line;
	const char *text; /* a conninfo */
	const char *addresses; /* host/hostaddr/port; - is libpq's default */
	const char *failures; /* a part of them */
} rows[] = {
	{ __LINE__, "host=/a,/b port=1,2", "/a - 1;/b - 2;", "" },
	{ __LINE__, "host=/a,/b port=3", "/a - 3;/b - 3;", "" },
	{ __LINE__, "host=127.0.0.1,::1 port=1",
	  "127.0.0.1 127.0.0.1 1;::1 ::1 1;", "" },
	{ __LINE__, "hostaddr=127.0.0.1,127.0.0.2 port=1",
	  "- 127.0.0.1 1;- 127.0.0.2 1;", "" },
	{ __LINE__, "host=a,b hostaddr=127.0.0.1,127.0.0.2 port=1",
	  "a 127.0.0.1 1;b 127.0.0.2 1;", "" },
	{ __LINE__, "host=x..y,/a port=1", "/a - 1;",
	  "could not translate host name \"x..y\"" },
};

static void put(struct buf *to, const struct address *a)
{
	buf_printf(to, "%s %s %s;", a->host ? a->host : "-",
		   a->hostaddr ? a->hostaddr : "-", a->port ? a->port : "-");
}

static void test_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf all = { 0 }, failures = { 0 };
		char fault[CONNINFO_FAULT_SIZE];
		struct conninfo info;
		struct addresses list = { .info = &info };
		struct address a, same;

		print_message("line %d: %s\n", rows[i].line, rows[i].text);
		assert_true(conninfo_read(rows[i].text, &info, fault));
		buf_add(&failures, "", 0);
		while (addresses_left(&list) &&
		       addresses_next(&list, &a, &failures)) {
			put(&all, &a);
			same = a;
			assert_true(address_equal(&a, &same));
			same.port = NULL;
			assert_false(address_equal(&a, &same));
			address_free(&a);
		}
		assert_false(addresses_next(&list, &a, &failures));
		assert_string_equal(all.data, rows[i].addresses);
		assert_non_null(strstr(failures.data, rows[i].failures));
		addresses_end(&list);
		conninfo_free(&info);
		buf_free(&all);
		buf_free(&failures);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
