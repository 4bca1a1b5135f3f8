/* Times as a sender writes them. */
#ifndef TIMESTAMP_H
#define TIMESTAMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * Reads a date-time of the years 0001 to 9999 that names its zone: RFC 3339
 * (5.6), and what libraries write in its place. A space or t may stand for the
 * T, a comma for the decimal point, +HHMM and +HH for +HH:MM; UTC and GMT for
 * Z. A space may precede the zone. A zone's name may follow the offset, as in
 * "+0100 CET" and "+01:00[Europe/Paris]". The seconds may be left out. 24:00 is
 * the next day's 00:00. Returns true and sets *us (since 1970, UTC; negative
 * before it); false if text is none. Digits beyond the microsecond are cut off,
 * not rounded, so that a time never falls into the next second. A leap second
 * counts as the first second of the next minute.
 */
bool timestamp_parse(const char *text, int64_t *us) MUST_CHECK;

#endif
