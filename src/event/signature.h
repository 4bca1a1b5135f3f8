/*
 * The signature check: X-Signature against the raw body and every live
 * secret. Never sees the database.
 */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include "base/hmac.h"
#include "config/secrets.h"
#include "responder/request.h"

enum verdict {
	VERIFY_OK,
	VERIFY_MISSING, /* no X-Signature */
	VERIFY_REPEATED, /* given twice, or with a comma */
	VERIFY_NOT_HEX, /* not 64 hex digits */
	VERIFY_NO_MATCH /* matches no live secret */
};

/*
 * The secret that made this digest of the body, or NULL. All are tried, so
 * that the time tells nothing of which.
 */
const struct secret *
verify_match(const struct secret *list, size_t count, const void *body,
	     size_t length, const unsigned char given[HMAC_BYTES]) MUST_CHECK;

/*
 * On VERIFY_OK signature holds the lowercase digits and *name the name of
 * the secret that matched, to be freed by the caller; otherwise *name is
 * NULL.
 */
enum verdict verify_request(struct secrets *secrets, const struct request *r,
			    char signature[HMAC_HEX + 1],
			    char **name) MUST_CHECK;

/* For the log. */
const char *verdict_text(enum verdict v);

#endif
