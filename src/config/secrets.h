/*
 * The live secrets: SECRET, SECRET_FILE and the files of SECRET_DIR, each
 * with a name. A new, changed or removed file counts within 1 s: whoever
 * asks for the set makes it look again, at most every 250 ms.
 */
#ifndef SECRETS_H
#define SECRETS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"
#include "config/settings.h"

struct secret {
	char *name; /* "default", or the file's name */
	unsigned char *key;
	size_t length; /* at least 1 */
};

/* A set is never changed, only replaced; it counts its holders. */
struct secret_set {
	struct secret *list;
	size_t count;
	unsigned refcount; /* private */
};

struct secrets;

/*
 * Reads them all. NULL: every fault is in errors; no secret at all is one.
 * s must outlive what is returned.
 * Later faults (a file that others can read appears in SECRET_DIR) are
 * logged once and leave out that file alone; a SECRET_DIR emptied on
 * purpose leaves an empty set, which matches nothing.
 */
struct secrets *secrets_open(const struct settings *s,
			     struct buf *errors) MUST_CHECK;
void secrets_close(struct secrets *s);

/* The set of now, to be given back by secrets_release(). Never NULL. */
const struct secret_set *secrets_acquire(struct secrets *s) MUST_CHECK;
void secrets_release(struct secrets *s, const struct secret_set *set);

#endif
