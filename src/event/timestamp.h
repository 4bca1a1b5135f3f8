/* Times as a sender writes them. */
#ifndef TIMESTAMP_H
#define TIMESTAMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * Reads an RFC 3339 date-time (5.6) of the years 0001 to 9999. Returns true
 * and sets *us (since 1970, UTC; negative before it); false if text is none.
 * Digits beyond the microsecond are cut off, and a leap second counts as the
 * first second of the next minute.
 */
bool timestamp_parse(const char *text, int64_t *us) MUST_CHECK;

#endif
