/*
 * The vectors that we give to others: their signatures against hmac.c,
 * their texts against README.md's format.
 */
#include "cli/probe/vectors.h"

#include "base/buf.h"
#include "base/hmac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct vectors load(const char *folder)
{
	struct buf errors = { 0 };
	struct vectors all;
	bool ok = vectors_load(&all, folder, &errors);

	if (!ok)
		fail_msg("%s", errors.data);
	buf_free(&errors);
	return all;
}

static void test_signatures(void **state)
{
	struct vectors all = load(VECTORS);

	(void)state;
	assert_true(all.count > 40);
	for (size_t i = 0; i < all.count; i++) {
		const struct vector *v = &all.list[i];
		unsigned char digest[HMAC_BYTES];
		char hex[HMAC_HEX + 1];

		hmac_sha256(v->secret, strlen(v->secret), v->body.data,
			    v->body.length, digest);
		hmac_to_hex(digest, hex);
		if (strcmp(hex, v->signature) != 0)
			fail_msg("%s/%s is signed %s", v->group, v->name, hex);
	}
	vectors_free(&all);
}

/*
 * Checks that X-Signature in the file is what its word makes from the
 * signature.
 */
static void test_ways_of_signing(void **state)
{
	struct vectors all = load(VECTORS);
	size_t right = 0;

	(void)state;
	for (size_t i = 0; i < all.count; i++) {
		const struct vector *v = &all.list[i];
		struct buf value = { 0 };
		bool sent = vector_sign(v, v->secret, strlen(v->secret),
					&v->body, &value);

		bool is_right = strcmp(v->signing, "right") == 0;

		assert_string_equal(sent ? value.data : "absent",
				    v->sent ? v->sent : "absent");
		assert_int_equal(is_right,
				 sent && strcmp(value.data, v->signature) == 0);
		right += is_right;
		/* Checks that no vector demands that a forgery is accepted. */
		assert_true(is_right || !vector_accepts(v, 200));
		buf_free(&value);
	}
	assert_true(right > 20 && right < all.count);
	vectors_free(&all);
}

static void test_run(void **state)
{
	struct vectors all = load(VECTORS);
	size_t replaced = 0;

	(void)state;
	for (size_t i = 0; i < all.count; i++) {
		const struct vector *v = &all.list[i];
		struct buf body = { 0 };

		vector_body(v, "0123456789ab", &body);
		assert_int_equal(body.length, v->body.length);
		assert_null(memmem(body.data, body.length, "task_0000000", 12));
		replaced += memmem(body.data, body.length, "task_0123456789ab_",
				   18) != NULL;
		buf_free(&body);
	}
	assert_true(replaced > 35);
	vectors_free(&all);
}

static void test_answers(void **state)
{
	struct vectors all = load(VECTORS);
	const struct vector *v = all.list;
	struct buf text = { 0 };

	(void)state;
	assert_string_equal(v->name, "documented");
	assert_true(vector_accepts(v, 200));
	assert_false(vector_accepts(v, 20));
	assert_false(vector_accepts(v, 2000));
	assert_false(vector_accepts(v, 401));
	vector_answers(v, &text);
	assert_string_equal(text.data, "200");
	buf_free(&text);
	while (strcmp(v->name, "200-kib-signed") != 0)
		v++;
	assert_true(vector_accepts(v, 200));
	assert_true(vector_accepts(v, 413));
	assert_false(vector_accepts(v, 500));
	vector_answers(v, &text);
	assert_string_equal(text.data, "200 or 4xx");
	assert_int_equal(v->body.length > 200 * 1024, 1);
	buf_free(&text);
	vectors_free(&all);
}

static void test_no_folder(void **state)
{
	struct buf errors = { 0 };
	struct vectors all;

	(void)state;
	assert_false(vectors_load(&all, VECTORS "/none", &errors));
	assert_non_null(strstr(errors.data, "/none: No such file"));
	vectors_free(&all);
	buf_free(&errors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_ways_of_signing),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_no_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
