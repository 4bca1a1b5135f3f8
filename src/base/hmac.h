/*
 * HMAC-SHA256 (RFC 2104, FIPS 180-4), hexadecimal and base64 text. hmac.c is
 * the only file that includes OpenSSL.
 */
#ifndef HMAC_H
#define HMAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"

enum { HMAC_BYTES = 32, HMAC_HEX = 64 };

/*
 * The states of SHA-256 after the first block of the inner and of the outer
 * hash, which depend on the key alone. With them a body is hashed with as few
 * blocks as there can be.
 */
struct hmac_key {
	uint32_t inner[8], outer[8];
};

void hmac_key_init(struct hmac_key *key, const void *bytes, size_t length);
void hmac_by_key(const struct hmac_key *key, const void *data, size_t length,
		 unsigned char digest[HMAC_BYTES]);

void hmac_sha256(const void *key, size_t key_length, const void *data,
		 size_t length, unsigned char digest[HMAC_BYTES]);
bool hmac_equal(const unsigned char a[HMAC_BYTES],
		const unsigned char b[HMAC_BYTES]) MUST_CHECK;

/* Writes 64 lowercase hexadecimal digits and a NUL. */
void hmac_to_hex(const unsigned char digest[HMAC_BYTES],
		 char hex[HMAC_HEX + 1]);
/*
 * Reads a digest. Returns true if hex is exactly 64 hexadecimal digits of
 * either case; false otherwise, with an undefined digest.
 */
bool hmac_from_hex(const char *hex,
		   unsigned char digest[HMAC_BYTES]) MUST_CHECK;

/*
 * Appends the bytes that base64 text (RFC 4648, section 4, padded) encodes.
 * Returns true if it did; false if text has another form.
 */
bool base64_decode(const char *text, struct buf *out) MUST_CHECK;

#endif
