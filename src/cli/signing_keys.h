/*
 * The secrets that a verb signs with.
 */
#ifndef SIGNING_KEYS_H
#define SIGNING_KEYS_H

#include "base/macros.h"
#include "cli/cli.h"
#include "config/secrets.h"

#include <stddef.h>

/* The secrets to use. Both NULL: all of the settings. */
struct secret_choice {
	const char *file;
	const char *name;
};
/* The usage of --secret-file and --secret-name. */
#define SECRET_USAGE "[--secret-file FILE | --secret-name NAME]"

struct signing_keys {
	struct settings settings;
	struct secrets *secrets;
	const struct secret_set *set;
	/* The chosen secrets, a part of the set. */
	const struct secret *list;
	size_t count;
};

/*
 * Loads and chooses the secrets. Returns EX_OK, or the exit code of an error
 * that was reported.
 */
int signing_keys_open(struct signing_keys *k, const struct verb *v,
		      const struct secret_choice *choice) MUST_CHECK;
/* Loads and chooses, too, but there must be exactly one secret: list[0]. */
int signing_keys_open_one(struct signing_keys *k, const struct verb *v,
			  const struct secret_choice *choice) MUST_CHECK;
/* Frees the secrets, also after one of the functions above failed. */
void signing_keys_close(struct signing_keys *k);

#endif
