#include "base/hmac.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

void hmac_sha256(const void *key, size_t key_length, const void *data,
		 size_t length, unsigned char digest[HMAC_BYTES])
{
	unsigned size = 0;

	/* Fails only without memory or with a broken OpenSSL. */
	if (key_length > INT32_MAX ||
	    !HMAC(EVP_sha256(), key, (int)key_length, data, length, digest,
		  &size) ||
	    size != HMAC_BYTES)
		abort();
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

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool hmac_from_hex(const char *hex, unsigned char digest[HMAC_BYTES])
{
	if (strlen(hex) != HMAC_HEX)
		return false;
	for (size_t i = 0; i < HMAC_BYTES; i++) {
		int high = hex_value(hex[2 * i]);
		int low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		digest[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}
