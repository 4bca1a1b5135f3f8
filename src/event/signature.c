#include "event/signature.h"

#include <string.h>

const struct secret *verify_match(const struct secret *list, size_t count,
				  const void *body, size_t length,
				  const unsigned char given[HMAC_BYTES])
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

enum verdict verify_request(struct secrets *secrets, const struct request *r,
			    char signature[HMAC_HEX + 1], char **name)
{
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	const struct secret *found;

	*name = NULL;
	if (r->signatures == 0)
		return VERIFY_MISSING;
	if (r->signatures > 1 || strchr(r->x_signature, ','))
		return VERIFY_REPEATED;
	if (!hmac_from_hex(r->x_signature, given))
		return VERIFY_NOT_HEX;
	set = secrets_acquire(secrets);
	found = verify_match(set->list, set->count, r->body, r->length, given);
	if (found)
		*name = xstrdup(found->name);
	secrets_release(secrets, set);
	if (!found)
		return VERIFY_NO_MATCH;
	hmac_to_hex(given, signature);
	return VERIFY_OK;
}

const char *verdict_text(enum verdict v)
{
	switch (v) {
	case VERIFY_OK:
		return "signature matches";
	case VERIFY_MISSING:
		return "no X-Signature";
	case VERIFY_REPEATED:
		return "X-Signature given twice";
	case VERIFY_NOT_HEX:
		return "X-Signature is not 64 hex digits";
	case VERIFY_NO_MATCH:
		return "X-Signature matches no live secret";
	}
	return "unknown";
}
