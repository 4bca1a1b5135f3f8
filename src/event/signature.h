/*
 * The signature check: the value of X-Signature against the raw body and
 * every live secret. Knows neither the request nor the database.
 */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include <stddef.h>

#include "base/hmac.h"
#include "base/macros.h"
#include "config/secrets.h"

enum signature_verdict {
	SIGNATURE_OK,
	SIGNATURE_MISSING, /* no X-Signature */
	SIGNATURE_REPEATED, /* given twice, or with a comma */
	SIGNATURE_NOT_HEX, /* not 64 hex digits */
	SIGNATURE_NO_MATCH /* matches no live secret */
};

/*
 * Returns the secret whose HMAC of the body is given, or NULL. Tries all
 * secrets, because the time would otherwise tell which one matched.
 */
const struct secret *
signature_find_secret(const struct secret *list, size_t count, const void *body,
		      size_t length,
		      const unsigned char given[HMAC_BYTES]) MUST_CHECK;

/*
 * Checks one value of X-Signature against the body and all live secrets;
 * count says how often the header was sent. On SIGNATURE_OK signature holds
 * the lowercase digits and *name the name of the secret that matched, which
 * the caller frees; otherwise *name is NULL.
 */
enum signature_verdict signature_verify(struct secrets *secrets,
					const char *value, size_t count,
					const void *body, size_t length,
					char signature[HMAC_HEX + 1],
					char **name) MUST_CHECK;

/* Returns the verdict in words, for the log. */
const char *signature_verdict_text(enum signature_verdict v);

#endif
