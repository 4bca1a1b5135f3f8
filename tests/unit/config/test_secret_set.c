/* Sets of secrets: their order, and finding a name. */
#include "config/secret_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

static void test_order(void **state)
{
	static const char *const names[] = {
		"m", "b", "z", "b", "a", "m", "b"
	};
	static const char sorted[] = "abbbmmz";
	struct secret_set *set = secret_set_new();

	(void)state;
	assert_int_equal(set->refcount, 1);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char key = (char)('0' + i);

		secret_set_add(set, names[i], &key, 1);
	}
	assert_int_equal(set->count, strlen(sorted));
	for (size_t i = 0; i < set->count; i++)
		assert_int_equal(set->list[i].name[0], sorted[i]);
	secret_set_free(set);
}

static void test_find(void **state)
{
	static const struct {
		const char *name;
		size_t count;
	} cases[] = {
		{ "a", 1 }, { "b", 3 }, { "m", 2 },  { "z", 1 },
		{ "", 0 },  { "c", 0 }, { "zz", 0 }, { "A", 0 },
	};
	static const char *const names[] = {
		"m", "b", "z", "b", "a", "m", "b"
	};
	struct secret_set *set = secret_set_new();
	size_t count = 42;

	(void)state;
	assert_null(secret_set_find(set, "a", &count));
	assert_int_equal(count, 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		secret_set_add(set, names[i], "k", 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct secret *s =
			secret_set_find(set, cases[i].name, &count);

		assert_int_equal(count, cases[i].count);
		assert_int_equal(s != NULL, count > 0);
		for (size_t k = 0; k < count; k++)
			assert_string_equal(s[k].name, cases[i].name);
		if (s)
			assert_true(s == set->list ||
				    strcmp(s[-1].name, s->name) < 0);
	}
	secret_set_free(set);
}

static void test_equal(void **state)
{
	struct secret_set *a = secret_set_new(), *b = secret_set_new();

	(void)state;
	assert_true(secret_set_equal(a, b));
	secret_set_add(a, "x", "1", 1);
	assert_false(secret_set_equal(a, b));
	secret_set_add(b, "x", "2", 1);
	assert_false(secret_set_equal(a, b));
	secret_set_add(a, "y", "1", 1);
	secret_set_add(b, "x", "1", 1);
	assert_false(secret_set_equal(a, b));
	secret_set_free(b);
	b = secret_set_new();
	secret_set_add(b, "y", "1", 1);
	secret_set_add(b, "x", "1", 1);
	assert_true(secret_set_equal(a, b));
	secret_set_free(a);
	secret_set_free(b);
}

/* The prepared key is that of the secret. */
static void test_hmac(void **state)
{
	struct secret_set *set = secret_set_new();
	unsigned char one[HMAC_BYTES], other[HMAC_BYTES];

	(void)state;
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s%d", i);
		secret_set_add(set, name, name, strlen(name));
	}
	for (size_t i = 0; i < set->count; i++) {
		const struct secret *s = &set->list[i];

		hmac_by_key(s->hmac, "body", 4, one);
		hmac_sha256(s->key, s->length, "body", 4, other);
		assert_true(hmac_equal(one, other));
	}
	secret_set_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_hmac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
