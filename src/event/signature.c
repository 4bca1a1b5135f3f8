#include "event/signature.h"

#include <string.h>

#include "base/alloc.h"

const struct secret *
signature_find_secret(const struct secret *list, size_t count, const void *body,
		      size_t length, const unsigned char given[HMAC_BYTES])
{
	const struct secret *found = NULL;

	for (size_t i = 0; i < count; i++) {
		unsigned char digest[HMAC_BYTES];

		hmac_sha256(list[i].key, list[i].length, body, length, digest);
		if (hmac_equal(digest, given) && !found)
			found = &list[i];
	}
	return found;
}

enum signature_verdict signature_verify(struct secrets *secrets,
					const char *value, size_t count,
					const void *body, size_t length,
					char signature[HMAC_HEX + 1],
					char **name)
{
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	const struct secret *found;

	*name = NULL;
	if (count == 0)
		return SIGNATURE_MISSING;
	if (count > 1 || strchr(value, ','))
		return SIGNATURE_REPEATED;
	if (!hmac_from_hex(value, given))
		return SIGNATURE_NOT_HEX;
	set = secrets_acquire(secrets);
	found = signature_find_secret(set->list, set->count, body, length,
				      given);
	if (found)
		*name = xstrdup(found->name);
	secrets_release(secrets, set);
	if (!found)
		return SIGNATURE_NO_MATCH;
	hmac_to_hex(given, signature);
	return SIGNATURE_OK;
}

const char *signature_verdict_text(enum signature_verdict v)
{
	switch (v) {
	case SIGNATURE_OK:
		return "signature matches";
	case SIGNATURE_MISSING:
		return "no X-Signature";
	case SIGNATURE_REPEATED:
		return "X-Signature given twice";
	case SIGNATURE_NOT_HEX:
		return "X-Signature is not 64 hex digits";
	case SIGNATURE_NO_MATCH:
		return "X-Signature matches no live secret";
	}
	return "unknown";
}
