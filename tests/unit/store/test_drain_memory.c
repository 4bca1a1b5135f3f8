/* The drainer's memory: which files it knows, and when it forgets them. */
#include "store/drain_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fake_secrets.h"

/* Sets the i-th name of a file; their order is none of numbers. */
static void set_name(char name[HMAC_HEX + 1], unsigned i)
{
	snprintf(name, HMAC_HEX + 1, "%08x%056x", i * 2654435761U, i);
}

/* A file is known from the end of the drain that added it. */
static void test_known_files(void **state)
{
	enum { FILES = 1000 };
	struct secrets s = { .set = secret_set_new() };
	struct drain_memory m = { 0 };
	char name[HMAC_HEX + 1];

	(void)state;
	assert_true(drain_memory_renew(&m, &s));
	for (unsigned drain = 0; drain < 2; drain++) {
		for (unsigned i = 0; i < FILES / 2; i++) {
			set_name(name, drain * FILES / 2 + i);
			drain_memory_add(&m, name);
			assert_false(drain_memory_knows(&m, name));
		}
		assert_int_equal(drain_memory_settle(&m), FILES / 2);
		assert_int_equal(drain_memory_settle(&m), 0);
	}
	for (unsigned i = 0; i < FILES; i++) {
		set_name(name, i);
		assert_true(drain_memory_knows(&m, name));
		set_name(name, FILES + i);
		assert_false(drain_memory_knows(&m, name));
	}
	/* Names of another form are in the folder, too. */
	assert_false(drain_memory_knows(&m, ""));
	assert_false(drain_memory_knows(&m, "README"));
	drain_memory_free(&m, &s);
	assert_int_equal(s.held, 0);
	secret_set_free(s.set);
}

/* Other secrets may fit, so the memory starts again. */
static void test_other_secrets(void **state)
{
	struct secret_set *first = secret_set_new();
	struct secrets s = { .set = first };
	struct drain_memory m = { 0 };
	char name[HMAC_HEX + 1];

	(void)state;
	set_name(name, 1);
	assert_true(drain_memory_renew(&m, &s));
	drain_memory_add(&m, name);
	assert_int_equal(drain_memory_settle(&m), 1);
	m.failed_tried = 7;

	/* The drain says whether files of failed/ are left to try. */
	m.failed_left = false;
	assert_false(drain_memory_renew(&m, &s));
	m.failed_left = true;
	assert_true(drain_memory_renew(&m, &s));
	assert_int_equal(s.held, 1);
	assert_true(drain_memory_knows(&m, name));
	assert_int_equal(m.failed_tried, 7);

	m.failed_left = false;
	s.set = secret_set_new();
	assert_true(drain_memory_renew(&m, &s));
	assert_int_equal(s.held, 1);
	assert_false(drain_memory_knows(&m, name));
	assert_int_equal(m.failed_tried, 0);
	drain_memory_free(&m, &s);
	assert_int_equal(s.held, 0);
	secret_set_free(first);
	secret_set_free(s.set);
}

/* A drain of the command line has no memory. */
static void test_no_memory(void **state)
{
	struct secrets s = { 0 };
	char name[HMAC_HEX + 1];

	(void)state;
	set_name(name, 1);
	assert_true(drain_memory_renew(NULL, &s));
	drain_memory_add(NULL, name);
	assert_false(drain_memory_knows(NULL, name));
	assert_int_equal(drain_memory_settle(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_files),
		cmocka_unit_test(test_other_secrets),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
