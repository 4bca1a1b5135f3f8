/*
 * HMAC-SHA256 (RFC 2104, FIPS 180-4), lowercase hex, and a comparison that
 * takes the same time wherever the two differ. The only file with OpenSSL.
 */
#ifndef HMAC_H
#define HMAC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"

enum { HMAC_BYTES = 32, HMAC_HEX = 64 };

void hmac_sha256(const void *key, size_t key_length, const void *data,
		 size_t length, unsigned char digest[HMAC_BYTES]);
bool hmac_equal(const unsigned char a[HMAC_BYTES],
		const unsigned char b[HMAC_BYTES]) MUST_CHECK;

/* 64 lowercase digits and a NUL. */
void hmac_to_hex(const unsigned char digest[HMAC_BYTES],
		 char hex[HMAC_HEX + 1]);
/* Exactly 64 digits of either case; anything else is false. */
bool hmac_from_hex(const char *hex,
		   unsigned char digest[HMAC_BYTES]) MUST_CHECK;

/*
 * Appends the bytes that text stands for (RFC 4648, section 4, padded).
 * Returns true if it did; false if text is not of that form.
 */
bool base64_decode(const char *text, struct buf *out) MUST_CHECK;

#endif
