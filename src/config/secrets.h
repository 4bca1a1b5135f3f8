/*
 * The active secrets: SECRET, SECRET_FILE and the files of SECRET_DIR, each
 * with a name. A file that comes, changes or goes takes effect within 1 s.
 */
#ifndef SECRETS_H
#define SECRETS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"
#include "config/secret_set.h"
#include "config/settings.h"

struct secrets;

/*
 * Reads all secrets. Returns NULL if one is invalid or there is none, with a
 * line for each fault in errors. s must outlive the result.
 * A file that becomes invalid later is left out and logged once. If all files
 * are removed later, the set is empty and matches no signature.
 */
struct secrets *secrets_open(const struct settings *s,
			     struct buf *errors) MUST_CHECK;
/*
 * As secrets_open(), but leaves invalid files out, with an error in the log,
 * because a fault of one secret must not refuse the events of all others.
 * Returns NULL if no secret is left, or if SECRET_DIR itself is at fault.
 */
struct secrets *secrets_open_to_serve(const struct settings *s,
				      struct buf *errors) MUST_CHECK;
void secrets_close(struct secrets *s);

/* Returns true if secrets_acquire() would look at the files, or wait for that. */
bool secrets_check_is_due(struct secrets *s) MUST_CHECK;
/*
 * Returns the current set, never NULL. The caller gives it back by
 * secrets_release(). Any thread may call both.
 */
const struct secret_set *secrets_acquire(struct secrets *s) MUST_CHECK;
void secrets_release(struct secrets *s, const struct secret_set *set);

#endif
