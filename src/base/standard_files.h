/*
 * The descriptors 0, 1 and 2, which a web server may leave closed: FastCGI
 * promises only the first one.
 */
#ifndef STANDARD_FILES_H
#define STANDARD_FILES_H

#include <stdbool.h>

#include "base/macros.h"

/*
 * Opens those of the descriptors 0 to 2 that are closed, so that no other file
 * gets their numbers. Reads and writes fail with EBADF, as before. Call it
 * before anything else is opened. Returns false with errno set.
 */
bool standard_files_reserve(void) MUST_CHECK;

#endif
