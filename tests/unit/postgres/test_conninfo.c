/* Connection strings: which are refused, and what is read from the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "postgres/conninfo.h"

static const struct row {
	int line;
	const char *text;
	const char *fault; /* a part of the fault; NULL: none */
} rows[] = {
	{ __LINE__, "", NULL },
	{ __LINE__, "host=a,b port=1,2", NULL },
	{ __LINE__, "postgresql://u:p@h/d?sslmode=require", NULL },
	{ __LINE__, "postgresql://u:p?w@h/d", NULL },
	{ __LINE__, "postgresql://u:pw@h/d?schema=x", "no parameter schema" },
	{ __LINE__, "postgresql://u:pw@h/d?a=1&pgbouncer=true", "parameter a" },
	{ __LINE__, "host=h password=pw pool_size=1",
	  "no parameter pool_size" },
	{ __LINE__, "postgresql://u@h/d?pw=1&password=p@w", "can't be parsed" },
	{ __LINE__, "x pw", "can't be parsed" },
	{ __LINE__, "password='pw", "can't be parsed" },
	{ __LINE__, "host=h sslmode=sometimes", "sslmode" },
	{ __LINE__, "host=a,b port=1,2,3", "port" },
	{ __LINE__, "service=none-such", "none-such" },
	{ __LINE__, "host=a port=99999",
	  "port is not a number from 1 to 65535" },
	{ __LINE__, "host=a,b port=1,0", "port is not" },
	{ __LINE__, "host=a port=pw", "port is not" },
	{ __LINE__, "postgresql://h:70000/d", "port is not" },
	{ __LINE__, "host=a,b,c port='1,, 2 '", NULL },
	{ __LINE__, "port=''", NULL },
	{ __LINE__, "host=a tcp_user_timeout=pw", "tcp_user_timeout is not" },
	{ __LINE__, "keepalives=yes", "keepalives is not a number" },
	{ __LINE__, "connect_timeout=5s", "connect_timeout is not a number" },
	{ __LINE__, "connect_timeout=-1 keepalives_idle=0", NULL },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		char fault[CONNINFO_FAULT_SIZE] = "";

		print_message("line %d: %s\n", r->line, r->text);
		assert_int_equal(conninfo_check(r->text, fault), !r->fault);
		assert_non_null(strstr(fault, r->fault ? r->fault : ""));
		assert_null(strstr(fault, "pw"));
	}
}

static void test_hosts(void **state)
{
	static const struct {
		int line;
		const char *text;
		size_t hosts;
		int64_t timeout;
	} texts[] = {
		{ __LINE__, "", 1, 5000 },
		{ __LINE__, "host=a connect_timeout=20", 1, 20000 },
		{ __LINE__, "connect_timeout=0", 1, 5000 },
		{ __LINE__, "connect_timeout=-1", 1, 5000 },
		{ __LINE__, "host=a,b,c connect_timeout=1", 3, 2000 },
		{ __LINE__, "hostaddr=127.0.0.1,127.0.0.2", 2, 5000 },
		{ __LINE__, "host=a, connect_timeout=0", 2, 5000 },
		{ __LINE__, "postgresql://a:1,b:2/d", 2, 5000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char fault[CONNINFO_FAULT_SIZE];
		struct conninfo c;

		print_message("line %d: %s\n", texts[i].line, texts[i].text);
		assert_true(conninfo_read(texts[i].text, &c, fault));
		assert_int_equal(c.hosts, texts[i].hosts);
		assert_int_equal(c.connect_timeout, texts[i].timeout);
		conninfo_free(&c);
	}
}

static void check_item(const char *list, size_t n, const char *expected)
{
	char *item = conninfo_item(list, n);

	if (expected)
		assert_string_equal(item, expected);
	else
		assert_null(item);
	free(item);
}

static void test_items(void **state)
{
	(void)state;
	check_item(NULL, 0, NULL);
	check_item("", 0, NULL);
	check_item("5432", 0, "5432");
	check_item("5432", 2, "5432");
	check_item("a,,c", 0, "a");
	check_item("a,,c", 1, NULL);
	check_item("a,,c", 2, "c");
}

/* Unsets the machine's variables, because libpq reads them. */
static int clear_environment(void **state)
{
	static const char *const names[] = { "PGHOST", "PGHOSTADDR", "PGPORT",
					     "PGSERVICE", "PGCONNECT_TIMEOUT" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	return 0;
}

/* Whatever a value holds, libpq reads it as it was. */
static void test_add(void **state)
{
	static const char *const values[] = { "",   "a b",  "it's",
					      "\\", "\\'",  "a=b",
					      "'",  "\t\n", "x\\y'z" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		char fault[CONNINFO_FAULT_SIZE];
		struct buf text = { 0 };
		struct conninfo c;

		conninfo_add(&text, "application_name", "first");
		conninfo_add(&text, "user", NULL);
		conninfo_add(&text, "application_name", values[i]);
		assert_true(conninfo_read(text.data, &c, fault));
		assert_string_equal(conninfo_option(&c, "application_name"),
				    values[i]);
		conninfo_free(&c);
		buf_free(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_items),
	};

	return cmocka_run_group_tests(tests, clear_environment, NULL);
}
