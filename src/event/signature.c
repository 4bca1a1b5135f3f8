/*
 * Owns the signature check. Knows neither HTTP nor the database.
 *
 * signature_verify() reads the header's value, and tries the secrets: one that
 * was named, or all of them in slices, so that a flood of requests can't take
 * the processor beyond the deadline. It is safe from any thread, because the
 * set of secrets is held by a reference count.
 */
#include "event/signature.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

enum {
	SLICE = 16, /* secrets, between two looks at the clock */
	HMAC_OVERHEAD = 128 /* two blocks, whatever the body */
};

const struct secret *
signature_find_secret(const struct secret *list, size_t count, const void *body,
		      size_t length, const unsigned char given[HMAC_BYTES])
{
	const struct secret *found = NULL;

	for (size_t i = 0; i < count; i++) {
		unsigned char digest[HMAC_BYTES];

		hmac_by_key(list[i].hmac, body, length, digest);
		if (hmac_equal(digest, given) && !found)
			found = &list[i];
	}
	return found;
}

/*
 * Tries the secrets of the claimed name, or one that never matches, to take the
 * same time.
 */
static enum signature_verdict try_named(const struct secret *named,
					size_t count,
					const struct signature_input *input,
					const unsigned char given[HMAC_BYTES],
					const struct secret **found)
{
	struct hmac_key zeros = { { 0 }, { 0 } };
	const struct secret nobody = { .hmac = &zeros };

	*found = signature_find_secret(named ? named : &nobody,
				       named ? count : 1, input->body,
				       input->length, given);
	if (!named)
		*found = NULL;
	return !named	? SIGNATURE_UNKNOWN_NAME
	       : *found ? SIGNATURE_OK
			: SIGNATURE_NOT_NAMED;
}

static enum signature_verdict try_secrets(const struct secret_set *set,
					  const struct signature_input *input,
					  const unsigned char given[HMAC_BYTES],
					  const struct secret **found)
{
	size_t same = 0;
	const struct secret *named =
		input->secret ? secret_set_find(set, input->secret, &same)
			      : NULL;

	*found = NULL;
	if (input->secret && (named || !input->secret_optional))
		return try_named(named, same, input, given, found);
	for (size_t i = 0; i < set->count; i += SLICE) {
		size_t count = set->count - i < SLICE ? set->count - i : SLICE;

		if (input->deadline && monotonic_ms() >= input->deadline)
			return SIGNATURE_TIMEOUT;
		*found = signature_find_secret(set->list + i, count,
					       input->body, input->length,
					       given);
		if (*found)
			return SIGNATURE_OK;
	}
	return SIGNATURE_NO_MATCH;
}

/* Reads the header's value. Returns SIGNATURE_OK if it has the right form. */
static enum signature_verdict read_digest(const struct signature_input *input,
					  unsigned char given[HMAC_BYTES])
{
	if (input->count == 0)
		return SIGNATURE_MISSING;
	if (input->count > 1 || strchr(input->value, ','))
		return SIGNATURE_REPEATED;
	return hmac_from_hex(input->value, given) ? SIGNATURE_OK
						  : SIGNATURE_NOT_HEX;
}

uint64_t signature_cost(struct secrets *secrets,
			const struct signature_input *input)
{
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	uint64_t count;
	size_t same = 0;

	if (read_digest(input, given) != SIGNATURE_OK)
		return 0;
	set = secrets_acquire(secrets);
	count = set->count;
	if (input->secret && (secret_set_find(set, input->secret, &same) ||
			      !input->secret_optional))
		count = same ? same : 1;
	secrets_release(secrets, set);
	return count * (input->length + HMAC_OVERHEAD);
}

enum signature_verdict signature_verify(struct secrets *secrets,
					const struct signature_input *input,
					char signature[HMAC_HEX + 1],
					char **name)
{
	enum signature_verdict verdict;
	unsigned char given[HMAC_BYTES];
	const struct secret_set *set;
	const struct secret *found;

	*name = NULL;
	verdict = read_digest(input, given);
	if (verdict != SIGNATURE_OK)
		return verdict;
	set = secrets_acquire(secrets);
	verdict = try_secrets(set, input, given, &found);
	if (found)
		*name = xstrdup(found->name);
	secrets_release(secrets, set);
	if (verdict == SIGNATURE_OK)
		hmac_to_hex(given, signature);
	return verdict;
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
		return "X-Signature matches no active secret";
	case SIGNATURE_NOT_NAMED:
		return "X-Signature does not match the secret that the path "
		       "names";
	case SIGNATURE_UNKNOWN_NAME:
		return "the path names no active secret";
	case SIGNATURE_TIMEOUT:
		return "too many secrets to try in time";
	}
	return "unknown";
}
