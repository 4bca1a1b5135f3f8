/*
 * The only file that includes OpenSSL: HMAC-SHA256, its comparison in constant
 * time, and decoding of hexadecimal and base64 text. Knows no secret and no
 * request: callers give bytes.
 */
#include "base/hmac.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fatal.h"

void hmac_sha256(const void *key, size_t key_length, const void *data,
		 size_t length, unsigned char digest[HMAC_BYTES])
{
	unsigned size = 0;

	/* HMAC() fails only without memory or with a broken OpenSSL. */
	if (key_length > INT32_MAX ||
	    !HMAC(EVP_sha256(), key, (int)key_length, data, length, digest,
		  &size) ||
	    size != HMAC_BYTES)
		fatal("HMAC-SHA256 failed");
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

bool hmac_from_hex(const char *hex, unsigned char digest[HMAC_BYTES])
{
	/* OPENSSL_hexstr2buf_ex() alone accepts fewer digits. */
	if (strlen(hex) != HMAC_HEX ||
	    strspn(hex, "0123456789abcdefABCDEF") != HMAC_HEX)
		return false;
	return OPENSSL_hexstr2buf_ex(digest, HMAC_BYTES, NULL, hex, '\0') == 1;
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
