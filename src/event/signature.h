/*
 * The signature check: X-Signature against the raw body and every live
 * secret. Never sees the database.
 */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include <stddef.h>

#include "base/hmac.h"
#include "base/macros.h"
#include "config/secrets.h"
#include "responder/request.h"

enum signature_verdict {
	SIGNATURE_OK,
	SIGNATURE_MISSING, /* no X-Signature */
	SIGNATURE_REPEATED, /* given twice, or with a comma */
	SIGNATURE_NOT_HEX, /* not 64 hex digits */
	SIGNATURE_NO_MATCH /* matches no live secret */
};

/*
 * The secret that made this digest of the body, or NULL. All are tried, so
 * that the time tells nothing of which.
 */
const struct secret *
signature_find_secret(const struct secret *list, size_t count, const void *body,
		      size_t length,
		      const unsigned char given[HMAC_BYTES]) MUST_CHECK;

/*
 * On SIGNATURE_OK signature holds the lowercase digits and *name the name of
 * the secret that matched, to be freed by the caller; otherwise *name is
 * NULL.
 */
enum signature_verdict signature_verify(struct secrets *secrets,
					const struct request *r,
					char signature[HMAC_HEX + 1],
					char **name) MUST_CHECK;

/* For the log. */
const char *signature_verdict_text(enum signature_verdict v);

#endif
