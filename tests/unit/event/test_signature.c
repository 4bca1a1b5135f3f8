/* The signature check: which secret fits, which verdict, and what it costs. */
#include "event/signature.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "fake_secrets.h"

static const char body[] = "{\"status\":\"SUBMITTED\"}";
enum { LENGTH = sizeof(body) - 1 };

/* Returns an empty set of secrets, which close_secrets() frees. */
static struct secrets open_secrets(void)
{
	return (struct secrets){ .set = secret_set_new() };
}

static void add(struct secrets *s, const char *name, const char *key)
{
	secret_set_add(s->set, name, key, strlen(key));
}

static void close_secrets(struct secrets *s)
{
	assert_int_equal(s->held, 0);
	secret_set_free(s->set);
}

/* Signs the body, in lowercase digits. */
static void sign(const char *key, char hex[HMAC_HEX + 1])
{
	unsigned char digest[HMAC_BYTES];

	hmac_sha256(key, strlen(key), body, LENGTH, digest);
	hmac_to_hex(digest, hex);
}

static struct signature_input input_of(const char *value)
{
	return (struct signature_input){
		.value = value, .count = 1, .body = body, .length = LENGTH
	};
}

/* Every form of a header that is not one digest. */
static void test_forms(void **state)
{
	static const char digits[] = "0123456789abcdef0123456789abcdef"
				     "0123456789abcdef0123456789abcdef";
	static const char twice[] = "0123456789abcdef0123456789abcdef"
				    "0123456789abcdef0123456789abcdef, "
				    "0123456789abcdef0123456789abcdef"
				    "0123456789abcdef0123456789abcdef";
	static const struct {
		const char *value;
		size_t count;
		enum signature_verdict verdict;
	} cases[] = {
		{ NULL, 0, SIGNATURE_MISSING },
		{ "", 1, SIGNATURE_NOT_HEX },
		{ digits + 1, 1, SIGNATURE_NOT_HEX },
		{ " 123456789abcdef0123456789abcdef"
		  "0123456789abcdef0123456789abcdef",
		  1, SIGNATURE_NOT_HEX },
		{ "sha256=6789abcdef0123456789abcde"
		  "0123456789abcdef0123456789abcdef",
		  1, SIGNATURE_NOT_HEX },
		{ "g123456789abcdef0123456789abcdef"
		  "0123456789abcdef0123456789abcdef",
		  1, SIGNATURE_NOT_HEX },
		{ twice, 1, SIGNATURE_REPEATED },
		{ ",", 1, SIGNATURE_REPEATED },
		{ digits, 2, SIGNATURE_REPEATED },
		{ digits, 1, SIGNATURE_NO_MATCH },
	};
	struct secrets s = open_secrets();

	(void)state;
	add(&s, "main", "key");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct signature_input in = input_of(cases[i].value);
		char signature[HMAC_HEX + 1] = "unset", *name = signature;

		in.count = cases[i].count;
		if (signature_verify(&s, &in, signature, &name) !=
		    cases[i].verdict)
			fail_msg("case %zu", i);
		assert_null(name);
		assert_string_equal(signature, "unset");
		/* An invalid form costs no hash. */
		assert_int_equal(signature_cost(&s, &in) > 0,
				 cases[i].verdict == SIGNATURE_NO_MATCH);
	}
	close_secrets(&s);
}

/* The path's name limits which secrets are tried. */
static void test_names(void **state)
{
	static const struct {
		const char *signed_with;
		const char *secret; /* of the path */
		bool optional;
		enum signature_verdict verdict;
		const char *name;
	} cases[] = {
		{ "a", NULL, false, SIGNATURE_OK, "alpha" },
		{ "b", NULL, false, SIGNATURE_OK, "beta" },
		{ "x", NULL, false, SIGNATURE_NO_MATCH, NULL },
		{ "b", "beta", false, SIGNATURE_OK, "beta" },
		{ "B", "beta", false, SIGNATURE_OK, "beta" },
		{ "a", "beta", false, SIGNATURE_NOT_NAMED, NULL },
		{ "a", "beta", true, SIGNATURE_NOT_NAMED, NULL },
		{ "a", "gone", false, SIGNATURE_UNKNOWN_NAME, NULL },
		{ "a", "gone", true, SIGNATURE_OK, "alpha" },
		{ "x", "gone", true, SIGNATURE_NO_MATCH, NULL },
		{ "a", "", false, SIGNATURE_UNKNOWN_NAME, NULL },
	};
	struct secrets s = open_secrets();

	(void)state;
	add(&s, "alpha", "a");
	add(&s, "beta", "b");
	add(&s, "beta", "B"); /* a name may occur twice */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char hex[HMAC_HEX + 1], signature[HMAC_HEX + 1], *name;
		struct signature_input in = input_of(hex);

		sign(cases[i].signed_with, hex);
		in.secret = cases[i].secret;
		in.secret_optional = cases[i].optional;
		if (signature_verify(&s, &in, signature, &name) !=
		    cases[i].verdict)
			fail_msg("case %zu", i);
		assert_int_equal(name != NULL, cases[i].name != NULL);
		if (name) {
			assert_string_equal(name, cases[i].name);
			assert_string_equal(signature, hex);
		}
		free(name);
	}
	close_secrets(&s);
}

