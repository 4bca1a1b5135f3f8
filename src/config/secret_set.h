/* One state of the active secrets, in order of their names. */
#ifndef SECRET_SET_H
#define SECRET_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/hmac.h"
#include "base/macros.h"

struct secret {
	char *name; /* "default", or the file's name */
	unsigned char *key;
	size_t length; /* at least 1 */
	struct hmac_key *hmac; /* of key */
};

/* A set that threads share never changes; a new one replaces it. */
struct secret_set {
	struct secret *list; /* by name; names may occur twice */
	size_t count;
	unsigned refcount; /* guarded by the lock in struct secrets */
};

/* Returns an empty set with one reference. */
struct secret_set *secret_set_new(void) MUST_CHECK;
/* Overwrites the keys, then frees all. */
void secret_set_free(struct secret_set *set);

/* Adds a copy. Fast if names come in their order. */
void secret_set_add(struct secret_set *set, const char *name, const void *key,
		    size_t length);

/*
 * Returns the first secret of a name, of *count that follow each other; NULL if
 * there is none. Takes O(log n).
 */
const struct secret *secret_set_find(const struct secret_set *set,
				     const char *name,
				     size_t *count) MUST_CHECK;

/* The longest name of a secret in a path. */
enum { SECRET_PATH_NAME_MAX = 64 };

/*
 * Returns true if the path of a request can name a secret so: at most
 * SECRET_PATH_NAME_MAX letters, digits, '.', '_' and '-', no '.' first, and not
 * "health".
 */
bool secret_name_fits_path(const char *name, size_t length) MUST_CHECK;

/* Returns true if both have the same names and keys; false otherwise. */
bool secret_set_equal(const struct secret_set *a,
		      const struct secret_set *b) MUST_CHECK;

#endif
