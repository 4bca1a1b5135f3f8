/* HMAC-SHA256 against RFC 4231, digests that differ in one bit, hex, base64. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/hmac.h"
#include "base/macros.h"

struct vector {
	const char *name;
	const char *key;
	size_t key_length;
	const char *data;
	const char *hex;
	size_t compared; /* bytes; 4.6 is truncated */
};

#define AA16 "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
#define DD10 "\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd\xdd"
#define CD10 "\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd"
#define AA131 AA16 AA16 AA16 AA16 AA16 AA16 AA16 AA16 "\xaa\xaa\xaa"

/* RFC 4231, 4.2 to 4.8 */
static const struct vector vectors[] = {
	{ "4.2",
	  "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"
	  "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b",
	  20, "Hi There",
	  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
	  32 },
	{ "4.3", "Jefe", 4, "what do ya want for nothing?",
	  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
	  32 },
	{ "4.4", AA16 "\xaa\xaa\xaa\xaa", 20, DD10 DD10 DD10 DD10 DD10,
	  "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
	  32 },
	{ "4.5",
	  "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
	  "\x11\x12\x13\x14\x15\x16\x17\x18\x19",
	  25, CD10 CD10 CD10 CD10 CD10,
	  "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
	  32 },
	{ "4.6",
	  "\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c"
	  "\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c",
	  20, "Test With Truncation",
	  "a3b6167473100ee06e0c796c2955552b00000000000000000000000000000000",
	  16 },
	{ "4.7", AA131, 131,
	  "Test Using Larger Than Block-Size Key - Hash Key First",
	  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
	  32 },
	{ "4.8", AA131, 131,
	  "This is a test using a larger than block-size key and a larger "
	  "than block-size data. The key needs to be hashed before being "
	  "used by the HMAC algorithm.",
	  "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
	  32 },
};

static void test_rfc_4231(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct vector *v = &vectors[i];
		unsigned char expected[HMAC_BYTES], got[HMAC_BYTES];
		struct hmac_key key;

		print_message("RFC 4231, %s\n", v->name);
		assert_true(hmac_from_hex(v->hex, expected));
		hmac_sha256(v->key, v->key_length, v->data, strlen(v->data),
			    got);
		assert_memory_equal(got, expected, v->compared);
		/* A prepared key can be used again. */
		hmac_key_init(&key, v->key, v->key_length);
		for (int again = 0; again < 2; again++) {
			hmac_by_key(&key, v->data, strlen(v->data), got);
			assert_memory_equal(got, expected, v->compared);
		}
	}
}

/* Every length across two blocks, of key and data, against OpenSSL's own. */
static void test_lengths(void **state)
{
	unsigned char bytes[200], expected[HMAC_BYTES], got[HMAC_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 37);
	for (size_t key = 0; key <= 130; key++) {
		for (size_t data = 0; data <= sizeof(bytes); data++) {
			unsigned size = 0;

			assert_non_null(HMAC(EVP_sha256(), bytes, (int)key,
					     bytes, data, expected, &size));
			assert_int_equal(size, HMAC_BYTES);
			hmac_sha256(bytes, key, bytes, data, got);
			assert_memory_equal(got, expected, HMAC_BYTES);
		}
	}
}

