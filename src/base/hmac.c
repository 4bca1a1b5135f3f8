/*
 * Owns OpenSSL, which no other file includes: HMAC-SHA256, its comparison in
 * constant time, and decoding of hexadecimal and base64 text. Must not know
 * secrets or requests: callers give bytes. All functions are safe from any
 * thread.
 */
/* SHA256_CTX, because EVP and HMAC_CTX do not give out the state of a key. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "base/hmac.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fatal.h"

enum { BLOCK = SHA256_CBLOCK };

/* Ends the process if a SHA256_...() did not return 1: libcrypto is broken. */
static void must(int ok)
{
	if (!ok)
		fatal("SHA-256 failed");
}

/* Sets the state of SHA-256 after the block key XOR pad. */
static void start_state(uint32_t state[8], const unsigned char key[BLOCK],
			unsigned char pad)
{
	unsigned char block[BLOCK];
	SHA256_CTX c;

	for (size_t i = 0; i < BLOCK; i++)
		block[i] = key[i] ^ pad;
	must(SHA256_Init(&c));
	must(SHA256_Update(&c, block, BLOCK));
	memcpy(state, c.h, sizeof(c.h));
	explicit_bzero(block, sizeof(block));
	explicit_bzero(&c, sizeof(c));
}

/* Hashes data from a state of start_state(). */
static void finish_state(const uint32_t state[8], const void *data,
			 size_t length, unsigned char digest[HMAC_BYTES])
{
	SHA256_CTX c;

	must(SHA256_Init(&c));
	memcpy(c.h, state, sizeof(c.h));
	c.Nl = 8 * BLOCK; /* bits so far */
	must(SHA256_Update(&c, data, length));
	must(SHA256_Final(digest, &c));
	explicit_bzero(&c, sizeof(c));
}

void hmac_key_init(struct hmac_key *key, const void *bytes, size_t length)
{
	unsigned char block[BLOCK] = { 0 };

	if (length > BLOCK)
		must(SHA256(bytes, length, block) != NULL);
	else if (length)
		memcpy(block, bytes, length);
	start_state(key->inner, block, 0x36);
	start_state(key->outer, block, 0x5c);
	explicit_bzero(block, sizeof(block));
}

void hmac_by_key(const struct hmac_key *key, const void *data, size_t length,
		 unsigned char digest[HMAC_BYTES])
{
	finish_state(key->inner, data, length, digest);
	finish_state(key->outer, digest, HMAC_BYTES, digest);
}

void hmac_sha256(const void *key, size_t key_length, const void *data,
		 size_t length, unsigned char digest[HMAC_BYTES])
{
	struct hmac_key prepared;

	hmac_key_init(&prepared, key, key_length);
	hmac_by_key(&prepared, data, length, digest);
	explicit_bzero(&prepared, sizeof(prepared));
}

bool hmac_equal(const unsigned char a[HMAC_BYTES],
		const unsigned char b[HMAC_BYTES])
{
	return CRYPTO_memcmp(a, b, HMAC_BYTES) == 0;
}

void hmac_to_hex(const unsigned char digest[HMAC_BYTES], char hex[HMAC_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < HMAC_BYTES; i++) {
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[HMAC_HEX] = '\0';
}

/*
 * Returns the value of a hexadecimal digit; -1 if c is none. By a table,
 * because the processor can't predict branches on random digits.
 */
static int hex_value(char c)
{
	static const signed char values_plus_1[UCHAR_MAX + 1] = {
		['0'] = 1,  ['1'] = 2,	['2'] = 3,  ['3'] = 4,	['4'] = 5,
		['5'] = 6,  ['6'] = 7,	['7'] = 8,  ['8'] = 9,	['9'] = 10,
		['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15,
		['f'] = 16, ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14,
		['E'] = 15, ['F'] = 16,
	};

	return values_plus_1[(unsigned char)c] - 1;
}

bool hmac_from_hex(const char *hex, unsigned char digest[HMAC_BYTES])
{
	for (size_t i = 0; i < HMAC_BYTES; i++) {
		int high = hex_value(hex[2 * i]);
		int low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);

		if (low < 0)
			return false;
		digest[i] = (unsigned char)(high << 4 | low);
	}
	return hex[HMAC_HEX] == '\0';
}

bool base64_decode(const char *text, struct buf *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t length = strlen(text), used = strspn(text, digits);
	size_t padding = strspn(text + used, "=");
	unsigned char *bytes;
	int decoded;

	/* EVP_DecodeBlock() alone accepts spaces around the digits. */
	if (length % 4 || padding > 2 || used + padding != length ||
	    length > INT32_MAX)
		return false;
	bytes = xmalloc(length / 4 * 3);
	decoded = EVP_DecodeBlock(bytes, (const unsigned char *)text,
				  (int)length);
	if (decoded >= 0)
		/*
		 * EVP_DecodeBlock() counts a zero byte for each padding
		 * character.
		 */
		buf_add(out, bytes, (size_t)decoded - padding);
	free(bytes);
	return decoded >= 0;
}
