/*
 * The last database round trip, kept in a file of the spool: plain CGI
 * lives for one request, and would else have to ask the database each time
 * that a balancer asks for /health.
 */
#ifndef BREAKER_FILE_H
#define BREAKER_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * How old the file in this directory is, in ms, and what it says. False:
 * there is none, or it can't be read.
 */
bool breaker_file_load(const char *spool, int64_t *age, bool *ok) MUST_CHECK;
/* Makes the directory (0700) if need be; what fails is left undone. */
void breaker_file_save(const char *spool, bool ok);

#endif
