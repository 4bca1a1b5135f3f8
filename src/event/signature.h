/*
 * The signature check: the value of X-Signature against the raw body and
 * every active secret. Knows neither the request nor the database.
 */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hmac.h"
#include "base/macros.h"
#include "config/secrets.h"

enum signature_verdict {
	SIGNATURE_OK,
	SIGNATURE_MISSING, /* no X-Signature */
	SIGNATURE_REPEATED, /* given twice, or with a comma */
	SIGNATURE_NOT_HEX, /* not 64 hex digits */
	SIGNATURE_NO_MATCH, /* matches no active secret */
	SIGNATURE_NOT_NAMED, /* matches not the secret that was named */
	SIGNATURE_UNKNOWN_NAME, /* there is no secret of that name */
	SIGNATURE_TIMEOUT /* not all secrets were tried before the deadline */
};

/*
 * Returns the secret whose HMAC of the body is given, or NULL. Tries all
 * secrets, because the time would otherwise tell which one matched.
 */
const struct secret *
signature_find_secret(const struct secret *list, size_t count, const void *body,
		      size_t length,
		      const unsigned char given[HMAC_BYTES]) MUST_CHECK;

/* A body and its signature, as they came. */
struct signature_input {
	const char *value; /* of X-Signature */
	size_t count; /* how often the header was sent */
	const void *body;
	size_t length;
	const char *secret; /* tries only the secret of this name; or NULL */
	bool secret_optional; /* tries all if there is none of that name */
	int64_t deadline; /* ends the trying (ms, monotonic); 0: none */
};

/* Returns about how many bytes signature_verify() has to hash. */
uint64_t signature_cost(struct secrets *secrets,
			const struct signature_input *input) MUST_CHECK;

/*
 * Checks the signature against the active secrets. On SIGNATURE_OK signature
 * holds the lowercase digits and *name the name of the secret that matched,
 * which the caller frees; otherwise *name is NULL. An unknown name takes the
 * time of a known one.
 */
enum signature_verdict signature_verify(struct secrets *secrets,
					const struct signature_input *input,
					char signature[HMAC_HEX + 1],
					char **name) MUST_CHECK;

/* Returns the verdict in words, for the log. */
const char *signature_verdict_text(enum signature_verdict v);

#endif