/* Digits in capitals match, and are kept in lowercase. */
static void test_capitals(void **state)
{
	struct secrets s = open_secrets();
	char hex[HMAC_HEX + 1], capitals[HMAC_HEX + 1];
	char signature[HMAC_HEX + 1], *name;
	struct signature_input in;

	(void)state;
	add(&s, "main", "key");
	sign("key", hex);
	for (size_t i = 0; i < sizeof(hex); i++)
		capitals[i] = (char)toupper((unsigned char)hex[i]);
	in = input_of(capitals);
	assert_int_equal(signature_verify(&s, &in, signature, &name),
			 SIGNATURE_OK);
	assert_string_equal(signature, hex);
	free(name);
	close_secrets(&s);
}

/* Any changed bit of the body is found. */
static void test_changed_body(void **state)
{
	struct secrets s = open_secrets();
	char hex[HMAC_HEX + 1], copy[sizeof(body)];

	(void)state;
	add(&s, "main", "key");
	sign("key", hex);
	for (size_t bit = 0; bit < (size_t)LENGTH * 8; bit++) {
		char signature[HMAC_HEX + 1], *name;
		struct signature_input in = input_of(hex);

		memcpy(copy, body, sizeof(copy));
		copy[bit / 8] ^= (char)(1 << bit % 8);
		in.body = copy;
		assert_int_equal(signature_verify(&s, &in, signature, &name),
				 SIGNATURE_NO_MATCH);
	}
	close_secrets(&s);
}

/* With thousands of secrets, the last one matches and an early end is told. */
static void test_many_secrets(void **state)
{
	enum { MANY = 1000 };
	struct secrets s = open_secrets();
	char hex[HMAC_HEX + 1], signature[HMAC_HEX + 1], *name;
	struct signature_input in = input_of(hex);
	uint64_t all;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		char text[16];

		snprintf(text, sizeof(text), "n%03d", i);
		add(&s, text, text);
	}
	sign("n999", hex);
	assert_int_equal(signature_verify(&s, &in, signature, &name),
			 SIGNATURE_OK);
	assert_string_equal(name, "n999");
	free(name);
	all = signature_cost(&s, &in);
	assert_true(all >= (uint64_t)MANY * LENGTH);

	/* A named secret costs one hash, whether there is one or not. */
	in.secret = "n500";
	assert_int_equal(signature_cost(&s, &in), all / MANY);
	in.secret = "gone";
	assert_int_equal(signature_cost(&s, &in), all / MANY);
	in.secret_optional = true;
	assert_int_equal(signature_cost(&s, &in), all);

	in.secret = NULL;
	in.deadline = 1; /* long over */
	assert_int_equal(signature_verify(&s, &in, signature, &name),
			 SIGNATURE_TIMEOUT);
	assert_null(name);
	close_secrets(&s);
}

/* Without any secret nothing matches. */
static void test_no_secret(void **state)
{
	struct secrets s = open_secrets();
	char hex[HMAC_HEX + 1], signature[HMAC_HEX + 1], *name;
	struct signature_input in = input_of(hex);

	(void)state;
	sign("", hex);
	assert_int_equal(signature_verify(&s, &in, signature, &name),
			 SIGNATURE_NO_MATCH);
	in.secret = "main";
	assert_int_equal(signature_verify(&s, &in, signature, &name),
			 SIGNATURE_UNKNOWN_NAME);
	close_secrets(&s);
}

/* Each verdict has a text of its own. */
static void test_texts(void **state)
{
	(void)state;
	for (int i = SIGNATURE_OK; i <= SIGNATURE_TIMEOUT; i++) {
		for (int k = SIGNATURE_OK; k < i; k++)
			assert_string_not_equal(signature_verdict_text(i),
						signature_verdict_text(k));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_capitals),
		cmocka_unit_test(test_changed_body),
		cmocka_unit_test(test_many_secrets),
		cmocka_unit_test(test_no_secret),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