/* One bit of the key, the data or the digest, each in turn. */
static void test_one_bit_off(void **state)
{
	char key[] = "whsec_0123456789abcdef";
	char data[] = "{\"task_id\":\"task_abc123\"}";
	unsigned char right[HMAC_BYTES], got[HMAC_BYTES];

	(void)state;
	hmac_sha256(key, strlen(key), data, strlen(data), right);
	for (size_t bit = 0; bit < 8 * strlen("whsec_0123456789abcdef");
	     bit++) {
		key[bit / 8] ^= (char)(1 << bit % 8);
		hmac_sha256(key, sizeof(key) - 1, data, strlen(data), got);
		assert_false(hmac_equal(got, right));
		key[bit / 8] ^= (char)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * (sizeof(data) - 1); bit++) {
		data[bit / 8] ^= (char)(1 << bit % 8);
		hmac_sha256(key, strlen(key), data, sizeof(data) - 1, got);
		assert_false(hmac_equal(got, right));
		data[bit / 8] ^= (char)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * HMAC_BYTES; bit++) {
		memcpy(got, right, sizeof(got));
		got[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_false(hmac_equal(got, right));
	}
	hmac_sha256(key, strlen(key), data, strlen(data), got);
	assert_true(hmac_equal(got, right));
}

static void test_hex(void **state)
{
	static const char lower[] = "00010203040506070809"
				    "0a0b0c0d0e0f10111213"
				    "1415161718191a1b1c1dabff";
	static const char *const refused[] = {
		"",
		"0",
		"00010203040506070809"
		"0a0b0c0d0e0f10111213"
		"1415161718191a1b1c1dabf", /* 63 */
		"00010203040506070809"
		"0a0b0c0d0e0f10111213"
		"1415161718191a1b1c1dabff0", /* 65 */
		"00010203040506070809"
		"0a0b0c0d0e0f10111213"
		"1415161718191a1b1c1dabfg",
		" 0010203040506070809"
		"0a0b0c0d0e0f10111213"
		"1415161718191a1b1c1dabff",
		"0x010203040506070809"
		"0a0b0c0d0e0f10111213"
		"1415161718191a1b1c1dabff",
		"\xc3\xa9"
		"010203040506070809"
		"0a0b0c0d0e0f10111213"
		"1415161718191a1b1c1dabff",
	};
	unsigned char digest[HMAC_BYTES], again[HMAC_BYTES];
	char hex[HMAC_HEX + 1], upper[HMAC_HEX + 1];

	(void)state;
	assert_true(hmac_from_hex(lower, digest));
	hmac_to_hex(digest, hex);
	assert_string_equal(hex, lower);
	for (size_t i = 0; i <= HMAC_HEX; i++)
		upper[i] = lower[i] >= 'a' ? (char)(lower[i] - 32) : lower[i];
	assert_true(hmac_from_hex(upper, again));
	assert_memory_equal(again, digest, HMAC_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		print_message("refused: %s\n", refused[i]);
		assert_false(hmac_from_hex(refused[i], digest));
	}
}

static void test_base64(void **state)
{
	/* RFC 4648, section 10, and bytes of all kinds. */
	static const struct {
		const char *text, *bytes;
		size_t length;
	} cases[] = {
		{ "", "", 0 },
		{ "Zg==", "f", 1 },
		{ "Zm8=", "fo", 2 },
		{ "Zm9v", "foo", 3 },
		{ "Zm9vYg==", "foob", 4 },
		{ "Zm9vYmE=", "fooba", 5 },
		{ "Zm9vYmFy", "foobar", 6 },
		{ "AAAA", "\0\0\0", 3 },
		{ "+/+/", "\xfb\xff\xbf", 3 },
		{ "/w==", "\xff", 1 },
	};
	static const char *const refused[] = {
		"Z",	"Zg",	      "Zg=",   "Zg===",	       "=",
		"====", "Z===",	      "Zm9v=", "Zm9v====",     "Zg==Zg==",
		"Z=g=", " Zm9v",      "Zm9v ", "Zm9v\n",       "Zm 9vaa",
		"-_-_", "Zm9v\nZm9v", "Zg=\n", "\tZm9v\t\t\t",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf b = { 0 };

		buf_printf(&b, "-");
		if (!base64_decode(cases[i].text, &b))
			fail_msg("%s was refused", cases[i].text);
		assert_int_equal(b.length, 1 + cases[i].length);
		assert_memory_equal(b.data + 1, cases[i].bytes,
				    cases[i].length);
		buf_free(&b);
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct buf b = { 0 };

		if (base64_decode(refused[i], &b))
			fail_msg("'%s' was decoded", refused[i]);
		assert_int_equal(b.length, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_4231),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_one_bit_off),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
