/* New secrets, and the addresses that name a secret. */
#ifndef NEW_SECRET_H
#define NEW_SECRET_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>

/*
 * Appends a new secret: whsec_ and 32 random bytes in hexadecimal. Returns
 * true; false with errno set. The caller wipes the text.
 */
bool secret_draw(struct buf *text) MUST_CHECK;

/*
 * Returns the URL that names a secret: URL/NAME, before a query; the URL itself
 * if it ends so, or if a path can't carry the name. The caller frees it.
 */
char *secret_url(const char *url, const char *name) MUST_CHECK;

/*
 * Returns a guess at the receiver's URL: this host's name, and the usual path.
 * home: that of shared hosting. The caller frees it.
 */
char *secret_guess_url(bool home) MUST_CHECK;

#endif
